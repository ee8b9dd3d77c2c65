//! The servers as routers meet them: what both drivers share.

use super::audit::{Audit, Over, call_id};
use super::cluster::{Cluster, Step};
use super::diary::Diary;
use super::job::{Headers, JobId, Notice, Request, hear};
use super::rollout::Operator;
use super::stack::{Desk, Load, Reports, Stack};
use super::tokens::Tokens;
use super::{Clock, World, WorldError, stream};
use crate::Router;
use crate::backend::{Attempt, Backend, BackendError, BackendId, FailureKind};
use crate::facts::Profile;
use crate::rng::mix;
use crate::signal::{LoadReport, LoadReports};
use crate::time::{Instant, Timer};
use async_trait::async_trait;
use futures::stream::Stream;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The servers, and the calls that futures wait for.
#[derive(Debug)]
pub(super) struct Reality {
    pub(super) cluster: Cluster,
    /// The servers' last load reports.
    pub(super) reported: Vec<Load>,
    /// When that was, in nanoseconds.
    pub(super) reported_at: Vec<u64>,
    calls: Vec<Call>,
    free: Vec<usize>,
    /// How often each request was sent, and where last, or who answers; only of calls by futures.
    sent: FxHashMap<u64, (u32, u32)>,
    /// Stands for every decision that was carried out, whatever their order.
    pub(super) hash: u64,
}

/// A call that a future waits for.
#[derive(Debug, Default)]
struct Call {
    news: News,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
enum News {
    #[default]
    Nothing,
    FirstToken(Headers),
    Done,
    Failed(BackendError, u32, Headers),
}

impl Reality {
    pub(super) fn new(world: &World, audit: Option<&Audit>) -> Self {
        let seed = stream(world.seed, "faults");
        Self {
            cluster: Cluster::new(world, seed, audit),
            reported: vec![Load::default(); world.servers.len()],
            reported_at: vec![0; world.servers.len()],
            calls: Vec::new(),
            free: Vec::new(),
            sent: FxHashMap::default(),
            hash: 0,
        }
    }

    /// Has every server report its load. Returns those that did.
    fn scrape(&mut self) -> Vec<usize> {
        let reporting: Vec<_> = (0..self.reported.len()).filter(|server| self.cluster.reports(*server)).collect();
        for server in &reporting {
            (self.reported[*server], self.reported_at[*server]) = (self.cluster.load(*server), self.cluster.now());
        }
        reporting
    }

    /// Notes that a request's attempt was sent to a backend.
    pub(super) fn note(&mut self, request: u64, attempt: u32, backend: BackendId) {
        self.hash = self.hash.wrapping_add(mix(request << 8 | u64::from(attempt), backend.slot() as u64));
    }

    /// How often a request was sent, and to which server last. Forgets it.
    pub(super) fn take_sent(&mut self, request: u64) -> Option<(u32, u32)> {
        self.sent.remove(&request)
    }

    /// Notes who answers a request, of those to which it was sent.
    fn answers(&mut self, request: u64, backend: BackendId) {
        if let Some((_, server)) = self.sent.get_mut(&request) {
            *server = backend.slot() as u32;
        }
    }

    /// Notes that a request was refused.
    pub(super) fn note_refusal(&mut self, request: u64) {
        self.hash = self.hash.wrapping_add(mix(request << 8, u64::MAX));
    }

    /// Tells the future that waits for a call.
    pub(super) fn tell(&mut self, notice: Notice) -> Option<Waker> {
        let (tag, news) = match notice {
            Notice::FirstToken(tag, headers) => (tag, News::FirstToken(headers)),
            Notice::Done(tag) => (tag, News::Done),
            Notice::Failed(tag, error, sent, headers) => (tag, News::Failed(error, sent, headers)),
        };
        let call = self.calls.get_mut(tag as usize)?;
        call.news = news;
        call.waker.take()
    }

    pub(super) fn step(&mut self) -> Step {
        self.cluster.step()
    }

    fn open(&mut self) -> usize {
        let tag = self.free.pop().unwrap_or_else(|| {
            self.calls.push(Call::default());
            self.calls.len() - 1
        });
        self.calls[tag] = Call::default();
        tag
    }
}

/// A call to a simulated server, until it is dropped.
#[derive(Debug)]
struct Line {
    reality: Arc<Mutex<Reality>>,
    tag: usize,
    job: JobId,
    audit: Option<Audit>,
    clock: Clock,
    attempt: Attempt,
    request: Request,
    hears: bool,
}

impl Line {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<News> {
        let news = {
            let call = &mut self.reality.lock().calls[self.tag];
            let news = std::mem::take(&mut call.news);
            if matches!(news, News::Nothing) {
                call.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            news
        };
        if let Some(audit) = &self.audit {
            match &news {
                News::Nothing => {}
                News::FirstToken(_) => audit.began(self.request.number, &self.attempt),
                News::Done => self.over(audit, Over::Done),
                News::Failed(error, ..) => self.over(audit, Over::Failed(error)),
            }
        }
        if let News::FirstToken(headers) | News::Failed(_, _, headers) = &news {
            hear(headers, self.hears, &self.attempt);
        }
        match news {
            // Whoever answers is where it was sent in the end.
            News::FirstToken(_) => self.reality.lock().answers(self.request.number, self.attempt.backend()),
            News::Done => self.attempt.used(self.request.usage()),
            News::Nothing | News::Failed(..) => {}
        }
        Poll::Ready(news)
    }

    fn over(&self, audit: &Audit, over: Over<'_>) {
        audit.over(self.request.number, &self.attempt, over, self.clock.now());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut reality = self.reality.lock();
        // Where the call is over there is no job of this id any more.
        reality.cluster.cancel(self.job);
        reality.free.push(self.tag);
        if let Some(audit) = &self.audit {
            self.over(audit, Over::GivenUp);
        }
    }
}

/// A simulated server as a [`Backend`].
#[derive(Debug)]
pub(super) struct SimServer {
    pub(super) reality: Arc<Mutex<Reality>>,
    clock: Clock,
    audit: Option<Audit>,
    router: usize,
    pub(super) index: usize,
    hears: bool,
    /// One way, in nanoseconds.
    pub(super) way: u64,
}

/// An answer as it comes: a stream of [`Tokens`] of simulated servers.
pub struct Answer {
    line: Line,
    /// The first token that is still to come, and how many of them the answer has.
    next: u32,
    end: u32,
    begun: bool,
    /// What comes after the last tokens.
    broken: Option<BackendError>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}

#[async_trait]
impl Backend<Request> for SimServer {
    type Response = Answer;

    async fn call(&self, request: &Request, attempt: &Attempt) -> Result<Answer, BackendError> {
        let line = {
            let mut reality = self.reality.lock();
            reality.note(request.number, attempt.number(), attempt.backend());
            reality.sent.insert(request.number, (attempt.number(), self.index as u32));
            let tag = reality.open();
            let job = reality.cluster.submit(self.index, request, call_id(attempt), self.way, tag as u64);
            let (reality, audit, clock) = (self.reality.clone(), self.audit.clone(), self.clock.clone());
            Line {
                reality,
                tag,
                job,
                audit,
                clock,
                attempt: attempt.clone(),
                request: request.clone(),
                hears: self.hears,
            }
        };
        if let Some(audit) = &self.audit {
            audit.sent(self.router, self.index, request, attempt);
        }
        let end = request.from.saturating_add(request.output);
        Ok(Answer { line, next: request.from, end, begun: false, broken: None })
    }
}

impl Stream for Answer {
    type Item = Result<Tokens, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(ended_by(error));
        }
        let (count, last) = match std::task::ready!(self.line.poll(cx)) {
            News::Nothing => return Poll::Pending,
            News::FirstToken(_) => {
                self.begun = true;
                (1, false)
            }
            News::Done => (self.end - self.next, true),
            News::Failed(error, sent, _) if self.begun && sent > 1 => {
                self.broken = Some(error);
                (sent - 1, false)
            }
            News::Failed(error, ..) => return Poll::Ready(ended_by(error)),
        };
        let from = self.next;
        self.next += count;
        Poll::Ready(Some(Ok(Tokens { from, count, last })))
    }
}

/// A cut is an end without the last item: the router has to see that it is none.
fn ended_by(error: BackendError) -> Option<Result<Tokens, BackendError>> {
    (error.kind() != FailureKind::Truncated).then_some(Err(error))
}

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
                tenants: world
                    .tenants
                    .iter()
                    .map(|(name, _)| name)
                    .chain(world.guest.iter().map(|it| &it.name))
                    .cloned()
                    .collect(),
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
