//! Policies made for prefix caches: LMetric, SGLang's router, llm-d. Without common prefixes they balance load.

use super::bare;
use crate::policy::{PlanContext, RoutingPolicy, Slate};
use crate::sim::{Desk, Reports, Stack};
use parking_lot::Mutex;

/// LMetric: the least product of *prompt tokens that would have to be prefilled there, those waiting included* and
/// *requests in the batch* (Zhang et al., *LMetric: Simple is Better*, arXiv:2603.15202). No parameters. Both come
/// from the servers' load reports.
pub fn lmetric(desk: &Desk) -> Stack {
    bare(LMetric { reports: desk.reports().clone() })
}

#[derive(Debug)]
struct LMetric {
    reports: Reports,
}

impl RoutingPolicy for LMetric {
    fn name(&self) -> &'static str {
        "lmetric"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let tokens = cx.facts().input_tokens() as f64;
        slate.rank(|candidate| {
            let load = self.reports.report(candidate.id().slot());
            ((load.waiting_tokens + tokens) * (load.in_flight + 1) as f64 * 1e3) as u64
        });
    }
}

/// SGLang's cache-aware router: where the fleet is out of balance (most and least calls in flight more than 64 apart
/// *and* by more than a factor of 1.5) the fewest in flight; else the longest match of its prefix tree, if above
/// 30 %, else the server with the smallest tree (`--balance-abs-threshold 64 --balance-rel-threshold 1.5
/// --cache-threshold 0.3`, the defaults of sglang-router). No prefix is known here, so every prompt goes to the
/// smallest tree.
pub fn sglang(_: &Desk) -> Stack {
    bare(SgLang::default())
}

#[derive(Debug, Default)]
struct SgLang {
    /// Tokens in each server's tree.
    trees: Mutex<Vec<u64>>,
}

const ABSOLUTE: u32 = 64;
const RELATIVE: f64 = 1.5;

impl RoutingPolicy for SgLang {
    fn name(&self) -> &'static str {
        "sglang"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let (mut least, mut most) = (u32::MAX, 0);
        slate.each(|candidate| {
            let load = candidate.load().in_flight;
            (least, most) = (least.min(load), most.max(load));
        });
        let mut trees = self.trees.lock();
        let unbalanced = most.saturating_sub(least) > ABSOLUTE && f64::from(most) > f64::from(least) * RELATIVE;
        let mut best = (u64::MAX, 0);
        slate.rank(|candidate| {
            let slot = candidate.id().slot();
            if trees.len() <= slot {
                trees.resize(slot + 1, 0);
            }
            let cost = if unbalanced { u64::from(candidate.load().in_flight) } else { trees[slot] };
            best = best.min((cost, slot));
            cost
        });
        if let Some(tree) = trees.get_mut(best.1) {
            *tree += cx.facts().input_tokens();
        }
    }
}

/// llm-d's scheduler with its queue, KV-cache and prefix scorers at weights 2 : 2 : 3, each between 0 and 1, the
/// highest sum wins: the queue scorer is min-max normalised over the candidates, the KV-cache scorer is the free
/// share (llm-d-inference-scheduler's `queue-scorer`, `kv-cache-utilization-scorer`, `prefix-cache-scorer`,
/// `max-score-picker`). From load reports; without common prefixes the third is 0 for all.
pub fn llm_d(desk: &Desk) -> Stack {
    bare(LlmD { reports: desk.reports().clone() })
}

#[derive(Debug)]
struct LlmD {
    reports: Reports,
}

impl RoutingPolicy for LlmD {
    fn name(&self) -> &'static str {
        "llm_d"
    }

    fn plan(&self, _: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let (mut least, mut most) = (usize::MAX, 0);
        slate.each(|candidate| {
            let queued = self.reports.report(candidate.id().slot()).queued;
            (least, most) = (least.min(queued), most.max(queued));
        });
        slate.rank(|candidate| {
            let load = self.reports.report(candidate.id().slot());
            let queue = if most > least { (most - load.queued.min(most)) as f64 / (most - least) as f64 } else { 1.0 };
            let score = 2.0 * queue + 2.0 * (1.0 - load.kv_use.clamp(0.0, 1.0));
            ((7.0 - score) * 1e12) as u64
        });
    }
}
