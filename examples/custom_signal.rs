//! A health signal of one's own: a status page that the operator sets, believed for a minute.
//!
//! `cargo run --example custom_signal`

use fallway::backend::{BackendError, BackendId, backend_fn};
use fallway::event::{Event, Observer};
use fallway::policy::{FailSafe, PolicyExt, round_robin};
use fallway::signal::{HealthSignal, HealthSignalExt, Reading, Score};
use fallway::time::{Clock, Instant};
use fallway::{CallOptions, Profile, Router};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One word per backend: when the page was read, and the score in its low bits. Written by whoever fetches the
/// page, read by every decision, without a lock.
#[derive(Debug, Default)]
struct StatusPage([AtomicU64; 8]);

impl StatusPage {
    fn set(&self, slot: usize, score: Score, now: Instant) {
        self.0[slot].store((now.as_nanos() & !0x3ff) | u64::from(score.permille()), Ordering::Relaxed);
    }
}

impl HealthSignal for StatusPage {
    fn name(&self) -> &'static str {
        "status_page"
    }

    fn read(&self, backend: BackendId, _now: Instant) -> Reading<Score> {
        // A backend that the page does not know is not healthy and not unhealthy: it is missing.
        match self.0.get(backend.slot()).map(|word| word.load(Ordering::Relaxed)) {
            None | Some(0) => Reading::Missing,
            Some(word) => Reading::Fresh {
                value: Score::from_permille((word & 0x3ff) as u16),
                at: Instant::from_nanos(word & !0x3ff),
            },
        }
    }

    fn observe(&self, _event: &Event<'_>, _now: Instant) {
        // An external source: it learns nothing from the traffic.
    }
}

/// Prints what happens.
#[derive(Debug)]
struct Print;

impl Observer for Print {
    fn on_event(&self, event: &Event<'_>, _now: Instant) {
        if let Event::Ended { profile, outcome, .. } = event {
            println!("  {} {outcome:?}", profile.id());
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
    let page = Arc::new(StatusPage::default());
    let router = Router::builder(round_robin().fail_safe(FailSafe::default()))
        .backend(Profile::new("a"), model())
        .backend(Profile::new("b"), model())
        .backend(Profile::new("c"), model())
        .signal(page.clone().fresh_for(Duration::from_secs(60)))
        .observer(Print)
        .build()?;
    let show = |title: &str| println!("{title}\n{}\n", router.explain(&CallOptions::default()));

    show("Nothing was read yet; all stand alike:");
    let now = Clock.now();
    page.set(0, Score::WELL, now);
    page.set(1, Score::from_permille(300), now);
    show("a is well, b is not, c is unknown and stands behind a:");
    for slot in 0..3 {
        page.set(slot, Score::DEAD, now);
    }
    show("The page says that all are dead. That is doubted:");
    for slot in 0..3 {
        page.set(slot, Score::WELL, now - Duration::from_secs(3600));
    }
    show("An hour old; nobody believes it, nobody is hurt:");

    println!("Two calls:");
    for _ in 0..2 {
        futures::executor::block_on(router.call("hello", CallOptions::default()))?;
    }
    Ok(())
}
