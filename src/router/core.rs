//! What all clones of a router share.

use super::lease::is_limited;
use super::seeds::Seeds;
use super::shadow::Fed;
use super::slot::Slot;
use super::{BuildError, CallOptions, SharedBackend, Update};
use crate::backend::BackendId;
use crate::budget::{RetryBudget, Savings};
use crate::bug;
use crate::decision::names::Registered;
use crate::decision::record::{Extra, Record, Roster};
use crate::decision::{AttemptRecord, Beside, Bill, Decision, Hedged, Next, Reason};
use crate::event::{Event, Observer};
use crate::fleet::{Crowd, Fleet, Member};
use crate::limit::{Cells, Shares, Waiters};
use crate::policy::RoutingPolicy;
use crate::policy::engine;
use crate::recover::{Alarm, Court, Credential, Domain, RegionGate};
use crate::shape::{Means, Rates, Spends};
use crate::signal::{HealthSignal, Peers, QuotaReport};
use crate::time::{Instant, Timer};
use crate::unwind::contain;
use arc_swap::ArcSwap;
use parking_lot::{Mutex, ReentrantMutex};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What all clones of a router share.
pub(super) struct Core<Req: ?Sized, Res> {
    pub(super) current: ArcSwap<Generation<Req, Res>>,
    pub(super) shared: Arc<Shared>,
    pub(super) policy: Box<dyn RoutingPolicy>,
    pub(super) registered: Registered,
    pub(super) view: engine::View,
    pub(super) retry_budget: RetryBudget,
    /// What hedges may be made.
    pub(super) savings: Savings,
    /// Hides from callers where their names are counted.
    pub(super) salt: u64,
    pub(super) last_resort: Option<SharedBackend<Req, Res>>,
    pub(super) mirrors: Vec<Fed<Req>>,
    pub(super) rates: Rates,
    pub(super) default_deadline: Duration,
    pub(super) idle_limit: Duration,
    pub(super) largest_item: usize,
    pub(super) longest_wait: Duration,
    pub(super) seeds: Seeds,
    pub(super) alarm: Arc<Alarm>,
    /// Knows members of former generations that are still in use.
    pub(super) slots: Mutex<Slots>,
    /// Serialises updates. The host's change runs under it, so it may look at the router, and an update inside an
    /// update is found out instead of waiting for itself.
    pub(super) updating: ReentrantMutex<Cell<bool>>,
}

/// The part that does not depend on the types of request and response, and that outlives a call in its lease.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) timer: Arc<dyn Timer>,
    pub(super) signals: Vec<Arc<dyn HealthSignal>>,
    pub(super) observers: Vec<Arc<dyn Observer>>,
    pub(super) court: Court,
    pub(super) crowd: Crowd,
    pub(super) waiters: Waiters<Box<Slot>>,
    /// Slots and shares that were given back while others waited, and could be used by none of them.
    pub(super) freed: AtomicU64,
    /// A backend whose profile has no quota said that it has one.
    pub(super) metered: AtomicBool,
    pub(super) shares: Shares,
    pub(super) spends: Spends,
}

/// A fleet with the objects behind it, by seat.
pub(super) struct Generation<Req: ?Sized, Res> {
    pub(super) fleet: Arc<Fleet>,
    pub(super) backends: Vec<SharedBackend<Req, Res>>,
}

/// Gives slots to backends. A slot is free when nothing refers to its member any more: no generation and no lease.
#[derive(Debug, Default)]
pub(super) struct Slots {
    taken: Vec<(Weak<Member>, u32)>,
    free: Vec<usize>,
    alarm: Arc<Alarm>,
    /// Credentials by name; shared by the backends that use them.
    credentials: BTreeMap<String, Weak<Credential>>,
    /// How regions are, by model (none for all) and region.
    regions: BTreeMap<(Option<String>, String), Weak<RegionGate>>,
    /// Failure domains by name.
    domains: BTreeMap<String, Weak<Domain>>,
    /// What backends have seen together, by model.
    peers: BTreeMap<Option<String>, Weak<Peers>>,
}

/// Ends an update, also one whose change panics.
struct Unset<'a>(&'a Cell<bool>);

impl Drop for Unset<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Alone on its cache line: threads that decide under a policy that takes turns write it all the time.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Ticks(pub(super) AtomicU64);

impl Slots {
    /// Finds the slots that became free since.
    pub(super) fn collect_free(&mut self) {
        let unused = |(_, (member, _)): &(usize, &(Weak<Member>, u32))| member.strong_count() == 0;
        self.free = self.taken.iter().enumerate().filter(unused).map(|(slot, _)| slot).collect();
        self.credentials.retain(|_, credential| credential.strong_count() > 0);
        self.regions.retain(|_, gate| gate.strong_count() > 0);
        self.domains.retain(|_, domain| domain.strong_count() > 0);
        self.peers.retain(|_, peers| peers.strong_count() > 0);
    }

    /// Gives a slot to the member that `make` makes.
    pub(super) fn take(&mut self, make: impl FnOnce(BackendId, &Arc<Alarm>) -> Member) -> Arc<Member> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.taken.push((Weak::new(), 0));
            self.taken.len() - 1
        });
        let (holder, epoch) = &mut self.taken[slot];
        let index = u32::try_from(slot).expect("more than 2^32 backends do not fit in memory");
        let member = Arc::new(make(BackendId::new(index, *epoch), &self.alarm));
        *holder = Arc::downgrade(&member);
        *epoch += 1;
        member
    }

    /// The shared state of a credential; of its own for a backend that names none.
    pub(super) fn credential(&mut self, name: Option<&str>) -> Arc<Credential> {
        let Some(name) = name else { return Arc::new(Credential::new(&self.alarm)) };
        if let Some(known) = self.credentials.get(name).and_then(Weak::upgrade) {
            return known;
        }
        let credential = Arc::new(Credential::new(&self.alarm));
        self.credentials.insert(name.to_owned(), Arc::downgrade(&credential));
        credential
    }

    /// How a region is for a model.
    pub(super) fn region(&mut self, model: Option<&str>, region: &str) -> Arc<RegionGate> {
        let known = self.regions.entry((model.map(str::to_owned), region.to_owned())).or_default();
        known.upgrade().unwrap_or_else(|| {
            let gate = Arc::<RegionGate>::default();
            *known = Arc::downgrade(&gate);
            gate
        })
    }

    /// The shared state of a failure domain.
    pub(super) fn domain(&mut self, name: &str) -> Arc<Domain> {
        let known = self.domains.entry(name.to_owned()).or_default();
        known.upgrade().unwrap_or_else(|| {
            let domain = Arc::new(Domain::new(name, &self.alarm));
            *known = Arc::downgrade(&domain);
            domain
        })
    }

    /// What the backends of a model have seen together.
    pub(super) fn peers(&mut self, model: Option<&str>) -> Arc<Peers> {
        let known = self.peers.entry(model.map(str::to_owned)).or_default();
        known.upgrade().unwrap_or_else(|| {
            let peers = Arc::<Peers>::default();
            *known = Arc::downgrade(&peers);
            peers
        })
    }

    pub(super) fn alarm(&self) -> Arc<Alarm> {
        self.alarm.clone()
    }

    fn members(&self) -> impl Iterator<Item = Arc<Member>> {
        self.taken.iter().filter_map(|(member, _)| member.upgrade())
    }
}

impl Shared {
    /// Tells signals and observers. What they do wrong stays with them.
    pub(super) fn tell(&self, event: &Event<'_>, now: Instant) {
        for signal in &self.signals {
            if contain(|| signal.observe(event, now)).is_none() {
                self.tell_of_panic(signal.name(), None, now);
            }
        }
        for (index, observer) in self.observers.iter().enumerate() {
            if contain(|| observer.on_event(event, now)).is_none() {
                self.tell_of_panic("observer", Some(index), now);
            }
        }
    }

    /// Before the first decision over it: a signal has its say from the start.
    pub(super) fn tell_of_fleet(&self, fleet: &Fleet) {
        if self.is_watched() {
            let Roster { generation, seats, .. } = &*fleet.roster;
            self.tell(&Event::Fleet { generation: *generation, backends: seats }, self.timer.now());
        }
        self.crowd.follow(fleet);
    }

    #[cold]
    pub(super) fn tell_of_panic(&self, name: &str, culprit: Option<usize>, now: Instant) {
        for (index, observer) in self.observers.iter().enumerate() {
            if Some(index) != culprit {
                let _ = contain(|| observer.on_event(&Event::Panicked { name }, now));
            }
        }
    }

    pub(super) fn is_watched(&self) -> bool {
        !(self.signals.is_empty() && self.observers.is_empty())
    }
}

/// What the request of a record may still cost, where that is limited.
fn purse<'m>(record: &Record, means: Option<&'m Means>) -> Option<engine::Purse<'m>> {
    if means.is_none() && record.facts().max_cost.is_none() {
        return None;
    }
    let bill: Bill = record.attempts.iter().map(AttemptRecord::cost).sum();
    let spent = bill.most().unwrap_or(u64::MAX).saturating_add(record.at_stake);
    Some(engine::Purse { spent, carried: record.carried(), means })
}

impl<Req: ?Sized + Sync + 'static, Res: Send + 'static> Core<Req, Res> {
    /// Prepares the record of a request's first decision.
    pub(super) fn open(&self, options: CallOptions, now: Instant) -> Decision {
        self.open_with(self.seeds.next(), options, now)
    }

    fn open_with(&self, seed: u64, options: CallOptions, now: Instant) -> Decision {
        let mut decision = Decision::blank();
        let record = decision.record_mut();
        record.arrival = now;
        record.deadline = now + options.total.unwrap_or(self.default_deadline);
        record.facts = Some(options.facts);
        record.now = now;
        record.seed = seed;
        record.last_resort = self.last_resort.is_some();
        (record.extra, record.planned_after) = (Extra::NotAsked, 0);
        (record.beside, record.hedged) = (None, Hedged::NotAsked);
        (record.dry_run, record.at_stake) = (false, 0);
        self.registered.read(&mut record.names);
        decision
    }

    /// Prepares the record of the decision about a hedge.
    pub(super) fn open_hedge(&self, first: &Decision, beside: Beside) -> Decision {
        let mut decision = Decision::blank();
        let (from, to) = (first.record(), decision.record_mut());
        (to.arrival, to.deadline, to.seed) = (from.arrival, from.deadline, from.seed);
        (to.facts, to.names) = (from.facts.clone(), from.names.clone());
        to.attempts.clone_from(&from.attempts);
        (to.last_resort, to.dry_run) = (from.last_resort, false);
        to.beside = Some(beside);
        decision
    }

    /// Decides over `generation`.
    pub(super) fn plan(
        &self,
        generation: &Generation<Req, Res>,
        decision: &mut Decision,
        now: Instant,
        extra: Extra,
        cells: Cells,
        in_hand: Option<&Slot>,
    ) {
        let record = decision.record_mut();
        (record.now, record.extra, record.planned_after) = (now, extra, record.attempts.len());
        record.hedged = Hedged::NotAsked;
        if bug::RESOLVED_AGAIN {
            self.registered.read(&mut record.names);
        }
        if !Arc::ptr_eq(&record.roster, &generation.fleet.roster) {
            record.roster = generation.fleet.roster.clone();
        }
        let signals = &self.shared.signals;
        let share = self.shared.shares.full(cells).filter(|_| !in_hand.is_some_and(Slot::has_stake));
        let limited = is_limited(record.attempts.len() as u32 + 1);
        let means = if limited { self.shared.spends.means(record.facts(), now) } else { None };
        let live = engine::Live {
            fleet: &generation.fleet,
            signals,
            calm: engine::calm_ones(signals, now),
            crowd: &self.shared.crowd,
            alarm: &self.alarm,
            metered: generation.fleet.metered || self.shared.metered.load(Ordering::Relaxed),
            in_hand: in_hand.and_then(Slot::held),
            round: self.shared.waiters.round(),
            share,
            purse: purse(record, means.as_ref()),
        };
        engine::decide(&*self.policy, &self.view, &live, record);
        // Who may not start anywhere has not looked at how backends are.
        if !record.sheet.regions.is_empty() && !record.dry_run && share.is_none() {
            self.remember_regions(generation, record, now);
        }
    }

    /// Moves regions on, where the decision found that something changed.
    fn remember_regions(&self, generation: &Generation<Req, Res>, record: &Record, now: Instant) {
        let Some(rules) = &record.sheet.region_rules else { return };
        for row in record.sheet.regions.iter().filter(|row| row.before != row.state) {
            let model = record.sheet.tiers[usize::from(row.tier)].model;
            let gate = generation.fleet.pool(model).gate(row.region);
            let health = row.verdict();
            let change = gate.and_then(|gate| gate.observe(health, row.offer, rules, now));
            if let Some((from, to)) = change.filter(|_| self.shared.is_watched()) {
                let region = &*record.roster.regions[usize::from(row.region)].name;
                let model = model.map(|model| &*record.roster.models[model as usize]);
                self.shared.tell(&Event::Region { region, model, health, from, to }, now);
            }
        }
    }

    /// Has a request copied that is being sent to its first backend.
    pub(super) fn reflect(&self, request: &Req, decision: &Decision, now: Instant) {
        for Fed(mirror) in &self.mirrors {
            mirror.reflect(request, decision, self.shared.court.pulse.is_overload(), now);
        }
    }

    pub(super) fn explain(&self, options: &CallOptions) -> Decision {
        let now = self.shared.timer.now();
        let mut decision = self.open_with(self.seeds.peek(), options.clone(), now);
        decision.record_mut().dry_run = true;
        let cells = self.shared.shares.cells(decision.facts());
        self.plan(&self.current.load(), &mut decision, now, Extra::NotAsked, cells, None);
        self.meter(&mut decision, now);
        decision
    }

    /// Notes of a dry run that the request would be refused at entry.
    fn meter(&self, decision: &mut Decision, now: Instant) {
        if let Err(why) = self.rates.peek(decision.facts(), now) {
            let record = decision.record_mut();
            (record.verdict, record.verdict_at) = (Some(Next::Refuse { why }), now);
        }
    }

    pub(super) fn decide(&self, decision: &mut Decision, now: Instant, seed: u64) {
        let record = decision.record_mut();
        record.deadline = now.plus_nanos(record.deadline.nanos_since(record.now));
        record.arrival = now;
        (record.seed, record.dry_run, record.verdict, record.beside) = (seed, true, None, None);
        record.at_stake = 0;
        record.attempts.clear();
        self.registered.read(&mut record.names);
        let cells = self.shared.shares.cells(decision.facts());
        self.plan(&self.current.load(), decision, now, Extra::NotAsked, cells, None);
        self.meter(decision, now);
    }

    pub(super) fn replay(&self, decision: &Decision) -> Decision {
        let mut again = Decision::blank();
        let (from, to) = (decision.record(), again.record_mut());
        to.roster = from.roster.clone();
        (to.facts, to.names) = (from.facts.clone(), from.names.clone());
        to.attempts.clone_from(&from.attempts);
        to.beside = from.beside.clone();
        (to.seed, to.now, to.arrival, to.deadline) = (from.seed, from.now, from.arrival, from.deadline);
        (to.extra, to.last_resort, to.dry_run) = (from.extra, from.last_resort, true);
        to.planned_after = if bug::REPLAY_SEES_LATER { from.attempts.len() } else { from.planned_after };
        engine::replay(&*self.policy, &from.sheet, to);
        // What the driver met and did is no choice of the policies; it stands as it was.
        (to.verdict, to.verdict_at, to.hedged) = (from.verdict, from.verdict_at, from.hedged);
        for (entry, original) in to.sheet.entries.iter_mut().zip(&from.sheet.entries) {
            if original.rejected == Some(Reason::LostRace) {
                entry.rejected = original.rejected;
            }
        }
        again
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Update<Req, Res>)) -> Result<u64, BuildError> {
        let updating = self.updating.lock();
        if updating.replace(true) {
            return Err(BuildError::NestedUpdate);
        }
        let _done = Unset(&updating);
        let current = self.current.load_full();
        let mut update = Update::of(&current);
        change(&mut update);
        // Those of an update that is refused go when the lock is free: how they are dropped is the host's affair, and it may look
        // at the router.
        let _backends = update.backends();
        let next = update.finish(&current, &mut self.slots.lock(), self)?;
        let generation = next.fleet.roster.generation;
        self.shared.tell_of_fleet(&next.fleet);
        self.current.store(Arc::new(next));
        // Whoever waits may have somewhere to go now.
        self.shared.waiters.call_all();
        Ok(generation)
    }

    pub(super) fn backend_id(&self, id: &str) -> Option<BackendId> {
        let current = self.current.load();
        current.fleet.roster.seats.iter().find(|(_, profile)| profile.id() == id).map(|(backend, _)| *backend)
    }

    pub(super) fn generation(&self) -> u64 {
        self.current.load().fleet.roster.generation
    }

    pub(super) fn in_flight(&self, id: &str) -> Option<u32> {
        let current = self.current.load();
        let seat = current.fleet.roster.seats.iter().position(|(_, profile)| profile.id() == id)?;
        Some(current.fleet.berths[seat].member.gauge.in_flight())
    }

    pub(super) fn tokens_in_flight(&self, id: &str) -> Option<u64> {
        let current = self.current.load();
        let seat = current.fleet.roster.seats.iter().position(|(_, profile)| profile.id() == id)?;
        Some(current.fleet.berths[seat].member.gauge.total_tokens())
    }

    pub(super) fn quota(&self, id: &str) -> Option<QuotaReport> {
        let current = self.current.load();
        let seat = current.fleet.roster.seats.iter().position(|(_, profile)| profile.id() == id)?;
        Some(current.fleet.berths[seat].member.quotas.read(self.shared.timer.now()))
    }

    pub(super) fn total_in_flight(&self) -> u64 {
        self.slots.lock().members().map(|member| u64::from(member.gauge.in_flight())).sum()
    }
}
