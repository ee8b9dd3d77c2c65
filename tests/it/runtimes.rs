//! The same router on every runtime, over real time. Nothing here asserts a duration.

use fallway::adapt::tokio::TokioTimer;
use fallway::backend::{Attempt, Backend, BackendError};
use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
use fallway::recover::Ejection;
use fallway::router::RouteErrorKind;
use fallway::time::{SystemTimer, Timer};
use fallway::{CallOptions, Facts, FailureKind, Profile, Router};
use futures::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Sleeps with the router's own timer, and fails or hangs where it is told to.
struct Server<T> {
    timer: T,
    first: Option<FailureKind>,
    hangs: bool,
    calls: AtomicU32,
}

#[async_trait::async_trait]
impl<T: Timer> Backend<str> for Server<T> {
    type Response = String;

    async fn call(&self, request: &str, _: &Attempt) -> Result<String, BackendError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if self.hangs {
            return std::future::pending().await;
        }
        self.timer.sleep_until(self.timer.now() + Duration::from_millis(2)).await;
        match self.first {
            Some(kind) if call == 0 => Err(kind.into()),
            _ => Ok(request.to_uppercase()),
        }
    }
}

fn options(total: Duration) -> CallOptions {
    CallOptions::within(total).facts(Facts::any().prompt_tokens(10).replay_safe())
}

/// The test: a retry elsewhere, a queue, a timeout, a return after a rest, and no trace at the end.
async fn works_on_this_runtime<T: Timer + Clone>(timer: T) {
    let server = |first, hangs| Arc::new(Server { timer: timer.clone(), first, hangs, calls: AtomicU32::new(0) });
    let (a, b) = (server(Some(FailureKind::Overloaded), false), server(None, false));
    let rest = Duration::from_millis(1);
    let router = Router::<str, String>::builder(predicted_ttft().fail_safe(FailSafe::default()))
        .timer(timer.clone())
        .ejection(Ejection::default().rest_overloaded(rest, rest))
        .backend(Profile::new("a").concurrency(2), a.clone())
        .backend(Profile::new("b").concurrency(2), b.clone())
        .build()
        .unwrap();
    // More than there are slots: most of them wait.
    let calls = join_all((0..40).map(|_| async {
        let routed = router.call("hi", options(Duration::from_secs(30))).await.unwrap();
        (routed.attempts().len(), routed.into_inner())
    }));
    let answers = calls.await;
    assert!(answers.iter().all(|(_, answer)| answer == "HI"));
    assert_eq!(answers.iter().map(|(attempts, _)| attempts).sum::<usize>(), 41);
    assert_eq!(a.calls.load(Ordering::SeqCst) + b.calls.load(Ordering::SeqCst), 41);
    assert!(a.calls.load(Ordering::SeqCst) > 1, "it never came back");
    // A deadline in centuries is no problem for the timer.
    assert!(router.call("hi", options(Duration::MAX)).await.is_ok());
    assert_eq!(router.total_in_flight(), 0);

    let hung = Router::<str, String>::builder(predicted_ttft().fail_safe(FailSafe::default()))
        .timer(timer.clone())
        .backend(Profile::new("a"), server(None, true))
        .backend(Profile::new("b"), server(None, true))
        .build()
        .unwrap();
    let error = hung.call("hi", options(Duration::from_millis(20))).await.unwrap_err();
    // How many attempts fit into that time is the machine's affair.
    assert_eq!((error.kind(), error.attempts().is_empty()), (RouteErrorKind::DeadlineExceeded, false));
    assert_eq!(hung.total_in_flight(), 0);
}

#[test]
fn on_tokio() {
    for mut runtime in [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()] {
        let runtime = runtime.enable_time().build().unwrap();
        runtime.block_on(works_on_this_runtime(TokioTimer::default()));
        // The portable timer works there too.
        runtime.block_on(works_on_this_runtime(SystemTimer::default()));
    }
}

#[test]
fn on_tokio_as_spawned_tasks() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::spawn(works_on_this_runtime(TokioTimer::default())).await.unwrap() });
}

#[test]
fn on_smol() {
    smol::block_on(works_on_this_runtime(SystemTimer::default()));
    smol::block_on(smol::spawn(works_on_this_runtime(SystemTimer::default())));
}

#[test]
fn on_no_runtime_at_all() {
    futures::executor::block_on(works_on_this_runtime(SystemTimer::default()));
}
