//! Virtual time, and an executor that lives in it.

use crate::time::{Instant, Sleep, Timer};
use futures::future::LocalBoxFuture;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A [`Timer`] whose time stands still until it is set. Clones show the same time.
///
/// ```
/// use fallway::sim::{Clock, Executor, secs};
/// use fallway::time::Timer;
/// let executor = Executor::new();
/// let clock = executor.clock().clone();
/// let slept = executor.block_on(async move {
///     let before = clock.now();
///     clock.sleep_until(before + secs(3_600.0)).await;
///     clock.now() - before
/// });
/// assert_eq!(slept, secs(3_600.0));
/// ```
#[derive(Clone)]
pub struct Clock(Arc<Face>);

struct Face {
    now: AtomicU64,
    next_key: AtomicU64,
    sleepers: Mutex<BTreeMap<(Instant, u64), Waker>>,
}

/// What a clock shows at first: a thousand seconds, so that "a minute ago" exists.
pub(super) const ORIGIN: u64 = 1_000_000_000_000;

impl Clock {
    /// A clock that shows a thousand seconds.
    pub fn new() -> Self {
        Self(Arc::new(Face { now: AtomicU64::new(ORIGIN), next_key: AtomicU64::new(0), sleepers: Mutex::default() }))
    }

    /// Sets the clock, also backwards, and wakes whose moment has come.
    pub fn set(&self, now: Instant) {
        self.show(now);
        while self.wake_next() {}
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.set(self.now() + by);
    }

    /// Sleeps for this long.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }

    /// The earliest moment that somebody sleeps for.
    pub fn next_wake(&self) -> Option<Instant> {
        self.0.sleepers.lock().keys().next().map(|(at, _)| *at)
    }

    /// Sets the clock and wakes nobody.
    pub(super) fn show(&self, now: Instant) {
        self.0.now.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Wakes the first whose moment has come; `false` when there is none.
    pub(super) fn wake_next(&self) -> bool {
        let due = {
            let mut sleepers = self.0.sleepers.lock();
            sleepers
                .first_entry()
                .filter(|entry| entry.key().0 <= self.now())
                .map(std::collections::btree_map::OccupiedEntry::remove)
        };
        due.map(Waker::wake).is_some()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

impl Timer for Clock {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.now.load(Ordering::Relaxed))
    }

    fn sleep_until(&self, at: Instant) -> Sleep {
        let key = self.0.next_key.fetch_add(1, Ordering::Relaxed);
        Box::pin(Nap { clock: self.clone(), at, key, registered: false })
    }
}

struct Nap {
    clock: Clock,
    at: Instant,
    key: u64,
    registered: bool,
}

impl Future for Nap {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.at {
            return Poll::Ready(());
        }
        self.registered = true;
        self.clock.0.sleepers.lock().insert((self.at, self.key), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        if self.registered {
            self.clock.0.sleepers.lock().remove(&(self.at, self.key));
        }
    }
}

/// Runs tasks on one thread, in virtual time: when all of them wait, time jumps to the next wake-up. Everything
/// happens in one order, so a run repeats exactly.
pub struct Executor {
    clock: Clock,
    tasks: RefCell<Tasks>,
    ready: Arc<Ready>,
}

#[derive(Default)]
struct Tasks {
    slots: Vec<Option<Task>>,
    free: Vec<usize>,
    alive: usize,
}

struct Task {
    future: LocalBoxFuture<'static, ()>,
    waker: Waker,
}

#[derive(Default)]
struct Ready(Mutex<VecDeque<usize>>);

struct TaskWaker {
    ready: Arc<Ready>,
    task: usize,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.0.lock().push_back(self.task);
    }
}

/// More polls than this without time moving on is a livelock.
const MAX_POLLS: usize = 1_000_000;

impl Executor {
    /// An executor with a clock of its own.
    pub fn new() -> Self {
        Self { clock: Clock::new(), tasks: RefCell::default(), ready: Arc::default() }
    }

    /// Its clock.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Adds a task.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        let slot = tasks.free.pop().unwrap_or_else(|| {
            tasks.slots.push(None);
            tasks.slots.len() - 1
        });
        let waker = Waker::from(Arc::new(TaskWaker { ready: self.ready.clone(), task: slot }));
        tasks.slots[slot] = Some(Task { future: Box::pin(future), waker });
        tasks.alive += 1;
        self.ready.0.lock().push_back(slot);
    }

    /// How many tasks are not done.
    pub fn alive(&self) -> usize {
        self.tasks.borrow().alive
    }

    /// Runs until every task is done.
    ///
    /// # Panics
    ///
    /// When the tasks that are left wait for something that never comes, or are polled for ever at one moment: they
    /// hang.
    pub fn run(&self) {
        loop {
            self.settle();
            if self.alive() == 0 {
                return;
            }
            match self.clock.next_wake() {
                Some(at) => self.clock.set(at),
                None => panic!("hang: {} tasks wait for nothing", self.alive()),
            }
        }
    }

    /// Runs for this long; what is not done then stays.
    ///
    /// # Panics
    ///
    /// When tasks are polled for ever at one moment.
    pub fn run_for(&self, duration: Duration) {
        let end = self.clock.now() + duration;
        loop {
            self.settle();
            match self.clock.next_wake() {
                Some(at) if at <= end => self.clock.set(at),
                _ => break,
            }
        }
        self.clock.set(end);
        self.settle();
    }

    /// Runs until every task is done, this one included, and returns its result.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn block_on<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        self.spawn(async move {
            let value = future.await;
            *slot.borrow_mut() = Some(value);
        });
        self.run();
        result.take().expect("the task is done when no task is left")
    }

    /// Polls whoever is ready until nobody is.
    pub(super) fn settle(&self) {
        for _ in 0..MAX_POLLS {
            let Some(slot) = self.ready.0.lock().pop_front() else { return };
            let Some(mut task) = self.tasks.borrow_mut().slots[slot].take() else { continue };
            let poll = task.future.as_mut().poll(&mut Context::from_waker(&task.waker));
            let mut tasks = self.tasks.borrow_mut();
            match poll {
                Poll::Pending => tasks.slots[slot] = Some(task),
                Poll::Ready(()) => {
                    tasks.free.push(slot);
                    tasks.alive -= 1;
                    // Outside the borrow: what a task owns may spawn when it is dropped.
                    drop(tasks);
                    drop(task);
                }
            }
        }
        panic!("livelock: {MAX_POLLS} polls at {:?}", self.clock.now());
    }
}

impl Default for Executor {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("clock", &self.clock).field("alive", &self.alive()).finish_non_exhaustive()
    }
}
