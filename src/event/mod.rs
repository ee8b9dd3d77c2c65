//! What happens to attempts, and who watches.

mod cause;

pub use cause::Cause;

use crate::backend::{BackendError, BackendId};
use crate::decision::{Cost, Decision, Reason, Refusal, RegionPhase, Tokens, Unhedged};
use crate::facts::{Facts, Profile};
use crate::time::Instant;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// It answered, completely.
    Success,
    /// It failed.
    Failure(&'a BackendError),
    /// The caller went away: says nothing about the backend.
    Cancelled,
    /// Another attempt of the same request was faster. That is no failure; how long it ran is the least that it would
    /// have taken.
    Outrun,
}

/// Something that happened. All borrow: an observer that keeps anything copies it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The fleet is this from now on: the first event of a router, and one for each
    /// [update](crate::Router::update). No decision is made over a fleet that was not told before.
    Fleet {
        /// Its generation, from 1.
        generation: u64,
        /// All backends with their profiles.
        backends: &'a [(BackendId, Arc<Profile>)],
    },
    /// The policies decided.
    Decided(&'a Decision),
    /// A backend is being called.
    Started {
        /// Which.
        backend: BackendId,
        /// Its profile.
        profile: &'a Profile,
        /// 1 for the first attempt of the request.
        attempt: u32,
        /// It is sent beside another that is slow to begin.
        hedge: bool,
    },
    /// It was time to send a hedge beside an attempt, and none could be: the attempt goes on alone.
    Unhedged {
        /// The backend that is slow to begin.
        backend: BackendId,
        /// Its profile.
        profile: &'a Profile,
        /// Why.
        why: Unhedged,
    },
    /// The first item of a stream arrived, or a whole answer.
    FirstItem {
        /// From which backend.
        backend: BackendId,
        /// Its profile.
        profile: &'a Profile,
        /// Since the call.
        elapsed: Duration,
    },
    /// An attempt ended.
    Ended {
        /// At which backend.
        backend: BackendId,
        /// Its profile.
        profile: &'a Profile,
        /// Since the call.
        elapsed: Duration,
        /// Since the call as well: when its first item came, or the whole of its answer. `None` where nothing came.
        first_item: Option<Duration>,
        /// How.
        outcome: Outcome<'a>,
        /// It was given up because its caller had no more time, too early to tell anything of the backend.
        excused: bool,
        /// The number that all attempts of its request share: the [seed](Decision::seed) of its decisions.
        request: u64,
        /// 1 for the first attempt of the request.
        attempt: u32,
        /// What it used.
        tokens: Tokens,
        /// What it cost. Who goes away takes the request's ledger along: this is where the attempt that was in flight then is
        /// accounted for.
        cost: Cost,
    },
    /// What an answer used, as its backend [told](crate::backend::Attempt::used); or that it did not, where a
    /// [quota of tokens](Profile::tokens_per_minute) depends on it.
    Usage {
        /// Which backend.
        backend: BackendId,
        /// Its profile.
        profile: &'a Profile,
        /// Tokens of prompt and answer that are believed.
        tokens: Option<u64>,
        /// Why they are not those that were told.
        doubt: Option<Doubt>,
        /// How many answers of this backend were doubted so far.
        doubts: u64,
    },
    /// A backend left or came back by itself, its probe failed, or its slow start ended.
    Transition {
        /// Which.
        backend: BackendId,
        /// Its profile.
        profile: &'a Profile,
        /// Why it is out now, and until when; `None` when it is in.
        out: Option<Reason>,
        /// What changed that, with the numbers behind it.
        cause: Cause,
        /// How many times in a row it went out, or stayed out, before a slow start that ended well.
        trips: u32,
    },
    /// A failure domain went out or came back as one, or its probe failed. A [`Transition`](Event::Transition) follows
    /// for each member that left or came back with it.
    DomainTransition {
        /// Its name.
        domain: &'a str,
        /// Until when it is out; `None` when it is back.
        until: Option<Instant>,
        /// What changed that, with the numbers behind it.
        cause: Cause,
        /// How many times in a row it went out, or stayed out.
        trips: u32,
    },
    /// The limit that is [learned](crate::facts::Adaptive) of a backend moved by a fifth since this was told last, and by
    /// one call at least.
    Limit {
        /// Which.
        backend: BackendId,
        /// Its profile.
        profile: &'a Profile,
        /// Calls that might be in flight when this was told last; `None` for no limit.
        from: Option<u32>,
        /// Calls that may be in flight now.
        to: u32,
    },
    /// A region of a model left or came back, by itself, as a policy judges regions.
    Region {
        /// Its name; empty for backends without a region.
        region: &'a str,
        /// The model; `None` for requests of any model.
        model: Option<&'a str>,
        /// The healthy share of its capacity, in thousandths.
        health: u16,
        /// Where it stood.
        from: RegionPhase,
        /// Where it stands.
        to: RegionPhase,
    },
    /// A request got no answer: the last that is told of it. With the answers, these are all requests.
    Refused {
        /// The last decision, with every attempt.
        decision: &'a Decision,
        /// Why.
        why: Refusal,
    },
    /// A copy of a request ended at a [mirror](crate::shape::Mirror). No caller knows of it, and nothing is learned from it.
    Mirrored {
        /// The profile of the mirror's backend.
        profile: &'a Profile,
        /// What was known of the request.
        facts: &'a Facts,
        /// Since the call.
        elapsed: Duration,
        /// How.
        outcome: Outcome<'a>,
    },
    /// A policy, signal or observer panicked; the panic was contained.
    Panicked {
        /// Its name.
        name: &'a str,
    },
}

/// Why the usage of an answer is not taken as it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Doubt {
    /// It was not told, or is zero. What was expected counts.
    Missing,
    /// It is negative. What was expected counts.
    Negative,
    /// It is more than any answer has (2³⁰ tokens), or more than a minute's worth of the quota and than the bucket holds. What was expected
    /// counts.
    Absurd {
        /// Tokens, as they were told.
        tokens: u64,
    },
}

/// Watches a router. Called inline on the request's path: be brief, hand work over, never block.
///
/// A panic is contained and reported to the other observers as [`Event::Panicked`].
///
/// ```
/// use fallway::event::{Event, Observer};
/// use fallway::time::Instant;
///
/// #[derive(Debug)]
/// struct Log;
///
/// impl Observer for Log {
///     fn on_event(&self, event: &Event<'_>, _now: Instant) {
///         if let Event::Ended { profile, outcome, elapsed, .. } = event {
///             println!("{} {outcome:?} after {elapsed:?}", profile.id());
///         }
///     }
/// }
/// ```
pub trait Observer: fmt::Debug + Send + Sync + 'static {
    /// Takes note of `event`.
    fn on_event(&self, event: &Event<'_>, now: Instant);
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        #[deny(clippy::missing_trait_methods)]
        impl<O: Observer + ?Sized> Observer for $pointer {
            fn on_event(&self, event: &Event<'_>, now: Instant) {
                (**self).on_event(event, now);
            }
        }
    )*};
}

forward!(Box<O>, std::sync::Arc<O>);
