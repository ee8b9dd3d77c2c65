//! Where there is no hedge the first attempt goes on as if nothing had been asked, and the decision says why.

use super::{AFTER, Scene, half, hedged, options};
use crate::support::{ANSWER, Act, Told, World, always, fail, in_turn, ms, plain, secs, within};
use fallway::budget::{Hedge, RetryBudget};
use fallway::decision::{Hedged, Reason, Unhedged};
use fallway::policy::{Capacity, FailSafe, PolicyExt, RoutingPolicy, ordered, policy_fn};
use fallway::recover::Ejection;
use fallway::router::Step;
use fallway::{CallOptions, FailureKind, Profile};

const SLOW: Act = Act::Answer(ms(500));

fn profiles() -> [Profile; 3] {
    [Profile::new("a"), Profile::new("b"), Profile::new("c")]
}

/// Answers when the first backend does, not a moment later, with nobody else asked, and says this.
fn alone(scene: &Scene, options: CallOptions, why: Unhedged) {
    let told = scene.log.count(|told| matches!(told, Told::Unhedged { .. }));
    let before = scene.calls();
    let (answer, took) = scene.world.timed(|| scene.world.call(&scene.router, options).unwrap());
    assert_eq!((answer.backend(), took, answer.attempts().len()), (Some("a"), ms(500), 1), "{why}");
    assert_eq!(answer.decision().hedged(), Hedged::Withheld { why });
    let text = answer.decision().to_string();
    assert!(text.contains(&format!("\n  no hedge: {why}")), "{text}");
    assert!(scene.router.replay(answer.decision()).same_choice(answer.decision()));
    drop(answer);
    assert_eq!(scene.calls(), [before[0] + 1, before[1], before[2]], "{why}");
    // Only what could have been otherwise is news.
    let late =
        matches!(why, Unhedged::Overload | Unhedged::ShareUsedUp | Unhedged::RetryBudgetEmpty | Unhedged::NobodyElse);
    let now =
        scene.log.count(|it| matches!(it, Told::Unhedged { backend, why: said } if backend == "a" && *said == why));
    assert_eq!(now, told + usize::from(late), "{why}");
}

fn scene(hedge: Hedge, profiles: [Profile; 3]) -> Scene {
    Scene::with(hedge, profiles, [SLOW, ANSWER, ANSWER], |builder| builder)
}

#[test]
fn a_request_that_may_not_be_executed_twice() {
    let once = fallway::Facts::any().prompt_tokens(20);
    alone(&scene(half(), profiles()), within(secs(10)).facts(once), Unhedged::NotReplaySafe);
}

#[test]
fn a_request_with_too_many_tokens() {
    let tokens = |count| within(secs(10)).facts(plain().prompt_tokens(count).output_tokens(50));
    let most = || scene(half().most_tokens(1_000), profiles());
    alone(&most(), tokens(951), Unhedged::TooManyTokens { tokens: 1_001, most: 1_000 });
    let scene = most();
    assert_eq!(scene.world.call(&scene.router, tokens(950)).unwrap().backend(), Some("b"));
}

#[test]
fn a_backend_of_which_too_little_is_known() {
    let scene = scene(Hedge::of(0.5).unwrap(), profiles());
    alone(&scene, options(), Unhedged::WarmingUp { samples: 1 });
}

#[test]
fn the_time_is_that_within_which_most_answers_of_the_backend_begin() {
    let world = World::new();
    let hedge = Hedge::of(0.5).unwrap();
    let policy = super::hedged(hedge);
    // Twenty-two answers between 10 and 31 ms, as many as it takes; then none.
    let steady = (0..22).map(|n| Act::Answer(ms(10 + n)));
    let members = [(Profile::new("a"), in_turn(steady.chain([Act::Hang]))), (Profile::new("b"), always(ANSWER))];
    let (router, _) = world.fleet(world.router(policy), members);
    let early: Vec<_> = (0..22).map(|_| world.call(&router, options()).unwrap().decision().hedged()).collect();
    assert_eq!(early[20], Hedged::Withheld { why: Unhedged::WarmingUp { samples: 19 } });
    let (answer, took) = world.timed(|| world.call(&router, options()).unwrap());
    assert!(answer.backend() == Some("b") && took > ms(10 + 20) && took < ms(32 + 20), "{took:?}");
}

#[test]
fn nobody_else_in_another_failure_domain() {
    let rack = |id: &str, name: &str| Profile::new(id).failure_domain(name);
    let same = scene(half(), [rack("a", "1"), rack("b", "1"), rack("c", "1")]);
    alone(&same, options(), Unhedged::NobodyElse);
    let hedges: Vec<_> = same.log.decisions().into_iter().filter(|it| it.beside().is_some()).collect();
    let text = hedges[0].to_string();
    assert!(text.contains("b, rejected: in the domain that was asked already (attempt 1)"), "{text}");
    let other = scene(half(), [rack("a", "1"), rack("b", "1"), rack("c", "2")]);
    assert_eq!(other.world.call(&other.router, options()).unwrap().backend(), Some("c"));
    // A region is no domain by itself: the others of a pool are the others.
    let pool = scene(half(), profiles().map(|profile| profile.region("eu")));
    assert_eq!(pool.world.call(&pool.router, options()).unwrap().backend(), Some("b"));
}

#[test]
fn nobody_else_at_all() {
    let [a, b, c] = profiles();
    alone(&scene(half(), [a, b.drained(true), c.drained(true)]), options(), Unhedged::NobodyElse);
}

#[test]
fn nobody_else_where_the_request_may_be_served() {
    let scene = scene(half(), [Profile::new("a").region("eu"), Profile::new("b").region("us"), Profile::new("c")]);
    let bound = within(secs(10)).facts(plain().residency(["eu"]));
    alone(&scene, bound, Unhedged::NobodyElse);
}

#[test]
fn nobody_else_of_the_same_model() {
    let scene = || {
        let models = [("a", "m@1"), ("b", "other"), ("c", "third")].map(|(id, model)| Profile::new(id).model(model));
        let (world, log) = (World::new(), crate::support::Log::default());
        let hedge = policy_fn("hedged", |cx, slate| {
            slate.hedge(half());
            ordered().plan(cx, slate);
        });
        let policy = hedge.fail_safe(FailSafe::default().tiers("chat", ["m", "other"]));
        let [a, b, c] = models;
        let members = [(a, super::third(SLOW)), (b, always(ANSWER)), (c, always(ANSWER))];
        let (router, backends) = world.fleet(world.router(policy).observer(log.clone()), members);
        let options = || within(secs(10)).facts(fallway::Facts::model("chat").prompt_tokens(20).replay_safe());
        (0..2).for_each(|_| drop(world.call(&router, options()).unwrap()));
        (Scene { world, router, backends, log }, options())
    };
    // A fallback is for what fails.
    let (scene, options) = scene();
    alone(&scene, options, Unhedged::NobodyElse);
}

#[test]
fn nobody_else_has_room() {
    let scene = scene(half(), [Profile::new("a"), Profile::new("b").concurrency(1), Profile::new("c").drained(true)]);
    // Where the order begins at b, this holds its only slot for a second.
    let busy = scene.router.clone();
    scene.router.update(|fleet| fleet.drain("a")).unwrap();
    let holder = scene.world.spawn(async move { busy.call("hold", within(secs(9))).await.unwrap() });
    scene.world.run_for(ms(30));
    scene.router.update(|fleet| fleet.restore("a")).unwrap();
    // It has answered, and is not dropped yet.
    assert!(holder.is_done() && scene.router.total_in_flight() == 1);
    let (answer, took) = scene.world.timed(|| scene.world.call(&scene.router, options()).unwrap());
    assert_eq!((answer.backend(), took), (Some("a"), ms(500)));
    assert_eq!(answer.decision().hedged(), Hedged::Withheld { why: Unhedged::NobodyElse });
    drop((answer, holder.take()));
    assert_eq!(scene.router.total_in_flight(), 0);
}

#[test]
fn nobody_is_probed_by_a_hedge() {
    let [a, b, c] = profiles();
    let gone = fail(FailureKind::Unreachable);
    let scene = Scene::with(half(), [a, b, c.drained(true)], [SLOW, gone, ANSWER], |builder| builder);
    scene.router.update(|fleet| fleet.drain("a")).unwrap();
    assert!(scene.world.call(&scene.router, options()).is_err());
    scene.router.update(|fleet| fleet.restore("a")).unwrap();
    // It is due between the first attempt and the hedge.
    let due = scene.router.explain(&options()).earliest_return().unwrap();
    scene.world.run_for((due - scene.world.now()) - AFTER / 2);
    let before = scene.calls();
    let answer = scene.world.call(&scene.router, options()).unwrap();
    assert_eq!(answer.decision().hedged(), Hedged::Withheld { why: Unhedged::NobodyElse });
    drop(answer);
    assert_eq!(scene.calls(), [before[0] + 1, before[1], 0]);
    let hedge = scene.log.decisions().into_iter().rfind(|it| it.beside().is_some()).unwrap();
    assert!(hedge.candidates().any(|it| it.rejected() == Some(Reason::NotForHedges)), "{hedge}");
}

#[test]
fn no_attempt_is_left() {
    let world = World::new();
    let policy = policy_fn("hedged", |cx, slate| {
        slate.hedge(half());
        ordered().plan(cx, slate);
    });
    let (router, [_, b]) = world
        .fleet(world.router(policy), [(Profile::new("a"), super::third(SLOW)), (Profile::new("b"), always(ANSWER))]);
    (0..2).for_each(|_| drop(world.call(&router, options()).unwrap()));
    let answer = world.call(&router, options()).unwrap();
    // Without anybody who allows more, there is one.
    assert_eq!(answer.decision().hedged(), Hedged::Withheld { why: Unhedged::AttemptsExhausted });
    assert_eq!(b.calls(), 0);
}

#[test]
fn the_share_is_used_up() {
    let scene = scene(half(), profiles());
    assert_eq!(scene.world.call(&scene.router, options()).unwrap().backend(), Some("b"));
    // Half a hedge is left of three requests, and the fourth pays in the other half; the fifth has none.
    assert_eq!(scene.world.call(&scene.router, options()).unwrap().backend(), Some("b"));
    alone(&scene, options(), Unhedged::ShareUsedUp);
}

#[test]
fn the_retry_budget_is_empty_and_is_what_pays() {
    let empty = RetryBudget::new(0.0, 0).unwrap();
    let broke = Scene::with(half(), profiles(), [SLOW, ANSWER, ANSWER], |builder| builder.retry_budget(empty));
    alone(&broke, options(), Unhedged::RetryBudgetEmpty);
    // What is not used is given back: the share is as it was.
    alone(&broke, options(), Unhedged::RetryBudgetEmpty);
    // Twenty-five requests pay for five.
    let fifth = RetryBudget::new(0.2, 0).unwrap();
    let scene = Scene::with(half(), profiles(), [SLOW, ANSWER, ANSWER], |builder| builder.retry_budget(fifth));
    let hedged = (0..23).filter(|_| scene.world.call(&scene.router, options()).unwrap().backend() == Some("b"));
    assert_eq!(hedged.count(), 5);
}

#[test]
fn what_is_not_sent_is_not_paid_for() {
    // Three requests pay for one, and the fourth for no other.
    let third = RetryBudget::new(0.34, 0).unwrap();
    let scene = Scene::with(half(), profiles(), [SLOW, ANSWER, ANSWER], |builder| builder.retry_budget(third));
    scene.router.update(|fleet| ["b", "c"].into_iter().for_each(|name| fleet.drain(name))).unwrap();
    alone(&scene, options(), Unhedged::NobodyElse);
    scene.router.update(|fleet| fleet.restore("b")).unwrap();
    assert_eq!(scene.world.call(&scene.router, options()).unwrap().backend(), Some("b"));
}

#[test]
fn a_request_pays_in_once_however_often_it_is_tried() {
    let world = World::new();
    let broken = || fail(FailureKind::ServerError);
    let members = [(Profile::new("a"), in_turn([broken(), broken(), SLOW])), (Profile::new("b"), always(ANSWER))];
    let (router, _) = world.fleet(world.router(hedged(half())), members);
    let hedged = (0..5).map(|_| world.call(&router, options()).unwrap().attempts().iter().any(|it| it.is_hedge()));
    // Four requests pay for two hedges, and the fifth has half of one.
    assert_eq!(hedged.collect::<Vec<_>>(), [false, false, true, true, false]);
}

#[test]
fn nothing_is_hedged_when_the_time_is_over() {
    let scene = scene(half(), profiles());
    let start = scene.world.now();
    let mut trip = scene.router.trip(within(secs(10)), start);
    assert!(matches!(trip.next(start), Ok(Step::Call(first)) if first.hedge_at() == Some(start + AFTER)));
    assert!(trip.hedge(start + secs(10)).is_none());
    assert!(trip.hedge(start + AFTER).is_some_and(|second| second.is_hedge()));
}

#[test]
fn the_fleet_has_too_much_to_do() {
    let timed_out = || fail(FailureKind::Timeout);
    let scene = Scene::with(half(), profiles(), [SLOW, timed_out(), timed_out()], |builder| builder);
    // Ten of twelve attempts timed out, at two of three backends.
    scene.router.update(|fleet| fleet.drain("a")).unwrap();
    (0..10).for_each(|_| drop(scene.world.call(&scene.router, options())));
    scene.router.update(|fleet| fleet.restore("a")).unwrap();
    alone(&scene, options(), Unhedged::Overload);
}

#[test]
fn a_backend_that_refuses_too_much_gets_no_hedges() {
    let world = World::new();
    let policy = policy_fn("hedged", |cx, slate| {
        slate.hedge(half());
        ordered().capacity_aware(Capacity::default().throttle()).plan(cx, slate);
    });
    let policy = policy.fail_safe(FailSafe::default());
    let members = [(Profile::new("a"), super::third(SLOW)), (Profile::new("b"), always(fail(FailureKind::Overloaded)))];
    let (router, [_, b]) = world.fleet(world.router(policy).ejection(Ejection::off()), members);
    (0..2).for_each(|_| drop(world.call(&router, options()).unwrap()));
    router.update(|fleet| fleet.drain("a")).unwrap();
    (0..200).for_each(|_| drop(world.call(&router, options())));
    router.update(|fleet| fleet.restore("a")).unwrap();
    let (before, mut overload) = (b.calls(), 0);
    for _ in 0..20 {
        let (answer, took) = world.timed(|| world.call(&router, options()).unwrap());
        assert_eq!((answer.backend(), took), (Some("a"), ms(500)));
        overload += u64::from(answer.decision().hedged() == Hedged::Withheld { why: Unhedged::Overload });
    }
    // Nine of ten requests to it are held back.
    assert!(overload >= 7 && b.calls() - before + overload <= 20, "{overload}, {} sent", b.calls() - before);
}

#[test]
fn a_hedge_that_can_not_be_never_makes_anybody_wait() {
    // grpc-java#7222: throttled, with nothing in flight, hangs until the deadline. Here the first attempt fails after a
    // hedge was withheld, and its error is the answer, at once.
    let empty = RetryBudget::new(0.0, 0).unwrap();
    let broken = Act::Fail(FailureKind::ServerError, AFTER + ms(50));
    let scene = Scene::with(half(), profiles(), [broken, ANSWER, ANSWER], |builder| builder.retry_budget(empty));
    let (answer, took) = scene.world.timed(|| scene.world.call(&scene.router, options()));
    assert_eq!((answer.unwrap_err().attempts().len(), took), (1, AFTER + ms(50)));
    assert_eq!(scene.calls(), [1, 0, 0]);
}
