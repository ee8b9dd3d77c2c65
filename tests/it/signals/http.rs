//! Checks over HTTP, against a server on a real socket. Nothing here asserts a duration.

use axum::Router as Site;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Redirect;
use axum::routing::get;
use fallway::adapt::http::{HttpProbe, ProbeBody};
use fallway::adapt::tokio::TokioTimer;
use fallway::backend::{BackendError, BackendId, FailureKind, backend_fn};
use fallway::policy::ordered;
use fallway::router::Probe;
use fallway::signal::{HealthSignal, Probes, Probing};
use fallway::time::Clock;
use fallway::{Profile, Router};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

const SECRET: &str = "sk-very-secret";

type Http = Client<HttpConnector, ProbeBody>;

fn client() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

/// A server whose pages answer with the status they are named after.
async fn site() -> String {
    let endless = || futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 8192]));
    let site = Site::new()
        .route("/health", get(|| async { "well" }))
        .route("/status/{code}", get(|Path(code): Path<u16>| async move { StatusCode::from_u16(code).unwrap() }))
        .route("/moved", get(|| async { Redirect::temporary("/health") }))
        .route("/endless", get(move || async move { Body::from_stream(endless()) }))
        .route(
            "/base/v1/models",
            get(|headers: HeaderMap| async move {
                let expected = format!("Bearer {SECRET}");
                match headers.get(header::AUTHORIZATION) {
                    Some(key) if *key == expected => StatusCode::OK,
                    _ => StatusCode::UNAUTHORIZED,
                }
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, site).await });
    format!("http://{address}")
}

/// How a check of `base` at `path` ends.
async fn check(base: &str, path: &str) -> Result<(), FailureKind> {
    let base = base.to_owned();
    let probe = HttpProbe::new(client(), move |_| base.parse().ok()).path(path.parse().unwrap());
    probe.probe(BackendId::new(0, 0), &Profile::new("a")).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn a_status_decides_redirects_are_not_followed_and_bodies_end() {
    let site = site().await;
    assert_eq!(check(&site, "/health").await, Ok(()));
    assert_eq!(check(&site, "/status/204").await, Ok(()));
    assert_eq!(check(&site, "/endless").await, Ok(()));
    for (path, kind) in [
        ("/status/500", FailureKind::ServerError),
        ("/status/503", FailureKind::Overloaded),
        ("/status/429", FailureKind::RateLimited),
        ("/status/401", FailureKind::Unauthorized),
        ("/nowhere", FailureKind::ModelUnavailable),
        ("/moved", FailureKind::Protocol),
    ] {
        assert_eq!(check(&site, path).await, Err(kind), "{path}");
    }
    assert_eq!(check("http://127.0.0.1:1", "/health").await, Err(FailureKind::Unreachable));
    assert_eq!(check("no address at all", "/health").await, Err(FailureKind::InvalidRequest));
}

#[tokio::test]
async fn headers_are_sent_and_never_shown() {
    let site = site().await;
    let probe = |key: &str, base: String| {
        let value = format!("Bearer {key}").parse().unwrap();
        HttpProbe::new(client(), move |_| base.parse().ok())
            .path("/v1/models?beta=1".parse().unwrap())
            .header(header::AUTHORIZATION, value)
    };
    let well = probe(SECRET, format!("{site}/base/"));
    well.probe(BackendId::new(0, 0), &Profile::new("a")).await.unwrap();
    let refused = probe("other", format!("{site}/base"));
    let error = refused.probe(BackendId::new(0, 0), &Profile::new("a")).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unauthorized);
    let away = probe(SECRET, format!("http://user:{SECRET}@127.0.0.1:1/?key={SECRET}"));
    let error = away.probe(BackendId::new(0, 0), &Profile::new("a")).await.unwrap_err();
    let shown = format!("{well:?} {away:?} {error:?} {error}");
    assert!(!shown.contains(SECRET) && shown.contains("authorization"), "{shown}");
}

#[tokio::test]
async fn a_prober_finds_the_server_that_is_down() {
    let site = site().await;
    let probes = Arc::new(
        Probes::new(Probing::default().every(Duration::from_millis(50)).limit(Duration::from_millis(50))).unwrap(),
    );
    let model = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
    let router = Router::builder(ordered())
        .backend(Profile::new("down"), model())
        .backend(Profile::new("up"), model())
        .signal(probes.clone())
        .timer(TokioTimer::default())
        .build()
        .unwrap();
    let probe = HttpProbe::new(client(), move |profile| match profile.id() {
        "up" => site.parse().ok(),
        _ => "http://127.0.0.1:1".parse().ok(),
    });
    let prober = tokio::spawn(router.probe(probes.clone(), probe));
    let score = |name: &str| super::fresh(probes.read(router.backend_id(name).unwrap(), Clock.now()));
    let found = async {
        while (score("down"), score("up")) != (Some(0), Some(1000)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.expect("it finds out");
    drop(router);
    tokio::time::timeout(Duration::from_secs(30), prober).await.expect("it ends with the router").unwrap();
}
