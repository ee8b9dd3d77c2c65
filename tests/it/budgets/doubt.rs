//! Predictions that are wrong by now, of a backend that is called all the time.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Tokens of prompts.
const SHORT: u64 = 64;
const LONG: u64 = 718;

/// One backend, and a router with or without `fail_safe`.
struct Scene {
    world: World,
    router: TestRouter,
    /// What changes how long it takes.
    dial: Arc<AtomicU32>,
}

impl Scene {
    fn new(safe: bool, time: impl Fn(u64, u32) -> Duration + Send + Sync + 'static) -> Self {
        let (world, dial) = (World::new(), Arc::new(AtomicU32::new(1)));
        let policy = ordered().budgeted(Budgets::default());
        let builder = if safe { world.router(policy.fail_safe(FailSafe::default())) } else { world.router(policy) };
        let turned = dial.clone();
        let script: Script =
            Box::new(move |cue: &Cue<'_>| Act::Answer(time(cue.request.len() as u64, turned.load(Ordering::Relaxed))));
        let (router, _) = world.fleet(builder.default_deadline(secs(60)), [(member("a"), script)]);
        Self { world, router, dial }
    }

    fn turn(&self, to: u32) {
        self.dial.store(to, Ordering::Relaxed);
    }

    fn options(tokens: u64, total: Duration) -> CallOptions {
        CallOptions::within(total).facts(Facts::model("m").prompt_tokens(tokens).replay_safe())
    }

    /// Whether a prompt of so many tokens is answered in time.
    fn ask(&self, tokens: u64, total: Duration) -> bool {
        let (router, options) = (self.router.clone(), Self::options(tokens, total));
        self.world.block_on(async move { router.call(&*"x".repeat(tokens as usize), options).await.is_ok() })
    }

    /// So many short prompts and as many long ones, in turns and a moment apart; how many long ones were answered within `total`,
    /// and how many were canaries.
    fn alternate(&self, times: usize, pause: Duration, total: Duration) -> (usize, usize) {
        let (mut answered, mut canaries) = (0, 0);
        for _ in 0..times {
            self.world.run_for(pause);
            assert!(self.ask(SHORT, total));
            self.world.run_for(pause);
            let decision = self.router.explain(&Self::options(LONG, total));
            canaries += usize::from(decision.chosen().is_some_and(|it| it.note() == Some(Reason::Canary)));
            answered += usize::from(self.ask(LONG, total));
        }
        (answered, canaries)
    }
}

/// 22 ms for a short prompt, 246 ms for a long one.
fn usual(tokens: u64) -> Duration {
    ms(tokens * 22 / SHORT)
}

#[test]
fn short_answers_that_come_sooner_speak_for_long_ones() {
    for safe in [true, false] {
        for storm in [15, 30, 100] {
            for pause in [ms(300), secs(9)] {
                let scene = Scene::new(safe, |tokens, times| usual(tokens) * times);
                scene.turn(20);
                scene.alternate(storm, ms(1), secs(60));
                scene.turn(1);
                // Until five of the short ones were answered, a long one is predicted to take five seconds.
                let (answered, _) = scene.alternate(30, pause, secs(1));
                assert_eq!(answered, 26, "fail_safe {safe}, {storm} slow answers, a request every {pause:?}");
            }
        }
    }
}

#[test]
fn answers_that_vary_raise_no_doubt() {
    for safe in [true, false] {
        let turn = AtomicU32::new(0);
        let scene = Scene::new(safe, move |tokens, _| {
            // From a half of what is usual to three halves.
            usual(tokens) * (turn.fetch_add(7, Ordering::Relaxed) % 11 + 5) / 10
        });
        scene.alternate(20, ms(1), secs(60));
        assert_eq!(scene.alternate(200, ms(300), ms(60)), (0, 0), "fail_safe {safe}");
    }
}

#[test]
fn who_finds_the_prediction_right_settles_the_doubt() {
    for safe in [true, false] {
        // Short prompts are answered twenty times sooner, and long ones as before.
        let scene = Scene::new(safe, |tokens, times| if tokens == SHORT { usual(SHORT) / times } else { usual(LONG) });
        scene.alternate(20, ms(1), secs(60));
        scene.turn(20);
        // Until what is usual has sunk to what they take, five of them are followed by one canary.
        let (answered, canaries) = scene.alternate(100, ms(300), ms(60));
        assert!(answered == 0 && (1..=12).contains(&canaries), "fail_safe {safe}: {canaries} of 100");
    }
}
