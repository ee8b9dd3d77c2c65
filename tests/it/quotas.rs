//! Quotas per minute: what this router mirrors, takes, gives back and learns.

mod http;
mod learned;
mod limits;
mod shared;
mod usage;
mod windows;

use crate::support::{VirtualTimer, World};
use fallway::backend::{Attempt, Backend, BackendError, FailureKind, Usage, backend_fn};
use fallway::router::Builder;
use fallway::signal::QuotaReport;
use fallway::time::Timer;
use fallway::{CallOptions, Profile, RouteError, Routed, Router, RoutingPolicy};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

type Quoted = Router<str, &'static str>;
type Answer = Result<&'static str, BackendError>;

/// What a backend does with one call, given the number of the call.
struct Play {
    after: Duration,
    usage: Option<Usage>,
    headers: &'static [(&'static str, &'static str)],
    fails: Option<(FailureKind, Option<Duration>)>,
}

/// Answers after 20 ms and says nothing more.
const PLAIN: Play = Play { after: Duration::from_millis(20), usage: None, headers: &[], fails: None };

const fn used(prompt: i64, output: i64) -> Play {
    Play { usage: Some(Usage::new(prompt, output)), ..PLAIN }
}

fn report(headers: &'static [(&'static str, &'static str)]) -> QuotaReport {
    let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    QuotaReport::from_headers(header, SystemTime::now())
}

/// A backend that follows a script, and counts its calls.
fn scripted(
    timer: &VirtualTimer,
    script: impl Fn(u64) -> Play + Send + Sync + 'static,
) -> (impl Backend<str, Response = &'static str>, Arc<AtomicU64>) {
    let (timer, calls) = (timer.clone(), Arc::new(AtomicU64::new(0)));
    let counted = calls.clone();
    let backend = backend_fn(move |_: &str, attempt: &Attempt| -> BoxFuture<'static, Answer> {
        let (timer, attempt) = (timer.clone(), attempt.clone());
        let play = script(counted.fetch_add(1, Ordering::SeqCst));
        Box::pin(async move {
            timer.sleep_until(timer.now() + play.after).await;
            if !play.headers.is_empty() {
                attempt.quota(&report(play.headers));
            }
            if let Some(usage) = play.usage {
                attempt.used(usage);
            }
            match play.fails {
                None => Ok("answer"),
                Some((kind, None)) => Err(kind.into()),
                Some((kind, Some(hint))) => Err(BackendError::new(kind).retry_after(hint)),
            }
        })
    });
    (backend, calls)
}

fn builder(world: &World, policy: impl RoutingPolicy + 'static) -> Builder<str, &'static str> {
    Router::builder(policy).timer(world.timer().clone()).seed(7)
}

/// One call; what it took is settled when the answer is dropped.
fn ask(world: &World, router: &Quoted, options: CallOptions) -> Result<Routed<&'static str>, RouteError> {
    let router = router.clone();
    world.block_on(async move { router.call("ask", options).await })
}

/// Requests and tokens that the router takes for left at `a`.
fn left(router: &Quoted) -> (Option<u64>, Option<u64>) {
    let quota = router.quota("a").unwrap();
    (quota.requests.remaining, quota.tokens.remaining)
}

fn a() -> Profile {
    Profile::new("a")
}
