//! [`Manual`]: the word of an operator or of a status page.

use super::calm::{Calm, EVER, NEVER};
use super::rows::Rows;
use super::{HealthSignal, Reading, Score};
use crate::backend::BackendId;
use crate::event::Event;
use crate::facts::Profile;
use crate::time::Instant;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Of which backends something is said.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// Of all.
    Everything,
    /// Of those in a region.
    Region(String),
    /// Of one, by its id.
    Backend(String),
}

/// Says what it was told to say, for as long as it was told to: by an operator, a deployment that is under way, or
/// whoever reads a provider's status page.
///
/// The word on a backend goes before that on its region, and that before the word on everything. When its time is over
/// the next more general one counts, and at last there is none. Backends that join later are meant as well. Nobody's
/// word is no news ([`covers`](HealthSignal::covers) is `false`).
///
/// A hard stop is [`Update::drain`](crate::router::Update::drain): panic mode doubts signals, also this one.
///
/// ```
/// use fallway::signal::{Manual, Scope, Score};
/// use fallway::time::Clock;
/// # use fallway::{Profile, Router, backend::{BackendError, backend_fn}, policy::round_robin};
/// use std::sync::Arc;
/// use std::time::Duration;
/// # let model = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
/// let manual = Arc::new(Manual::default());
/// let router = Router::builder(round_robin())
///     .backend(Profile::new("eu-a").region("eu-west"), model())
///     .backend(Profile::new("us-a").region("us-east"), model())
///     .signal(manual.clone())
///     .build()?;
///
/// manual.say(Scope::Region("eu-west".into()), Score::DEAD, Clock.now(), Duration::from_secs(600));
/// assert_eq!(router.explain(&Default::default()).chosen().map(|it| it.name()), Some("us-a"));
/// manual.unsay(&Scope::Region("eu-west".into()), Clock.now());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Manual {
    words: Mutex<BTreeMap<Scope, Word>>,
    rows: Rows<Row>,
    calm: Calm,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    score: Score,
    at: Instant,
    until: Instant,
}

/// What was said of one backend, the most particular first.
#[derive(Clone, Debug)]
struct Row {
    profile: Arc<Profile>,
    words: [Option<Word>; 3],
}

impl Manual {
    /// Says `score` of `scope` from `now` on for so long; replaces what was said of the same scope before.
    pub fn say(&self, scope: Scope, score: Score, now: Instant, duration: Duration) {
        self.change(now, |words| {
            words.insert(scope, Word { score, at: now, until: now + duration });
        });
    }

    /// Takes back what was said of `scope`.
    pub fn unsay(&self, scope: &Scope, now: Instant) {
        self.change(now, |words| {
            words.remove(scope);
        });
    }

    fn change(&self, now: Instant, change: impl FnOnce(&mut BTreeMap<Scope, Word>)) {
        let mut words = self.words.lock();
        words.retain(|_, word| word.until > now);
        change(&mut words);
        self.rows.update(|row| row.words = about(&words, &row.profile));
        self.take_stock(&words);
    }
}

impl Manual {
    /// There is something to say until the last word that somebody is ill is over.
    fn take_stock(&self, words: &BTreeMap<Scope, Word>) {
        let ill = words.values().filter(|word| !word.score.is_healthy());
        self.calm.take_stock(|| (ill.map(|word| word.until).max().unwrap_or(EVER), NEVER));
    }
}

fn about(words: &BTreeMap<Scope, Word>, profile: &Profile) -> [Option<Word>; 3] {
    let region = profile.region_name().map(|region| Scope::Region(region.to_owned()));
    let scopes = [Some(Scope::Backend(profile.id().to_owned())), region, Some(Scope::Everything)];
    scopes.map(|scope| words.get(&scope?).copied())
}

#[deny(clippy::missing_trait_methods)]
impl HealthSignal for Manual {
    fn name(&self) -> &'static str {
        "manual"
    }

    fn read(&self, backend: BackendId, now: Instant) -> Reading<Score> {
        let word = self.rows.with(backend, |row| row.words.into_iter().flatten().find(|word| now < word.until));
        match word.flatten() {
            Some(word) => Reading::Fresh { value: word.score, at: word.at.min(now) },
            None => Reading::Missing,
        }
    }

    fn observe(&self, event: &Event<'_>, _: Instant) {
        if let Event::Fleet { backends, .. } = event {
            let words = self.words.lock();
            self.rows.follow(backends, |profile, _| Row { profile: profile.clone(), words: about(&words, profile) });
            self.take_stock(&words);
        }
    }

    fn covers(&self, _: BackendId) -> bool {
        false
    }

    fn is_calm(&self, now: Instant) -> bool {
        self.calm.at(now)
    }
}

impl fmt::Debug for Manual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Manual ")?;
        f.debug_map().entries(self.words.lock().iter().map(|(scope, word)| (scope, word.score.permille()))).finish()
    }
}
