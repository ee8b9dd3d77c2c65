//! Takes bad versions back by itself: what a router observes, judged, and acted upon.

use super::catalog::{Catalog, State};
use super::judge::{Arm, Evidence, Judge, Observation};
use super::publication::Ack;
use super::violation::Nack;
use super::{Digest, Registry};
use crate::bug;
use crate::event::{Event, Observer, Outcome};
use crate::facts::Profile;
use crate::time::Instant;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Watches the canaries of a registry, and rolls back those that prove bad.
///
/// It is an [`Observer`] of the router, of all routers that one process has, and the host gives it the time. A canary is a
/// version in the [state](State::Canary) of that name among the targets of an alias; it is compared with the other
/// versions of the alias, by the [`Judge`]'s rules, over the attempts that backends of these versions served (by
/// their [model](crate::Profile::model)). Attempts that failed by the fault of a caller, a quota, a credential or the
/// network say nothing, nor do those that were cancelled, or given up because the caller had no time; what the router
/// refuses by itself is no attempt.
///
/// Two lines in the host:
///
/// ```
/// # use fallway::{Profile, Router, backend::{BackendError, backend_fn}, policy::ordered};
/// use fallway::registry::{Registry, Rollouts};
/// use fallway::time::Clock;
/// use std::sync::Arc;
/// use std::time::SystemTime;
///
/// # let echo = || backend_fn(|request: &str, _: &_| { let answer = request.to_owned(); async { Ok::<_, BackendError>(answer) } });
/// let registry = Arc::new(Registry::builder().open(SystemTime::now()));
/// let rollouts = Arc::new(Rollouts::new(registry.clone()));
/// let builder = Router::builder(ordered()).registry(registry.clone()).observer(rollouts.clone());
/// # let router = builder.backend(Profile::new("a").model("m@1"), echo()).build()?;
///
/// // Every second or so, on the clock of the router:
/// for done in rollouts.tick(Clock.now(), SystemTime::now()) {
///     eprintln!("{done}"); // "llama-70b@4 of chat is rolled back: 14 of 80 failed, of the stable version 3 of 720; …"
/// }
/// # Ok::<(), fallway::BuildError>(())
/// ```
pub struct Rollouts {
    registry: Arc<Registry>,
    /// Read with every attempt that begins to answer or ends, written when the registry has changed.
    watched: ArcSwap<Vec<Arc<Watched>>>,
    /// The generation that `watched` is of; also whose turn it is to tick.
    seen: Mutex<u64>,
}

/// A canary of an alias.
struct Watched {
    alias: String,
    version: String,
    /// Of the version: mended under the same name it is another.
    content: Digest,
    /// What it would replace.
    stable: BTreeSet<String>,
    judge: Mutex<Judge>,
    /// The generation in which a rollback was refused: it is asked for again when something has changed.
    refused: Mutex<Option<u64>>,
}

/// A canary that proved bad, and what became of it.
#[derive(Clone, Debug)]
pub struct RolledBack {
    /// The alias.
    pub alias: String,
    /// The version, as `model@version`.
    pub version: String,
    /// What speaks against it.
    pub evidence: Evidence,
    /// What the registry said. Where it refused, the canary is still there, and somebody has to look.
    pub done: Result<Ack, Nack>,
}

impl fmt::Display for RolledBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { alias, version, evidence, done } = self;
        match done {
            Ok(_) => write!(f, "{version} of {alias} is rolled back: {evidence}"),
            Err(nack) => write!(f, "{version} of {alias} is to be rolled back ({evidence}), and is not: {nack}"),
        }
    }
}

impl Rollouts {
    /// Watches the canaries of this registry.
    pub fn new(registry: Arc<Registry>) -> Self {
        let rollouts = Self { registry, watched: ArcSwap::default(), seen: Mutex::new(0) };
        rollouts.follow(&mut rollouts.seen.lock());
        rollouts
    }

    /// Judges every canary, takes back those that proved bad, and says so. It also notices new canaries: what happened
    /// before is not held against them.
    ///
    /// `now` is the time of the routers that it observes, `wall` that of the registry. Call it every second or so; it
    /// writes to the store of the registry, so not where requests are served.
    pub fn tick(&self, now: Instant, wall: SystemTime) -> Vec<RolledBack> {
        let mut seen = self.seen.lock();
        self.follow(&mut seen);
        let mut done = Vec::new();
        for watched in self.watched.load().iter() {
            let verdict = watched.judge.lock().verdict(now);
            if let Some(evidence) = verdict.rolls_back() {
                done.extend(self.take_back(watched, evidence, wall));
            }
        }
        self.follow(&mut seen);
        done
    }

    fn take_back(&self, watched: &Watched, evidence: Evidence, wall: SystemTime) -> Option<RolledBack> {
        let (Watched { alias, version, .. }, view) = (watched, self.registry.view());
        let mut refused = watched.refused.lock();
        // A moment ago it was taken out of another alias, and so out of all; or the answer would be the same again.
        if view.state_of(version) != Some(State::Canary) || *refused == Some(view.generation()) {
            return None;
        }
        let done = self.registry.roll_back_version(alias, version, &evidence.to_string(), wall);
        if done.is_err() {
            *refused = Some(view.generation());
        }
        Some(RolledBack { alias: alias.clone(), version: version.clone(), evidence, done })
    }

    /// Watches the canaries that there are now. The evidence against those that were there before stays.
    fn follow(&self, seen: &mut u64) {
        let view = self.registry.view();
        if *seen == view.generation() {
            return;
        }
        *seen = view.generation();
        let (before, catalog) = (self.watched.load(), view.snapshot().catalog());
        let is_canary = |version: &str| view.state_of(version) == Some(State::Canary);
        let mut watched = Vec::new();
        for (name, alias) in catalog.aliases() {
            let canaries = alias.targets().iter().filter(|(target, share)| *share > 0 && is_canary(target));
            for (version, _) in canaries {
                let mut stable = BTreeSet::new();
                gather(catalog, name, &mut stable);
                stable.retain(|other| !is_canary(other));
                let Some(content) = catalog.find(version).map(|found| found.digest(version)) else { continue };
                let same = |it: &&Arc<Watched>| {
                    (&it.alias, &it.version, it.content, &it.stable) == (name, version, content, &stable)
                };
                let kept = before.iter().find(same).map(Arc::clone);
                watched.push(kept.unwrap_or_else(|| {
                    let (alias, version) = (name.clone(), version.clone());
                    let (judge, refused) = (Mutex::default(), Mutex::default());
                    Arc::new(Watched { alias, version, content, stable, judge, refused })
                }));
            }
        }
        self.watched.store(Arc::new(watched));
    }
}

/// The versions to which an alias leads.
fn gather(catalog: &Catalog, name: &str, versions: &mut BTreeSet<String>) {
    let Some(alias) = catalog.aliases().get(name) else {
        versions.insert(name.to_owned());
        return;
    };
    // Four deep at most: the catalogue was checked.
    alias.targets().iter().filter(|(_, share)| *share > 0).for_each(|(target, _)| gather(catalog, target, versions));
}

/// What an event says of the version of its backend.
fn seen<'e>(event: &Event<'e>) -> Option<(&'e Profile, Observation)> {
    match *event {
        // When it begins and not when it ends: of a young version the long answers would be missing, and its failures not.
        Event::FirstItem { profile, elapsed, .. } => Some((profile, Observation::Answered(elapsed))),
        Event::Ended { profile, outcome, excused: false, first_item, elapsed, .. } => {
            let said = match outcome {
                // It would have taken longer still: without it, hedges would hide how slow a version is.
                Outcome::Outrun if first_item.is_none() => Observation::Answered(elapsed),
                Outcome::Failure(_) if bug::ROLLBACK_COUNTS_CALLERS => Observation::Failed,
                Outcome::Failure(error) => match (Observation::failure(error.kind())?, first_item) {
                    (_, Some(_)) => Observation::Broke,
                    (failed, None) => failed,
                },
                Outcome::Success | Outcome::Outrun | Outcome::Cancelled => return None,
            };
            Some((profile, said))
        }
        _ => None,
    }
}

impl Observer for Rollouts {
    fn on_event(&self, event: &Event<'_>, now: Instant) {
        let watched = self.watched.load();
        if watched.is_empty() {
            return;
        }
        let Some((profile, seen)) = seen(event) else { return };
        let Some(version) = profile.full_model() else { return };
        for watched in watched.iter() {
            let arm = match watched.version == version {
                true => Arm::Canary,
                false if watched.stable.contains(version) => Arm::Stable,
                false => continue,
            };
            watched.judge.lock().observe(arm, seen, now);
        }
    }
}

impl fmt::Debug for Rollouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let watched = self.watched.load();
        let names = watched.iter().map(|watched| (&watched.alias, &watched.version));
        f.debug_list().entries(names).finish()
    }
}
