//! The queue as the router uses it.

mod kept;
mod passed;

use super::*;
use crate::facts::{Need, Priority, Profile};
use crate::limit::shares::Cells;
use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll, Wake, Waker};

const A: BackendId = BackendId::new(0, 0);
const B: BackendId = BackendId::new(1, 0);
const C: BackendId = BackendId::new(2, 0);

const fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

const fn slot_of(backend: BackendId) -> Want {
    Want { backend, lack: Lack::Slot }
}

fn standing(priority: Priority, tenant: &str, arrival: u64, deadline: u64) -> Standing {
    let tenant = (!tenant.is_empty()).then(|| tenant.into());
    Standing {
        priority,
        tenant,
        arrival: at(arrival),
        deadline: at(deadline),
        cells: Cells::default(),
        kind: Kind::default(),
        need: Need::default(),
        kept: 0,
    }
}

fn queue<S>(bound: usize, weights: &[(&str, u32)]) -> Waiters<S> {
    Waiters::new(bound, weights.iter().map(|(tenant, weight)| ((*tenant).into(), *weight)).collect())
}

fn wait<'w, S>(waiters: &'w Waiters<S>, standing: Standing, wants: &[BackendId]) -> WaitTurn<'w, S> {
    let mut turn = waiters.join(standing).expect("there is a place");
    turn.wish(wants.iter().copied().map(slot_of).collect());
    turn
}

fn called<S>(turn: &mut WaitTurn<'_, S>) -> Option<Call<S>> {
    match turn.poll_called(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(call) => Some(call),
        Poll::Pending => None,
    }
}

fn fetched<S>(turn: &mut WaitTurn<'_, S>) -> Option<S> {
    match called(turn) {
        Some(Call::Slot(slot)) => Some(slot),
        _ => None,
    }
}

fn has_slot<S>(turn: &mut WaitTurn<'_, S>) -> bool {
    fetched(turn).is_some()
}

fn is_shed<S>(turn: &mut WaitTurn<'_, S>) -> bool {
    matches!(called(turn), Some(Call::Shed))
}

/// Frees a slot where nothing is divided.
pub(super) fn call_one<S>(
    waiters: &Waiters<S>,
    backend: BackendId,
    passed: &Passed,
    freed: Instant,
    slot: impl FnOnce(Passed) -> S,
) -> Handed {
    let (undivided, unlimited) = (Shares::new(None, None, 0), Gauge::default());
    let at = Freed { backend, gauge: &unlimited, quotas: &Quotas::default(), asked: false };
    waiters.call_one(Some(at), (&undivided, true), passed, freed, |given| slot(given.passed))
}

/// Frees a slot of `A`, and says which of the turns got it.
fn serve(waiters: &Waiters<()>, turns: &mut BTreeMap<usize, WaitTurn<'_, ()>>) -> Option<usize> {
    call_one(waiters, A, &Passed::default(), at(0), |_| ());
    let who = turns.iter_mut().find_map(|(who, turn)| has_slot(turn).then_some(*who))?;
    turns.remove(&who);
    Some(who)
}

/// The order in which these are served.
fn served(weights: &[(&str, u32)], standings: impl IntoIterator<Item = Standing>) -> Vec<usize> {
    let waiters = queue(usize::MAX, weights);
    let mut turns = standings.into_iter().map(|standing| wait(&waiters, standing, &[A])).enumerate().collect();
    std::iter::from_fn(|| serve(&waiters, &mut turns)).collect()
}

#[test]
fn a_call_between_look_and_sleep_is_kept() {
    let waiters = queue(2, &[]);
    let mut turns = [0, 1].map(|n| waiters.join(standing(Priority::Standard, "", n, 9)).unwrap());
    assert!(waiters.join(standing(Priority::Standard, "", 2, 9)).is_none());
    let [first, second] = &mut turns;
    assert_eq!([first.wish(vec![slot_of(A)]).0, first.wish(vec![slot_of(A)]).0], [Wished::New, Wished::Known]);
    assert_eq!(second.wish(vec![slot_of(A)]).0, Wished::New);
    call_one(&waiters, A, &Passed::default(), at(0), |_| 1);
    call_one(&waiters, A, &Passed::default(), at(0), |_| 2);
    call_one(&waiters, A, &Passed::default(), at(0), |_| panic!("nobody is left"));
    assert_eq!((fetched(first), fetched(second)), (Some(1), Some(2)));
    assert_eq!((fetched(first), fetched(second)), (None, None));
}

#[test]
fn wishes_add_up_until_it_is_called() {
    let waiters = queue(2, &[]);
    let mut turn = waiters.join(standing(Priority::Standard, "", 0, 9)).unwrap();
    let all = [[A, B], [B, B], [B, C], [A, C]].map(|wants| wants.map(slot_of).to_vec());
    let said = all.map(|wants| turn.wish(wants).0);
    assert_eq!(said, [Wished::New, Wished::Known, Wished::New, Wished::Known]);
    call_one(&waiters, C, &Passed::default(), at(0), |_| ());
    assert!(has_slot(&mut turn));
    assert_eq!(turn.wish(vec![slot_of(A)]).0, Wished::New);
}

/// Notes who was woken.
struct Bell(usize, Arc<Mutex<Vec<usize>>>);
impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.1.lock().push(self.0);
    }
}

#[test]
fn news_wake_the_first_first() {
    let waiters = queue::<()>(8, &[]);
    let standings = [
        (Priority::Batch, "x", 1),
        (Priority::Standard, "x", 7),
        (Priority::Standard, "x", 6),
        (Priority::Standard, "y", 9),
        (Priority::Critical, "y", 9),
    ];
    let woken = Arc::<Mutex<Vec<_>>>::default();
    let mut turns = Vec::new();
    for (n, (priority, tenant, deadline)) in standings.into_iter().enumerate() {
        let mut turn = wait(&waiters, standing(priority, tenant, n as u64, deadline), &[A]);
        let waker = Waker::from(Arc::new(Bell(n, woken.clone())));
        assert!(turn.poll_called(&mut Context::from_waker(&waker)).is_pending());
        turns.push(turn);
    }
    waiters.call_all();
    assert_eq!(*woken.lock(), [4, 2, 3, 1, 0]);
}

#[test]
fn a_slot_goes_to_one_who_wants_it_and_news_to_all() {
    let waiters = queue(4, &[]);
    let mut turns =
        [vec![A], vec![B], vec![A], vec![]].map(|wants| wait(&waiters, standing(Priority::Standard, "", 0, 9), &wants));
    call_one(&waiters, B, &Passed::default(), at(0), |_| ());
    assert_eq!(turns.each_mut().map(has_slot), [false, true, false, false]);
    // News take nobody's slot away, and reach who is deciding.
    call_one(&waiters, A, &Passed::default(), at(0), |_| ());
    waiters.call_all();
    assert!(has_slot(&mut turns[0]));
    assert!(turns[1..].iter_mut().all(|turn| matches!(called(turn), Some(Call::News))));
    // Who was called wants nothing until it has looked.
    call_one(&waiters, A, &Passed::default(), at(0), |_| panic!("nobody wants it"));
}

#[test]
fn higher_bands_first_and_the_earliest_deadline_inside() {
    let standings = [
        (Priority::Batch, 1),
        (Priority::Standard, 30),
        (Priority::Critical, 90),
        (Priority::Standard, 20),
        (Priority::Sheddable, 5),
        (Priority::Standard, 30),
    ];
    let standings = (0..).zip(standings).map(|(n, (priority, deadline))| standing(priority, "", n, deadline));
    assert_eq!(served(&[], standings), [2, 3, 1, 5, 4, 0]);
}

#[test]
fn nobody_begins_a_turn_anew_because_all_were_called() {
    let (waiters, woken) = (queue::<()>(usize::MAX, &[("heavy", 4)]), Arc::<Mutex<Vec<_>>>::default());
    let sleep = |n: usize, turn: &mut WaitTurn<'_, ()>| {
        turn.wish(vec![slot_of(A)]);
        let waker = Waker::from(Arc::new(Bell(n, woken.clone())));
        assert!(turn.poll_called(&mut Context::from_waker(&waker)).is_pending());
    };
    let mut turns = BTreeMap::new();
    for n in 0..80 {
        let standing = standing(Priority::Standard, ["heavy", "light"][n % 2], n as u64, 90);
        let mut turn = waiters.join(standing).unwrap();
        sleep(n, &mut turn);
        turns.insert(n, turn);
    }
    let mut of_light = 0;
    for n in 1..=40 {
        call_one(&waiters, A, &Passed::default(), at(0), |_| ());
        let who = woken.lock().pop().unwrap();
        assert!(has_slot(&mut turns.remove(&who).unwrap()));
        of_light += who % 2;
        if n % 3 == 0 {
            waiters.call_all();
            // They look in the order in which they were called.
            let called_all = std::mem::take(&mut *woken.lock());
            for who in called_all {
                let turn = turns.get_mut(&who).unwrap();
                assert!(called(turn).is_some());
                sleep(who, turn);
            }
        }
    }
    assert_eq!(of_light, 8, "one in five");
}

#[test]
fn tenants_take_turns_by_weight() {
    // Thirty of one, then six of each of two others: the burst waits for itself.
    let burst = (0..30).map(|n| standing(Priority::Standard, "burst", n, 1));
    let others = (0..12).map(|n| standing(Priority::Standard, ["b", "c"][n % 2], 100, 1_000));
    let order = served(&[("b", 2)], burst.chain(others));
    let who = |n: &usize| if *n < 30 { 'a' } else { ['b', 'c'][*n % 2] };
    let order: String = order.iter().map(who).collect();
    assert_eq!(&order[..24], "abbcabbcabbcacacacaaaaaa");
}

#[test]
fn a_tenant_that_asks_again_at_once_gets_no_more_than_its_turn() {
    let waiters = queue(usize::MAX, &[]);
    let many = |n| standing(Priority::Standard, "many", n, 1_000);
    let mut turns: BTreeMap<_, _> = (0..100).map(|n| (n as usize, wait(&waiters, many(n), &[A]))).collect();
    let mut order = String::new();
    for n in 100..150 {
        // Always just one, and always in more of a hurry.
        turns.entry(usize::MAX).or_insert_with(|| wait(&waiters, standing(Priority::Standard, "one", n, 1), &[A]));
        order.push(if serve(&waiters, &mut turns) == Some(usize::MAX) { '1' } else { '.' });
    }
    assert_eq!(order, ".1".repeat(25));
}

#[test]
fn a_full_queue_sheds_the_newest_of_the_lowest_band_and_of_the_largest_crowd() {
    let waiters: Waiters<()> = queue(4, &[("big", 2)]);
    let join = |priority, tenant, arrival| {
        let mut turn = waiters.join(standing(priority, tenant, arrival, 9))?;
        turn.wish(vec![slot_of(A)]);
        Some(turn)
    };
    let mut standard: Vec<_> = (0..2).map(|n| join(Priority::Standard, "", n).unwrap()).collect();
    let mut batch: Vec<_> = (2..4).map(|n| join(Priority::Batch, "", n).unwrap()).collect();
    assert!(join(Priority::Batch, "", 4).is_none(), "it is the newest itself");
    // One that failed elsewhere first came before: it keeps its place, and the newest goes.
    let mut early = join(Priority::Batch, "", 1).unwrap();
    assert_eq!([is_shed(&mut batch[0]), is_shed(&mut batch[1]), is_shed(&mut early)], [false, true, false]);
    let critical = [5, 6].map(|n| join(Priority::Critical, "", n).unwrap());
    assert!(is_shed(&mut batch[0]) && is_shed(&mut early));
    // Only those are left that do not give way: two of one tenant, until another comes that has fewer.
    assert!(join(Priority::Standard, "", 7).is_none() && join(Priority::Sheddable, "x", 7).is_none());
    let x = join(Priority::Standard, "x", 8).unwrap();
    assert_eq!([is_shed(&mut standard[0]), is_shed(&mut standard[1])], [false, true]);
    assert!(join(Priority::Standard, "y", 9).is_none() && join(Priority::Standard, "x", 9).is_none());
    assert!(join(Priority::Standard, "big", 9).is_some(), "half as crowded as the others");
    assert!(waiters.len() <= 4);
    drop((standard, batch, early, critical, x));
    assert_eq!((waiters.len(), waiters.queue.lock().order.size()), (0, 0));
}

#[test]
fn who_was_shed_while_it_decides_finds_out() {
    let waiters: Waiters<()> = queue(1, &[]);
    let mut low = wait(&waiters, standing(Priority::Batch, "", 0, 9), &[A]);
    let high = waiters.join(standing(Priority::Critical, "", 1, 9)).unwrap();
    assert_eq!(low.wish(vec![slot_of(B)]).0, Wished::Shed);
    assert!(is_shed(&mut low) && is_shed(&mut low));
    drop(high);
    assert_eq!(waiters.len(), 0);
}

#[test]
fn one_speaks_for_all_who_wait_for_the_same() {
    let waiters = queue(usize::MAX, &[]);
    let room = Want { backend: A, lack: Lack::Room };
    let mut turns: Vec<_> = (0..5)
        .map(|n| {
            let mut turn = waiters.join(standing(Priority::Standard, "", n, 9)).unwrap();
            turn.wish(if n < 3 { vec![room] } else { vec![slot_of(A)] });
            turn
        })
        .collect();
    let mut passed = Passed::default();
    let mut asked = Vec::new();
    for alike in [true, false, false] {
        call_one(&waiters, A, &passed, at(0), |_| ());
        let Some(who) = turns.iter_mut().position(has_slot) else { break };
        turns[who].pass(&mut passed, Some(A), alike, at(0));
        asked.push(who);
    }
    assert_eq!(asked, [0, 3, 4]);
    call_one(&waiters, A, &passed, at(0), |_: Passed| -> () { panic!("nobody is left to ask") });
}

#[test]
fn tenants_without_end_leave_nothing_behind() {
    let waiters: Waiters<()> = queue(64, &[]);
    let mut turns = VecDeque::new();
    for n in 0..200_000u64 {
        if let Some(turn) = waiters.join(standing(Priority::ALL[n as usize % 4], &n.to_string(), n, 9)) {
            turns.push_back(turn);
            turns.back_mut().unwrap().wish(vec![slot_of(A)]);
        }
        if n % 3 == 0 {
            call_one(&waiters, A, &Passed::default(), at(n), |_| ());
            turns.retain_mut(|turn| called(turn).is_none());
        }
    }
    let queue = waiters.queue.lock();
    assert!(queue.order.size() <= 64 * 8 && queue.places.capacity() <= 512, "{}", queue.order.size());
    drop(queue);
    drop(turns);
    assert_eq!(waiters.queue.lock().order.size(), 0);
}

#[test]
fn it_predicts_from_the_pace_of_the_own_line() {
    let waiters = queue(usize::MAX, &[]);
    let due = |deadline| standing(Priority::Standard, "", 0, deadline);
    let mut turns: BTreeMap<_, _> = (0..100).map(|n| (n as usize, wait(&waiters, due(1_000 + n), &[A]))).collect();
    for n in 0..9 {
        assert_eq!(waiters.predicted(&due(2_000), &[slot_of(A)]), None);
        call_one(&waiters, A, &Passed::default(), at(n * 10), |_| ());
        turns.retain(|_, turn| !has_slot(turn));
    }
    assert_eq!(waiters.predicted(&due(2_000), &[slot_of(A)]), Some((91, at(80 + 920))));
    assert_eq!(waiters.predicted(&due(1_050), &[slot_of(A)]), Some((42, at(80 + 430))));
    // Those before it have no time left by then.
    for n in 100..200 {
        turns.insert(n, wait(&waiters, due(1_099), &[A]));
    }
    assert_eq!(waiters.predicted(&due(2_000), &[slot_of(A)]), Some((191, at(1_099 + 10))));
    // Others know nothing of it: another tenant, another band, other backends.
    let other = standing(Priority::Standard, "x", 0, 2_000);
    let lower = standing(Priority::Batch, "", 0, 2_000);
    assert_eq!(waiters.predicted(&other, &[slot_of(A)]), None);
    assert_eq!(waiters.predicted(&lower, &[slot_of(A)]), None);
    assert_eq!(waiters.predicted(&due(2_000), &[slot_of(B)]), None);
}

/// How many lanes each slot is looked for in, where so many tenants have a shard each that `A` is part of.
fn looks(shards: u32) -> usize {
    let waiters = queue(usize::MAX, &[]);
    let mut turns = Vec::new();
    for n in 0..4 * shards {
        let (shard, priority) = (n % shards, Priority::ALL[1 + (n / shards) as usize % 2]);
        let standing = standing(priority, &shard.to_string(), n.into(), 1_000_000);
        turns.push(wait(&waiters, standing, &[A, BackendId::new(1 + shard, 0)]));
    }
    let before = waiters.queue.lock().order.looks();
    for n in 0..shards {
        call_one(&waiters, A, &Passed::default(), at(0), |_| ());
        // Here the turns of tenants move on, and `A` does not see that.
        call_one(&waiters, BackendId::new(1 + n * 7 % shards, 0), &Passed::default(), at(0), |_| ());
    }
    let looks = waiters.queue.lock().order.looks() - before;
    let handed = turns.iter_mut().filter_map(fetched).count();
    assert_eq!(handed, 2 * shards as usize);
    looks / handed
}

#[test]
fn what_a_slot_looks_at_does_not_grow_with_the_shards_of_its_backend() {
    let [few, many] = [10, 3_000].map(looks);
    assert!(many <= few + 1 && many <= 4, "{few} looks for each slot, and {many}");
}

#[test]
fn what_calls_of_a_tenant_take_is_known_to_those_behind_them() {
    let waiters = queue::<()>(usize::MAX, &[]);
    let of = |tenant: &str| standing(Priority::Standard, tenant, 0, 1_000);
    let mut turns = ["a", "a", "b"].map(|tenant| wait(&waiters, of(tenant), &[A]));
    let latest = |turn: &WaitTurn<'_, ()>| turn.call_time().map(|time| time.latest(at(0), at(1_000)));
    turns[0].call_time().unwrap().cut(std::time::Duration::from_nanos(200));
    assert_eq!(turns.each_ref().map(latest), [Some(at(700)), Some(at(700)), Some(at(1_000))]);
    assert_eq!(["a", "b", "c"].map(|tenant| waiters.latest(&of(tenant))), [at(700), at(1_000), at(1_000)]);
    // Nobody stands in line after all were called, and what was known is known still; a newcomer that is there first learns it.
    waiters.call_all();
    let newcomer = wait(&waiters, of("a"), &[A]);
    assert_eq!(latest(&newcomer), Some(at(1_000)));
    let [first, second, other] = &mut turns;
    for turn in [second, first, other] {
        assert!(matches!(called(turn), Some(Call::News)));
        turn.wish(vec![slot_of(A)]);
    }
    assert_eq!(turns.each_ref().map(latest), [Some(at(700)), Some(at(700)), Some(at(1_000))]);
    assert_eq!(latest(&newcomer), Some(at(700)));
    // It is forgotten with the last that waits.
    let [first, second, other] = turns;
    drop((first, second, newcomer));
    assert_eq!(["a", "b"].map(|tenant| waiters.latest(&of(tenant))), [at(1_000), at(1_000)]);
    drop(other);
}
