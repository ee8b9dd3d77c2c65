//! Where tokens and quotas are what is short: nobody of a higher priority waits who could start while a lower one starts.

use super::fleet;
use crate::support::{ANSWER, Reply, World, always, ms, secs, tokens};
use fallway::facts::Priority;
use fallway::rng::Rng;
use fallway::router::{Step, Trip};
use fallway::time::Instant;
use fallway::{CallOptions, Profile};
use std::task::{Context, Waker};

const BANDS: [Priority; 4] = [Priority::Batch, Priority::Sheddable, Priority::Standard, Priority::Critical];
const CALLS: usize = 3;
/// Tokens in flight, and tokens of the quota at once. One comes back each millisecond.
const TOKENS: u64 = 1_000;
const REFILL: u64 = 1_000_000;

/// What is in use of the backend, by the test's own count.
#[derive(Clone, Default)]
struct Books {
    bounded: bool,
    metered: bool,
    calls: usize,
    tokens: u64,
    /// When the quota is full again, in nanoseconds.
    full_at: u64,
}

impl Books {
    fn refilled(&self, size: u64, now: Instant) -> u64 {
        self.full_at.max(now.as_nanos()) + size * REFILL
    }

    fn have_room(&self, size: u64, now: Instant) -> bool {
        let refilled = self.refilled(size, now) <= now.as_nanos() + TOKENS * REFILL;
        self.calls < CALLS && (!self.bounded || self.tokens + size <= TOKENS) && (!self.metered || refilled)
    }

    fn start(&mut self, size: u64, now: Instant) {
        self.full_at = self.refilled(size, now);
        self.calls += 1;
        self.tokens += size;
    }

    fn end(&mut self, size: u64) {
        self.calls -= 1;
        self.tokens -= size;
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// It looks by itself at this moment.
    Waits(Instant),
    Called,
    Holds,
}

struct Caller<'r> {
    trip: Trip<'r, str, Reply>,
    priority: Priority,
    size: u64,
    state: State,
}

struct Play<'r> {
    seed: u64,
    rng: Rng,
    books: Books,
    callers: Vec<Caller<'r>>,
    /// How many started that had others of a lower or a higher priority beside them.
    chosen: usize,
}

impl Play<'_> {
    /// This caller looks whether it can start.
    fn look(&mut self, at: usize, now: Instant) {
        let mut caller = self.callers.swap_remove(at);
        match caller.trip.next(now) {
            Ok(Step::Call(_)) => {
                let mut books = self.books.clone();
                // What was called has what it needs.
                let called = self.callers.iter().filter(|other| other.state == State::Called);
                called.for_each(|other| books.start(other.size, now));
                let (mut others, mut inversion) = (false, None);
                for other in self.callers.iter().filter(|other| matches!(other.state, State::Waits(_))) {
                    others |= other.priority != caller.priority;
                    if other.priority > caller.priority && books.have_room(other.size, now) {
                        inversion = Some((other.priority, other.size));
                    }
                }
                let (seed, priority, size) = (self.seed, caller.priority, caller.size);
                assert_eq!(inversion, None, "seed {seed}: could start where {priority:?}, {size} tokens, does");
                assert!(self.books.have_room(size, now), "seed {seed}: too much at once");
                self.books.start(size, now);
                self.chosen += usize::from(others);
                caller.state = State::Holds;
            }
            Ok(Step::Wait { until }) => caller.state = State::Waits(until),
            Ok(step) => panic!("seed {}: {step:?}", self.seed),
            Err(_) => return,
        }
        self.callers.push(caller);
    }

    /// Until nobody is called, and nobody has anything to look after. Of those whose moment has come anybody may be the first.
    fn settle(&mut self, now: Instant) {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..10_000 {
            for caller in &mut self.callers {
                if matches!(caller.state, State::Waits(_)) && caller.trip.poll_called(&mut cx).is_ready() {
                    caller.state = State::Called;
                }
            }
            let called = (0..self.callers.len()).filter(|n| self.callers[*n].state == State::Called);
            let due = |n: &usize| matches!(self.callers[*n].state, State::Waits(until) if until <= now);
            let due: Vec<_> = (0..self.callers.len()).filter(due).collect();
            match called.max_by_key(|n| self.callers[*n].priority) {
                Some(called) => self.look(called, now),
                None if due.is_empty() => return,
                None => {
                    let at = due[self.rng.below(due.len())];
                    self.look(at, now);
                }
            }
        }
        panic!("seed {}: they call each other for ever", self.seed);
    }

    fn next_look(&self) -> Option<Instant> {
        let looks = self.callers.iter().filter_map(|caller| match caller.state {
            State::Waits(until) => Some(until),
            State::Called | State::Holds => None,
        });
        looks.min()
    }
}

/// Random arrivals of all sizes, ends and departures; returns how many started before others.
fn play(seed: u64) -> usize {
    let world = World::new();
    // Tokens in flight, a quota of tokens, or both.
    let books = Books { bounded: !seed.is_multiple_of(3), metered: seed % 3 != 1, ..Books::default() };
    let mut profile = Profile::new("a").concurrency(CALLS as u32);
    if books.bounded {
        profile = profile.max_total_tokens(TOKENS);
    }
    if books.metered {
        profile = profile.tokens_per_minute(60_000_000_000 / REFILL).token_burst(TOKENS);
    }
    let (router, _) = fleet(&world, [(profile, always(ANSWER))]);
    let mut play = Play { seed, rng: Rng::new(seed), books, callers: Vec::new(), chosen: 0 };
    let mut now = world.now();
    for _ in 0..200 {
        let then = now + ms(play.rng.below(100) as u64);
        while let Some(look) = play.next_look().filter(|look| *look <= then) {
            now = now.max(look);
            world.timer().set(now);
            play.settle(now);
        }
        now = then;
        // By this go trips that are dropped.
        world.timer().set(now);
        let at = |play: &mut Play<'_>, holds: bool| {
            let found = |n: &usize| (play.callers[*n].state == State::Holds) == holds;
            let found: Vec<_> = (0..play.callers.len()).filter(found).collect();
            (!found.is_empty()).then(|| found[play.rng.below(found.len())])
        };
        match play.rng.below(6) {
            0 | 1 => {
                let (priority, size) = (BANDS[play.rng.below(4)], 1 + play.rng.below(900) as u64);
                let facts = tokens(size / 2, size - size / 2).priority(priority);
                let trip = router.trip(CallOptions::within(secs(50)).facts(facts), now);
                play.callers.push(Caller { trip, priority, size, state: State::Waits(now) });
                play.look(play.callers.len() - 1, now);
            }
            2..=4 => {
                if let Some(holder) = at(&mut play, true) {
                    let mut ended = play.callers.swap_remove(holder);
                    play.books.end(ended.size);
                    if play.rng.below(3) > 0 {
                        ended.trip.answered(1, now);
                        ended.trip.finish(now);
                    }
                }
            }
            _ if play.rng.below(4) == 0 => {
                if let Some(leaves) = at(&mut play, false) {
                    play.callers.swap_remove(leaves);
                }
            }
            _ => {}
        }
        play.settle(now);
    }
    let chosen = play.chosen;
    drop(play);
    assert_eq!((router.waiting(), router.total_in_flight()), (0, 0), "seed {seed}");
    chosen
}

#[test]
fn no_inversion_over_tokens_and_quotas() {
    // FALLWAY_CASES=1000000 for a million.
    let cases = std::env::var("FALLWAY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let (mut chosen, mut seed) = ([0; 3], 0);
    // Here one waited for tokens whose quota had too little by the time that they were free.
    play(30_344);
    while chosen.iter().sum::<usize>() < cases {
        chosen[seed as usize % 3] += play(seed);
        seed += 1;
    }
    assert!(chosen.iter().all(|chosen| *chosen > cases / 10), "{chosen:?}");
}
