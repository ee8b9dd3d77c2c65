//! Who gets a share, against the rules by their words.

use super::{Call, Handed, Kind, Passed, Standing, WaitTurn, Waiters, Want, Wished};
use crate::facts::{Facts, Need, Priority};
use crate::limit::shares::{Shares, Stake};
use crate::limit::{Bulkheads, Share};
use crate::rng::Rng;
use crate::sync::Mutex;
use crate::time::Instant;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// Each with what is kept for it, what it is guaranteed, and its maximum; of eight calls.
const TENANTS: [(&str, usize, usize, usize); 5] =
    [("a", 3, 3, 8), ("b", 0, 2, 8), ("c", 0, 0, 2), ("x", 0, 0, 4), ("y", 0, 0, 4)];
const TOTAL: usize = 8;

fn shares() -> Shares {
    let bulkheads = Bulkheads::of(TOTAL as u32, Share::at_most(4)).share("a", Share::at_least(3));
    let bulkheads = bulkheads.share("b", Share::at_least(2).lends(2)).share("c", Share::at_most(2));
    Shares::new(Some(bulkheads), None, 7)
}

/// Whether a tenant with so many calls may have another, and by which right.
fn may(used: &[usize; 5], who: usize) -> Option<bool> {
    let (_, kept, least, most) = TENANTS[who];
    let taken: usize = used.iter().zip(TENANTS).map(|(used, (_, kept, ..))| (*used).max(kept)).sum();
    let free = used[who] < kept || taken < TOTAL;
    (used[who] < most && free).then_some(used[who] < least)
}

#[test]
fn nobody_goes_before_one_with_a_better_right_or_of_a_higher_band() {
    let (shares, waiters) = (shares(), Waiters::<Stake>::new(usize::MAX, HashMap::new()));
    let mut rng = Rng::new(5);
    let mut used = [0usize; 5];
    let mut flying: Vec<(usize, Stake)> = Vec::new();
    let mut waiting: Vec<(usize, Priority, WaitTurn<'_, Stake>)> = Vec::new();
    let (mut handed, mut time) = (0u32, 0u64);
    while handed < 1_000_000 {
        time += 1;
        if waiting.len() < 6 && rng.below(2) == 0 {
            let (who, priority) = (rng.below(5), Priority::ALL[rng.below(4)]);
            let facts = Facts::any().tenant(TENANTS[who].0);
            let cells = shares.cells(&facts);
            let taken = shares.take(cells).stake;
            assert_eq!(taken.is_some(), may(&used, who).is_some(), "{who} of {used:?}");
            if let Some(stake) = taken {
                used[who] += 1;
                flying.push((who, stake));
                continue;
            }
            let (arrival, deadline) = (Instant::from_nanos(time), Instant::from_nanos(time + 100));
            let (tenant, kind, need) = (facts.tenant.clone(), Kind::default(), Need::of(&facts));
            let standing = Standing { priority, tenant, arrival, deadline, cells, kind, need, kept: 0 };
            let mut turn = waiters.join(standing).unwrap();
            assert_eq!(turn.wish(vec![Want::share(cells, Kind::default())]).0, Wished::New);
            waiting.push((who, priority, turn));
        } else if !flying.is_empty() {
            let (who, stake) = flying.swap_remove(rng.below(flying.len()));
            used[who] -= 1;
            shares.give_back(stake);
            let rank = |(who, priority, _): &(usize, Priority, _)| Some((!may(&used, *who)?, Reverse(*priority)));
            let best = waiting.iter().filter_map(rank).min();
            let freed = Instant::from_nanos(time);
            let call = || waiters.call_one(None, (&shares, true), &Passed::default(), freed, |it| it.stake);
            let Some(best) = best else {
                assert_eq!(call(), Handed::Nobody);
                continue;
            };
            assert_eq!(call(), Handed::Share);
            let called = waiting.iter_mut().enumerate().find_map(|(at, (.., turn))| {
                match turn.poll_called(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Call::Slot(stake)) => Some((at, stake)),
                    _ => None,
                }
            });
            let (at, stake) = called.unwrap();
            assert_eq!(rank(&waiting[at]), Some(best), "an inversion");
            let (who, ..) = waiting.swap_remove(at);
            used[who] += 1;
            flying.push((who, stake));
            handed += 1;
            // As many are called as can start.
            assert_eq!(call(), Handed::Nobody);
        }
    }
}

/// Notes who was woken.
struct Bell(usize, Arc<Mutex<Vec<usize>>>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.1.lock().push(self.0);
    }
}

/// How many cells and lanes each look is at, for a share that is freed while so many names wait; `most`: what each may have.
fn looks(names: usize, most: u32) -> usize {
    let tenants = Bulkheads::of(64, Share::at_most(most)).share("a", Share::at_least(4));
    let shares = Shares::new(Some(tenants), None, 7);
    let waiters = Waiters::<Stake>::new(usize::MAX, HashMap::new());
    let woken = Arc::<Mutex<Vec<usize>>>::default();
    let (mut flying, mut waiting) = (std::collections::VecDeque::new(), Vec::new());
    for n in 0..names {
        let facts = Facts::any().tenant(n.to_string());
        let cells = shares.cells(&facts);
        flying.extend(shares.take(cells).stake);
        let (arrival, deadline) = (Instant::from_nanos(n as u64), Instant::from_nanos(n as u64 + 100));
        let (priority, tenant, kind) = (Priority::Standard, facts.tenant.clone(), Kind::of(&facts, 0));
        let need = Need::default();
        let standing = Standing { priority, tenant, arrival, deadline, cells, kind, need, kept: 0 };
        let mut turn = waiters.join(standing).unwrap();
        turn.wish(vec![Want::share(cells, kind)]);
        let waker = Waker::from(Arc::new(Bell(n, woken.clone())));
        assert!(turn.poll_called(&mut Context::from_waker(&waker)).is_pending());
        waiting.push(Some(turn));
    }
    let call = || waiters.call_one(None, (&shares, true), &Passed::default(), Instant::from_nanos(1), |it| it.stake);
    let before = waiters.queue.lock().order.looks();
    for _ in 0..200 {
        shares.give_back(flying.pop_front().unwrap());
        // The first leaves with it in its hands, so it is for the next.
        for stays in [false, true] {
            assert_eq!(call(), Handed::Share);
            let mut turn = waiting[woken.lock().pop().unwrap()].take().unwrap();
            match turn.poll_called(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Call::Slot(stake)) if stays => flying.push_back(stake),
                Poll::Ready(Call::Slot(stake)) => shares.give_back(stake),
                other => panic!("{other:?} for who was woken"),
            }
        }
        assert_eq!(call(), Handed::Nobody);
    }
    (waiters.queue.lock().order.looks() - before) / 600
}

#[test]
fn what_a_share_looks_at_does_not_grow_with_the_names_that_wait() {
    for most in [1, 8] {
        let [few, many] = [1_000, 100_000].map(|names| looks(names, most));
        assert!(many <= 2 * few.max(4) && many <= 64, "at most {most} each: {few} looks, and {many}");
    }
}
