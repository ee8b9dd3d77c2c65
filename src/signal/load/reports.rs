//! [`LoadReports`]: the last report of each backend.

use super::{LoadReport, Reported, Unreadable};
use crate::backend::BackendId;
use crate::event::Event;
use crate::signal::calm::{Calm, EVER, NEVER};
use crate::signal::latch::Latch;
use crate::signal::rows::Rows;
use crate::signal::{HealthSignal, Reading, Score};
use crate::time::Instant;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The last load report of each backend, as the host hands them over: from response headers, from a scraper, from
/// wherever. For policies a [`Reading<LoadReport>`], and a health signal: a backend whose cache or compute is saturated
/// counts as ill ([`LoadReport::score`]).
///
/// A report older than two seconds ([`STALE_AFTER`](Self::STALE_AFTER)) is stale: neither idle nor saturated. One that
/// was not readable takes the place of the one before, and the reading is missing. Backends that report nothing are
/// no news ([`covers`](HealthSignal::covers) is `false`).
///
/// Reports may come from any number of threads, late, twice, or for backends that are gone: they are
/// [counted](Self::counts) and do no harm.
///
/// ```
/// use fallway::signal::{LoadReport, LoadReports, Reading};
/// use fallway::time::Clock;
/// # use fallway::{Profile, Router, backend::{BackendError, backend_fn}, policy::round_robin};
/// use std::sync::Arc;
/// # let model = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
/// let reports = Arc::new(LoadReports::default());
/// let router = Router::builder(round_robin()).backend(Profile::new("a"), model()).signal(reports.clone()).build()?;
///
/// let (a, now) = (router.backend_id("a").unwrap(), Clock.now());
/// reports.report(a, LoadReport::from_vllm("vllm:kv_cache_usage_perc 0.97"), now);
/// assert!(matches!(reports.load(a, now), Reading::Fresh { value, .. } if value.kv_cache == Some(970)));
/// reports.report(a, LoadReport::from_vllm("vllm:kv_cache_usage_perc NaN"), Clock.now());
/// assert_eq!(reports.load(a, Clock.now()), Reading::Missing);
/// println!("{}", reports.why_missing(a).unwrap());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct LoadReports {
    rows: Rows<Arc<Row>>,
    calm: Calm,
    taken: AtomicU64,
    late: AtomicU64,
    unreadable: AtomicU64,
    unknown: AtomicU64,
}

#[derive(Debug, Default)]
struct Row {
    /// Decisions do not read it, and who replaces it holds it until all else says the same.
    last: Mutex<Option<Report>>,
    /// The health that follows from it.
    verdict: Latch,
    /// What decisions read of it.
    reported: Arc<Reported>,
}

#[derive(PartialEq, Debug)]
struct Report {
    at: Instant,
    said: Result<LoadReport, Unreadable>,
}

/// What became of the reports that were handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct LoadCounts {
    /// Read and kept.
    pub taken: u64,
    /// Older than the one that was there, or the same again; dropped.
    pub late: u64,
    /// Not readable; the reading is missing until the next.
    pub unreadable: u64,
    /// Of a backend that is not in the fleet; dropped.
    pub unknown: u64,
}

impl LoadReports {
    /// After this a report is stale: queues of language models fill and drain in seconds.
    pub const STALE_AFTER: Duration = Duration::from_secs(2);

    /// The report of `backend`, as it was at `now`.
    pub fn report(&self, backend: BackendId, said: Result<LoadReport, Unreadable>, now: Instant) {
        let kept = self.rows.with(backend, |row| {
            let report = Report { at: now, said };
            let mut last = row.last.lock();
            let in_order = last.as_ref().is_none_or(|last| last.at <= now && *last != report);
            let before = row.verdict.ill_at().is_some();
            if in_order {
                *last = Some(report);
                match said.ok().and_then(|report| report.score()) {
                    Some(score) => row.verdict.set(score, now),
                    None => row.verdict.clear(),
                }
                let say = |number: fn(&LoadReport) -> Option<u64>| said.ok().and_then(|report| number(&report));
                row.reported.waiting.set(say(|report| report.waiting), now);
                row.reported.tokens.set(say(|report| Some(report.waiting_tokens?.div_ceil(Reported::UNIT))), now);
                row.reported.full.set(say(|report| report.fullness().map(u64::from)), now);
            }
            (in_order, before, row.verdict.ill_at())
        });
        let count = match kept {
            None => &self.unknown,
            Some((false, ..)) => &self.late,
            Some(_) if said.is_err() => &self.unreadable,
            Some(_) => &self.taken,
        };
        match kept {
            Some((true, _, Some(at))) => self.calm.put_off(at + Self::STALE_AFTER),
            Some((_, true, None)) => self.take_stock(),
            _ => {}
        }
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// There is something to say while the report of a saturated server is fresh.
    fn take_stock(&self) {
        self.calm.take_stock(|| {
            let ill = |row: &Arc<Row>| row.verdict.ill_at().map(|at| at + Self::STALE_AFTER);
            (self.rows.latest(ill).unwrap_or(EVER), NEVER)
        });
    }

    /// The load of `backend` as it was told last.
    pub fn load(&self, backend: BackendId, now: Instant) -> Reading<LoadReport> {
        let last = self.rows.with(backend, |row| match &*row.last.lock() {
            Some(Report { at, said: Ok(report) }) => Some((*report, (*at).min(now))),
            _ => None,
        });
        match last.flatten() {
            None => Reading::Missing,
            Some((value, at)) if now - at > Self::STALE_AFTER => Reading::Stale { value, at },
            Some((value, at)) => Reading::Fresh { value, at },
        }
    }

    /// What `backend` says of its load, for as long as it is in the fleet.
    pub(crate) fn reported(&self, backend: BackendId) -> Option<Arc<Reported>> {
        self.rows.with(backend, |row| row.reported.clone())
    }

    /// Why the last report of `backend` could not be read; `None` where it could, or where there was none.
    pub fn why_missing(&self, backend: BackendId) -> Option<Unreadable> {
        self.rows.with(backend, |row| row.last.lock().as_ref()?.said.err()).flatten()
    }

    /// What became of all reports so far.
    pub fn counts(&self) -> LoadCounts {
        LoadCounts {
            taken: self.taken.load(Ordering::Relaxed),
            late: self.late.load(Ordering::Relaxed),
            unreadable: self.unreadable.load(Ordering::Relaxed),
            unknown: self.unknown.load(Ordering::Relaxed),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl HealthSignal for LoadReports {
    fn name(&self) -> &'static str {
        "load_reports"
    }

    fn read(&self, backend: BackendId, now: Instant) -> Reading<Score> {
        self.rows.with(backend, |row| row.verdict.read(now, Self::STALE_AFTER)).unwrap_or(Reading::Missing)
    }

    fn observe(&self, event: &Event<'_>, _: Instant) {
        if let Event::Fleet { backends, .. } = event {
            self.rows.follow(backends, |_, old| old.cloned().unwrap_or_default());
            self.take_stock();
        }
    }

    fn covers(&self, _: BackendId) -> bool {
        false
    }

    fn is_calm(&self, now: Instant) -> bool {
        self.calm.at(now)
    }
}

impl fmt::Debug for LoadReports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoadReports({:?}, {:?})", self.rows, self.counts())
    }
}
