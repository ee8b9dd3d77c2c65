//! [`WorldError`]: what makes no sense about a world.

use super::fault::Target;
use super::rollout::Rollout;
use super::workload::Arrivals;
use super::{Fault, Server, World};
use crate::registry::Alias;
use std::collections::BTreeSet;
use std::time::Duration;

/// A world that makes no sense; names the offender.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// There is no server.
    #[error("a world needs at least one server")]
    NoServer,
    /// Two servers have the same id.
    #[error("two servers have the id {0:?}")]
    DuplicateServer(String),
    /// A figure of a server makes no sense.
    #[error("server {id:?}: {what}")]
    Server {
        /// The server.
        id: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A fault names a server that is not there.
    #[error("fault number {number} names the server {id:?}, which does not exist")]
    UnknownServer {
        /// The fault, from 1.
        number: usize,
        /// The server.
        id: String,
    },
    /// A fault names a region without servers.
    #[error("fault number {number} names the region {name:?}, where no server is")]
    UnknownRegion {
        /// The fault, from 1.
        number: usize,
        /// The region.
        name: String,
    },
    /// A fault makes no sense by itself, or in this world's time.
    #[error("fault number {number} {what}")]
    Fault {
        /// The fault, from 1.
        number: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A setting of the world makes no sense.
    #[error("{name}: {what}")]
    Setting {
        /// Which.
        name: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The router refused the fleet or the policy.
    #[error(transparent)]
    Router(#[from] crate::router::BuildError),
}

impl World {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), WorldError> {
        let setting = |name: &'static str, what: &str| Err(WorldError::Setting { name, what: what.to_owned() });
        if !self.servers.iter().any(|server| server.joins.is_zero()) {
            return Err(WorldError::NoServer);
        }
        let mut ids = BTreeSet::new();
        for server in &self.servers {
            if !ids.insert(&server.id) {
                return Err(WorldError::DuplicateServer(server.id.clone()));
            }
            if let Some(what) = server.mistake() {
                return Err(WorldError::Server { id: server.id.clone(), what });
            }
        }
        if self.routers == 0 {
            return setting("routers", "there must be one at least");
        }
        if self.lasting.is_zero() {
            return setting("lasting", "no time at all");
        }
        if self.deadline.is_zero() {
            return setting("deadline", "no time at all");
        }
        if let Some(Rollout { version, share, .. }) = &self.rollout {
            let runs = |server: &Server| server.model == *version;
            if *share >= Alias::WHOLE || !self.servers.iter().any(runs) || runs(&self.servers[0]) {
                return setting("rollout", "a share below 10000, of a version that another server than the first runs");
            }
        }
        if self.reports_every.is_zero() || self.probes == Some(Duration::ZERO) {
            return setting("probes and reports", "their interval must be longer than zero");
        }
        if self.warm_up >= self.lasting {
            return setting("warm_up", "nothing is left to count");
        }
        if self.load.is_empty() || self.load.iter().any(|(_, load)| !(load.is_finite() && *load > 0.0)) {
            return setting("load", "no positive number");
        }
        if self.load[0].0 > Duration::ZERO || self.load.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return setting("load", "its steps must begin at 0 and follow each other");
        }
        if let Arrivals::Gamma { cv } = self.arrivals
            && !(cv.is_finite() && cv > 0.0)
        {
            return setting("arrivals", "a coefficient of variation must be a positive number");
        }
        if self.tenants.iter().any(|(_, share)| !(share.is_finite() && *share > 0.0)) {
            return setting("tenants", "a share must be a positive number");
        }
        if let Some(guest) = &self.guest {
            if ![guest.load, guest.cv].into_iter().all(|it| it.is_finite() && it > 0.0) {
                return setting("guest", "its load and its variation must be positive numbers");
            }
            if self.tenants.is_empty() || self.tenants.iter().any(|(name, _)| *name == guest.name) {
                return setting("guest", "it stands beside other tenants, under a name of its own");
            }
        }
        let shares = [self.critical, self.impatient.map_or(0.0, |(share, _)| share)];
        if shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
            return setting("critical_share and impatient", "a share must be between 0 and 1");
        }
        if let Some((share, regions)) = &self.residency {
            if !(0.0..=1.0).contains(share) {
                return setting("residency", "a share must be between 0 and 1");
            }
            if let Some(name) = regions.iter().find(|name| self.servers.iter().all(|server| server.region != **name)) {
                return setting("residency", &format!("no server is in the region {name:?}"));
            }
        }
        if let Some(hurry) = &self.hurry {
            if !(0.0..=1.0).contains(&hurry.hopeless) {
                return setting("hurry", "a share must be between 0 and 1");
            }
            if hurry.times.is_empty() || hurry.times.iter().any(|time| time.is_zero() || *time > self.deadline) {
                return setting("hurry", "its times must be longer than zero and no longer than the deadline");
            }
        }
        if !(0.0..=1.0).contains(&self.replay_safe) {
            return setting("replay_safe_share", "a share must be between 0 and 1");
        }
        let regions: BTreeSet<_> = self.homes.iter().chain(self.servers.iter().map(|server| &server.region)).collect();
        if let Some((region, _)) = self.round_trips.keys().find(|(region, _)| !regions.contains(region)) {
            return setting("round_trip", &format!("no server and no router is in the region {region:?}"));
        }
        for (number, fault) in (1..).zip(&self.faults) {
            self.check_fault(number, fault)?;
        }
        Ok(())
    }

    fn check_fault(&self, number: usize, fault: &Fault) -> Result<(), WorldError> {
        match &fault.target {
            Target::Server(id) if self.servers.iter().all(|server| server.id != *id) => {
                return Err(WorldError::UnknownServer { number, id: id.clone() });
            }
            Target::Region(name) if self.servers.iter().all(|server| server.region != *name) => {
                return Err(WorldError::UnknownRegion { number, name: name.clone() });
            }
            Target::Everywhere | Target::Server(_) | Target::Region(_) => {}
        }
        if fault.start >= self.lasting {
            return Err(WorldError::Fault { number, what: "starts after the end of the run" });
        }
        fault.mistake().map_or(Ok(()), |what| Err(WorldError::Fault { number, what }))
    }
}
