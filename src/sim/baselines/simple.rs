//! Random, weighted, turns, fewest in flight, the better of two, the nearest region, retries without thought; and the
//! oracle.

use super::bare;
use crate::decision::{Next, Refusal};
use crate::policy::{self, FailSafe, PlanContext, PolicyExt, RoutingPolicy, Slate, policy_fn};
use crate::recover::Ejection;
use crate::rng::Rng;
use crate::sim::{Desk, Reports, Stack};
use std::time::Duration;

/// Any backend, each as likely.
pub fn random(_: &Desk) -> Stack {
    bare(policy_fn("random", |cx: &PlanContext<'_>, slate: &mut Slate<'_>| draw(cx, slate)))
}

fn draw(cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
    let mut rng = cx.rng(STREAM);
    slate.rank(|_| rng.next_u64() >> 1);
}

/// Any backend, as likely as its profile's weight says: its true speed.
pub fn weighted_random(_: &Desk) -> Stack {
    bare(policy_fn("weighted_random", |cx: &PlanContext<'_>, slate: &mut Slate<'_>| {
        let mut total = 0.0;
        slate.each(|candidate| total += candidate.profile().relative_weight());
        let mut point = cx.rng(STREAM).unit() * total;
        slate.rank(|candidate| {
            let before = point;
            point -= candidate.profile().relative_weight();
            u64::from(!(before >= 0.0 && point < 0.0))
        });
    }))
}

/// Each in turn.
pub fn round_robin(_: &Desk) -> Stack {
    bare(policy::round_robin())
}

/// The fewest calls in flight from this router; ties at random.
pub fn least_in_flight(_: &Desk) -> Stack {
    bare(policy_fn("least_in_flight", |_: &PlanContext<'_>, slate: &mut Slate<'_>| {
        slate.rank(|candidate| u64::from(candidate.load().in_flight));
    }))
}

/// Of two random backends the one with fewer calls in flight (Mitzenmacher, *The Power of Two Choices in Randomized
/// Load Balancing*, IEEE TPDS 2001).
pub fn p2c(_: &Desk) -> Stack {
    bare(policy_fn("p2c", |cx: &PlanContext<'_>, slate: &mut Slate<'_>| {
        better_of_two(cx, slate, u64::from);
    }))
}

fn better_of_two(cx: &PlanContext<'_>, slate: &mut Slate<'_>, cost: impl Fn(u32) -> u64) {
    let pair = pair(cx, slate);
    let mut at = 0;
    slate.rank(|candidate| {
        at += 1;
        if pair.contains(&(at - 1)) { cost(candidate.load().in_flight) } else { u64::MAX - 1 }
    });
}

/// Two distinct positions among the usable candidates.
pub(super) fn pair(cx: &PlanContext<'_>, slate: &mut Slate<'_>) -> [usize; 2] {
    let mut count = 0;
    slate.each(|_| count += 1);
    let mut rng = cx.rng(STREAM);
    let first = rng.below(count);
    let second = if count > 1 { (first + 1 + rng.below(count - 1)) % count } else { first };
    [first, second]
}

/// The cheapest backend, and after a failure the next: a list of providers with fallbacks, and no memory of what
/// they answered before.
pub fn in_order(desk: &Desk) -> Stack {
    let attempts = desk.servers() as u32;
    bare(policy_fn("in_order", move |cx: &PlanContext<'_>, slate: &mut Slate<'_>| {
        slate.allow_attempts(attempts);
        slate.rank(|candidate| {
            let failed = cx.attempts().iter().any(|attempt| attempt.backend() == candidate.id());
            let price = candidate.profile().known_price().map_or(u64::MAX >> 1, |price| price.of(1_000, 1_000));
            (u64::from(failed) << 63) | price.min(u64::MAX >> 1)
        });
    }))
}

/// Any backend of the router's own region; where it has none, of the nearest that has.
pub fn nearest_region(desk: &Desk) -> Stack {
    let regions = desk.regions().to_vec();
    bare(policy_fn("nearest_region", move |cx: &PlanContext<'_>, slate: &mut Slate<'_>| {
        let mut rng: Rng = cx.rng(STREAM);
        slate.rank(|candidate| {
            let name = candidate.profile().region_name();
            let distance = regions.iter().position(|region| Some(region.as_str()) == name);
            ((distance.unwrap_or(regions.len()) as u64) << 48) | (rng.next_u64() >> 16)
        });
    }))
}

/// Any backend, and after a failure any other, three times, each attempt for five seconds: the loop that everybody
/// writes first.
pub fn naive_retries(_: &Desk) -> Stack {
    bare(policy_fn("naive_retries", |cx: &PlanContext<'_>, slate: &mut Slate<'_>| {
        slate.allow_attempts(4);
        slate.limit_attempt(cx.now() + Duration::from_secs(5));
        draw(cx, slate);
    }))
}

/// One line for all, in the order in which they come: whoever is first goes where the fewest are in flight, as soon as a server
/// has room.
pub fn global_fifo(desk: &Desk) -> Stack {
    let policy = policy::least_loaded().fail_safe(FailSafe::default().attempts(1));
    Stack::new(policy).ejection(Ejection::off()).queue(usize::MAX).longest_wait(desk.deadline()).untold()
}

/// Sees every server as it is, at no cost, and takes the one where the first token comes soonest: a central queue
/// with perfect knowledge, near enough. Whom it could not serve within the time that an attempt may take, it refuses.
pub fn oracle(desk: &Desk) -> Stack {
    bare(Oracle { reports: desk.reports().clone() })
}

#[derive(Debug)]
struct Oracle {
    reports: Reports,
}

impl RoutingPolicy for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn plan(&self, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
        let tokens = cx.facts().input_tokens() as f64;
        let mut in_time = false;
        slate.rank(|candidate| {
            let limit = candidate.profile().attempt_time_limit().map_or(f64::INFINITY, |limit| limit.as_secs_f64());
            let load = self.reports.truth(candidate.id().slot());
            if !load.up || load.rate <= 0.0 {
                return u64::MAX - 1;
            }
            let seconds = load.base + load.until_room + (load.waiting_tokens + tokens) / load.rate;
            in_time |= seconds < limit;
            (seconds / (1.0 - load.error_share).max(1e-3) * 1e9) as u64
        });
        if !in_time {
            slate.conclude(Next::Refuse { why: Refusal::NothingUsable });
        }
    }
}

/// Separates the draws of these policies from those of the router.
const STREAM: u64 = 0x4241_5345;
