//! Over real HTTP: a server that answers 429 with `retry-after`, and says with every answer what is left.

use crate::examples::openai::{ChatAnswer, ChatRequest, Connections, OpenAi};
use crate::examples::upstream::{Upstream, UpstreamConfig};
use fallway::adapt::tokio::TokioTimer;
use fallway::policy::{FailSafe, PolicyExt, ordered};
use fallway::{CallOptions, Profile, Router};
use hyper::HeaderMap;
use std::time::Duration;

type Gateway = Router<ChatRequest, ChatAnswer>;

/// A router before a server of six requests a minute, of which the host says `told`, and one without limits.
async fn pair(told: Option<u64>) -> (Gateway, Upstream, Upstream) {
    let quick = UpstreamConfig { base_latency: Duration::from_millis(5), ..UpstreamConfig::default() };
    let limited = UpstreamConfig { requests_per_minute: Some(6), tokens_per_minute: Some(60_000), ..quick.clone() };
    let (limited, free) = (Upstream::start(limited).await.unwrap(), Upstream::start(quick).await.unwrap());
    let mut connections = Connections::default();
    let mut server = |upstream: &Upstream| OpenAi::new(&upstream.url(), &mut connections).unwrap();
    let profile = told.into_iter().fold(Profile::new("a").model("m"), Profile::requests_per_minute);
    let router = Router::builder(ordered().fail_safe(FailSafe::default()))
        .backend(profile, server(&limited))
        .backend(Profile::new("b").model("m"), server(&free))
        .timer(TokioTimer::default());
    (router.build().unwrap(), limited, free)
}

/// So many requests at once; all are answered.
async fn ask(router: &Gateway, count: usize) {
    let call = async || {
        let body = br#"{"model":"m","max_tokens":30,"messages":[]}"#;
        let request = ChatRequest::new(body[..].into(), &HeaderMap::new()).unwrap();
        let options = CallOptions::within(Duration::from_secs(20)).facts(request.facts());
        router.call(&request, options).await.unwrap().into_inner();
    };
    futures::future::join_all((0..count).map(|_| call())).await;
}

fn limits(router: &Gateway) -> (Option<u64>, Option<u64>) {
    let quota = router.quota("a").unwrap();
    (quota.requests.limit, quota.tokens.limit)
}

#[tokio::test]
async fn a_limit_that_nobody_told_is_learned_before_it_is_met() {
    let (router, limited, _free) = pair(None).await;
    for _ in 0..10 {
        ask(&router, 1).await;
    }
    assert_eq!((limits(&router), limited.counters().answered(429)), ((Some(6), Some(60_000)), 0));
    assert_eq!(limited.counters().answered(200), 6);
}

#[tokio::test]
async fn a_limit_that_was_told_wrong_is_learned_from_the_first_burst() {
    let (router, limited, _free) = pair(Some(600)).await;
    assert_eq!(limits(&router), (Some(600), None));
    ask(&router, 12).await;
    let refused = limited.counters().answered(429);
    assert_eq!((limits(&router), limited.counters().answered(200), refused), ((Some(6), Some(60_000)), 6, 6));
    // From here on nothing is sent there in vain.
    for _ in 0..3 {
        ask(&router, 4).await;
    }
    assert_eq!(limited.counters().answered(429), refused);
}
