//! Policies made for prefix caches: LMetric, SGLang's router, llm-d. Without common prefixes they balance load.

use super::sent::Sent;
use super::{Pupil, bare};
use crate::policy::{PlanContext, RoutingPolicy, Slate};
use crate::sim::{Desk, Reports, Request, Stack};
use std::sync::Arc;

/// LMetric: the least product of *prompt tokens that would have to be prefilled there, those waiting included* and
/// *requests in the batch* (Zhang et al., *LMetric: Simple is Better*, arXiv:2603.15202). No parameters. Load comes
/// from the servers' load reports, and what a server has of a prompt from what this router sent there.
pub fn lmetric(desk: &Desk) -> Stack {
    let sent = Arc::new(Sent::new(desk, LMETRIC_BLOCKS));
    bare(LMetric { reports: desk.reports().clone(), sent: sent.clone() }).observer(Pupil(sent))
}

/// Blocks that are remembered for each server; as many as llm-d's.
const LMETRIC_BLOCKS: usize = LLM_D_BLOCKS;

#[derive(Debug)]
struct LMetric {
    reports: Reports,
    sent: Arc<Sent>,
}

impl RoutingPolicy for LMetric {
    fn name(&self) -> &'static str {
        "lmetric"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let tokens = cx.facts().input_tokens();
        slate.rank(|candidate| {
            let load = self.reports.report(candidate.id().slot());
            let new = (tokens - self.sent.tokens(candidate.id().slot(), cx.facts())) as f64;
            ((load.waiting_tokens + new) * (load.in_flight + 1) as f64 * 1e3) as u64
        });
    }
}

/// SGLang's cache-aware router: the longest match of its prefix tree, if above 30 %, unless the fleet is out of balance
/// (most and least calls in flight more than 64 apart *and* by more than a factor of 1.5); else the fewest calls in
/// flight, ties at random (sgl-model-gateway's `cache_aware.rs` since sgl-project/sglang#14650, which before chose the
/// smallest tree; `--balance-abs-threshold 64 --balance-rel-threshold 1.5 --cache-threshold 0.3`,
/// `--max-tree-size 67108864` characters).
pub fn sglang(desk: &Desk) -> Stack {
    let sent = Arc::new(Sent::new(desk, SGLANG_BLOCKS));
    bare(SgLang { sent: sent.clone() }).observer(Pupil(sent))
}

/// 2²⁶ characters, four for each token.
const SGLANG_BLOCKS: usize = (1 << 26) / (4 * Request::BLOCK as usize);

#[derive(Debug)]
struct SgLang {
    sent: Arc<Sent>,
}

impl RoutingPolicy for SgLang {
    fn name(&self) -> &'static str {
        "sglang"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let (mut least, mut most, mut longest) = (u32::MAX, 0, 0);
        slate.each(|candidate| {
            let in_flight = candidate.load().in_flight;
            (least, most) = (least.min(in_flight), most.max(in_flight));
            longest = longest.max(self.sent.tokens(candidate.id().slot(), cx.facts()));
        });
        let unbalanced = most.saturating_sub(least) > 64 && f64::from(most) > 1.5 * f64::from(least);
        let matches = longest as f64 > 0.3 * cx.facts().input_tokens() as f64 && !unbalanced;
        slate.rank(|candidate| {
            let in_flight = u64::from(candidate.load().in_flight);
            let best = self.sent.tokens(candidate.id().slot(), cx.facts()) == longest;
            if matches && !best { u64::from(u32::MAX) + in_flight } else { in_flight }
        });
    }
}

/// llm-d's scheduler with its queue, KV-cache and prefix scorers at weights 2 : 2 : 3, each between 0 and 1, the
/// highest sum wins: the queue scorer is min-max normalised over the candidates, the KV-cache scorer is the free
/// share, the prefix scorer the share of the prompt's blocks that the server was sent before
/// (llm-d-inference-scheduler's `queue-scorer`, `kv-cache-utilization-scorer`, `prefix-cache-scorer` with
/// `lruCapacityPerServer` 31250 of 64 tokens, `max-score-picker`). Load comes from load reports.
pub fn llm_d(desk: &Desk) -> Stack {
    let sent = Arc::new(Sent::new(desk, LLM_D_BLOCKS));
    bare(LlmD { reports: desk.reports().clone(), sent: sent.clone() }).observer(Pupil(sent))
}

/// 31,250 blocks of 64 tokens.
const LLM_D_BLOCKS: usize = 31_250 * 64 / Request::BLOCK as usize;

#[derive(Debug)]
struct LlmD {
    reports: Reports,
    sent: Arc<Sent>,
}

impl RoutingPolicy for LlmD {
    fn name(&self) -> &'static str {
        "llm_d"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let (mut least, mut most) = (usize::MAX, 0);
        slate.each(|candidate| {
            let queued = self.reports.report(candidate.id().slot()).queued;
            (least, most) = (least.min(queued), most.max(queued));
        });
        let prompt = cx.facts().input_tokens().max(1) as f64;
        slate.rank(|candidate| {
            let load = self.reports.report(candidate.id().slot());
            let queue = if most > least { (most - load.queued.min(most)) as f64 / (most - least) as f64 } else { 1.0 };
            let prefix = self.sent.tokens(candidate.id().slot(), cx.facts()) as f64 / prompt;
            let score = 2.0 * queue + 2.0 * (1.0 - load.kv_use.clamp(0.0, 1.0)) + 3.0 * prefix;
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
