//! The word of an operator.

use super::{fresh, heard};
use crate::support::{ANSWER, always, plain, secs};
use fallway::signal::{HealthSignal, Manual, Reading, Scope, Score};
use fallway::{CallOptions, Profile};
use std::sync::Arc;

fn backend(id: &str) -> Scope {
    Scope::Backend(id.into())
}

#[test]
fn the_more_particular_word_counts_until_its_time_is_over() {
    let manual = Arc::new(Manual::default());
    let (world, router, _) = heard([manual.clone() as Arc<dyn HealthSignal>]);
    let [a, b] = ["a", "b"].map(|id| router.backend_id(id).unwrap());
    let score = Score::from_permille;
    let now = world.now();
    manual.say(Scope::Everything, score(900), now, secs(100));
    manual.say(Scope::Region("eu".into()), score(100), now, secs(60));
    manual.say(Scope::Region("us".into()), score(1), now, secs(60));
    manual.say(backend("a"), score(800), now, secs(30));
    let told = |after: u64| [a, b].map(|id| fresh(manual.read(id, now + secs(after))));
    assert_eq!(told(0), [Some(800), Some(100)]);
    assert_eq!(told(29), [Some(800), Some(100)]);
    assert_eq!(told(30), [Some(100), Some(100)]);
    assert_eq!(told(60), [Some(900), Some(900)]);
    assert_eq!(told(100), [None, None]);
    manual.unsay(&backend("a"), now);
    assert_eq!(told(0), [Some(100), Some(100)]);
    manual.say(backend("a"), Score::DEAD, now, secs(0));
    assert_eq!(told(0), [Some(100), Some(100)]);
    assert!(format!("{manual:?}").contains("Region(\"eu\"): 100"), "{manual:?}");
}

#[test]
fn it_speaks_of_those_that_join_or_move_later() {
    let manual = Arc::new(Manual::default());
    let (world, router, _) = heard([manual.clone() as Arc<dyn HealthSignal>]);
    manual.say(backend("d"), Score::DEAD, world.now(), secs(60));
    manual.say(Scope::Region("us".into()), Score::from_permille(300), world.now(), secs(60));
    router.update(|fleet| fleet.add(Profile::new("d"), world.backend("d", always(ANSWER)))).unwrap();
    router.update(|fleet| fleet.reprofile(Profile::new("a").region("us"))).unwrap();
    let told = ["a", "b", "d"].map(|id| fresh(manual.read(router.backend_id(id).unwrap(), world.now())));
    assert_eq!(told, [Some(300), None, Some(0)]);
}

#[test]
fn a_region_said_to_be_down_is_left_and_praise_for_one_hurts_no_other() {
    let manual = Arc::new(Manual::default());
    let (world, router, _) = heard([manual.clone() as Arc<dyn HealthSignal>]);
    let first = || router.explain(&CallOptions::new(plain())).chosen().map(|it| (it.name().to_owned(), it.note()));
    manual.say(backend("b"), Score::WELL, world.now(), secs(60));
    assert_eq!(first(), Some(("a".to_owned(), None)));
    manual.say(backend("a"), Score::DEAD, world.now(), secs(60));
    assert_eq!(first(), Some(("b".to_owned(), None)));
    world.run_for(secs(60));
    assert_eq!(first(), Some(("a".to_owned(), None)));
    assert_eq!(manual.read(router.backend_id("a").unwrap(), world.now()), Reading::Missing);
}
