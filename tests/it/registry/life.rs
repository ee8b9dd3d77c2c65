//! From the first publication to a restart: everything once, as an operator would do it.

use super::fixtures::{at, catalog, on};
use fallway::registry::store::Memory;
use fallway::registry::{Code, Durability, Freshness, Keys, Patch, Publication, Source, State};
use std::time::Duration;

#[test]
fn a_registry_is_published_rolled_out_rolled_back_and_restarted() {
    let disk = Memory::default();
    let registry = on(&disk);
    assert_eq!(registry.view().source(), Source::Nothing);
    assert!(registry.resolve("chat", Keys::seed(1)).is_err());
    let mut news = registry.subscribe();

    // Published once, and not twice on the same expectation.
    let first = Publication::from(catalog()).expect_generation(0);
    let ack = registry.publish(&first, at(0)).unwrap();
    assert_eq!((ack.generation(), ack.durability()), (1, &Durability::Durable));
    assert_eq!(ack.review().diff().added().len(), 3 + 4 + 2);
    assert!(registry.publish(&first, at(0)).unwrap_err().has(Code::Conflict));

    // A request resolves once, and keeps what it found.
    let kept = registry.resolve("chat", Keys::seed(1).session("s")).unwrap();
    assert_eq!(kept.fallback().collect::<Vec<_>>(), ["small"]);
    let origin = kept.provenance(at(90));
    assert_eq!((origin.generation, origin.digest, origin.source), (1, ack.digest(), Source::Live));
    assert_eq!((origin.age, origin.aliases, origin.pinned), (Duration::from_secs(90), vec!["chat"], false));
    assert!(origin.bucket.is_some());

    // The canary grows and takes over; the old version goes.
    assert_eq!(registry.set_canary("chat", "llama-70b@4", 2_500, at(100)).unwrap().generation(), 2);
    assert_eq!(registry.promote("chat", "llama-70b@4", at(200)).unwrap().generation(), 3);
    assert_eq!(registry.resolve("chat", Keys::seed(1)).unwrap().version(), "llama-70b@4");
    let deprecated = registry.deprecate("llama-70b@3", at(9_999), Some("llama-70b@4"), at(300)).unwrap();
    assert_eq!(deprecated.review().diff().changed()[0].as_str(), "/models/llama-70b/versions/3");
    assert_eq!(registry.view().state_of("llama-70b@3"), Some(State::Deprecated));

    // And comes back, as a new generation with old content.
    let back = registry.rollback(Some(1), at(400)).unwrap();
    assert_eq!((back.generation(), back.digest()), (5, ack.digest()));
    assert_eq!(kept.provenance(at(0)).generation, 1, "what a request holds does not change");

    // A part is changed; what time brings is brought by ticks.
    let patch = Publication::from(Patch::new().remove_alias("small")).force("nobody uses it");
    let refused = registry.publish(&patch, at(450)).unwrap_err();
    assert_eq!(refused.violations()[0].path().as_str(), "/aliases/chat/fallback/0");
    registry.pin("chat", "llama-70b@3", at(600), at(500)).unwrap();
    assert!(registry.resolve("chat", Keys::seed(1)).unwrap().provenance(at(500)).pinned);
    registry.quarantine("llama-70b@4", at(500)).unwrap();
    assert_eq!(registry.status(at(500)).quarantined, ["llama-70b@4"]);
    let generation = registry.view().generation();
    let history = registry.history();
    assert_eq!(history.iter().map(|record| record.generation()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(history[4].cause(), "rollback to 1");
    let told: Vec<_> = news.by_ref().map(|change| change.generation()).collect();
    assert_eq!(told, [1, 2, 3, 4, 5, 6, 7]);
    drop(registry);

    // After a restart everything is there: content, history, pins, quarantines.
    let registry = on(&disk);
    let status = registry.status(at(500));
    assert_eq!((status.generation, status.published, status.digest), (generation, 5, ack.digest()));
    assert_eq!((status.source, status.freshness), (Source::Disk, Freshness::Fresh));
    assert_eq!(status.pins.len(), 1);
    assert_eq!(status.quarantined, ["llama-70b@4"]);
    assert_eq!(registry.history(), history);
    assert_eq!(status.tried.len(), 1);
    assert_eq!(status.tried[0].failure(), None);

    // The pin and the quarantine end.
    registry.tick(at(600));
    assert_eq!(registry.status(at(600)).pins, []);
    registry.tick(at(1_100));
    assert_eq!(registry.status(at(1_100)).quarantined, Vec::<String>::new());
    assert_eq!(registry.view().generation(), generation + 2);
}
