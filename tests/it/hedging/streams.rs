//! Hedged streams: until the first content, and never after.

use super::{AFTER, Scene, half, options};
use crate::support::{Act, Step, Token, ms, secs};
use fallway::FailureKind;
use futures::StreamExt;
use std::time::Duration;

fn tokens(first: Vec<Step>) -> Act {
    Act::Stream(Duration::ZERO, first)
}

/// Reads the stream to its end: who answered, what came, and when the first content did.
fn read(scene: &Scene) -> (Option<String>, Vec<Result<Token, FailureKind>>, Duration) {
    let (stream, took) = scene.world.timed(|| scene.world.stream(&scene.router, options()).unwrap());
    let backend = stream.backend().map(str::to_owned);
    let items = scene.world.block_on(async move {
        stream.map(|item| item.map_err(|interrupted| interrupted.kind())).collect::<Vec<_>>().await
    });
    (backend, items, took)
}

/// The two requests that save up for a hedge are plain calls.
#[test]
fn a_role_is_no_beginning() {
    let slow = tokens(vec![Step::Role, Step::Pause(secs(5)), Step::Item]);
    let scene = Scene::new(slow, tokens(vec![Step::Role, Step::Pause(ms(40)), Step::Item, Step::Item]), Act::Hang);
    let (backend, items, took) = read(&scene);
    assert_eq!((backend.as_deref(), took), (Some("b"), AFTER + ms(40)));
    // What the loser had sent is dropped unseen.
    assert_eq!(items, [Token::Role, Token::Number(1), Token::Number(2), Token::Done].map(Ok));
    assert_eq!(scene.calls(), [1, 1, 0]);
}

#[test]
fn once_content_came_nothing_is_hedged() {
    let steps = vec![Step::Item, Step::Pause(secs(3)), Step::Item];
    let scene = Scene::new(tokens(steps), tokens(vec![Step::Item]), Act::Hang);
    let (backend, items, _) = read(&scene);
    assert_eq!(backend.as_deref(), Some("a"));
    assert_eq!(items, [Token::Number(1), Token::Number(2), Token::Done].map(Ok));
    assert_eq!(scene.calls(), [1, 0, 0]);
}

#[test]
fn a_stream_that_breaks_before_its_content_leaves_it_to_the_other() {
    for (first, second, winner) in [
        (vec![Step::Pause(ms(150)), Step::Break(FailureKind::Protocol)], vec![Step::Pause(ms(90)), Step::Item], "b"),
        (vec![Step::Pause(ms(250)), Step::Item], vec![Step::Role, Step::Pause(ms(20)), Step::Close], "a"),
        (vec![Step::Pause(ms(250)), Step::Item], vec![Step::Pause(ms(20)), Step::Panic], "a"),
    ] {
        let scene = Scene::new(tokens(first), tokens(second), Act::Hang);
        let (backend, items, _) = read(&scene);
        assert_eq!((backend.as_deref(), items), (Some(winner), vec![Ok(Token::Number(1)), Ok(Token::Done)]));
        assert_eq!(scene.calls(), [1, 1, 0]);
    }
}

#[test]
fn the_rest_of_a_broken_stream_is_not_hedged() {
    use fallway::router::{Interrupted, Piece, Resume};
    struct Rest(u32);
    impl Resume<str, Token> for Rest {
        fn delivered(&mut self, _: &Token) {
            self.0 += 1;
        }
        fn resume(&mut self, _: &Interrupted) -> Option<Box<str>> {
            Some(format!("ask after {}", self.0).into())
        }
    }
    let slow = vec![Step::Pause(secs(1)), Step::Item];
    let profiles = ["a", "b", "c"].map(fallway::Profile::new);
    let acts = [tokens(vec![Step::Item, Step::Close]), tokens(slow.clone()), tokens(slow)];
    let scene = Scene::with(half(), profiles, acts, |builder| builder);
    let stream = scene.world.stream(&scene.router, options()).unwrap().resume(Rest(0));
    let pieces = scene.world.block_on(stream.collect::<Vec<_>>());
    let items: Vec<_> =
        pieces.iter().filter_map(|it| if let Ok(Piece::Item(it)) = it { Some(*it) } else { None }).collect();
    assert_eq!(items, [Token::Number(1), Token::Number(2), Token::Done], "{pieces:?}");
    assert_eq!(scene.calls(), [1, 1, 0]);
}
