//! A canary string in everything that may be secret appears nowhere in what is kept, printed or serialized.

use crate::support::{World, ms, plain, secs};
use fallway::backend::StreamItem;
use fallway::backend::{Attempt, Backend, BackendError};
use fallway::event::{Event, Observer};
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::router::{Interrupted, Streamed};
use fallway::time::Instant;
use fallway::{CallOptions, FailureKind, Profile, RouteError, Router};
use futures::stream::{self, BoxStream, StreamExt};
use std::sync::{Arc, Mutex};

const CANARY: &str = "sk-canary-4711";

/// A request whose every part is secret.
#[derive(Debug)]
struct Secret(String);

/// A backend with a secret inside, whose errors, items and panics carry it too.
#[derive(Debug)]
struct Leaky {
    key: String,
    does: Does,
}

#[derive(Clone, Copy, Debug)]
enum Does {
    Answer,
    Break,
    Fail(FailureKind),
    Panic,
}

type Items = BoxStream<'static, Result<Line, BackendError>>;

/// A secret item; the last one is empty.
#[derive(Debug, PartialEq)]
struct Line(String);

impl StreamItem for Line {
    fn content(&self) -> u64 {
        self.0.len() as u64
    }
    fn is_last(&self) -> bool {
        self.0.is_empty()
    }
    fn size(&self) -> usize {
        self.0.len()
    }
}

/// An error as clients of HTTP have them: with the address, the header and the prompt.
fn leak(kind: FailureKind, key: &str) -> BackendError {
    BackendError::new(kind).retry_after(secs(2)).with_source(format!("POST https://user:{key}@host/?key={key}"))
}

#[async_trait::async_trait]
impl Backend<Secret> for Leaky {
    type Response = Items;

    async fn call(&self, request: &Secret, _: &Attempt) -> Result<Items, BackendError> {
        let item = Line(request.0.clone());
        match self.does {
            Does::Answer => Ok(stream::iter([Ok(item), Ok(Line(String::new()))]).boxed()),
            Does::Break => {
                let error = leak(FailureKind::Truncated, &self.key);
                Ok(stream::iter([Ok(item), Err(error)]).boxed())
            }
            Does::Fail(kind) => Err(leak(kind, &self.key)),
            Does::Panic => std::panic::resume_unwind(Box::new(self.key.clone())),
        }
    }
}

/// Prints all it sees, every way there is.
#[derive(Clone, Debug, Default)]
struct Gossip(Arc<Mutex<String>>);

impl Gossip {
    fn add(&self, text: &str) {
        self.0.lock().unwrap().push_str(text);
    }
}

impl Observer for Gossip {
    fn on_event(&self, event: &Event<'_>, _: Instant) {
        self.add(&format!("{event:?}{event:#?}"));
        if let Event::Decided(decision) = event {
            self.add(&format!("{decision}{decision:#}{decision:?}{}", serde_json::to_string(decision).unwrap()));
        }
    }
}

/// What an error says of itself, without following the sources that it keeps for the host.
fn shown(error: &RouteError) -> String {
    let backend = error.backend_error().map(|error| format!("{error}{error:?}{error:#?}"));
    let decision = error.decision();
    let json = serde_json::to_string(decision).unwrap();
    format!("{error}{error:?}{error:#?}{backend:?}{decision}{decision:?}{json}")
}

fn told(interrupted: &Interrupted) -> String {
    format!("{interrupted}{interrupted:?}{interrupted:#?}{}", interrupted.backend_error())
}

fn streamed_text(streamed: &Streamed<Secret, Items>) -> String {
    let decision = streamed.decision();
    format!("{streamed:?}{streamed:#?}{decision}{decision:?}{}", serde_json::to_string(decision).unwrap())
}

/// All that is said of one request to a backend that does this, and beside it an answer's `Debug`.
fn everything_said(does: Does) -> String {
    let (world, gossip) = (World::new(), Gossip::default());
    let backend = |does| Leaky { key: CANARY.into(), does };
    let router = Router::<Secret, Items>::builder(ordered().fail_safe(FailSafe::default()))
        .timer(world.timer().clone())
        .observer(gossip.clone())
        .backend(Profile::new("a").credential("team-a"), backend(does))
        .backend(Profile::new("b").credential("team-b"), backend(does))
        .build()
        .unwrap();
    gossip.add(&format!("{router:?}{router:#?}{}", router.describe()));
    let said = gossip.clone();
    world.block_on(async move {
        let request = Secret(CANARY.into());
        match router.stream(&request, CallOptions::within(ms(1500)).facts(plain())).await {
            Err(error) => said.add(&shown(&error)),
            Ok(mut streamed) => {
                said.add(&streamed_text(&streamed));
                while let Some(item) = streamed.next().await {
                    match item {
                        Err(error) => said.add(&told(&error)),
                        // The payload itself is the caller's.
                        Ok(Line(item)) => assert!(item == CANARY || item.is_empty()),
                    }
                }
                said.add(&streamed_text(&streamed));
            }
        }
        let decision = router.explain(&CallOptions::new(plain()));
        said.add(&format!("{decision}{}", serde_json::to_string(&router.replay(&decision)).unwrap()));
    });
    gossip.0.lock().unwrap().clone()
}

#[test]
fn the_canary_appears_nowhere() {
    let fails = FailureKind::ALL.map(Does::Fail);
    for does in [Does::Answer, Does::Break, Does::Panic].into_iter().chain(fails) {
        let text = everything_said(does);
        assert!(text.len() > 500, "{does:?} said too little");
        assert_eq!(text.matches(CANARY).count(), 0, "{does:?}");
    }
}

#[test]
fn the_source_is_kept_for_the_host() {
    use std::error::Error;
    let error = leak(FailureKind::ServerError, CANARY);
    assert!(error.source().is_some_and(|source| source.to_string().contains(CANARY)));
    assert_eq!(error.to_string(), "server_error, retry after 2s");
}

#[test]
fn an_answer_is_not_printed_with_its_decision() {
    let world = World::new();
    let echo = fallway::backend::backend_fn(|request: &str, _: &_| {
        let answer = request.to_owned();
        async move { Ok::<_, BackendError>(answer) }
    });
    let router = Router::<str, String>::builder(ordered())
        .timer(world.timer().clone())
        .backend(Profile::new("a"), echo)
        .build()
        .unwrap();
    let routed = world.block_on(async move { router.call(CANARY, CallOptions::default()).await.unwrap() });
    assert_eq!(format!("{routed:?}{routed:#?}").matches(CANARY).count(), 0);
    assert_eq!(routed.into_inner(), CANARY);
}
