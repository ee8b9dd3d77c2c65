//! [`Sent`]: which prefixes a router sent where, as routers that are made for prefix caches remember it.

use super::Learner;
use crate::event::Event;
use crate::facts::Facts;
use crate::sim::cache::PrefixCache;
use crate::sim::{Desk, Request};
use crate::time::Instant;
use parking_lot::Mutex;

/// The blocks that this router sent to each server, least recently used first out.
#[derive(Debug)]
pub(super) struct Sent(Mutex<Vec<PrefixCache>>);

impl Sent {
    /// With room for so many blocks for each server.
    pub(super) fn new(desk: &Desk, blocks: usize) -> Self {
        Self(Mutex::new((0..desk.servers()).map(|_| PrefixCache::new(blocks)).collect()))
    }

    /// How many leading tokens of the prompt a server was sent before.
    pub(super) fn tokens(&self, server: usize, facts: &Facts) -> u64 {
        let blocks = facts.prompt_prefix().map_or(0, |prefix| self.0.lock()[server].hit(prefix.hashes()));
        (blocks as u64 * u64::from(Request::BLOCK)).min(facts.input_tokens())
    }
}

impl Learner for Sent {
    fn learn(&self, event: &Event<'_>, _: Instant) {
        if let Event::Decided(decision) = event
            && let (Some(chosen), Some(prefix)) = (decision.chosen(), decision.facts().prompt_prefix())
        {
            self.0.lock()[chosen.id().slot()].keep(prefix.hashes());
        }
    }
}
