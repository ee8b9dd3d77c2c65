//! What an attempt used and cost.

use super::{Lease, Limiter, Needs};
use crate::backend::FailureKind;
use crate::bug;
use crate::decision::{AttemptRecord, Cost, Ending, Tokens};
use crate::facts::Profile;
use crate::router::receipt::Quote;
use crate::time::Instant;

impl Lease {
    /// So much content came of its answer.
    pub(in crate::router) const fn received(&mut self, content: u64) {
        self.content = self.content.saturating_add(content);
    }

    /// The attempt as the ledger has it, if it ended so, or goes on. `gave_up`: its time was over.
    pub(in crate::router) fn record(&self, ending: Ending, gave_up: bool, ended: Instant) -> AttemptRecord {
        let (tokens, cost) = self.receipt(ending);
        let Self { number, hedge, started, first, .. } = *self;
        let (backend, profile) = (self.tab.member.id, self.ties.profile.clone());
        let timed_out = gave_up && matches!(ending, Ending::Failed { kind: FailureKind::Timeout });
        let canary_timeout = timed_out && self.limiter == Limiter::Canary;
        AttemptRecord { backend, profile, number, hedge, canary_timeout, started, first, ended, ending, tokens, cost }
    }

    /// Writes in the ledger how the attempt ended.
    pub(in crate::router) fn close(&self, record: &mut AttemptRecord, ending: Ending, ended: Instant) {
        (record.first, record.ended, record.ending) = (self.first, ended, ending);
        (record.tokens, record.cost) = self.receipt(ending);
    }

    /// What it used and cost, if it ended so.
    pub(super) fn receipt(&self, ending: Ending) -> (Tokens, Cost) {
        let told = self.tab.told(self.held.as_ref().is_some_and(|(_, claim, _)| claim.counts_tokens()));
        let of_version = || self.terms.as_ref().and_then(|(names, version)| names.terms(*version).price);
        let price = self.ties.profile.known_price().or_else(of_version);
        self.quote.receipt(price, told, ending, self.first.is_some(), self.content)
    }

    /// What it may cost, in pico-dollars.
    pub(in crate::router) fn at_stake(&self) -> u64 {
        self.quote.most.unwrap_or(u64::MAX)
    }
}

/// Whether spend limits hold for the attempt of this number: for every one.
pub(in crate::router) const fn is_limited(number: u32) -> bool {
    number == 1 || !bug::SPEND_CHECKED_ONCE
}

impl Needs<'_> {
    pub(super) fn quote(&self, profile: &Profile) -> Quote {
        let of_version = || self.terms.and_then(|(names, version)| names.terms(version).price);
        Quote::of(self.facts, profile.known_price().or_else(of_version), self.carried)
    }
}
