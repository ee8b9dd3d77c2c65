//! A health signal of one's own: a status page that the operator sets, believed for a minute.
//!
//! `cargo run --example custom_signal`

use arc_swap::ArcSwap;
use fallway::backend::{BackendError, BackendId, backend_fn};
use fallway::event::{Event, Observer};
use fallway::policy::{FailSafe, PolicyExt, round_robin};
use fallway::signal::{HealthSignal, HealthSignalExt, Reading, Score};
use fallway::time::{Clock, Instant};
use fallway::{CallOptions, Profile, Router};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What the page said, and when. Whoever fetches the page replaces the table in one swap; decisions read it without
/// a lock.
///
/// The key is the whole [`BackendId`]. Its slot alone would do while nobody leaves the fleet, but a slot is used again
/// later, with another epoch: the newcomer would inherit what the page said of the one that is gone.
#[derive(Debug, Default)]
struct StatusPage(ArcSwap<HashMap<BackendId, (Score, Instant)>>);

impl StatusPage {
    fn publish(&self, scores: impl IntoIterator<Item = (BackendId, Score)>, at: Instant) {
        self.0.store(Arc::new(scores.into_iter().map(|(id, score)| (id, (score, at))).collect()));
    }
}

impl HealthSignal for StatusPage {
    fn name(&self) -> &'static str {
        "status_page"
    }

    fn read(&self, backend: BackendId, _now: Instant) -> Reading<Score> {
        // A backend that the page does not know is not healthy and not unhealthy: it is missing.
        match self.0.load().get(&backend) {
            None => Reading::Missing,
            Some(&(value, at)) => Reading::Fresh { value, at },
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
    let ids = || ["a", "b", "c"].into_iter().filter_map(|name| router.backend_id(name));
    let show = |title: &str| println!("{title}\n{}\n", router.explain(&CallOptions::default()));

    show("Nothing was read yet; all stand alike:");
    let now = Clock.now();
    page.publish(ids().zip([Score::WELL, Score::from_permille(300)]), now);
    show("a is well, b is not, c is unknown and stands behind a:");
    page.publish(ids().map(|id| (id, Score::DEAD)), now);
    show("The page says that all are dead. That is doubted:");
    page.publish(ids().map(|id| (id, Score::WELL)), now - Duration::from_secs(3600));
    show("An hour old; nobody believes it, nobody is hurt:");

    page.publish(ids().zip([Score::DEAD, Score::WELL, Score::WELL]), now);
    let gone = router.backend_id("a").ok_or("there is an a")?;
    router.update(|fleet| fleet.remove("a"))?;
    router.update(|fleet| fleet.add(Profile::new("d"), model()))?;
    let new = router.backend_id("d").ok_or("there is a d")?;
    println!("a was {gone:?} and is gone, d is {new:?}\n");
    assert_ne!(gone, new);
    assert_eq!(page.read(new, now), Reading::Missing);
    show("a was dead and is gone; of d, which may have its slot, nothing is known:");

    println!("Two calls:");
    for _ in 0..2 {
        futures::executor::block_on(router.call("hello", CallOptions::default()))?;
    }
    Ok(())
}
