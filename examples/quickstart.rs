//! Three in-process backends, one policy stack, one call, one decision.
//!
//! `cargo run --example quickstart`

use fallway::backend::{Attempt, Backend, BackendError, FailureKind};
use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
use fallway::{CallOptions, Facts, Profile, Router};
use std::time::Duration;

/// A model that answers, or does not.
struct Model(Result<&'static str, FailureKind>);

#[async_trait::async_trait]
impl Backend<str> for Model {
    type Response = String;

    async fn call(&self, prompt: &str, _attempt: &Attempt) -> Result<String, BackendError> {
        Ok(format!("{} to {prompt:?}", self.0?))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let policy = predicted_ttft().fail_safe(FailSafe::default().tiers("chat", ["llama-70b", "llama-8b"]));

    let router = Router::builder(policy)
        .backend(Profile::new("eu-a").model("llama-70b@3").region("eu-west"), Model(Err(FailureKind::Overloaded)))
        .backend(Profile::new("eu-b").model("llama-70b@3").region("eu-west"), Model(Err(FailureKind::Unreachable)))
        .backend(Profile::new("eu-small").model("llama-8b").region("eu-north"), Model(Ok("a short answer")))
        .build()?;

    let facts = Facts::model("chat").prompt_tokens(12).residency(["eu-west", "eu-north"]).replay_safe();
    let options = CallOptions::within(Duration::from_secs(8)).facts(facts);

    let reply = futures::executor::block_on(router.call("Where does my request go?", options))?;

    println!("{}\n\n{}", reply.response(), reply.decision());
    Ok(())
}
