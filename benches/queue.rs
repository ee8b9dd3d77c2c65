//! What waiting costs: a request that queues up and goes to sleep behind many others, one that is handed a freed slot and
//! woken, and what follows: it starts.
//!
//! `cargo bench --bench queue` prints a table of nanoseconds per request, the fastest of several rounds. To queue up is two
//! decisions (it looks once more before it sleeps) and the queue; the decisions alone, over a fleet that is full, stand below
//! it, each into a record of its own. To wake is the end of a call, the hand-over and the waker, without what its caller drops.
//! To start is a decision and a lease; to give up with a slot in hand is a hand-over and a waker. With many waiting most of it is
//! memory: a request that is woken after 100,000 others is in no cache. It exits with 1 when the queue grows more than so many
//! times as much as a decision does, over the same memory, or a slot costs more than one wake-up and one decision.

use fallway::backend::{BackendError, backend_fn};
use fallway::decision::Next;
use fallway::event::{Event, Observer};
use fallway::facts::Priority;
use fallway::limit::{Bulkheads, Share};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::{Step, Trip};
use fallway::time::Instant as Moment;
use fallway::{CallOptions, Facts, Profile, Router};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
const SLOTS: u32 = 8;
const PRIORITIES: [Priority; 4] = [Priority::Batch, Priority::Sheddable, Priority::Standard, Priority::Critical];

/// How much more the queue alone may grow from 100 to 100,000 waiting requests than a decision does: to queue up without
/// the decisions, and to wake. A decision does the same work for each; that it takes longer is memory. A look at all who
/// wait would grow by 1,000.
const MOST: f64 = 3.0;

/// Notes who was woken.
#[derive(Default)]
struct Bell(Mutex<Vec<u64>>);

struct Rope(Arc<Bell>, u64);

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.0.0.lock().expect("nobody panics with it").push(self.1);
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
    /// Whether they wait for a share of the calls, of a whole that is all slots.
    shares: bool,
}

/// Nanoseconds of each step, wake-ups and decisions for each slot.
struct Cost {
    sleep: f64,
    /// Of that, what the decisions take.
    decide: f64,
    wake: f64,
    start: f64,
    /// To give up with a slot in its hands, which goes to the next.
    leave: f64,
    wakes: f64,
    decisions: f64,
}

fn router(backends: usize, shares: bool, observer: Option<Decisions>) -> Router<str, ()> {
    let mut builder = Router::<str, ()>::builder(ordered().fail_safe(FailSafe::default())).queue(usize::MAX).seed(1);
    for n in 0..backends {
        let profile = Profile::new(format!("backend-{n}")).concurrency(SLOTS);
        builder = builder.backend(profile, backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) }));
    }
    if shares {
        builder = builder.tenant_bulkheads(Bulkheads::of(backends as u32 * SLOTS, Share::at_most(SLOTS)));
    }
    if let Some(observer) = observer {
        builder = builder.observer(observer);
    }
    builder.build().expect("the bench's fleet is valid")
}

/// Lets so many wait and serves half of them.
fn play(mixture: Mixture, waiting: usize, decisions: Option<&Decisions>) -> Cost {
    let router = router(mixture.backends, mixture.shares, decisions.cloned());
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
    let mut trips = Vec::with_capacity(waiting);
    let mut sleep = 0.0;
    while trips.len() < waiting {
        // Made before, so that the clock runs for the queue only; but not long before.
        let newcomers = trips.len()..waiting.min(trips.len() + 100);
        trips.extend(newcomers.clone().map(|n| {
            now += 100;
            let waker = Waker::from(Arc::new(Rope(bell.clone(), n as u64)));
            (Some(router.trip(options(), Moment::from_nanos(now))), waker)
        }));
        sleep += timed(waiting, || {
            for (trip, waker) in &mut trips[newcomers] {
                now += 100;
                let trip = trip.as_mut().expect("nobody has started");
                assert!(matches!(trip.next(Moment::from_nanos(now)), Ok(Step::Wait { .. })));
                assert!(trip.poll_called(&mut Context::from_waker(waker)).is_pending());
            }
        })
        .0;
    }
    let before = decisions.map_or(0, |count| count.0.load(Ordering::Relaxed));
    let (mut served, mut wakes, mut wake, mut start) = (0, 0, 0.0, 0.0);
    while served < waiting / 2 {
        now += 100;
        let moment = Moment::from_nanos(now);
        let slots = holders.len();
        let mut ended: Vec<_> = holders.drain(..).collect();
        wake += timed(1, || {
            for ended in &mut ended {
                ended.answered(1, moment);
                ended.finish(moment);
            }
        })
        .0;
        let woken = std::mem::take(&mut *bell.0.lock().expect("nobody panics with it"));
        wakes += woken.len();
        start += timed(1, || {
            for who in woken {
                let (trip, waker) = &mut trips[who as usize];
                let mut next = trip.take().expect("who is woken has not started");
                assert!(next.poll_called(&mut Context::from_waker(waker)).is_ready());
                assert!(matches!(next.next(moment), Ok(Step::Call(_))));
                holders.push_back(next);
            }
        })
        .0;
        assert_eq!(holders.len(), slots, "as many start as have ended");
        served += slots;
    }
    let decided = decisions.map_or(0, |count| count.0.load(Ordering::Relaxed)) - before;
    assert_eq!(router.waiting(), waiting - served);
    let asked: Vec<_> = (0..waiting).map(|_| options()).collect();
    let mut alone = Vec::with_capacity(waiting);
    let (decide, _) = timed(waiting, || {
        for options in &asked {
            // Each into a record of its own, as those that wait.
            let mut decision = router.explain(options);
            now += 100;
            router.decide(&mut decision, Moment::from_nanos(now), now);
            assert!(matches!(decision.next(), Next::Wait { .. }));
            alone.push(decision);
        }
    });
    for mut ended in holders.drain(..) {
        ended.answered(1, Moment::from_nanos(now));
        ended.finish(Moment::from_nanos(now));
    }
    let (leave, _) = timed(waiting - served, || {
        loop {
            let woken = std::mem::take(&mut *bell.0.lock().expect("nobody panics with it"));
            if woken.is_empty() {
                break;
            }
            woken.into_iter().for_each(|who| drop(trips[who as usize].0.take()));
        }
    });
    assert!(trips.iter().all(|(trip, _)| trip.is_none()), "each was the next for what another left");
    assert_eq!((router.waiting(), router.total_in_flight()), (0, 0));
    let each = served as f64;
    Cost {
        sleep,
        decide,
        wake: wake / each,
        start: start / each,
        leave,
        wakes: wakes as f64 / each,
        decisions: decided as f64 / each,
    }
}

/// Nanoseconds for each of so many, and what came of it.
fn timed<T>(count: usize, run: impl FnOnce() -> T) -> (f64, T) {
    let began = Instant::now();
    let result = run();
    (began.elapsed().as_nanos() as f64 / count as f64, result)
}

fn main() {
    let mixtures = [
        Mixture { name: "1 backend, 1 tenant", backends: 1, tenants: 1, bands: 1, shares: false },
        Mixture { name: "1 backend, 4 bands, 1,000 tenants", backends: 1, tenants: 1_000, bands: 4, shares: false },
        Mixture { name: "8 backends, 4 bands, 100 tenants", backends: 8, tenants: 100, bands: 4, shares: false },
        Mixture {
            name: "8 backends, 4 bands, 1,000,000 tenants with shares",
            backends: 8,
            tenants: 1_000_000,
            bands: 4,
            shares: true,
        },
    ];
    println!("Nanoseconds of each request, while so many wait.\n");
    println!("| who waits | step | 100 | 1,000 | 10,000 | 100,000 |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    let row = |name: &str, step: &str, figures: &[f64]| {
        let figures: String = figures.iter().map(|figure| format!(" {figure:.0} |")).collect();
        println!("| {name} | {step} |{figures}");
    };
    let rounds = |size: usize| (100_000 / size).clamp(3, 20);
    let mut missed = Vec::new();
    for mixture in mixtures {
        let name = mixture.name;
        let costs = SIZES.map(|size| {
            let costs: Vec<_> = (0..rounds(size)).map(|_| play(mixture, size, None)).collect();
            move |of: fn(&Cost) -> f64| costs.iter().map(of).fold(f64::INFINITY, f64::min)
        });
        let decide = costs.each_ref().map(|least| least(|cost| cost.decide));
        row(name, "queue up", &costs.each_ref().map(|least| least(|cost| cost.sleep)));
        row(name, "of that, two decisions", &decide);
        row(name, "wake", &costs.each_ref().map(|least| least(|cost| cost.wake)));
        row(name, "start", &costs.each_ref().map(|least| least(|cost| cost.start)));
        row(name, "give up", &costs.each_ref().map(|least| least(|cost| cost.leave)));
        let own = costs.each_ref().map(|least| {
            [least(|cost| cost.sleep) - least(|cost| cost.decide), least(|cost| cost.wake)].iter().sum::<f64>()
        });
        row(name, "the queue alone, both steps", &own);
        let growth = |figures: &[f64; SIZES.len()]| figures[SIZES.len() - 1] / figures[0];
        let growth = growth(&own) / growth(&decide);
        println!("| {name} | its growth, of a decision's | | | | {growth:.1} |");
        let counts = play(mixture, 10_000, Some(&Decisions::default()));
        for (what, bad) in [
            (format!("it grows {growth:.1} times as much as a decision, promised {MOST}"), growth > MOST),
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
