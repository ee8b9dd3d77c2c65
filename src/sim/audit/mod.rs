//! Looks over the routers' shoulders while a world is played.
//!
//! An [`Audit`] keeps books of its own, from what the servers see (calls that come, answers that leave) and from what
//! the routers tell their observers, and holds one against the other at every event: limits, deadlines, budgets, hints,
//! probes, loads, replays. It takes part in nothing: a world plays the same with and without it.

mod books;
mod money;
mod rest;
mod rooms;
mod tokens;
mod witness;

use super::job::Request;
use super::run::Ended;
use super::setting::SimRouter;
use super::source::Arrival;
use crate::backend::{Attempt, BackendError};
use crate::decision::{Decision, Next, Reason};
use crate::facts::{Facts, Need};
use crate::limit::LOOKS_AFTER;
use crate::router::CallOptions;
use crate::time::Instant;
use books::Books;
pub(super) use money::{Allowance, CallId};
use parking_lot::Mutex;
use std::sync::Arc;
pub(super) use tokens::Bounds;
pub(super) use witness::Witness;

/// The books of one run. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Audit(Arc<Mutex<Books>>);

/// What is promised to hold in a world.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) routers: usize,
    /// The known limit of each server.
    pub(super) limits: Vec<Option<u32>>,
    /// The known bounds of its tokens.
    pub(super) tokens: Vec<Bounds>,
    /// Of each server: which have its model and its region, itself among them, and how many of these comparisons may
    /// take out.
    pub(super) pools: Vec<(Vec<usize>, usize)>,
    /// The tenants, and the most calls of each that a router may have in flight, where that is limited.
    pub(super) tenants: Vec<String>,
    pub(super) share: Option<u32>,
    /// Attempts of one request, without a canary that was given up early.
    pub(super) attempts: u32,
    /// Extra attempts per request, and per second; `None` where nothing bounds them.
    pub(super) budget: Option<(f64, u32)>,
    /// The share of the requests that may be hedged, each once; `None` where none may.
    pub(super) hedge: Option<f64>,
    /// Backends rest after failures, so hints are heard.
    pub(super) rests: bool,
    /// A signal has a say. It wakes nobody when it changes its mind, and asking it is not without effect.
    pub(super) signals: bool,
    /// What of a limit requests that are not critical may use, in thousandths.
    pub(super) ceiling: u32,
    /// How full a region may be where others than critical requests go, in thousandths, where that is limited.
    pub(super) region: Option<u32>,
    /// Requests say how long their answers may be, so that what attempts may cost has a bound.
    pub(super) bounded: bool,
    /// What a request may cost, in pico-dollars, and what each tenant may spend at each router, where that is limited.
    pub(super) cap: Option<u64>,
    pub(super) allowance: Option<Allowance>,
    /// The servers where a bound request may not be served.
    pub(super) outside: Vec<bool>,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The invariant.
    pub(super) code: &'static str,
    pub(super) what: String,
}

/// How a call ended, as the servers' side sees it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Over<'a> {
    /// Completely answered.
    Done,
    /// It failed, or its answer broke.
    Failed(&'a BackendError),
    /// Its router gave it up.
    GivenUp,
}

/// By what both sides know an attempt.
pub(super) const fn call_id(attempt: &Attempt) -> CallId {
    (attempt.request_id(), attempt.number())
}

/// One in so many decisions is replayed at once.
const REPLAYED: u64 = 4;

impl Audit {
    pub(super) fn new(rules: Rules) -> Self {
        Self(Arc::new(Mutex::new(Books::new(rules))))
    }

    /// Watches a router.
    pub(super) fn witness(&self, router: usize) -> Witness {
        Witness { audit: self.clone(), router }
    }

    /// A request comes, which says so much of itself.
    pub(super) fn came(&self, arrival: &Arrival, facts: &Facts, now: Instant) {
        self.0.lock().came(arrival, Need::of(facts), now + arrival.deadline, now);
    }

    /// A call is sent to a server.
    pub(super) fn sent(&self, router: usize, server: usize, request: &Request, attempt: &Attempt) {
        let mut books = self.0.lock();
        books.sent(router, server, request, call_id(attempt), attempt.started);
        books.open_account(call_id(attempt), router, request.number);
    }

    /// A server has said its last word on an attempt: it costs so much.
    pub(super) fn billed(&self, call: CallId, pico: u64) {
        self.0.lock().billed(call, pico);
    }

    /// The first token of a request reaches its router, by this attempt.
    pub(super) fn began(&self, request: u64, attempt: &Attempt) {
        self.0.lock().began(request, attempt.number());
    }

    /// The call of an attempt ends; says nothing where it has ended before.
    pub(super) fn over(&self, request: u64, attempt: &Attempt, over: Over<'_>, now: Instant) {
        self.0.lock().over(request, attempt.number(), over, now);
    }

    /// A request ends.
    pub(super) fn ended(&self, request: u64, ended: Ended, now: Instant) {
        self.0.lock().ended(request, ended, now);
    }

    /// A caller is given tokens of its answer: so many, from this one on.
    pub(super) fn delivered(&self, request: u64, from: u32, count: u32) {
        self.0.lock().delivered(request, from, count);
    }

    /// A caller is given something after the error that ended its answer.
    pub(super) fn after_the_error(&self, request: u64) {
        self.find("I16", || format!("something follows the error of request {request}"));
    }

    /// The routers' clock jumps.
    pub(super) fn jumped(&self, nanos: i64) {
        self.0.lock().jumped(nanos);
    }

    /// A router decided, and the host can ask it again.
    pub(super) fn decided(&self, router: &SimRouter, decision: &Decision) {
        let due = {
            let mut books = self.0.lock();
            books.decisions += 1;
            books.decisions.is_multiple_of(REPLAYED)
        };
        if due {
            self.replay(router, decision);
        }
    }

    pub(super) fn replay(&self, router: &SimRouter, decision: &Decision) {
        let again = router.replay(decision);
        if !again.same_choice(decision) {
            self.find("I10", || format!("a decision replays to another: first {decision:?}, again {again:?}"));
        }
    }

    /// A router is about to call what it chose: again where the request failed only if the decision says why.
    pub(super) fn chosen(&self, router: usize, decision: &Decision) {
        let Some(chosen) = decision.chosen() else { return };
        self.0.lock().hold_region(router, chosen.id().slot(), decision);
        let again = matches!(chosen.note(), Some(Reason::RetriedHere { .. } | Reason::Probe | Reason::QuotaProbe));
        // Who was outrun there has not failed.
        let failed_here =
            |id| decision.attempts().iter().any(|attempt| attempt.backend() == id && attempt.failure().is_some());
        if failed_here(chosen.id()) && !again {
            self.find("I4", || format!("a retry goes to {} again and does not say why", chosen.name()));
        }
    }

    /// An answer broke after its first token; the trip was asked what is next.
    pub(super) fn broken(&self, call_follows: bool) {
        if call_follows {
            self.find("I5", || "an answer that broke after its first token is asked for again".into());
        }
    }

    /// A request decides again and again at one moment.
    pub(super) fn never_rests(&self, request: u64) {
        self.find("L3", || format!("request {request} decides again and again, without end"));
    }

    /// A request waits, as far as its host knows.
    pub(super) fn waits(&self, router: &SimRouter, number: usize, called: bool, decision: &Decision, now: Instant) {
        if called {
            self.find("L3", || "a request that waits was called and nobody woke it".into());
        }
        // What speaks against a server for who failed elsewhere may hide behind its being full.
        if !matches!(decision.next(), Next::Wait { .. }) || !decision.attempts().is_empty() {
            return;
        }
        // Where there are regions, with room for some and not for others, who waits looks by itself.
        let (has_regions, record) = (decision.regions().next().is_some(), decision.record());
        if has_regions && now < record.now + (record.now - record.arrival).max(LOOKS_AFTER) {
            return;
        }
        for candidate in decision.candidates() {
            let server = candidate.id().slot();
            let Some(Reason::AtCapacity { .. } | Reason::PrefillFull { .. } | Reason::TokensFull { .. }) =
                candidate.rejected()
            else {
                continue;
            };
            let need = Need::of(decision.facts());
            let Some(taken) = self.0.lock().has_room(number, server, need) else { continue };
            // What has the time for it is another question for one that has waited than for a newcomer.
            let left = decision.deadline() - now;
            let explained = router.explain(&CallOptions::within(left).facts(decision.facts().clone()));
            let Some(now) = explained.candidates().find(|it| it.id() == candidate.id()) else { continue };
            let is_free = match now.rejected() {
                // A trial is for whoever asks, and promised to nobody.
                None => now.note() != Some(Reason::Trial),
                // Kept for nobody, where nothing is held for one that is about to call.
                Some(Reason::PrefillFull { .. } | Reason::TokensFull { .. }) => {
                    taken == 0 && router.in_flight(now.name()) == Some(0)
                }
                _ => false,
            };
            if is_free {
                let what = format!("a request of router {number} waits for server {server}, {taken} calls are there");
                self.find("L3", || what);
            }
        }
    }

    /// Every request has ended, or never will.
    pub(super) fn is_over(&self, routers: &[SimRouter], facts: &Facts) {
        for (number, router) in routers.iter().enumerate() {
            let decision = router.explain(&CallOptions::new(facts.clone()));
            let in_flight = router.total_in_flight();
            let mut books = self.0.lock();
            let shares = books.rules.tenants.iter().filter_map(|tenant| router.tenant_in_flight(tenant)).sum();
            books.gave_back(number, shares);
            let names: Vec<_> = books.rules.tenants.iter().map(|name| Some(name.clone())).collect();
            let names = if names.is_empty() { vec![None] } else { names };
            for (tenant, name) in names.into_iter().enumerate() {
                let facts = name.map_or_else(Facts::any, |name| Facts::any().tenant(name));
                if let Some(left) = router.left_to_spend(&facts) {
                    books.is_settled(number, tenant, left, decision.time());
                }
            }
            if number == 0 {
                books.all_settled();
            }
            books.is_over(number, in_flight, &decision);
        }
    }

    /// What must not be, oldest first.
    pub(super) fn findings(&self) -> Vec<Finding> {
        self.0.lock().findings.clone()
    }

    /// What the routers' clock shows in the end.
    pub(super) fn end(&self) -> Instant {
        self.0.lock().end
    }

    /// Servers that a router still keeps out, or has not tried yet after it did.
    pub(super) fn kept_out(&self) -> Vec<(usize, usize, Reason)> {
        self.0.lock().kept_out.clone()
    }

    /// When each server was sent its last call, on the routers' clock.
    pub(super) fn last_sent(&self) -> Vec<Instant> {
        self.0.lock().last_sent.clone()
    }

    fn find(&self, code: &'static str, what: impl FnOnce() -> String) {
        self.0.lock().find(code, what);
    }
}
