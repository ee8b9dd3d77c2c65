//! [`Mirror`]: copies of requests for a backend that answers nobody.

use super::bucket;
use crate::decision::Decision;
use crate::facts::{Facts, Profile};
use crate::rng::hash_str;
use crate::time::Instant;
use crate::unwind::contain;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

/// Copies of a share of the requests, for a backend that answers nobody: what would it have made of them?
///
/// A [`Builder::mirror`](crate::router::Builder::mirror) lets a router fill it; [`Router::shadow`](crate::Router::shadow)
/// sends the copies, as a future that the host drives. What they come to is told to the observers
/// ([`Event::Mirrored`](crate::event::Event::Mirrored)) and [counted](Self::counts); answers are thrown away.
///
/// **A caller never notices.** All that happens on its path is the copy, when its request is first sent to a backend. What
/// the shadow does, or its host, or a panic in either, ends in the shadow's own future. The shadow is no member of the
/// fleet: it takes no slot, no token and no retry from it, and nothing is learned from it. A caller that goes away does
/// not take its copy along.
///
/// **Copies go first when something is short.** As many are in flight as the profile's
/// [concurrency](Profile::concurrency) says, and as many may wait. What finds no place is dropped before it is copied; so
/// is everything while nobody drives the shadow, and while the fleet has too much to do. A copy that is older than the
/// profile's [attempt limit](Profile::attempt_limit) is given up, in flight or not. A mirror keeps no quota and learns no
/// limit: a profile with either is an error of the builder.
///
/// **Hard lines hold.** A request is copied only where the profile's region is one of its residency, and its tenants,
/// capabilities and context window fit.
///
/// ```
/// use fallway::Profile;
/// use fallway::shape::Mirror;
/// use std::time::Duration;
///
/// // One request in ten of those for "chat", four at a time.
/// let candidate = Profile::new("candidate").region("eu-west").concurrency(4).attempt_limit(Duration::from_secs(20));
/// let mirror: Mirror<str> = Mirror::new(candidate, 1_000).only(|facts| facts.requested_model() == Some("chat"));
/// assert_eq!(mirror.counts().sampled, 0);
/// ```
pub struct Mirror<Req: ?Sized + ToOwned> {
    profile: Arc<Profile>,
    share: u32,
    salt: u64,
    only: Option<Filter>,
    line: Mutex<Line<Req::Owned>>,
    driven: AtomicBool,
    /// Routers that fill it.
    sources: AtomicU32,
    tally: Tally,
}

type Filter = Box<dyn Fn(&Facts) -> bool + Send + Sync>;

#[derive(Debug, Default)]
struct Tally {
    sampled: AtomicU64,
    dropped: AtomicU64,
    waiting: AtomicU32,
    in_flight: AtomicU32,
    answered: AtomicU64,
    failed: AtomicU64,
    abandoned: AtomicU64,
}

/// What became of the copies of a [`Mirror`]. When nothing happens any more, `sampled` is the sum of the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct MirrorCounts {
    /// Requests that were to be copied.
    pub sampled: u64,
    /// Those that were not sent: no place, nobody who sends them, too old, or a panic while they were copied.
    pub dropped: u64,
    /// Those that wait.
    pub waiting: u64,
    /// Those that are in flight.
    pub in_flight: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Those that failed, or took too long.
    pub failed: u64,
    /// Those in flight when the shadow was dropped.
    pub abandoned: u64,
}

/// A mirror that makes no sense; names it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("mirror {mirror:?}: {problem}")]
pub struct InvalidMirror {
    mirror: String,
    problem: String,
}

/// The copies that wait, and whom to wake for them.
struct Line<Owned> {
    copies: VecDeque<Copied<Owned>>,
    shadow: Option<Waker>,
}

/// A copy of a request.
pub(crate) struct Copied<Owned> {
    pub(crate) request: Owned,
    pub(crate) facts: Arc<Facts>,
    pub(crate) seed: u64,
    /// When it is given up.
    pub(crate) limit: Instant,
}

impl<Req: ?Sized + ToOwned> Mirror<Req> {
    /// How many copies are in flight at a time, where the profile does not say.
    pub const CONCURRENCY: u32 = 8;
    /// How long a copy may wait and be served, where the profile does not say.
    pub const LIMIT: Duration = Duration::from_secs(60);

    /// A copy of `share` of 10,000 requests, for the backend with this profile: its id names the mirror, its limits are
    /// the shadow's own.
    pub fn new(profile: Profile, share: u32) -> Self {
        let salt = hash_str(profile.id());
        Self {
            profile: Arc::new(profile),
            share,
            salt,
            only: None,
            line: Mutex::new(Line { copies: VecDeque::new(), shadow: None }),
            driven: AtomicBool::new(false),
            sources: AtomicU32::new(0),
            tally: Tally::default(),
        }
    }

    /// Copies only requests that `wanted` wants. Called on the caller's path: be brief.
    #[must_use]
    pub fn only(mut self, wanted: impl Fn(&Facts) -> bool + Send + Sync + 'static) -> Self {
        self.only = Some(Box::new(wanted));
        self
    }

    /// What became of the copies so far.
    pub fn counts(&self) -> MirrorCounts {
        let Tally { sampled, dropped, waiting, in_flight, answered, failed, abandoned } = &self.tally;
        let [sampled, dropped, answered, failed, abandoned] =
            [sampled, dropped, answered, failed, abandoned].map(|count| count.load(Ordering::Acquire));
        let [waiting, in_flight] = [waiting, in_flight].map(|count| u64::from(count.load(Ordering::Acquire)));
        MirrorCounts { sampled, dropped, waiting, in_flight, answered, failed, abandoned }
    }

    pub(crate) const fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// How many may be in flight, and how many may wait.
    pub(crate) fn concurrency(&self) -> u32 {
        self.profile.concurrency_limit().unwrap_or(Self::CONCURRENCY)
    }

    /// Whether a request may be served there: the hard lines of a backend.
    fn admits(&self, facts: &Facts) -> bool {
        let Profile { region, tenants, capabilities, context_window, .. } = &*self.profile;
        let resides = !facts.has_residency() || region.as_deref().is_some_and(|region| facts.allows_region(region));
        let of_tenant = || facts.request_tenant().is_some_and(|tenant| tenants.iter().any(|it| it == tenant));
        resides
            && (tenants.is_empty() || of_tenant())
            && capabilities.is_none_or(|offered| offered.contains(facts.needs))
            && context_window.is_none_or(|window| facts.context_tokens() <= window)
    }

    /// A copy, if there is a place for it.
    fn copy(&self, request: &Req, decision: &Decision, now: Instant) -> Option<()> {
        let place = self.place()?;
        let request = contain(|| request.to_owned())?;
        let limit = now + self.profile.attempt_time_limit().unwrap_or(Self::LIMIT);
        let facts = decision.record().facts().clone();
        self.line_up(Copied { request, facts, seed: decision.seed(), limit })?;
        std::mem::forget(place);
        Some(())
    }

    /// Puts a copy into the line. Not even for its lock does a caller wait.
    fn line_up(&self, copied: Copied<Req::Owned>) -> Option<()> {
        let Some(mut line) = self.line.try_lock() else {
            discard(copied);
            return None;
        };
        line.copies.push_back(copied);
        let shadow = line.shadow.take();
        drop(line);
        wake(shadow);
        Some(())
    }

    fn place(&self) -> Option<Place<'_>> {
        if !self.driven.load(Ordering::Acquire) {
            return None;
        }
        let (waiting, most) = (&self.tally.waiting, self.concurrency());
        let taken =
            waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < most).then(|| taken + 1));
        taken.is_ok().then(|| Place(waiting))
    }

    /// The right to send the copies, for one at a time.
    pub(crate) fn drive(self: &Arc<Self>) -> Option<Driving<Req>> {
        (!self.driven.swap(true, Ordering::AcqRel)).then(|| Driving(self.clone()))
    }

    /// Whom to wake when there is a copy, or will be no more.
    pub(crate) fn call_back(&self, waker: &Waker) {
        // The waker is the host's: it is neither copied nor dropped under the lock.
        let waker = Some(waker.clone());
        let before = std::mem::replace(&mut self.line.lock().shadow, waker);
        drop(before);
    }

    pub(crate) fn is_fed(&self) -> bool {
        self.sources.load(Ordering::Acquire) > 0
    }

    /// The next copy that is not too old.
    pub(crate) fn take(self: &Arc<Self>, now: Instant) -> Option<(Copied<Req::Owned>, Flight<Req>)> {
        loop {
            let copied = self.line.lock().copies.pop_front()?;
            self.tally.waiting.fetch_sub(1, Ordering::AcqRel);
            if now < copied.limit {
                self.tally.in_flight.fetch_add(1, Ordering::AcqRel);
                return Some((copied, Flight { mirror: self.clone(), answered: None }));
            }
            self.tally.dropped.fetch_add(1, Ordering::AcqRel);
            discard(copied);
        }
    }

    pub(crate) fn check(&self) -> Result<(), InvalidMirror> {
        let problem = match self.share {
            0 => "a share of zero copies nothing; leave it out".to_owned(),
            1..=super::WHOLE if self.profile.has_quota() => {
                "its profile has a quota, which a mirror does not keep: bound it by its share and its concurrency"
                    .to_owned()
            }
            1..=super::WHOLE if self.profile.bounds_tokens() => {
                "its profile bounds tokens, which a mirror does not count: bound it by its share and its concurrency"
                    .to_owned()
            }
            1..=super::WHOLE if self.profile.adaptive_limit().is_some() => {
                "its profile has a limit that is learned, and of a mirror nothing is: give it a concurrency".to_owned()
            }
            1..=super::WHOLE => return Ok(()),
            share => format!("a share of {share} is more than {}", super::WHOLE),
        };
        Err(InvalidMirror { mirror: self.profile.id().to_owned(), problem })
    }

    pub(crate) fn outside(&self) -> InvalidMirror {
        let problem = "it stands outside the regions of the policy".to_owned();
        InvalidMirror { mirror: self.profile.id().to_owned(), problem }
    }
}

impl<Req: ?Sized + ToOwned> fmt::Debug for Mirror<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror")
            .field("profile", &self.profile.id())
            .field("share", &self.share)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// A waker may panic; it is not the caller who would have to bear that.
fn wake(waker: Option<Waker>) {
    let _ = contain(|| waker.map(Waker::wake));
}

/// Requests are the host's, too.
fn discard<T>(copies: T) {
    let _ = contain(|| drop(copies));
}

/// A place among those that wait; given back unless a copy took it.
struct Place<'m>(&'m AtomicU32);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Somebody sends the copies.
pub(crate) struct Driving<Req: ?Sized + ToOwned>(Arc<Mirror<Req>>);

impl<Req: ?Sized + ToOwned> Drop for Driving<Req> {
    fn drop(&mut self) {
        let Mirror { driven, line, tally, .. } = &*self.0;
        driven.store(false, Ordering::Release);
        let left = std::mem::take(&mut line.lock().copies);
        tally.waiting.fetch_sub(left.len() as u32, Ordering::AcqRel);
        tally.dropped.fetch_add(left.len() as u64, Ordering::AcqRel);
        discard(left);
    }
}

/// A copy in flight.
pub(crate) struct Flight<Req: ?Sized + ToOwned> {
    mirror: Arc<Mirror<Req>>,
    answered: Option<bool>,
}

impl<Req: ?Sized + ToOwned> Flight<Req> {
    pub(crate) fn end(mut self, answered: bool) {
        self.answered = Some(answered);
    }
}

impl<Req: ?Sized + ToOwned> Drop for Flight<Req> {
    fn drop(&mut self) {
        let tally = &self.mirror.tally;
        tally.in_flight.fetch_sub(1, Ordering::AcqRel);
        let ended = match self.answered {
            Some(true) => &tally.answered,
            Some(false) => &tally.failed,
            None => &tally.abandoned,
        };
        ended.fetch_add(1, Ordering::AcqRel);
    }
}

/// A mirror, for a router that need not know how requests are copied.
pub(crate) trait Reflect<Req: ?Sized>: Send + Sync {
    /// This request is being sent to a backend. `short`: there is too little of everything, so a copy is not made.
    fn reflect(&self, request: &Req, decision: &Decision, short: bool, now: Instant);

    /// How many routers more, or fewer, fill it.
    fn feed(&self, routers: i32);

    /// Whom it copies to.
    fn id(&self) -> &str;
}

impl<Req: ?Sized + ToOwned> Reflect<Req> for Mirror<Req>
where
    Req::Owned: Send,
{
    fn reflect(&self, request: &Req, decision: &Decision, short: bool, now: Instant) {
        if bucket(decision.seed(), self.salt) >= self.share {
            return;
        }
        let facts = decision.facts();
        let wanted = || self.only.as_ref().is_none_or(|wanted| wanted(facts));
        if !self.admits(facts) || !contain(wanted).unwrap_or(false) {
            return;
        }
        self.tally.sampled.fetch_add(1, Ordering::AcqRel);
        if short || self.copy(request, decision, now).is_none() {
            self.tally.dropped.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn feed(&self, routers: i32) {
        self.sources.fetch_add(routers.cast_unsigned(), Ordering::AcqRel);
        let shadow = self.line.lock().shadow.take();
        wake(shadow);
    }

    fn id(&self) -> &str {
        self.profile.id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request that panics when it is dropped.
    #[derive(Clone)]
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn a_copy_without_a_place_goes_without_a_noise() {
        let mirror: Mirror<Bomb> = Mirror::new(Profile::new("candidate"), 1);
        let busy = mirror.line.lock();
        let copied = Copied { request: Bomb, facts: Arc::new(Facts::any()), seed: 1, limit: Instant::default() };
        assert_eq!(mirror.line_up(copied), None);
        drop(busy);
    }
}
