//! [`Ties`]: what a backend is, and what it shares with others.

use super::domain::{Domain, Home};
use super::gate::{Alarm, Gate};
use super::recovery::Recovery;
use crate::backend::BackendId;
use crate::bug;
use crate::facts::Profile;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a backend is in one generation of the fleet, and what it shares with others there.
#[derive(Debug)]
pub(crate) struct Ties {
    pub(crate) profile: Arc<Profile>,
    pub(crate) credential: Arc<Credential>,
    /// Those that fail together with it, where there are others beside them.
    pub(super) home: Option<Home>,
    /// The backends of its model in its region, itself among them: whom it may be compared with.
    pub(super) pool: Arc<[Kin]>,
}

/// The gate of a credential. A backend without a named credential has one of its own.
#[derive(Debug)]
pub(crate) struct Credential(pub(super) Gate);

/// One of those who share something.
#[derive(Clone, Debug)]
pub(crate) struct Kin {
    pub(crate) id: BackendId,
    pub(crate) profile: Arc<Profile>,
    pub(crate) recovery: Arc<Recovery>,
}

impl Credential {
    pub(crate) fn new(alarm: &Arc<Alarm>) -> Self {
        Self(Gate::new(alarm.clone()))
    }
}

impl Ties {
    /// The ties of each backend of a fleet. `domain` gives the state of a failure domain by its name.
    pub(crate) fn of(
        kin: &[Kin],
        credentials: Vec<Arc<Credential>>,
        mut domain: impl FnMut(&str) -> Arc<Domain>,
    ) -> Vec<Arc<Self>> {
        // Backends that are drained can neither fail nor help.
        let at_work = |kin: &&Kin| !kin.profile.is_drained();
        let (mut pools, mut homes) = (BTreeMap::<_, Vec<Kin>>::new(), BTreeMap::<_, Vec<Kin>>::new());
        for kin in kin.iter().filter(at_work) {
            pools.entry(pool_of(&kin.profile)).or_default().push(kin.clone());
            homes.entry(kin.profile.domain()).or_default().push(kin.clone());
        }
        // The whole fleet is no domain of it: there would be nobody left.
        let lone = homes.len() < 2;
        let pools: BTreeMap<_, Arc<[Kin]>> = pools.into_iter().map(|(key, pool)| (key, pool.into())).collect();
        let homes: BTreeMap<_, _> = homes
            .into_iter()
            .filter_map(|(name, members)| {
                let name = name.filter(|_| !lone && members.len() > 1)?;
                let members = if bug::DOMAIN_CROSSED { kin.to_vec() } else { members };
                Some((name, Home { domain: domain(name), members: members.into() }))
            })
            .collect();
        let ties = |(kin, credential): (&Kin, Arc<Credential>)| {
            let home = kin.profile.domain().and_then(|name| homes.get(name)).cloned();
            let pool = pools.get(&pool_of(&kin.profile)).cloned().unwrap_or_default();
            Arc::new(Self { profile: kin.profile.clone(), credential, home, pool })
        };
        kin.iter().zip(credentials).map(ties).collect()
    }

    /// The members of its failure domain, where that is one of several.
    pub(crate) fn members(&self) -> &[Kin] {
        self.home.as_ref().map_or(&[], |home| &home.members)
    }

    /// The name of its failure domain, where that is one of several.
    pub(crate) fn domain_name(&self) -> &str {
        self.home.as_ref().map_or("", |home| home.domain.name())
    }
}

/// The same model, version included, in the same region.
fn pool_of(profile: &Profile) -> (Option<&str>, Option<&str>) {
    (profile.full_model(), profile.region_name())
}
