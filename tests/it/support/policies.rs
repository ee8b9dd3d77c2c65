//! Every leaf by name, and a wrapper as a host would write it.

use fallway::RoutingPolicy;
use fallway::policy::{
    Contender, PlanContext, PolicyExt, Slate, cheapest, least_loaded, ordered, power_of_two, predicted_ttft,
    round_robin, sticky, weighted,
};
use std::fmt;

pub(crate) const LEAVES: [&str; 8] =
    ["ordered", "round_robin", "weighted", "least_loaded", "power_of_two", "predicted_ttft", "cheapest", "sticky"];

pub(crate) fn leaf(name: &str) -> Box<dyn RoutingPolicy> {
    match name {
        "ordered" => ordered().boxed(),
        "round_robin" => round_robin().boxed(),
        "weighted" => weighted().boxed(),
        "least_loaded" => least_loaded().boxed(),
        "power_of_two" => power_of_two().boxed(),
        "predicted_ttft" => predicted_ttft().boxed(),
        "cheapest" => cheapest().boxed(),
        "sticky" => sticky().boxed(),
        name => panic!("no leaf is called {name}"),
    }
}

/// A wrapper that draws a line through the usable candidates, after the inner policy or before, and knows nothing of
/// those that were rejected.
pub(crate) struct Guard<P, F> {
    inner: P,
    line: F,
    first: bool,
}

/// A guard that speaks after `inner`.
pub(crate) fn guard<P, F>(inner: P, line: F) -> Guard<P, F>
where
    F: Fn(&PlanContext<'_>, &mut Contender<'_>) + Send + Sync,
{
    Guard { inner, line, first: false }
}

impl<P, F> Guard<P, F> {
    /// Speaks before the inner policy.
    pub(crate) fn first(self) -> Self {
        Self { first: true, ..self }
    }
}

impl<P, F> fmt::Debug for Guard<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl<P, F> RoutingPolicy for Guard<P, F>
where
    P: RoutingPolicy,
    F: Fn(&PlanContext<'_>, &mut Contender<'_>) + Send + Sync,
{
    fn name(&self) -> &'static str {
        "guard"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let line = |slate: &mut Slate<'_>| slate.each(|candidate| (self.line)(cx, candidate));
        if self.first {
            line(slate);
            self.inner.plan(cx, slate);
        } else {
            self.inner.plan(cx, slate);
            line(slate);
        }
    }

    fn inner(&self) -> Option<&dyn RoutingPolicy> {
        Some(&self.inner)
    }
}
