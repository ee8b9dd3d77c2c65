//! A single-threaded executor that jumps to the next wake-up.

use super::{Answered, Begun, Reply, Script, Scripted, TestRouter, VirtualTimer};
use fallway::router::Builder;
use fallway::time::{Instant, Timer};
use fallway::{CallOptions, Profile, Router, RoutingPolicy};
use futures::future::LocalBoxFuture;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Runs tasks in virtual time. Everything in it happens on one thread and in one order, so a run repeats exactly.
pub(crate) struct World {
    timer: VirtualTimer,
    tasks: RefCell<Vec<Option<LocalBoxFuture<'static, ()>>>>,
    ready: Arc<Ready>,
}

/// The result of a spawned task, once it is there.
pub(crate) struct Task<T>(Rc<RefCell<Option<T>>>);

#[derive(Default)]
struct Ready(Mutex<VecDeque<usize>>);

struct TaskWaker {
    ready: Arc<Ready>,
    task: usize,
}

/// More polls than this without time moving on is a livelock.
const MAX_POLLS: usize = 1_000_000;

impl World {
    pub(crate) fn new() -> Self {
        Self { timer: VirtualTimer::new(), tasks: RefCell::default(), ready: Arc::default() }
    }

    pub(crate) fn timer(&self) -> &VirtualTimer {
        &self.timer
    }

    pub(crate) fn now(&self) -> Instant {
        self.timer.now()
    }

    /// A router of this world, with a fixed seed.
    pub(crate) fn router(&self, policy: impl RoutingPolicy + 'static) -> Builder<str, Reply> {
        Router::builder(policy).timer(self.timer.clone()).seed(7)
    }

    /// A backend of this world.
    pub(crate) fn backend(&self, name: &str, script: Script) -> Scripted {
        Scripted::new(&self.timer, name, script)
    }

    /// A router with these backends, named by their profiles.
    pub(crate) fn fleet<const N: usize>(
        &self,
        mut builder: Builder<str, Reply>,
        members: [(Profile, Script); N],
    ) -> (TestRouter, [Scripted; N]) {
        let backends = members.map(|(profile, script)| (self.backend(profile.id(), script), profile));
        for (backend, profile) in &backends {
            builder = builder.backend(profile.clone(), backend.clone());
        }
        (builder.build().unwrap(), backends.map(|(backend, _)| backend))
    }

    /// How long something takes.
    pub(crate) fn timed<T>(&self, work: impl FnOnce() -> T) -> (T, Duration) {
        let start = self.now();
        let value = work();
        (value, self.now() - start)
    }

    pub(crate) fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        let mut tasks = self.tasks.borrow_mut();
        tasks.push(Some(Box::pin(async move {
            let value = future.await;
            *slot.borrow_mut() = Some(value);
        })));
        self.ready.0.lock().unwrap().push_back(tasks.len() - 1);
        Task(result)
    }

    /// Runs until every task is done.
    ///
    /// # Panics
    ///
    /// When a task waits for something that never comes, or time does not move on: it hangs.
    pub(crate) fn run(&self) {
        loop {
            self.settle();
            let waiting = self.tasks.borrow().iter().flatten().count();
            match self.timer.next_wake() {
                _ if waiting == 0 => return self.tasks.borrow_mut().clear(),
                Some(at) => self.timer.set(at),
                None => panic!("hang: {waiting} tasks wait for nothing"),
            }
        }
    }

    /// Runs for this long; tasks that are not done then stay.
    pub(crate) fn run_for(&self, duration: Duration) {
        let end = self.now() + duration;
        loop {
            self.settle();
            match self.timer.next_wake() {
                Some(at) if at <= end => self.timer.set(at),
                _ => break,
            }
        }
        self.timer.set(end);
        self.settle();
    }

    pub(crate) fn block_on<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let task = self.spawn(future);
        self.run();
        task.take()
    }

    /// One call, alone in the world.
    pub(crate) fn call(&self, router: &TestRouter, options: CallOptions) -> Answered {
        self.block_on(self.calling(router, options))
    }

    /// One call for a stream, alone in the world.
    pub(crate) fn stream(&self, router: &TestRouter, options: CallOptions) -> Begun {
        let router = router.clone();
        self.block_on(async move { router.stream("ask", options).await })
    }

    /// One call as a task of its own.
    pub(crate) fn spawn_call(&self, router: &TestRouter, options: CallOptions) -> Task<Answered> {
        self.spawn(self.calling(router, options))
    }

    fn calling(&self, router: &TestRouter, options: CallOptions) -> impl Future<Output = Answered> + 'static {
        let router = router.clone();
        async move { router.call("ask", options).await }
    }

    /// Polls whoever is ready until nobody is.
    pub(crate) fn settle(&self) {
        for _ in 0..MAX_POLLS {
            let Some(task) = self.ready.0.lock().unwrap().pop_front() else { return };
            let Some(mut future) = self.tasks.borrow_mut().get_mut(task).and_then(Option::take) else { continue };
            let waker = Waker::from(Arc::new(TaskWaker { ready: self.ready.clone(), task }));
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                self.tasks.borrow_mut()[task] = Some(future);
            }
        }
        panic!("livelock: {MAX_POLLS} polls at {:?}", self.now());
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.0.lock().unwrap().push_back(self.task);
    }
}

impl<T> Task<T> {
    pub(crate) fn is_done(&self) -> bool {
        self.0.borrow().is_some()
    }

    pub(crate) fn take(self) -> T {
        self.0.take().expect("the task is not done")
    }
}

/// Polls a future `polls` times and then drops it. The result is `None` when that came first.
pub(crate) fn dropped_after<T>(polls: usize, future: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
    DroppedAfter { polls, future: Some(Box::pin(future)) }
}

struct DroppedAfter<F> {
    polls: usize,
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for DroppedAfter<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            self.future = None;
            return Poll::Ready(None);
        }
        self.polls -= 1;
        let Some(future) = &mut self.future else { return Poll::Ready(None) };
        let poll = future.as_mut().poll(cx).map(Some);
        if self.polls == 0 && poll.is_pending() {
            self.future = None;
            return Poll::Ready(None);
        }
        poll
    }
}
