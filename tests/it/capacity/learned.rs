//! Limits that are learned.

use super::{of, takes};
use crate::support::{
    ANSWER, Act, Answer, Cue, Load, Log, Reply, Script, Scripted, Step, Task, TestRouter, Told, World,
};
use crate::support::{always, fail, ms, ok_share, percentile, secs, tries, within};
use fallway::FailureKind::{self, Overloaded, RateLimited, Timeout};
use fallway::decision::{Candidate, Reason};
use fallway::event::{Event, Observer};
use fallway::facts::{Adaptive, Priority};
use fallway::policy::{Capacity, FailSafe, PolicyExt, Regions, least_loaded, predicted_ttft};
use fallway::recover::Ejection;
use fallway::router::Builder;
use fallway::time::Instant;
use fallway::{Profile, RoutingPolicy};
use futures::StreamExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn stack() -> impl RoutingPolicy + 'static {
    predicted_ttft().capacity_aware(Capacity::default()).fail_safe(FailSafe::default())
}

/// Takes so many calls at once, and does not say when to come back.
fn blunt(limit: u32) -> Script {
    Box::new(move |cue: &Cue<'_>| match cue.in_flight <= limit {
        true => Act::Answer(ms(100)),
        false => Act::Fail(Overloaded, Duration::from_micros(500)),
    })
}

/// The gateway's line: limits of 2, 4 and 16, at a share of what they take together.
fn line(
    seed: u64,
    share: f64,
    script: fn(u32) -> Script,
    profile: fn(Profile, u32) -> Profile,
) -> (Vec<Answer>, [Scripted; 3]) {
    let world = World::new();
    let members = [("a", 2), ("b", 4), ("c", 16)].map(|(id, limit)| (profile(Profile::new(id), limit), script(limit)));
    let (router, backends) = world.fleet(world.router(stack()).seed(seed), members);
    let per_second = (220.0 * share) as u32;
    let load = Load { per_second, lasts: secs(10), seed };
    (load.run(&world, &router, &within(secs(60))), backends)
}

/// Refusals per hundred requests.
fn refusals(answers: &[Answer]) -> f64 {
    (tries(answers) - 1.0) * 100.0
}

#[test]
fn limits_that_are_known_are_kept_without_a_refusal() {
    for seed in 1..=10 {
        let (answers, backends) = line(seed, 0.55, takes, |profile, limit| profile.concurrency(limit));
        assert_eq!((ok_share(&answers), refusals(&answers)), (1.0, 0.0), "seed {seed}");
        assert!(percentile(&answers, 0.99) <= ms(105), "seed {seed}: {:?}", percentile(&answers, 0.99));
        let peaks = backends.each_ref().map(|backend| backend.backstage().peak());
        assert!(peaks[0] <= 2 && peaks[1] <= 4 && peaks[2] <= 16, "{peaks:?}");
    }
}

#[test]
fn limits_that_are_learned_cost_few_refusals() {
    for how in [takes as fn(u32) -> Script, blunt] {
        for seed in 1..=10 {
            let (answers, _) = line(seed, 0.55, how, |profile, _| profile.adaptive_concurrency(Adaptive::Aimd));
            let (ok, refused) = (ok_share(&answers), refusals(&answers));
            assert!(ok >= 0.99 && refused <= 5.0, "seed {seed}: ok {ok}, {refused} refusals per 100");
        }
    }
}

/// What is learned of each backend.
fn learned(router: &TestRouter) -> Vec<Option<u32>> {
    let decision = router.explain(&of(Priority::Critical));
    let limit = |candidate: Candidate<'_>| match candidate.rejected() {
        Some(Reason::AtCapacity { limit, .. }) => Some(limit),
        _ => candidate.load().and_then(|load| load.learned_limit),
    };
    decision.candidates().map(limit).collect()
}

/// One attempt for each request, and nobody rests.
fn once(world: &World) -> Builder<str, Reply> {
    world.router(least_loaded().fail_safe(FailSafe::default().attempts(1))).ejection(Ejection::off())
}

fn adaptive(id: &str) -> Profile {
    Profile::new(id).adaptive_concurrency(Adaptive::Aimd)
}

/// So many calls at once, whose answers are let go.
fn burst(world: &World, router: &TestRouter, calls: usize) -> Vec<Task<bool>> {
    let call = |_| {
        let router = router.clone();
        world.spawn(async move { router.call("ask", within(secs(600))).await.is_ok() })
    };
    (0..calls).map(call).collect()
}

#[test]
fn only_refusals_teach() {
    for kind in FailureKind::ALL {
        let refuses = matches!(kind, RateLimited | Overloaded | Timeout);
        let world = World::new();
        let router = world.fleet(once(&world), [(adaptive("a"), always(Act::Fail(kind, ms(10))))]).0;
        burst(&world, &router, 8);
        world.run();
        // The first that ends was alone when it was sent, the second was not; those behind it were sent with it.
        assert_eq!(learned(&router), [refuses.then_some(1)], "{kind}");
        // Who does not ask for it has no such limit.
        let router = world.fleet(once(&world), [(Profile::new("a"), always(Act::Fail(kind, ms(10))))]).0;
        burst(&world, &router, 8);
        world.run();
        assert_eq!(learned(&router), [None], "{kind}");
    }
}

#[test]
fn a_timeout_teaches_where_the_peers_have_none() {
    let play = |hangs: fn(&str) -> bool| {
        let world = World::new();
        let act = |id| if hangs(id) { Act::Hang } else { ANSWER };
        let members = ["a", "b", "c"].map(|id| (adaptive(id).attempt_limit(secs(1)), always(act(id))));
        // Nobody is taken out, and timeouts are compared all the same.
        let patient = Ejection::default().consecutive(u32::MAX).failure_rate(None);
        let router = world.fleet(once(&world).ejection(patient), members).0;
        let mut seen = Vec::new();
        for _ in 0..6 {
            burst(&world, &router, 30);
            world.run();
            seen.push(learned(&router));
        }
        seen
    };
    let one = play(|id| id == "a");
    assert!(one[5][0].is_some() && one[5][1..] == [None, None], "{one:?}");
    // Where all of them time out, the fleet has too much to do.
    let all = play(|_| true);
    assert_eq!(all[5], [None, None, None]);
}

/// Refuses one call, the tenth, and answers the others after 100 ms.
fn tenth() -> Script {
    Box::new(|cue: &Cue<'_>| if cue.call == 9 { fail(Overloaded) } else { Act::Answer(ms(100)) })
}

#[test]
fn a_limit_that_grows_wakes_one_for_each_slot() {
    let world = World::new();
    let log = Log::default();
    let (router, [a]) = world.fleet(once(&world).observer(log.clone()), [(adaptive("a"), tenth())]);
    burst(&world, &router, 10);
    world.run();
    assert_eq!(learned(&router), [Some(9)]);
    let decided = || log.count(|told| matches!(told, Told::Decided(_)));
    let before = decided();
    let tasks = burst(&world, &router, 400);
    let mut most = 0;
    world.settle();
    while router.waiting() > 0 {
        // Nobody waits while there is room.
        assert_eq!(router.in_flight("a"), learned(&router)[0]);
        most = most.max(router.in_flight("a").unwrap());
        world.run_for(ms(10));
    }
    world.run();
    assert!(tasks.into_iter().all(Task::take));
    assert_eq!((most, a.calls()), (16, 410));
    // At once for nine; the others decide to wait, look once more, and decide when their slot is there.
    assert_eq!(decided() - before, 9 + 391 * 3);
}

#[test]
fn a_limit_that_a_first_item_raises_is_used_while_the_answers_go_on() {
    // Nine are good, and then two of a quiet hour are one too many: half of it, which each answer raises by one.
    let refused = |call| call == 9 || call == 11;
    let answer = |call| if call < 12 { ANSWER } else { Act::Stream(ms(100), vec![Step::Item, Step::Pause(secs(9))]) };
    let script: Script =
        Box::new(move |cue: &Cue<'_>| if refused(cue.call) { fail(Overloaded) } else { answer(cue.call) });
    let world = World::new();
    let (router, [a]) = world.fleet(once(&world), [(adaptive("a"), script)]);
    for (calls, limit) in [(10, 9), (2, 4)] {
        burst(&world, &router, calls);
        world.run();
        assert_eq!(learned(&router), [Some(limit)]);
    }
    let stream = |_| {
        let router = router.clone();
        world.spawn(async move { router.stream("ask", within(secs(600))).await.unwrap().count().await })
    };
    let streams: Vec<_> = (0..20).map(stream).collect();
    world.run_for(ms(99));
    assert_eq!((a.backstage().in_flight(), router.waiting()), (4, 16));
    // The first items come, and no call has ended: as many begin as the limit has risen.
    world.run_for(ms(2));
    let limit = learned(&router)[0].unwrap();
    assert!(limit > 4 && a.backstage().in_flight() == limit, "{} of {limit}", a.backstage().in_flight());
    world.run();
    assert!(streams.into_iter().all(|stream| stream.take() == 2));
}

/// What observers were told: from, to.
type Moves = Vec<(Option<u32>, u32)>;

#[derive(Clone, Debug, Default)]
struct Limits(Arc<Mutex<Moves>>);

impl Observer for Limits {
    fn on_event(&self, event: &Event<'_>, _: Instant) {
        if let Event::Limit { from, to, .. } = event {
            self.0.lock().unwrap().push((*from, *to));
        }
    }
}

#[test]
fn observers_hear_of_limits_that_move_far() {
    let world = World::new();
    let limits = Limits::default();
    let (router, _) = world.fleet(once(&world).observer(limits.clone()), [(adaptive("a"), tenth())]);
    burst(&world, &router, 400);
    world.run();
    // The first moves by one are kept to itself.
    let told = limits.0.lock().unwrap().clone();
    assert_eq!(told[0], (None, 9));
    assert!(told[1..].iter().all(|(from, to)| from.is_some_and(|from| to.abs_diff(from) * 5 >= from)), "{told:?}");
}

#[test]
fn a_decision_by_a_learned_limit_explains_itself_and_replays() {
    let world = World::new();
    let (router, _) = world.fleet(once(&world), [(adaptive("a").concurrency(64), tenth())]);
    burst(&world, &router, 10);
    world.run();
    burst(&world, &router, 8);
    world.settle();
    let open = router.explain(&of(Priority::Critical));
    assert!(open.to_string().contains("a, 8 in flight of 9 as was learned"), "{open}");
    burst(&world, &router, 1);
    world.settle();
    let full = router.explain(&of(Priority::Critical));
    assert!(full.to_string().contains("at capacity (9 of 9 in flight, as was learned)"), "{full}");
    world.run();
    for decision in [open, full] {
        let again = router.replay(&decision);
        assert!(again.same_choice(&decision));
        assert_eq!(again.to_string(), decision.to_string());
    }
}

#[test]
fn an_update_keeps_what_was_learned_until_it_is_not_wanted() {
    let world = World::new();
    let (router, _) = world.fleet(once(&world), [(adaptive("a"), tenth())]);
    burst(&world, &router, 10);
    world.run();
    router.update(|fleet| fleet.reprofile(adaptive("a").weight(2.0))).unwrap();
    assert_eq!(learned(&router), [Some(9)]);
    router.update(|fleet| fleet.reprofile(Profile::new("a"))).unwrap();
    assert_eq!(learned(&router), [None]);
    router.update(|fleet| fleet.reprofile(adaptive("a"))).unwrap();
    assert_eq!(learned(&router), [None]);
}

#[test]
fn the_lower_of_two_limits_holds() {
    let world = World::new();
    let (router, [a]) = world.fleet(once(&world), [(adaptive("a").concurrency(4), always(ANSWER))]);
    burst(&world, &router, 40);
    world.run();
    assert_eq!(a.backstage().peak(), 4);
}

#[test]
fn a_region_has_the_room_that_was_learned() {
    let world = World::new();
    let policy = least_loaded().region_failover(Regions::new("near").then("far"));
    let builder = world.router(policy.fail_safe(FailSafe::default().attempts(1))).ejection(Ejection::off());
    let members = [(adaptive("a").region("near"), tenth()), (Profile::new("b").region("far"), always(ANSWER))];
    let (router, _) = world.fleet(builder, members);
    burst(&world, &router, 10);
    world.run();
    burst(&world, &router, 8);
    world.settle();
    let decision = router.explain(&of(Priority::Standard));
    assert_eq!(decision.regions().map(|region| region.room()).collect::<Vec<_>>(), [Some(9), None]);
    assert_eq!(decision.chosen().unwrap().name(), "b", "{decision}");
    world.run();
}
