//! [`Builder`].

mod shaping;

use super::build_error::{BuildError, WEIGHTS, check_profiles};
use super::core::{Core, Shared, Slots, Ticks};
use super::seeds::Seeds;
use super::shadow::Fed;
use super::update::Held;
use super::{Router, SharedBackend, Update};
use crate::backend::{Backend, BackendId};
use crate::budget::{RetryBudget, Savings};
use crate::decision::names::Registered;
use crate::event::Observer;
use crate::facts::Profile;
use crate::fleet::Crowd;
use crate::limit::{Bulkheads, Shares, Waiters};
use crate::policy::{RoutingPolicy, engine};
use crate::recover::{Court, Ejection};
use crate::shape::{RateLimit, Rates, SpendLimit, Spends};
use crate::signal::{HealthSignal, LoadReports};
use crate::time::{SystemTimer, Timer};
use arc_swap::ArcSwap;
use parking_lot::{Mutex, ReentrantMutex};
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

/// Assembles a [`Router`].
pub struct Builder<Req: ?Sized, Res> {
    policy: Box<dyn RoutingPolicy>,
    fleet: Update<Req, Res>,
    registered: Registered,
    signals: Vec<Arc<dyn HealthSignal>>,
    reports: Option<Arc<LoadReports>>,
    observers: Vec<Arc<dyn Observer>>,
    timer: Arc<dyn Timer>,
    retry_budget: RetryBudget,
    ejection: Ejection,
    last_resort: Option<SharedBackend<Req, Res>>,
    mirrors: Vec<Fed<Req>>,
    mirror_errors: Vec<BuildError>,
    rates: Vec<RateLimit>,
    spends: Vec<SpendLimit>,
    default_deadline: Duration,
    idle_limit: Duration,
    largest_item: usize,
    queue: usize,
    longest_wait: Duration,
    weights: HashMap<Arc<str>, u32>,
    tenants: Option<Bulkheads>,
    routes: Option<Bulkheads>,
    seed: Option<u64>,
}

impl<Req: ?Sized + Sync + 'static, Res: Send + 'static> Builder<Req, Res> {
    pub(super) fn new(policy: Box<dyn RoutingPolicy>) -> Self {
        Self {
            policy,
            fleet: Update::empty(),
            registered: Registered::default(),
            signals: Vec::new(),
            reports: None,
            observers: Vec::new(),
            timer: Arc::new(SystemTimer::default()),
            retry_budget: RetryBudget::default(),
            ejection: Ejection::default(),
            last_resort: None,
            mirrors: Vec::new(),
            mirror_errors: Vec::new(),
            rates: Vec::new(),
            spends: Vec::new(),
            default_deadline: Router::<Req, Res>::DEFAULT_DEADLINE,
            idle_limit: Router::<Req, Res>::DEFAULT_IDLE_LIMIT,
            largest_item: Router::<Req, Res>::DEFAULT_LARGEST_ITEM,
            queue: Router::<Req, Res>::DEFAULT_QUEUE,
            longest_wait: Router::<Req, Res>::DEFAULT_LONGEST_WAIT,
            weights: HashMap::new(),
            tenants: None,
            routes: None,
            seed: None,
        }
    }

    /// Adds a backend.
    #[must_use]
    pub fn backend(mut self, profile: Profile, backend: impl Backend<Req, Response = Res>) -> Self {
        self.fleet.add(profile, backend);
        self
    }

    /// Adds a source of readings about backends' health.
    #[must_use]
    pub fn signal(mut self, signal: impl HealthSignal) -> Self {
        self.signals.push(Arc::new(signal));
        self
    }

    /// Adds what servers report of their load: a health signal, as any other, and for
    /// [`predicted_ttft`](crate::policy::predicted_ttft) the queues that requests of others stand in. Where many routers
    /// share a fleet, each knows only its own calls without it.
    ///
    /// ```
    /// # use fallway::{Profile, Router, backend::{BackendError, backend_fn}, policy::predicted_ttft};
    /// # let model = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
    /// use fallway::signal::{LoadReport, LoadReports};
    /// use fallway::time::Clock;
    /// use std::sync::Arc;
    ///
    /// let reports = Arc::new(LoadReports::default());
    /// let router =
    ///     Router::builder(predicted_ttft()).backend(Profile::new("a"), model()).load_reports(reports.clone()).build()?;
    /// // Whenever a response or a scrape brings news:
    /// let a = router.backend_id("a").unwrap();
    /// reports.report(a, LoadReport::from_vllm("vllm:num_requests_waiting 3"), Clock.now());
    /// # Ok::<(), fallway::BuildError>(())
    /// ```
    #[must_use]
    pub fn load_reports(mut self, reports: Arc<LoadReports>) -> Self {
        self.reports = Some(reports.clone());
        self.signal(reports)
    }

    /// Adds somebody who watches.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// What answers when nothing else may: a static answer, a stale cache, a small local model. Its answers are
    /// marked [degraded](super::Routed::is_degraded). It is asked in time: no attempt and no wait uses up the end of
    /// the deadline ([`FailSafe::LAST_RESORT_RESERVE`](crate::policy::FailSafe::LAST_RESORT_RESERVE)). It is not asked
    /// where the fault is the caller's, nor where a failure left open whether the request was executed and it may
    /// not be executed twice.
    #[must_use]
    pub fn last_resort(mut self, backend: impl Backend<Req, Response = Res>) -> Self {
        self.last_resort = Some(Arc::new(backend));
        self
    }

    /// Looks names up in this registry: an alias leads to the version that it has for the request, a `model@version` to
    /// itself, if it is served. Names that the registry does not know are those of models, as without it.
    ///
    /// A request sees the registry of the moment at which it came, in all of its attempts, waits and hedges and to the end of
    /// its stream. With [`fail_safe`](crate::policy::PolicyExt::fail_safe) those stand in that the alias
    /// [names](crate::registry::Alias::fallback). What the registry knows of a version (capabilities, context window, price)
    /// holds for its backends whose profiles do not say.
    ///
    /// [`Decision::provenance`](crate::Decision::provenance) tells what it said. Backends for its placements come with
    /// [`Update::sync`](super::Update::sync).
    ///
    /// ```
    /// use fallway::backend::{BackendError, backend_fn};
    /// use fallway::policy::{FailSafe, PolicyExt, ordered};
    /// use fallway::registry::{Alias, Catalog, ModelVersion, Placement, Publication, Registry, State};
    /// use fallway::{CallOptions, Facts, Profile, Router};
    /// use std::sync::Arc;
    /// use std::time::SystemTime;
    ///
    /// let now = SystemTime::now();
    /// let registry = Arc::new(Registry::builder().open(now));
    /// let catalog = Catalog::new()
    ///     .version("llama-70b", "3", ModelVersion::new(State::Live).context(131_072))
    ///     .placement("eu-3", Placement::new("llama-70b@3", "acme", "eu-west", "eu-a"))
    ///     .alias("chat", Alias::to("llama-70b@3"));
    /// registry.publish(&Publication::from(catalog), now)?;
    ///
    /// # let echo = || backend_fn(|request: &str, _: &_| { let answer = request.to_owned(); async { Ok::<_, BackendError>(answer) } });
    /// let router = Router::builder(ordered().fail_safe(FailSafe::default()))
    ///     .registry(registry)
    ///     .backend(Profile::new("eu-3").model("llama-70b@3"), echo())
    ///     .build()?;
    /// let decision = router.explain(&CallOptions::new(Facts::model("chat")));
    /// assert_eq!(decision.chosen().unwrap().name(), "eu-3");
    /// assert_eq!(decision.provenance().unwrap().aliases, ["chat"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "registry")]
    #[must_use]
    pub fn registry(mut self, registry: Arc<crate::registry::Registry>) -> Self {
        self.registered = Registered::with(registry);
        self
    }

    /// Changes the fleet that the router begins with, as [`Router::update`] does later: for what a
    /// [registry](Update::sync) places.
    #[must_use]
    pub fn fleet(mut self, change: impl FnOnce(&mut Update<Req, Res>)) -> Self {
        change(&mut self.fleet);
        self
    }

    /// The budget of extra attempts, shared by all requests of the router.
    #[must_use]
    pub fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.retry_budget = budget;
        self
    }

    /// When a backend is taken out of the running, and how it returns.
    #[must_use]
    pub const fn ejection(mut self, ejection: Ejection) -> Self {
        self.ejection = ejection;
        self
    }

    /// The clock and the sleeps. Default [`SystemTimer`], which needs no runtime.
    #[must_use]
    pub fn timer(mut self, timer: impl Timer) -> Self {
        self.timer = Arc::new(timer);
        self
    }

    /// How long a request may take that brings no deadline of its own; default 60 s.
    #[must_use]
    pub const fn default_deadline(mut self, total: Duration) -> Self {
        self.default_deadline = total;
        self
    }

    /// The longest gap between two items of a stream, where a call does not say otherwise; default 30 s.
    #[must_use]
    pub const fn idle_limit(mut self, limit: Duration) -> Self {
        self.idle_limit = limit;
        self
    }

    /// The most bytes that an item of a stream may [take](crate::backend::StreamItem::size), and all items together that come before
    /// the first content, which are held back; default 4 MiB. More is a failure, with [`TooLarge`](super::TooLarge) as its
    /// source.
    #[must_use]
    pub const fn largest_item(mut self, bytes: usize) -> Self {
        self.largest_item = bytes;
        self
    }

    /// How many requests may wait for capacity or a backend's return; default 1024. Where more want to, the newest of the
    /// lowest priority goes ([`Refusal::Shed`](crate::decision::Refusal::Shed)), of the tenant that has most waiting. With
    /// no places nobody waits.
    #[must_use]
    pub const fn queue(mut self, places: usize) -> Self {
        self.queue = places;
        self
    }

    /// How long a request may wait at a stretch, if its deadline does not end it before; default 60 s.
    #[must_use]
    pub const fn longest_wait(mut self, longest: Duration) -> Self {
        self.longest_wait = longest;
        self
    }

    /// How many requests of a tenant are served in a row while those of others with the same priority wait: from 1, as
    /// for every tenant that is not named here, to [`Router::MOST_WEIGHT`]. Also how much of a full queue it may take.
    ///
    /// ```
    /// # use fallway::{Profile, Router, backend::{BackendError, backend_fn}, policy::ordered};
    /// # let echo = || backend_fn(|request: &str, _: &_| { let answer = request.to_owned(); async { Ok::<_, BackendError>(answer) } });
    /// let router = Router::builder(ordered()).backend(Profile::new("a").concurrency(64), echo());
    /// let router = router.tenant_weight("search", 4).tenant_weight("reports", 2).build()?;
    /// # Ok::<(), fallway::BuildError>(())
    /// ```
    #[must_use]
    pub fn tenant_weight(mut self, tenant: impl Into<Arc<str>>, weight: u32) -> Self {
        self.weights.insert(tenant.into(), weight);
        self
    }

    /// Divides the calls in flight among tenants ([`Facts::tenant`](crate::Facts::tenant)); requests without one are one
    /// tenant, `""`. Default not divided.
    #[must_use]
    pub fn tenant_bulkheads(mut self, bulkheads: Bulkheads) -> Self {
        self.tenants = Some(bulkheads);
        self
    }

    /// Divides the calls in flight among routes: by the model or alias that requests ask for
    /// ([`Facts::model`](crate::Facts::model)). Requests for any model are one route, `""`. Default not divided.
    #[must_use]
    pub fn route_bulkheads(mut self, bulkheads: Bulkheads) -> Self {
        self.routes = Some(bulkheads);
        self
    }

    /// Fixes the random choices: the same seed and the same events give the same decisions.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The router.
    ///
    /// # Errors
    ///
    /// [`BuildError`] names the offender.
    pub fn build(self) -> Result<Router<Req, Res>, BuildError> {
        self.ejection.check()?;
        self.rates.iter().try_for_each(RateLimit::check)?;
        SpendLimit::check(&self.spends)?;
        if let Some(error) = self.mirror_errors.into_iter().next() {
            return Err(error);
        }
        if self.default_deadline.is_zero() {
            return Err(BuildError::ZeroDeadline);
        }
        if self.idle_limit.is_zero() {
            return Err(BuildError::ZeroIdleLimit);
        }
        if self.largest_item == 0 {
            return Err(BuildError::ZeroLargestItem);
        }
        if self.longest_wait.is_zero() {
            return Err(BuildError::ZeroLongestWait);
        }
        if let Some((tenant, weight)) = self.weights.iter().find(|(_, weight)| !WEIGHTS.contains(weight)) {
            return Err(BuildError::InvalidTenantWeight { tenant: (**tenant).to_owned(), weight: *weight });
        }
        // The first read calibrates the clock; not on the first request's time.
        self.timer.now();
        let seed = self.seed.unwrap_or_else(rand::random);
        let names = self.signals.iter().map(HealthSignal::name).collect();
        let mut slots = Slots::default();
        let (policy, registered, default_deadline) = (&*self.policy, &self.registered, self.default_deadline);
        let held = Held { policy, registered, default_deadline };
        let generation = self.fleet.first(names, held, &mut slots, &self.ejection)?;
        let limit = |seat: &(BackendId, Arc<Profile>)| seat.1.concurrency.map(u64::from);
        let room: Option<u64> = generation.fleet.roster.seats.iter().map(limit).sum();
        let check = |bulkheads: &Option<Bulkheads>| bulkheads.iter().try_for_each(|it| it.check(room));
        check(&self.tenants).map_err(BuildError::TenantBulkheads)?;
        check(&self.routes).map_err(BuildError::RouteBulkheads)?;
        let salt = self.seed.unwrap_or_else(rand::random);
        let shared = Shared {
            shares: Shares::new(self.tenants, self.routes, salt),
            spends: Spends::new(self.spends, salt),
            timer: self.timer,
            signals: self.signals,
            observers: self.observers,
            court: Court::new(self.ejection, seed),
            crowd: Crowd::new(self.reports),
            waiters: Waiters::new(self.queue, self.weights),
            freed: AtomicU64::new(0),
            metered: AtomicBool::new(false),
        };
        shared.tell_of_fleet(&generation.fleet);
        Ok(Router {
            core: Arc::new(Core {
                current: ArcSwap::from_pointee(generation),
                shared: Arc::new(shared),
                view: engine::View::of(&self.policy),
                policy: self.policy,
                registered: self.registered,
                retry_budget: self.retry_budget,
                savings: Savings::default(),
                salt,
                last_resort: self.last_resort,
                mirrors: self.mirrors,
                rates: Rates::new(self.rates, seed),
                default_deadline: self.default_deadline,
                idle_limit: self.idle_limit,
                largest_item: self.largest_item,
                longest_wait: self.longest_wait,
                seeds: match self.seed {
                    Some(seed) => Seeds::Fixed { seed, count: Ticks::default() },
                    None => Seeds::Random,
                },
                alarm: slots.alarm(),
                slots: Mutex::new(slots),
                updating: ReentrantMutex::new(Cell::new(false)),
            }),
        })
    }
}

impl<Req: ?Sized, Res> fmt::Debug for Builder<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("policy", &self.policy).field("fleet", &self.fleet).finish_non_exhaustive()
    }
}
