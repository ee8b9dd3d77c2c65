//! [`Tab`]: what an attempt used, and what its backend said of its quotas meanwhile.

use super::core::Shared;
use crate::backend::{Billed, FailureKind, Ledger, Usage};
use crate::event::{Doubt, Outcome};
use crate::fleet::Member;
use crate::limit::{Since, Spent};
use crate::signal::QuotaReport;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// No answer has more tokens, not one to a thousand prompts at once: who says so is mistaken, with −1 in an unsigned word or worse.
const MOST_TOKENS: u64 = 1 << 30;

/// Shared by the lease of an attempt and by its backend, which writes on it for as long as the attempt lasts.
pub(super) struct Tab {
    pub(super) shared: Arc<Shared>,
    pub(super) member: Arc<Member>,
    /// When it took its part of the quotas.
    since: Since,
    /// What the answer used, as its backend said last.
    used: Mutex<Option<Usage>>,
    /// It said so at all: most do not, and are asked several times.
    is_used: AtomicBool,
}

impl Tab {
    pub(super) fn new(shared: &Arc<Shared>, member: &Arc<Member>, since: Since) -> Arc<Self> {
        Arc::new(Self {
            shared: shared.clone(),
            member: member.clone(),
            since,
            used: Mutex::default(),
            is_used: AtomicBool::new(false),
        })
    }

    fn last(&self) -> Option<Usage> {
        if self.is_used.load(Ordering::Acquire) { *self.used.lock() } else { None }
    }

    /// The tokens of the answer, as far as its backend said; 0 while it said nothing.
    pub(super) fn output(&self) -> u64 {
        self.told(false).map_or(0, |usage| usage.output_tokens().try_into().unwrap_or(0))
    }

    /// The most that is believed. `limited`: there is a quota of tokens, which makes no more possible than it has.
    fn most(&self, limited: bool) -> u64 {
        if limited { self.member.quotas.most_tokens().min(MOST_TOKENS) } else { MOST_TOKENS }
    }

    /// The tokens that were told and are believed, and why others are not. Without a quota of tokens nobody misses what is not told.
    pub(super) fn read(&self, outcome: Outcome<'_>, limited: bool) -> (Option<u64>, Option<Doubt>) {
        let missing = || (limited && matches!(outcome, Outcome::Success)).then_some(Doubt::Missing);
        match self.last().map(Usage::total) {
            // An answer without tokens there is not.
            None | Some(Some(0)) => (None, missing()),
            Some(None) => (None, Some(Doubt::Negative)),
            Some(Some(tokens)) if tokens > self.most(limited) => (None, Some(Doubt::Absurd { tokens })),
            Some(Some(tokens)) => (Some(tokens), None),
        }
    }

    /// What was told, as far as it is believed as it was told.
    pub(super) fn told(&self, limited: bool) -> Option<Usage> {
        let believed = |tokens: u64| tokens > 0 && tokens <= self.most(limited);
        self.last().filter(|usage| usage.total().is_some_and(believed))
    }

    /// What an attempt that ended so spent of the quotas.
    pub(super) fn spent(outcome: Outcome<'_>, tokens: Option<u64>) -> Spent {
        match outcome {
            Outcome::Failure(error) => match error.kind() {
                FailureKind::Unreachable | FailureKind::RateLimited => Spent::Nothing,
                kind if kind.conduct().billed == Billed::No => Spent::Request,
                _ => Spent::Tokens(tokens),
            },
            // Nobody knows whether the backend goes on after its caller has left.
            Outcome::Success | Outcome::Cancelled | Outcome::Outrun => Spent::Tokens(tokens),
        }
    }
}

impl Ledger for Tab {
    fn used(&self, usage: Usage) {
        *self.used.lock() = Some(usage);
        self.is_used.store(true, Ordering::Release);
    }

    fn quota(&self, report: &QuotaReport) {
        if self.member.quotas.hear(report, self.since, self.shared.timer.now()) {
            self.shared.metered.store(true, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Tab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tab").field("used", &self.last()).finish_non_exhaustive()
    }
}
