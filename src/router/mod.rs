//! [`Router`]: carries decisions out.

mod build_error;
mod builder;
mod contain;
mod core;
mod driver;
mod error;
mod imprint;
mod lease;
mod options;
mod prober;
mod receipt;
mod routed;
mod seeds;
mod shadow;
mod slot;
mod step;
mod stream;
mod tab;
mod trip;
mod update;
mod waiting;

pub use build_error::BuildError;
pub use builder::Builder;
pub use error::{RouteError, RouteErrorKind};
pub use options::CallOptions;
pub use prober::{FnProbe, Probe, probe_fn};
pub use routed::Routed;
pub use step::Step;
pub use stream::{Delivered, Interrupted, Piece, Resumable, Resume, Streamed, TooLarge};
pub use trip::Trip;
pub use update::Update;

use self::core::Core;
use crate::backend::{Backend, BackendId};
use crate::decision::Decision;
use crate::facts::Facts;
use crate::policy::RoutingPolicy;
use crate::shape::Mirror;
use crate::signal::{Probes, QuotaReport};
use crate::time::Instant;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Routes requests of type `Req` to backends that answer with `Res`.
///
/// Cheap to clone; clones share everything. It spawns nothing and owns no runtime: work happens in the futures that
/// the host polls.
pub struct Router<Req: ?Sized, Res> {
    core: Arc<Core<Req, Res>>,
}

impl<Req: ?Sized + Sync + 'static, Res: Send + 'static> Router<Req, Res> {
    /// How long a request may take that brings no deadline of its own. There is always one.
    pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);
    /// The longest gap between two items of a stream, where the call does not say otherwise.
    pub const DEFAULT_IDLE_LIMIT: Duration = Duration::from_secs(30);
    /// The largest item of a stream, in bytes, and the most that is held back before its first content.
    pub const DEFAULT_LARGEST_ITEM: usize = 4 << 20;
    /// How many requests may wait for capacity or for a backend's return.
    pub const DEFAULT_QUEUE: usize = 1024;
    /// How long a request may wait at a stretch.
    pub const DEFAULT_LONGEST_WAIT: Duration = Duration::from_secs(60);
    /// The largest weight of a tenant: so many of its requests in a row, at most, go before one of another.
    pub const MOST_WEIGHT: u32 = 1000;

    /// Starts a router with this policy.
    pub fn builder(policy: impl RoutingPolicy + 'static) -> Builder<Req, Res> {
        Builder::new(Box::new(policy))
    }

    /// Sends `request` to a backend, and to others while that fails and time, attempts and retry budget last. Answers that
    /// arrive bit by bit are [`stream`](Self::stream)'s.
    ///
    /// # Errors
    ///
    /// [`RouteError`] tells why, and carries the last decision with every attempt.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the attempt in flight: its slot is free at once, and the backend's record says
    /// neither success nor failure.
    pub async fn call(&self, request: &Req, options: CallOptions) -> Result<Routed<Res>, RouteError> {
        let now = self.core.shared.timer.now();
        let mut trip = Trip::new(&self.core, options, now);
        let response = driver::drive(&mut trip, request, &driver::Whole, now).await?;
        Ok(Routed::new(trip.into_answered(response)))
    }

    /// Begins a request that the host drives itself, without futures and without a look at the clock, except where a
    /// trip is dropped.
    ///
    /// ```
    /// # use fallway::{Profile, Router, CallOptions, backend::{BackendError, FailureKind, backend_fn}, policy::{PolicyExt, FailSafe, ordered}};
    /// # use fallway::{router::Step, time::Instant};
    /// # let echo = || backend_fn(|request: &str, _: &_| { let answer = request.to_owned(); async { Ok::<_, BackendError>(answer) } });
    /// # let router = Router::builder(ordered().fail_safe(FailSafe::default())).backend(Profile::new("a"), echo()).backend(Profile::new("b"), echo()).build()?;
    /// let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
    /// let mut trip = router.trip(CallOptions::default(), at(0));
    /// let Step::Call(first) = trip.next(at(0))? else { panic!() };
    /// trip.fail(first.number(), FailureKind::Unreachable.into(), false, at(1));
    /// let Step::Call(second) = trip.next(at(1))? else { panic!() };
    /// assert_ne!(first.backend(), second.backend());
    /// trip.answered(second.number(), at(30));
    /// trip.finish(at(90));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trip(&self, options: CallOptions, now: Instant) -> Trip<'_, Req, Res> {
        Trip::new(&self.core, options, now)
    }

    /// Decides without calling: where a request *would* go now, and why. Takes no lease, no turn, no budget, and, where the
    /// host [fixed them](Builder::seed), no seed of those that come.
    pub fn explain(&self, options: &CallOptions) -> Decision {
        self.core.explain(options)
    }

    /// Decides again for the same request, in place: at another time, with another seed, over the fleet as it is
    /// now. The pure path, without clock, random source or allocation: for simulators that decide millions of times,
    /// and for measuring a policy. Like [`explain`](Self::explain) it takes nothing.
    ///
    /// ```
    /// # use fallway::{Facts, CallOptions, Profile, Router, backend::{BackendError, backend_fn}, policy::power_of_two, time::Instant};
    /// # let echo = || backend_fn(|request: &str, _: &_| { let answer = request.to_owned(); async { Ok::<_, BackendError>(answer) } });
    /// # let router = Router::builder(power_of_two()).backend(Profile::new("a"), echo()).backend(Profile::new("b"), echo()).build().unwrap();
    /// let mut decision = router.explain(&CallOptions::default());
    /// for seed in 0..1_000 {
    ///     router.decide(&mut decision, Instant::from_nanos(seed), seed);
    ///     assert!(decision.chosen().is_some());
    /// }
    /// ```
    pub fn decide(&self, decision: &mut Decision, now: Instant, seed: u64) {
        self.core.decide(decision, now, seed);
    }

    /// Runs the policy again over what `decision` saw. The result is the [same
    /// choice](Decision::same_choice), unless the policy is not pure.
    pub fn replay(&self, decision: &Decision) -> Decision {
        self.core.replay(decision)
    }

    /// Checks the backends now and then and tells `probes`, which should be one of the [signals](Builder::signal) of
    /// this router. The host drives the future: it spawns it, or polls it beside its own work.
    ///
    /// A backend is checked when it joins and then at jittered intervals, never twice at a time, on the router's
    /// [`Timer`](crate::time::Timer). A check that takes longer than its limit has failed; one that panics comes to no
    /// verdict and is told to the observers.
    ///
    /// The future ends when the last clone of the router is gone; it does not keep it alive.
    ///
    /// ```
    /// # use fallway::{Profile, Router, backend::{BackendError, backend_fn}, policy::round_robin};
    /// use fallway::router::probe_fn;
    /// use fallway::signal::{Probes, Probing};
    /// use std::sync::Arc;
    /// # let model = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
    /// let probes = Arc::new(Probes::new(Probing::default())?);
    /// let router = Router::builder(round_robin()).backend(Profile::new("a"), model()).signal(probes.clone()).build()?;
    /// let prober = router.probe(probes, probe_fn(|_, _| async { Ok(()) }));
    /// // tokio::spawn(prober);
    /// # drop(prober);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the probing and drops the checks on their way, which then say nothing. Another may
    /// be started at any time.
    pub fn probe<P: Probe>(
        &self,
        probes: Arc<Probes>,
        probe: P,
    ) -> impl Future<Output = ()> + Send + 'static + use<Req, Res, P> {
        prober::drive(Arc::downgrade(&self.core.shared), probes, Arc::new(probe))
    }

    /// Sends the copies of `mirror`, which should be one of the [mirrors](Builder::mirror) of this router, to `backend`. The
    /// host drives the future: it spawns it, best on threads that serve no caller.
    ///
    /// A copy is one attempt, within the limits of the mirror's profile, on the router's [`Timer`](crate::time::Timer). Its
    /// answer is dropped when the call returns; a backend that streams is read to the end if it is
    /// [`drained`](crate::backend::BackendExt::drained).
    ///
    /// The future ends when the last clone of the router is gone and all copies have ended; it does not keep the router
    /// alive. While one future sends the copies of a mirror, another ends at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the copies in flight and drops those that wait. Another may be started at any time.
    pub fn shadow<B>(
        &self,
        mirror: Arc<Mirror<Req>>,
        backend: B,
    ) -> impl Future<Output = ()> + Send + 'static + use<Req, Res, B>
    where
        Req: ToOwned,
        Req::Owned: Send,
        B: Backend<Req>,
    {
        shadow::drive(self.core.shared.clone(), mirror, Arc::new(backend))
    }

    /// Changes the fleet in one step. Requests in flight finish where they are; later decisions see all of the
    /// change or nothing of it. Returns the new generation.
    ///
    /// # Errors
    ///
    /// [`BuildError`] names what is wrong with the fleet as changed; then nothing changes. `change` may look at the
    /// router, but not update it.
    ///
    /// ```
    /// # use fallway::{Profile, Router, backend::{BackendError, backend_fn}, policy::ordered};
    /// # let echo = || backend_fn(|request: &str, _: &_| { let answer = request.to_owned(); async { Ok::<_, BackendError>(answer) } });
    /// # let router = Router::builder(ordered()).backend(Profile::new("a"), echo()).build().unwrap();
    /// let generation = router.update(|fleet| {
    ///     fleet.add(Profile::new("b").model("llama-70b"), echo());
    ///     fleet.drain("a");
    /// })?;
    /// assert_eq!(generation, 2);
    /// # Ok::<(), fallway::BuildError>(())
    /// ```
    pub fn update(&self, change: impl FnOnce(&mut Update<Req, Res>)) -> Result<u64, BuildError> {
        self.core.update(change)
    }

    /// The current generation of the fleet.
    pub fn generation(&self) -> u64 {
        self.core.generation()
    }

    /// The id of the backend named `id`, as events, attempts and signals know it; `None` when there is no such
    /// backend. A backend that is removed and added again has another.
    pub fn backend_id(&self, id: &str) -> Option<BackendId> {
        self.core.backend_id(id)
    }

    /// Calls in flight to the backend named `id`; `None` when there is no such backend.
    pub fn in_flight(&self, id: &str) -> Option<u32> {
        self.core.in_flight(id)
    }

    /// Tokens of calls in flight to the backend named `id`, prompts and expected answers, as far as they are
    /// [bounded](crate::Profile::max_total_tokens); `None` when there is no such backend.
    pub fn tokens_in_flight(&self, id: &str) -> Option<u64> {
        self.core.tokens_in_flight(id)
    }

    /// What this router takes for left of a backend's quotas per minute: what its profile says or its answers told, less what
    /// was sent. Empty where no limit is known; `None` when there is no such backend.
    ///
    /// ```
    /// # use fallway::{Profile, Router, backend::{BackendError, backend_fn}, policy::ordered};
    /// # let model = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
    /// let router = Router::builder(ordered()).backend(Profile::new("a").requests_per_minute(60), model()).build()?;
    /// let left = router.quota("a").unwrap().requests;
    /// assert_eq!((left.limit, left.remaining), (Some(60), Some(60)));
    /// # Ok::<(), fallway::BuildError>(())
    /// ```
    pub fn quota(&self, id: &str) -> Option<QuotaReport> {
        self.core.quota(id)
    }

    /// Calls in flight to all backends, those that were removed meanwhile included.
    pub fn total_in_flight(&self) -> u64 {
        self.core.total_in_flight()
    }

    /// Calls in flight of a tenant, where [bulkheads](Builder::tenant_bulkheads) count them; with those of others in its
    /// cell, if it is not named there.
    pub fn tenant_in_flight(&self, tenant: &str) -> Option<u32> {
        self.core.shared.shares.of_tenant(tenant)
    }

    /// Calls in flight of a route, where [bulkheads](Builder::route_bulkheads) count them; as
    /// [`tenant_in_flight`](Self::tenant_in_flight).
    pub fn route_in_flight(&self, route: &str) -> Option<u32> {
        self.core.shared.shares.of_route(route)
    }

    /// What requests with these facts may still spend, in pico-dollars, of the [spend limit](Builder::spend_limit) that leaves
    /// least; `None` without one.
    pub fn left_to_spend(&self, facts: &Facts) -> Option<u64> {
        let shared = &self.core.shared;
        shared.spends.means(facts, shared.timer.now()).map(|means| means.least())
    }

    /// Requests that wait in the queue.
    pub fn waiting(&self) -> usize {
        self.core.shared.waiters.len()
    }

    /// The policy stack in one line, outermost first.
    pub fn describe(&self) -> String {
        crate::policy::describe(&*self.core.policy)
    }
}

impl<Req: ?Sized, Res> Clone for Router<Req, Res> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone() }
    }
}

impl<Req: ?Sized + Sync + 'static, Res: Send + 'static> fmt::Debug for Router<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("policy", &self.core.policy)
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

/// A backend of a router, whatever its type.
pub(crate) type SharedBackend<Req, Res> = Arc<dyn Backend<Req, Response = Res>>;
