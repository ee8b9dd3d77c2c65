//! What is ready to run: the servers, a clock, routers over them.

use super::audit::Audit;
use super::diary::Diary;
use super::job::Request;
use super::reality::{Answer, Reality, SimServer};
use super::rollout::Operator;
use super::stack::{Desk, Load, Reports, Stack};
use super::{Clock, World, WorldError, stream};
use crate::Router;
use crate::backend::BackendId;
use crate::facts::Profile;
use crate::rng::mix;
use crate::signal::{LoadReport, LoadReports};
use crate::time::{Instant, Timer};
use parking_lot::Mutex;
use std::sync::Arc;

/// A router of the simulation.
pub(super) type SimRouter = Router<Request, Answer>;

/// What is ready to run: servers, clock, routers.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) reality: Arc<Mutex<Reality>>,
    pub(super) clock: Clock,
    pub(super) routers: Vec<SimRouter>,
    pub(super) audit: Option<Audit>,
    pub(super) diary: Diary,
    /// Whether a router is told the servers' limits, and hears of their quotas.
    knows_limits: Vec<bool>,
    /// Whether it is told whose requests are, and how much they matter.
    tells: Vec<bool>,
    /// What routers hear that hear load reports: all the same.
    reports: Arc<LoadReports>,
    heard: bool,
}

impl Setting {
    pub(super) fn new(
        world: &World,
        clock: &Clock,
        make: &dyn Fn(&Desk) -> Stack,
        audit: Option<&Audit>,
    ) -> Result<Self, WorldError> {
        world.check()?;
        let reality = Arc::new(Mutex::new(Reality::new(world, audit)));
        let mut setting = Self {
            reality: reality.clone(),
            clock: clock.clone(),
            routers: Vec::new(),
            audit: audit.cloned(),
            diary: Diary::default(),
            knows_limits: Vec::new(),
            tells: Vec::new(),
            reports: Arc::default(),
            heard: false,
        };
        let mut operator = None;
        for index in 0..world.routers {
            let seed = mix(stream(world.seed, "routers"), index as u64);
            let desk = Desk {
                index,
                routers: world.routers,
                servers: world.servers.len(),
                region: world.home(index).to_owned(),
                regions: world.nearest(world.home(index)),
                seed,
                slo: world.slo,
                quotas: world.servers.iter().map(|server| server.known_part(world.routers)).collect(),
                deadline: world.deadline,
                hurried: world.hurry.is_some(),
                tenants: world.tenant_names(),
                room: world.servers.iter().map(|server| server.limit).sum(),
                reports: Reports(reality.clone()),
            };
            let mut stack = make(&desk);
            if let Some(every) = world.probes {
                stack = stack.signal(super::probe::Probe::new(reality.clone(), every));
            }
            if world.load_signals {
                stack = stack.signal(super::probe::Heard::new(reality.clone()));
            }
            stack = stack.observer(setting.diary.of(index));
            if let (Some(plan), None) = (&world.rollout, &operator) {
                operator = Some(Operator::new(world, plan, stack.rollouts)?);
            }
            stack.operator.clone_from(&operator);
            setting.knows_limits.push(stack.knows_limits);
            setting.tells.push(stack.tells);
            setting.heard |= stack.reports;
            if let Some(audit) = audit {
                stack = stack.observer(audit.witness(index));
            }
            let mut builder =
                stack.builder(&setting.reports).timer(clock.clone()).seed(seed).default_deadline(world.deadline);
            // A server that stops in the middle of an answer says so itself (`Stalled`), after its own idle limit.
            builder = builder.idle_limit(std::time::Duration::from_secs(1 << 30));
            for at in (0..world.servers.len()).filter(|at| world.servers[*at].joins.is_zero()) {
                builder = builder.backend(setting.profile(world, index, at), setting.server(world, index, at));
            }
            setting.routers.push(builder.build()?);
        }
        setting.scrape(clock.now());
        Ok(setting)
    }

    /// Has every server report its load, at this moment of the routers' clock.
    pub(super) fn scrape(&self, now: Instant) {
        let mut reality = self.reality.lock();
        for server in reality.scrape() {
            if self.heard {
                let Load { in_flight, queued, waiting_tokens, .. } = reality.reported[server];
                let report = LoadReport {
                    running: Some(in_flight.saturating_sub(queued) as u64),
                    waiting: Some(queued as u64),
                    waiting_tokens: Some(waiting_tokens.round() as u64),
                    ..LoadReport::default()
                };
                self.reports.report(BackendId::new(server as u32, 0), Ok(report), now);
            }
        }
    }

    /// Lets a server join every router's fleet.
    pub(super) fn join(&self, world: &World, at: usize) -> Result<(), WorldError> {
        for (index, router) in self.routers.iter().enumerate() {
            router.update(|fleet| fleet.add(self.profile(world, index, at), self.server(world, index, at)))?;
        }
        Ok(())
    }

    /// A server as a router meets it.
    fn server(&self, world: &World, router: usize, at: usize) -> SimServer {
        let way = world.way(world.home(router), &world.servers[at]);
        let (reality, clock, audit) = (self.reality.clone(), self.clock.clone(), self.audit.clone());
        SimServer { reality, clock, audit, router, index: at, hears: self.hears(router), way }
    }

    /// What a router is told of a server.
    fn profile(&self, world: &World, router: usize, at: usize) -> Profile {
        let server = &world.servers[at];
        let mut profile = Profile::new(&*server.id).model(&*server.model).region(&*server.region).weight(server.speed);
        profile = server.charges().into_iter().fold(profile, Profile::price);
        if let Some(limit) = server.limit.filter(|_| self.knows_limits[router]) {
            profile = profile.concurrency(limit);
        }
        let (prefill, total) = server.token_bounds;
        if self.knows_limits[router] {
            profile = prefill.into_iter().fold(profile, Profile::max_prefill_tokens);
            profile = total.into_iter().fold(profile, Profile::max_total_tokens);
        }
        let (requests, tokens) = server.known_part(world.routers);
        if self.knows_limits[router] {
            // Its part of what there is in a minute, and, as nobody asks all the time, the whole of it at once.
            for (part, whole) in requests.into_iter().zip(server.requests_per_minute) {
                profile = profile.requests_per_minute(part).request_burst(whole);
            }
            for (part, whole) in tokens.into_iter().zip(server.tokens_per_minute) {
                profile = profile.tokens_per_minute(part).token_burst(whole);
            }
        }
        if let Some(limit) = world.attempt_limit {
            profile = profile.attempt_limit(limit);
        }
        profile
    }

    /// Whether a router hears what servers say of their quotas: who knows nothing of limits does not look at headers.
    pub(super) fn hears(&self, router: usize) -> bool {
        self.knows_limits[router]
    }

    /// Whether a router is told whose requests are, and how much they matter.
    pub(super) fn tells(&self, router: usize) -> bool {
        self.tells[router]
    }

    /// Tells who looks over the routers' shoulders, if somebody does.
    pub(super) fn tell(&self, what: impl FnOnce(&Audit)) {
        if let Some(audit) = &self.audit {
            what(audit);
        }
    }
}

/// Nanoseconds of a router's clock, as an instant of a run.
pub(super) fn router_time(nanos: u64, offset: i64) -> Instant {
    Instant::from_nanos(nanos.saturating_add(super::clock::ORIGIN).saturating_add_signed(offset))
}
