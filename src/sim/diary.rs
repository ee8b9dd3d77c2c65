//! What routers tell of backends that leave and come back.

use super::clock::ORIGIN;
use crate::event::{Event, Observer};
use crate::time::Instant;
use parking_lot::Mutex;
use std::sync::Arc;

/// A router took a backend out, or let it back.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Transition {
    /// When, in seconds since the start, on the routers' clock.
    pub at: f64,
    /// Which router.
    pub router: u32,
    /// The server, by its position in the world.
    pub server: u32,
    /// Whether it is out now.
    pub out: bool,
}

/// The transitions of all routers of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Diary(Arc<Mutex<Vec<Transition>>>);

/// Writes the diary for one router.
#[derive(Debug)]
struct Writer(Diary, u32);

impl Diary {
    pub(super) fn of(&self, router: usize) -> impl Observer + use<> {
        Writer(self.clone(), router as u32)
    }

    pub(super) fn entries(&self) -> Vec<Transition> {
        self.0.lock().clone()
    }
}

impl Observer for Writer {
    fn on_event(&self, event: &Event<'_>, now: Instant) {
        if let Event::Transition { backend, out, .. } = event {
            let at = now.as_nanos().saturating_sub(ORIGIN) as f64 / 1e9;
            let (router, server) = (self.1, backend.slot() as u32);
            self.0.0.lock().push(Transition { at, router, server, out: out.is_some() });
        }
    }
}
