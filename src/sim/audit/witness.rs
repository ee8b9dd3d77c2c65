//! What routers tell, against what the servers saw.

use super::Audit;
use super::books::{Books, Seat};
use crate::backend::BackendId;
use crate::decision::{Decision, Reason};
use crate::event::{Cause, Event, Observer, Outcome};
use crate::facts::Profile;
use crate::time::Instant;

/// Watches one router.
#[derive(Clone, Debug)]
pub(in super::super) struct Witness {
    pub(super) audit: Audit,
    pub(super) router: usize,
}

impl Observer for Witness {
    fn on_event(&self, event: &Event<'_>, now: Instant) {
        let mut books = self.audit.0.lock();
        let told = &mut books.desks[self.router].told;
        match event {
            Event::Fleet { .. } | Event::Limit { .. } | Event::Mirrored { .. } | Event::Unhedged { .. } => {}
            Event::Decided(decision) => {
                books.compare(self.router, decision);
                books.read_ledger(decision);
            }
            Event::Started { backend, profile, .. } => {
                told.started += 1;
                let seat = &mut books.desks[self.router].seats[backend.slot()];
                if seat.domain.as_deref() != profile.domain() {
                    seat.domain = profile.domain().map(str::to_owned);
                }
            }
            Event::FirstItem { .. } => told.began += 1,
            Event::Ended { outcome, request, attempt, cost, .. } => {
                told.ended += 1;
                told.done += u64::from(matches!(outcome, Outcome::Success));
                books.booked((*request, *attempt), *cost, now);
            }
            Event::Transition { backend, profile, out, cause, .. } => {
                books.judge(self.router, *backend, profile, out.is_some(), *cause);
                books.moved(self.router, *backend, out.is_some(), matches!(cause, Cause::Domain { .. }));
            }
            Event::DomainTransition { domain, .. } => (*domain).clone_into(&mut books.desks[self.router].domain),
            Event::Region { .. } | Event::Usage { .. } => {}
            Event::Refused { .. } => told.refused += 1,
            Event::Panicked { name } => books.find("I11", || format!("{name} panicked")),
        }
    }
}

impl Books {
    /// What a decision read of each backend, against what is in flight there.
    pub(super) fn compare(&mut self, router: usize, decision: &Decision) {
        for candidate in decision.candidates() {
            let server = candidate.id().slot();
            let seat = &self.desks[router].seats[server];
            let in_flight = seat.in_flight;
            let probed =
                matches!(candidate.rejected(), Some(Reason::OnProbation { .. } | Reason::ProbeInFlight { .. }));
            // One of a failure domain that is out as a whole waits for the probe of another.
            let domain = candidate.profile().domain();
            let kin = |seat: &Seat| domain.is_some() && seat.domain.as_deref() == domain && seat.in_flight > 0;
            if probed && in_flight == 0 && !self.desks[router].seats.iter().any(kin) {
                self.find("I8", || format!("router {router} waits for a probe of server {server}; none is in flight"));
                continue;
            }
            let Some(load) = candidate.load() else { continue };
            let oldest = seat.waiting.first_key_value().map(|(_, (_, since))| *since);
            let books = (seat.waiting_tokens, oldest);
            // Slots that are held for requests in the queue are in flight for the router, and not yet for a server; and with them,
            // where there is a bound of prompts, theirs.
            let is_held = self.rules.tokens[server].0.is_some() && load.in_flight > in_flight;
            let more = is_held && load.waiting_tokens > books.0;
            if (load.waiting_tokens != books.0 && !more) || load.oldest_wait() != oldest || load.in_flight < in_flight {
                self.find("I2", || {
                    format!(
                        "router {router} sees {load:?} at server {server}, where {in_flight} are in flight, {books:?}"
                    )
                });
            }
        }
    }

    /// A backend goes with its own failure domain and no other; comparisons leave enough of a pool in.
    fn judge(&mut self, router: usize, backend: BackendId, profile: &Profile, out: bool, cause: Cause) {
        let desk = &mut self.desks[router];
        let server = backend.slot();
        if matches!(cause, Cause::Domain { .. }) && profile.domain() != Some(&desk.domain) {
            let domain = desk.domain.clone();
            return self.find("I15", || format!("server {server} goes with the domain {domain} and stands elsewhere"));
        }
        let compared = matches!(cause, Cause::SlowerThanPeers { .. } | Cause::FailsMoreThanPeers { .. });
        // What it is refused for hides when it is back among its peers.
        desk.seats[server].outlier = out && compared;
        let (pool, most) = &self.rules.pools[server];
        let outliers = pool.iter().filter(|other| desk.seats[**other].outlier).count();
        if compared && outliers > *most {
            let most = *most;
            self.find("I15", || format!("{outliers} servers are out by comparison, {most} may be"));
        }
    }

    /// A backend left, or came back: only by what was sent since it left.
    fn moved(&mut self, router: usize, backend: BackendId, out: bool, with_domain: bool) {
        let order = self.next_order();
        let seats = &mut self.desks[router].seats;
        // One of a domain comes back by what was sent to another.
        let any = seats.iter().map(|seat| seat.last_over).max().unwrap_or(0);
        let seat = &mut seats[backend.slot()];
        let (last, left) = (if with_domain { any } else { seat.last_over }, seat.out);
        // It may be told again, for another reason, that it is out.
        seat.out = out.then(|| left.unwrap_or(order));
        if let Some(left) = left.filter(|left| !out && last < *left) {
            let server = backend.slot();
            self.find("I8", || {
                format!("server {server} came back to router {router} by call {last}, sent before it left at {left}")
            });
        }
    }
}
