//! What is in flight where, and what was promised about it.

use super::super::job::Request;
use super::super::run::Ended;
use super::super::source::Arrival;
use super::money::{CallId, Money};
use super::tokens;
use super::{Finding, Over, Rules};
use crate::backend::{FailureKind, Replay, Retry};
use crate::decision::{AttemptRecord, Decision, Reason};
use crate::facts::Need;
use crate::time::Instant;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::time::Duration;

/// Routers keep moments in units of sixteen nanoseconds.
const GRAIN: Duration = Duration::from_nanos(16);

/// Findings beyond these say nothing new.
const MOST: usize = 8;

#[derive(Debug)]
pub(super) struct Books {
    pub(super) rules: Rules,
    pub(super) desks: Vec<Desk>,
    inquiries: FxHashMap<u64, Inquiry>,
    /// The attempts that ledgers call canaries that were given up early, by the request that its router counts them with.
    canary_timeouts: FxHashMap<u64, Vec<u32>>,
    /// Numbers calls and changes in the order in which they happen.
    order: u64,
    pub(super) decisions: u64,
    /// How often the routers' clock jumped, and whether it ever did backwards.
    jumps: u32,
    pub(super) jumped_back: bool,
    pub(super) money: Money,
    pub(super) findings: Vec<Finding>,
    pub(super) kept_out: Vec<(usize, usize, Reason)>,
    pub(super) end: Instant,
    /// When each server was sent its last call.
    pub(super) last_sent: Vec<Instant>,
}

/// What is known of one router.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) seats: Vec<Seat>,
    /// Calls in flight of each tenant.
    tenants: Vec<u32>,
    /// The failure domain that it told of last.
    pub(super) domain: String,
    /// Requests, and extra attempts that were made, by the second in which they came or were paid for.
    requests: BTreeMap<u64, u64>,
    extras: BTreeMap<u64, u64>,
    /// Requests, and those of them that were hedged, so far.
    came: u64,
    hedged: u64,
    pub(super) seen: Tally,
    pub(super) told: Tally,
}

/// Counts of one router, as the servers saw it, or as it told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) started: u64,
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) done: u64,
    pub(super) refused: u64,
}

/// One server, as it stands with one router.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// Its failure domain, once it was called.
    pub(super) domain: Option<String>,
    pub(super) in_flight: u32,
    /// Calls without a first token, by their number: prompt tokens, and since when.
    pub(super) waiting: BTreeMap<u64, (u64, Instant)>,
    pub(super) waiting_tokens: u64,
    /// Of all calls in flight, where they are bounded.
    pub(super) total_tokens: u64,
    /// The call that ended last.
    pub(super) last_over: u64,
    /// A comparison with its peers took it out.
    pub(super) outlier: bool,
    /// When the router told last that the server is out, by the order of things.
    pub(super) out: Option<u64>,
    /// Until when its quota rests by its own word, and when that began, by the order of things.
    quota_until: Option<Instant>,
    quota_since: u64,
}

/// A request that has not ended.
#[derive(Debug)]
struct Inquiry {
    router: usize,
    need: Need,
    tenant: usize,
    deadline: Instant,
    replay_safe: bool,
    /// Jumps of the clock before it came.
    jumps: u32,
    attempts: u32,
    /// Under way, one or two.
    calls: Vec<Call>,
    /// Attempts that the router gave up.
    given_up: Vec<u32>,
    answered: bool,
    /// Tokens of its answer, and those that its caller has.
    answer: u32,
    delivered: u32,
    /// How its last attempt failed, and when.
    failed: Option<(FailureKind, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    attempt: u32,
    number: u64,
    server: usize,
    /// Of its prompt, and of all of it.
    tokens: (u64, u64),
}

impl Books {
    pub(super) fn new(rules: Rules) -> Self {
        let servers = rules.limits.len();
        let tenants = rules.tenants.len();
        let seats = || (0..servers).map(|_| Seat::default()).collect();
        let desk = || Desk { seats: seats(), tenants: vec![0; tenants], ..Desk::default() };
        Self {
            desks: (0..rules.routers).map(|_| desk()).collect(),
            inquiries: FxHashMap::default(),
            canary_timeouts: FxHashMap::default(),
            order: 0,
            decisions: 0,
            jumps: 0,
            jumped_back: false,
            money: Money::default(),
            findings: Vec::new(),
            kept_out: Vec::new(),
            end: Instant::default(),
            last_sent: vec![Instant::default(); servers],
            rules,
        }
    }

    #[cold]
    pub(super) fn find(&mut self, code: &'static str, what: impl FnOnce() -> String) {
        if self.findings.len() < MOST {
            self.findings.push(Finding { code, what: what() });
        }
    }

    pub(super) const fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    pub(super) fn came(&mut self, arrival: &Arrival, need: Need, deadline: Instant, now: Instant) {
        let inquiry = Inquiry {
            need,
            router: arrival.router,
            tenant: arrival.tenant,
            deadline,
            replay_safe: arrival.replay_safe,
            jumps: self.jumps,
            attempts: 0,
            calls: Vec::new(),
            given_up: Vec::new(),
            answered: false,
            answer: arrival.request.output,
            delivered: 0,
            failed: None,
        };
        self.inquiries.insert(arrival.request.number, inquiry);
        let desk = &mut self.desks[arrival.router];
        *desk.requests.entry(second(now)).or_default() += 1;
        desk.came += 1;
    }

    pub(super) fn sent(&mut self, router: usize, server: usize, request: &Request, id: CallId, now: Instant) {
        let (order, number) = (self.next_order(), id.1);
        // What the facts say, which stay those of the whole request when it goes on.
        let need = self.inquiries.get(&request.number).map_or_else(Need::default, |inquiry| inquiry.need);
        let tokens = tokens::taken(need, self.rules.tokens[server]);
        self.last_sent[server] = now;
        self.hold_request(server, request, id, now);
        if request.bound && self.rules.outside[server] {
            self.find("I6", || {
                format!("request {} is sent to server {server}, outside the regions it is bound to", request.number)
            });
        }
        let call = Call { attempt: number, number: order, server, tokens };
        if let Some(inquiry) = self.inquiries.get_mut(&request.number) {
            inquiry.attempts = number;
            inquiry.calls.push(call);
            let tenant = inquiry.tenant;
            self.charge(router, tenant);
        }
        let desk = &mut self.desks[router];
        desk.seen.started += 1;
        let seat = &mut desk.seats[server];
        seat.in_flight += 1;
        seat.waiting.insert(order, (tokens.0, now));
        seat.waiting_tokens += tokens.0;
        seat.total_tokens += tokens.1;
        let (in_flight, rests) = (seat.in_flight, seat.quota_until);
        if let Some(limit) = self.rules.limits[server].filter(|limit| in_flight > *limit) {
            self.find("I2", || format!("router {router} has {in_flight} calls at server {server}, limit {limit}"));
        }
        let ceiling = if request.critical { 1000 } else { self.rules.ceiling };
        self.hold_tokens(router, server, tokens, ceiling);
        // To the nearest call, and one at least.
        let above = |limit: u32| in_flight > ((limit * ceiling + 500) / 1000).max(1);
        if let Some(limit) = self.rules.limits[server].filter(|limit| above(*limit)) {
            self.find("I2", || {
                format!("router {router} has {in_flight} calls at server {server}, limit {limit}, ceiling {ceiling}")
            });
        }
        if let Some(until) = rests.filter(|until| now + GRAIN < *until && self.rules.rests) {
            self.find("I7", || format!("server {server} asked for no call until {until:?}; one was sent at {now:?}"));
        }
    }

    /// Whose request it is; the first where nobody has a name.
    pub(super) fn tenant_of(&self, request: u64) -> usize {
        self.inquiries.get(&request).map_or(0, |inquiry| inquiry.tenant)
    }

    /// A call of a tenant begins.
    fn charge(&mut self, router: usize, tenant: usize) {
        let Some(calls) = self.desks[router].tenants.get_mut(tenant) else { return };
        *calls += 1;
        let calls = *calls;
        if let Some(most) = self.rules.share.filter(|most| calls > *most) {
            self.find("I2", || format!("router {router} has {calls} calls of tenant {tenant} in flight, of {most}"));
        }
    }

    /// What the request itself has to say about an attempt.
    fn hold_request(&mut self, server: usize, request: &Request, (seed, number): CallId, now: Instant) {
        let (from, request) = (request.from, request.number);
        let Some(inquiry) = self.inquiries.get(&request) else {
            return self.find("I4", || format!("request {request} is sent to server {server} after its end"));
        };
        let Inquiry { router, deadline, replay_safe, jumps, attempts, answered, delivered, failed, .. } = *inquiry;
        let beside = inquiry.calls.clone();
        let jumped = self.jumps != jumps;
        let excused = self.canary_timeouts.get(&seed).map_or(&[][..], Vec::as_slice);
        let allowed = self.rules.attempts + excused.len() as u32;
        if excused.len() > 1 || excused.iter().any(|attempt| !inquiry.given_up.contains(attempt)) {
            let (excused, given_up) = (excused.to_vec(), inquiry.given_up.clone());
            self.find("I1", || {
                format!("attempts {excused:?} of request {request} do not count, {given_up:?} timed out")
            });
        }
        // Hedged once, at another server, and only what may be executed twice.
        let hedges = self.rules.hedge.is_some() && replay_safe && !answered;
        if !(beside.is_empty() || matches!(&beside[..], [first] if hedges && first.server != server)) {
            let servers: Vec<_> = beside.iter().map(|call| call.server).collect();
            self.find("I4", || format!("request {request} is at servers {servers:?} and {server} at once"));
        }
        if number != attempts + 1 || number > allowed {
            self.find("I1", || {
                format!("attempt {number} of request {request} after {attempts}, {allowed} are allowed")
            });
        }
        if now >= deadline && !jumped {
            self.find("I3", || {
                format!("attempt {number} of request {request} at {now:?}, its deadline is {deadline:?}")
            });
        }
        if from != delivered {
            self.find("I16", || format!("request {request} is sent from token {from} on, {delivered} were delivered"));
        }
        if answered && from == 0 {
            self.find("I5", || format!("request {request} is sent to server {server} after its first token"));
        }
        if !beside.is_empty() {
            self.hedge(router);
            return self.pay(router, second(now));
        }
        let Some((kind, paid)) = failed else { return };
        let conduct = kind.conduct();
        if conduct.retry == Retry::Never || (conduct.replay == Replay::Uncertain && !replay_safe) {
            self.find("I5", || format!("request {request}, replay safe {replay_safe}, is sent again after {kind}"));
        }
        self.pay(router, second(paid));
    }

    /// Which attempts of a request do not count, by its ledger.
    pub(super) fn read_ledger(&mut self, decision: &Decision) {
        let excused = decision.attempts().iter().filter(|attempt| attempt.is_canary_timeout());
        let excused: Vec<_> = excused.map(AttemptRecord::number).collect();
        if !excused.is_empty() {
            self.canary_timeouts.insert(decision.seed(), excused);
        }
    }

    /// A request is hedged: no more of them than may be.
    fn hedge(&mut self, router: usize) {
        let desk = &mut self.desks[router];
        desk.hedged += 1;
        let (hedged, came) = (desk.hedged, desk.came);
        if self.rules.hedge.is_some_and(|share| hedged as f64 > came as f64 * share + 1e-6) {
            self.find("I1", || format!("router {router} hedged {hedged} of {came} requests"));
        }
    }

    /// An extra attempt was made that was paid for in this second: the window that ends there must allow it.
    fn pay(&mut self, router: usize, paid: u64) {
        let desk = &mut self.desks[router];
        *desk.extras.entry(paid).or_default() += 1;
        let Some((ratio, reserve)) = self.rules.budget else { return };
        if self.jumped_back {
            return;
        }
        let window = paid.saturating_sub(9)..=paid;
        let extras: u64 = desk.extras.range(window.clone()).map(|(_, count)| count).sum();
        let requests: u64 = desk.requests.range(window).map(|(_, count)| count).sum();
        if extras as f64 > requests as f64 * ratio + f64::from(reserve) * 10.0 + 1e-6 {
            self.find("I1", || {
                format!(
                    "router {router}: {extras} extra attempts for {requests} requests, {ratio} + {reserve}/s allowed"
                )
            });
        }
    }

    pub(super) fn began(&mut self, request: u64, attempt: u32) {
        let Some(inquiry) = self.inquiries.get_mut(&request) else { return };
        inquiry.answered = true;
        if let Some(call) = inquiry.calls.iter().find(|call| call.attempt == attempt).copied() {
            let desk = &mut self.desks[inquiry.router];
            desk.seen.began += 1;
            desk.seats[call.server].stop_waiting(call);
        }
    }

    pub(super) fn over(&mut self, request: u64, attempt: u32, over: Over<'_>, now: Instant) {
        let order = self.next_order();
        let Some(inquiry) = self.inquiries.get_mut(&request) else { return };
        let Some(at) = inquiry.calls.iter().position(|call| call.attempt == attempt) else { return };
        let call = inquiry.calls.remove(at);
        let kind = match over {
            Over::Done => None,
            Over::Failed(error) => Some(error.kind()),
            Over::GivenUp => Some(FailureKind::Timeout),
        };
        if matches!(over, Over::GivenUp) {
            inquiry.given_up.push(attempt);
        }
        // The one that goes on decides how it ends.
        if inquiry.calls.is_empty() {
            inquiry.failed = kind.map(|kind| (kind, now));
        }
        let desk = &mut self.desks[inquiry.router];
        if let Some(calls) = desk.tenants.get_mut(inquiry.tenant) {
            *calls -= 1;
        }
        desk.seen.ended += 1;
        desk.seen.done += u64::from(kind.is_none());
        let seat = &mut desk.seats[call.server];
        seat.stop_waiting(call);
        seat.total_tokens -= call.tokens.1;
        seat.in_flight -= 1;
        seat.last_over = call.number;
        seat.hear(call, over, order, now);
    }

    pub(super) fn ended(&mut self, request: u64, ended: Ended, now: Instant) {
        let Some(inquiry) = self.inquiries.remove(&request) else {
            return self.find("I4", || format!("request {request} ended twice, now as {ended:?}"));
        };
        self.desks[inquiry.router].seen.refused += u64::from(matches!(ended, Ended::Refused(_)));
        if now > inquiry.deadline && inquiry.jumps == self.jumps {
            self.find("I3", || format!("request {request} ended at {now:?}, its deadline was {:?}", inquiry.deadline));
        }
        let Inquiry { answer, delivered, .. } = inquiry;
        if ended == Ended::Completed && delivered != answer {
            self.find("I16", || format!("request {request} is complete with {delivered} of {answer} tokens"));
        }
        if !inquiry.calls.is_empty() {
            self.find("I4", || format!("request {request} ended as {ended:?}, and its call goes on"));
        }
    }

    pub(super) fn delivered(&mut self, request: u64, from: u32, count: u32) {
        let Some(inquiry) = self.inquiries.get_mut(&request) else { return };
        let before = std::mem::replace(&mut inquiry.delivered, from + count);
        if from != before {
            self.find("I16", || format!("request {request} is given token {from} after {before}"));
        }
    }

    pub(super) const fn jumped(&mut self, nanos: i64) {
        self.jumps += 1;
        self.jumped_back |= nanos < 0;
    }

    /// How many slots of a server are taken, where one is free, and the tokens that this needs are.
    pub(super) fn has_room(&self, router: usize, server: usize, need: Need) -> Option<u32> {
        let (seat, bounds) = (&self.desks[router].seats[server], self.rules.tokens[server]);
        let (prefill, total) = tokens::taken(need, bounds);
        let fits = |bound: Option<u64>, taken: u64, own: u64| bound.is_none_or(|bound| taken + own <= bound);
        let slots = self.rules.limits[server].is_none_or(|limit| seat.in_flight < limit);
        let tokens = fits(bounds.0, seat.waiting_tokens, prefill) && fits(bounds.1, seat.total_tokens, total);
        (slots && tokens && !self.rules.signals).then_some(seat.in_flight)
    }

    /// Requests that have not ended.
    pub(super) fn open(&self) -> usize {
        self.inquiries.len()
    }
}

impl Seat {
    fn stop_waiting(&mut self, call: Call) {
        if self.waiting.remove(&call.number).is_some() {
            self.waiting_tokens -= call.tokens.0;
        }
    }

    /// What the end of a call says of the server's quota. A call that was sent before the last news is late: it only
    /// makes a rest longer that is not over.
    fn hear(&mut self, call: Call, over: Over<'_>, order: u64, now: Instant) {
        let fresh = call.number > self.quota_since;
        match over {
            Over::Failed(error) if error.kind() == FailureKind::RateLimited => {
                let until = error.retry_hint().map(|hint| now + hint);
                if fresh {
                    (self.quota_until, self.quota_since) = (until, order);
                } else if let Some(rest) = self.quota_until.filter(|rest| *rest > now) {
                    self.quota_until = until.max(Some(rest));
                }
            }
            Over::Failed(error) if error.kind() == FailureKind::ModelUnavailable && fresh => {
                (self.quota_until, self.quota_since) = (None, order);
            }
            Over::Done if fresh && self.quota_since > 0 => (self.quota_until, self.quota_since) = (None, order),
            _ => {}
        }
    }
}

fn second(at: Instant) -> u64 {
    at.as_nanos() / 1_000_000_000
}
