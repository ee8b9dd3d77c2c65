//! What waiting costs: a request that queues up and goes to sleep behind many others, and one that is handed a freed slot,
//! wakes and starts.
//!
//! `cargo bench --bench queue` prints a table of nanoseconds per request, everything included: two decisions and the
//! queue to go to sleep; the end of a call, the queue, the wake-up and a decision to start. With many waiting most of it
//! is memory: a request that is woken after 100,000 others is in no cache. It exits with 1 when a slot costs more than one
//! wake-up and one decision.

use fallway::backend::{BackendError, backend_fn};
use fallway::event::{Event, Observer};
use fallway::facts::Priority;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::{Step, Trip};
use fallway::time::Instant as Moment;
use fallway::{CallOptions, Facts, Profile, Router};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
const SLOTS: u32 = 8;
const PRIORITIES: [Priority; 4] = [Priority::Batch, Priority::Sheddable, Priority::Standard, Priority::Critical];

/// Notes who was woken.
#[derive(Default)]
struct Bell {
    woken: AtomicU64,
    last: AtomicU64,
}

struct Rope(Arc<Bell>, u64);

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.0.woken.fetch_add(1, Ordering::Relaxed);
        self.0.last.store(self.1, Ordering::Relaxed);
    }
}

/// Counts decisions.
#[derive(Clone, Debug, Default)]
struct Decisions(Arc<AtomicU64>);

impl Observer for Decisions {
    fn on_event(&self, event: &Event<'_>, _: Moment) {
        if matches!(event, Event::Decided(_)) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A mixture of those who wait.
#[derive(Clone, Copy)]
struct Mixture {
    name: &'static str,
    backends: usize,
    tenants: usize,
    bands: usize,
}

/// Nanoseconds to queue up and to start, wake-ups and decisions for each slot.
struct Cost {
    sleep: f64,
    start: f64,
    wakes: f64,
    decisions: f64,
}

fn router(backends: usize, observer: Option<Decisions>) -> Router<str, ()> {
    let mut builder = Router::<str, ()>::builder(ordered().fail_safe(FailSafe::default())).queue(usize::MAX).seed(1);
    for n in 0..backends {
        let profile = Profile::new(format!("backend-{n}")).concurrency(SLOTS);
        builder = builder.backend(profile, backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) }));
    }
    if let Some(observer) = observer {
        builder = builder.observer(observer);
    }
    builder.build().expect("the bench's fleet is valid")
}

/// Lets so many wait and serves half of them.
fn play(mixture: Mixture, waiting: usize, decisions: Option<&Decisions>) -> Cost {
    let router = router(mixture.backends, decisions.cloned());
    let bell = Arc::new(Bell::default());
    let tenants: Vec<Arc<str>> = (0..mixture.tenants).map(|n| format!("tenant-{n}").into()).collect();
    let mut rng = fallway::rng::Rng::new(7);
    let mut now = 1_000_000_000;
    let mut options = || {
        let facts = Facts::any().tenant(tenants[rng.below(tenants.len())].clone());
        let facts = facts.priority(PRIORITIES[3 - rng.below(mixture.bands)]);
        CallOptions::within(Duration::from_secs([5, 60, 600][rng.below(3)])).facts(facts)
    };
    let mut holders: VecDeque<Trip<'_, str, ()>> = VecDeque::new();
    for _ in 0..mixture.backends * SLOTS as usize {
        let mut trip = router.trip(options(), Moment::from_nanos(now));
        assert!(matches!(trip.next(Moment::from_nanos(now)), Ok(Step::Call(_))));
        holders.push_back(trip);
    }
    // Made before, so that the clock runs for the queue only.
    let mut trips: Vec<_> = (0..waiting as u64)
        .map(|n| {
            now += 100;
            let waker = Waker::from(Arc::new(Rope(bell.clone(), n)));
            (Some(router.trip(options(), Moment::from_nanos(now))), waker)
        })
        .collect();
    let began = Instant::now();
    for (trip, waker) in &mut trips {
        now += 100;
        let trip = trip.as_mut().expect("nobody has started");
        assert!(matches!(trip.next(Moment::from_nanos(now)), Ok(Step::Wait { .. })));
        assert!(trip.poll_called(&mut Context::from_waker(waker)).is_pending());
    }
    let sleep = began.elapsed().as_nanos() as f64 / waiting as f64;
    let before = decisions.map_or(0, |count| count.0.load(Ordering::Relaxed));
    let rounds = waiting / 2;
    let began = Instant::now();
    for _ in 0..rounds {
        now += 100;
        let moment = Moment::from_nanos(now);
        let mut ended = holders.pop_front().expect("somebody holds a slot");
        ended.answered(moment);
        ended.finish(moment);
        let (trip, waker) = &mut trips[bell.last.load(Ordering::Relaxed) as usize];
        let mut next = trip.take().expect("who is woken has not started");
        assert!(next.poll_called(&mut Context::from_waker(waker)).is_ready());
        assert!(matches!(next.next(moment), Ok(Step::Call(_))));
        holders.push_back(next);
    }
    let start = began.elapsed().as_nanos() as f64 / rounds as f64;
    let woken = bell.woken.load(Ordering::Relaxed);
    let decided = decisions.map_or(0, |count| count.0.load(Ordering::Relaxed)) - before;
    assert_eq!(router.waiting(), waiting - rounds);
    drop((trips, holders));
    assert_eq!((router.waiting(), router.total_in_flight()), (0, 0));
    Cost { sleep, start, wakes: woken as f64 / rounds as f64, decisions: decided as f64 / rounds as f64 }
}

fn main() {
    let mixtures = [
        Mixture { name: "1 backend, 1 tenant", backends: 1, tenants: 1, bands: 1 },
        Mixture { name: "1 backend, 4 bands, 1,000 tenants", backends: 1, tenants: 1_000, bands: 4 },
        Mixture { name: "8 backends, 4 bands, 100 tenants", backends: 8, tenants: 100, bands: 4 },
    ];
    println!("Nanoseconds to queue up behind so many, and to be handed a slot and start, of each request.\n");
    println!("| who waits | step | 100 | 1,000 | 10,000 | 100,000 | wake-ups a slot | decisions a slot |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut missed = Vec::new();
    for mixture in mixtures {
        let (mut sleeps, mut starts) = (Vec::new(), Vec::new());
        for size in SIZES {
            let rounds = (100_000 / size).clamp(3, 20);
            let costs: Vec<_> = (0..rounds).map(|_| play(mixture, size, None)).collect();
            let least = |of: fn(&Cost) -> f64| costs.iter().map(of).fold(f64::INFINITY, f64::min);
            sleeps.push(least(|cost| cost.sleep));
            starts.push(least(|cost| cost.start));
        }
        let counts = play(mixture, 10_000, Some(&Decisions::default()));
        let name = mixture.name;
        let row = |figures: &[f64]| figures.iter().map(|figure| format!("{figure:.0} | ")).collect::<String>();
        println!("| {name} | queue up | {}| |", row(&sleeps));
        println!("| {name} | start | {}{:.2} | {:.2} |", row(&starts), counts.wakes, counts.decisions);
        for (what, bad) in [
            (format!("{} wake-ups for each slot, promised 1", counts.wakes), counts.wakes != 1.0),
            (format!("{} decisions for each slot, promised 1", counts.decisions), counts.decisions != 1.0),
        ] {
            if bad {
                missed.push(format!("{name}: {what}"));
            }
        }
    }
    for miss in &missed {
        println!("MISSED {miss}");
    }
    std::process::exit(i32::from(!missed.is_empty()));
}
