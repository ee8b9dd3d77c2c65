//! A backend of one's own: errors classified, answers in one type, a stream that commits on its first item, and a
//! last resort.
//!
//! `cargo run --example custom_backend`

use fallway::backend::{Attempt, Backend, BackendError, BackendExt, FailureKind, backend_fn};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::{CallOptions, Facts, Profile, Router};
use futures::executor::block_on;
use futures::stream::{self, BoxStream, StreamExt};
use std::time::SystemTime;

type Tokens = BoxStream<'static, Result<String, BackendError>>;

/// Stands for a provider's client: answers with an HTTP status, or with a stream of tokens.
struct Provider {
    status: u16,
    tokens: Vec<Result<&'static str, FailureKind>>,
}

#[async_trait::async_trait]
impl Backend<str> for Provider {
    type Response = Tokens;

    async fn call(&self, _prompt: &str, attempt: &Attempt) -> Result<Tokens, BackendError> {
        // A real client would send `attempt.time_left()` along, so that the server can stop in time as well.
        println!("  attempt {} may take {:?}", attempt.number(), attempt.time_limit());
        if self.status != 200 {
            // One line classifies any HTTP failure; the router's conduct depends on it.
            let header = |name: &str| (name == "retry-after").then_some("2");
            return Err(BackendError::from_http(self.status, header, "", SystemTime::now()));
        }
        let tokens = self.tokens.clone().into_iter();
        Ok(stream::iter(tokens.map(|token| token.map(str::to_owned).map_err(BackendError::new))).boxed())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let busy = Provider { status: 503, tokens: vec![] };
    let broken = Provider { status: 200, tokens: vec![Err(FailureKind::Protocol)] };
    let works = Provider { status: 200, tokens: vec![Ok("all "), Ok("is "), Ok("well")] };
    let cut = Provider { status: 200, tokens: vec![Ok("all "), Err(FailureKind::Truncated)] };
    let apology = backend_fn(|_: &str, _: &_| async { Ok(stream::iter([Ok("try later".to_owned())]).boxed()) });

    // A response of another type is adapted; committing on the first item makes an early error a failed attempt.
    let adapt = |provider: Provider| provider.commit_on_first_item().map_response(StreamExt::boxed);
    let router = Router::builder(ordered().fail_safe(FailSafe::default()))
        .backend(Profile::new("busy").model("m"), adapt(busy))
        .backend(Profile::new("broken").model("m"), adapt(broken))
        .backend(Profile::new("works").model("m"), adapt(works))
        .backend(Profile::new("cut").model("fragile"), adapt(cut))
        .last_resort(apology)
        .build()?;

    for model in ["m", "fragile", "unheard-of"] {
        println!("{model}:");
        let call = router.call("hello", CallOptions::new(Facts::model(model).replay_safe()));
        let mut reply = block_on(call)?;
        while let Some(token) = block_on(reply.next()) {
            match token {
                Ok(token) => println!("  {token:?}"),
                Err(interrupted) => println!("  {interrupted}"),
            }
        }
        println!("  degraded: {}, {:#}\n", reply.is_degraded(), reply.decision());
    }
    assert_eq!(router.total_in_flight(), 0);
    Ok(())
}
