//! LiteLLM's router: order, cooldown, retries; its usage-based routing.

use super::{Learner, Pupil, bare};
use crate::backend::FailureKind;
use crate::event::{Event, Outcome};
use crate::policy::{PlanContext, RoutingPolicy, Slate};
use crate::sim::{Desk, Stack};
use crate::time::Instant;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Any backend that does not cool down, at random (`simple-shuffle`), twice again after a failure. A backend cools
/// down for 5 s after a 429, or when more than half of at least five of its requests in the current minute failed;
/// where all cool down, the request fails (LiteLLM's `cooldown_handlers.py`: `DEFAULT_COOLDOWN_TIME_SECONDS` 5,
/// `DEFAULT_FAILURE_THRESHOLD_PERCENT` 0.5, `num_retries` 2; its retries do not wait where others are healthy).
pub fn litellm(_: &Desk) -> Stack {
    let policy = Arc::new(LiteLlm::default());
    bare(policy.clone()).observer(Pupil(policy))
}

#[derive(Debug, Default)]
struct LiteLlm {
    deployments: Mutex<Vec<Deployment>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Deployment {
    minute: u64,
    failed: u32,
    succeeded: u32,
    cools_until: Instant,
}

const COOLDOWN: Duration = Duration::from_secs(5);
const MINUTE: u64 = 60_000_000_000;
const RETRIES: u32 = 2;
const AT_LEAST: u32 = 5;

impl LiteLlm {
    fn with<T>(&self, slot: usize, then: impl FnOnce(&mut Deployment) -> T) -> T {
        let mut deployments = self.deployments.lock();
        if deployments.len() <= slot {
            deployments.resize(slot + 1, Deployment::default());
        }
        then(&mut deployments[slot])
    }
}

impl Learner for LiteLlm {
    fn learn(&self, event: &Event<'_>, now: Instant) {
        let Event::Ended { backend, outcome, .. } = event else { return };
        self.with(backend.slot(), |it| {
            let minute = now.as_nanos() / MINUTE;
            if it.minute != minute {
                *it = Deployment { minute, cools_until: it.cools_until, ..Deployment::default() };
            }
            match outcome {
                Outcome::Success => it.succeeded += 1,
                Outcome::Cancelled | Outcome::Outrun => {}
                Outcome::Failure(error) => {
                    it.failed += 1;
                    let all = it.failed + it.succeeded;
                    if error.kind() == FailureKind::RateLimited || (all >= AT_LEAST && it.failed * 2 > all) {
                        it.cools_until = now + COOLDOWN;
                    }
                }
            }
        });
    }
}

impl RoutingPolicy for LiteLlm {
    fn name(&self) -> &'static str {
        "litellm"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        slate.allow_attempts(RETRIES + 1);
        let mut rng = cx.rng(0x004c_4c4d);
        slate.each(|candidate| {
            if self.with(candidate.id().slot(), |it| it.cools_until > cx.now()) {
                candidate.reject(crate::decision::Reason::Custom { text: "cooling down" });
            } else {
                candidate.rank(rng.next_u64() >> 1);
            }
        });
    }
}

/// LiteLLM's `usage-based-routing-v2`: of the backends that do not cool down, the one that used the fewest tokens in the
/// current minute of the clock, unless that and the prompt are over its limit or its requests of the minute are; ties at
/// random; where all are over, the request fails. Tokens count when an answer is complete, requests when they are sent
/// (`litellm/router_strategy/lowest_tpm_rpm_v2.py`, commit 005df01). Cooldown and retries as in [`litellm`]. Instances that
/// share a Redis share these counts; here each has counts and limits of its own, its part of the quota.
pub fn litellm_usage(desk: &Desk) -> Stack {
    let policy = Arc::new(Usage { quotas: desk.quotas().to_vec(), ..Usage::default() });
    bare(policy.clone()).observer(Pupil(policy))
}

#[derive(Debug, Default)]
struct Usage {
    quotas: Vec<(Option<u64>, Option<u64>)>,
    cooldown: LiteLlm,
    /// Of each backend: the minute, and its requests and tokens.
    used: Mutex<Vec<(u64, u64, u64)>>,
}

impl Usage {
    fn with<T>(&self, slot: usize, now: Instant, then: impl FnOnce(&mut u64, &mut u64) -> T) -> T {
        let mut used = self.used.lock();
        if used.len() <= slot {
            used.resize(slot + 1, (0, 0, 0));
        }
        let minute = now.as_nanos() / MINUTE;
        if used[slot].0 != minute {
            used[slot] = (minute, 0, 0);
        }
        let (_, requests, tokens) = &mut used[slot];
        then(requests, tokens)
    }
}

impl Learner for Usage {
    fn learn(&self, event: &Event<'_>, now: Instant) {
        match event {
            Event::Started { backend, .. } => self.with(backend.slot(), now, |requests, _| *requests += 1),
            Event::Usage { backend, tokens: Some(used), .. } => {
                self.with(backend.slot(), now, |_, tokens| *tokens += used);
            }
            _ => {}
        }
        self.cooldown.learn(event, now);
    }
}

impl RoutingPolicy for Usage {
    fn name(&self) -> &'static str {
        "litellm_usage"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        self.cooldown.plan(cx, slate);
        let (now, prompt) = (cx.now(), cx.facts().input_tokens());
        slate.each(|candidate| {
            let slot = candidate.id().slot();
            let (requests, tokens) = self.quotas.get(slot).copied().unwrap_or_default();
            let (sent, used) = self.with(slot, now, |sent, used| (*sent, *used));
            let over = tokens.is_some_and(|limit| used + prompt > limit)
                || requests.is_some_and(|limit| sent > 0 && sent + 1 >= limit);
            if over {
                candidate.reject(crate::decision::Reason::Custom { text: "over its limit" });
            } else {
                candidate.rank(used);
            }
        });
    }
}
