//! Backends that come back and fail again.

use super::{Scene, Turn, named};
use crate::support::{Act, Cue, Script, fail, ms, secs, within};
use fallway::FailureKind::{self, Overloaded, Unreachable};
use fallway::event::Cause;
use fallway::recover::Ejection;

/// Up and down for so many seconds each, down first.
fn flapping(seconds: u64, kind: FailureKind) -> Script {
    Box::new(move |cue: &Cue<'_>| match cue.now.as_nanos() / 1_000_000_000 / seconds % 2 {
        0 => fail(kind),
        _ => Act::Answer(ms(1)),
    })
}

/// How often `who` went out, while there was a request every tenth of a second for ten minutes; the seconds when it did.
fn ejections(scene: &Scene, who: &str) -> Vec<u64> {
    for _ in 0..6_000 {
        let _ = scene.world.call(&scene.router, within(secs(5)));
        scene.world.run_for(ms(100));
    }
    let mut out = false;
    let mut went_out = |turn: &Turn| std::mem::replace(&mut out, turn.until.is_some()) != out && out;
    let turns = scene.turns.all();
    let own = turns.iter().filter(|turn| turn.who == who && turn.cause != Cause::RampEnded);
    own.filter(|turn| went_out(turn)).map(|turn| turn.at.as_nanos() / 1_000_000_000).collect()
}

fn scene(kinds: &[Option<FailureKind>], seconds: u64) -> Scene {
    let script = |kind: &Option<FailureKind>| match kind {
        Some(kind) => flapping(seconds, *kind),
        None => super::answers(1),
    };
    Scene::new(Ejection::default(), kinds.iter().enumerate().map(|(n, kind)| (named(format!("b{n}")), script(kind))))
}

#[test]
fn one_that_flaps_rests_for_longer_each_time_it_comes_back() {
    for seconds in [3, 10, 25] {
        for kind in [Unreachable, FailureKind::ServerError] {
            let times = ejections(&scene(&[Some(kind), None, None, None], seconds), "b0");
            assert!(times.len() >= 4, "it is tried again: {times:?}");
            assert!(times[3..].windows(2).all(|pair| pair[1] - pair[0] >= 60), "{kind:?} every {seconds} s: {times:?}");
        }
    }
}

#[test]
fn nothing_is_inferred_of_one_where_most_flap_or_of_one_that_has_too_much_to_do() {
    for kinds in [[Some(Unreachable); 4], [Some(Overloaded), None, None, None]] {
        let times = ejections(&scene(&kinds, 10), "b0");
        assert!(times.len() > 20, "{kinds:?}: {times:?}");
    }
}

#[test]
fn each_three_minutes_in_which_it_was_well_make_up_for_a_return() {
    // Those that a return too early made longer: of others, a rest of what can not be reached ends within seconds.
    let longer = |seconds| {
        let scene = scene(&[Some(Unreachable), None, None, None], seconds);
        drop(ejections(&scene, "b0"));
        let turns = scene.turns.all();
        let own = turns.iter().filter(|turn| turn.who == "b0" && turn.cause != Cause::RampEnded);
        own.filter_map(|turn| Some(turn.until? - turn.at)).filter(|rest| *rest > secs(8)).collect::<Vec<_>>()
    };
    assert_eq!(longer(200), []);
    assert_eq!(longer(75)[..2], [secs(20), secs(40)]);
}
