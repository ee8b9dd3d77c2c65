//! When a canary is rolled back by itself, and when not.

use super::fixtures::{at, catalog, on, publish, registry, variant};
use fallway::FailureKind;
use fallway::registry::store::Memory;
use fallway::registry::{Alias, Arm, Code, Judge, Keys, ModelVersion, Observation, Registry, State, Verdict};
use fallway::rng::Rng;
use fallway::time::Instant;
use std::time::Duration;

fn second(n: u64) -> Instant {
    Instant::from_nanos(n * 1_000_000_000)
}

const QUICK: Observation = Observation::Answered(Duration::from_millis(200));

/// So many failures among so many requests of one, all in the first window.
fn seen(judge: &mut Judge, arm: Arm, failed: u32, all: u32) {
    for n in 0..all {
        judge.observe(arm, if n < failed { Observation::Failed } else { QUICK }, second(0));
    }
}

fn verdict(canary: (u32, u32), stable: (u32, u32)) -> &'static str {
    let mut judge = Judge::new();
    seen(&mut judge, Arm::Canary, canary.0, canary.1);
    seen(&mut judge, Arm::Stable, stable.0, stable.1);
    match judge.verdict(second(1)) {
        Verdict::Hold => "hold",
        Verdict::Sound(_) => "sound",
        Verdict::Failing(evidence) => {
            assert_eq!(evidence.canary, (u64::from(canary.0), u64::from(canary.1)));
            "failing"
        }
        Verdict::Slow(_) => "slow",
        Verdict::InconclusiveSharedFailure(_) => "shared",
    }
}

#[test]
fn errors_are_judged_by_points_by_times_and_against_chance() {
    for (canary, stable, expected) in [
        // Fifty of each, or nothing is said.
        ((49, 49), (0, 10_000), "hold"),
        ((50, 50), (0, 49), "hold"),
        ((50, 50), (0, 50), "failing"),
        ((0, 50), (0, 50), "sound"),
        // Five points, exactly; at this size that is no chance.
        ((50, 1_000), (0, 1_000), "failing"),
        ((49, 1_000), (0, 1_000), "sound"),
        // Twice, exactly.
        ((200, 1_000), (100, 1_000), "failing"),
        ((199, 1_000), (100, 1_000), "sound"),
        // Six points and all of the failures, but of fifty: z = 1.76, chance 0.039.
        ((3, 50), (0, 50), "sound"),
        // Of fifty against a thousand: z = 7.8.
        ((3, 50), (0, 1_000), "failing"),
        // 7 of 50 against 1 of 50: z = 2.21, chance 0.0135; 8 against 1: z = 2.45, chance 0.0072.
        ((7, 50), (1, 50), "sound"),
        ((8, 50), (1, 50), "failing"),
        // Both are bad.
        ((100, 100), (20, 100), "shared"),
        ((100, 100), (19, 100), "failing"),
        ((20, 100), (100, 100), "shared"),
        ((0, 100), (100, 100), "sound"),
    ] {
        assert_eq!(verdict(canary, stable), expected, "{canary:?} against {stable:?}");
    }
}

/// Windows with so many requests of each, in which the canary takes so long.
fn windows(judge: &mut Judge, first: u64, times: &[u64], many: u32) -> Verdict {
    for (n, millis) in (first..).zip(times) {
        for _ in 0..many {
            judge.observe(Arm::Stable, QUICK, second(n * 10));
            judge.observe(Arm::Canary, Observation::Answered(Duration::from_millis(*millis)), second(n * 10));
        }
    }
    judge.verdict(second((first + times.len() as u64) * 10))
}

#[test]
fn three_slow_windows_in_a_row_are_slow() {
    assert!(
        matches!(windows(&mut Judge::new(), 0, &[400, 400, 400], 60), Verdict::Slow(e) if e.p95.unwrap().0 == Duration::from_millis(400))
    );
    assert!(matches!(windows(&mut Judge::new(), 0, &[400, 400], 60), Verdict::Sound(_)));
    assert!(matches!(windows(&mut Judge::new(), 0, &[399, 399, 399], 60), Verdict::Sound(_)), "below twice");
    assert!(matches!(windows(&mut Judge::new(), 0, &[900, 900, 200, 900, 900], 60), Verdict::Sound(_)), "not in a row");
    // Too few in a window for a percentile: neither for nor against.
    let mut judge = Judge::new();
    windows(&mut judge, 0, &[900, 900], 60);
    assert!(matches!(windows(&mut judge, 2, &[200], 19), Verdict::Sound(_)));
    assert!(matches!(windows(&mut judge, 3, &[900], 60), Verdict::Slow(_)));
}

#[test]
fn what_is_not_the_versions_fault_does_not_count() {
    let own: Vec<_> = FailureKind::ALL.into_iter().filter(|kind| Observation::failure(*kind).is_some()).collect();
    let expected = [
        FailureKind::Timeout,
        FailureKind::ModelUnavailable,
        FailureKind::ServerError,
        FailureKind::Truncated,
        FailureKind::Stalled,
        FailureKind::Protocol,
    ];
    assert_eq!(own, expected);
}

#[test]
fn two_equal_versions_are_hardly_ever_told_apart() {
    // Each judged once, at its thousandth request: the test is one-sided at 1 %, and points and times must be met too.
    let mut rng = Rng::new(11);
    let mut wrong = 0;
    for _ in 0..2_000 {
        let mut failures = || (0..1_000).filter(|_| rng.unit() < 0.05).count() as u32;
        let (canary, stable) = (failures(), failures());
        wrong += u32::from(verdict((canary, 1_000), (stable, 1_000)) == "failing");
    }
    assert!(wrong <= 2, "{wrong} of 2000");
}

#[test]
fn old_windows_are_forgotten_and_little_traffic_is_gathered() {
    let mut judge = Judge::new();
    // One request of each in ten seconds: enough after 50 windows, which are within the ten minutes.
    for n in 0..49 {
        judge.observe(Arm::Canary, Observation::Failed, second(n * 10));
        judge.observe(Arm::Stable, QUICK, second(n * 10));
        assert_eq!(judge.verdict(second(n * 10)), Verdict::Hold, "{n}");
    }
    judge.observe(Arm::Canary, Observation::Failed, second(490));
    judge.observe(Arm::Stable, QUICK, second(490));
    assert!(matches!(judge.verdict(second(490)), Verdict::Failing(_)));
    assert_eq!(judge.verdict(second(1_100)), Verdict::Hold, "ten minutes later nothing of it is left");
    // A clock that runs backwards neither panics nor forgets.
    judge.observe(Arm::Canary, QUICK, second(5));
    judge.verdict(second(0));
    judge.observe(Arm::Canary, QUICK, Instant::from_nanos(u64::MAX));
}

fn roll_back(registry: &Registry, seconds: u64) -> Result<u64, Code> {
    let done = registry.roll_back_version("chat", "llama-70b@4", "it fails", at(seconds));
    done.map(|ack| ack.generation()).map_err(|nack| nack.violations()[0].code())
}

#[test]
fn a_bad_version_is_withdrawn_and_stays_out_for_longer_each_time() {
    let disk = Memory::default();
    let mut registry = on(&disk);
    publish(&registry, catalog()).unwrap();
    let mut now = 0;
    for minutes in [10, 20, 40, 80] {
        roll_back(&registry, now).unwrap();
        assert_eq!(
            registry.view().snapshot().catalog().aliases()["chat"].targets(),
            [("llama-70b@3".to_owned(), 10_000)]
        );
        assert!(registry.history().last().unwrap().cause().starts_with("roll back llama-70b@4 of chat: it fails"));
        drop(registry);
        registry = on(&disk);
        // Back in traffic by hand: its content stays out, whatever its state and price.
        let again = catalog().version(
            "llama-70b",
            "4",
            ModelVersion::new(State::Canary)
                .context(131_072)
                .output(8_192)
                .price(fallway::facts::Price::pico(600_000, 790_000))
                .capabilities(fallway::facts::Capabilities::TOOLS),
        );
        publish(&registry, again).unwrap();
        registry.tick(at(now + minutes * 60 - 1));
        assert_eq!(registry.view().state_of("llama-70b@4"), Some(State::Quarantined), "{minutes}");
        assert!((0..200).all(|seed| registry.resolve("chat", Keys::seed(seed)).unwrap().version() == "llama-70b@3"));
        registry.tick(at(now + minutes * 60));
        assert_eq!(registry.view().state_of("llama-70b@4"), Some(State::Canary), "{minutes}");
        registry.thaw();
        now += minutes * 60 + 3_600;
    }
    // With a new revision it is another content.
    roll_back(&registry, now).unwrap();
    let mended = ModelVersion::new(State::Canary).context(131_072).revision("b2");
    publish(&registry, catalog().version("llama-70b", "4", mended)).unwrap();
    assert_eq!(registry.view().state_of("llama-70b@4"), Some(State::Canary));
}

#[test]
fn after_three_within_an_hour_rollouts_freeze_until_somebody_thaws_them() {
    let disk = Memory::default();
    let mut registry = on(&disk);
    publish(&registry, catalog()).unwrap();
    for n in 0..3 {
        assert!(!registry.status(at(n)).frozen);
        roll_back(&registry, n).unwrap();
        registry.release("llama-70b@4").unwrap();
        let next = ModelVersion::new(State::Canary).context(131_072).revision(format!("r{n}"));
        publish(&registry, catalog().version("llama-70b", "4", next)).unwrap();
    }
    drop(registry);
    registry = on(&disk);
    assert!(registry.status(at(3)).frozen, "across restarts");
    assert_eq!(roll_back(&registry, 3), Err(Code::Frozen));
    for refused in
        [registry.promote("chat", "llama-70b@4", at(4)), registry.set_canary("chat", "llama-70b@4", 5, at(4))]
    {
        assert!(refused.unwrap_err().has(Code::Frozen));
    }
    registry.set_canary("chat", "llama-70b@4", 0, at(4)).expect("back is open");
    publish(&registry, variant(1)).expect("so are publications");
    registry.thaw();
    registry.promote("chat", "llama-70b@4", at(5)).unwrap();
}

#[test]
fn the_last_version_of_an_alias_is_not_rolled_back() {
    let registry = registry();
    registry.promote("chat", "llama-70b@4", at(0)).unwrap();
    let before = registry.view().generation();
    assert_eq!(roll_back(&registry, 1), Err(Code::SplitSum));
    let stranger = registry.roll_back_version("chat", "llama-8b@1", "", at(1)).unwrap_err();
    assert!(stranger.has(Code::NotFound));
    registry.rollback(None, at(2)).unwrap();
    registry.quarantine("llama-70b@3", at(2)).unwrap();
    assert_eq!(roll_back(&registry, 3), Err(Code::QuarantineEmpties));
    assert_eq!(registry.status(at(3)).quarantined, ["llama-70b@3"], "and nothing of it was noted");
    assert_eq!(registry.view().generation(), before + 2);
}

#[test]
fn an_alias_that_has_nothing_else_does_not_keep_a_bad_version_in_another() {
    let registry = Registry::builder().open(at(0));
    publish(&registry, catalog().alias("preview", Alias::to("llama-70b@4"))).unwrap();
    roll_back(&registry, 1).unwrap();
    let leads = |name: &str| registry.resolve(name, Keys::seed(3)).unwrap().version().to_owned();
    assert!((0..200).all(|seed| registry.resolve("chat", Keys::seed(seed)).unwrap().version() == "llama-70b@3"));
    assert_eq!(leads("preview"), "llama-70b@4", "no quarantine empties an alias");
    assert_eq!(registry.status(at(1)).quarantined, Vec::<String>::new());
    let cause = registry.history().last().unwrap().cause().to_owned();
    assert!(cause.contains("not quarantined for another alias has nothing else"), "{cause}");
}
