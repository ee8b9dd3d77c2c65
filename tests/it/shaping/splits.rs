//! Which arm of a name a request falls to.

use crate::support::{ANSWER, TestRouter, World, always, fail, secs};
use fallway::FailureKind::Overloaded;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::recover::Ejection;
use fallway::registry::{Alias, Catalog, Keys, ModelVersion, Placement, Publication, Registry, State};
use fallway::router::BuildError;
use fallway::shape::{Split, Sticky};
use fallway::time::{Clock, Instant};
use fallway::{CallOptions, Decision, Facts, Profile, Router};
use std::collections::BTreeSet;
use std::time::SystemTime;

fn canary(share: u32) -> Split {
    Split::new("chat", [("m@1", 10_000 - share), ("m@2", share)])
}

/// A router over both versions of `m`, and a small model, that all answer.
fn fleet(world: &World, config: FailSafe) -> TestRouter {
    let member = |id: &str, model: &str| (Profile::new(id).model(model), always(ANSWER));
    let members = [member("one", "m@1"), member("two", "m@2"), member("small", "small")];
    world.fleet(world.router(ordered().fail_safe(config)).ejection(Ejection::off()), members).0
}

fn by_session(session: u32) -> Facts {
    Facts::model("chat").session(format!("s{session}")).replay_safe()
}

fn chosen(decision: &Decision) -> &str {
    decision.chosen().unwrap().name()
}

/// The sessions of so many that fall to the second version.
fn canaries(router: &TestRouter, sessions: u32) -> BTreeSet<u32> {
    let second = |session: &u32| chosen(&router.explain(&CallOptions::new(by_session(*session)))) == "two";
    (0..sessions).filter(second).collect()
}

#[test]
fn every_arm_gets_its_share() {
    for share in [0, 1, 100, 500, 5_000, 9_900, 10_000] {
        let world = World::new();
        let seen = canaries(&fleet(&world, FailSafe::default().split(canary(share))), 20_000).len();
        let expected = f64::from(share) * 2.0;
        // Five standard deviations of the binomial distribution.
        let bound = 5.0 * (expected * (1.0 - expected / 20_000.0)).sqrt();
        assert!((seen as f64 - expected).abs() <= bound, "{share}: {seen} of {expected} ± {bound}");
    }
}

#[test]
fn who_is_in_stays_in_when_an_arm_grows() {
    let world = World::new();
    let mut before = BTreeSet::new();
    for share in [0, 100, 500, 1_000, 5_000, 10_000] {
        let now = canaries(&fleet(&world, FailSafe::default().split(canary(share))), 2_000);
        assert!(before.is_subset(&now), "{share}");
        before = now;
    }
    assert_eq!(before.len(), 2_000);
}

#[test]
fn a_ramp_grows_with_time_and_keeps_whom_it_has() {
    let world = World::new();
    let ends = world.now() + secs(200);
    let split = canary(100).ramp("m@1", "m@2", 9_900, secs(100), ends);
    let router = fleet(&world, FailSafe::default().split(split.clone()));
    let (mut before, mut shares) = (BTreeSet::new(), Vec::new());
    for _ in 0..=10 {
        let now = canaries(&router, 2_000);
        assert!(before.is_subset(&now));
        shares.push((now.len() as u32, split.arms(world.now()).nth(1).unwrap().1));
        before = now;
        world.run_for(secs(25));
    }
    let expected = [100, 100, 100, 100, 100, 2_575, 5_050, 7_525, 10_000, 10_000, 10_000];
    assert_eq!(shares.iter().map(|(_, share)| *share).collect::<Vec<_>>(), expected);
    for (seen, share) in shares {
        assert!((f64::from(seen) / 2_000.0 - f64::from(share) / 10_000.0).abs() < 0.03, "{seen} of 2000 for {share}");
    }
}

/// The arms of a ramp that moved all from `m@1` to `m@2` in the ten seconds before this second since 1970.
fn share_of_ten_seconds(ends: u64) -> u32 {
    let split = canary(0).ramp("m@1", "m@2", 10_000, secs(10), SystemTime::UNIX_EPOCH + secs(ends));
    split.arms(Clock.now()).nth(1).unwrap().1
}

const RAMP_ENDS: &str = "FALLWAY_RAMP_ENDS";

#[test]
fn a_process_that_starts_in_the_middle_of_a_ramp_is_where_the_others_are() {
    if let Ok(ends) = std::env::var(RAMP_ENDS) {
        // This is the other process.
        return println!("share {}", share_of_ten_seconds(ends.parse().unwrap()));
    }
    Clock.now();
    std::thread::sleep(secs(1));
    let ends = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 8;
    let before = share_of_ten_seconds(ends);
    let mut other = std::process::Command::new(std::env::current_exe().unwrap());
    other
        .args([
            "--exact",
            "--nocapture",
            "shaping::splits::a_process_that_starts_in_the_middle_of_a_ramp_is_where_the_others_are",
        ])
        .env(RAMP_ENDS, ends.to_string());
    let said = String::from_utf8(other.output().unwrap().stdout).unwrap();
    let share = said.split("share ").nth(1).and_then(|said| said.lines().next()).unwrap().parse().unwrap();
    let after = share_of_ten_seconds(ends);
    // A tick of the system's clock between two readings is a millisecond at most, which is one in ten thousand of ten seconds.
    assert!((before.saturating_sub(2)..=after + 2).contains(&share), "{before} {share} {after}");
    assert!(before > 0, "{before}");
    // What ended before the process began, even before its time line, is done; what begins later is not begun.
    let now = ends - 8;
    let shares =
        [0, now - 100 * 86_400, now - 10, now + 60, now + 100 * 86_400, u64::from(u32::MAX)].map(share_of_ten_seconds);
    assert_eq!(shares, [10_000, 10_000, 10_000, 0, 0, 0]);
}

#[test]
fn what_sticks_is_what_the_split_says() {
    let arms = |split: Split, facts: &Facts| -> BTreeSet<u32> {
        let world = World::new();
        let router = fleet(&world, FailSafe::default().split(split));
        let mut decision = router.explain(&CallOptions::new(facts.clone()));
        let mut bucket = |seed| {
            router.decide(&mut decision, Instant::from_nanos(1), seed);
            decision.splits()[0].bucket()
        };
        (0..20).map(&mut bucket).collect()
    };
    let half = || canary(5_000);
    let facts = |session: &str| Facts::model("chat").session(session.to_owned()).tenant("t");
    let [a, b] = [arms(half(), &facts("a")), arms(half(), &facts("b"))];
    assert!(a.len() == 1 && b.len() == 1 && a != b);
    let tenant = || half().sticky(Sticky::Tenant);
    assert_eq!(arms(tenant(), &facts("a")), arms(tenant(), &facts("b")));
    assert_eq!(arms(tenant(), &facts("a")), arms(half(), &Facts::model("chat").tenant("t")));
    assert!(arms(half().sticky(Sticky::Request), &facts("a")).len() > 15);
    assert!(arms(half(), &Facts::model("chat")).len() > 15, "without a key each request draws");
    let labelled = |session: &str| arms(half().sticky_by_label("user"), &facts(session).label("user", "ada"));
    assert!(labelled("a").len() == 1 && labelled("a") == labelled("b") && labelled("a") != a);
    assert_eq!(arms(half().sticky_by_label("user"), &facts("a")), a, "no such label");
}

#[test]
fn the_registry_sends_a_key_to_the_same_arm() {
    let world = World::new();
    for sticky in [Sticky::Session, Sticky::Tenant, Sticky::Request] {
        let (now, registry) = (SystemTime::UNIX_EPOCH, Registry::builder().open(SystemTime::UNIX_EPOCH));
        let version = |state| ModelVersion::new(state);
        let placed = |catalog: Catalog, id: &str, version: &str| {
            catalog.placement(id, Placement::new(version, "acme", "eu", format!("endpoint-{id}")))
        };
        let catalog = Catalog::new().version("m", "1", version(State::Live)).version("m", "2", version(State::Canary));
        let catalog = placed(placed(catalog, "one", "m@1"), "two", "m@2")
            .alias("chat", Alias::split([("m@1", 7_000), ("m@2", 3_000)]).sticky(sticky));
        registry.publish(&Publication::from(catalog), now).unwrap();
        let router = fleet(&world, FailSafe::default().split(canary(3_000).sticky(sticky)));
        let mut decision = router.explain(&CallOptions::new(by_session(0)));
        for number in 0..1_000 {
            if sticky != Sticky::Request {
                let facts = by_session(number).tenant(format!("t{}", number / 2));
                decision = router.explain(&CallOptions::new(facts));
            }
            router.decide(&mut decision, Instant::from_nanos(1), u64::from(number) << 32);
            let found = registry.resolve("chat", Keys::of(decision.facts(), decision.seed())).unwrap();
            let drawn = &decision.splits()[0];
            assert_eq!((drawn.arm(), Some(drawn.bucket() as u16)), (found.version(), found.provenance(now).bucket));
        }
    }
}

/// A session that falls to this arm of `canary(share)`.
fn session_of(arm: &str, share: u32) -> Facts {
    let world = World::new();
    let router = fleet(&world, FailSafe::default().split(canary(share)));
    let falls = |facts: &Facts| chosen(&router.explain(&CallOptions::new(facts.clone()))) == arm;
    (0..).map(by_session).find(falls).unwrap()
}

#[test]
fn an_arm_that_fails_is_stood_in_for_as_the_host_says() {
    // Who answers where this backend fails, for a session of this arm.
    let answers = |config: FailSafe, ill: &str, facts: Facts| {
        let world = World::new();
        let script = |id: &str| if id == ill { always(fail(Overloaded)) } else { always(ANSWER) };
        let member = |id: &str, model: &str| (Profile::new(id).model(model), script(id));
        let members = [member("one", "m@1"), member("two", "m@2"), member("small", "small")];
        let (router, _) = world.fleet(world.router(ordered().fail_safe(config.split(canary(500)))), members);
        world.call(&router, CallOptions::within(secs(5)).facts(facts)).unwrap().backend().unwrap().to_owned()
    };
    let [one, two] = [session_of("one", 500), session_of("two", 500)];
    assert_eq!(answers(FailSafe::default(), "two", two.clone()), "one");
    assert_eq!(answers(FailSafe::default(), "one", one.clone()), "two");
    // The canary serves its own requests and no others.
    let careful = || FailSafe::default().tiers("chat", ["m@1", "small"]);
    assert_eq!(answers(careful(), "", two.clone()), "two");
    assert_eq!(answers(careful(), "two", two), "one");
    assert_eq!(answers(careful(), "one", one), "small");
}

#[test]
fn an_arm_without_a_share_stands_in_for_nobody() {
    let world = World::new();
    let member = |id: &str, model: &str, script| (Profile::new(id).model(model), script);
    let members = [member("one", "m@1", always(fail(Overloaded))), member("two", "m@2", always(ANSWER))];
    let config = FailSafe::default().split(canary(0));
    let (router, [_, two]) = world.fleet(world.router(ordered().fail_safe(config)), members);
    assert!(world.call(&router, CallOptions::within(secs(1)).facts(by_session(1))).is_err());
    assert_eq!(two.calls(), 0);
}

#[test]
fn a_retry_draws_the_same_arm_though_the_ramp_goes_on() {
    let world = World::new();
    let facts = session_of("one", 5_000);
    let ends = world.now() + secs(2);
    let config =
        FailSafe::default().split(canary(5_000).ramp("m@1", "m@2", 5_000, secs(2), ends)).tiers("chat", ["m@1"]);
    let slow = always(crate::support::Act::Fail(Overloaded, secs(3)));
    let members = [("a", "m@1", slow), ("b", "m@1", always(ANSWER)), ("two", "m@2", always(ANSWER))]
        .map(|(id, model, script)| (Profile::new(id).model(model), script));
    let (router, _) = world.fleet(world.router(ordered().fail_safe(config)), members);
    let routed = world.call(&router, CallOptions::within(secs(10)).facts(facts.clone())).unwrap();
    assert_eq!((routed.backend(), routed.attempts().len()), (Some("b"), 2));
    assert_eq!(routed.decision().splits()[0].arm(), "m@1");
    // The next request of the session comes after the ramp.
    assert_eq!(chosen(&router.explain(&CallOptions::new(facts))), "two");
}

#[test]
fn a_split_is_a_tier_of_other_aliases_and_its_arms_may_be_aliases() {
    let world = World::new();
    let config = FailSafe::default()
        .split(Split::new("big", [("m@1", 5_000), ("pair", 5_000)]))
        .tiers("pair", ["m@2", "small"])
        .tiers("chat", ["big", "small"])
        .fallback(["big"]);
    let router = fleet(&world, config);
    let mut seen = BTreeSet::new();
    for session in 0..50 {
        let decision = router.explain(&CallOptions::new(by_session(session)));
        let drawn = &decision.splits()[0];
        assert_eq!((drawn.split().name(), drawn.share(), decision.splits().len()), ("big", 5_000, 1));
        seen.insert((drawn.arm().to_owned(), chosen(&decision).to_owned()));
    }
    let expected = [("m@1", "one"), ("pair", "two")].map(|(arm, backend)| (arm.to_owned(), backend.to_owned()));
    assert_eq!(seen, expected.into());
}

#[test]
fn a_decision_tells_the_arm_and_replays_to_it() {
    let world = World::new();
    let (takes, ends) = (secs(100), world.now() + secs(100));
    let router = fleet(&world, FailSafe::default().split(canary(500).ramp("m@1", "m@2", 2_000, takes, ends)));
    world.run_for(secs(50));
    let mut arms = BTreeSet::new();
    for session in 0..100 {
        let decision = router.explain(&CallOptions::new(by_session(session)));
        let drawn = &decision.splits()[0];
        let (arm, share) = if chosen(&decision) == "two" { ("m@2", 1_500) } else { ("m@1", 8_500) };
        assert_eq!((drawn.arm(), drawn.share()), (arm, share));
        let line = format!("split chat: bucket {} of 10000 falls to {arm} ({} %)", drawn.bucket(), share / 100);
        assert!(decision.to_string().contains(&line), "{decision}");
        let json = serde_json::to_value(&decision).unwrap();
        let told = serde_json::json!([{"name": "chat", "bucket": drawn.bucket(), "arm": arm, "share": share}]);
        assert_eq!(json["splits"], told);
        arms.insert(arm);
        let again = router.replay(&decision);
        assert!(again.same_choice(&decision));
        assert_eq!(again.splits()[0].bucket(), drawn.bucket());
    }
    assert_eq!(arms.len(), 2);
    // A request that splits nothing says nothing of it, also in a record that was used before.
    assert!(router.explain(&CallOptions::new(Facts::model("small"))).splits().is_empty());
}

#[test]
fn a_split_that_cannot_be_meant_has_a_name() {
    let world = World::new();
    let error = |config: FailSafe| {
        let member = |id: &str| (Profile::new(id).model(id), always(ANSWER));
        let members = ["m@1", "m@2", "small"].map(member);
        let mut builder: fallway::router::Builder<str, _> = Router::builder(ordered().fail_safe(config));
        for (profile, script) in members {
            let backend = world.backend(profile.id(), script);
            builder = builder.backend(profile, backend);
        }
        match builder.build() {
            Err(BuildError::Policy(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let ramp = |from, to, share| canary(500).ramp(from, to, share, secs(1), Instant::from_nanos(1));
    let none: [(&str, u32); 0] = [];
    for (split, words) in [
        (Split::new("chat", none), "sum to 0 basis points"),
        (Split::new("chat", [("m@1", 9_000), ("m@2", 999)]), "split \"chat\" sum to 9999 basis points, not to 10000"),
        (Split::new("chat", [("m@1", u32::MAX), ("m@2", u32::MAX)]), "sum to 8589934590 basis points"),
        (Split::new("chat", [("m@1", 5_000), ("m@1", 5_000)]), "names \"m@1\" twice"),
        (Split::new("chat", [("m@1", 5_000), ("m@3", 5_000)]), "names \"m@3\", which no backend serves"),
        (Split::new("chat", [("m@1", 5_000), ("chat", 5_000)]), "cyclic fallback: chat -> chat"),
        (ramp("m@1", "m@3", 1), "ramps from \"m@1\" to \"m@3\", which are not two of its arms"),
        (ramp("m@1", "m@1", 1), "ramps from \"m@1\" to \"m@1\""),
        (ramp("m@2", "m@1", 501), "ramps 501 basis points away from \"m@2\", which has 500"),
    ] {
        let told = error(FailSafe::default().split(split));
        assert!(told.contains(words), "{told}: not {words}");
    }
    let told = error(FailSafe::default().split(canary(500)).split(canary(700)));
    assert!(told.contains("name \"chat\" is split twice"), "{told}");
    let hidden = Split::new("m", [("m@1", 5_000), ("m@2", 5_000)]);
    let told = error(FailSafe::default().split(hidden.clone()).tiers("chat", ["m", "small"]));
    assert!(told.contains("tier \"m\" is a model and a split"), "{told}");
    let told = error(FailSafe::default().split(hidden).fallback(["m"]));
    assert!(told.contains("tier \"m\" is a model and a split"), "{told}");
}

#[test]
fn a_model_may_split_over_its_own_versions() {
    let world = World::new();
    let config = FailSafe::default().split(Split::new("m", [("m@1", 5_000), ("m@2", 5_000)]));
    let router = fleet(&world, config);
    let asked = |session| Facts::model("m").session(format!("s{session}"));
    let seen: BTreeSet<_> =
        (0..50).map(|session| chosen(&router.explain(&CallOptions::new(asked(session)))).to_owned()).collect();
    assert_eq!(seen, ["one".to_owned(), "two".to_owned()].into());
    // In an update models may come and go, and the split stays.
    router.update(|fleet| fleet.remove("two")).unwrap();
    let decision = router.explain(&CallOptions::new(asked(0)));
    assert_eq!(chosen(&decision), "one");
}
