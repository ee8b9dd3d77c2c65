//! Virtual time.

use fallway::time::{Instant, Sleep, Timer};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A clock that stands still until it is set, and wakes those whose moment has come.
#[derive(Clone, Debug)]
pub(crate) struct VirtualTimer(Arc<Clock>);

#[derive(Debug)]
struct Clock {
    now: AtomicU64,
    next_key: AtomicU64,
    sleepers: Mutex<BTreeMap<(Instant, u64), Waker>>,
}

impl VirtualTimer {
    /// A clock that shows a thousand seconds.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Clock {
            now: AtomicU64::new(1_000_000_000_000),
            next_key: AtomicU64::new(0),
            sleepers: Mutex::default(),
        }))
    }

    /// Sets the clock, also backwards, and wakes whose moment has come.
    pub(crate) fn set(&self, now: Instant) {
        self.0.now.store(now.as_nanos(), Ordering::SeqCst);
        let due = {
            let mut sleepers = self.0.sleepers.lock().unwrap();
            let later = sleepers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut *sleepers, later)
        };
        due.into_values().for_each(Waker::wake);
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.set(self.now() + by);
    }

    /// The earliest moment that somebody sleeps for.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.0.sleepers.lock().unwrap().keys().next().map(|(at, _)| *at)
    }

    pub(crate) fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }
}

impl Timer for VirtualTimer {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.now.load(Ordering::SeqCst))
    }

    fn sleep_until(&self, at: Instant) -> Sleep {
        let key = self.0.next_key.fetch_add(1, Ordering::Relaxed);
        Box::pin(Nap { timer: self.clone(), at, key })
    }
}

struct Nap {
    timer: VirtualTimer,
    at: Instant,
    key: u64,
}

impl Future for Nap {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.now() >= self.at {
            return Poll::Ready(());
        }
        self.timer.0.sleepers.lock().unwrap().insert((self.at, self.key), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        self.timer.0.sleepers.lock().unwrap().remove(&(self.at, self.key));
    }
}
