//! Where the names of a request lead: one view of the registry for all of its attempts (feature `registry`).
//!
//! The only place of the decision path that knows whether the feature is there. Without it nobody has names.

use super::Refusal;
use crate::facts::{Capabilities, Facts, Price};

#[cfg(not(feature = "registry"))]
pub(crate) use absent::{Names, Registered};
#[cfg(feature = "registry")]
pub(crate) use present::{Names, Registered};

/// Where a name leads.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "registry"), allow(dead_code))]
pub(crate) enum Lead<'n> {
    /// There is no registry, or it does not know the name.
    Unknown,
    /// The registry knows it, and does not serve it.
    Refused(Refusal),
    /// To a version.
    To(Route<'n>),
}

/// A version, and who stands in for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'n> {
    /// As `model@version`.
    pub(crate) version: &'n str,
    /// Names, in their order.
    pub(crate) fallback: &'n [Box<str>],
}

/// What a version can do and costs, where the profile of a backend does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'n> {
    pub(crate) capabilities: Option<Capabilities>,
    pub(crate) context_window: u64,
    pub(crate) price: Option<&'n Price>,
}

impl Terms<'_> {
    /// Of what is in no registry.
    pub(crate) const UNKNOWN: Self = Self { capabilities: None, context_window: u64::MAX, price: None };
}

/// Where `name` leads for this request.
pub(crate) fn lead<'n>(names: Option<&'n Names>, name: &str, facts: &Facts, seed: u64) -> Lead<'n> {
    names.map_or(Lead::Unknown, |names| names.lead(name, facts, seed))
}

#[cfg(feature = "registry")]
mod present {
    use super::{Lead, Route, Terms};
    use crate::decision::Refusal;
    use crate::facts::Facts;
    use crate::registry::{Found, Keys, Provenance, Registry, ResolveError, View};
    use std::sync::Arc;
    use std::time::Duration;

    /// Where a router looks names up, if anywhere.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Registered(Option<Arc<Registry>>);

    impl Registered {
        pub(crate) const fn with(registry: Arc<Registry>) -> Self {
            Self(Some(registry))
        }

        /// Makes `names` those of now. Where nothing was published meanwhile, they stay the same object: the count of its
        /// owners is a word that all threads would write.
        pub(crate) fn read(&self, names: &mut Option<Names>) {
            let Some(registry) = &self.0 else { return *names = None };
            let view = registry.peek();
            match names {
                Some(names) if Arc::ptr_eq(&names.view, &view) => names.age = view.age(),
                _ => *names = Some(Names { age: view.age(), view: Arc::clone(&view) }),
            }
        }
    }

    /// The registry as a request sees it, from its first plan to its end.
    #[derive(Clone, Debug)]
    pub(crate) struct Names {
        view: Arc<View>,
        /// How old it was when the request came.
        age: Duration,
    }

    impl Names {
        fn found(&self, name: &str, facts: &Facts, seed: u64) -> Result<Found, ResolveError> {
            self.view.follow(name, Keys::of(facts, seed))
        }

        pub(super) fn lead(&self, name: &str, facts: &Facts, seed: u64) -> Lead<'_> {
            match self.found(name, facts, seed) {
                Ok(found) => {
                    Lead::To(Route { version: found.version(&self.view), fallback: found.fallback(&self.view) })
                }
                Err(ResolveError::Unknown) => Lead::Unknown,
                Err(ResolveError::NotServed(state)) => Lead::Refused(Refusal::NotServed { state: state.as_str() }),
                Err(ResolveError::Expired) => Lead::Refused(Refusal::RegistryExpired),
            }
        }

        /// Whether anything is known by this name.
        pub(crate) fn knows(&self, name: &str) -> bool {
            self.view.knows(name)
        }

        /// The version of this name, by its position.
        pub(crate) fn version(&self, full: &str) -> Option<u32> {
            self.view.position(full)
        }

        /// What is known of the version at this position.
        pub(crate) fn terms(&self, version: u32) -> Terms<'_> {
            let version = self.view.at(version);
            Terms {
                capabilities: Some(version.known_capabilities()),
                context_window: version.context_limit().unwrap_or(u64::MAX),
                price: version.known_price(),
            }
        }

        /// Where the answer comes from, for a request that asks for `name`.
        pub(crate) fn provenance(&self, name: Option<&str>, facts: &Facts, seed: u64) -> Provenance<'_> {
            let found = name.and_then(|name| self.found(name, facts, seed).ok());
            self.view.provenance(found, self.age)
        }
    }
}

#[cfg(not(feature = "registry"))]
mod absent {
    use super::{Facts, Lead, Terms};

    /// Nowhere.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Registered;

    impl Registered {
        pub(crate) const fn read(&self, _: &mut Option<Names>) {}
    }

    /// There are none.
    #[derive(Clone, Debug)]
    pub(crate) enum Names {}

    impl Names {
        pub(super) const fn lead(&self, _: &str, _: &Facts, _: u64) -> Lead<'_> {
            match *self {}
        }

        pub(crate) const fn knows(&self, _: &str) -> bool {
            match *self {}
        }

        pub(crate) const fn version(&self, _: &str) -> Option<u32> {
            match *self {}
        }

        pub(crate) const fn terms(&self, _: u32) -> Terms<'_> {
            match *self {}
        }
    }
}
