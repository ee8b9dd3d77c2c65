//! Fail-safe routing for AI inference traffic: an embeddable, runtime-agnostic library with a reason for every decision.
//!
//! ```
//! use fallway::backend::{BackendError, backend_fn};
//! use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
//! use fallway::{CallOptions, Facts, Profile, Router};
//! use std::time::Duration;
//!
//! # futures::executor::block_on(async {
//! // Stands for your client: anything async that classifies its failures.
//! let model = |name| backend_fn(move |_: &str, _: &_| async move { Ok::<_, BackendError>(format!("says {name}")) });
//!
//! let policy = predicted_ttft().fail_safe(FailSafe::default().tiers("chat", ["llama-70b", "llama-8b"]));
//! let router = Router::builder(policy)
//!     .backend(Profile::new("eu-a").model("llama-70b@3").region("eu-west").concurrency(64), model("eu-a"))
//!     .backend(Profile::new("eu-small").model("llama-8b").region("eu-north"), model("eu-small"))
//!     .build()?;
//!
//! let facts = Facts::model("chat").prompt_tokens(900).residency(["eu-west", "eu-north"]).replay_safe();
//! let reply = router.call("Hello", CallOptions::within(Duration::from_secs(8)).facts(facts)).await?;
//! assert_eq!(reply.response(), "says eu-a");
//! println!("{}", reply.decision());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Every choice is made by a synchronous, pure function over what is known; a small async driver carries it out and
//! feeds the outcome back. The same policies therefore run in production, in a test with a clock set by hand, and in a
//! dry run that explains where a request *would* go.
//!
//! ```text
//!             facts, time left          ┌────── decide: sync, pure, seeded ──────┐
//!  request ────────────────────────────►│ fail_safe( predicted_ttft ) over a     │
//!                                       │ Slate of candidates                    │──► Decision: call, wait,
//!  load, latency, health, fleet ───────►└────────────────────────────────────────┘    last resort or refuse
//!         ▲                                                                                     │
//!         │                                                                                     ▼
//!         └──────────── started, first item, ended(outcome) ◄──────────── driver: lease, call, time out, stream
//! ```
//!
//! # Concepts
//!
//! - A [`Backend`] serves requests; its [`Profile`] says what it is, where it stands and what it can take. All backends
//!   of a router are its *fleet*, one immutable generation, changed in one step by [`Router::update`].
//! - [`Facts`] are what the router may know of a request: everything but its payload. [`CallOptions`] add the deadline,
//!   of which there is always one.
//! - A [`RoutingPolicy`] marks the candidates on a [`Slate`](policy::Slate): a *leaf* ranks them, a *wrapper* adds to what
//!   the policy inside says. [`fail_safe`](PolicyExt::fail_safe) is the outermost: it owns tiers, retries and the order of
//!   degradation.
//! - A [`Decision`] is the slate when all have spoken, so it *is* the explanation. It prints, serializes (feature `serde`)
//!   and [replays](Router::replay) to the same choice.
//! - Failures are classified once, in a [`BackendError`] of some [`FailureKind`]; the router's
//!   [conduct](FailureKind::conduct) follows from the kind alone.
//! - A backend that fails leaves the running and returns by evidence: one probe, then a growing share. See
//!   [`Ejection`](recover::Ejection). Several that fail together go out, and return, as one
//!   [failure domain](Profile::failure_domain).
//! - A [`HealthSignal`] is an opinion on backends' health: from outcomes, checks, load reports or people, see
//!   [`signal`]. An [`Observer`](event::Observer) is where the host watches.
//! - The model registry (feature `registry`) knows versions, aliases, prices and where they run. A router
//!   [reads](router::Builder::registry) one view of it for each request.
//! - A decision keeps the ledger of its attempts, with what each [cost](decision::Cost) or may have cost. [`Facts::max_cost`] caps a
//!   request over all of them, a [`SpendLimit`](shape::SpendLimit) a tenant.
//! - A [`Routed`] is the answer with the lease on its backend's capacity. A [`Streamed`](router::Streamed) is one that arrives
//!   bit by bit ([`Router::stream`]): whatever fails before its first content fails over, and after that it is whole, or says
//!   what was delivered. A [`RouteError`] carries the last decision and every attempt.
//!
//! # Features
//!
//! Nothing is on by default: the core needs no runtime, no serializer and no HTTP stack. It spawns no task; the only
//! thread is that of the portable timer.
//!
//! | feature | adds | default |
//! | --- | --- | --- |
//! | `http` | `adapt::http::HttpProbe`, health checks by `GET`, on the HTTP client of the host | off |
//! | `registry` | `registry`: models, versions, prices and aliases as validated snapshots, with rollouts, rollback and a store that survives crashes | off |
//! | `serde` | `Serialize` for decisions, facts, profiles, reasons and kinds of failure and error | off |
//! | `signed` | `registry::signed`: publications signed with ed25519, with expiry and key rotation | off |
//! | `sim` | `sim`: virtual time, simulated servers, faults and workloads, what others do as policies, comparisons; for tests; with `registry` | off |
//! | `tokio` | `adapt::tokio::TokioTimer`, which sleeps on the timer wheel of tokio instead of the portable timer thread | off |
//!
//! Minimum supported Rust version: 1.93.

#![forbid(unsafe_code)]
#![warn(clippy::disallowed_methods)]

pub mod adapt;
pub mod backend;
pub mod budget;
pub(crate) mod bug;
pub mod decision;
pub mod event;
pub mod facts;
pub(crate) mod fleet;
pub mod limit;
pub mod policy;
pub(crate) mod prefix;
pub mod recover;
#[cfg(feature = "registry")]
pub mod registry;
pub mod rng;
pub mod router;
pub mod shape;
pub mod signal;
#[cfg(feature = "sim")]
pub mod sim;
pub(crate) mod sync;
pub mod time;
pub(crate) mod unwind;

pub use backend::{Backend, BackendError, FailureKind};
pub use decision::Decision;
pub use facts::{Facts, Profile};
pub use policy::{PolicyExt, RoutingPolicy};
pub use router::{BuildError, CallOptions, RouteError, Routed, Router};
pub use signal::HealthSignal;

/// Every Rust snippet of the prose is a doctest.
#[cfg(doctest)]
mod prose {
    macro_rules! pages {
        ($($name:ident: $path:literal),* $(,)?) => {$(
            #[doc = include_str!($path)]
            struct $name;
        )*};
    }

    pages! {
        Readme: "../README.md",
        Architecture: "../docs/architecture.md",
        Benchmarks: "../docs/benchmarks.md",
        Concepts: "../docs/concepts.md",
        Contributing: "../docs/contributing.md",
        Defaults: "../docs/defaults.md",
        Failures: "../docs/failures.md",
        Budgets: "../docs/guide/budgets.md",
        Capacity: "../docs/guide/capacity.md",
        Costs: "../docs/guide/costs.md",
        Hedging: "../docs/guide/hedging.md",
        Isolation: "../docs/guide/isolation.md",
        Prefix: "../docs/guide/prefix.md",
        Queue: "../docs/guide/queue.md",
        Quotas: "../docs/guide/quotas.md",
        Regions: "../docs/guide/regions.md",
        Recovery: "../docs/guide/recovery.md",
        Shaping: "../docs/guide/shaping.md",
        Streaming: "../docs/guide/streaming.md",
    }

    // Its HTTP check needs the feature.
    #[cfg(feature = "http")]
    pages! {
        Health: "../docs/guide/health.md",
    }

    #[cfg(feature = "registry")]
    pages! {
        Registry: "../docs/guide/registry.md",
    }

    #[cfg(feature = "sim")]
    pages! {
        Simulator: "../docs/simulator.md",
    }
}
