//! Plays a world without futures: one loop over requests, servers and timers.

use super::audit::{Audit, Over, call_id};
use super::cluster::Step as Happened;
use super::flight::{Call, Flight, HEDGE, flight};
use super::job::{Notice, Request, hear};
use super::run::{Ended, Record, Run};
use super::script::{Cue, Script};
use super::setting::{Setting, SimRouter};
use super::source::Source;
use super::stack::{Desk, Stack};
use super::{Clock, World, WorldError};
use crate::backend::{Attempt, FailureKind};
use crate::router::{RouteErrorKind, Step};
use crate::time::Instant;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Wake};

impl World {
    /// Plays it, with the stack that `make` makes for each router.
    ///
    /// # Errors
    ///
    /// [`WorldError`] names what makes no sense about the world, or about the stack.
    pub fn run<S: Into<Stack>>(&self, make: impl Fn(&Desk) -> S) -> Result<Run, WorldError> {
        self.play(&|desk| make(desk).into(), None)
    }

    pub(super) fn play(&self, make: &dyn Fn(&Desk) -> Stack, audit: Option<&Audit>) -> Result<Run, WorldError> {
        let setting = Setting::new(self, &Clock::new(), make, audit)?;
        let (records, setting) = {
            let mut play = Play::new(self, &setting);
            play.run()?;
            (play.records, &setting)
        };
        Ok(setting.conclude(self, records))
    }
}

impl Setting {
    pub(super) fn conclude(&self, world: &World, records: Vec<Record>) -> Run {
        self.tell(|audit| audit.is_over(&self.routers, &Source::new(world).plain_facts()));
        let leaked = self.routers.iter().map(SimRouter::total_in_flight).sum();
        let reality = self.reality.lock();
        let regions = reality.cluster.regions.clone();
        Run::new(world, records, reality.cluster.tally, regions, self.diary.entries(), reality.hash, leaked)
    }
}

/// Why a timer rings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    /// The attempt with this number has had its time.
    Limit(u32),
    /// It is time for another beside it.
    Hedge(u32),
    Deadline,
    /// What the request slept or waited for with its step of this number.
    Wake(u32),
    Leave,
}

/// Rings when a waiting request is called.
struct Bell {
    rung: Arc<Mutex<VecDeque<u64>>>,
    tag: u64,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.lock().push_back(self.tag);
    }
}

/// One in so many steps is followed by a look at those who wait.
const INSPECTED: u64 = 32;

struct Play<'s> {
    world: &'s World,
    setting: &'s Setting,
    script: Script<'s>,
    flights: Vec<(u32, Option<Flight<'s>>)>,
    free: Vec<u32>,
    aloft: usize,
    timers: BinaryHeap<Reverse<(Instant, u64, u64, Alarm)>>,
    order: u64,
    steps: u64,
    rung: Arc<Mutex<VecDeque<u64>>>,
    records: Vec<Record>,
}

impl<'s> Play<'s> {
    fn new(world: &'s World, setting: &'s Setting) -> Self {
        Self {
            world,
            setting,
            script: Script::new(world),
            flights: Vec::new(),
            free: Vec::new(),
            aloft: 0,
            timers: BinaryHeap::new(),
            order: 0,
            steps: 0,
            rung: Arc::default(),
            records: Vec::new(),
        }
    }

    fn run(&mut self) -> Result<(), WorldError> {
        while !(self.script.is_over() && self.aloft == 0) {
            self.drop_void_timers();
            let timer = self.timers.peek().map(|Reverse((at, ..))| *at);
            let cluster = self.setting.reality.lock().cluster.next();
            let Some(cue) = self.script.next(cluster, timer) else { break };
            self.setting.reality.lock().cluster.set(self.script.now);
            self.setting.clock.show(self.script.time());
            match cue {
                Cue::Cluster => {
                    let happened = self.setting.reality.lock().step();
                    match happened {
                        Happened::Notice(notice) => self.hear(notice),
                        Happened::ClockJump(nanos) => self.script.jump(self.setting, nanos),
                        Happened::Idle | Happened::Busy => {}
                    }
                }
                Cue::Timer => self.ring(),
                Cue::Join => {
                    if let Some(at) = self.script.take_join() {
                        self.setting.join(self.world, at)?;
                    }
                }
                Cue::Report => {
                    self.setting.scrape(self.script.time());
                    self.script.report();
                }
                Cue::Arrival => self.arrive(),
            }
            self.answer_bells();
            self.inspect();
        }
        Ok(())
    }

    fn arrive(&mut self) {
        let Some((arrival, options)) = self.script.take_arrival(self.setting) else { return };
        let now = self.script.time();
        let record = self.records.len();
        self.records.push(Record::new(&arrival));
        self.setting.tell(|audit| audit.came(&arrival, &options.facts, now));
        let slot = self.free.pop().unwrap_or_else(|| {
            self.flights.push((0, None));
            self.flights.len() as u32 - 1
        });
        let trip = self.setting.routers[arrival.router].trip(options, now);
        self.aloft += 1;
        let tag = u64::from(self.flights[slot as usize].0) << 32 | u64::from(slot);
        if let Some(after) = arrival.leaves {
            self.set_timer(now + after, tag, Alarm::Leave);
        }
        self.flights[slot as usize].1 = Some(Flight {
            trip,
            request: arrival.request,
            router: arrival.router,
            record,
            calls: [None, None],
            answered: false,
            broken: None,
            steps: 0,
            steps_before: (now, 0),
            leaves: arrival.leaves.map(|after| now + after),
            waits: false,
            bell: None,
        });
        if !self.has_left(tag) {
            self.advance(tag);
        }
    }

    /// Whether the caller leaves by now: that comes before anything else that happens to a request at this moment.
    fn has_left(&mut self, tag: u64) -> bool {
        let left = flight(&mut self.flights, tag).and_then(|it| it.leaves).is_some_and(|at| at <= self.script.time());
        if left {
            self.end(tag, Ended::Left);
        }
        left
    }

    /// Lets a request take its next step.
    fn advance(&mut self, tag: u64) {
        let now = self.script.time();
        loop {
            let Some(flight) = flight(&mut self.flights, tag) else { return };
            if !flight.steps_on(self.setting, now) {
                return self.end(tag, Ended::Open);
            }
            let wake = Alarm::Wake(flight.steps);
            let next = flight.trip.next(now);
            if next.is_ok() {
                self.setting.tell(|audit| audit.decided(&self.setting.routers[flight.router], flight.trip.decision()));
            }
            match next {
                Ok(Step::Call(attempt)) => {
                    self.setting.tell(|audit| audit.chosen(flight.router, flight.trip.decision()));
                    flight.answered = false;
                    return self.send(tag, attempt);
                }
                Ok(Step::Sleep { until }) => return self.set_timer(until, tag, wake),
                Ok(Step::Wait { until }) => {
                    let rung = &self.rung;
                    let bell = flight.bell.get_or_insert_with(|| Arc::new(Bell { rung: rung.clone(), tag }).into());
                    if flight.trip.poll_called(&mut Context::from_waker(&bell.clone())).is_ready() {
                        continue;
                    }
                    flight.waits = true;
                    return self.set_timer(until, tag, wake);
                }
                Ok(Step::LastResort { .. }) => return self.end(tag, Ended::Refused(RouteErrorKind::NothingUsable)),
                Err(error) => {
                    if let Some(kind) = flight.broken {
                        return self.end(tag, Ended::Broken(kind));
                    }
                    self.setting.tell(|audit| audit.decided(&self.setting.routers[flight.router], error.decision()));
                    self.setting.reality.lock().note_refusal(flight.request.number);
                    return self.end(tag, Ended::Refused(error.kind()));
                }
            }
        }
    }

    /// Calls a server.
    fn send(&mut self, tag: u64, attempt: Attempt) {
        let Some(flight) = flight(&mut self.flights, tag) else { return };
        let (now, number, slot) = (self.script.time(), attempt.number(), attempt.backend().slot());
        let way = self.world.way(self.world.home(flight.router), &self.world.servers[slot]);
        self.setting.tell(|audit| audit.sent(flight.router, slot, &flight.request, &attempt));
        let side = usize::from(attempt.is_hedge());
        let mut reality = self.setting.reality.lock();
        reality.note(flight.request.number, number, attempt.backend());
        let job = reality.cluster.submit(
            slot,
            &flight.request,
            call_id(&attempt),
            way,
            if side == 0 { tag } else { tag | HEDGE },
        );
        drop(reality);
        let record = &mut self.records[flight.record];
        (record.attempts, record.server) = (number, Some(slot as u32));
        let (limit, hedge) = (now + attempt.time_limit(), attempt.hedge_at());
        flight.calls[side] = Some(Call { job, attempt, limit });
        self.set_timer(limit, tag, Alarm::Limit(number));
        if let Some(at) = hedge {
            self.set_timer(at, tag, Alarm::Hedge(number));
        }
    }

    /// A server said something.
    fn hear(&mut self, notice: Notice) {
        let now = self.script.time();
        let (Notice::FirstToken(tag, _) | Notice::Done(tag) | Notice::Failed(tag, ..)) = notice;
        let (tag, side) = (tag & !HEDGE, usize::from(tag & HEDGE != 0));
        if self.has_left(tag) {
            return;
        }
        let Some(flight) = flight(&mut self.flights, tag) else { return };
        if side == 1 {
            // Who waits for both looks after the first one first.
            flight.time_out(0, self.setting, now);
        }
        match notice {
            Notice::FirstToken(_, headers) => {
                let Some(Call { attempt, .. }) = &flight.calls[side] else { return };
                let attempt = attempt.clone();
                self.setting.tell(|audit| audit.began(flight.request.number, &attempt));
                hear(&headers, self.setting.hears(flight.router), &attempt);
                flight.give_up(1 - side, self.setting, now);
                flight.trip.answered(attempt.number(), now);
                flight.trip.received(1);
                flight.answered = true;
                if flight.trip.decision().beside().is_some() {
                    let router = &self.setting.routers[flight.router];
                    self.setting.tell(|audit| audit.decided(router, flight.trip.decision()));
                }
                let deadline = flight.trip.decision().deadline();
                let record = &mut self.records[flight.record];
                record.server = Some(attempt.backend().slot() as u32);
                record.first = record.first.or(Some(self.script.now as f64 / 1e9 - record.at));
                self.setting.tell(|audit| audit.delivered(flight.request.number, flight.request.from, 1));
                record.delivered += 1;
                self.set_timer(deadline, tag, Alarm::Deadline);
            }
            Notice::Done(_) => {
                let Some(Call { attempt, .. }) = &flight.calls[side] else { return };
                self.setting.tell(|audit| audit.over(flight.request.number, attempt, Over::Done, now));
                attempt.used(flight.request.usage());
                let (Request { number, from, output, .. }, rest) = (&flight.request, flight.request.output - 1);
                flight.trip.received(rest.into());
                flight.trip.finish(now);
                self.setting.tell(|audit| audit.delivered(*number, from + output - rest, rest));
                self.records[flight.record].delivered += rest;
                self.end(tag, Ended::Completed);
            }
            Notice::Failed(_, error, sent, headers) => {
                let Some(Call { attempt, .. }) = flight.calls[side].take() else { return };
                let kind = error.kind();
                self.setting.tell(|audit| audit.over(flight.request.number, &attempt, Over::Failed(&error), now));
                hear(&headers, self.setting.hears(flight.router), &attempt);
                if flight.answered {
                    flight.trip.received(u64::from(sent) - 1);
                }
                flight.trip.fail(attempt.number(), error, false, now);
                if !flight.answered {
                    return self.go_on(tag);
                }
                flight.broken = Some(kind);
                let (rest, record) = (flight.request.rest(sent), &mut self.records[flight.record]);
                self.setting.tell(|audit| audit.delivered(rest.number, flight.request.from + 1, sent - 1));
                (record.delivered, record.breaks) = (record.delivered + sent - 1, record.breaks + 1);
                if self.world.resuming && rest.output > 0 {
                    (flight.request, flight.answered) = (rest, false);
                    flight.trip.resume(now);
                    return self.advance(tag);
                }
                self.setting.tell(|audit| audit.broken(flight.trip.next(now).is_ok()));
                self.end(tag, Ended::Broken(kind));
            }
        }
    }

    /// An attempt failed before its first token: the next, unless another runs.
    fn go_on(&mut self, tag: u64) {
        let runs = flight(&mut self.flights, tag).is_some_and(|flight| flight.calls.iter().any(Option::is_some));
        if !runs {
            self.advance(tag);
        }
    }

    /// The first timer rings.
    fn ring(&mut self) {
        let Some(Reverse((_, _, tag, alarm))) = self.timers.pop() else { return };
        let now = self.script.time();
        // Nobody is woken for a hedge once the answer has begun.
        let wakes = flight(&mut self.flights, tag).is_none_or(|it| !it.answered) || !matches!(alarm, Alarm::Hedge(_));
        if wakes && self.has_left(tag) {
            return;
        }
        let Some(flight) = flight(&mut self.flights, tag) else { return };
        match alarm {
            // In a clock that jumps, all of them may be due at once.
            Alarm::Limit(_) | Alarm::Hedge(_) => {
                (0..2).for_each(|side| flight.time_out(side, self.setting, now));
                let hedge = matches!(alarm, Alarm::Hedge(number) if flight.side_of(number).is_some());
                if !hedge {
                    self.go_on(tag);
                } else if let Some(hedge) = flight.trip.hedge(now) {
                    self.send(tag, hedge);
                }
            }
            Alarm::Wake(_) => self.advance(tag),
            Alarm::Deadline => self.end(tag, Ended::Broken(FailureKind::Timeout)),
            Alarm::Leave => self.end(tag, Ended::Left),
        }
    }

    /// Whether a timer still means anything.
    fn is_void(&mut self, tag: u64, alarm: Alarm) -> bool {
        let Some(flight) = flight(&mut self.flights, tag) else { return true };
        match alarm {
            Alarm::Limit(number) => flight.answered || flight.side_of(number).is_none(),
            // It is asked also once the answer has begun: the trip must know that it is too late.
            Alarm::Hedge(number) => flight.side_of(number).is_none(),
            Alarm::Deadline => !flight.answered,
            Alarm::Leave => false,
            Alarm::Wake(step) => flight.steps != step,
        }
    }

    fn drop_void_timers(&mut self) {
        while let Some(Reverse((_, _, tag, alarm))) = self.timers.peek() {
            let (tag, alarm) = (*tag, *alarm);
            if !self.is_void(tag, alarm) {
                return;
            }
            self.timers.pop();
        }
    }

    /// Requests that were called decide again.
    fn answer_bells(&mut self) {
        loop {
            let Some(tag) = self.rung.lock().pop_front() else { return };
            if flight(&mut self.flights, tag).is_none_or(|it| !it.waits) || self.has_left(tag) {
                continue;
            }
            let Some(flight) = flight(&mut self.flights, tag) else { continue };
            let Some(bell) = flight.bell.clone() else { continue };
            if flight.trip.poll_called(&mut Context::from_waker(&bell)).is_ready() {
                self.advance(tag);
            }
        }
    }

    /// Now and then, whether those who wait wait for something. After a clock jumped, not before all who may be woken by that are.
    fn inspect(&mut self) {
        let Some(audit) = &self.setting.audit else { return };
        let now = self.script.time();
        let is_due = self.timers.peek().is_some_and(|Reverse((at, ..))| *at <= now);
        self.steps += u64::from(!is_due);
        if is_due || !self.steps.is_multiple_of(INSPECTED) {
            return;
        }
        for (_, flight) in &mut self.flights {
            let Some(flight) = flight.as_mut().filter(|it| it.waits && !it.trip.rests()) else { continue };
            let Some(bell) = &flight.bell else { continue };
            let called = flight.trip.poll_called(&mut Context::from_waker(bell)).is_ready();
            audit.waits(&self.setting.routers[flight.router], flight.router, called, flight.trip.decision(), now);
        }
    }

    fn end(&mut self, tag: u64, ended: Ended) {
        let (generation, flight) = &mut self.flights[tag as u32 as usize];
        let Some(flight) = flight.take() else { return };
        *generation = generation.wrapping_add(1);
        self.free.push(tag as u32);
        self.aloft -= 1;
        let record = &mut self.records[flight.record];
        record.ended = ended;
        record.total = self.script.now as f64 / 1e9 - record.at;
        let Flight { trip, calls, request, .. } = flight;
        let now = self.script.time();
        self.setting.tell(|audit| {
            for call in calls.iter().flatten() {
                audit.over(request.number, &call.attempt, Over::GivenUp, now);
            }
            audit.ended(request.number, ended, now);
        });
        drop(trip);
        for call in calls.into_iter().flatten() {
            self.setting.reality.lock().cluster.cancel(call.job);
        }
    }

    fn set_timer(&mut self, at: Instant, tag: u64, alarm: Alarm) {
        self.order += 1;
        self.timers.push(Reverse((at, self.order, tag, alarm)));
    }
}
