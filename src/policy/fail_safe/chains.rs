//! The walk through the tiers of a request.

use super::{FailSafe, failed_with};
use crate::backend::FailureKind;
use crate::policy::{PlanContext, Slate};

/// How deep aliases may name aliases. `check` refuses cycles; this bounds the walk whatever happens.
pub(super) const DEPTH: u32 = 8;

impl FailSafe {
    /// Opens the request's tiers one after the other and calls `plan` on each until it returns `true`. `plan` is told
    /// whether the tier was configured for prompts that are too long for others.
    ///
    /// What an attempt taught stays true for the request: content that was refused goes to no general tier again,
    /// whatever the next attempt failed with.
    pub(super) fn each_tier(
        &self,
        cx: &PlanContext<'_>,
        slate: &mut Slate<'_>,
        plan: &mut dyn FnMut(&mut Slate<'_>, bool) -> bool,
    ) {
        let requested = cx.facts().requested_model();
        let chains = requested.and_then(|model| self.chains.get(model));
        if failed_with(cx, FailureKind::ContentRejected) {
            let tiers = chains.map_or(&[][..], |chains| &chains.rejected_content);
            self.walk(tiers, slate, DEPTH, &mut |slate| plan(slate, false));
            return;
        }
        let Some(requested) = requested else {
            // Any model: one tier of everything.
            slate.range();
            plan(slate, false);
            return;
        };
        let done = match chains {
            Some(chains) if !chains.general.is_empty() => {
                self.walk(&chains.general, slate, DEPTH, &mut |slate| plan(slate, false))
            }
            _ => slate.visit(requested) && plan(slate, false),
        };
        let larger = chains.filter(|_| failed_with(cx, FailureKind::ContextTooLong));
        let larger = larger.map_or(&[][..], |chains| &chains.larger_window);
        if !done && !self.walk(larger, slate, DEPTH, &mut |slate| plan(slate, true)) {
            self.walk(&self.fallback, slate, DEPTH, &mut |slate| plan(slate, false));
        }
    }

    /// How many tiers of the request were not opened yet.
    pub(super) fn tiers_behind(&self, cx: &PlanContext<'_>, slate: &Slate<'_>) -> u32 {
        let Some(requested) = cx.facts().requested_model() else { return 0 };
        let own = self.chains.get(requested).map_or(&[][..], |chains| &chains.general);
        own.iter().chain(&self.fallback).filter(|tier| slate.has_model(tier) && !slate.is_open(tier)).count() as u32
    }

    fn walk(
        &self,
        tiers: &[String],
        slate: &mut Slate<'_>,
        depth: u32,
        plan: &mut dyn FnMut(&mut Slate<'_>) -> bool,
    ) -> bool {
        tiers.iter().any(|tier| {
            if slate.has_model(tier) {
                // Opened before means planned before, and found empty.
                return slate.visit(tier) && plan(slate);
            }
            match self.chains.get(tier) {
                Some(chains) if depth > 0 => self.walk(&chains.general, slate, depth - 1, plan),
                _ => false,
            }
        })
    }
}
