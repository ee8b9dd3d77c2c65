//! Ten thousand backends: a decision looks at a window of them.

use crate::support::{ANSWER, LEAVES, TestRouter, World, always, leaf, plain, secs, within};
use fallway::backend::{BackendError, backend_fn};
use fallway::policy::{FailSafe, PolicyExt, RoutingPolicy, Window, ordered, predicted_ttft, sticky};
use fallway::router::RouteErrorKind;
use fallway::{CallOptions, Decision, Facts, Profile, Router};
use std::collections::BTreeSet;

const MANY: usize = 10_000;

fn echo() -> impl fallway::Backend<str, Response = ()> {
    backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) })
}

fn router(policy: impl RoutingPolicy + 'static, profile: impl Fn(usize, Profile) -> Profile) -> Router<str, ()> {
    let mut builder = Router::<str, ()>::builder(policy).seed(7);
    for n in 0..MANY {
        builder = builder.backend(profile(n, Profile::new(format!("b{n}"))), echo());
    }
    builder.build().unwrap()
}

fn options(facts: Facts) -> CallOptions {
    CallOptions::within(secs(5)).facts(facts)
}

/// The number of the backend that a decision chose.
fn chosen(decision: &Decision) -> Option<usize> {
    decision.chosen().and_then(|chosen| chosen.name()[1..].parse().ok())
}

fn name(n: usize) -> String {
    format!("b{n}")
}

#[test]
fn every_leaf_decides_and_looks_at_a_window() {
    for leaf_name in LEAVES {
        let router = router(leaf(leaf_name).fail_safe(FailSafe::default()), |_, profile| profile.model("m"));
        for _ in 0..50 {
            let decision = router.explain(&options(Facts::model("m").session("s")));
            assert!(chosen(&decision).is_some(), "{leaf_name}");
            assert!(decision.candidates().count() <= Window::SIZE, "{leaf_name}");
            assert!(router.replay(&decision).same_choice(&decision), "{leaf_name}");
        }
    }
}

#[test]
fn random_windows_reach_everybody() {
    let router = router(predicted_ttft(), |_, profile| profile);
    let mut decision = router.explain(&within(secs(5)));
    let now = decision.time();
    let mut seen = BTreeSet::new();
    for seed in 0..3_000u64 {
        router.decide(&mut decision, now, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        seen.extend(decision.candidates().map(|it| it.id()));
    }
    assert!(seen.len() > MANY * 99 / 100, "{}", seen.len());
}

#[test]
fn an_ordered_window_begins_at_the_first() {
    let router = router(ordered(), |_, profile| profile);
    assert_eq!(chosen(&router.explain(&within(secs(5)))), Some(0));
    router.update(|fleet| (0..100).for_each(|n| fleet.drain(&name(n)))).unwrap();
    // A hundred unusable ones are more than a window.
    assert_eq!(chosen(&router.explain(&within(secs(5)))), Some(100));
}

#[test]
fn residency_holds_among_ten_thousand() {
    // One in a hundred stands in the right place, and twenty regions are more than have rings of their own.
    for leaf_name in LEAVES {
        let region = |n: usize| if n.is_multiple_of(100) { "eu".to_owned() } else { format!("r{}", n % 20) };
        let router =
            router(leaf(leaf_name).fail_safe(FailSafe::default()), move |n, profile| profile.region(region(n)));
        for (residency, belongs) in
            [("eu", (|n| n % 100 == 0) as fn(usize) -> bool), ("r19", |n| n % 20 == 19), ("r7", |n| n % 20 == 7)]
        {
            let mut decision = router.explain(&options(plain().residency([residency])));
            let now = decision.time();
            for seed in 0..200u64 {
                router.decide(&mut decision, now, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let chosen = chosen(&decision);
                assert!(chosen.is_some_and(belongs), "{leaf_name}: {chosen:?} for {residency}");
            }
        }
        for nowhere in [vec!["mars"], vec![]] {
            let error = futures::executor::block_on(router.call("ask", options(plain().residency(nowhere))));
            assert_eq!(error.err().map(|error| error.kind()), Some(RouteErrorKind::NothingUsable), "{leaf_name}");
        }
    }
}

#[test]
fn one_usable_backend_of_ten_thousand_is_found() {
    for leaf_name in LEAVES {
        for usable in [0, 64, 9_999] {
            let router = router(leaf(leaf_name), move |n, profile| profile.drained(n != usable));
            for _ in 0..3 {
                let decision = router.explain(&options(plain().session("s")));
                assert_eq!(chosen(&decision), Some(usable), "{leaf_name}");
            }
        }
    }
}

#[test]
fn nobody_usable_of_ten_thousand_is_an_answer() {
    for leaf_name in LEAVES {
        let router = router(leaf(leaf_name).fail_safe(FailSafe::default()), |_, profile| profile.drained(true));
        let error = futures::executor::block_on(router.call("ask", within(secs(5)))).err().unwrap();
        assert_eq!(error.kind(), RouteErrorKind::NothingUsable, "{leaf_name}");
        assert!(error.to_string().contains("0 of 10000 usable"), "{error}");
    }
}

#[test]
fn few_sessions_move_when_a_backend_leaves_or_joins() {
    let router = router(sticky(), |_, profile| profile);
    let sessions: Vec<_> = (0..2_000).map(|n| options(plain().session(format!("s{n}")))).collect();
    let homes = || -> Vec<_> { sessions.iter().map(|session| chosen(&router.explain(session)).unwrap()).collect() };
    let before = homes();
    assert!(before.iter().collect::<BTreeSet<_>>().len() > 1_500);
    // One of ten thousand leaves that some session uses.
    router.update(|fleet| fleet.remove(&name(before[0]))).unwrap();
    let after = homes();
    let moved: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    let held = before.iter().filter(|home| **home == before[0]).count();
    // Those that it held move. A window that ends one further may show another a better home: one in 64 of those
    // whose window it was in.
    assert!(moved.len() >= held && moved.len() <= held + 5, "{} moved, {held} were held", moved.len());
    router.update(|fleet| fleet.add(Profile::new(name(before[0])), echo())).unwrap();
    // Back, slowly at first; nobody else moves.
    let back = homes();
    let strangers = before.iter().zip(&back).filter(|(home, back)| home != back && **home != before[0]);
    assert!(strangers.count() <= 5);
}

#[test]
fn a_session_moves_no_further_than_it_must() {
    let world = World::new();
    let mut builder = world.router(sticky());
    for n in 0..20 {
        builder = builder.backend(Profile::new(name(n)), world.backend(&name(n), always(ANSWER)));
    }
    let router: TestRouter = builder.build().unwrap();
    let home = |session: u32| chosen(&router.explain(&options(plain().session(format!("s{session}"))))).unwrap();
    let before: Vec<_> = (0..5_000).map(home).collect();
    router.update(|fleet| fleet.remove("b7")).unwrap();
    let after: Vec<_> = (0..5_000).map(home).collect();
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
    assert!(moved.clone().all(|(before, _)| *before == 7));
    assert_eq!(moved.count(), before.iter().filter(|home| **home == 7).count());
    assert!(!after.contains(&7));
}
