//! Shares: what is guaranteed is there, what is a maximum is one, and whoever waits for a share gets the next.

use super::{all_ok, critical, flood, of};
use crate::support::{
    ANSWER, Act, Log, Reply, Scripted, Told, World, always, dropped_after, guard, in_turn, ms, plain, secs, within,
};
use fallway::backend::FailureKind;
use fallway::decision::Reason;
use fallway::limit::{Bulkheads, InvalidBulkheads, Share};
use fallway::policy::{Contender, FailSafe, PlanContext, PolicyExt, least_loaded, ordered};
use fallway::router::{BuildError, Builder, RouteErrorKind};
use fallway::time::Timer;
use fallway::{CallOptions, Facts, Profile, Router};

fn builder(world: &World) -> Builder<str, Reply> {
    world.router(least_loaded().fail_safe(FailSafe::default()))
}

/// Two backends of five calls each, every one of 20 ms.
fn ten() -> [(Profile, crate::support::Script); 2] {
    ["a", "b"].map(|id| (Profile::new(id).concurrency(5), always(ANSWER)))
}

fn peak(backends: &[Scripted]) -> u32 {
    backends.iter().map(|backend| backend.backstage().peak()).sum()
}

#[test]
fn what_is_guaranteed_starts_at_once_while_another_floods() {
    let world = World::new();
    let tenants = Bulkheads::of(10, Share::at_most(10)).share("search", Share::at_least(4));
    let (router, backends) = world.fleet(builder(&world).tenant_bulkheads(tenants), ten());
    let floods = flood(&world, &router, "flood", 100);
    world.run_for(ms(50));
    assert_eq!((router.tenant_in_flight("flood"), router.total_in_flight()), (Some(6), 6));
    let search = flood(&world, &router, "search", 5);
    world.settle();
    assert_eq!((router.tenant_in_flight("search"), router.total_in_flight()), (Some(4), 10));
    world.run();
    let took: Vec<_> = search.into_iter().map(|task| task.take().took).collect();
    // The fifth waited for the first that ended, its own or another.
    assert!(took[..4].iter().all(|took| *took == ms(20)) && took[4] == ms(30), "{took:?}");
    assert!(all_ok(floods));
    assert_eq!(
        (router.tenant_in_flight("flood"), router.tenant_in_flight("search"), peak(&backends)),
        (Some(0), Some(0), 10)
    );
}

#[test]
fn a_maximum_holds_and_a_freed_share_is_one_decision() {
    let (world, log) = (World::new(), Log::default());
    let tenants = Bulkheads::of(10, Share::at_most(3));
    let (router, backends) = world.fleet(builder(&world).tenant_bulkheads(tenants).observer(log.clone()), ten());
    let calls = flood(&world, &router, "t", 30);
    world.settle();
    assert_eq!((router.tenant_in_flight("t"), router.waiting()), (Some(3), 27));
    // Two looks of each of those that wait, and one of each that starts.
    let looked = |log: &Log| log.count(|told| matches!(told, Told::Decided(_)));
    assert_eq!(looked(&log), 3 + 27 * 2);
    let started = world.now();
    world.run();
    assert_eq!((world.now() - started, peak(&backends), looked(&log)), (ms(200), 4, 3 + 27 * 3));
    assert!(all_ok(calls));
    assert_eq!(backends.each_ref().map(|it| it.backstage().in_flight()), [0, 0]);
}

#[test]
fn what_was_lent_comes_back_before_anything_else() {
    let world = World::new();
    let tenants = Bulkheads::of(10, Share::at_most(10)).share("reports", Share::at_least(4).lends(4));
    let (router, _) = world.fleet(builder(&world).tenant_bulkheads(tenants), ten());
    let floods = flood(&world, &router, "flood", 40);
    world.run_for(ms(10));
    assert_eq!(router.tenant_in_flight("flood"), Some(10));
    // Critical requests of another, who is above what it is guaranteed, do not go before it.
    let critical: Vec<_> = (0..10).map(|_| world.ask(&router, critical("loud"))).collect();
    let reports = flood(&world, &router, "reports", 6);
    world.run_for(ms(10));
    assert_eq!(["reports", "loud"].map(|tenant| router.tenant_in_flight(tenant)), [Some(4), Some(6)]);
    world.run();
    assert!(all_ok(floods) && all_ok(critical) && all_ok(reports));
}

#[test]
fn a_share_that_is_freed_elsewhere_is_heard_of() {
    // Its other call is one for another model.
    let world = World::new();
    let tenants = Bulkheads::of(20, Share::at_most(1));
    let members = ["x", "y"].map(|id| (Profile::new(id).model(id).concurrency(10), always(Act::Answer(ms(100)))));
    let (router, _) = world.fleet(builder(&world).tenant_bulkheads(tenants), members);
    let ask = |model: &str| world.ask(&router, CallOptions::within(secs(5)).facts(Facts::model(model).tenant("t")));
    let (x, y) = (ask("x"), ask("y"));
    world.run();
    assert_eq!((x.take().took, y.take().took), (ms(100), ms(200)));
}

#[test]
fn a_share_that_was_used_up_while_it_waited_for_a_slot_is_waited_for_then() {
    // "x" is busy with another's call until 100 ms, "t" waits for it, and its one call is for "y", until 250 ms.
    let world = World::new();
    let tenants = Bulkheads::of(2, Share::at_most(1));
    let members = [
        (Profile::new("x").model("x").concurrency(1), in_turn([Act::Answer(ms(100)), ANSWER])),
        (Profile::new("y").model("y").concurrency(1), always(Act::Answer(ms(200)))),
    ];
    let (router, [x, _]) = world.fleet(builder(&world).tenant_bulkheads(tenants), members);
    let ask = |tenant: &str, model: &str| {
        world.ask(&router, CallOptions::within(secs(5)).facts(Facts::model(model).tenant(tenant)))
    };
    let first = ask("u", "x");
    world.run_for(ms(10));
    let waits = ask("t", "x");
    world.run_for(ms(40));
    let other = ask("t", "y");
    world.run_for(ms(100));
    // The slot is free, and nobody may use it: another tenant could.
    assert_eq!((router.in_flight("x"), router.waiting()), (Some(0), 1));
    assert_eq!(x.calls(), 1);
    world.run();
    assert_eq!((first.take().took, other.take().took, waits.take().took), (ms(100), ms(200), ms(240) + ms(20)));
}

#[test]
fn whoever_has_a_share_and_no_slot_gives_it_to_one_who_has() {
    // One call for each. The share of "t" is freed by a call for "y", while "x" is full: who waits for "x" passes it on to
    // who waits for "y".
    let world = World::new();
    let tenants = Bulkheads::of(4, Share::at_most(1));
    let members = ["x", "y"].map(|id| (Profile::new(id).model(id).concurrency(2), always(Act::Answer(ms(100)))));
    let (router, _) = world.fleet(builder(&world).tenant_bulkheads(tenants), members);
    let ask = |tenant: &str, model: &str| {
        world.ask(&router, CallOptions::within(secs(5)).facts(Facts::model(model).tenant(tenant)))
    };
    let first = ask("t", "y");
    world.run_for(ms(50));
    let others = ["u", "v"].map(|tenant| ask(tenant, "x"));
    world.settle();
    let (x, y) = (ask("t", "x"), ask("t", "y"));
    world.run();
    assert!(first.take().ok() && others.into_iter().all(|task| task.take().ok()));
    // "x" is free at 150 ms, but then the share is that of "y", until 200 ms.
    assert_eq!((y.take().took, x.take().took), (ms(150), ms(250)));
    assert_eq!(router.tenant_in_flight("t"), Some(0));
}

#[test]
fn one_of_a_kind_finds_out_for_all_that_there_is_no_slot_for_a_share() {
    // "x" is full with the call of another. The calls of "t" for "y" free its one share ten times, and each time it is of use
    // to the next for "y", and to none of those for "x".
    let looks = |count: usize| {
        let (world, log) = (World::new(), Log::default());
        let tenants = Bulkheads::of(5, Share::at_most(1));
        let members = [("x", 1, secs(20)), ("y", 4, ms(100))]
            .map(|(id, limit, time)| (Profile::new(id).model(id).concurrency(limit), always(Act::Answer(time))));
        let (router, _) = world.fleet(builder(&world).tenant_bulkheads(tenants).observer(log.clone()), members);
        let ask = |tenant: &str, model: &str| {
            world.ask(&router, CallOptions::within(secs(15)).facts(Facts::model(model).tenant(tenant)))
        };
        let (_other, first) = (ask("u", "x"), ask("t", "y"));
        world.settle();
        let waiting: Vec<_> = (0..count).map(|_| ask("t", "x")).collect();
        let calls: Vec<_> = (0..10).map(|_| ask("t", "y")).collect();
        world.settle();
        let before = log.count(|told| matches!(told, Told::Decided(_)));
        world.run_for(secs(2));
        assert!(first.take().ok() && all_ok(calls), "all of the calls for y are answered");
        drop(waiting);
        log.count(|told| matches!(told, Told::Decided(_))) - before
    };
    let (few, many) = (looks(5), looks(200));
    assert!(many <= few + 200, "{few} decisions, and {many} where forty times as many wait");
}

#[test]
fn whatever_ends_a_call_gives_its_share_back() {
    use Act::{Fail, Hang, Panic, PanicInCall, PanicInDrop};
    let acts = [ANSWER, Fail(FailureKind::ServerError, ms(5)), Hang, Panic(ms(5)), PanicInCall, PanicInDrop];
    for act in acts {
        let world = World::new();
        let whole = || Bulkheads::of(10, Share::at_most(4));
        let policy = least_loaded().fail_safe(FailSafe::default().attempts(2));
        let builder = world.router(policy).tenant_bulkheads(whole()).route_bulkheads(whole());
        let members = ["a", "b"].map(|id| (Profile::new(id).concurrency(5), always(act.clone())));
        let (router, _) = world.fleet(builder, members);
        for polls in 1..6 {
            let ask = router.clone();
            let options = CallOptions::within(secs(1)).facts(plain().tenant("t"));
            world.spawn(async move { drop(dropped_after(polls, ask.call("ask", options)).await) });
        }
        world.run_for(ms(2));
        assert!(router.tenant_in_flight("t") <= Some(4) && router.route_in_flight("") <= Some(4), "{act:?}");
        world.run();
        assert_eq!((router.tenant_in_flight("t"), router.route_in_flight("")), (Some(0), Some(0)), "{act:?}");
        assert_eq!((router.total_in_flight(), router.waiting()), (0, 0), "{act:?}");
    }
}

#[test]
fn routes_are_divided_by_what_is_asked_for() {
    let world = World::new();
    let policy = ordered().fail_safe(FailSafe::default().tiers("chat", ["m"]).tiers("batch", ["m"]));
    let routes =
        Bulkheads::of(10, Share::at_most(10)).share("chat", Share::at_least(6)).share("batch", Share::at_most(2));
    let builder = world.router(policy).route_bulkheads(routes);
    let (router, _) = world.fleet(builder, [(Profile::new("a").model("m").concurrency(10), always(ANSWER))]);
    let ask = |route: &str| world.ask(&router, CallOptions::within(secs(5)).facts(Facts::model(route)));
    let calls: Vec<_> = ["batch", "m", "chat"].into_iter().flat_map(|route| [(); 10].map(|()| ask(route))).collect();
    world.settle();
    // Four are open to all: two of them for "batch", two for the model itself.
    assert_eq!(["batch", "m", "chat"].map(|route| router.route_in_flight(route)), [Some(2), Some(2), Some(6)]);
    let decision = router.explain(&CallOptions::within(secs(5)).facts(Facts::model("batch")));
    assert_eq!(decision.candidates().next().unwrap().rejected(), Some(Reason::RouteFull { in_flight: 2, most: 2 }));
    assert!(decision.to_string().contains("beyond the route's share (2 of 2 in flight)"), "{decision}");
    assert!(router.replay(&decision).same_choice(&decision));
    world.run();
    assert!(router.replay(&decision).same_choice(&decision), "the record has what was read");
    assert!(all_ok(calls));
}

#[test]
fn a_guarantee_is_one_of_its_own_kind() {
    // Half of the calls are kept for tenant "a", and half for route "m", of which some may be lent.
    for (lent, waited) in [(0, ms(20)), (1, ms(0))] {
        let world = World::new();
        let tenants = Bulkheads::of(10, Share::at_most(10)).share("a", Share::at_least(5));
        let routes = Bulkheads::of(10, Share::at_most(10)).share("m", Share::at_least(5).lends(lent));
        let policy = least_loaded().fail_safe(FailSafe::default().tiers("n", ["m"]));
        let builder = world.router(policy).tenant_bulkheads(tenants).route_bulkheads(routes);
        let (router, _) = world.fleet(builder, [(Profile::new("x").model("m").concurrency(10), always(ANSWER))]);
        let ask = |tenant: &str, model: &str| {
            world.ask(&router, CallOptions::within(secs(5)).facts(Facts::model(model).tenant(tenant)))
        };
        let others: Vec<_> = (0..10).map(|_| ask("b", "n")).collect();
        let (open, kept) = (ask("a", "n"), ask("a", "m"));
        world.run();
        assert_eq!((open.take().took, kept.take().took), (waited + ms(20), ms(20)), "{lent} lent");
        assert!(all_ok(others));
    }
}

#[test]
fn without_a_queue_it_is_refused_with_the_numbers() {
    let world = World::new();
    let tenants = || Bulkheads::of(10, Share::at_most(2));
    let (router, _) = world.fleet(world.router(ordered()).tenant_bulkheads(tenants()), ten());
    let calls = flood(&world, &router, "t", 2);
    world.settle();
    let other = world.ask(&router, of("u"));
    let refused = world.spawn_call(&router, of("t"));
    world.settle();
    let error = refused.take().unwrap_err();
    assert_eq!(error.kind(), RouteErrorKind::NothingUsable);
    assert!(error.to_string().contains("2 beyond the tenant's share"), "{error}");
    world.run();
    assert!(all_ok(calls) && other.take().ok());

    // And with one after its wait, as others.
    let world = World::new();
    let builder = builder(&world).tenant_bulkheads(tenants()).longest_wait(ms(50));
    let members = ["a", "b"].map(|id| (Profile::new(id).concurrency(5), always(Act::Answer(secs(1)))));
    let (router, _) = world.fleet(builder, members);
    let calls = flood(&world, &router, "t", 3);
    world.run();
    let kinds: Vec<_> = calls.into_iter().map(|task| task.take().refused).collect();
    assert_eq!(kinds, [None, None, Some(RouteErrorKind::WaitedTooLong)]);
}

#[test]
fn a_retry_takes_its_share_anew() {
    let world = World::new();
    let tenants = Bulkheads::of(10, Share::at_most(1));
    let members = [
        (Profile::new("a").concurrency(5), always(Act::Fail(FailureKind::ServerError, ms(10)))),
        (Profile::new("b").concurrency(5), always(ANSWER)),
    ];
    let policy = ordered().fail_safe(FailSafe::default());
    let (router, _) = world.fleet(world.router(policy).tenant_bulkheads(tenants), members);
    let calls = flood(&world, &router, "t", 4);
    world.run();
    assert!(all_ok(calls));
    assert_eq!(router.tenant_in_flight("t"), Some(0));
}

#[test]
fn a_large_pool_is_not_searched_for_what_no_backend_can_give() {
    let world = World::new();
    let mut builder = builder(&world).tenant_bulkheads(Bulkheads::of(10, Share::at_most(1)));
    for n in 0..1_000 {
        builder = builder.backend(Profile::new(format!("b{n}")), world.backend("b", always(ANSWER)));
    }
    let router = builder.build().unwrap();
    let calls = flood(&world, &router, "t", 2);
    world.settle();
    let decision = router.explain(&of("t"));
    assert_eq!((decision.candidates().count(), decision.rejections()), (64, vec![("beyond the tenant's share", 64)]));
    world.run();
    assert!(all_ok(calls));
}

#[test]
fn shares_that_make_no_sense_are_named() {
    let build = |tenants: Option<Bulkheads>, routes: Option<Bulkheads>, limits: [Option<u32>; 2]| {
        let world = World::new();
        let mut builder = Router::builder(ordered());
        for (id, limit) in ["a", "b"].into_iter().zip(limits) {
            let profile = limit.into_iter().fold(Profile::new(id), Profile::concurrency);
            builder = builder.backend(profile, world.backend(id, always(ANSWER)));
        }
        builder = tenants.into_iter().fold(builder, Builder::tenant_bulkheads);
        routes.into_iter().fold(builder, Builder::route_bulkheads).build().err()
    };
    let eleven = || Some(Bulkheads::of(11, Share::at_most(2)));
    let above = InvalidBulkheads::AboveFleet { total: 11, fleet: 10 };
    assert_eq!(build(eleven(), None, [Some(5), Some(5)]), Some(BuildError::TenantBulkheads(above.clone())));
    assert_eq!(build(None, eleven(), [Some(5), Some(5)]), Some(BuildError::RouteBulkheads(above)));
    // Where one says nothing, nobody knows.
    assert_eq!(build(eleven(), eleven(), [Some(5), None]), None);
    let zero = Bulkheads::of(0, Share::at_most(1));
    let error = build(Some(zero), None, [None, None]).unwrap();
    assert_eq!(error.to_string(), "tenants: bulkheads over no calls at all would refuse every request");
    let twice = Bulkheads::of(5, Share::at_most(2)).share("a", Share::at_most(3)).share("a", Share::at_most(4));
    let error = build(None, Some(twice), [None, None]).unwrap();
    assert_eq!(error.to_string(), "routes: \"a\" is given two shares");
}

#[test]
fn requests_without_a_tenant_are_one() {
    let world = World::new();
    let tenants = Bulkheads::of(10, Share::at_most(4)).share("", Share::at_most(2));
    let (router, _) = world.fleet(builder(&world).tenant_bulkheads(tenants), ten());
    let calls: Vec<_> = (0..8).map(|_| world.ask(&router, within(secs(5)))).collect();
    world.settle();
    assert_eq!(router.tenant_in_flight(""), Some(2));
    world.run();
    assert!(all_ok(calls));
    assert_eq!(world.timer().now(), world.now());
}

#[test]
fn shares_that_nobody_can_use_come_to_rest() {
    let (world, log) = (World::new(), Log::default());
    // For reasons that are each request's own, most can use nothing but `x`.
    let line = |cx: &PlanContext<'_>, candidate: &mut Contender<'_>| {
        if candidate.profile().id() == "y" && cx.facts().label_value("to").is_none() {
            candidate.reject(Reason::Forbidden { text: "not for this one" });
        }
    };
    let builder = world.router(guard(ordered(), line).fail_safe(FailSafe::default()));
    let tenants = Bulkheads::of(10, Share::at_most(2));
    let members = [
        (Profile::new("x").concurrency(1), always(Act::Answer(secs(1)))),
        (Profile::new("y"), always(Act::Answer(ms(100)))),
    ];
    let (router, _) = world.fleet(builder.tenant_bulkheads(tenants).observer(log.clone()), members);
    let busy = world.ask(&router, of("another"));
    world.settle();
    let to_y = || CallOptions::within(secs(60)).facts(plain().tenant("t").label("to", "y"));
    let short: Vec<_> = (0..2).map(|_| world.ask(&router, to_y())).collect();
    let waiting = flood(&world, &router, "t", 6);
    world.settle();
    let looked = |log: &Log| log.count(|told| matches!(told, Told::Decided(_)));
    let before = looked(&log);
    // Both shares are freed at the same time, and each of the six has reason to pass each of them on.
    world.run_for(ms(500));
    assert_eq!(router.waiting(), 6);
    let looks = looked(&log) - before;
    assert!(looks <= 6 * 4, "{looks} decisions for two shares and six requests");
    world.run();
    assert!(busy.take().ok() && all_ok(short) && all_ok(waiting));
}
