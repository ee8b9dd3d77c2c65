//! Closures as policies.

use super::{PlanContext, RoutingPolicy, Slate};
use std::fmt;

/// See [`policy_fn`].
#[derive(Clone, Copy)]
pub struct PolicyFn<F> {
    name: &'static str,
    plan: F,
}

/// A policy from a closure.
///
/// ```
/// use fallway::policy::policy_fn;
/// let cheap_first = policy_fn("cheap_first", |cx, slate| {
///     let facts = cx.facts();
///     slate.rank(|candidate| match candidate.price() {
///         Some(price) => price.of(facts.input_tokens(), facts.expected_output_tokens()),
///         None => u64::MAX - 1,
///     });
/// });
/// ```
pub fn policy_fn<F>(name: &'static str, plan: F) -> PolicyFn<F>
where
    F: Fn(&PlanContext<'_>, &mut Slate<'_>) + Send + Sync,
{
    PolicyFn { name, plan }
}

impl<F> fmt::Debug for PolicyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PolicyFn").field(&self.name).finish()
    }
}

impl<F> RoutingPolicy for PolicyFn<F>
where
    F: Fn(&PlanContext<'_>, &mut Slate<'_>) + Send + Sync,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        (self.plan)(cx, slate);
    }
}
