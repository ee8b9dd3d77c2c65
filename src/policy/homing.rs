//! Where other routers probably sent what this one did not.

use super::{PlanContext, Slate};
use crate::rng::{hash_str, mix};

/// What of the rest of a prompt may count as cached, as a power of two: an eighth.
const CREDIT_SHIFT: u32 = 3;

/// Notes of each candidate how much of the prompt it is supposed to have from other routers.
///
/// Routers that know nothing of each other can still agree: each draws a number for every backend, by a hash of its id and of the
/// first block of the prompt that it knows nobody to have (rendezvous hashing, Thaler, Ravishankar 1998). The draw says which
/// part of an eighth of the rest counts as cached there: enough to choose among backends that are about as good, and no
/// reason to wait.
pub(super) fn suppose(cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
    let Some(prefix) = cx.facts().prompt_prefix() else { return };
    let tokens = prefix.tokens(prefix.blocks()).min(cx.facts().input_tokens());
    let mut known = 0;
    slate.each(|candidate| known = known.max(candidate.cached_tokens()));
    let blocks = known.checked_div(prefix.block_tokens().into()).unwrap_or(0);
    // Where somebody has all of it, nothing is left to suppose.
    let next = usize::try_from(blocks).ok().and_then(|block| prefix.hashes().get(block)).filter(|_| known < tokens);
    slate.each(|candidate| {
        let draw = next.map_or(0, |block| mix(*block, hash_str(candidate.profile().id())) >> 32);
        if let Some(belief) = candidate.prefix() {
            let rest = tokens.min(belief.keeps).saturating_sub(belief.cached);
            // Squared, so that few of many stand out; in 1/65,536.
            let chance = (draw * draw) >> 48;
            belief.supposed = rest.saturating_mul(chance) >> (16 + CREDIT_SHIFT);
        }
    });
}
