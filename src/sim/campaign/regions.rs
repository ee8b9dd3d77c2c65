//! [`Preference`]: which regions the routers of a plan prefer.

use super::super::{Desk, Server, World};
use super::Plan;
use super::plan::REGIONS;
use crate::policy::{Regions, Spill};
use std::time::Duration;

/// Which regions the routers prefer, and how traffic moves between them.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Preference {
    /// Regions that it does not name come last.
    pub(super) order: Vec<&'static str>,
    /// Each router prefers the region where it stands, whatever the order says.
    pub(super) homes: bool,
    /// Those after the first are alike.
    pub(super) alike: bool,
    pub(super) switch: bool,
    pub(super) headroom: (f64, f64),
    pub(super) hold: (Duration, Duration),
    pub(super) ramp: Duration,
    pub(super) exercise: f64,
}

impl Preference {
    /// The order of a router that stands nearest to these regions.
    fn order<'r>(&'r self, nearest: &'r [String]) -> Vec<&'r str> {
        if self.homes { nearest.iter().map(String::as_str).collect() } else { self.order.clone() }
    }

    /// For the router at this desk.
    pub(super) fn regions(&self, desk: &Desk) -> Option<Regions> {
        let order = self.order(desk.regions());
        let (first, others) = order.split_first()?;
        let regions = Regions::new(*first);
        let regions = match self.alike && !others.is_empty() {
            true => regions.then_any(others.iter().copied()),
            false => others.iter().copied().fold(regions, Regions::then),
        };
        let regions = if self.switch { regions.spill(Spill::Switch) } else { regions };
        let regions = regions.headroom(self.headroom.0, self.headroom.1);
        Some(regions.hold(self.hold.0, self.hold.1).ramp(self.ramp).exercise(self.exercise))
    }

    /// How full a region may be where a request goes that is not critical, in thousandths.
    pub(super) fn ceiling(&self) -> u32 {
        (self.headroom.0.max(self.headroom.1) * 1e3).round() as u32
    }
}

/// Routers, and the servers among which their requests are divided while all is well.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Pool {
    pub(super) routers: Vec<usize>,
    pub(super) servers: Vec<usize>,
}

impl Plan {
    /// Where something is from the start.
    pub(super) fn regions_from_the_start(&self) -> impl Iterator<Item = &'static str> {
        let there = |region: &&str| self.servers.iter().any(|it| it.region == **region && it.joins.is_zero());
        REGIONS.into_iter().filter(there)
    }

    /// Who sends where in the calm, by the servers' places in the world.
    pub(super) fn pools(&self, world: &World) -> Vec<Pool> {
        let inside = |region: Option<&str>| {
            let is_in = |it: &Server| it.model == Server::MODEL && region.is_none_or(|region| it.region == region);
            (0..world.servers.len()).filter(|number| is_in(&world.servers[*number])).collect::<Vec<_>>()
        };
        let Some(preference) = &self.preference else {
            return vec![Pool { routers: (0..self.routers).collect(), servers: inside(None) }];
        };
        let mut pools: Vec<Pool> = Vec::new();
        for router in 0..self.routers {
            let nearest = world.nearest(world.home(router));
            let mut each = preference.order(&nearest).into_iter().map(|region| inside(Some(region)));
            let servers = each.find(|servers| !servers.is_empty()).unwrap_or_default();
            match pools.iter_mut().find(|pool| pool.servers == servers) {
                Some(pool) => pool.routers.push(router),
                None => pools.push(Pool { routers: vec![router], servers }),
            }
        }
        pools
    }

    /// The fewest servers that may have to carry all of the calm.
    pub(super) fn fewest(&self) -> usize {
        let inside = |region: &str| self.first_tier().filter(|(_, server)| server.region == region).count();
        let counts = REGIONS.into_iter().map(inside).filter(|count| *count > 0);
        if self.preference.is_some() { counts.min().unwrap_or(0) } else { counts.sum() }
    }
}
