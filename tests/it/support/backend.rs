//! Backends that follow a script, and count from their own side.

use super::VirtualTimer;
use fallway::backend::StreamItem;
use fallway::backend::{Attempt, Backend, BackendError, FailureKind};
use fallway::time::{Instant, Timer};
use futures::future::BoxFuture;
use futures::stream::Stream;
use std::collections::VecDeque;
use std::fmt;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

/// What a backend does with one call.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers after a while.
    Answer(Duration),
    /// Fails after a while.
    Fail(FailureKind, Duration),
    /// Fails after a while and hints when to come back.
    Hint(FailureKind, Duration, Duration),
    /// Never answers.
    Hang,
    /// Panics at a poll, after a while.
    Panic(Duration),
    /// Panics before there is a future.
    PanicInCall,
    /// Never answers, and panics when it is dropped.
    PanicInDrop,
    /// Answers with a stream after a while.
    Stream(Duration, Vec<Step>),
}

/// One step of a streamed answer. After the last comes the last item, and then the end.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Content.
    Item,
    /// An item without content.
    Role,
    /// Content of so many bytes.
    Large(usize),
    Pause(Duration),
    Break(FailureKind),
    Hang,
    Panic,
    /// Ends without a last item.
    Close,
}

/// An item of a streamed answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Token {
    Role,
    /// Content, numbered from 1.
    Number(u32),
    Large(usize),
    Done,
}

impl StreamItem for Token {
    fn content(&self) -> u64 {
        u64::from(matches!(self, Self::Number(_) | Self::Large(_)))
    }

    fn is_last(&self) -> bool {
        *self == Self::Done
    }

    fn size(&self) -> usize {
        if let Self::Large(bytes) = self { *bytes } else { 4 }
    }
}

/// What a script knows when it chooses an act.
pub(crate) struct Cue<'a> {
    pub(crate) now: Instant,
    /// Number of the call, from 0.
    pub(crate) call: u64,
    pub(crate) request: &'a str,
    pub(crate) attempt: &'a Attempt,
    /// Calls in flight at the backend, this one included.
    pub(crate) in_flight: u32,
}

pub(crate) type Script = Box<dyn Fn(&Cue<'_>) -> Act + Send + Sync>;

/// The same act for every call.
pub(crate) fn always(act: Act) -> Script {
    Box::new(move |_| act.clone())
}

/// One act after the other; the last is repeated.
pub(crate) fn in_turn(acts: impl IntoIterator<Item = Act>) -> Script {
    let acts: Vec<_> = acts.into_iter().collect();
    Box::new(move |cue| acts[(cue.call as usize).min(acts.len() - 1)].clone())
}

/// A backend that follows a script.
#[derive(Clone)]
pub(crate) struct Scripted {
    timer: VirtualTimer,
    name: Arc<str>,
    script: Arc<Script>,
    backstage: Arc<Backstage>,
}

/// What a backend saw.
#[derive(Debug, Default)]
pub(crate) struct Backstage {
    calls: AtomicU64,
    in_flight: AtomicU32,
    peak: AtomicU32,
    seen: Mutex<Vec<Seen>>,
}

/// One call as its backend saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) request: String,
    pub(crate) number: u32,
    pub(crate) request_id: u64,
    pub(crate) time_limit: Duration,
    pub(crate) deadline: Instant,
}

impl Scripted {
    pub(crate) fn new(timer: &VirtualTimer, name: &str, script: Script) -> Self {
        let backstage = Arc::default();
        Self { timer: timer.clone(), name: name.into(), script: Arc::new(script), backstage }
    }

    pub(crate) fn backstage(&self) -> Arc<Backstage> {
        self.backstage.clone()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.backstage.calls()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.backstage.seen()
    }
}

impl Backstage {
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// The most calls that were in flight at once.
    pub(crate) fn peak(&self) -> u32 {
        self.peak.load(Ordering::SeqCst)
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn enter(self: &Arc<Self>) -> Guest {
        let guests = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(guests, Ordering::SeqCst);
        Guest(self.clone())
    }
}

/// A call in flight.
struct Guest(Arc<Backstage>);

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Backend<str> for Scripted {
    type Response = Reply;

    // Written out, so that a call can also panic before there is a future.
    fn call<'s, 'r, 'a, 'f>(
        &'s self,
        request: &'r str,
        attempt: &'a Attempt,
    ) -> BoxFuture<'f, Result<Reply, BackendError>>
    where
        's: 'f,
        'r: 'f,
        'a: 'f,
        Self: 'f,
    {
        let guest = self.backstage.enter();
        let call = self.backstage.calls.fetch_add(1, Ordering::SeqCst);
        let now = self.timer.now();
        self.backstage.seen.lock().unwrap().push(Seen {
            at: now,
            request: request.to_owned(),
            number: attempt.number(),
            request_id: attempt.request_id(),
            time_limit: attempt.time_limit(),
            deadline: attempt.deadline(),
        });
        let act = (self.script)(&Cue { now, call, request, attempt, in_flight: self.backstage.in_flight() });
        if matches!(act, Act::PanicInCall) {
            loaded_panic();
        }
        // "ask after 3" is a request for what comes after the third item.
        let seen = request.rsplit_once(" after ").and_then(|(_, seen)| seen.parse().ok()).unwrap_or(0);
        Box::pin(self.perform(act, seen, guest))
    }
}

impl Scripted {
    async fn perform(&self, act: Act, seen: u32, guest: Guest) -> Result<Reply, BackendError> {
        let reply = |steps: Vec<Step>, guest| Reply {
            backend: self.name.clone(),
            timer: self.timer.clone(),
            steps: steps.into(),
            pause: None,
            items: seen,
            over: false,
            _guest: guest,
        };
        match act {
            Act::Answer(after) => {
                self.pause(after).await;
                Ok(reply(Vec::new(), None))
            }
            Act::Stream(after, steps) => {
                self.pause(after).await;
                Ok(reply(steps, Some(guest)))
            }
            Act::Fail(kind, after) => {
                self.pause(after).await;
                Err(kind.into())
            }
            Act::Hint(kind, after, hint) => {
                self.pause(after).await;
                Err(BackendError::new(kind).retry_after(hint))
            }
            Act::Hang => std::future::pending().await,
            Act::Panic(after) => {
                self.pause(after).await;
                loaded_panic()
            }
            Act::PanicInDrop => {
                let _bomb = Bomb;
                std::future::pending().await
            }
            Act::PanicInCall => unreachable!("it panicked before"),
        }
    }

    async fn pause(&self, duration: Duration) {
        if !duration.is_zero() {
            self.timer.sleep(duration).await;
        }
    }
}

/// A panic that prints nothing: it is part of the play.
pub(crate) fn scripted_panic() -> ! {
    resume_unwind(Box::new("a scripted panic"))
}

/// One that carries what panics as well, when it is dropped.
pub(crate) fn loaded_panic() -> ! {
    resume_unwind(Box::new(Bomb))
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            scripted_panic();
        }
    }
}

/// An answer; also a stream of tokens.
pub(crate) struct Reply {
    backend: Arc<str>,
    timer: VirtualTimer,
    steps: VecDeque<Step>,
    pause: Option<fallway::time::Sleep>,
    items: u32,
    over: bool,
    _guest: Option<Guest>,
}

impl Reply {
    /// The backend that made it.
    pub(crate) fn backend(&self) -> &str {
        &self.backend
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({})", self.backend)
    }
}

impl Stream for Reply {
    type Item = Result<Token, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                match pause.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => self.pause = None,
                }
            }
            match self.steps.pop_front() {
                None if self.over => return Poll::Ready(None),
                None => {
                    self.over = true;
                    return Poll::Ready(Some(Ok(Token::Done)));
                }
                Some(Step::Item) => {
                    self.items += 1;
                    return Poll::Ready(Some(Ok(Token::Number(self.items))));
                }
                Some(Step::Role) => return Poll::Ready(Some(Ok(Token::Role))),
                Some(Step::Large(bytes)) => return Poll::Ready(Some(Ok(Token::Large(bytes)))),
                Some(Step::Close) => {
                    self.steps.clear();
                    self.over = true;
                }
                Some(Step::Pause(duration)) => self.pause = Some(self.timer.sleep(duration)),
                Some(Step::Break(kind)) => return Poll::Ready(Some(Err(kind.into()))),
                Some(Step::Hang) => {
                    self.steps.push_front(Step::Hang);
                    return Poll::Pending;
                }
                Some(Step::Panic) => loaded_panic(),
            }
        }
    }
}
