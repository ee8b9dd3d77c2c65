//! [`SuccessRate`]: the share of calls that a backend answered.

use super::calm::{Calm, EVER, NEVER};
use super::latch::Latch;
use super::rows::Rows;
use super::{HealthSignal, InvalidSignal, Reading, Score};
use crate::backend::{BackendError, BackendId, Cools};
use crate::decision::{Class, Reason};
use crate::event::{Event, Outcome};
use crate::time::{Instant, nanos};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The share of a backend's calls that went well, over the outcomes of the last two minutes
/// ([`WINDOW`](Self::WINDOW)), or the last 1024 of them ([`OUTCOMES`](Self::OUTCOMES)) where there are more.
///
/// Counted is what ended, when it ended: a call that runs for a minute is not missing from a window that began after
/// it. What counts as a failure follows from [`FailureKind::conduct`](crate::FailureKind::conduct): whatever cools the
/// backend down, stalls and truncated streams included. A 429 counts half, so that a quota degrades the score and never
/// makes a backend ill by itself. The faults of callers and credentials, missing models, cancelled calls and attempts
/// that a caller in a hurry cut short say nothing and are not counted.
///
/// The score is `(successes + 2) / (outcomes + 2)`: one failure alone condemns nobody, three in a row without a success
/// do, and no minimum volume has to fill up first. It is computed when an outcome arrives and stands until the next, or
/// until the newest has left the window; then the reading is stale.
///
/// When the router itself takes the backend out for its health, what was counted before is forgotten: one illness has
/// one judge, and the probe that brings the backend back must not be vetoed by the failures that it went for.
///
/// It says nothing of a backend without calls, which is no news ([`covers`](HealthSignal::covers) is `false`).
///
/// ```
/// use fallway::signal::SuccessRate;
/// # use fallway::{Profile, Router, backend::{BackendError, backend_fn}, policy::round_robin};
/// # let model = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
/// let router = Router::builder(round_robin())
///     .backend(Profile::new("a"), model())
///     .backend(Profile::new("b"), model())
///     .signal(SuccessRate::default())
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SuccessRate {
    window: Duration,
    rows: Rows<Arc<Row>>,
    calm: Calm,
}

#[derive(Debug)]
struct Row {
    verdict: Latch,
    outcomes: Mutex<Outcomes>,
}

/// The outcomes of the window, oldest first.
#[derive(Debug, Default)]
struct Outcomes {
    /// Times in nanoseconds; the two lowest bits say how much of a success is lost, in halves.
    kept: VecDeque<u64>,
    /// The sum of these.
    lost: u64,
}

/// Successes on credit: see [`SuccessRate`].
const CREDIT: u64 = 2;
/// How much of a success is lost, in halves.
const NOTHING: u64 = 0;
const HALF: u64 = 1;
const ALL: u64 = 2;
/// Where that is kept.
const LOST: u64 = 3;

impl SuccessRate {
    /// Twice the default deadline, so a backend that is always in use is never without an outcome.
    pub const WINDOW: Duration = Duration::from_secs(120);
    /// How many outcomes of a backend are kept at most: 8 KiB.
    pub const OUTCOMES: usize = 1024;

    /// Over the outcomes of the last `window`. It should be longer than calls take.
    ///
    /// # Errors
    ///
    /// [`InvalidSignal::ZeroWindow`].
    pub fn over(window: Duration) -> Result<Self, InvalidSignal> {
        if window.is_zero() {
            return Err(InvalidSignal::ZeroWindow);
        }
        Ok(Self { window, ..Self::default() })
    }

    fn count(&self, backend: BackendId, lost: u64, now: Instant) {
        self.change(backend, |outcomes, verdict| verdict.set(outcomes.add(lost, now, nanos(self.window)), now));
    }

    /// Under the row's lock, or an older verdict could replace a newer one.
    fn change(&self, backend: BackendId, change: impl FnOnce(&mut Outcomes, &Latch)) {
        let ill = self.rows.with(backend, |row| {
            let mut outcomes = row.outcomes.lock();
            let before = row.verdict.ill_at();
            change(&mut outcomes, &row.verdict);
            (before.is_some(), row.verdict.ill_at())
        });
        match ill {
            Some((_, Some(at))) => self.calm.put_off(at + self.window),
            Some((true, None)) => self.take_stock(),
            _ => {}
        }
    }

    /// There is something to say while the verdict that anybody is ill is fresh.
    fn take_stock(&self) {
        self.calm.take_stock(|| {
            let ill = |row: &Arc<Row>| row.verdict.ill_at().map(|at| at + self.window);
            (self.rows.latest(ill).unwrap_or(EVER), NEVER)
        });
    }
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { window: Self::WINDOW, rows: Rows::default(), calm: Calm::default() }
    }
}

impl Outcomes {
    fn add(&mut self, lost: u64, now: Instant, window: u64) -> Score {
        self.kept.push_back(now.as_nanos() & !LOST | lost);
        self.lost += lost;
        while let Some(oldest) = self.kept.front()
            && (now.as_nanos().saturating_sub(oldest & !LOST) > window || self.kept.len() > SuccessRate::OUTCOMES)
        {
            self.lost -= oldest & LOST;
            self.kept.pop_front();
        }
        let all = 2 * (self.kept.len() as u64 + CREDIT);
        Score::from_permille(((all - self.lost) * 1000 / all) as u16)
    }
}

/// How much of a success a failure loses; `None` where it says nothing of the backend.
fn lost_by(error: &BackendError) -> Option<u64> {
    match error.kind().conduct().cools {
        Cools::Load | Cools::Streak => Some(ALL),
        Cools::Quota => Some(HALF),
        Cools::Nothing | Cools::Credential | Cools::Model => None,
    }
}

/// Whether the router took the backend out for its health.
fn is_illness(reason: Reason) -> bool {
    reason.class() == Class::Soft || matches!(reason, Reason::AskedToWait { .. })
}

#[deny(clippy::missing_trait_methods)]
impl HealthSignal for SuccessRate {
    fn name(&self) -> &'static str {
        "success_rate"
    }

    fn read(&self, backend: BackendId, now: Instant) -> Reading<Score> {
        self.rows.with(backend, |row| row.verdict.read(now, self.window)).unwrap_or(Reading::Missing)
    }

    fn observe(&self, event: &Event<'_>, now: Instant) {
        match *event {
            Event::Fleet { backends, .. } => {
                let empty = || Arc::new(Row { verdict: Latch::empty(), outcomes: Mutex::default() });
                self.rows.follow(backends, |_, old| old.cloned().unwrap_or_else(empty));
                self.take_stock();
            }
            Event::Ended { backend, outcome: Outcome::Success, .. } => self.count(backend, NOTHING, now),
            Event::Ended { backend, outcome: Outcome::Failure(error), excused: false, .. } => {
                if let Some(lost) = lost_by(error) {
                    self.count(backend, lost, now);
                }
            }
            Event::Transition { backend, out: Some(reason), .. } if is_illness(reason) => {
                self.change(backend, |outcomes, verdict| {
                    *outcomes = Outcomes::default();
                    verdict.clear();
                });
            }
            _ => {}
        }
    }

    fn covers(&self, _: BackendId) -> bool {
        false
    }

    fn is_calm(&self, now: Instant) -> bool {
        self.calm.at(now)
    }
}

impl fmt::Debug for SuccessRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SuccessRate({:?}, {:?})", self.window, self.rows)
    }
}
