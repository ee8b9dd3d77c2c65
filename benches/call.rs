//! What a call costs over a backend that answers at once: bare, through a leaf, and through the full stack.
//!
//! `cargo bench --bench call`

use criterion::{Criterion, criterion_group, criterion_main};
use fallway::backend::{Attempt, Backend, BackendError};
use fallway::event::{Event, Observer};
use fallway::policy::{FailSafe, PolicyExt, RoutingPolicy, power_of_two, predicted_ttft};
use fallway::time::Instant;
use fallway::{CallOptions, Facts, Profile, Router};
use futures::executor::block_on;
use std::hint::black_box;
use std::sync::Arc;

struct Nothing;

#[async_trait::async_trait]
impl Backend<str> for Nothing {
    type Response = ();
    async fn call(&self, _: &str, _: &Attempt) -> Result<(), BackendError> {
        Ok(())
    }
}

#[derive(Debug)]
struct Watch;

impl Observer for Watch {
    fn on_event(&self, event: &Event<'_>, _: Instant) {
        black_box(event);
    }
}

fn router(policy: impl RoutingPolicy + 'static, watched: bool) -> Router<str, ()> {
    let mut builder = Router::builder(policy);
    for index in 0..8 {
        builder = builder.backend(Profile::new(format!("b{index}")).model("m").concurrency(64), Nothing);
    }
    let builder = if watched { builder.observer(Watch) } else { builder };
    builder.build().expect("the bench's fleet is valid")
}

/// A boxed async call behind a shared pointer: what any router over trait objects pays.
#[async_trait::async_trait]
trait Bare: Send + Sync {
    async fn call(&self, request: &str);
}

#[async_trait::async_trait]
impl Bare for Nothing {
    async fn call(&self, request: &str) {
        black_box(request);
    }
}

fn call(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("call");
    let bare: Arc<dyn Bare> = Arc::new(Nothing);
    group.bench_function("bare boxed", |bencher| bencher.iter(|| block_on(bare.call("hi"))));
    let facts = Arc::new(Facts::model("m").prompt_tokens(900).replay_safe());
    for (name, router) in [
        ("power_of_two", router(power_of_two(), false)),
        ("full stack", router(predicted_ttft().fail_safe(FailSafe::default()), false)),
        ("full stack, observed", router(predicted_ttft().fail_safe(FailSafe::default()), true)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| block_on(router.call("hi", CallOptions::new(facts.clone()))).is_ok());
        });
    }
    group.finish();
}

criterion_group!(benches, call);
criterion_main!(benches);
