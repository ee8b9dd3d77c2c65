//! The servers as routers meet them: what both drivers share.

use super::audit::{Audit, Over, call_id};
use super::cluster::{Cluster, Step};
use super::job::{Headers, JobId, Notice, Request, hear};
use super::stack::Load;
use super::tokens::Tokens;
use super::{Clock, World, stream};
use crate::backend::{Attempt, Backend, BackendError, BackendId, FailureKind};
use crate::rng::mix;
use crate::time::Timer;
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
    pub(super) fn scrape(&mut self) -> Vec<usize> {
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
    pub(super) clock: Clock,
    pub(super) audit: Option<Audit>,
    pub(super) router: usize,
    pub(super) index: usize,
    pub(super) hears: bool,
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
