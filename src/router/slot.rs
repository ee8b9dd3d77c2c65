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
    pub(super) fn decline(&mut self, turn: &mut WaitTurn<'_, Box<Self>>, alike: bool, now: Instant) {
        self.passed.see(self.shared.freed.load(Ordering::SeqCst));
        let backend = self.backend();
        turn.pass(&mut self.passed, backend, alike, now);
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
        self.shared.hand(Offer::PassedOn, member.as_ref(), &self.passed, self.freed);
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
        self.hand(Offer::Freed, member, passed, freed);
    }

    /// What this backend has kept for somebody, or refilled, is for the first that waits.
    pub(super) fn offer(self: &Arc<Self>, member: &Arc<Member>, now: Instant) {
        self.hand(Offer::Kept, Some(member), &Passed::default(), now);
    }

    /// What is left of its quotas is for the first that waits for them.
    pub(super) fn ask(self: &Arc<Self>, member: &Arc<Member>, now: Instant) {
        self.hand(Offer::Asked, Some(member), &Passed::default(), now);
    }

    fn hand(self: &Arc<Self>, offer: Offer, member: Option<&Arc<Member>>, passed: &Passed, freed: Instant) {
        let mut member = member.filter(|member| member.gauge.is_wanted() || member.gauge.is_promised());
        let are_free = !matches!(offer, Offer::Kept | Offer::Asked);
        let mut started = false;
        while member.is_some() || (are_free && self.shares.are_wanted()) {
            let asked = offer == Offer::Asked;
            let at = member.map(|it| Freed { backend: it.id, gauge: &it.gauge, quotas: &it.quotas, asked });
            let shares = (&self.shares, are_free);
            let called = self.waiters.call_one(at, shares, passed, freed, |Given { held, stake, passed }| {
                let held = member.cloned().zip(held);
                Box::new(Slot { shared: self.clone(), held, stake: Some(stake), freed, passed })
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
                    let more = |it: &&Arc<Member>| it.gauge.is_bounded() || it.gauge.is_promised();
                    member = member.filter(|it| offer != Offer::PassedOn && more(it));
                }
                Handed::Probe | Handed::Gone | Handed::Promised => member = None,
                Handed::Share => {}
            }
        }
    }
}

/// What there is to hand over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Offer {
    /// What a call gave back.
    Freed,
    /// What one could not use. It goes to one, and with the call of that one the next may look: of slots that several pass on to
    /// each other there would be ever more.
    PassedOn,
    /// What was there before; no share was freed.
    Kept,
    /// What is left of quotas; nothing was freed.
    Asked,
}
