//! A dry run: where a request would go and why, as text and as JSON, and replayed to the same choice.
//!
//! `cargo run --example explain`

use fallway::backend::{BackendError, backend_fn};
use fallway::facts::{Capabilities, Price};
use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
use fallway::{CallOptions, Facts, Profile, Router};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>("an answer") });
    let router = Router::builder(predicted_ttft().fail_safe(FailSafe::default().tiers("chat", ["large", "small"])))
        .backend(Profile::new("eu-a").model("large@2").region("eu-west").price(Price::per_million(3.0, 15.0)?), model())
        .backend(Profile::new("eu-b").model("large@2").region("eu-west").context_window(8_000), model())
        .backend(Profile::new("eu-c").model("large@2").region("eu-west").drained(true), model())
        .backend(Profile::new("us-a").model("large@2").region("us-east").concurrency(8), model())
        .backend(Profile::new("eu-s").model("small").region("eu-west").capabilities(Capabilities::STREAMING), model())
        .seed(42)
        .build()?;

    let facts = Facts::model("chat").prompt_tokens(12_000).residency(["eu-west"]).tenant("search");
    let options = CallOptions::within(Duration::from_secs(8)).facts(facts.clone());
    let decision = router.explain(&options);
    println!("{}\n\n{decision}\n", router.describe());

    println!("{}\n", serde_json::to_string_pretty(&decision)?);

    let again = router.replay(&decision);
    println!("replayed to the same choice: {}\n", again.same_choice(&decision));
    assert!(again.same_choice(&decision));

    // Nothing can serve this one. The reason is counted, and the request would be refused at once.
    let impossible = CallOptions::new(facts.residency(["ap-south"]).needs(Capabilities::VISION));
    println!("{}", router.explain(&impossible));
    Ok(())
}
