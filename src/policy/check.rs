//! What `build` and `update` ask of a policy.

use super::{RoutingPolicy, stack};
use crate::decision::names::Names;
use crate::fleet::Fleet;
use std::time::Duration;

/// A mistake in a policy's configuration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{policy}: {problem}")]
pub struct PolicyError {
    policy: &'static str,
    problem: String,
}

impl PolicyError {
    /// The policy that is configured wrongly.
    pub const fn policy(&self) -> &'static str {
        self.policy
    }
}

/// The fleet as a policy's [`check`](super::RoutingPolicy::check) sees it, and where it reports.
#[derive(Debug)]
pub struct Check<'a> {
    pub(crate) fleet: &'a Fleet,
    /// The router was built before: its policy's names were held against a fleet then.
    pub(crate) again: bool,
    /// What a request has that brings no deadline of its own.
    pub(crate) default_deadline: Duration,
    /// The registry as it is now.
    pub(crate) names: Option<Names>,
    pub(crate) errors: Vec<PolicyError>,
}

impl Check<'_> {
    /// `fail_safe` opens tiers and decides about waiting and retries, where the `wrapper` around `inner` must have spoken.
    pub(super) fn has_no_fail_safe(&mut self, wrapper: &'static str, inner: &dyn RoutingPolicy) {
        self.has_none_of(&["fail_safe"], wrapper, inner);
    }

    /// Reports the policies inside of `wrapper` that belong around it.
    pub(super) fn has_none_of(&mut self, outer: &[&str], wrapper: &'static str, inner: &dyn RoutingPolicy) {
        for policy in stack(inner).filter(|policy| outer.contains(&policy.name())) {
            self.error(wrapper, format!("{} stands inside of it; it belongs around it", policy.name()));
        }
    }

    /// Reports a mistake; name the offender in `problem`.
    pub fn error(&mut self, policy: &'static str, problem: impl Into<String>) {
        self.errors.push(PolicyError { policy, problem: problem.into() });
    }

    /// Whether a backend serves this model (`name` or `name@version`), or the registry knows the name. Always `true` in an
    /// update, for a model may lose its last backend and gain another.
    pub fn has_model(&self, model: &str) -> bool {
        self.again || self.fleet.model(model).is_some() || self.is_registered(model)
    }

    /// Whether the registry knows the name.
    pub(super) fn is_registered(&self, name: &str) -> bool {
        self.names.as_ref().is_some_and(|names| names.knows(name))
    }

    /// Whether a backend stands in this region. Always `true` in an update, for a region may be scaled down to nothing.
    pub fn has_region(&self, region: &str) -> bool {
        self.again || self.fleet.has_region(region)
    }

    /// Whether a backend stands in a region or zone of this name; in an update as [`has_region`](Self::has_region).
    pub fn has_place(&self, name: &str) -> bool {
        self.again || self.fleet.has_place(name)
    }
}
