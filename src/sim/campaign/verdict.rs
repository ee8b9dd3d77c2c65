//! Plays a plan and judges what came of it.

use super::super::audit::{Audit, Finding};
use super::super::run::{Ended, Run};
use super::super::{Server, World};
use super::plan::{CALM, Plan};
use super::regions::Pool;
use crate::decision::Reason;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What came of a plan.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) requests: usize,
    pub(super) harmed: u64,
    pub(super) finding: Option<Finding>,
}

/// The end of the calm, in seconds: where all must be well.
const LAST: f64 = 30.0;
/// Time enough, in longest requests, to stand in a queue that a burst made.
const AMPLE: f64 = 8.0;
/// The share that must succeed there.
const WELL: f64 = 0.99;

impl Plan {
    /// Plays it, and once more with futures where it says so.
    pub(super) fn play(&self) -> Outcome {
        let panicked = |_| Outcome {
            requests: 0,
            harmed: 0,
            finding: Some(Finding { code: "I11", what: "the simulation panicked".into() }),
        };
        catch_unwind(AssertUnwindSafe(|| self.judge())).unwrap_or_else(panicked)
    }

    fn judge(&self) -> Outcome {
        let world = self.world();
        let audit = Audit::new(self.rules(&world));
        let run = match world.play(&|desk| self.stack(desk), Some(&audit)) {
            Ok(run) => run,
            // Not a violation of the router's: the plan itself makes no sense, and says so.
            Err(error) => {
                let finding = Finding { code: "plan", what: error.to_string() };
                return Outcome { requests: 0, harmed: 0, finding: Some(finding) };
            }
        };
        let finding = audit.findings().into_iter().next();
        let finding = finding.or_else(|| self.is_well(&run, &audit)).or_else(|| self.compare(&run));
        Outcome { requests: run.records().len(), harmed: run.harmed(), finding }
    }

    /// The other driver must decide alike, and keep the same promises.
    fn compare(&self, run: &Run) -> Option<Finding> {
        if !self.futures {
            return None;
        }
        let world = self.world();
        let audit = Audit::new(self.rules(&world));
        let other = match world.play_with_futures(&|desk| self.stack(desk), Some(&audit)) {
            Ok(other) => other,
            Err(error) => return Some(Finding { code: "plan", what: error.to_string() }),
        };
        audit.findings().into_iter().next().or_else(|| {
            if run.decisions_hash() == other.decisions_hash() {
                return None;
            }
            let mut pairs = run.records().iter().zip(other.records());
            let differ = pairs.find(|(one, two)| (one.ended, one.first) != (two.ended, two.first));
            Some(Finding { code: "I10", what: format!("the drivers decide differently, first {differ:?}") })
        })
    }

    /// After the calm: liveness.
    fn is_well(&self, run: &Run, audit: &Audit) -> Option<Finding> {
        let found = |code, what| Some(Finding { code, what });
        let end = (self.storm + CALM).as_secs_f64();
        if let Some(open) = run.records().iter().find(|record| record.ended == Ended::Open) {
            return found("L3", format!("the request of {:.3} s never ended", open.at));
        }
        let last = end - LAST;
        if self.must_succeed() && run.goodput_between(last, end) < WELL {
            let bad = run.between(last, end).find(|record| !run.is_good(record));
            return found("L2", format!("goodput {:.3} in the end, e.g. {bad:?}", run.goodput_between(last, end)));
        }
        // Callers who leave find nothing out, nor those who may not go everywhere.
        let bound = self.residency.as_ref().map_or(0.0, |(share, _)| *share);
        let rate = self.calm_rate() * (1.0 - self.impatient.map_or(0.0, |(share, _)| share)) * (1.0 - bound);
        let rate = rate / self.routers as f64;
        let world = self.world();
        self.pools(&world).iter().find_map(|pool| self.reaches(pool, rate, &world, run, audit))
    }

    /// Whether everybody gets requests among whom the calm's are divided, of whom each router gets so many a second.
    fn reaches(&self, pool: &Pool, rate: f64, world: &World, run: &Run, audit: &Audit) -> Option<Finding> {
        let found = |code, what| Some(Finding { code, what });
        let Pool { routers, servers } = pool;
        let count = servers.len() as f64;
        // In the second half of the calm, and for as long before as some policies leave a server alone: enough requests that
        // nobody is left out by chance.
        let half = CALM.as_secs_f64() / 2.0;
        let (pause, requests) = self.stack.leaf.looks_everywhere_in(count);
        let watched = CALM.min(CALM / 2 + Duration::from_secs_f64(pause));
        let sent = rate * routers.len() as f64 * (watched.as_secs_f64() - pause);
        if sent >= requests && !self.is_tight() {
            let since = audit.end() - watched;
            let last_sent = audit.last_sent();
            if let Some(server) = servers.iter().find(|server| last_sent[**server] < since) {
                let (id, sent) = (&run.servers()[*server], last_sent[*server]);
                return found("L1", format!("{id} was sent nothing after {sent:?}; now is {:?}", audit.end()));
            }
        }
        // A router that is asked often enough has probed everybody by the end.
        if rate * half >= 10.0 * count && !self.is_hurried() && !self.is_tight() {
            let kept = audit.kept_out().into_iter().find(|(router, server, reason)| {
                let limited = world.servers[*server].has_quota();
                let quota =
                    matches!(reason, Reason::RateLimited { .. } | Reason::ProbeInFlight { .. } | Reason::QuotaProbe)
                        || matches!(reason, Reason::OverQuota { .. } | Reason::QuotaKept { .. });
                // A server that is slow by nature is out whenever it is compared.
                let compared = self.stack.ejection.latency.is_some();
                // Too slow for one request is not for all, and that it is sent some is what L1 says.
                let slow = matches!(reason, Reason::MissesDeadline { .. });
                let inside = routers.contains(router) && servers.contains(server);
                inside && !(compared || slow || limited && quota)
            });
            if let Some((router, server, reason)) = kept {
                let id = &run.servers()[server];
                return found("L4", format!("router {router} still keeps {id} out in the end: {reason:?}"));
            }
        }
        None
    }

    /// Whether every request can succeed in the end. Quotas may be met by chance, and then nothing but a retry helps; and
    /// nobody learns that a server is well from callers who leave.
    fn must_succeed(&self) -> bool {
        let quotas = self.servers.iter().any(Server::has_quota);
        let safe = self.stack.safe;
        let retries =
            safe.is_some_and(|safe| safe.attempts > 1) && self.stack.budget.is_none_or(|(_, reserve)| reserve > 0);
        let patient = self.impatient.is_none_or(|(share, _)| share < 0.5);
        // Who knows that there is too little of it everywhere refuses.
        let known = self.first_tier().all(|(_, server)| server.has_quota() && server.quota_is_known);
        !known && (!quotas || retries) && !self.is_hurried() && patient && !self.is_tight()
    }

    /// Whether requests may time out on servers that are well, after a burst.
    fn is_hurried(&self) -> bool {
        let own = self.stack.safe.and_then(|safe| safe.attempt_limit);
        let limits = [Some(self.deadline), self.attempt_limit, own];
        limits.iter().flatten().any(|limit| limit.as_secs_f64() < self.longest() * AMPLE)
    }
}
