//! Makes a plan small that shows a violation.

use super::super::Server;
use super::super::audit::Finding;
use super::super::fault::Target;
use super::plan::Plan;

/// Plays that a violation may cost. Each takes about as long as the round did.
const PLAYS: u32 = 300;

/// The smallest plan found that violates the same invariant, and how.
pub(super) fn shrink(plan: &Plan, finding: Finding) -> (Plan, Finding) {
    let (mut plan, mut finding) = (plan.clone(), finding);
    let mut plays = 0;
    loop {
        let mut smaller = false;
        for candidate in candidates(&plan) {
            if plays == PLAYS {
                return (plan, finding);
            }
            plays += 1;
            if let Some(found) = candidate.play().finding.filter(|found| found.code == finding.code) {
                (plan, finding, smaller) = (candidate, found, true);
                break;
            }
        }
        if !smaller {
            return (plan, finding);
        }
    }
}

/// What could be left out, the most at first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut found = Vec::new();
    let mut offer = |change: &dyn Fn(&mut Plan)| {
        let mut candidate = plan.clone();
        change(&mut candidate);
        found.push(candidate);
    };
    if plan.routers > 1 {
        offer(&|plan| plan.routers = 1);
        offer(&|plan| plan.routers -= 1);
    }
    let faults = plan.faults.len();
    if faults > 1 {
        offer(&|plan| plan.faults.truncate(faults / 2));
        offer(&|plan| drop(plan.faults.drain(..faults / 2)));
    }
    for at in 0..faults {
        offer(&|plan| drop(plan.faults.remove(at)));
    }
    for at in 1..plan.servers.len() {
        offer(&|plan| plan.remove_server(at));
    }
    if plan.probes.is_some() {
        offer(&|plan| plan.probes = None);
    }
    if plan.impatient.is_some() {
        offer(&|plan| plan.impatient = None);
    }
    if plan.attempt_limit.is_some() {
        offer(&|plan| plan.attempt_limit = None);
    }
    if plan.replay_safe < 1.0 {
        offer(&|plan| plan.replay_safe = 1.0);
    }
    if plan.preference.is_some() {
        offer(&|plan| plan.preference = None);
        offer(&|plan| plan.preference.iter_mut().for_each(|it| it.homes = false));
        offer(&|plan| plan.preference.iter_mut().for_each(|it| it.exercise = 0.0));
    }
    if plan.residency.is_some() {
        offer(&|plan| plan.residency = None);
    }
    if plan.money.is_some() {
        offer(&|plan| plan.money = None);
        offer(&|plan| plan.money.iter_mut().for_each(|money| money.cap = None));
        offer(&|plan| plan.money.iter_mut().for_each(|money| money.allowance = None));
    }
    if plan.tenants.is_some() {
        offer(&|plan| plan.tenants = None);
    }
    if plan.stack.hedge.is_some() {
        offer(&|plan| plan.stack.hedge = None);
    }
    if plan.stack.budgeted.is_some() {
        offer(&|plan| plan.stack.budgeted = None);
        offer(&|plan| plan.stack.budgeted = Some(false));
    }
    if plan.servers.iter().any(|server| server.token_bounds != (None, None)) {
        offer(&|plan| plan.servers.iter_mut().for_each(|server| server.token_bounds = (None, None)));
    }
    if plan.servers.iter().any(Server::has_quota) {
        offer(&|plan| plan.servers.iter_mut().for_each(|it| *it = it.clone().quota(None, None)));
    }
    if plan.reserve.is_some() {
        offer(&|plan| plan.reserve = None);
    }
    if plan.sessions > 0 {
        offer(&|plan| plan.sessions = 0);
    }
    if plan.lengths.len() > 1 {
        offer(&|plan| plan.lengths.truncate(1));
    }
    if plan.load > 0.1 {
        offer(&|plan| plan.load = (plan.load / 2.0).max(0.1));
    }
    found
}

impl Plan {
    /// Without the server at this position, and without what would have happened to it alone.
    fn remove_server(&mut self, at: usize) {
        let removed = self.servers.remove(at);
        let servers = &self.servers;
        let start = |name: &str| servers.iter().any(|it| it.region == *name && it.joins.is_zero());
        if let Some(preference) = &mut self.preference {
            preference.order.retain(|name| start(name));
        }
        self.preference = self.preference.take().filter(|preference| !preference.order.is_empty());
        if let Some((_, regions)) = &mut self.residency {
            regions.retain(|name| servers.iter().any(|server| server.region == *name));
        }
        if self.residency.as_ref().is_some_and(|(_, regions)| regions.is_empty()) {
            self.residency = None;
        }
        self.faults.retain(|fault| match &fault.target {
            Target::Everywhere => true,
            Target::Server(id) => *id != removed.id,
            Target::Region(name) => servers.iter().any(|server| server.region == *name),
        });
        if servers.iter().all(|server| server.model != super::plan::SECOND)
            && let Some(safe) = &mut self.stack.safe
        {
            safe.fallback = false;
        }
    }
}
