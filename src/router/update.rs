//! [`Update`]: changes of the fleet.

#[cfg(feature = "registry")]
mod sync;

use super::build_error::check_profiles;
use super::core::{Core, Generation, Slots};
use super::{BuildError, SharedBackend};
use crate::backend::{Backend, BackendId};
use crate::decision::names::Registered;
use crate::facts::Profile;
use crate::fleet::{Aside, Fleet, Member};
use crate::policy::{Check, RoutingPolicy};
use crate::recover::{Alarm, Credential, Ejection, Kin, Ties};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The fleet as it will be. See [`Router::update`](super::Router::update).
pub struct Update<Req: ?Sized, Res> {
    seats: Vec<Seat<Req, Res>>,
    aside: Aside,
    /// Regions that take requests again.
    restored: Vec<String>,
    errors: Vec<BuildError>,
}

/// What a fleet is held against.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) policy: &'a dyn RoutingPolicy,
    pub(super) registered: &'a Registered,
    pub(super) default_deadline: Duration,
}

struct Seat<Req: ?Sized, Res> {
    profile: Arc<Profile>,
    backend: SharedBackend<Req, Res>,
    /// `None` for one that joins.
    member: Option<Arc<Member>>,
    /// `None` where the profile names another one than before.
    credential: Option<Arc<Credential>>,
    /// The profile names another credential or model than before, whose quotas are others.
    requoted: bool,
}

impl<Req: ?Sized + Sync + 'static, Res: Send + 'static> Update<Req, Res> {
    pub(super) fn of(current: &Generation<Req, Res>) -> Self {
        let fleet = &current.fleet;
        let seats = fleet.roster.seats.iter().zip(&fleet.berths).zip(&current.backends);
        let seats = seats.map(|(((_, profile), berth), backend)| Seat {
            profile: profile.clone(),
            backend: backend.clone(),
            member: Some(berth.member.clone()),
            credential: Some(berth.ties.credential.clone()),
            requoted: false,
        });
        Self { seats: seats.collect(), aside: fleet.aside.clone(), restored: Vec::new(), errors: Vec::new() }
    }

    pub(super) fn empty() -> Self {
        Self { seats: Vec::new(), aside: Aside::default(), restored: Vec::new(), errors: Vec::new() }
    }

    /// Adds a backend. In a running fleet it takes its share slowly, as after an outage.
    pub fn add(&mut self, profile: Profile, backend: impl Backend<Req, Response = Res>) {
        self.seats.push(Seat {
            profile: Arc::new(profile),
            backend: Arc::new(backend),
            member: None,
            credential: None,
            requoted: false,
        });
    }

    /// Removes a backend. Its calls in flight finish. One of the same id that is [added](Self::add) is another: it has slots and
    /// tokens of its own beside those of these calls, quotas that are full, and nothing that was learned. To change what a backend
    /// may take, [`reprofile`](Self::reprofile) it.
    pub fn remove(&mut self, id: &str) {
        self.aside.placed.remove(id);
        match self.seat(id) {
            Some(seat) => drop(self.seats.remove(seat)),
            None => self.errors.push(BuildError::UnknownBackend(id.to_owned())),
        }
    }

    /// Stops new requests to a backend; it stays in the fleet, and explanations name it.
    pub fn drain(&mut self, id: &str) {
        self.change(id, |profile| profile.drained = true);
    }

    /// Lets a drained backend take requests again.
    pub fn restore(&mut self, id: &str) {
        self.change(id, |profile| profile.drained = false);
    }

    /// Stops new requests to a region: every backend in it is drained, and so are those that join it. Requests in flight
    /// finish where they are.
    pub fn evacuate(&mut self, region: &str) {
        if self.seats.iter().any(|seat| seat.profile.region_name() == Some(region)) {
            self.aside.evacuated.insert(region.to_owned());
        } else {
            self.errors.push(BuildError::UnknownRegion(region.to_owned()));
        }
    }

    /// Lets an evacuated region take requests again; its share grows over the ramp of
    /// [`region_failover`](crate::policy::Regions::ramp), where that judges regions. Backends that were
    /// [drained](Self::drain) by themselves stay so.
    pub fn restore_region(&mut self, region: &str) {
        if self.aside.evacuated.remove(region) {
            self.restored.push(region.to_owned());
        } else {
            self.errors.push(BuildError::NotEvacuated(region.to_owned()));
        }
    }

    /// Replaces the profile of the backend with the same id. What was learned of it stays, and so does a
    /// [drain](Self::drain): only [`restore`](Self::restore) ends it. With another credential or model its
    /// [quotas](super::Router::quota) begin anew, full.
    pub fn reprofile(&mut self, profile: Profile) {
        let id = profile.id().to_owned();
        self.change(&id, |old| {
            let drained = old.drained;
            *old = profile;
            old.drained |= drained;
        });
    }

    /// The profiles as they stand.
    pub fn profiles(&self) -> impl Iterator<Item = &Profile> {
        self.seats.iter().map(|seat| &*seat.profile)
    }

    /// All of them.
    pub(super) fn backends(&self) -> Vec<SharedBackend<Req, Res>> {
        self.seats.iter().map(|seat| seat.backend.clone()).collect()
    }

    fn seat(&self, id: &str) -> Option<usize> {
        self.seats.iter().position(|seat| seat.profile.id() == id)
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut Profile)) {
        match self.seats.iter_mut().find(|seat| seat.profile.id() == id) {
            Some(seat) => {
                let profile = Arc::make_mut(&mut seat.profile);
                let (credential, model) = (profile.credential.clone(), profile.model.clone());
                change(profile);
                if profile.credential != credential {
                    seat.credential = None;
                }
                seat.requoted |= profile.credential != credential || profile.model != model;
            }
            None => self.errors.push(BuildError::UnknownBackend(id.to_owned())),
        }
    }

    /// The next generation, or the first error.
    pub(super) fn finish(
        self,
        current: &Generation<Req, Res>,
        slots: &mut Slots,
        core: &Core<Req, Res>,
    ) -> Result<Generation<Req, Res>, BuildError> {
        let number = current.fleet.roster.generation + 1;
        let now = core.shared.timer.now();
        let signals = current.fleet.roster.signals.clone();
        let restored = self.restored.clone();
        let requoted = self.seats.iter().filter(|seat| seat.requoted).filter_map(|seat| seat.member.clone());
        let requoted: Vec<_> = requoted.collect();
        let held =
            Held { policy: &*core.policy, registered: &core.registered, default_deadline: core.default_deadline };
        let next = self.assemble(number, signals, held, slots, &mut |id, alarm| {
            Member::joining(id, alarm, &core.shared.court.ejection, now)
        })?;
        for region in restored {
            next.fleet.gates(&region).for_each(|gate| gate.restore(now));
        }
        requoted.iter().for_each(|member| member.quotas.renew());
        Ok(next)
    }

    /// The first generation of a router.
    pub(super) fn first(
        self,
        signals: Vec<&'static str>,
        held: Held<'_>,
        slots: &mut Slots,
        ejection: &Ejection,
    ) -> Result<Generation<Req, Res>, BuildError> {
        self.assemble(1, signals, held, slots, &mut |id, alarm| Member::new(id, alarm, ejection))
    }

    fn assemble(
        self,
        number: u64,
        signals: Vec<&'static str>,
        held: Held<'_>,
        slots: &mut Slots,
        join: &mut dyn FnMut(BackendId, &Arc<Alarm>) -> Member,
    ) -> Result<Generation<Req, Res>, BuildError> {
        let Held { policy, registered, default_deadline } = held;
        if let Some(error) = self.errors.into_iter().next() {
            return Err(error);
        }
        check_profiles(self.seats.iter().map(|seat| &*seat.profile))?;
        let mut backends = Vec::with_capacity(self.seats.len());
        let (mut kin, mut members, mut credentials) = (Vec::new(), Vec::new(), Vec::new());
        slots.collect_free();
        for seat in self.seats {
            let member = seat.member.unwrap_or_else(|| slots.take(&mut *join));
            member.latency.join(&slots.peers(seat.profile.full_model()));
            let credential = seat.credential.unwrap_or_else(|| slots.credential(seat.profile.credential_name()));
            backends.push(seat.backend);
            kin.push(Kin { id: member.id, profile: seat.profile, recovery: member.recovery.clone() });
            members.push(member);
            credentials.push(credential);
        }
        let ties = Ties::of(&kin, credentials, |name| slots.domain(name));
        let members = kin.into_iter().zip(members).zip(ties).map(|((kin, member), ties)| (kin.profile, member, ties));
        let gate = |model: Option<&str>, region: &str| slots.region(model, region);
        let fleet = Fleet::new(number, signals, members, self.aside, |region| policy.allows_region(region), gate);
        let mut names = None;
        registered.read(&mut names);
        let mut check = Check { fleet: &fleet, again: number > 1, default_deadline, names, errors: Vec::new() };
        policy.check(&mut check);
        match check.errors.into_iter().next() {
            Some(error) => Err(BuildError::Policy(error)),
            None => Ok(Generation { fleet: Arc::new(fleet), backends }),
        }
    }
}

impl<Req: ?Sized, Res> fmt::Debug for Update<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.seats.iter().map(|seat| seat.profile.id())).finish()
    }
}
