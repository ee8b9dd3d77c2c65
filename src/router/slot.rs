//! [`Slot`]: what was freed for a request that waited for it, and who gets it.

use super::core::Shared;
use crate::backend::BackendId;
use crate::bug;
use crate::fleet::Member;
use crate::limit::{Given, Handed, Passed, Stake, Ticket, WaitTurn};
use crate::time::Instant;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A slot of a backend that was freed for a request which waited for it, with its call of the shares; or that alone, where
/// that is what it waited for. Dropped without a call, both go to the next that waits, or are free.
#[derive(Debug)]
pub(super) struct Slot {
    shared: Arc<Shared>,
    // `None` where there is none, and after the end.
    member: Option<Arc<Member>>,
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
        self.member.as_ref().map(|member| member.id)
    }

    /// Whether it brings a call of the shares.
    pub(super) const fn has_stake(&self) -> bool {
        self.stake.is_some()
    }

    pub(super) fn is_of(&self, member: &Arc<Member>) -> bool {
        self.member.as_ref().is_some_and(|own| Arc::ptr_eq(own, member))
    }

    /// Begins the call that it was freed for.
    pub(super) fn enter(mut self, tokens: u64, now: Instant) -> Ticket {
        let member = self.member.take().expect("a slot has its backend until it ends");
        member.gauge.enter_held(tokens, now)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let (member, stake) = (self.member.take(), self.stake.take());
        if bug::SLOT_NOT_HANDED_BACK || (member.is_none() && stake.is_none()) {
            return;
        }
        if let Some(member) = &member {
            member.gauge.release();
        }
        if let Some(stake) = stake {
            self.shared.shares.give_back(stake);
        }
        self.passed.see(self.shared.freed.load(Ordering::SeqCst));
        self.shared.hand_over(member.as_ref(), &self.passed, self.freed);
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

    /// A slot of this backend was freed, or a call of some share, or both: who can start with that, and has not passed it
    /// on, gets it.
    pub(super) fn hand_over(self: &Arc<Self>, member: Option<&Arc<Member>>, passed: &Passed, freed: Instant) {
        let mut member = member.filter(|member| member.gauge.is_wanted());
        let mut handed = false;
        while member.is_some() || self.shares.are_wanted() {
            let id = member.map(|member| member.id);
            let called = self.waiters.call_one(id, &self.shares, passed, freed, |Given { slot, stake, passed }| {
                let member = member.filter(|_| slot).cloned();
                if member.as_ref().is_some_and(|member| !member.gauge.hold(member.gauge.limit())) {
                    return Err(stake);
                }
                Ok(Slot { shared: self.clone(), member, stake: Some(stake), freed, passed })
            });
            match called {
                Handed::Nobody => {
                    if member.is_some() || !handed {
                        // Who passed another on meanwhile had counted this one as taken.
                        self.freed.fetch_add(1, Ordering::SeqCst);
                    }
                    break;
                }
                Handed::Slot | Handed::Gone => (member, handed) = (None, true),
                Handed::Share => handed = true,
            }
        }
    }
}
