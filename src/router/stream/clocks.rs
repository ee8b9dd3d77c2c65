//! [`Clocks`]: the idle gap and the deadline of a stream.

use crate::time::{Instant, Sleep, Timer};
use std::task::{Context, Poll};
use std::time::Duration;

/// The clocks of a stream that has begun. They are looked at while the router waits for the backend, and at no other time:
/// a reader that takes its time is not a backend that stalls.
pub(super) struct Clocks {
    idle_limit: Duration,
    deadline: Instant,
    /// Since when it waits for an item.
    waits: Option<Instant>,
    /// For how long it waited for items, in nanoseconds.
    waited: u64,
    /// Left armed when an item comes, and armed anew only when it rings too early: items cost no timer each.
    alarm: Option<(Instant, Sleep)>,
}

/// Which clock ran out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RanOut {
    Idle,
    Deadline,
}

impl Clocks {
    pub(super) const fn new(idle_limit: Duration, deadline: Instant) -> Self {
        Self { idle_limit, deadline, waits: None, waited: 0, alarm: None }
    }

    pub(super) const fn idle_limit(&self) -> Duration {
        self.idle_limit
    }

    /// An item is there. False where it came too late: a stream that never pauses ends too.
    pub(super) fn item(&mut self, now: Instant) -> bool {
        if let Some(since) = self.waits.take() {
            self.waited += now.nanos_since(since);
        }
        now < self.deadline
    }

    /// For how long the router waited for items until now, in nanoseconds.
    pub(super) const fn waited(&self) -> u64 {
        self.waited
    }

    /// As [`waited`](Self::waited), with the wait that is not over.
    pub(super) fn waited_until(&self, now: Instant) -> u64 {
        self.waited + self.waits.map_or(0, |since| now.min(self.deadline).nanos_since(since))
    }

    /// There is no item: whether there will be none.
    pub(super) fn poll(&mut self, timer: &dyn Timer, cx: &mut Context<'_>) -> Poll<RanOut> {
        loop {
            let now = timer.now();
            let waits = *self.waits.get_or_insert(now);
            let due = self.deadline.min(waits + self.idle_limit);
            if now >= due {
                return Poll::Ready(if now < self.deadline { RanOut::Idle } else { RanOut::Deadline });
            }
            let (_, sleep) = match &mut self.alarm {
                Some(alarm) if alarm.0 <= due => alarm,
                alarm => alarm.insert((due, timer.sleep_until(due))),
            };
            std::task::ready!(sleep.as_mut().poll(cx));
            self.alarm = None;
        }
    }

    /// Nothing is waited for any more.
    pub(super) fn stop(&mut self) {
        self.alarm = None;
    }
}
