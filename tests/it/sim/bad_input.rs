//! Worlds that make no sense.

use super::{check, default_stack, small};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::sim::baselines::Contestant;
use fallway::sim::scenarios::{Scenario, Settings};
use fallway::sim::{Arrivals, Fault, Lengths, Server, Trace, World, WorldError, at, secs};
use std::time::Duration;

/// What both drivers say of a world.
fn error(world: &World) -> WorldError {
    let error = world.run(|_| default_stack()).unwrap_err();
    assert_eq!(world.run_with_futures(|_| default_stack()).unwrap_err(), error);
    error
}

fn text(world: &World) -> String {
    error(world).to_string()
}

#[test]
fn a_world_needs_a_server_from_the_start() {
    assert_eq!(error(&World::new()), WorldError::NoServer);
    assert_eq!(text(&World::new()), "a world needs at least one server");
    assert_eq!(error(&World::new().server(Server::new("a").joins_after(secs(5)))), WorldError::NoServer);
}

#[test]
fn a_server_that_makes_no_sense_is_named() {
    let with = |server| error(&small().server(server));
    assert_eq!(with(Server::new("a")), WorldError::DuplicateServer("a".into()));
    assert_eq!(with(Server::new("a")).to_string(), r#"two servers have the id "a""#);
    for (server, word) in [
        (Server::new("x").speed(0.0), "speed"),
        (Server::new("x").speed(-1.0), "speed"),
        (Server::new("x").speed(f64::NAN), "speed"),
        (Server::new("x").speed(f64::INFINITY), "speed"),
        (Server::new("x").prefill_rate(0.0), "prefill rate"),
        (Server::new("x").prefill_rate(f64::NAN), "prefill rate"),
        (Server::new("x").decode(secs(0), secs(0), 8), "decode step"),
        (Server::new("x").decode(secs(0.02), secs(0), 0), "decode batch"),
        (Server::new("x").known_limit(0), "known limit"),
        (Server::new("x").quota(Some(0), None), "quota"),
        (Server::new("x").quota(None, Some(0)), "quota"),
        (Server::new("x").price(f64::NAN), "price"),
        (Server::new("x").price(-1.0), "price"),
    ] {
        let WorldError::Server { id, what } = with(server.clone()) else { panic!("{server:?}") };
        assert!(id == "x" && what.contains(word), "{server:?}: {what}");
    }
    assert_eq!(with(Server::new(" ")).to_string(), r#"server " ": its id is empty"#);
}

#[test]
fn a_fault_that_makes_no_sense_is_named_by_its_number() {
    let with = |fault: Fault| error(&small().fault(at(secs(1)).down()).fault(fault));
    let start = || at(secs(50));
    let unknown = with(start().server("z").down());
    assert_eq!(unknown, WorldError::UnknownServer { number: 2, id: "z".into() });
    assert_eq!(unknown.to_string(), r#"fault number 2 names the server "z", which does not exist"#);
    let unknown = with(start().region("z").down());
    assert_eq!(unknown, WorldError::UnknownRegion { number: 2, name: "z".into() });
    assert_eq!(unknown.to_string(), r#"fault number 2 names the region "z", where no server is"#);
    let own = |fault| match with(fault) {
        WorldError::Fault { number: 2, what } => what,
        other => panic!("{other}"),
    };
    assert_eq!(own(start().lasting(secs(0)).down()), "ends when it starts");
    assert_eq!(own(at(secs(120)).down()), "starts after the end of the run");
    assert_eq!(own(start().flapping(secs(0), secs(1)).down()), "flaps without a pause");
    assert_eq!(own(start().flapping(secs(1), secs(0)).down()), "flaps without a pause");
    for times in [0.0, -2.0, f64::NAN, f64::INFINITY] {
        assert_eq!(own(start().slow(times)), "has a speed that is no positive number");
        assert_eq!(own(start().speed(times)), "has a speed that is no positive number");
    }
    for share in [-0.1, 1.1, f64::NAN] {
        assert_eq!(own(start().errors(share, secs(0))), "has a share outside 0 to 1");
    }
    assert_eq!(
        with(at(secs(120)).down()).to_string(),
        "fault number 2 starts after the end of the run",
        "the text names the number"
    );
}

/// Two servers, of these models.
fn tried(first: &str, second: &str) -> World {
    World::new().server(Server::new("a").model(first)).server(Server::new("b").model(second))
}

#[test]
fn a_setting_that_makes_no_sense_is_named() {
    for (world, setting) in [
        (small().routers(0), "routers"),
        (small().lasting(secs(0)), "lasting"),
        (small().deadline(secs(0)), "deadline"),
        (small().reports_every(secs(0)), "probes and reports"),
        (small().probes(secs(0)), "probes and reports"),
        (small().rollout("m@2", 1_000, secs(9), secs(9)), "rollout"),
        (tried("m@1", "m@2").rollout("m@2", 10_000, secs(9), secs(9)), "rollout"),
        (tried("m@1", "m@2").rollout("m@1", 1_000, secs(9), secs(9)), "rollout"),
        (tried("m", "m@2").rollout("m@2", 1_000, secs(9), secs(9)), "rollout"),
        (small().warm_up(secs(120)), "warm_up"),
        (small().load(f64::NAN), "load"),
        (small().load(0.0), "load"),
        (small().load(-0.5), "load"),
        (small().load(f64::INFINITY), "load"),
        (small().load_steps([]), "load"),
        (small().load_steps([(secs(5), 0.5)]), "load"),
        (small().load_steps([(secs(0), 0.5), (secs(9), 0.6), (secs(9), 0.7)]), "load"),
        (small().load_steps([(secs(0), 0.5), (secs(9), -0.6)]), "load"),
        (small().arrivals(Arrivals::Gamma { cv: 0.0 }), "arrivals"),
        (small().arrivals(Arrivals::Gamma { cv: f64::NAN }), "arrivals"),
        (small().tenants([("t", -1.0)]), "tenants"),
        (small().tenants([("t", 1.0), ("u", 0.0)]), "tenants"),
        (small().critical_share(1.5), "critical_share and impatient"),
        (small().critical_share(f64::NAN), "critical_share and impatient"),
        (small().impatient(2.0, secs(1)), "critical_share and impatient"),
        (small().replay_safe_share(-0.5), "replay_safe_share"),
        (small().round_trip("eu", "uss", secs(1)), "round_trip"),
    ] {
        let error = error(&world);
        let WorldError::Setting { name, what } = &error else { panic!("{setting}: {error}") };
        assert_eq!(*name, setting);
        assert_eq!(error.to_string(), format!("{setting}: {what}"));
    }
}

#[test]
fn a_stack_that_does_not_fit_says_so() {
    let tiers = FailSafe::default().tiers("m", ["nobody-has-this"]);
    let error = small().run(|_| ordered().fail_safe(tiers.clone())).unwrap_err();
    assert!(matches!(error, WorldError::Router(_)) && error.to_string().contains("nobody-has-this"), "{error}");
}

#[test]
fn a_line_of_a_trace_that_makes_no_sense_is_named() {
    for (text, expected) in [
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "line 1: there is no request"),
        ("T,C,G\n0,5,6\n\n1,5", "line 4: 2 values where there should be 3"),
        ("0,5,6\n1,5,6,7", "line 2: 4 values where there should be 3"),
        ("0,5,6\nlater,5,6", r#"line 2: "later" is no time"#),
        ("0,5,6\n1,-5,6", r#"line 2: "-5" is no number of tokens"#),
        ("0,5,6\n1,5,6.5", r#"line 2: "6.5" is no number of tokens"#),
        ("3,5,6\n5,5,6\n4,5,6", "line 3: the time 4 is before that of the line above"),
        ("3,5,6\n1,5,6", "line 2: the time 1 is before the first"),
        ("3,5,6\n1e300,5,6", "line 2: the time 1e300 is too far from the first"),
        ("NaN,5,6\n1,5,6", r#"line 1: "NaN" is no time"#),
        ("inf,5,6\n1,5,6", r#"line 1: "inf" is no time"#),
        ("TIMESTAMP,ContextTokens\n1,5", "line 1: 2 columns where there should be 3"),
        ("what is this", "line 1: 1 columns where there should be 3"),
        (
            "TIMESTAMP,GeneratedTokens,ContextTokens\n1,5,6",
            "line 1: the column GeneratedTokens stands where ContextTokens should be",
        ),
    ] {
        assert_eq!(Trace::parse(text).unwrap_err().to_string(), expected, "{text:?}");
    }
    assert_eq!(Lengths::of([]), None);
    for text in ["0,5,6\r\n1,0,0\r\n", "\u{feff}TIMESTAMP,ContextTokens,GeneratedTokens\n0,5,6\n1,5,6"] {
        let trace = Trace::parse(text).unwrap();
        assert_eq!((trace.len(), trace.is_empty()), (2, false));
    }
}

#[test]
fn a_name_that_nobody_has_names_nobody() {
    for name in ["", "nobody", "fallway ", "S99", "s"] {
        assert!(Contestant::by_name(name).is_none() && Scenario::by_name(name).is_none(), "{name:?}");
    }
    for contestant in Contestant::ALL {
        assert_eq!(Contestant::by_name(contestant.name()).unwrap().name(), contestant.name());
    }
    assert_eq!(Contestant::by_name("oracle").unwrap().name(), Contestant::ORACLE.name());
    for scenario in Scenario::ALL {
        assert_eq!(Scenario::by_name(&scenario.name().to_lowercase()), Some(scenario));
        assert!(!scenario.title().is_empty());
    }
}

#[test]
fn settings_of_a_scenario_that_make_no_sense_are_named() {
    for scenario in Scenario::ALL {
        for load in [0.0, -1.0, f64::NAN] {
            let settings = Settings { load: Some(load), ..Settings::default() };
            for stage in scenario.stages(&settings) {
                let error = stage.run(Contestant::ALL[0]).unwrap_err();
                assert!(matches!(error, WorldError::Setting { name: "load", .. }), "{scenario:?}: {error}");
            }
        }
    }
}

#[test]
fn a_comparison_of_nothing_has_no_figures() {
    let none = Settings { requests: Some(0), routers: 1, ..Settings::default() };
    // Ends in the middle of the fault.
    let short = Settings { requests: Some(3_000), ..none.clone() };
    for stage in Scenario::S2.stages(&none).into_iter().chain(Scenario::S16.stages(&none)) {
        let measured = stage.measure(&stage.run(Contestant::ALL[0]).unwrap());
        assert_eq!((measured.requests, measured.time_to_detect, measured.time_to_recover), (0, None, None));
        assert!(measured.goodput.is_nan() && measured.ttft_p99.is_nan() && measured.attempts.is_nan());
    }
    for stage in Scenario::S2.stages(&short) {
        let measured = stage.measure(&stage.run(Contestant::ALL[0]).unwrap());
        assert_eq!((measured.requests, measured.time_to_detect, measured.time_to_recover), (3_000, None, None));
        assert!(measured.goodput > 0.9 && measured.ttft_p99 > 0.0);
    }
}

/// The ends of what a setting takes: odd, and no reason to panic.
#[test]
fn what_is_extreme_is_played() {
    let short = || small().requests(40);
    let start = || at(secs(5));
    for world in [
        short().requests(0),
        short().slo(secs(0)),
        short().deadline(Duration::from_nanos(1)),
        short().load(1e6),
        short().load(1e-6),
        short().impatient(1.0, secs(0)),
        short().server(Server::new("late").joins_after(Duration::MAX)),
        short().server(Server::new("far").base_latency(secs(1e6))),
        short().server(Server::new("snail").speed(1e-12)),
        short().round_trip("eu", "us", secs(1e6)),
        short().fault(start().lasting(Duration::MAX).down()),
        short().fault(start().flapping(Duration::MAX, secs(1)).down()),
        short().fault(start().flapping(secs(1), Duration::MAX).hangs()),
        short().fault(start().slow(1e300)),
        short().fault(start().latency(Duration::MAX)),
        short().fault(start().errors(1.0, Duration::MAX)),
        short().fault(start().throttled(Duration::MAX)),
        short().fault(start().cuts_streams(0)),
        short().fault(start().clock_jumps(secs(1e9))),
        short().trace(Trace::parse("0,5,5\n1.8e19,5,5").unwrap()),
    ] {
        let (pure, real) =
            (world.run(|_| default_stack()).unwrap(), world.run_with_futures(|_| default_stack()).unwrap());
        check(&pure);
        assert_eq!(pure.records(), real.records());
    }
    assert_eq!(short().requests(0).run(|_| default_stack()).unwrap().goodput(), 1.0);
}
