//! Failure domains that go out and come back as one.

use super::{Scene, Turn, named};
use crate::support::{Act, Cue, Load, Script, fail, ms, ok_share, secs, within};
use fallway::FailureKind::{self, Overloaded, RateLimited, ServerError, Timeout, Unreachable};
use fallway::Profile;
use fallway::decision::Reason;
use fallway::event::Cause;
use fallway::recover::Ejection;
use std::collections::BTreeSet;
use std::time::Duration;

/// When the trouble begins and ends, from the beginning of the scene.
const GONE: Duration = Duration::from_secs(10);
const BACK: Duration = Duration::from_secs(40);
/// Where a test's clock begins.
const START: Duration = Duration::from_secs(1_000);

/// Answers, but for a while in which it fails so.
fn fails(kind: FailureKind) -> Script {
    Box::new(move |cue: &Cue<'_>| {
        let at = Duration::from_nanos(cue.now.as_nanos()) - START;
        if (GONE..BACK).contains(&at) { Act::Fail(kind, ms(1)) } else { Act::Answer(ms(20)) }
    })
}

fn well() -> Script {
    super::answers(20)
}

/// Two regions of four; those of "eu" that `ill` names fail so for a while.
fn regions(kind: FailureKind, ill: impl Fn(usize) -> bool) -> Scene {
    let members = (0..8).map(|n| {
        let region = if n < 4 { "eu" } else { "us" };
        let script = if n < 4 && ill(n) { fails(kind) } else { well() };
        (named(format!("{region}-{n}")).model("m").region(region), script)
    });
    let scene = Scene::new(Ejection::default(), members.collect::<Vec<_>>());
    assert_eq!(scene.world.now().as_nanos(), START.as_nanos() as u64);
    scene
}

/// Twenty requests a second until `end`.
fn play(scene: &Scene, end: Duration) -> Vec<crate::support::Answer> {
    let now = Duration::from_nanos(scene.world.now().as_nanos()) - START;
    Load { per_second: 20, lasts: end - now, seed: 5 }.run(&scene.world, &scene.router, &within(secs(5)))
}

fn of<'t>(turns: &'t [Turn], who: &str) -> Vec<&'t Turn> {
    turns.iter().filter(|turn| turn.who == who).collect()
}

#[test]
fn a_region_that_is_lost_goes_out_as_one_and_within_two_seconds() {
    for kind in [Unreachable, ServerError] {
        let scene = regions(kind, |_| true);
        let answers = play(&scene, GONE + secs(8));
        assert_eq!(ok_share(&answers), 1.0);
        let turns = scene.turns.all();
        let domain = of(&turns, "[eu]");
        let out = domain.first().unwrap_or_else(|| panic!("{turns:?}"));
        let Cause::Domain { failing, members: 4 } = out.cause else { panic!("{out:?}") };
        assert!((2..=4).contains(&failing) && out.trips == 1 && out.until.is_some(), "{out:?}");
        let lost = Duration::from_nanos(out.at.as_nanos()) - START - GONE;
        assert!(lost < secs(2), "out after {lost:?}");
        // All four, with one reason; nobody elsewhere.
        let gone: BTreeSet<_> = scene.names_out().into_iter().collect();
        assert_eq!(gone.into_iter().collect::<Vec<_>>(), ["eu-0", "eu-1", "eu-2", "eu-3"]);
        let told: BTreeSet<_> = turns.iter().filter(|turn| turn.until.is_some()).map(|turn| &turn.who[..]).collect();
        assert_eq!(told.into_iter().collect::<Vec<_>>(), ["[eu]", "eu-0", "eu-1", "eu-2", "eu-3"]);
        // A few failures were enough, and after two seconds only probes are sent there.
        let late: usize = scene.backends[..4]
            .iter()
            .flat_map(|backend| backend.seen())
            .filter(|seen| Duration::from_nanos(seen.at.as_nanos()) - START > GONE + secs(2))
            .count();
        let early: u64 = answers.iter().map(|answer| answer.attempts as u64 - 1).sum();
        assert!(late <= 12 && early <= 20, "{kind}: {late} probes, {early} extra attempts");
    }
}

#[test]
fn long_answers_that_end_well_do_not_hide_that_a_region_takes_no_new_calls() {
    let members = (0..8).map(|n| {
        let script: Script = Box::new(move |cue: &Cue<'_>| match n < 4 {
            true if Duration::from_nanos(cue.now.as_nanos()) - START >= GONE => Act::Fail(ServerError, ms(1)),
            true => Act::Answer(secs(8)),
            false => Act::Answer(ms(20)),
        });
        (named(n.to_string()).region(if n < 4 { "eu" } else { "us" }), script)
    });
    let scene = Scene::new(Ejection::default(), members.collect::<Vec<_>>());
    Load { per_second: 40, lasts: GONE + secs(4), seed: 5 }.run(&scene.world, &scene.router, &within(secs(30)));
    let turns = scene.turns.all();
    let lost = Duration::from_nanos(of(&turns, "[eu]")[0].at.as_nanos()) - START - GONE;
    assert!(lost < secs(1), "out after {lost:?}");
}

#[test]
fn a_domain_that_is_out_says_so() {
    let scene = regions(Unreachable, |_| true);
    play(&scene, GONE + ms(600));
    let out = scene.out();
    assert_eq!(out.len(), 4, "{out:?}");
    for (name, reason) in out {
        assert!(
            matches!(reason, Reason::DomainOut { failing: 2.., members: 4, .. } | Reason::OnProbation { .. }),
            "{name}: {reason:?}"
        );
    }
}

#[test]
fn one_probe_at_a_time_stands_for_the_whole_domain() {
    // The probe takes a second.
    let members = (0..8).map(|n| {
        let script: Script = Box::new(move |cue: &Cue<'_>| {
            let at = Duration::from_nanos(cue.now.as_nanos()) - START;
            match n < 4 {
                true if (GONE..BACK).contains(&at) => fail(Unreachable),
                true if at >= BACK => Act::Answer(secs(1)),
                _ => Act::Answer(ms(20)),
            }
        });
        (named(n.to_string()).region(if n < 4 { "eu" } else { "us" }), script)
    });
    let scene = Scene::new(Ejection::default(), members.collect::<Vec<_>>());
    play(&scene, BACK);
    scene.world.run_for(secs(3));
    let before: u64 = scene.backends[..4].iter().map(|backend| backend.calls()).sum();
    let calls: Vec<_> = (0..1_000).map(|_| scene.world.spawn_call(&scene.router, within(secs(5)))).collect();
    scene.world.run_for(ms(500));
    let probes: u64 = scene.backends[..4].iter().map(|backend| backend.calls()).sum::<u64>() - before;
    assert_eq!((probes, calls.iter().filter(|call| call.is_done()).count()), (1, 999));
    assert!(scene.out().iter().all(|(_, reason)| matches!(reason, Reason::OnProbation { .. })), "{:?}", scene.out());
    assert_eq!(scene.out().len(), 4);
    scene.world.run();
    calls.into_iter().for_each(|call| drop(call.take().unwrap()));
    // It was answered: all four are back, each with its slow start.
    assert_eq!(scene.out(), []);
    let notes: Vec<_> = scene.router.explain(&within(secs(5))).candidates().filter_map(|it| it.note()).collect();
    assert_eq!(notes.len(), 4);
    assert!(notes.iter().all(|note| matches!(note, Reason::RampingUp { share: 100 })), "{notes:?}");
}

#[test]
fn a_domain_comes_back_by_evidence_and_all_of_it() {
    let scene = regions(Unreachable, |_| true);
    let answers = play(&scene, BACK + secs(8));
    assert_eq!(ok_share(&answers), 1.0);
    let turns = scene.turns.all();
    let domain = of(&turns, "[eu]");
    let back = domain.last().unwrap();
    assert!(matches!(back.cause, Cause::Domain { .. }) && back.until.is_none(), "{domain:?}");
    let after = Duration::from_nanos(back.at.as_nanos()) - START - BACK;
    assert!(after < secs(3), "back after {after:?}");
    // Its probes failed, and it was told, and trips were counted.
    let failed: Vec<_> = domain.iter().filter(|turn| turn.cause == Cause::ProbeFailed { kind: Unreachable }).collect();
    assert!(failed.len() >= 5 && failed.windows(2).all(|pair| pair[0].trips + 1 == pair[1].trips), "{failed:?}");
    for name in ["eu-0", "eu-1", "eu-2", "eu-3"] {
        let last = *of(&turns, name).last().unwrap();
        assert_eq!((last.until, last.at), (None, back.at), "{name}: {last:?}");
    }
    assert_eq!(scene.out(), []);
}

#[test]
fn one_of_a_domain_that_fails_goes_alone() {
    for kind in [Unreachable, ServerError] {
        let scene = regions(kind, |n| n == 1);
        play(&scene, GONE + secs(10));
        assert_eq!(scene.names_out(), ["eu-1"], "{kind}");
        assert_eq!(of(&scene.turns.all(), "[eu]"), Vec::<&Turn>::new());
    }
}

#[test]
fn what_says_nothing_of_a_domain_trips_none() {
    for kind in [Overloaded, RateLimited, FailureKind::Unauthorized, FailureKind::InvalidRequest] {
        let scene = regions(kind, |_| true);
        play(&scene, GONE + secs(5));
        assert_eq!(of(&scene.turns.all(), "[eu]"), Vec::<&Turn>::new(), "{kind}");
    }
}

#[test]
fn a_lone_domain_never_trips_nor_do_all_at_once() {
    // One region is the whole fleet; or both fail.
    for region in ["eu", "us"] {
        let members =
            (0..8).map(|n| (named(n.to_string()).region(if n < 4 { "eu" } else { region }), fails(Unreachable)));
        let scene = Scene::new(Ejection::default(), members.collect::<Vec<_>>());
        play(&scene, BACK + secs(10));
        let domains: Vec<_> = scene.turns.all().into_iter().filter(|turn| turn.who.starts_with('[')).collect();
        assert_eq!(domains, []);
        assert_eq!(scene.out(), []);
    }
}

#[test]
fn an_overload_of_the_whole_fleet_trips_no_domain() {
    // Every call times out, everywhere, but for one in ten.
    let script = || -> Script {
        Box::new(|cue: &Cue<'_>| if cue.call % 10 == 9 { Act::Answer(ms(20)) } else { Act::Fail(Timeout, ms(500)) })
    };
    let members = (0..8).map(|n| (named(n.to_string()).region(if n < 4 { "eu" } else { "us" }), script()));
    let scene = Scene::new(Ejection::default(), members.collect::<Vec<_>>());
    Load { per_second: 20, lasts: secs(60), seed: 5 }.run(&scene.world, &scene.router, &within(secs(5)));
    let domains: Vec<_> = scene.turns.all().into_iter().filter(|turn| turn.who.starts_with('[')).collect();
    assert_eq!(domains, []);
}

#[test]
fn a_named_domain_is_not_a_region() {
    // Racks in one region: the rack goes, the region stays.
    let rack = |n: usize| if n < 2 { "rack 1" } else { "rack 2" };
    let members = (0..4).map(|n| {
        let profile: Profile = named(n.to_string()).region("eu").failure_domain(rack(n));
        (profile, if n < 2 { fails(Unreachable) } else { well() })
    });
    let scene = Scene::new(Ejection::default(), members.collect::<Vec<_>>());
    play(&scene, GONE + secs(2));
    assert_eq!(scene.names_out(), ["0", "1"]);
    assert_eq!(of(&scene.turns.all(), "[rack 1]").len().min(1), 1);
}
