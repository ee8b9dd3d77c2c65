//! Policies made for prefix caches: LMetric, SGLang's router, llm-d. Without common prefixes they balance load.

use super::bare;
use crate::policy::{PlanContext, RoutingPolicy, Slate, policy_fn};
use crate::sim::{Desk, Reports, Stack};

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

/// SGLang's cache-aware router: the longest match of its prefix tree, if above 30 %, unless the fleet is out of balance
/// (most and least calls in flight more than 64 apart *and* by more than a factor of 1.5); else the fewest calls in
/// flight, ties at random (sgl-model-gateway's `cache_aware.rs` since sgl-project/sglang#14650, which before chose the
/// smallest tree; `--balance-abs-threshold 64 --balance-rel-threshold 1.5 --cache-threshold 0.3`). No prefix is known
/// here, so every prompt is a miss.
pub fn sglang(_: &Desk) -> Stack {
    bare(policy_fn("sglang", |_: &PlanContext<'_>, slate: &mut Slate<'_>| {
        slate.rank(|candidate| u64::from(candidate.load().in_flight));
    }))
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

#[cfg(test)]
mod tests {
    use crate::sim::baselines::Contestant;
    use crate::sim::scenarios::{Scenario, Settings};

    #[test]
    fn without_known_prefixes_sglang_takes_the_fewest_in_flight() {
        let settings = Settings { routers: 3, requests: Some(2_000), ..Settings::default() };
        for stage in Scenario::S1.stages(&settings) {
            let hash = |name| stage.run(Contestant::by_name(name).unwrap()).unwrap().decisions_hash();
            assert_eq!(hash("sglang"), hash("least_in_flight"));
        }
    }
}
