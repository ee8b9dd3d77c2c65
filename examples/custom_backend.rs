//! A backend of one's own: errors classified, a stream whose items say what is content and which is the last, and a last
//! resort.
//!
//! `cargo run --example custom_backend`

use fallway::backend::StreamItem;
use fallway::backend::{Attempt, Backend, BackendError, FailureKind, backend_fn};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::{CallOptions, Facts, Profile, Router};
use futures::executor::block_on;
use futures::stream::{self, BoxStream, StreamExt};
use std::time::SystemTime;

type Events = BoxStream<'static, Result<Event, BackendError>>;

/// An event of a provider's stream.
#[derive(Clone, Copy, Debug)]
enum Event {
    Role,
    Token(&'static str),
    Done,
}

/// What the router must know of it: with the first token the answer has begun, and without `Done` it is not whole.
impl StreamItem for Event {
    fn content(&self) -> u64 {
        u64::from(matches!(self, Self::Token(_)))
    }

    fn is_last(&self) -> bool {
        matches!(self, Self::Done)
    }

    fn size(&self) -> usize {
        if let Self::Token(text) = self { text.len() } else { 0 }
    }
}

/// Stands for a provider's client: answers with an HTTP status, or with a stream of events.
struct Provider {
    status: u16,
    events: Vec<Result<Event, FailureKind>>,
}

#[async_trait::async_trait]
impl Backend<str> for Provider {
    type Response = Events;

    async fn call(&self, _prompt: &str, attempt: &Attempt) -> Result<Events, BackendError> {
        // A real client would send `attempt.time_left()` along, so that the server can stop in time as well.
        println!("  attempt {} may take {:?}", attempt.number(), attempt.time_limit());
        if self.status != 200 {
            // One line classifies any HTTP failure; the router's conduct depends on it.
            let header = |name: &str| (name == "retry-after").then_some("2");
            return Err(BackendError::from_http(self.status, header, "", SystemTime::now()));
        }
        let events = self.events.clone().into_iter();
        Ok(stream::iter(events.map(|event| event.map_err(BackendError::new))).boxed())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    use Event::{Done, Role, Token};
    let busy = Provider { status: 503, events: vec![] };
    let broken = Provider { status: 200, events: vec![Ok(Role), Err(FailureKind::Protocol)] };
    let works = Provider { status: 200, events: vec![Ok(Role), Ok(Token("all ")), Ok(Token("is well")), Ok(Done)] };
    // No error, and no `Done` either.
    let cut = Provider { status: 200, events: vec![Ok(Role), Ok(Token("all "))] };
    let apology = backend_fn(|_: &str, _: &_| async { Ok(stream::iter([Ok(Token("try later")), Ok(Done)]).boxed()) });

    let router = Router::builder(ordered().fail_safe(FailSafe::default()))
        .backend(Profile::new("busy").model("m"), busy)
        .backend(Profile::new("broken").model("m"), broken)
        .backend(Profile::new("works").model("m"), works)
        .backend(Profile::new("cut").model("fragile"), cut)
        .last_resort(apology)
        .build()?;

    for model in ["m", "fragile", "unheard-of"] {
        println!("{model}:");
        let call = router.stream("hello", CallOptions::new(Facts::model(model).replay_safe()));
        let mut reply = block_on(call)?;
        while let Some(event) = block_on(reply.next()) {
            match event {
                Ok(event) => println!("  {event:?}"),
                Err(interrupted) => println!("  {interrupted}"),
            }
        }
        println!("  degraded: {}, {:#}\n", reply.is_degraded(), reply.decision());
    }
    assert_eq!(router.total_in_flight(), 0);
    Ok(())
}
