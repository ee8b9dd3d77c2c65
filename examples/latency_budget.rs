//! A budget of time, spent where it buys the most: who is skipped, what an attempt leaves for the next, when a faster model
//! serves, and what is refused at once.
//!
//! `cargo run --example latency_budget`
//!
//! Three backends in one process: `eu-big` and `us-big` serve the model that is wished for, in 120 and in 40 ms, `small` a
//! faster one in 4 ms. The router learns that from two dozen answers of each, and then gets requests with less and less time.

use fallway::adapt::tokio::TokioTimer;
use fallway::backend::{Attempt, Backend, BackendError};
use fallway::policy::{Budgets, FailSafe, PolicyExt, ordered};
use fallway::{CallOptions, Facts, Profile, Router};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A model that takes so long, or hangs.
#[derive(Clone)]
struct Model {
    takes: Duration,
    hangs: Arc<AtomicBool>,
}

impl Model {
    fn new(millis: u64) -> Self {
        Self { takes: Duration::from_millis(millis), hangs: Arc::default() }
    }
}

#[async_trait::async_trait]
impl Backend<str> for Model {
    type Response = &'static str;

    async fn call(&self, _: &str, _: &Attempt) -> Result<&'static str, BackendError> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(self.takes).await;
        Ok("an answer")
    }
}

fn within(millis: u64, model: &str) -> CallOptions {
    let facts = Facts::model(model).prompt_tokens(200).replay_safe();
    CallOptions::within(Duration::from_millis(millis)).facts(facts)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let fail_safe = FailSafe::default().tiers("chat", ["big", "small"]);
    let us = Model::new(40);
    let router = Router::builder(ordered().budgeted(Budgets::default()).fail_safe(fail_safe))
        .backend(Profile::new("eu-big").model("big@eu"), Model::new(120))
        .backend(Profile::new("us-big").model("big@us"), us.clone())
        .backend(Profile::new("small").model("small"), Model::new(4))
        .timer(TokioTimer::default())
        .build()?;

    println!(
        "{}\n\nUnknown is not too slow: the first request may go anywhere, whatever its deadline.",
        router.describe()
    );
    show(&router, 60).await;

    for model in ["big@eu", "big@us", "small"] {
        for _ in 0..Budgets::ENOUGH + 4 {
            router.call("learn", within(5_000, model)).await?;
        }
    }

    println!("\nEnough time: the first in the order of the fleet.");
    show(&router, 2_000).await;

    println!("\nToo little for eu-big: it is skipped, and the decision says by how much.");
    show(&router, 100).await;

    println!("\nus-big hangs now. Its attempt leaves time for what stands behind, and that answers.");
    us.hangs.store(true, Ordering::Relaxed);
    show(&router, 110).await;
    us.hangs.store(false, Ordering::Relaxed);

    println!("\nToo little for the big model anywhere: a brownout.");
    show(&router, 25).await;

    println!("\nToo little for anybody: refused at once, and no backend works for nothing.");
    show(&router, 1).await;
    Ok(())
}

/// Sends a request with so many milliseconds, and prints what became of it.
async fn show(router: &Router<str, &'static str>, millis: u64) {
    let answered = router.call("ask", within(millis, "chat")).await;
    let decision = match &answered {
        Ok(routed) => routed.decision(),
        Err(error) => error.decision(),
    };
    println!("\n{millis} ms: {decision}");
}
