//! The simulated servers and their network, as one queue of events.

mod view;

use super::audit::{Audit, CallId};
use super::cache::PrefixCache;
use super::engine::Finished;
use super::fault::{Effect, Target};
use super::job::{Job, JobId, Jobs, Notice, Place, Request};
use super::last::Last;
use super::machine::{Machine, State, nanos, seconds};
use super::regions::Regions;
use super::server::Server;
use super::tally::Tally;
use super::{Fault, World};
use crate::backend::{Billed, FailureKind};
use crate::rng::Rng;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// All servers. Time is in nanoseconds since the start of the run.
#[derive(Debug)]
pub(super) struct Cluster {
    now: u64,
    order: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    machines: Vec<Machine>,
    jobs: Jobs,
    faults: Vec<(Fault, Vec<usize>)>,
    /// Draws which requests fail. Of its own, so that no policy changes what another meets.
    rng: Rng,
    pub(super) regions: Regions,
    pub(super) tally: Tally,
    audit: Option<Audit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A request reaches its server.
    Arrive(JobId),
    /// The last word on a job reaches its router.
    Return(JobId, Last),
    /// A first token reaches its router.
    First(JobId),
    /// A server has finished something, if it is still in the same epoch.
    Progress(usize, u64),
    /// A stream has had no token for as long as its client waits, if its server still hangs as it did then.
    Stall(JobId, u32),
    /// A fault begins or ends.
    Begin(usize),
    End(usize),
}

/// How long a client waits for the next token of a stream.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

impl Cluster {
    pub(super) fn new(world: &World, seed: u64, audit: Option<&Audit>) -> Self {
        let World { servers, faults, lasting: end, .. } = world;
        let machines = servers.iter().map(Machine::new).collect();
        let mut cluster = Self {
            now: 0,
            order: 0,
            events: BinaryHeap::new(),
            machines,
            jobs: Jobs::default(),
            faults: Vec::new(),
            rng: Rng::new(seed),
            regions: Regions::new(world),
            tally: Tally::default(),
            audit: audit.cloned(),
        };
        for fault in faults {
            let hit = |server: &Server| match &fault.target {
                Target::Everywhere => true,
                Target::Server(id) => server.id == *id,
                Target::Region(region) => server.region == *region,
            };
            let targets = (0..servers.len()).filter(|at| hit(&servers[*at])).collect();
            let number = cluster.faults.len();
            cluster.faults.push((fault.clone(), targets));
            for (from, to) in fault.spells(*end) {
                cluster.push(nanos(from), Event::Begin(number));
                cluster.push(nanos(to), Event::End(number));
            }
        }
        cluster
    }

    /// Nanoseconds since the start.
    pub(super) const fn now(&self) -> u64 {
        self.now
    }

    /// When something happens next.
    pub(super) fn next(&self) -> Option<u64> {
        self.events.peek().map(|Reverse((at, ..))| *at)
    }

    /// Sends a request to a server. `trip`: one way, in nanoseconds.
    pub(super) fn submit(&mut self, server: usize, request: &Request, call: CallId, trip: u64, tag: u64) -> JobId {
        self.tally.outside += u64::from(request.bound && !self.regions.may_serve_bound(server));
        let id = self.jobs.insert(Job::new(server, tag, request.clone(), call, trip));
        if trip == 0 {
            self.arrive(id);
        } else {
            self.push(self.now.saturating_add(trip), Event::Arrive(id));
        }
        id
    }

    /// The router abandons a request: what was done for it was for nothing.
    pub(super) fn cancel(&mut self, id: JobId) {
        let Some(mut job) = self.jobs.remove(id) else { return };
        let machine = &mut self.machines[job.server];
        machine.engine.advance(seconds(self.now));
        let spent = match job.place {
            Place::Travelling | Place::Done => 0.0,
            Place::Queued => machine.engine.drop_queued(id, job.prefill * job.times) / job.times,
            Place::Decoding => {
                job.used.1 = job.sent_by(machine.engine.tokens());
                machine.engine.drop_decoding();
                job.prefill + job.decoded(machine.engine.tokens())
            }
        };
        self.bill(&job);
        let machine = &self.machines[job.server];
        self.tally.wasted += spent;
        self.tally.cost += spent * machine.server.price / 1e6;
        self.expect(job.server);
    }

    /// The server's last word on a job: it bills the prompt of what it accepted, and what it answered, whoever hears of it.
    fn bill(&self, job: &Job) {
        let price = self.machines[job.server].server.charges();
        if let (Some(audit), Some(price)) = (&self.audit, price) {
            audit.billed(job.call, price.of(job.used.0.into(), job.used.1.into()));
        }
    }

    /// Moves on to `now`, which is not after [`next`](Self::next).
    pub(super) fn set(&mut self, now: u64) {
        self.now = now;
    }

    /// Lets the next thing happen, if it is due by now.
    pub(super) fn step(&mut self) -> Step {
        match self.events.peek() {
            Some(Reverse((at, ..))) if *at <= self.now => {}
            _ => return Step::Idle,
        }
        let Some(Reverse((_, _, event))) = self.events.pop() else { return Step::Idle };
        match event {
            Event::Arrive(job) => self.arrive(job),
            Event::First(job) => {
                if let Some(job) = self.jobs.get_mut(job) {
                    return Step::Notice(Notice::FirstToken(job.tag, job.headers.take()));
                }
            }
            Event::Return(job, last) => {
                if let Some(mut job) = self.jobs.remove(job) {
                    self.bill(&job);
                    return Step::Notice(last.notice(job.tag, job.sent, job.headers.take()));
                }
            }
            Event::Progress(server, epoch) if self.machines[server].epoch == epoch => {
                return self.progress(server).map_or(Step::Busy, Step::Notice);
            }
            Event::Progress(..) => {}
            Event::Stall(id, hang) => return self.stall(id, hang).map_or(Step::Busy, Step::Notice),
            Event::Begin(fault) => return self.change(fault, true),
            Event::End(fault) => return self.change(fault, false),
        }
        Step::Busy
    }

    fn arrive(&mut self, id: JobId) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(id) else { return };
        let machine = &mut self.machines[job.server];
        let state = machine.state;
        let (server, trip) = (job.server, job.trip);
        let refusal = if !state.up {
            Some((Duration::ZERO, Last::Refused))
        } else if let Some(hint) = state.throttled.or_else(|| machine.over_quota(&job.request, now)) {
            self.tally.rate_limited += 1;
            Some((Duration::ZERO, Last::Throttled(hint)))
        } else {
            let failing = state.errors.filter(|(_, share, _)| self.rng.unit() < *share);
            let number = |kind| FailureKind::ALL.iter().position(|known| *known == kind).unwrap_or_default();
            failing.map(|(kind, _, after)| (after, Last::Failed(number(kind))))
        };
        job.headers = if state.up { machine.headers(now) } else { None };
        let refused = refusal.is_some_and(|(_, last)| !matches!(last, Last::Throttled(_)) || state.throttled.is_some());
        self.tally.harmed += u64::from(refused || (refusal.is_none() && machine.hampers()));
        if let Some((after, last)) = refusal {
            job.place = Place::Done;
            let billed = matches!(last, Last::Failed(kind) if FailureKind::ALL[kind].conduct().billed != Billed::No);
            job.used.0 = if billed { job.request.prompt } else { 0 };
            return self.push(now.saturating_add(trip).saturating_add(nanos(after)), Event::Return(id, last));
        }
        let blocks = job.request.blocks.as_deref().unwrap_or_default();
        let hit = machine.cache.hit(blocks) as f64 * f64::from(Request::BLOCK);
        machine.cache.keep(blocks);
        // The last token is always worked on, or there would be no first one.
        job.prefill = (f64::from(job.request.prompt) - hit).max(1.0);
        if let Some((_, times)) = state.straggles.filter(|(share, _)| self.rng.unit() < *share) {
            job.times = times;
            self.tally.harmed += 1;
        }
        job.place = Place::Queued;
        job.used.0 = job.request.prompt;
        (job.arrived, job.met) = (now, machine.engine.in_flight());
        job.back = trip.saturating_add(nanos(machine.server.base.saturating_add(state.latency)));
        machine.engine.advance(seconds(now));
        machine.engine.enqueue(id, job.prefill * job.times);
        self.tally.peak = self.tally.peak.max(machine.engine.in_flight());
        self.expect(server);
        self.weigh(server, id);
    }

    /// How full the region of a server is that was sent a request.
    fn weigh(&mut self, server: usize, id: JobId) {
        if self.regions.are_one() {
            return;
        }
        let now = self.now;
        let there = |at: &usize| self.machines[*at].state.up && nanos(self.machines[*at].server.joins) <= now;
        let count = |at: usize| (self.machines[at].engine.in_flight(), self.machines[at].server.batch as usize);
        let servers = self.regions.servers_beside(server);
        let each = servers.iter().copied().filter(there).map(count);
        let (in_flight, slots) = each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let standard = |job: &Job| {
            let served = matches!(job.place, Place::Queued | Place::Decoding);
            served && !job.request.critical && servers.contains(&job.server)
        };
        let overrun = in_flight > slots && (self.jobs.get(id).is_some_and(standard) || self.jobs.all().any(standard));
        self.regions.filled(now, in_flight as f64 / slots.max(1) as f64, overrun);
    }

    /// The engine of a server has finished something, or will a moment later.
    fn progress(&mut self, server: usize) -> Option<Notice> {
        let machine = &mut self.machines[server];
        machine.engine.advance(seconds(self.now));
        let jobs = &self.jobs;
        let finished = machine.engine.finished(|job| jobs.get(job).is_some());
        let notice = match finished {
            Some(Finished::Prefill(id)) => self.begin_to_answer(server, id),
            Some(Finished::Decode(id)) => self.complete(server, id),
            None => None,
        };
        self.expect(server);
        notice
    }

    fn begin_to_answer(&mut self, server: usize, id: JobId) -> Option<Notice> {
        let machine = &mut self.machines[server];
        let job = self.jobs.get_mut(id)?;
        if let Some(cut) = machine.state.cut
            && f64::from(cut) <= job.decode
        {
            (job.decode, job.cut) = (f64::from(cut.saturating_sub(1)), true);
        }
        job.place = Place::Decoding;
        machine.sample(job.met, seconds(self.now - job.arrived) + seconds(job.back - job.trip));
        let (decode, back, tag) = (job.decode * job.times, job.back, job.tag);
        machine.engine.decode(id, decode);
        job.joined = machine.engine.tokens();
        if machine.server.whole_answers {
            return None;
        }
        if back == 0 {
            return Some(Notice::FirstToken(tag, job.headers.take()));
        }
        self.push(self.now.saturating_add(back), Event::First(id));
        None
    }

    fn complete(&mut self, server: usize, id: JobId) -> Option<Notice> {
        let job = self.jobs.get_mut(id)?;
        job.place = Place::Done;
        let spent = job.prefill + job.decode + 1.0;
        job.sent = 1 + job.decode as u32;
        job.used.1 = job.sent;
        let (cut, back, tag, sent) = (job.cut, job.back, job.tag, job.sent);
        self.tally.cost += spent * self.machines[server].server.price / 1e6;
        *(if cut { &mut self.tally.wasted } else { &mut self.tally.useful }) += spent;
        let last = if cut { Last::Broken } else { Last::Done };
        if self.machines[server].server.whole_answers {
            let at = self.now.saturating_add(back);
            if !cut {
                self.push(at, Event::First(id));
            }
            self.push(at, Event::Return(id, last));
            return None;
        }
        if back == 0 {
            if let Some(job) = self.jobs.remove(id) {
                self.bill(&job);
            }
            return Some(last.notice(tag, sent, None));
        }
        self.push(self.now.saturating_add(back), Event::Return(id, last));
        None
    }

    /// Asks to be called when the engine of this server has finished something.
    fn expect(&mut self, server: usize) {
        let machine = &mut self.machines[server];
        machine.epoch += 1;
        let (epoch, jobs) = (machine.epoch, &self.jobs);
        if let Some(wait) = machine.engine.next(|job| jobs.get(job).is_some()) {
            // Rounded up: at that nanosecond it is done.
            let wait = (wait * 1e9).ceil() as u64;
            self.push(self.now.saturating_add(wait), Event::Progress(server, epoch));
        }
    }

    /// A fault begins or ends.
    fn change(&mut self, fault: usize, begins: bool) -> Step {
        if let Effect::ClockJump { nanos } = self.faults[fault].0.effect {
            return if begins { Step::ClockJump(nanos) } else { Step::Busy };
        }
        for server in self.faults[fault].1.clone() {
            let machine = &mut self.machines[server];
            machine.engine.advance(seconds(self.now));
            if begins {
                machine.troubles.push(fault);
            } else {
                machine.troubles.retain(|on| *on != fault);
            }
            let was = machine.state;
            let effects = machine.troubles.iter().map(|fault| self.faults[*fault].0.effect);
            let (state, speed) = State::under(effects);
            (machine.state, machine.share) = (state, speed);
            machine.engine.set_speed(if state.hung { 0.0 } else { machine.server.speed * speed });
            if was.up && !state.up {
                self.lose_all(server);
            }
            if state.hung && !was.hung {
                self.machines[server].hangs += 1;
                let hang = self.machines[server].hangs;
                for id in self.jobs.of_server(server) {
                    self.push(self.now.saturating_add(nanos(IDLE_LIMIT)), Event::Stall(id, hang));
                }
            }
            self.expect(server);
        }
        Step::Busy
    }

    /// Gives up a stream on a server that hangs.
    fn stall(&mut self, id: JobId, hang: u32) -> Option<Notice> {
        let job = self.jobs.get(id)?;
        let machine = &self.machines[job.server];
        if job.place != Place::Decoding || !machine.state.hung || machine.hangs != hang {
            return None;
        }
        let (tag, sent) = (job.tag, job.sent_by(machine.engine.tokens()));
        self.cancel(id);
        Some(Last::Stalled.notice(tag, sent, None))
    }

    /// A server went down: what was in flight on it breaks.
    fn lose_all(&mut self, server: usize) {
        for id in self.jobs.of_server(server) {
            let Some(job) = self.jobs.get_mut(id) else { continue };
            let place = std::mem::replace(&mut job.place, Place::Done);
            let machine = &mut self.machines[server];
            match place {
                // It finds out when it arrives; or its last word left before.
                Place::Travelling | Place::Done => {
                    job.place = place;
                    continue;
                }
                Place::Queued => {}
                Place::Decoding => {
                    job.sent = job.sent_by(machine.engine.tokens());
                    job.used.1 = job.sent;
                    let spent = job.prefill + job.decoded(machine.engine.tokens());
                    self.tally.wasted += spent;
                    self.tally.cost += spent * machine.server.price / 1e6;
                }
            }
            self.tally.harmed += 1;
            job.headers = None;
            let back = self.now.saturating_add(job.trip);
            self.push(back, Event::Return(id, Last::Broken));
        }
        self.machines[server].engine.clear();
        self.machines[server].cache = PrefixCache::new(self.machines[server].server.cache_blocks);
    }

    fn push(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, event)));
    }
}

/// What came of a step.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing is due.
    Idle,
    /// Something happened that no router sees.
    Busy,
    Notice(Notice),
    /// The routers' clock jumps by this many nanoseconds.
    ClockJump(i64),
}
