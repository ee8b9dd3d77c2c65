//! [`Accounts`]: what keys have spent and hold, in memory that strangers can not fill.

use crate::time::Instant;
use parking_lot::Mutex;

/// What a key may spend, in pico-dollars.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// At once, after a pause.
    pub(super) most: u64,
    /// In each period.
    pub(super) amount: u64,
    /// In nanoseconds.
    pub(super) period: u64,
}

impl Terms {
    /// How long so much takes to come back, in nanoseconds, rounded up.
    pub(super) const fn wait(&self, pico: u64) -> u64 {
        let nanos = (pico as u128 * self.period as u128).div_ceil(self.amount as u128);
        if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }
    }
}

/// Accounts for any number of keys. A lock for each few of them: who looks never waits for it, and who pays hardly ever.
#[derive(Debug)]
pub(super) struct Accounts {
    lines: Box<[Mutex<Line>]>,
}

/// Accounts behind one lock.
const WAYS: usize = 8;

type Line = [Account; WAYS];

/// What one key has spent that has not come back yet, and what it holds for attempts in flight. When both are nothing, there
/// is nothing to remember, and it may be anybody's.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    key: u64,
    owed: u64,
    held: u64,
    /// Up to when of what is owed came back, in nanoseconds.
    since: u64,
}

impl Account {
    /// Lets come back what came back since. The time of a thread may be behind that of another.
    fn refill(&mut self, terms: Terms, now: Instant) {
        let now = now.as_nanos();
        if self.owed == 0 {
            self.since = self.since.max(now);
            return;
        }
        let elapsed = now.saturating_sub(self.since);
        let came = (u128::from(elapsed) * u128::from(terms.amount)) / u128::from(terms.period);
        if came >= u128::from(self.owed) {
            (self.owed, self.since) = (0, now);
        } else {
            // Only the time of what came: parts of a pico-dollar are not lost.
            self.owed -= came as u64;
            self.since += terms.wait(came as u64).min(elapsed);
        }
    }

    const fn is_free(&self) -> bool {
        self.owed == 0 && self.held == 0
    }

    const fn left(&self, terms: Terms) -> u64 {
        terms.most.saturating_sub(self.owed.saturating_add(self.held))
    }
}

impl Accounts {
    /// So many accounts, a line at least.
    pub(super) fn new(count: usize) -> Self {
        Self { lines: (0..count.div_ceil(WAYS)).map(|_| Mutex::default()).collect() }
    }

    /// What is left for a key; `None` while somebody else is at the line.
    pub(super) fn peek(&self, key: u64, terms: Terms, now: Instant) -> Option<u64> {
        let mut line = *self.lines[self.line(key)].try_lock()?;
        let way = find(&mut line, key, terms, now);
        Some(line[way].left(terms))
    }

    /// Holds so much of what is left for a key; `None` where that is less. Returns where it is held.
    pub(super) fn hold(&self, key: u64, pico: u64, terms: Terms, now: Instant) -> Option<u32> {
        let at = self.line(key);
        let mut line = self.lines[at].lock();
        let way = find(&mut line, key, terms, now);
        let account = &mut line[way];
        if pico > account.left(terms) {
            return None;
        }
        if account.is_free() {
            *account = Account { key, since: now.as_nanos(), ..Account::default() };
        }
        account.held += pico;
        Some((at * WAYS + way) as u32)
    }

    /// What was held there is held no more, and so much of it, or beyond it, was spent; but no more than can be held. A backend
    /// that tells nonsense must not take a key's money for years.
    pub(super) fn settle(&self, place: u32, held: u64, spent: u64, terms: Terms, now: Instant) {
        let place = place as usize;
        let account = &mut self.lines[place / WAYS].lock()[place % WAYS];
        account.refill(terms, now);
        account.held = account.held.saturating_sub(held);
        account.owed = account.owed.saturating_add(spent.min(terms.most.max(held)));
    }

    fn line(&self, key: u64) -> usize {
        (((key >> 32) * self.lines.len() as u64) >> 32) as usize
    }
}

/// The account of a key on its line: the one that is its own; if there is none, one that is free; if none is left, it shares
/// one of those in use.
fn find(line: &mut Line, key: u64, terms: Terms, now: Instant) -> usize {
    line.iter_mut().for_each(|account| account.refill(terms, now));
    let own = line.iter().position(|account| account.key == key && !account.is_free());
    own.or_else(|| line.iter().position(Account::is_free)).unwrap_or((key >> 16) as usize % WAYS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, mix};
    use proptest::prelude::*;

    const TERMS: Terms = Terms { most: 1_000, amount: 700, period: 1_000_000 };

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    /// One account, reckoned by hand: what is owed in parts of a pico-dollar, so that nothing is rounded.
    #[derive(Clone, Copy, Debug, Default)]
    struct Plain {
        owed: u128,
        held: u64,
        since: u64,
    }

    impl Plain {
        const PART: u128 = TERMS.period as u128;

        fn refill(&mut self, now: u64) {
            self.owed = self.owed.saturating_sub(u128::from(now.saturating_sub(self.since)) * u128::from(TERMS.amount));
            self.since = self.since.max(now);
        }

        /// What is left: this, or one less, for what is owed is rounded up.
        fn left(&self) -> u64 {
            let owed = self.owed.div_ceil(Self::PART) as u64;
            TERMS.most.saturating_sub(owed + self.held)
        }
    }

    proptest! {
        #[test]
        fn an_account_does_what_a_plain_one_does(seed: u64, steps in 1usize..400) {
            let (mut rng, mut now) = (Rng::new(seed), 5u64);
            let accounts = Accounts::new(1);
            let mut plain = [Plain::default(); 3];
            let mut open: Vec<(usize, u32, u64)> = Vec::new();
            let mut touched = [0u64; 3];
            for _ in 0..steps {
                now += [0, 1, 3_000, 400_000][rng.below(4)] * rng.below(4) as u64;
                let who = rng.below(3);
                let key = mix(who as u64, 99);
                plain[who].refill(now);
                touched[who] += 1;
                let left = accounts.peek(key, TERMS, at(now)).unwrap();
                // A nanosecond of refill is lost each time that somebody looks, at most.
                let slack = 1 + touched[who] * TERMS.amount / TERMS.period;
                prop_assert!(left <= plain[who].left() && left + slack >= plain[who].left(), "{left} {:?}", plain[who]);
                if rng.below(2) == 0 {
                    let pico = 1 + rng.below(600) as u64;
                    match accounts.hold(key, pico, TERMS, at(now)) {
                        Some(place) => {
                            prop_assert!(pico <= left);
                            plain[who].held += pico;
                            open.push((who, place, pico));
                        }
                        None => prop_assert!(pico > left),
                    }
                } else if let Some(at_) = (!open.is_empty()).then(|| rng.below(open.len())) {
                    let (who, place, held) = open.swap_remove(at_);
                    // Less than it held, as much, or more.
                    let spent = [0, held / 2, held, held + 50][rng.below(4)];
                    accounts.settle(place, held, spent, TERMS, at(now));
                    plain[who].refill(now);
                    plain[who].held -= held;
                    plain[who].owed += u128::from(spent) * Plain::PART;
                }
            }
            // Nothing is held for ever: everything comes back.
            for (who, place, held) in open.drain(..) {
                accounts.settle(place, held, 0, TERMS, at(now));
                plain[who].held -= held;
            }
            now += 1 << 40;
            for who in 0..3 {
                prop_assert_eq!(accounts.peek(mix(who, 99), TERMS, at(now)), Some(TERMS.most));
            }
        }
    }

    #[test]
    fn a_million_keys_get_no_more_than_the_accounts_hold() {
        let accounts = Accounts::new(1_024);
        let spent: u64 = (0..1_000_000u64)
            .map(|key| {
                let place = accounts.hold(mix(key, 3), 1_000, TERMS, at(7));
                place.iter().for_each(|place| accounts.settle(*place, 1_000, 1_000, TERMS, at(7)));
                u64::from(place.is_some()) * 1_000
            })
            .sum();
        assert_eq!(spent, 1_024 * TERMS.most);
        // And when it came back, all is as new.
        assert_eq!(accounts.peek(mix(5, 3), TERMS, at(7 + 2 * TERMS.period)), Some(TERMS.most));
    }

    #[test]
    fn what_is_held_keeps_its_place() {
        let accounts = Accounts::new(1);
        let places: Vec<_> = (0..8).map(|key| accounts.hold(mix(key, 1), 10, TERMS, at(1)).unwrap()).collect();
        let distinct: std::collections::BTreeSet<_> = places.iter().collect();
        assert_eq!(distinct.len(), 8);
        // The ninth shares, and pays where it was held, also when the other is long gone.
        let shared = accounts.hold(mix(8, 1), 990, TERMS, at(1)).unwrap();
        let owner = places.iter().position(|place| *place == shared).unwrap();
        assert_eq!(accounts.hold(mix(owner as u64, 1), 1, TERMS, at(1)), None, "both get less");
        places.iter().for_each(|place| accounts.settle(*place, 10, 0, TERMS, at(2)));
        accounts.settle(shared, 990, 500, TERMS, at(3));
        assert_eq!(accounts.peek(mix(owner as u64, 1), TERMS, at(3)), Some(500));
    }

    #[test]
    fn time_that_runs_back_gives_nothing() {
        let accounts = Accounts::new(1);
        let place = accounts.hold(7, 1_000, TERMS, at(5_000_000)).unwrap();
        accounts.settle(place, 1_000, 1_000, TERMS, at(5_000_000));
        for now in [0, 4_999_999, 5_000_000] {
            assert_eq!(accounts.peek(7, TERMS, at(now)), Some(0), "{now}");
        }
        assert_eq!(accounts.peek(7, TERMS, at(6_000_000)), Some(700));
        assert_eq!(TERMS.wait(700), 1_000_000);
    }

    #[test]
    fn threads_that_race_get_no_more_than_there_is() {
        let accounts = Accounts::new(64);
        let (got, threads) = (std::sync::atomic::AtomicU64::new(0), 4);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if let Some(place) = accounts.hold(7, 10, TERMS, at(9)) {
                            // Every other attempt costs nothing in the end.
                            let spent = got.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 2 * 10;
                            accounts.settle(place, 10, spent, TERMS, at(9));
                        }
                    }
                });
            }
        });
        let got = got.into_inner();
        assert_eq!(accounts.peek(7, TERMS, at(9)), Some(TERMS.most - got / 2 * 10));
        assert_eq!(got / 2, TERMS.most / 10);
    }
}
