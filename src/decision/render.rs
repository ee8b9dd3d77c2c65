//! Decisions as text, for people.

use super::{Candidate, Class, Decision, Extra, Hedged, Next, Reason, Refusal, RegionPhase, RegionView, Unhedged, Usd};
use crate::time::Instant;
use std::fmt;
use std::time::Duration;

impl fmt::Display for Decision {
    /// One line for the choice, one for each attempt so far on an axis of time, one for each candidate in order of preference.
    /// `{:#}` prints the first line only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary(f)?;
        if f.alternate() {
            return Ok(());
        }
        self.waterfall(f)?;
        match self.hedged() {
            Hedged::NotAsked => {}
            Hedged::Withheld { why } => write!(f, "\n  no hedge: {why}")?,
            Hedged::Due { at } => write!(f, "\n  hedged if nothing begins within {}", Span(at - self.time()))?,
            Hedged::Sent { at } => write!(f, "\n  hedged after {}", Span(at - self.time()))?,
        }
        #[cfg(feature = "registry")]
        if let Some(provenance) = self.provenance()
            && self.facts().requested_model().is_some()
        {
            write!(f, "\n  {provenance}")?;
        }
        for drawn in self.splits() {
            let (name, bucket, share) = (drawn.split().name(), drawn.bucket(), f64::from(drawn.share()) / 100.0);
            write!(f, "\n  split {name}: bucket {bucket} of 10000 falls to {} ({share} %)", drawn.arm())?;
        }
        for tier in self.tiers() {
            if tier.panic {
                write!(f, "\n  panic: too few of {} look healthy", self.tier_name(tier).unwrap_or("all models"))?;
            }
            if tier.passed > 0 {
                write!(f, "\n  {} of {} were looked at and passed over", tier.passed, tier.total)?;
            }
        }
        for region in self.regions() {
            write!(f, "\n  {}", region.describe(self.time()))?;
        }
        let ranked = self.ranked();
        for (place, candidate) in (1..).zip(&ranked) {
            write!(f, "\n  {place}. {}", candidate.describe(self.time()))?;
        }
        for candidate in self.candidates().filter(|candidate| candidate.rejected().is_some()) {
            write!(f, "\n   - {}", candidate.describe(self.time()))?;
        }
        Ok(())
    }
}

impl Decision {
    /// When the last word was said: a request may have waited since it was planned.
    pub(crate) fn spoken_at(&self) -> Instant {
        let record = self.record();
        if record.verdict.is_some() { record.verdict_at } else { record.now }
    }

    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = self.facts().requested_model().unwrap_or("any model");
        match self.next() {
            Next::Call { at } => {
                let name = self.chosen().map_or("nobody", |candidate| candidate.name());
                write!(f, "{model} -> {name}")?;
                if at > self.time() {
                    write!(f, " after a back-off of {}", Span(at - self.time()))?;
                }
            }
            Next::Wait { until } => write!(f, "{model} waits, {} at most", Span(until - self.time()))?,
            Next::LastResort { why } => write!(f, "{model} -> last resort: {}", self.why(why))?,
            Next::Refuse { why } => write!(f, "{model} refused: {}", self.why(why))?,
        }
        write!(f, " ({} left, ", Span(self.deadline() - self.spoken_at()))?;
        match self.next() {
            Next::Call { .. } => {
                let paid = if self.extra() == Extra::Granted { ", paid by the retry budget" } else { "" };
                match self.beside() {
                    None => write!(f, "attempt {}{paid}", self.record().planned_after + 1)?,
                    Some(beside) => {
                        let (first, name) = (beside.attempt(), beside.profile().id());
                        write!(f, "attempt {}, a hedge beside attempt {first} at {name}{paid}", first + 1)?;
                    }
                }
            }
            _ => match self.attempts().len() {
                1 => write!(f, "after 1 attempt")?,
                attempts => write!(f, "after {attempts} attempts")?,
            },
        }
        write!(f, ", generation {}, seed {:016x})", self.generation(), self.seed())
    }

    /// The refusal in words, with the counts of what stood in the way.
    pub(crate) fn why(&self, refusal: Refusal) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| {
            match refusal {
                Refusal::NothingUsable => {
                    let total: usize = self.tiers().iter().map(|tier| tier.total).sum();
                    write!(f, "0 of {total} usable")?;
                }
                Refusal::UnknownModel => {
                    return write!(f, "no backend serves {}", self.facts().requested_model().unwrap_or("this request"));
                }
                Refusal::NotServed { state } => {
                    let version = self.facts().requested_model().unwrap_or("its version");
                    return write!(f, "{version} is {state} and not served");
                }
                Refusal::RegistryExpired => {
                    return write!(f, "the registry has not been confirmed within its hard limit");
                }
                Refusal::AttemptsExhausted { attempts } => write!(f, "all {attempts} attempts failed")?,
                Refusal::RetryBudgetEmpty => write!(f, "the shared retry budget is empty")?,
                Refusal::NotRetryable { kind } => write!(f, "{kind} is not retried")?,
                Refusal::ZeroDeadline => return write!(f, "a deadline of zero leaves no time"),
                Refusal::DeadlineExceeded => write!(f, "the deadline passed")?,
                Refusal::OverRate { limit, until } => {
                    return write!(f, "over rate limit {limit:?}, there is room in {}", Span(until - self.spoken_at()));
                }
                Refusal::OverSpend { limit, until } => {
                    write!(f, "over spend limit {limit:?}, ")?;
                    match until {
                        Some(until) => write!(f, "there is enough money in {}", Span(until - self.spoken_at()))?,
                        None => write!(f, "which never allows so much at once")?,
                    }
                }
                Refusal::QueueFull => write!(f, "too many requests wait already")?,
                Refusal::Shed => write!(f, "its place in the queue was needed for another")?,
                Refusal::TooLate { ahead, start } => {
                    let (start, time) = (Span(start - self.spoken_at()), Span(self.deadline() - self.spoken_at()));
                    write!(f, "it would start in {start}, behind {ahead} of its tenant, and has {time}")?;
                }
                Refusal::WouldBeCutShort { left, needed } => {
                    write!(
                        f,
                        "it has {} left, and with less than {} calls of its tenant were cut short",
                        Nanos(left),
                        Nanos(needed)
                    )?;
                }
                Refusal::Infeasible { half, left } => {
                    write!(f, "half of the answers take longer than {}, and {} are left", Nanos(half), Nanos(left))?;
                }
                Refusal::WaitedTooLong { waited } => {
                    write!(f, "it waited for {}, the longest wait", Span(Duration::from_nanos(waited)))?;
                }
            }
            let mut separator = ": ";
            for (label, count) in self.rejections() {
                write!(f, "{separator}{count} {label}")?;
                separator = ", ";
            }
            if matches!(refusal, Refusal::NothingUsable)
                && let Some(at) = self.earliest_return()
            {
                write!(f, "; the next returns in {}", Span(at - self.spoken_at()))?;
            }
            if let Some((most, tokens)) = self.too_large() {
                write!(f, "; it needs {tokens} tokens at once, and {most} are the most that there ever are")?;
            }
            Ok(())
        })
    }

    /// Where it is too large for everybody: the most that anybody takes, and what it needs.
    fn too_large(&self) -> Option<(u64, u64)> {
        let sizes = self.candidates().map(|candidate| match candidate.rejected()? {
            Reason::QuotaTooSmall { tokens, limit } | Reason::TokenBoundTooSmall { tokens, limit } => {
                Some((limit, tokens))
            }
            _ => None,
        });
        sizes.collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

impl fmt::Display for Unhedged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())?;
        match self {
            Self::TooManyTokens { tokens, most } => write!(f, " ({tokens}, {most} at most)"),
            Self::WarmingUp { samples } => write!(f, " ({samples} answers)"),
            _ => Ok(()),
        }
    }
}

impl RegionView<'_> {
    fn describe(&self, now: Instant) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| {
            write!(f, "region {}", self.name().unwrap_or("(none)"))?;
            if let Some(model) = self.model() {
                write!(f, " for {model}")?;
            }
            if self.rank().is_none() {
                return write!(f, ": outside the residency set");
            }
            if self.row.capacity == 0 {
                return write!(f, ": no backend that may serve");
            }
            write!(f, ": {} healthy, gets {}", Percent(self.health().into()), Percent(self.granted().into()))?;
            if self.wish() != self.granted() {
                write!(f, " of the traffic where {} fall to it", Percent(self.wish().into()))?;
            }
            match (self.in_flight(), self.room()) {
                (Some(in_flight), Some(room)) => write!(f, ", {in_flight} of {room} in flight")?,
                (Some(in_flight), None) => write!(f, ", {in_flight} in flight")?,
                (None, _) => {}
            }
            match self.phase() {
                RegionPhase::Up => {}
                RegionPhase::Down { since } => write!(f, ", down for {}", Span(now - since))?,
                RegionPhase::Held { until } => write!(f, ", held for {} more", Span(until - now))?,
                RegionPhase::Ramping { .. } => write!(f, ", ramping up ({})", Percent(self.ramp(now).into()))?,
            }
            match self.flaps() {
                0 => {}
                1 => write!(f, ", 1 flap")?,
                flaps => write!(f, ", {flaps} flaps")?,
            }
            if self.failed_here() {
                write!(f, ", failed for this request")?;
            }
            match self.last_called() {
                Some(called) => write!(f, ", called {} ago", Span(now - called)),
                None if self.in_flight().is_some() => write!(f, ", never called"),
                None => Ok(()),
            }
        })
    }
}

/// Thousandths as people write them.
struct Percent(u32);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 10 {
            0 => write!(f, "{} %", self.0 / 10),
            _ => write!(f, "{:.1} %", f64::from(self.0) / 10.0),
        }
    }
}

impl Candidate<'_> {
    fn describe(&self, now: Instant) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| {
            f.write_str(self.name())?;
            if let Some(latency) = self.latency() {
                match latency.samples {
                    0 => write!(f, ", latency unknown")?,
                    _ => write!(
                        f,
                        ", first token in {} + {} per 1k tokens",
                        Span(Duration::from_nanos(latency.base)),
                        Span(Duration::from_nanos(latency.per_token.saturating_mul(1000) >> 10)),
                    )?,
                }
            }
            if let Some(load) = self.load() {
                write!(f, ", {} in flight", load.in_flight)?;
                if let Some(limit) = load.learned_limit {
                    write!(f, " of {limit} as was learned")?;
                }
                match (load.waiting_tokens, load.others_tokens) {
                    (0, 0) => {}
                    (own, 0) => write!(f, " ({own} prompt tokens waiting)")?,
                    (own, others) => write!(f, " ({own} prompt tokens waiting, about {others} of others)")?,
                }
            }
            if let Some(cached) = self.cached_tokens().filter(|cached| *cached > 0) {
                let prompt = self.record.facts().input_tokens();
                write!(f, ", {} of {} prompt tokens probably cached", Count(cached), Count(prompt))?;
            }
            if let Some(supposed) = self.supposed_tokens().filter(|supposed| *supposed > 0) {
                write!(f, ", {} prompt tokens supposed to be sent there by others", Count(supposed))?;
            }
            if let Some(cost) = self.cost() {
                write!(f, ", cost {cost}")?;
            }
            if let Some(reason) = self.rejected() {
                write!(f, ", rejected: {}", self.explain(reason, now))?;
            }
            if let Some(note) = self.note() {
                write!(f, ", {}", self.explain(note, now))?;
            }
            Ok(())
        })
    }

    /// The reason in words: what was measured and what it was compared with.
    pub fn explain(&self, reason: Reason, now: Instant) -> impl fmt::Display + '_ {
        let profile = self.profile();
        fmt::from_fn(move |f| {
            f.write_str(reason.label())?;
            match reason {
                Reason::OutsideResidency => {
                    let region = profile.region_name().unwrap_or("no region");
                    match self.record.facts().allowed_regions() {
                        Some(allowed) if !allowed.iter().any(|allowed| allowed == region) => {
                            write!(f, " ({region} is not in [{}])", allowed.join(", "))
                        }
                        _ => write!(f, " ({region} is not in the set of the policy)"),
                    }
                }
                Reason::Reserved { full, ceiling, until } => {
                    let says = if until.is_some() { ", as it says" } else { "" };
                    write!(f, " ({} full{says}, {} for this priority)", Percent(full), Percent(ceiling))
                }
                Reason::Throttled { share } => write!(f, " ({} of the requests to it are held back)", Percent(share)),
                Reason::Busy { full, headroom } => {
                    write!(f, " ({} full, headroom from {})", Percent(full), Percent(headroom))
                }
                Reason::RegionFull { in_flight, room: most }
                | Reason::TenantFull { in_flight, most }
                | Reason::RouteFull { in_flight, most } => {
                    write!(f, " ({in_flight} of {most} in flight)")
                }
                Reason::OutsideShard { size } => write!(f, " (of {size})"),
                Reason::MissingCapabilities { missing } => write!(f, " ({missing})"),
                Reason::ContextTooLong { tokens } => {
                    let window = profile.context_window.unwrap_or(self.terms().context_window);
                    write!(f, " ({tokens} tokens, window {window})")
                }
                Reason::QuotaTooSmall { tokens, limit } | Reason::TokenBoundTooSmall { tokens, limit } => {
                    write!(f, " ({tokens} tokens, {limit} at once)")
                }
                Reason::QuotaKept { until } => write!(f, " (which has enough in {})", Span(until - self.record.now)),
                Reason::PrefillFull { asked, free } | Reason::TokensFull { asked, free } => {
                    write!(f, " ({asked} tokens, {free} free)")
                }
                Reason::OverPriceCap { spent, cost } => {
                    let cap = Usd(self.record.facts().max_cost.unwrap_or(0));
                    match spent {
                        0 => write!(f, " ({} over {cap})", Usd(cost)),
                        _ => write!(f, " ({} after {} over {cap})", Usd(cost), Usd(spent)),
                    }
                }
                Reason::OverSpendLimit { limit, cost, .. } => write!(f, " ({limit:?}, {})", Usd(cost)),
                Reason::SpendLimitTooSmall { limit, cost, most } => {
                    write!(f, " ({limit:?}, {} over {})", Usd(cost), Usd(most))
                }
                Reason::AtCapacity { in_flight, limit } => {
                    let learned = if profile.concurrency == Some(limit) { "" } else { ", as was learned" };
                    write!(f, " ({in_flight} of {limit} in flight{learned})")
                }
                Reason::Ejected { failures, .. } | Reason::CoolingDown { failures, .. } => {
                    write!(f, " ({failures} failures in a row)")
                }
                Reason::FailsOften { failures, samples, .. } => write!(f, " ({failures} of {samples})"),
                Reason::SlowerThanPeers { usual, median, .. } => {
                    let [usual, median] = [usual, median].map(|nanos| Span(Duration::from_nanos(nanos)));
                    write!(f, " (first token in {usual}, median {median})")
                }
                Reason::FailsMoreThanPeers { rate, mean, .. } => {
                    write!(f, " ({rate} of 1000 succeed, mean {mean})")
                }
                Reason::DomainOut { failing, members, .. } => {
                    write!(f, " ({}, {failing} of {members} failed)", profile.domain().unwrap_or("no domain"))
                }
                Reason::Unhealthy { signal, score, at } => {
                    write!(f, " ({} says {score} of 1000, {} ago)", self.signal(signal), Span(now - at))
                }
                Reason::Unproven { signal, at } | Reason::PartlyUnproven { signal, at } => match at {
                    Some(at) => write!(f, " ({} said nothing for {})", self.signal(signal), Span(now - at)),
                    None => write!(f, " ({} never said anything)", self.signal(signal)),
                },
                Reason::FailedHere { attempt, kind } => write!(f, " ({kind} in attempt {attempt})"),
                Reason::SameDomain { attempt } | Reason::AskedAlready { attempt } | Reason::DomainAsked { attempt } => {
                    write!(f, " (attempt {attempt})")
                }
                Reason::TooSlow { predicted } => {
                    write!(f, " (first token in {})", Span(Duration::from_nanos(predicted)))
                }
                Reason::MissesDeadline { late, half, left } => {
                    write!(f, " (95 % within {}, half within {}, {} left)", Nanos(late), Nanos(half), Nanos(left))
                }
                Reason::Brownout { late, left } => {
                    write!(f, " (the model before takes {}, {} left)", Nanos(late), Nanos(left))
                }
                Reason::MayBeLate { late, left } => write!(f, " (95 % within {}, {} left)", Nanos(late), Nanos(left)),
                Reason::WouldRepeat { kind } => write!(f, " ({kind})"),
                Reason::RampingUp { share } => write!(f, " (share {:.1} %)", f64::from(share) / 10.0),
                Reason::RetriedHere { at } => write!(f, " (in {})", Span(at - now)),
                Reason::OverBound { in_flight } => write!(f, " ({in_flight} in flight)"),
                _ => Ok(()),
            }?;
            match reason.returns_at() {
                Some(at) if reason.class() != Class::Note && at > now => write!(f, ", returns in {}", Span(at - now)),
                Some(_) if reason.class() != Class::Note => f.write_str(", due"),
                _ => Ok(()),
            }
        })
    }

    fn signal(&self, index: u32) -> &str {
        self.record.roster.signals.get(index as usize).copied().unwrap_or("a signal")
    }
}

/// A number with its thousands apart: 1,536.
pub(super) struct Count(pub(super) u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.0.checked_ilog10().unwrap_or(0) / 3;
        write!(f, "{}", self.0 / 1000u64.pow(groups))?;
        (0..groups).rev().try_for_each(|group| write!(f, ",{:03}", self.0 / 1000u64.pow(group) % 1000))
    }
}

/// Nanoseconds in the unit that people would choose.
struct Nanos(u64);

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Span(Duration::from_nanos(self.0)).fmt(f)
    }
}

/// A duration in the unit that people would choose.
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        match seconds {
            s if s >= 1.0 => write!(f, "{s:.2} s"),
            s if s >= 1e-3 => write!(f, "{:.1} ms", s * 1e3),
            s => write!(f, "{:.1} µs", s * 1e6),
        }
    }
}
