//! [`EnvoyExact`]: Envoy's priority levels, to the last percent.

/// Splits traffic over priority levels in whole percent, exactly as Envoy does: an oracle for tests, and what the
/// baseline `envoy_priority` routes by.
///
/// A level's *health* is the percentage of its hosts that are healthy, times the overprovisioning factor, at most 100;
/// its *degraded* availability likewise. Where all of these together are below 100 they are scaled up to it. Then load
/// is handed out from the first level on: to healthy hosts, what is left to degraded ones, and what whole numbers left
/// over to the first level that has any. Every division truncates.
///
/// Where there is not enough of everything (less than 100), a level of which fewer hosts are available than the panic
/// threshold is in *panic*: its load goes to all its hosts. Where all levels are, each gets load by its number of
/// hosts, whatever their health.
///
/// ```
/// use fallway::sim::{EnvoyExact, Priority};
/// let healthy = |levels: &[Priority]| -> Vec<u32> {
///     EnvoyExact::default().loads(levels).iter().map(|load| load.healthy).collect()
/// };
/// assert_eq!(healthy(&[Priority::new(100, 50), Priority::new(2, 2)]), [70, 30]);
/// assert_eq!(healthy(&[Priority::new(4, 1), Priority::new(4, 1), Priority::new(4, 1)]), [35, 35, 30]);
/// ```
///
/// From Envoy's `load_balancer_impl.cc` (`recalculatePerPriorityState`, `recalculatePerPriorityPanic`,
/// `recalculateLoadInTotalPanic`, `isHostSetInPanic`) and its documentation on priority levels, degraded endpoints and
/// the panic threshold. Two rows of that documentation are rounded where the code truncates; here the code counts
/// (`docs/adr/0023-envoys-code-before-its-tables.md`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EnvoyExact {
    overprovisioning: u32,
    panic_threshold: u32,
}

/// One priority level, by the number of its hosts. A host is in at most one of the three groups; the others are
/// unhealthy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Priority {
    /// All of them.
    pub hosts: u32,
    /// Those that are healthy.
    pub healthy: u32,
    /// Those that take traffic only where there are not enough healthy ones.
    pub degraded: u32,
    /// Those that do not count, because they warm up.
    pub excluded: u32,
}

/// What a priority level gets, in percent of all traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PriorityLoad {
    /// To its healthy hosts.
    pub healthy: u32,
    /// To its degraded hosts.
    pub degraded: u32,
    /// Whether all its hosts share its load, whatever their health.
    pub panic: bool,
}

impl Priority {
    /// A level of `hosts` hosts, `healthy` of them healthy, none degraded or excluded.
    pub const fn new(hosts: u32, healthy: u32) -> Self {
        Self { hosts, healthy, degraded: 0, excluded: 0 }
    }

    /// With so many degraded hosts.
    #[must_use]
    pub const fn degraded(mut self, hosts: u32) -> Self {
        self.degraded = hosts;
        self
    }

    /// With so many hosts that do not count.
    #[must_use]
    pub const fn excluded(mut self, hosts: u32) -> Self {
        self.excluded = hosts;
        self
    }

    /// The hosts that count.
    fn counted(self) -> u64 {
        u64::from(self.hosts.saturating_sub(self.excluded))
    }
}

impl EnvoyExact {
    /// Envoy's `overprovisioning_factor`: in percent.
    pub const OVERPROVISIONING: u32 = 140;
    /// Envoy's `healthy_panic_threshold`: in percent.
    pub const PANIC_THRESHOLD: u32 = 50;

    /// Counts every healthy host as so many percent of one; default 140. What is below 1 counts as 1.
    #[must_use]
    pub const fn overprovisioning(mut self, percent: u32) -> Self {
        self.overprovisioning = if percent == 0 { 1 } else { percent };
        self
    }

    /// Below this share of available hosts a level panics; default 50. With 0 none ever does, above 100 is 100.
    #[must_use]
    pub const fn panic_threshold(mut self, percent: u32) -> Self {
        self.panic_threshold = if percent > 100 { 100 } else { percent };
        self
    }

    /// What each level gets. The loads of all levels add up to 100, unless there is no level.
    pub fn loads(&self, levels: &[Priority]) -> Vec<PriorityLoad> {
        let mut loads = vec![PriorityLoad::default(); levels.len()];
        let health: Vec<_> = levels.iter().map(|level| self.availability(*level, level.healthy)).collect();
        let degraded: Vec<_> = levels.iter().map(|level| self.availability(*level, level.degraded)).collect();
        let total = health.iter().chain(&degraded).sum::<u64>().min(100);
        for (load, level) in loads.iter_mut().zip(levels) {
            load.panic = total < 100 && self.panics(*level);
        }
        if !loads.is_empty() && loads.iter().all(|load| load.panic) {
            by_hosts(&mut loads, levels);
        } else if total > 0 {
            let left = hand_out(100, &health, total, &mut loads, |load| &mut load.healthy);
            let left = hand_out(left, &degraded, total, &mut loads, |load| &mut load.degraded);
            // Rounding: to the first that has any, the healthy before the degraded.
            let first = |of: &[u64]| of.iter().position(|availability| *availability > 0);
            match (first(&health), first(&degraded)) {
                (Some(at), _) => loads[at].healthy += left,
                (None, Some(at)) => loads[at].degraded += left,
                (None, None) => {}
            }
        } else if let Some(load) = loads.first_mut() {
            // Nobody is available and nobody panics: the first level gets all, and fails it.
            load.healthy = 100;
        }
        loads
    }

    /// The percentage of a level that `hosts` of it make, overprovisioned.
    fn availability(&self, level: Priority, hosts: u32) -> u64 {
        let whole = u64::from(self.overprovisioning) * u64::from(hosts);
        whole.checked_div(level.counted()).unwrap_or(0).min(100)
    }

    /// Whether too few hosts of a level are available, as they are: without overprovisioning.
    fn panics(&self, level: Priority) -> bool {
        let available = u64::from(level.healthy) + u64::from(level.degraded);
        let threshold = u64::from(self.panic_threshold);
        // A level without hosts is 0 % available.
        if level.counted() == 0 { threshold > 0 } else { available * 100 < threshold * level.counted() }
    }
}

impl Default for EnvoyExact {
    fn default() -> Self {
        Self { overprovisioning: Self::OVERPROVISIONING, panic_threshold: Self::PANIC_THRESHOLD }
    }
}

/// Hands out `left` percent by availability, the first levels first; returns what nobody takes.
fn hand_out(
    mut left: u32,
    availability: &[u64],
    total: u64,
    loads: &mut [PriorityLoad],
    part: fn(&mut PriorityLoad) -> &mut u32,
) -> u32 {
    for (load, availability) in loads.iter_mut().zip(availability) {
        // At most 100 × 100 / 1.
        let share = left.min((availability * 100 / total) as u32);
        *part(load) = share;
        left -= share;
    }
    left
}

/// All levels panic: load by the number of hosts, the excluded ones too.
fn by_hosts(loads: &mut [PriorityLoad], levels: &[Priority]) {
    let all: u64 = levels.iter().map(|level| u64::from(level.hosts)).sum();
    let mut left = 100;
    for (load, level) in loads.iter_mut().zip(levels) {
        load.healthy = (u64::from(level.hosts) * 100).checked_div(all).unwrap_or(0) as u32;
        left -= load.healthy;
    }
    let first = levels.iter().position(|level| level.hosts > 0).unwrap_or(0);
    loads[first].healthy += left;
}
