//! What an attempt takes before it is made: all of it, or nothing.

use super::{Lease, Limiter, Needs, is_limited};
use crate::decision::Reason;
use crate::facts::Need;
use crate::fleet::Berth;
use crate::limit::{Claim, Passed, Spent, Stake, Ticket, slots};
use crate::recover::Permits;
use crate::router::core::Shared;
use crate::router::imprint::Imprint;
use crate::router::slot::Slot;
use crate::router::tab::Tab;
use crate::time::Instant;
use std::sync::Arc;

impl Lease {
    /// Takes everything that an attempt needs, or nothing: `None` when another request was faster.
    pub(in crate::router) fn take(
        shared: &Arc<Shared>,
        berth: &Berth,
        in_hand: &mut Option<Box<Slot>>,
        needs: &Needs<'_>,
    ) -> Option<Self> {
        let (profile, now) = (&berth.ties.profile, needs.now);
        let quote = needs.quote(profile);
        let most = quote.most.map(|most| if is_limited(needs.number) { most } else { 0 });
        let money = shared.spends.hold(needs.facts, most, now)?;
        let Some((entered, stake)) = join(shared, berth, in_hand, needs) else {
            shared.spends.settle(&money, 0, now);
            return None;
        };
        let Entered { held, canary, prefill, work } = entered;
        // Made where it stays: it is large, and every request moves it.
        Some(Self {
            tab: Tab::new(shared, &berth.member, held.1.since()),
            ties: berth.ties.clone(),
            held: Some(held),
            stake: Some(stake),
            money: Some(money),
            quote,
            terms: needs.terms.filter(|_| profile.price.is_none()).map(|terms| (terms.0.clone(), terms.1)),
            request: needs.request,
            number: needs.number,
            hedge: needs.hedge,
            canary,
            limiter: Limiter::Caller,
            started: now,
            deadline: needs.deadline,
            work,
            imprint: Imprint::leave(berth, needs.facts, prefill),
            waiting: true,
            first: None,
            content: 0,
            answered: false,
            excused: false,
            throttles: needs.throttles,
            teaches: None,
        })
    }
}

/// What a backend gave.
struct Entered {
    held: (Ticket, Claim, Permits),
    canary: bool,
    /// Tokens of the prompt that are on the books, and all that are.
    prefill: u64,
    work: u64,
}

/// Takes a call of the shares, and what the backend gives.
fn join(
    shared: &Arc<Shared>,
    berth: &Berth,
    in_hand: &mut Option<Box<Slot>>,
    needs: &Needs<'_>,
) -> Option<(Entered, Stake)> {
    // What it brings of the shares, or takes now.
    let brought = in_hand.as_mut().and_then(|slot| slot.stake.take());
    let is_brought = brought.is_some();
    let stake = brought.or_else(|| {
        let taken = shared.shares.take(needs.cells);
        if taken.disturbed {
            shared.hand_over(None, &Passed::default(), needs.now);
        }
        taken.stake
    })?;
    match (enter(shared, berth, in_hand, needs), in_hand) {
        (Some(entered), _) => Some((entered, stake)),
        (None, Some(slot)) if is_brought => {
            slot.stake = Some(stake);
            None
        }
        (None, _) => {
            shared.shares.give_back(stake);
            shared.hand_over(None, &Passed::default(), needs.now);
            None
        }
    }
}

/// Takes what the backend gives.
fn enter(shared: &Arc<Shared>, berth: &Berth, in_hand: &mut Option<Box<Slot>>, needs: &Needs<'_>) -> Option<Entered> {
    let (member, now) = (&berth.member, needs.now);
    // One number for the books, their release and the latency model: what the decision counted.
    let need = Need::of(needs.facts).without(needs.cached);
    let canary = matches!(needs.note, Some(Reason::Canary));
    if canary && !member.claim_canary(now) {
        return None;
    }
    let trial = matches!(needs.note, Some(Reason::Trial));
    let called = member.gauge.last_called();
    let others = shared.crowd.waiting(member, now);
    let held = member.recovery.enter(&berth.ties, now, trial).and_then(|permits| {
        let slot = in_hand.as_mut().filter(|slot| slot.is_of(member));
        let Some(claim) = slot.and_then(|slot| slot.claim()).or_else(|| member.quotas.take(need, now)) else {
            member.recovery.leave(&berth.ties, permits);
            return None;
        };
        let ticket = match in_hand.take_if(|slot| slot.is_of(member)) {
            Some(slot) => Some(slot.enter(need, now)),
            None => {
                let share = 1000 - needs.kept;
                member.gauge.enter(slots(berth.limit(), share), share, need, now)
            }
        };
        match ticket {
            Some(ticket) => Some((ticket, claim, permits)),
            None => {
                member.quotas.settle(&claim, Spent::Nothing);
                member.recovery.leave(&berth.ties, permits);
                None
            }
        }
    });
    let Some(held) = held else {
        if canary {
            member.return_canary();
        }
        return None;
    };
    if !canary && called != Instant::default() {
        member.note_gap(now.nanos_since(called));
    }
    shared.crowd.note(member, need.prefill, now);
    let work = member.gauge.read().waiting_tokens.saturating_add(others);
    Some(Entered { held, canary, prefill: need.prefill, work })
}
