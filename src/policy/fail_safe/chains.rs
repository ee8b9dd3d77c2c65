//! The walk through the tiers of a request.

use super::{FailSafe, last_failure};
use crate::backend::FailureKind;
use crate::policy::{PlanContext, Slate};

/// How deep aliases may name aliases. `check` refuses cycles; this bounds the walk whatever happens.
pub(super) const DEPTH: u32 = 8;

impl FailSafe {
    /// Opens the request's tiers one after the other and calls `plan` on each until it returns `true`.
    pub(super) fn each_tier(
        &self,
        cx: &PlanContext<'_>,
        slate: &mut Slate<'_>,
        plan: &mut dyn FnMut(&mut Slate<'_>) -> bool,
    ) {
        let Some(requested) = cx.facts().requested_model() else {
            // Any model: one tier of everything.
            slate.range();
            plan(slate);
            return;
        };
        let failure = last_failure(cx);
        if failure == Some(FailureKind::ContentRejected) {
            let tiers = self.chains.get(requested).map_or(&[][..], |chains| &chains.rejected_content);
            self.walk(tiers, slate, DEPTH, plan);
            return;
        }
        let chains = self.chains.get(requested);
        let done = match chains {
            Some(chains) if !chains.general.is_empty() => self.walk(&chains.general, slate, DEPTH, plan),
            _ => slate.visit(requested) && plan(slate),
        };
        let done = done
            || failure == Some(FailureKind::ContextTooLong)
                && self.walk(chains.map_or(&[][..], |chains| &chains.larger_window), slate, DEPTH, plan);
        if !done {
            self.walk(&self.fallback, slate, DEPTH, plan);
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
