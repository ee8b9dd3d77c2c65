//! [`Waiting`]: the place of a request in the queue, and what it waits for there.

use super::core::Shared;
use super::slot::Slot;
use crate::decision::{Candidate, Class, Decision, Reason, Refusal};
use crate::facts::Need;
use crate::fleet::{Fleet, Member};
use crate::limit::{Call, CallTime, Cells, Kind, Lack, Standing, WaitTurn, Want, Wished};
use crate::time::{Instant, nanos};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A place in the queue, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting<'r> {
    // Gone before its wishes are: who comes after it is first then.
    turn: WaitTurn<'r, Box<Slot>>,
    since: Instant,
    /// What those before it teach, since it has said what it waits for.
    call_time: Option<Arc<CallTime>>,
    /// For all that it ever waited for here, in the order of the backends' ids.
    wishes: Vec<Wish<'r>>,
    shared: &'r Arc<Shared>,
}

/// Makes a backend known as waited for.
#[derive(Debug)]
struct Wish<'r> {
    shared: &'r Arc<Shared>,
    member: Arc<Member>,
}

impl<'r> Wish<'r> {
    fn new(shared: &'r Arc<Shared>, member: Arc<Member>) -> Self {
        member.gauge.want();
        Self { shared, member }
    }
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        self.member.gauge.unwant();
        // What was kept for this one, or held and is not needed, is enough for the next, perhaps.
        if self.member.gauge.is_promised() {
            self.shared.offer(&self.member, self.shared.timer.now());
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.shares.unwant();
    }
}

impl<'r> Waiting<'r> {
    /// Takes a place, unless there is none, or no hope.
    pub(super) fn join(
        shared: &'r Arc<Shared>,
        fleet: &Fleet,
        decision: &Decision,
        (cells, kind): (Cells, Kind),
        wants: &[Want],
        now: Instant,
    ) -> Result<Self, Refusal> {
        let record = decision.record();
        let facts = record.facts();
        let standing = Standing {
            priority: facts.priority,
            tenant: facts.tenant.clone(),
            arrival: record.arrival,
            deadline: record.deadline,
            cells,
            kind,
            need: Need::of(facts),
            kept: record.sheet.kept,
        };
        if let Some((ahead, start)) = shared.waiters.predicted(&standing, wants)
            && (start.plus_nanos(least_time(fleet, decision, wants)) > record.deadline
                || start > shared.waiters.latest(&standing))
            && waits_for_nothing_else(decision, wants)
        {
            return Err(Refusal::TooLate { ahead: u32::try_from(ahead).unwrap_or(u32::MAX), start });
        }
        let turn = shared.waiters.join(standing).ok_or(Refusal::QueueFull)?;
        shared.shares.want();
        Ok(Self { turn, since: now, call_time: None, wishes: Vec::new(), shared })
    }

    /// It looks after quotas by itself then.
    pub(super) fn looks_at(&self, at: Instant) {
        self.turn.looks_at(at);
    }

    /// When it is to look after quotas; that it is time for it is said once.
    pub(super) fn alarm(&self, now: Instant) -> Option<Instant> {
        self.turn.alarm(now)
    }

    /// Whether it is to decide when the alarm rings: a quota refills too late for it, or it rests. Said once.
    pub(super) fn decides(&mut self) -> bool {
        self.turn.decides()
    }

    /// Whether it is given nothing for the moment.
    #[cfg(feature = "sim")]
    pub(super) const fn rests(&self) -> bool {
        self.turn.rests()
    }

    /// What is kept anywhere that it ever waited for is for the first that does.
    pub(super) fn offer_kept(&self, now: Instant) {
        for Wish { member, .. } in self.wishes.iter().filter(|wish| wish.member.gauge.is_promised()) {
            self.shared.offer(member, now);
        }
    }

    /// How long it has waited.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now - self.since
    }

    /// When it has waited for so long, or for longer than is of use.
    pub(super) fn until(&self, longest: Duration, decision: &Decision) -> Instant {
        (self.since + longest).min(self.latest(decision))
    }

    /// The refusal of one that would have to start by now, by what those before it teach.
    pub(super) fn too_little_time(&self, decision: &Decision, now: Instant) -> Option<Refusal> {
        let (latest, deadline) = (self.latest(decision), decision.deadline());
        let refusal = Refusal::WouldBeCutShort { left: nanos(deadline - now), needed: nanos(deadline - latest) };
        (now >= latest).then_some(refusal)
    }

    /// When it is to start at the latest.
    fn latest(&self, decision: &Decision) -> Instant {
        let (arrival, deadline) = (decision.record().arrival, decision.deadline());
        self.call_time.as_ref().map_or(deadline, |time| time.latest(arrival, deadline))
    }

    /// What its call is to teach those behind it.
    pub(super) fn call_time(&self) -> Option<Arc<CallTime>> {
        self.call_time.clone()
    }

    /// Says what it waits for, beside what it has said since it was called. Whoever wishes for something new looks again,
    /// so that what was freed in between is not missed.
    pub(super) fn wish(&mut self, wants: Vec<Want>, fleet: &Fleet, decision: &Decision) -> Wished {
        let known = self.wishes.len();
        self.wishes.reserve(wants.len());
        for member in members(fleet, decision, &wants) {
            if self.wishes[..known].binary_search_by_key(&member.id, |wish| wish.member.id).is_err() {
                self.wishes.push(Wish::new(self.shared, member.clone()));
            }
        }
        self.wishes.sort_unstable_by_key(|wish| wish.member.id);
        let (wished, unwanted) = self.turn.wish(wants);
        for Wish { member, .. } in self.wishes.iter().filter(|wish| unwanted.contains(&wish.member.id)) {
            self.shared.offer(member, self.shared.timer.now());
        }
        if wished == Wished::New {
            self.call_time = self.turn.call_time();
        }
        wished
    }

    /// What is there of quotas that it waits for is given to the first that does, or kept for it.
    pub(super) fn ask_for_quotas(&self, fleet: &Fleet, decision: &Decision, now: Instant) {
        let entries = decision.record().sheet.entries.iter();
        for entry in entries.filter(|entry| entry.rejected.is_some_and(is_for_quota)) {
            self.shared.ask(&fleet.berths[entry.seat as usize].member, now);
        }
    }

    /// Notes that `slot` is of no use, before it is dropped. What is in the way of this request as before, whatever its size,
    /// is in the way of those who wait for the same. That there is no slot for a share is so for all of the kind, unless
    /// this one has reasons of its own.
    pub(super) fn decline(&mut self, slot: &mut Slot, decision: &Decision) {
        let mut rejected = decision.candidates().filter_map(|it| Some((it.id(), it.rejected()?)));
        let alike = match slot.backend() {
            Some(id) => rejected.any(|(other, why)| other == id && is_as_before(why)),
            None => decision.attempts().is_empty() && rejected.all(|(_, why)| is_alike(why)),
        };
        slot.decline(&mut self.turn, alike, decision.time());
    }

    /// What it was called with since it was last asked.
    pub(super) fn called(&mut self) -> Option<Call<Box<Slot>>> {
        self.turn.called()
    }

    /// As [`called`](Self::called); wakes the task then.
    pub(super) fn poll_called(&mut self, cx: &mut Context<'_>) -> Poll<Call<Box<Slot>>> {
        self.turn.poll_called(cx)
    }
}

/// What a call that ends may change for a request, in order.
pub(super) fn wants(decision: &Decision, cells: Cells, kind: impl FnOnce() -> Kind) -> Vec<Want> {
    // Before a share is there nothing else matters.
    if decision.candidates().filter_map(|it| it.rejected()).any(is_for_share) {
        return vec![Want::share(cells, kind())];
    }
    let mut wants = Vec::with_capacity(decision.record().sheet.entries.len());
    let timely = |why: &Reason| !is_too_late(*why, decision.deadline());
    let want = |it: Candidate<'_>| Some(Want { backend: it.id(), lack: it.rejected().filter(timely).and_then(lack)? });
    wants.extend(decision.candidates().filter_map(want));
    wants.sort_unstable();
    wants
}

/// What a call that ends may change about a candidate that was ruled out.
const fn lack(why: Reason) -> Option<Lack> {
    match why {
        Reason::AtCapacity { .. } | Reason::PrefillFull { .. } | Reason::TokensFull { .. } | Reason::LostRace => {
            Some(Lack::Slot)
        }
        Reason::RegionFull { .. } | Reason::Reserved { .. } => Some(Lack::Room),
        Reason::ProbeInFlight { .. } | Reason::OnProbation { .. } => Some(Lack::Probe),
        // It refills by itself; and a call that used less than was expected gives back the rest.
        Reason::OverQuota { .. } | Reason::QuotaKept { .. } => Some(Lack::Quota),
        _ => None,
    }
}

/// Whether it waits for a call of its tenant's share, or its route's.
const fn is_for_share(why: Reason) -> bool {
    matches!(why, Reason::TenantFull { .. } | Reason::RouteFull { .. })
}

/// Whether it waits for a quota to refill.
pub(super) const fn is_for_quota(why: Reason) -> bool {
    matches!(why, Reason::OverQuota { .. } | Reason::QuotaKept { .. })
}

/// Whether that quota refills after the deadline. Calls may give enough back earlier, of which nobody is told.
pub(super) fn is_too_late(why: Reason, deadline: Instant) -> bool {
    is_for_quota(why) && why.returns_at().is_some_and(|at| at >= deadline)
}

/// Whether a candidate that was ruled out so may be of use again and nobody says so: money comes back, the work before the request is
/// done, a policy readmits.
pub(super) const fn is_unheard(why: Reason) -> bool {
    match why.class() {
        Class::Soft => true,
        Class::Refused if why.returns_at().is_some() => matches!(why, Reason::OverSpendLimit { .. }),
        Class::Refused => matches!(why, Reason::RegionFull { .. }) || (lack(why).is_none() && !is_for_share(why)),
        Class::Hard | Class::Note => false,
    }
}

/// Whether a candidate that was ruled out so is so for all requests of the [`Kind`] and the priority.
const fn is_alike(why: Reason) -> bool {
    matches!(
        why,
        Reason::OutsideResidency
            | Reason::TenantForbidden
            | Reason::OutsideShard { .. }
            | Reason::MissingCapabilities { .. }
    ) || is_as_before(why)
}

/// Whether a candidate that was ruled out so is so for all that wait for it. One that rests is as well, but who is not told when
/// it returns does not look then.
const fn is_as_before(why: Reason) -> bool {
    (lack(why).is_some() && !is_by_size(why)) || matches!(why, Reason::Drained)
}

/// Whether one that needs fewer tokens may not be ruled out so.
const fn is_by_size(why: Reason) -> bool {
    is_for_quota(why) || matches!(why, Reason::PrefillFull { .. } | Reason::TokensFull { .. } | Reason::Reserved { .. })
}

/// The backends that are waited for. Pools are large, and nothing here may take the square of their size.
fn members<'f>(fleet: &'f Fleet, decision: &Decision, wants: &[Want]) -> impl Iterator<Item = &'f Arc<Member>> {
    let members = decision.record().sheet.entries.iter().map(|entry| &fleet.berths[entry.seat as usize].member);
    members.filter(|member| wants.binary_search_by_key(&member.id, |want| want.backend).is_ok())
}

/// What the first item takes at least, in nanoseconds: the best that any of the backends ever did as a rule, 0 where that
/// is not known. Who starts with less than that left uses up a slot for nothing.
fn least_time(fleet: &Fleet, decision: &Decision, wants: &[Want]) -> u64 {
    members(fleet, decision, wants).map(|member| member.latency.read().best).min().unwrap_or(0)
}

/// Whether only a slot that another gives back can help: this is its first attempt, it waits for no probe, and nobody is
/// expected back before its deadline.
fn waits_for_nothing_else(decision: &Decision, wants: &[Want]) -> bool {
    decision.attempts().is_empty()
        && wants.iter().all(|want| want.lack != Lack::Probe)
        && decision.earliest_return().is_none_or(|at| at >= decision.deadline())
}
