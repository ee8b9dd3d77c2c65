//! A version that is tried in a simulation, and who takes it back.

use super::clock::ORIGIN;
use super::{World, WorldError};
use crate::event::{Event, Observer};
use crate::registry::{Alias, Catalog, ModelVersion, Placement, Publication, Registry, Rollouts, State};
use crate::time::Instant;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What is tried, and when somebody notices that it is bad.
#[derive(Clone, Debug)]
pub(super) struct Rollout {
    /// As `model@version`.
    pub(super) version: String,
    pub(super) share: u32,
    pub(super) at: Duration,
    pub(super) noticed: Duration,
}

impl World {
    /// Has a version tried: from `at` on it gets a share of the requests, in basis points, by a model registry that all
    /// routers read and report to. The models of servers are `model@version` then, and requests ask for the model of the
    /// first server, which is an alias; its version stands in for the other. Stacks that
    /// [take versions back](super::Stack::rollouts) do so by evidence; else somebody notices after so much time.
    #[must_use]
    pub fn rollout(mut self, version: impl Into<String>, share: u32, at: Duration, noticed: Duration) -> Self {
        self.rollout = Some(Rollout { version: version.into(), share, at, noticed });
        self
    }

    /// What requests ask for.
    pub(super) fn asked_model(&self) -> &str {
        let model = &*self.servers[0].model;
        match (&self.rollout, model.split_once('@')) {
            (Some(_), Some((name, _))) => name,
            _ => model,
        }
    }
}

/// Operates the registry of a world: begins the rollout, and ends it by hand where nothing else did. All routers report to
/// it, as those of one service would.
#[derive(Clone)]
pub(super) struct Operator(Arc<Inner>);

struct Inner {
    registry: Arc<Registry>,
    /// Where versions are taken back by themselves.
    rollouts: Option<Rollouts>,
    plan: Rollout,
    alias: String,
    /// The next second to act in, and what has been done.
    next: Mutex<(Instant, Done)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Done {
    Nothing,
    Begun,
    Noticed,
}

const SECOND: Duration = Duration::from_secs(1);

impl Operator {
    /// For the versions that the servers of this world run.
    pub(super) fn new(world: &World, plan: &Rollout, by_itself: bool) -> Result<Self, WorldError> {
        let (now, stable) = (wall(Instant::from_nanos(ORIGIN)), &world.servers[0].model);
        let mut catalog = Catalog::new();
        for server in &world.servers {
            let state = if server.model == plan.version { State::Validated } else { State::Live };
            if let Some((model, version)) = server.model.split_once('@') {
                catalog = catalog.version(model, version, ModelVersion::new(state));
            }
            let placement = Placement::new(&server.model, "sim", &server.region, &server.id);
            catalog = catalog.placement(&server.id, placement);
        }
        let alias = world.asked_model().to_owned();
        let chain = Alias::to(stable).fallback([stable]);
        let registry = Arc::new(Registry::builder().open(now));
        let published = registry.publish(&Publication::from(catalog.alias(&alias, chain)), now);
        published.map_err(|nack| WorldError::Setting { name: "rollout", what: nack.to_string() })?;
        let rollouts = by_itself.then(|| Rollouts::new(registry.clone()));
        let next = Mutex::new((Instant::from_nanos(ORIGIN), Done::Nothing));
        Ok(Self(Arc::new(Inner { registry, rollouts, plan: plan.clone(), alias, next })))
    }

    pub(super) fn registry(&self) -> Arc<Registry> {
        self.0.registry.clone()
    }
}

impl Inner {
    fn act(&self, now: Instant) {
        let (next, done) = &mut *self.next.lock();
        if now < *next {
            return;
        }
        *next = now + SECOND;
        let begins = Instant::from_nanos(ORIGIN) + self.plan.at;
        let give = |share| self.registry.set_canary(&self.alias, &self.plan.version, share, wall(now));
        if *done == Done::Nothing && now >= begins {
            *done = Done::Begun;
            give(self.plan.share).expect("the world's versions can be tried");
        }
        let taken_back = self.rollouts.as_ref().is_some_and(|rollouts| !rollouts.tick(now, wall(now)).is_empty());
        if taken_back {
            *done = Done::Noticed;
        }
        if *done == Done::Begun && now >= begins + self.plan.noticed {
            *done = Done::Noticed;
            give(0).expect("what was given can be taken back");
        }
    }
}

impl Observer for Operator {
    fn on_event(&self, event: &Event<'_>, now: Instant) {
        if let Some(rollouts) = &self.0.rollouts {
            rollouts.on_event(event, now);
        }
        self.0.act(now);
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Operator").field(&self.0.plan).finish()
    }
}

/// What people's clocks show at this moment of the routers'.
fn wall(now: Instant) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(now.as_nanos())
}
