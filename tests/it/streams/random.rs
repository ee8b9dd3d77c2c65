//! Random streams, readers and hooks: what must hold whatever comes.

use crate::support::{Act, Cue, Log, Script, Step, Token, Told, World, dropped_after, ms, scripted_panic, within};
use fallway::FailureKind;
use fallway::Profile;
use fallway::policy::{FailSafe, PolicyExt, power_of_two};
use fallway::rng::Rng;
use fallway::router::{Delivered, Interrupted, Piece, Resume};
use fallway::time::Timer;
use futures::{StreamExt, TryStreamExt};
use std::time::Duration;

/// Numbers of a whole answer.
const ANSWER: u32 = 12;

/// How many random worlds are played; `FALLWAY_RUNS` says otherwise.
fn runs() -> u64 {
    std::env::var("FALLWAY_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(4_000)
}

/// An answer from this number on, which goes wrong with some luck.
fn answer(rng: &mut Rng, from: u32) -> Act {
    let luck = rng.unit();
    if luck < 0.1 {
        let kind = FailureKind::ALL[rng.below(FailureKind::ALL.len())];
        return Act::Fail(kind, ms(rng.below(300) as u64));
    }
    if luck < 0.13 {
        return Act::Hang;
    }
    let mut steps = vec![Step::Role; rng.below(3)];
    for _ in from..ANSWER {
        match rng.below(40) {
            0 => steps.push(Step::Break(FailureKind::ALL[rng.below(FailureKind::ALL.len())])),
            1 => steps.push(Step::Close),
            2 => steps.push(Step::Hang),
            3 => steps.push(Step::Panic),
            4 => steps.push(Step::Large(1_000)),
            5..15 => steps.push(Step::Pause(ms(rng.below(700) as u64))),
            15..20 => steps.push(Step::Role),
            _ => {}
        }
        steps.push(Step::Item);
    }
    Act::Stream(ms(rng.below(100) as u64), steps)
}

fn script(seed: u64, n: u64) -> Script {
    Box::new(move |cue: &Cue<'_>| {
        let mut rng = Rng::new(seed ^ (n + 1) << 40 ^ cue.call << 20);
        let seen = cue.request.rsplit_once(" after ").and_then(|(_, seen)| seen.parse().ok()).unwrap_or(0);
        answer(&mut rng, seen)
    })
}

/// Asks for the rest, mostly.
struct Hook {
    rng: Rng,
    seen: u32,
}

impl Resume<str, Token> for Hook {
    fn delivered(&mut self, item: &Token) {
        if let Token::Number(number) = item {
            self.seen = *number;
        }
    }

    fn resume(&mut self, broken: &Interrupted) -> Option<Box<str>> {
        assert!(broken.delivered().content > 0, "nothing was delivered, and it broke: {broken}");
        match self.rng.below(10) {
            0 => None,
            1 => scripted_panic(),
            _ => Some(format!("ask after {}", self.seen).into()),
        }
    }
}

/// What a reader got.
#[derive(Default)]
struct Got {
    numbers: Vec<u32>,
    items: u64,
    done: bool,
    seams: usize,
    error: Option<Delivered>,
    after_the_error: bool,
}

#[test]
fn whatever_comes() {
    let (mut whole, mut broken, mut seams, mut refused, mut left) = (0, 0, 0, 0, 0);
    for seed in 0..runs() {
        let mut rng = Rng::new(seed);
        let (world, log) = (World::new(), Log::default());
        let policy = power_of_two().fail_safe(FailSafe::default().attempts(1 + rng.below(4) as u32));
        let builder = world.router(policy).observer(log.clone()).largest_item(900).seed(seed);
        let members = [0, 1, 2].map(|n| (Profile::new(n.to_string()).concurrency(1), script(seed, n)));
        let (router, backends) = world.fleet(builder, members);
        let total = ms(200 + rng.below(6_000) as u64);
        let options = within(total).idle_limit(ms(500));
        let polls = if rng.below(4) == 0 { rng.below(30) } else { usize::MAX };
        let (hooked, pause) =
            (rng.below(2) == 0, if rng.below(3) == 0 { ms(rng.below(400) as u64) } else { Duration::ZERO });
        let (caller, timer) = (router.clone(), world.timer().clone());
        let start = world.now();
        let came = world.block_on(dropped_after(polls, async move {
            let stream = caller.stream("ask", options).await.map_err(drop)?;
            let hook = Hook { rng: Rng::new(seed ^ 7), seen: 0 };
            let mut pieces =
                if hooked { stream.resume(hook).left_stream() } else { stream.map_ok(Piece::Item).right_stream() };
            let mut got = Got::default();
            let mut waited = Duration::ZERO;
            while let Some(piece) = pieces.next().await {
                got.after_the_error |= got.error.is_some();
                match piece {
                    Ok(Piece::Item(item)) => {
                        assert!(!got.done, "seed {seed}: something follows the last item");
                        got.items += 1;
                        got.done = item == Token::Done;
                        if let Token::Number(number) = item {
                            got.numbers.push(number);
                        }
                    }
                    Ok(Piece::Resumed(_)) => got.seams += 1,
                    Err(error) => got.error = Some(error.delivered()),
                }
                timer.sleep(pause).await;
                waited = pause;
            }
            // The reader's own pause is its own.
            Ok::<_, ()>((got, timer.now() - start - waited))
        }));
        assert_eq!((router.total_in_flight(), router.waiting()), (0, 0), "seed {seed}");
        assert!(backends.iter().all(|backend| backend.backstage().in_flight() == 0), "seed {seed}");
        assert_eq!(world.timer().next_wake(), None, "seed {seed}");
        let count = |of: fn(&Told) -> bool| log.count(of);
        let started = count(|told| matches!(told, Told::Started { .. }));
        let ended = count(|told| matches!(told, Told::Succeeded { .. } | Told::Failed { .. } | Told::Cancelled { .. }));
        assert_eq!(started, ended, "seed {seed}");
        let (got, took) = match came {
            None => {
                left += 1;
                continue;
            }
            Some(Err(())) => {
                refused += 1;
                continue;
            }
            Some(Ok(came)) => came,
        };
        // Each number once and in order, whoever gave it.
        assert!(got.numbers.iter().copied().eq(1..=got.numbers.len() as u32), "seed {seed}: {:?}", got.numbers);
        assert!(!got.after_the_error, "seed {seed}");
        // Complete or broken, never both and never neither.
        assert!(got.done != got.error.is_some(), "seed {seed}: done {}, {:?}", got.done, got.error);
        assert!(!got.done || got.numbers.len() as u32 == ANSWER, "seed {seed}: complete after {:?}", got.numbers);
        if let Some(Delivered { items, content }) = got.error {
            assert_eq!((items, content), (got.items, got.numbers.len() as u64), "seed {seed}");
        }
        // A reader that never pauses is done in time.
        assert!(took <= total || pause > Duration::ZERO, "seed {seed}: {took:?} of {total:?}");
        (whole, broken, seams) = (whole + u64::from(got.done), broken + u64::from(!got.done), seams + got.seams);
    }
    println!("{} runs: {whole} whole, {broken} broken, {seams} seams, {refused} refused, {left} left", runs());
    assert!(whole > 100 && broken > 100 && seams > 100 && refused > 20 && left > 100, "the play is one-sided");
}
