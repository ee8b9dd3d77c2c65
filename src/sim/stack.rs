//! What routes in a simulation, and what it may know.

use super::job::Request;
use super::reality::{Answer, Reality};
use super::rollout::Operator;
use crate::budget::RetryBudget;
use crate::event::Observer;
use crate::limit::Bulkheads;
use crate::policy::RoutingPolicy;
use crate::recover::Ejection;
use crate::router::Builder;
use crate::shape::SpendLimit;
use crate::signal::{HealthSignal, LoadReports};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The settings of one simulated router.
pub struct Stack {
    pub(super) policy: Box<dyn RoutingPolicy>,
    observers: Vec<Arc<dyn Observer>>,
    signals: Vec<Arc<dyn HealthSignal>>,
    pub(super) reports: bool,
    ejection: Ejection,
    budget: Option<RetryBudget>,
    queue: Option<usize>,
    longest_wait: Option<Duration>,
    tenants: Option<Bulkheads>,
    spends: Vec<SpendLimit>,
    pub(super) knows_limits: bool,
    pub(super) tells: bool,
    pub(super) rollouts: bool,
    pub(super) operator: Option<Operator>,
}

impl Stack {
    /// A router with this policy and the crate's defaults for the rest.
    pub fn new(policy: impl RoutingPolicy + 'static) -> Self {
        Self {
            policy: Box::new(policy),
            observers: Vec::new(),
            signals: Vec::new(),
            reports: false,
            ejection: Ejection::default(),
            budget: None,
            queue: None,
            longest_wait: None,
            tenants: None,
            spends: Vec::new(),
            knows_limits: true,
            tells: true,
            rollouts: false,
            operator: None,
        }
    }

    /// Adds somebody who watches.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Adds a health signal.
    #[must_use]
    pub fn signal(mut self, signal: impl HealthSignal) -> Self {
        self.signals.push(Arc::new(signal));
        self
    }

    /// Hears the servers' load reports: how many requests they work on, how many wait, and with how many tokens.
    #[must_use]
    pub const fn load_reports(mut self) -> Self {
        self.reports = true;
        self
    }

    /// When a backend is taken out.
    #[must_use]
    pub const fn ejection(mut self, ejection: Ejection) -> Self {
        self.ejection = ejection;
        self
    }

    /// What retries may cost.
    #[must_use]
    pub fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// How many requests may wait.
    #[must_use]
    pub const fn queue(mut self, places: usize) -> Self {
        self.queue = Some(places);
        self
    }

    /// How long a request may wait at a stretch.
    #[must_use]
    pub const fn longest_wait(mut self, wait: Duration) -> Self {
        self.longest_wait = Some(wait);
        self
    }

    /// Divides the calls in flight among tenants.
    #[must_use]
    pub fn tenant_bulkheads(mut self, bulkheads: Bulkheads) -> Self {
        self.tenants = Some(bulkheads);
        self
    }

    /// Bounds what requests may cost.
    #[must_use]
    pub fn spend_limit(mut self, limit: SpendLimit) -> Self {
        self.spends.push(limit);
        self
    }

    /// Not told whose requests are, nor how much they matter.
    #[must_use]
    pub const fn untold(mut self) -> Self {
        self.tells = false;
        self
    }

    /// Takes versions back that prove bad, where the world [has one tried](super::World::rollout).
    #[must_use]
    pub const fn rollouts(mut self) -> Self {
        self.rollouts = true;
        self
    }

    /// Nothing beside the policy: no ejection, no limits of calls in flight, no quotas, whatever servers
    /// [say](super::Server::quota_headers) of them, and retries are as many as it wants.
    #[must_use]
    pub fn bare(self) -> Self {
        let bare = self.ejection(Ejection::off()).retry_budget(RetryBudget::unlimited());
        Self { knows_limits: false, ..bare }
    }

    pub(super) fn builder(self, reports: &Arc<LoadReports>) -> Builder<Request, Answer> {
        let mut builder = crate::Router::builder(self.policy).ejection(self.ejection);
        if let Some(budget) = self.budget {
            builder = builder.retry_budget(budget);
        }
        if let Some(places) = self.queue {
            builder = builder.queue(places);
        }
        if let Some(wait) = self.longest_wait {
            builder = builder.longest_wait(wait);
        }
        if let Some(bulkheads) = self.tenants {
            builder = builder.tenant_bulkheads(bulkheads);
        }
        if self.reports {
            builder = builder.load_reports(reports.clone());
        }
        if let Some(operator) = self.operator {
            builder = builder.registry(operator.registry()).observer(operator);
        }
        builder = self.spends.into_iter().fold(builder, Builder::spend_limit);
        let builder = self.observers.into_iter().fold(builder, Builder::observer);
        self.signals.into_iter().fold(builder, Builder::signal)
    }
}

impl<P: RoutingPolicy + 'static> From<P> for Stack {
    fn from(policy: P) -> Self {
        Self::new(policy)
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Which router a [`Stack`] is made for.
#[derive(Clone, Debug)]
pub struct Desk {
    pub(super) index: usize,
    pub(super) routers: usize,
    pub(super) servers: usize,
    pub(super) region: String,
    pub(super) regions: Vec<String>,
    pub(super) seed: u64,
    pub(super) slo: Duration,
    pub(super) quotas: Vec<(Option<u64>, Option<u64>)>,
    pub(super) deadline: Duration,
    pub(super) hurried: bool,
    pub(super) tenants: Vec<String>,
    pub(super) room: Option<u32>,
    pub(super) reports: Reports,
}

impl Desk {
    /// Its number, from 0.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// How many routers there are.
    pub const fn routers(&self) -> usize {
        self.routers
    }

    /// How many servers there are, or will be.
    pub const fn servers(&self) -> usize {
        self.servers
    }

    /// Where it stands.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Every region where a server is from the start, its own first, then by distance.
    pub fn regions(&self) -> &[String] {
        &self.regions
    }

    /// A seed of its own.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Within which time users want the first token.
    pub const fn slo(&self) -> Duration {
        self.slo
    }

    /// The quotas of requests and tokens per minute of each server, as far as they are
    /// [known](super::Server::known_quota): this router's part of them.
    pub fn quotas(&self) -> &[(Option<u64>, Option<u64>)] {
        &self.quotas
    }

    /// The time that callers give a request, in all.
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Whether callers bring deadlines of their own and say how long they expect their answers to be.
    pub const fn is_hurried(&self) -> bool {
        self.hurried
    }

    /// The tenants, in the order of the world, its guest last.
    pub fn tenants(&self) -> &[String] {
        &self.tenants
    }

    /// How many calls all servers together have room for, as far as this router is told; `None` where one has no limit.
    pub const fn room(&self) -> Option<u32> {
        self.room
    }

    /// The servers' load reports.
    pub const fn reports(&self) -> &Reports {
        &self.reports
    }
}

/// How a server stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests that are queued or being worked on.
    pub in_flight: usize,
    /// Requests that wait for their first token.
    pub queued: usize,
    /// Prompt tokens before a newcomer.
    pub waiting_tokens: f64,
    /// Prompt tokens a second, now; 0 when nothing moves.
    pub rate: f64,
    /// Seconds until the decode batch has room; 0 when it has.
    pub until_room: f64,
    /// Seconds that every answer takes before anything else.
    pub base: f64,
    /// The share of the decode batch that is in use.
    pub kv_use: f64,
    /// The share of requests that fail.
    pub error_share: f64,
    /// Whether it takes connections; one that hangs does.
    pub reachable: bool,
    /// Whether it takes requests, and works on them.
    pub up: bool,
}

/// The servers' load, by their position in the world, which is also the slot of their
/// [`BackendId`](crate::backend::BackendId).
#[derive(Clone)]
pub struct Reports(pub(super) Arc<Mutex<Reality>>);

impl Reports {
    /// How a server stands this moment. Nobody outside can know it without asking: for probes, and for an oracle.
    pub fn truth(&self, server: usize) -> Load {
        self.0.lock().cluster.load(server)
    }

    /// What a server reported last; as old as [`World::reports_every`](super::World::reports_every) at most.
    pub fn report(&self, server: usize) -> Load {
        self.0.lock().reported.get(server).copied().unwrap_or_default()
    }

    /// Seconds to the first token of the latest requests that found about so many others in flight there: the median.
    /// 0 when there were none.
    pub fn latency_at(&self, server: usize, in_flight: usize) -> f64 {
        self.0.lock().cluster.latency_at(server, in_flight)
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reports")
    }
}
