//! What both drivers take from the world, in the order of time.

use super::World;
use super::machine::nanos;
use super::setting::{Setting, router_time};
use super::source::{Arrival, Source};
use crate::router::CallOptions;
use crate::time::Instant;

/// Things that happen at the same moment do so in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Cue {
    Cluster,
    Timer,
    Join,
    Report,
    Arrival,
}

/// What both drivers take from the world, in the order of time.
pub(super) struct Script<'w> {
    world: &'w World,
    source: Source<'w>,
    arrival: Option<Arrival>,
    /// Servers that join later: when, and which; the last first.
    joins: Vec<(u64, usize)>,
    next_report: u64,
    /// Where time has stood still for so many steps.
    still: (u64, u32),
    /// When every request must have ended.
    horizon: u64,
    /// Nanoseconds since the start, and what faults added to the routers' clock.
    pub(super) now: u64,
    pub(super) offset: i64,
}

impl<'w> Script<'w> {
    pub(super) fn new(world: &'w World) -> Self {
        let mut source = Source::new(world);
        let late = world.servers.iter().enumerate().filter(|(_, server)| !server.joins.is_zero());
        let mut joins: Vec<_> = late.map(|(at, server)| (nanos(server.joins), at)).collect();
        joins.sort_unstable_by(|a, b| b.cmp(a));
        let next_report = nanos(world.reports_every);
        Self {
            world,
            arrival: source.next(),
            source,
            joins,
            next_report,
            still: (0, 0),
            horizon: world.horizon(),
            now: 0,
            offset: 0,
        }
    }

    /// Whether no request comes any more.
    pub(super) const fn is_over(&self) -> bool {
        self.arrival.is_none()
    }

    /// Whether it will never end: requests are left that should have ended long ago, or time stands still.
    fn is_stuck(&mut self) -> bool {
        self.still = if self.still.0 == self.now { (self.now, self.still.1 + 1) } else { (self.now, 0) };
        self.now > self.horizon || self.still.1 > MAX_STEPS
    }

    /// What is next, given when something happens at the servers and to the timers.
    pub(super) fn next(&mut self, cluster: Option<u64>, timer: Option<Instant>) -> Option<Cue> {
        let timer = timer.map(|at| {
            let nanos = at.as_nanos().saturating_add_signed(self.offset.saturating_neg());
            nanos.saturating_sub(super::clock::ORIGIN)
        });
        let cues = [
            (cluster, Cue::Cluster),
            (timer, Cue::Timer),
            (self.joins.last().map(|(at, _)| *at), Cue::Join),
            (Some(self.next_report), Cue::Report),
            (self.arrival.as_ref().map(|arrival| arrival.at), Cue::Arrival),
        ];
        let (at, cue) = cues.into_iter().filter_map(|(at, cue)| Some((at?, cue))).min()?;
        self.now = self.now.max(at);
        (!self.is_stuck()).then_some(cue)
    }

    /// The routers' clock jumps.
    pub(super) fn jump(&mut self, setting: &Setting, nanos: i64) {
        self.offset = self.offset.saturating_add(nanos);
        setting.tell(|audit| audit.jumped(nanos));
    }

    pub(super) fn take_join(&mut self) -> Option<usize> {
        self.joins.pop().map(|(_, at)| at)
    }

    pub(super) fn report(&mut self) {
        self.next_report = self.next_report.saturating_add(nanos(self.world.reports_every));
    }

    pub(super) fn take_arrival(&mut self, setting: &Setting) -> Option<(Arrival, CallOptions)> {
        let arrival = self.arrival.take()?;
        self.arrival = self.source.next();
        let options =
            CallOptions::within(arrival.deadline).facts(self.source.facts(&arrival, setting.tells(arrival.router)));
        Some((arrival, options))
    }

    /// What the routers' clock shows.
    pub(super) fn time(&self) -> Instant {
        router_time(self.now, self.offset)
    }
}

/// More steps than this without time moving on is a livelock.
const MAX_STEPS: u32 = 1_000_000;
