//! [`Slot`]: what was freed for a request that waited for it, and who gets it.

use super::core::Shared;
use crate::backend::BackendId;
use crate::bug;
use crate::facts::Need;
use crate::fleet::Member;
use crate::limit::{Claim, Freed, Given, Handed, Held, Passed, Spent, Stake, Ticket, WaitTurn};
use crate::time::Instant;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A slot of a backend that was freed for a request which waited for it, with the tokens and its call of the shares; or the
/// last alone, where that is what it waited for. Dropped without a call, all go to the next that waits, or are free.
#[derive(Debug)]
pub(super) struct Slot {
    shared: Arc<Shared>,
    // `None` where there is none, and after the end.
    held: Option<(Arc<Member>, Held)>,
    // `None` only after the end.
    pub(super) stake: Option<Stake>,
    /// When it was freed.
    freed: Instant,
    /// Who had it and could not use it: it goes to each but once, and is free when all have passed it on.
    passed: Passed,
}

impl Slot {
    /// It is of no use to whom it was given, nor, if `alike`, to those who wait for the same.
    pub(super) fn decline(&mut self, turn: &WaitTurn<'_, Self>, alike: bool) {
        self.passed.see(self.shared.freed.load(Ordering::SeqCst));
        turn.pass(&mut self.passed, alike);
    }

    pub(super) fn backend(&self) -> Option<BackendId> {
        self.held.as_ref().map(|(member, _)| member.id)
    }

    /// Whether it brings a call of the shares.
    pub(super) const fn has_stake(&self) -> bool {
        self.stake.is_some()
    }

    pub(super) fn is_of(&self, member: &Arc<Member>) -> bool {
        self.held.as_ref().is_some_and(|(own, _)| Arc::ptr_eq(own, member))
    }

    /// What it keeps for its request.
    pub(super) fn held(&self) -> Option<(BackendId, &Held)> {
        self.held.as_ref().map(|(member, held)| (member.id, held))
    }

    /// Takes out what was claimed of the quotas for the call that it was freed for.
    pub(super) fn claim(&mut self) -> Option<Claim> {
        self.held.as_mut().and_then(|(_, held)| held.claim.take())
    }

    /// Begins that call.
    pub(super) fn enter(mut self, need: Need, now: Instant) -> Ticket {
        let (member, Held { hold, claim }) = self.held.take().expect("a slot has its backend until it ends");
        debug_assert!(claim.is_none(), "a claim is taken out before");
        member.gauge.enter_held(hold, need, now)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let (held, stake) = (self.held.take(), self.stake.take());
        if bug::SLOT_NOT_HANDED_BACK || (held.is_none() && stake.is_none()) {
            return;
        }
        let member = held.map(|(member, Held { hold, claim })| {
            // Before the slot is free: who gets it finds what is given back.
            claim.iter().for_each(|claim| member.quotas.settle(claim, Spent::Nothing));
            member.gauge.release(hold);
            member
        });
        if let Some(stake) = stake {
            self.shared.shares.give_back(stake);
        }
        self.passed.see(self.shared.freed.load(Ordering::SeqCst));
        self.shared.hand_on(member.as_ref(), &self.passed, self.freed, false);
    }
}

impl Shared {
    /// A call begins at this backend. Where others wait for it and there is room all the same, it was of no use to anybody a
    /// moment ago, and now it is: the next may look.
    pub(super) fn call_next(self: &Arc<Self>, member: &Arc<Member>, now: Instant) {
        if member.gauge.is_wanted() && member.gauge.in_flight() < member.gauge.limit() {
            self.hand_over(Some(member), &Passed::default(), now);
        }
    }

    /// Something of this backend was freed, or a call of some share, or both: who can start with that, and has not passed it
    /// on, gets it. Where tokens are bounded that may be several, or nobody as yet.
    pub(super) fn hand_over(self: &Arc<Self>, member: Option<&Arc<Member>>, passed: &Passed, freed: Instant) {
        self.hand_on(member, passed, freed, true);
    }

    /// As [`hand_over`](Self::hand_over). Not to `many` where it is what one could not use: that goes to one, and with the call
    /// of that one the next may look. Of slots that several pass on to each other there would be ever more.
    fn hand_on(self: &Arc<Self>, member: Option<&Arc<Member>>, passed: &Passed, freed: Instant, many: bool) {
        let mut member = member.filter(|member| member.gauge.is_wanted() || member.gauge.is_promised());
        let mut started = false;
        while member.is_some() || self.shares.are_wanted() {
            let at = member.map(|it| Freed { backend: it.id, gauge: &it.gauge, quotas: &it.quotas });
            let called = self.waiters.call_one(at, &self.shares, passed, freed, |Given { held, stake, passed }| {
                let held = member.cloned().zip(held);
                Slot { shared: self.clone(), held, stake: Some(stake), freed, passed }
            });
            match called {
                Handed::Nobody => {
                    if member.is_some() && !started {
                        // Who passed another on meanwhile had counted this slot as taken. (A share that is free changes nothing
                        // for who has one in its hands.)
                        self.freed.fetch_add(1, Ordering::SeqCst);
                    }
                    break;
                }
                Handed::Slot => {
                    started = true;
                    member = member.filter(|it| many && (it.gauge.is_bounded() || it.gauge.is_promised()));
                }
                Handed::Probe | Handed::Gone | Handed::Promised => member = None,
                Handed::Share => {}
            }
        }
    }
}
