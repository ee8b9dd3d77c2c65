//! Who is next: priority, then the tenant's turn, then the deadline.

use super::fleet;
use crate::support::{ANSWER, Act, Reply, Task, World, always, ms, secs, within};
use fallway::facts::Priority;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::rng::Rng;
use fallway::router::{Step, Trip};
use fallway::{CallOptions, Facts, Profile};
use std::task::{Context, Poll};
use std::time::Duration;

const BANDS: [Priority; 4] = [Priority::Batch, Priority::Sheddable, Priority::Standard, Priority::Critical];

fn of(tenant: &str, total: Duration) -> CallOptions {
    CallOptions::within(total).facts(Facts::any().tenant(tenant).replay_safe())
}

#[test]
fn priority_then_deadline() {
    let world = World::new();
    let (router, _) = fleet(&world, [(Profile::new("a").concurrency(1), always(ANSWER))]);
    let first = world.ask(&router, within(secs(60)));
    world.settle();
    let waits = [
        (Priority::Batch, 1),
        (Priority::Standard, 30),
        (Priority::Critical, 40),
        (Priority::Standard, 20),
        (Priority::Sheddable, 2),
        (Priority::Standard, 30),
    ]
    .map(|(priority, total)| {
        let facts = Facts::any().priority(priority).replay_safe();
        world.ask(&router, CallOptions::within(secs(total)).facts(facts))
    });
    world.settle();
    assert_eq!(router.waiting(), 6);
    world.run();
    assert_eq!(first.take().took, ms(20));
    assert_eq!(waits.map(|call| call.take().took), [140, 80, 40, 60, 120, 100].map(ms));
    assert_eq!((router.waiting(), router.total_in_flight()), (0, 0));
}

#[test]
fn a_burst_of_one_tenant_is_its_own_affair() {
    // One slot, 50 a second; 300 at once of one tenant, five a second of another.
    for (name, burst) in [("alone", 0), ("beside a burst", 300)] {
        let world = World::new();
        let (router, _) = fleet(&world, [(Profile::new("a").concurrency(1), always(ANSWER))]);
        let crowd: Vec<_> = (0..burst).map(|_| world.ask(&router, of("burst", secs(60)))).collect();
        let mut others = Vec::new();
        for _ in 0..30 {
            others.push(world.ask(&router, of("other", secs(60))));
            world.run_for(ms(200));
        }
        world.run();
        let slowest = others.into_iter().map(|call| call.take().took).max().unwrap();
        assert!(slowest <= ms(60), "{name}: {slowest:?}");
        assert!(crowd.into_iter().map(Task::take).all(|answer| answer.ok()));
    }
}

#[test]
fn shares_of_a_slot_are_as_the_weights() {
    let world = World::new();
    let builder = world.router(ordered().fail_safe(FailSafe::default())).tenant_weight("three", 3);
    let (router, _) = world.fleet(builder, [(Profile::new("a").concurrency(1), always(ANSWER))]);
    // More than can be served in six seconds, of each.
    let mut calls = ["one", "three", "uno"]
        .map(|tenant| (0..300).map(|_| world.ask(&router, of(tenant, secs(60)))).collect::<Vec<_>>());
    world.run_for(secs(6));
    let served = calls.each_mut().map(|calls| calls.iter().filter(|call| call.is_done()).count());
    assert!(served[1].abs_diff(180) <= 3 && served[0].abs_diff(60) <= 3 && served[2].abs_diff(60) <= 3, "{served:?}");
}

#[test]
fn who_has_time_is_overtaken_until_it_has_none() {
    // A full slot, and always somebody in more of a hurry: who has ten seconds starts when its deadline is the nearest.
    let world = World::new();
    let (router, _) = fleet(&world, [(Profile::new("a").concurrency(1), always(ANSWER))]);
    let hold = world.ask(&router, within(secs(1)));
    world.settle();
    let patient = world.ask(&router, within(secs(10)));
    let mut hurried = Vec::new();
    for _ in 0..600 {
        hurried.push(world.ask(&router, within(secs(1))));
        world.run_for(ms(20));
    }
    world.run();
    let patient = patient.take();
    assert!(patient.ok() && patient.took > ms(8_900) && patient.took < secs(10), "{:?}", patient.took);
    assert!(hold.take().ok() && hurried.into_iter().map(Task::take).all(|answer| answer.ok()));
}

#[test]
fn a_retry_keeps_its_place() {
    use fallway::FailureKind::Overloaded;
    // It fails on `b` and then waits for `a`, where two wait that came later and have as much time.
    let world = World::new();
    let members = [
        (Profile::new("a").model("a").concurrency(1), always(Act::Answer(ms(100)))),
        (Profile::new("b").model("b"), always(Act::Fail(Overloaded, ms(30)))),
    ];
    let config = FailSafe::default().tiers("chat", ["b", "a"]);
    let (router, _) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let model = |name: &str| CallOptions::within(secs(5)).facts(Facts::model(name).replay_safe());
    let hold = world.ask(&router, model("a"));
    world.settle();
    let retried = world.ask(&router, model("chat"));
    world.run_for(ms(1));
    let later = [(); 2].map(|()| world.ask(&router, model("a")));
    world.run();
    assert!(hold.take().ok());
    assert_eq!((retried.take().took, later.map(|call| call.take().took)), (ms(200), [ms(299), ms(399)]));
}

/// A request, as the test knows it.
struct Caller<'r> {
    trip: Trip<'r, str, Reply>,
    priority: Priority,
    tenant: usize,
    deadline: u64,
    holds: bool,
}

/// Random arrivals, ends and departures at few slots. At each end of a call exactly one is woken if anybody waits, it can
/// start, nobody of higher priority waits, and nobody of the same priority and tenant has less time. Returns how many
/// were woken.
fn play(seed: u64) -> usize {
    let (world, mut rng) = (World::new(), Rng::new(seed));
    let members = ["a", "b"].map(|id| (Profile::new(id).concurrency(1 + rng.below(2) as u32), always(ANSWER)));
    let (router, _) = fleet(&world, members);
    let mut callers: Vec<Caller<'_>> = Vec::new();
    let (mut woken, start) = (0, world.now());
    let mut cx = Context::from_waker(std::task::Waker::noop());
    for step in 1..100 {
        let now = start + ms(step);
        match rng.below(5) {
            0..=2 => {
                let (priority, tenant) = (BANDS[rng.below(4)], rng.below(3));
                let deadline = 1_000 + rng.below(50) as u64;
                let facts = Facts::any().priority(priority).tenant(tenant.to_string());
                let mut trip = router.trip(CallOptions::within(ms(deadline)).facts(facts), now);
                let holds = matches!(trip.next(now), Ok(Step::Call(_)));
                assert!(!holds || callers.iter().all(|other| other.holds), "seed {seed}: it overtakes");
                callers.push(Caller { trip, priority, tenant, deadline: deadline + step, holds });
                assert!(holds || callers.last_mut().unwrap().trip.poll_called(&mut cx).is_pending());
            }
            3 if callers.iter().any(|caller| caller.holds) => {
                // An end, or a caller who goes away.
                let holders: Vec<_> = (0..callers.len()).filter(|n| callers[*n].holds).collect();
                let mut ended = callers.swap_remove(holders[rng.below(holders.len())]);
                if rng.below(3) > 0 {
                    ended.trip.answered(1, now);
                    ended.trip.finish(now);
                }
                drop(ended);
                let waiting = callers.iter().filter(|caller| !caller.holds).count();
                let called: Vec<_> = (0..callers.len())
                    .filter(|n| !callers[*n].holds && callers[*n].trip.poll_called(&mut cx) == Poll::Ready(()))
                    .collect();
                assert_eq!(called.len(), waiting.min(1), "seed {seed}: as many as can start");
                let Some(first) = called.first().copied() else { continue };
                let who = &callers[first];
                for other in callers.iter().filter(|caller| !caller.holds) {
                    assert!(other.priority <= who.priority, "seed {seed}: an inversion");
                    let same = other.priority == who.priority && other.tenant == who.tenant;
                    assert!(!same || other.deadline >= who.deadline, "seed {seed}: not the earliest deadline");
                }
                let step = callers[first].trip.next(now);
                assert!(matches!(step, Ok(Step::Call(_))), "seed {seed}: woken in vain");
                callers[first].holds = true;
                woken += 1;
            }
            4 if rng.below(3) == 0 => {
                // One that waits goes away.
                if let Some(leaves) = callers.iter().position(|caller| !caller.holds) {
                    callers.swap_remove(leaves);
                }
            }
            _ => {}
        }
    }
    drop(callers);
    assert_eq!((router.waiting(), router.total_in_flight()), (0, 0), "seed {seed}");
    woken
}

#[test]
fn no_inversion_and_nobody_is_woken_in_vain() {
    // FALLWAY_CASES=1000000 for a million.
    let cases = std::env::var("FALLWAY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let (mut woken, mut seed) = (0, 0);
    while woken < cases {
        woken += play(seed);
        seed += 1;
    }
}
