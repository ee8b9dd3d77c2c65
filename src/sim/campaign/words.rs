//! A plan in one line.

use super::money::Money;
use super::plan::{Plan, Safe, StackPlan, Tenants};
use super::regions::Preference;
use crate::recover::Ejection;
use crate::sim::audit::Allowance;
use crate::sim::fault::{Effect, Target};
use crate::sim::{Fault, Server};
use std::fmt;

impl fmt::Display for Plan {
    /// In one line, short enough to read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StackPlan { leaf, safe, budget, ejection, queue, hedge, budgeted } = &self.stack;
        write!(f, "{} routers of {leaf:?}, queue {queue}", self.routers)?;
        if let Some(Safe { attempts, panic_threshold, attempt_limit, fallback }) = safe {
            write!(f, ", fail safe ({attempts} attempts, panic {panic_threshold}")?;
            attempt_limit.iter().try_for_each(|limit| write!(f, ", limit {limit:?}"))?;
            write!(f, "{})", if *fallback { ", fallback" } else { "" })?;
        }
        budget.iter().try_for_each(|(ratio, reserve)| write!(f, ", budget {ratio} + {reserve}/s"))?;
        if let Some((share, after)) = hedge {
            write!(f, ", {share:.3} hedged")?;
            after.iter().try_for_each(|after| write!(f, " after {after:?}"))?;
        }
        if let Some(whole) = budgeted {
            write!(f, ", budgeted{}", if *whole { " for whole answers" } else { "" })?;
        }
        if ejection.off {
            write!(f, ", no ejection")?;
        } else if *ejection != Ejection::default() {
            write!(f, ", after {} failures out for {:?}", ejection.consecutive, ejection.eject.base)?;
            write!(f, ", rate {:?}, latency {:?}", ejection.failure_rate, ejection.latency)?;
        }
        write!(f, "; load {:.2} for {:?}, then {:.2}/s", self.load, self.storm, self.calm_rate())?;
        write!(f, ", cv {}, {} lengths, deadline {:?}", self.variation, self.lengths.len(), self.deadline)?;
        self.attempt_limit.iter().try_for_each(|limit| write!(f, ", attempt limit {limit:?}"))?;
        self.impatient.iter().try_for_each(|(share, after)| write!(f, ", {share:.2} leave after {after:?}"))?;
        if self.resuming {
            write!(f, ", they ask for the rest")?;
        }
        if self.replay_safe < 1.0 {
            write!(f, ", {:.2} replay safe", self.replay_safe)?;
        }
        if let Some(preference) = &self.preference {
            let Preference { order, homes, alike, switch, headroom, hold, ramp, exercise } = preference;
            write!(f, ", prefers {}", order.join(if *alike { " | " } else { " > " }))?;
            write!(
                f,
                "{}{}",
                if *homes { " (each its own)" } else { "" },
                if *switch { ", all or nothing" } else { "" }
            )?;
            write!(f, ", headroom {headroom:?}, hold {hold:?}, ramp {ramp:?}, exercise {exercise}")?;
        }
        if let Some((share, regions)) = &self.residency {
            write!(f, ", {share:.2} only in {}", regions.join(" or "))?;
        }
        self.reserve.iter().try_for_each(|share| write!(f, ", reserve for the {share:.2} that are critical"))?;
        if let Some(Tenants { count, least, lent, most }) = self.tenants {
            write!(f, ", {count} tenants of {least} ({lent} lent) to {most}")?;
        }
        if let Some(Money { cap, allowance }) = self.money {
            cap.iter().try_for_each(|cap| write!(f, ", {cap} for each request"))?;
            let rate = |it: &Allowance| write!(f, ", {} and {}/s for each tenant", it.most, it.per_second);
            allowance.iter().try_for_each(rate)?;
        }
        self.probes.iter().try_for_each(|every| write!(f, ", probes every {every:?}"))?;
        write!(f, "; servers")?;
        for server in &self.servers {
            write!(f, " {}/{} x{:.2}", server.id, server.region, server.speed)?;
            if server.model != Server::MODEL {
                write!(f, " {}", server.model)?;
            }
            server.limit.iter().try_for_each(|limit| write!(f, " limit {limit}"))?;
            let (prefill, total) = server.token_bounds;
            prefill.iter().try_for_each(|bound| write!(f, " {bound} of prompts"))?;
            total.iter().try_for_each(|bound| write!(f, " {bound} tokens"))?;
            let known = if server.quota_is_known { " known" } else { "" };
            let told = if server.quota_is_told { " told" } else { "" };
            server.requests_per_minute.iter().try_for_each(|rpm| write!(f, " {rpm} rpm{known}{told}"))?;
            server.tokens_per_minute.iter().try_for_each(|tpm| write!(f, " {tpm} tpm{known}{told}"))?;
            if !server.joins.is_zero() {
                write!(f, " joins at {:?}", server.joins)?;
            }
        }
        write!(f, "; faults")?;
        self.faults.iter().try_for_each(|fault| write!(f, " {}", Line(fault)))
    }
}

/// A fault as [`at`](super::super::at) would make it.
struct Line<'a>(&'a Fault);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { start, lasting, flapping, target, effect } = self.0;
        write!(f, "at({start:?})")?;
        lasting.iter().try_for_each(|time| write!(f, ".lasting({time:?})"))?;
        flapping.iter().try_for_each(|(on, off)| write!(f, ".flapping({on:?}, {off:?})"))?;
        match target {
            Target::Everywhere => {}
            Target::Server(id) => write!(f, ".server({id:?})")?,
            Target::Region(name) => write!(f, ".region({name:?})")?,
        }
        match effect {
            Effect::Down => write!(f, ".down()"),
            Effect::Hang => write!(f, ".hangs()"),
            Effect::Speed(share) => write!(f, ".speed({share:.4})"),
            Effect::Errors { kind, share, after } => write!(f, ".fails({kind}, {share:.2}, {after:?})"),
            Effect::Straggle { share, times } => write!(f, ".straggles({share:.2}, {times:.1})"),
            Effect::Latency(more) => write!(f, ".latency({more:?})"),
            Effect::Cut { tokens } => write!(f, ".cuts_streams({tokens})"),
            Effect::Throttled { retry_after } => write!(f, ".throttled({retry_after:?})"),
            Effect::ProbesSilent => write!(f, ".silent_probes()"),
            Effect::ProbesLie => write!(f, ".lying_probes()"),
            Effect::ReportsSilent => write!(f, ".silent_reports()"),
            Effect::ClockJump { nanos } => write!(f, ".clock_jumps({:.3} s)", *nanos as f64 / 1e9),
        }
    }
}
