//! Streams as a whole, and each of their items.

use super::item::Item;
use super::{allocations, asking, boxed, facts, fleet, hedged, teach};
use fallway::backend::{Attempt, Backend, BackendError};
use fallway::decision::Hedged;
use fallway::router::{Interrupted, Piece, Resume};
use fallway::{CallOptions, Profile, Router};
use futures::executor::block_on;
use futures::{Stream, StreamExt};
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A backend that answers with this many items, each of which has to be waited for if it `waits`.
struct Streams {
    items: u32,
    waits: bool,
}

struct Items {
    left: u32,
    waits: bool,
    ready: bool,
}

impl Stream for Items {
    type Item = Result<Item, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.waits && !std::mem::replace(&mut self.ready, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.ready = false;
        self.left -= 1;
        Poll::Ready(Some(Ok(Item { last: self.left == 0 })))
    }
}

#[async_trait::async_trait]
impl Backend<str> for Streams {
    type Response = Items;

    async fn call(&self, _: &str, _: &Attempt) -> Result<Items, BackendError> {
        Ok(Items { left: self.items, waits: self.waits, ready: false })
    }
}

fn streaming(items: u32, waits: bool) -> Router<str, Items> {
    let profiles = (0..8).map(|n| Profile::new(format!("b{n}")).model("m@1"));
    fleet(hedged(), profiles, || boxed(Streams { items, waits })).build().unwrap()
}

/// Notes what it is shown, and keeps nothing.
struct Notes(u64);

impl Resume<str, Item> for Notes {
    fn delivered(&mut self, _: &Item) {
        self.0 += 1;
    }
    fn resume(&mut self, _: &Interrupted) -> Option<Box<str>> {
        None
    }
}

#[test]
fn an_item_of_a_stream_allocates_nothing() {
    for waits in [false, true] {
        let router = streaming(40_000, waits);
        let options = CallOptions::within(Duration::from_secs(60)).facts(facts());
        let mut stream = block_on(router.stream("hi", options.clone())).unwrap();
        let next = || assert!(black_box(block_on(stream.next())).unwrap().is_ok());
        assert_eq!(allocations(100, 10_000, next), 0, "waits: {waits}");

        let mut stream = block_on(router.stream("hi", options)).unwrap().resume(Notes(0));
        let next = || assert!(matches!(black_box(block_on(stream.next())), Some(Ok(Piece::Item(_)))));
        assert_eq!(allocations(100, 10_000, next), 0, "with a hook, waits: {waits}");
    }
}

#[test]
fn a_stream_allocates_once_more_than_a_call() {
    let router = streaming(3, false);
    let options = asking(facts());
    teach(&router, &options);
    let made = allocations(200, 1_000, || {
        block_on(async {
            let mut stream = router.stream("hi", options.clone()).await.unwrap();
            assert!(matches!(stream.decision().hedged(), Hedged::Due { .. }));
            while let Some(item) = stream.next().await {
                assert!(black_box(item).is_ok());
            }
        });
    });
    println!("a stream of three items: {:.3} allocations", made as f64 / 1_000.0);
    // The boxed call itself, and the tab and the attempts of every call; the queue of what came before the content.
    assert!((1..=4_000).contains(&made), "{made} allocations in 1,000 streams");
}
