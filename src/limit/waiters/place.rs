//! [`Place`]: where a request stands in the queue, and what has happened to it.

use super::call_time::CallTime;
use super::order::{Before, Class, Lack, Order, PlaceId, Spot, Standing, Want};
use super::{Call, LOOKS_AFTER};
use crate::backend::BackendId;
use crate::time::Instant;
use crate::unwind::contain;
use std::sync::Arc;
use std::task::Waker;

#[derive(Debug)]
pub(super) struct Place<S> {
    pub(super) standing: Standing,
    /// Where it stands in the order; `None` where it was called since, or has not said what it waits for.
    pub(super) spot: Option<Spot>,
    pub(super) state: State<S>,
    /// When its owner is to look after what refills.
    pub(super) alarm: Option<Instant>,
    /// Its owner has not seen as yet to when that was moved.
    pub(super) moved: bool,
    /// Its owner is to decide when the alarm rings: it has stepped back somewhere, or rests.
    pub(super) decides: bool,
    /// Where something was kept for it, since it said last what it waits for.
    pub(super) kept_at: Vec<BackendId>,
    /// Of its flow, since it said what it waits for.
    pub(super) call_time: Option<Arc<CallTime>>,
    /// Which class it was called out of, for the case that it passes its slot on.
    pub(super) class: Option<Class>,
    /// Of which backend it passed a slot on when it decided last.
    pub(super) passed_on: Option<BackendId>,
    /// What its flow had left of its turn when all were called: nobody begins a turn anew by that.
    pub(super) left: Option<u32>,
}

#[derive(Debug)]
pub(super) enum State<S> {
    /// Its owner is deciding.
    Awake,
    /// Its owner sleeps.
    Asleep(Sleeper),
    /// Something happened since its owner decided last.
    Called(Call<S>),
}

/// Who sleeps, and how to wake it.
#[derive(Debug)]
pub(super) struct Sleeper(pub(super) Waker);

impl Sleeper {
    /// A waker is an executor's, and may panic. That is its sleeper's misfortune: others are woken after it, and who wakes is in
    /// the middle of giving something back.
    pub(super) fn wake(self) {
        contain(|| self.0.wake());
    }
}

impl<S> Place<S> {
    pub(super) const fn new(standing: Standing) -> Self {
        Self {
            standing,
            spot: None,
            state: State::Awake,
            alarm: None,
            moved: false,
            decides: false,
            kept_at: Vec::new(),
            call_time: None,
            class: None,
            passed_on: None,
            left: None,
        }
    }

    /// Where it stands, or stood: it is to enter.
    pub(super) fn stood(&mut self) -> Before {
        let left = self.left.take();
        self.spot.take().map_or(Before::Nowhere { left }, Before::At)
    }

    pub(super) fn enter(&mut self, id: PlaceId, order: &mut Order, wants: &[Want]) {
        let before = self.stood();
        self.spot = Some(order.enter(id, &self.standing, before, wants));
    }

    /// What it waits for.
    pub(super) fn wants<'o>(&self, order: &'o Order) -> &'o [Want] {
        self.spot.as_ref().map_or(&[], |spot| order.wants(spot))
    }

    /// A quota refills too late for it there. It steps behind those who have the time, or it would be looked at before them for
    /// each slot that is freed; and looks by itself as well whether calls have given enough back. Returns whom to wake so that it knows.
    pub(super) fn step_back_at(
        &mut self,
        backend: BackendId,
        id: PlaceId,
        order: &mut Order,
        now: Instant,
    ) -> Option<Sleeper> {
        let others = self.wants(order).iter().copied().filter(|want| want.backend != backend);
        let mut wants: Vec<_> = others.chain([Want { backend, lack: Lack::Late }]).collect();
        wants.sort_unstable();
        self.enter(id, order, &wants);
        self.kept_at.retain(|at| *at != backend);
        self.decides = true;
        self.looks_at(now + LOOKS_AFTER)
    }

    /// Whom it speaks for where it stands.
    pub(super) fn class(&self) -> Option<Class> {
        self.spot.as_ref().map(|spot| (spot.lane, self.standing.priority))
    }

    /// Something is kept for it there.
    pub(super) fn keep_at(&mut self, backend: BackendId) {
        if !self.kept_at.contains(&backend) {
            self.kept_at.push(backend);
        }
    }

    /// Calls it, and returns whom to wake.
    pub(super) fn call(&mut self, call: Call<S>) -> Option<Sleeper> {
        match std::mem::replace(&mut self.state, State::Called(call)) {
            State::Asleep(sleeper) => Some(sleeper),
            State::Awake | State::Called(_) => None,
        }
    }

    /// Its owner is to look then, or earlier. Returns whom to wake so that it knows.
    pub(super) fn looks_at(&mut self, at: Instant) -> Option<Sleeper> {
        if self.alarm.is_some_and(|alarm| alarm <= at) {
            return None;
        }
        (self.alarm, self.moved) = (Some(at), true);
        match std::mem::replace(&mut self.state, State::Awake) {
            State::Asleep(sleeper) => Some(sleeper),
            state => {
                self.state = state;
                None
            }
        }
    }

    /// What it was called with, once; that it was shed for good.
    pub(super) fn answer(&mut self) -> Option<Call<S>> {
        match &mut self.state {
            State::Called(Call::Shed) => Some(Call::Shed),
            State::Called(call) => {
                let call = std::mem::replace(call, Call::News);
                self.state = State::Awake;
                Some(call)
            }
            State::Awake | State::Asleep(_) => None,
        }
    }
}
