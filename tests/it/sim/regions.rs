//! Regions, residency and what is told of them, in worlds where the answer is known.

use super::{check, small};
use fallway::RoutingPolicy;
use fallway::policy::{PlanContext, Slate, ordered, policy_fn, round_robin};
use fallway::sim::baselines::Contestant;
use fallway::sim::scenarios::{Scenario, Settings, Stage};
use fallway::sim::{Desk, Lengths, Run, Server, Stack, Trace, World, at, secs};
use std::sync::{Arc, Mutex};

/// Sends everything to the region that this schedule names; everywhere else where that is not usable.
fn scheduled(schedule: impl Fn(f64) -> &'static str + Send + Sync + 'static) -> Stack {
    Stack::new(by_time(schedule)).bare()
}

fn by_time(schedule: impl Fn(f64) -> &'static str + Send + Sync + 'static) -> impl RoutingPolicy + 'static {
    let start = Mutex::new(None);
    policy_fn("scheduled", move |cx: &PlanContext<'_>, slate: &mut Slate<'_>| {
        // Requests come from the first second on; the schedules below are about hundreds.
        let start = *start.lock().unwrap().get_or_insert(cx.now());
        let region = schedule((cx.now() - start).as_secs_f64());
        slate.rank(|candidate| u64::from(candidate.profile().region_name() != Some(region)));
    })
}

#[test]
fn a_desk_knows_its_regions_by_distance() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let world = World::new().pool("far", 1).pool("near", 1).pool("home", 2).routers(2).routers_in(["home", "far"]);
    let world = world.round_trip("home", "far", secs(0.2)).round_trip("home", "near", secs(0.01)).requests(3);
    let world = world.round_trip("far", "near", secs(0.3)).round_trip("home", "home", secs(0.5));
    let make = |desk: &Desk| {
        seen.lock().unwrap().push(desk.regions().join(" "));
        round_robin()
    };
    world.run(make).unwrap();
    assert_eq!(*seen.lock().unwrap(), ["home near far", "far home near"]);
}

#[test]
fn bound_requests_stay_where_they_belong() {
    let world = small().residency(0.4, ["eu"]).fault(at(secs(40)).lasting(secs(20)).server("a").down());
    let run = world.run(|_| super::default_stack()).unwrap();
    check(&run);
    let bound = run.records().iter().filter(|record| record.bound).count() as f64 / run.records().len() as f64;
    assert!((bound - 0.4).abs() < 0.05, "{bound}");
    assert_eq!(run.outside_residency(), 0);
    let of = |bound, server| run.records().iter().any(|it| it.bound == bound && it.server == Some(server));
    assert!(of(true, 0) && of(true, 1) && !of(true, 2) && of(false, 2));
    // Those of a region where nobody is are a mistake; so is a share beyond all.
    assert!(small().residency(0.4, ["mars"]).run(|_| round_robin()).unwrap_err().to_string().contains("mars"));
    assert!(small().residency(1.4, ["eu"]).run(|_| round_robin()).is_err());
    // Bound to nowhere is refused everywhere.
    let nowhere = small().residency(1.0, [""; 0]).requests(50).run(|_| round_robin()).unwrap();
    assert_eq!((nowhere.goodput(), nowhere.failures()), (0.0, 50));
}

#[test]
fn worlds_without_residency_are_as_they_were() {
    let hash = |world: World| world.run(|_| super::default_stack()).unwrap().decisions_hash();
    let world = || small().critical_share(0.3).sessions(9);
    assert_eq!(hash(world()), hash(world().residency(0.0, ["eu"])));
}

/// Six requests at once for one server with room for four, and none for the other region.
fn burst(critical: f64) -> Run {
    let trace = Trace::parse(&"0,800,50\n".repeat(6)).unwrap();
    let server = |id: &str| Server::new(id).region(id).decode(secs(0.02), secs(0), 4);
    let world = World::new().servers([server("eu"), server("us")]).trace(trace).requests(6).critical_share(critical);
    world.run(|_| Stack::new(ordered()).bare()).unwrap()
}

#[test]
fn a_region_is_as_full_as_what_is_on_its_servers() {
    let run = burst(0.0);
    assert_eq!((run.fullest_region_between(0.0, 1.0), run.overruns_between(0.0, 9.0)), (1.5, 1));
    assert_eq!((run.fullest_region_between(1.0, 9.0), run.overruns_between(1.0, 9.0)), (0.0, 0));
    // All of it critical: nothing that should have gone first.
    let run = burst(1.0);
    assert_eq!((run.fullest_region_between(0.0, 1.0), run.overruns_between(0.0, 9.0)), (1.5, 0));
    // Half as much room where one of two servers is down.
    let world = World::new().pool("eu", 2).pool("us", 1).lengths(Lengths::fixed(80, 2)).load(0.2).lasting(secs(60));
    let fullest =
        |world: &World| world.run(|_| Stack::new(round_robin()).bare()).unwrap().fullest_region_between(31.0, 60.0);
    let half = world.clone().fault(at(secs(30)).server("eu-1").down());
    assert!(fullest(&half) > 0.0 && fullest(&world) > 0.0);
    // One region: nobody looks.
    assert_eq!(World::new().pool("s", 2).run(|_| round_robin()).unwrap().fullest_region_between(0.0, 1e9), 0.0);
}

#[test]
fn shares_of_regions_are_those_of_their_servers() {
    let run = small().run(|_| Stack::new(round_robin()).bare()).unwrap();
    assert_eq!(run.region_names(), ["eu", "us"]);
    let (servers, regions) = (run.shares_between(0.0, 60.0), run.region_shares_between(0.0, 60.0));
    assert!((regions[0] - servers[0] - servers[1]).abs() < 1e-12 && (regions[1] - servers[2]).abs() < 1e-12);
    assert!((regions[0] - 2.0 / 3.0).abs() < 0.01);
}

#[test]
fn leaving_takes_until_the_last_second_with_more_than_its_share() {
    let leaves = |schedule: fn(f64) -> &'static str| {
        let run = small().run(|_| scheduled(schedule)).unwrap();
        run.time_to_leave("eu", 60.0, 110.0, 0.05)
    };
    let near = |time: Option<f64>, expected: f64| time.is_some_and(|time| (time - expected).abs() <= 1.0);
    assert_eq!(leaves(|_| "us"), Some(0.0));
    assert!(near(leaves(|time| if time < 67.5 { "eu" } else { "us" }), 8.0));
    // Gone and back once more.
    let twice = leaves(|time| if time < 65.0 || (80.0..85.0).contains(&time) { "eu" } else { "us" });
    assert!(near(twice, 25.0), "{twice:?}");
    assert_eq!(leaves(|_| "eu"), None);
    assert_eq!(small().run(|_| round_robin()).unwrap().time_to_leave("mars", 0.0, 9.0, 0.5), None);
}

fn s3(routers: usize) -> Vec<Stage> {
    Scenario::S3.stages(&Settings { seed: 1, routers, ..Settings::default() })
}

#[test]
fn a_lost_region_is_measured_as_it_was_played() {
    // Away in the second of the loss, back at once, gone once more and back: one flap. Half a load of three regions is
    // too much for any one of them, so only the places count here.
    let stage = &Scenario::S3.stages(&Settings { seed: 1, load: Some(0.2), ..Settings::default() })[0];
    let home = |time: f64| !(200.0..400.0).contains(&time) && !(430.0..445.0).contains(&time);
    let stack = |_: &Desk| scheduled(move |time| if home(time) { "eu-west" } else { "eu-north" });
    let run = stage.world().run(stack).unwrap();
    check(&run);
    let measured = stage.measure(&run);
    assert_eq!((measured.flaps, measured.outside_residency), (Some(1.0), Some(0)));
    assert!(measured.time_to_detect.is_some_and(|time| time <= 1.0), "{measured:?}");
    assert_eq!(measured.time_to_recover, Some(0.0));
    // Nobody looks where in the region there is room.
    assert!(measured.goodput > 0.95 && measured.critical_goodput.is_some_and(|share| share > 0.95), "{measured:?}");
    assert!(measured.max_region_utilisation.is_some_and(|most| (0.1..0.9).contains(&most)), "{measured:?}");
    assert_eq!(measured.overruns, Some(0));
    // Somebody who never leaves: the probes turn him away within two of their intervals.
    let stays = stage.measure(&stage.world().run(|_| scheduled(|_| "eu-west")).unwrap());
    assert!(stays.time_to_detect.is_some_and(|time| (1.0..=10.0).contains(&time)), "{stays:?}");
    assert_eq!(stays.flaps, Some(0.0));
    assert!(stays.failures > measured.failures);
}

#[test]
fn the_stages_of_a_lost_region_say_what_they_are() {
    let names = |routers| -> Vec<_> { s3(routers).iter().map(|stage| (stage.variant(), stage.load())).collect() };
    assert_eq!(names(1), [("ample", 0.55), ("short", 0.68)]);
    assert_eq!(names(32), [("ample", 0.55), ("short", 0.68), ("everywhere", 0.55)]);
    let own = Scenario::S3.stages(&Settings { load: Some(0.3), routers: 1, ..Settings::default() });
    assert_eq!(own.iter().map(|stage| (stage.variant(), stage.load())).collect::<Vec<_>>(), [("", 0.3)]);
    // What is left of three regions with six servers each is two thirds.
    let capacity = s3(1)[1].world().capacity();
    assert!((0.68 * capacity / (12.0 * Lengths::default().capacity(&Server::new("one"))) - 1.02).abs() < 1e-9);
}

#[test]
fn limits_are_told_to_who_can_be_told() {
    let world = World::new().server(Server::new("a").known_limit(2)).load(0.9).lasting(secs(60));
    let told = world.run(|_| Stack::new(round_robin())).unwrap();
    let bare = world.run(|_| Stack::new(round_robin()).bare()).unwrap();
    assert!(told.peak() <= 2 && told.failures() > 0, "{told}");
    assert!(bare.peak() > 2 && bare.failures() == 0, "{bare}");
}

#[test]
fn load_reports_are_a_signal_until_they_are_silent() {
    let world = || small().load_signals().fault(at(secs(40)).server("a").down());
    let blind = at(secs(30)).everywhere().silent_reports();
    let fails = |world: World| {
        let run = world.run(|_| Stack::new(round_robin()).bare()).unwrap();
        check(&run);
        run.between(45.0, 120.0).filter(|record| !run.is_good(record)).count()
    };
    // What reports nothing is left alone; nobody is punished where nobody is heard.
    assert_eq!(fails(world()), 0);
    assert!(fails(world().fault(blind.clone())) > 100);
    let well = small().load_signals().fault(blind);
    assert_eq!(well.run(|_| super::default_stack()).unwrap().failures(), 0);
}

#[test]
fn what_is_new_plays_the_same_in_both_drivers_and_again() {
    for scenario in [Scenario::S3, Scenario::S9, Scenario::S14, Scenario::S15, Scenario::S17] {
        for routers in [1, 3] {
            let settings = Settings { seed: 5, routers, requests: Some(1_500), ..Settings::default() };
            for stage in scenario.stages(&settings) {
                for name in ["fallway", "envoy_priority", "grpc_priority"] {
                    let contestant = Contestant::by_name(name).unwrap();
                    let run = stage.run(contestant).unwrap();
                    let (again, other) =
                        (stage.run(contestant).unwrap(), stage.world().run_with_futures(|desk| contestant.stack(desk)));
                    assert_eq!(run.decisions_hash(), again.decisions_hash(), "{scenario:?} {name}");
                    assert_eq!(run.decisions_hash(), other.unwrap().decisions_hash(), "{scenario:?} {name}");
                    // As text: what nobody asked for is no number, which equals nothing.
                    let told = |run| format!("{:?}", stage.measure(run));
                    assert_eq!(told(&run), told(&again), "{scenario:?} {name}");
                }
            }
        }
    }
}
