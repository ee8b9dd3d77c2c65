//! What a provider lets this router ask in a minute, mirrored on this side.

mod bucket;
#[cfg(all(test, fallway_loom))]
mod models;
#[cfg(all(test, not(fallway_loom)))]
mod tests;
#[cfg(all(test, not(fallway_loom)))]
mod words;

use crate::backend::quota::{Quota, QuotaReport};
use crate::decision::Reason;
use crate::facts::{Need, Profile};
use crate::sync::{AtomicU64, Ordering};
use crate::time::{Instant, nanos};
use bucket::{Bucket, Taken};
use std::time::Duration;

/// The quotas of one backend with its model and credential.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    requests: Bucket,
    tokens: Bucket,
    /// Answers whose usage was not told, or could not be believed.
    doubts: AtomicU64,
}

/// What an attempt took. Comes back exactly once, by [`Quotas::settle`].
#[derive(Debug, Default)]
#[must_use = "a claim that is not settled keeps the estimate"]
pub(crate) struct Claim {
    requests: Taken,
    tokens: Taken,
    at: Instant,
}

/// What an attempt did to the quotas, in the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spent {
    /// It never was counted.
    Nothing,
    /// One request, without tokens.
    Request,
    /// One request and so many tokens; as many as were expected for `None`.
    Tokens(Option<u64>),
}

/// When an attempt took its part, by the clock and among all claims.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    requests: u64,
    tokens: u64,
    at: Instant,
}

impl Claim {
    /// Whether there was any limit when it was taken.
    pub(crate) const fn is_counted(&self) -> bool {
        self.requests.is_counted() || self.tokens.is_counted()
    }

    /// What its answer says is no older, and need not know of what was taken later.
    pub(crate) const fn since(&self) -> Since {
        Since { requests: self.requests.mark(), tokens: self.tokens.mark(), at: self.at }
    }

    /// Whether there was a limit of tokens, so that usage matters.
    pub(crate) const fn counts_tokens(&self) -> bool {
        self.tokens.is_counted()
    }
}

impl Quotas {
    /// The host says what there is. Levels stay in proportion.
    pub(crate) fn tell(&self, profile: &Profile) {
        self.requests.tell(profile.requests_per_minute.unwrap_or(0), profile.request_burst.unwrap_or(0));
        self.tokens.tell(profile.tokens_per_minute.unwrap_or(0), profile.token_burst.unwrap_or(0));
    }

    /// Another key, or another model: what was learned and taken is that of the one before.
    pub(crate) fn renew(&self) {
        self.requests.renew();
        self.tokens.renew();
    }

    /// The limit that the request exceeds, whatever is left.
    #[inline]
    pub(crate) fn too_small(&self, need: Need) -> Option<Reason> {
        let limit = self.tokens.too_small_for(need.least)?;
        Some(Reason::QuotaTooSmall { tokens: need.least, limit })
    }

    /// When there is enough for the request; the origin of time for now.
    #[inline]
    pub(crate) fn returns_at(&self, need: Need, now: Instant) -> Instant {
        self.requests.returns_at(1, now).max(self.tokens.returns_at(need.expected, now))
    }

    /// Takes what the request needs, all or nothing.
    pub(crate) fn take(&self, need: Need, now: Instant) -> Option<Claim> {
        let requests = self.requests.take(1, now)?;
        match self.tokens.take(need.expected, now) {
            Some(tokens) => Some(Claim { requests, tokens, at: now }),
            None => {
                self.requests.settle(requests, 0);
                None
            }
        }
    }

    /// Corrects a claim to what was spent.
    pub(crate) fn settle(&self, claim: &Claim, spent: Spent) {
        if spent == Spent::Nothing {
            self.requests.settle(claim.requests, 0);
        }
        match spent {
            Spent::Nothing | Spent::Request => self.tokens.settle(claim.tokens, 0),
            Spent::Tokens(Some(tokens)) => self.tokens.settle(claim.tokens, tokens),
            Spent::Tokens(None) => {}
        }
    }

    /// The backend refused what `claim` was for, and said for how long if it did: the quota that is nearest to its end
    /// has less than that.
    pub(crate) fn refused(&self, claim: &Claim, hint: Option<Duration>, now: Instant) {
        // Now is too early, whatever else was said.
        let hint = hint.map_or(1, nanos);
        let limited = [(&self.requests, claim.requests), (&self.tokens, claim.tokens)];
        let limited = limited.into_iter().filter(|(bucket, _)| bucket.is_limited());
        if let Some((bucket, taken)) = limited.max_by_key(|(bucket, taken)| bucket.gone_with(*taken, now)) {
            bucket.refused(taken, hint, now);
        }
    }

    /// The answer to the attempt of `since` says what the backend has left. Returns whether it was not known before that there is a limit.
    pub(crate) fn hear(&self, report: &QuotaReport, since: Since, now: Instant) -> bool {
        let Since { requests, tokens, at } = since;
        self.requests.hear(&report.requests, requests, at, now) | self.tokens.hear(&report.tokens, tokens, at, now)
    }

    /// The most tokens of one answer that are believed: a minute's worth, or a whole bucket if that is more. A burst below that
    /// bounds what is sent at once, not how long an answer becomes; and a limit that was heard may have been a mistake.
    pub(crate) fn most_tokens(&self) -> u64 {
        self.tokens.most().max(self.tokens.per_minute()).max(self.tokens.told())
    }

    /// Counts an answer whose usage was not told or not believed; returns how many there were.
    pub(crate) fn doubt(&self) -> u64 {
        self.doubts.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// How many answers were doubted.
    pub(crate) fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Relaxed)
    }

    /// What this router takes for left.
    pub(crate) fn read(&self, now: Instant) -> QuotaReport {
        let quota = |bucket: &Bucket| match bucket.read(now) {
            Some((limit, remaining)) => Quota {
                limit: Some(limit),
                remaining: Some(remaining),
                resets_in: Some(Duration::from_nanos(bucket.gone(now))),
            },
            None => Quota::default(),
        };
        QuotaReport { requests: quota(&self.requests), tokens: quota(&self.tokens), ..QuotaReport::default() }
    }
}
