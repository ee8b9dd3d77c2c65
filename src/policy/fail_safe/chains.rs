//! The walk through the tiers of a request.

use super::config::Chains;
use super::{FailSafe, failed_with};
use crate::backend::FailureKind;
use crate::decision::names::Lead;
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
            self.walk(tiers, cx, slate, DEPTH, &mut |slate| plan(slate, false));
            return;
        }
        let Some(requested) = requested else {
            // Any model: one tier of everything.
            slate.range();
            plan(slate, false);
            return;
        };
        let done = match (cx.lead(requested), chains) {
            (lead @ (Lead::To(_) | Lead::Refused(_)), _) => {
                let general = chains.map_or(&[][..], |chains| &chains.general);
                self.by_registry((requested, lead), general, cx, slate, &mut |slate| plan(slate, false))
            }
            (_, Some(chains)) if chains.split.is_some() || !chains.general.is_empty() => {
                self.follow(chains, cx, slate, DEPTH, &mut |slate| plan(slate, false))
            }
            _ => slate.visit(requested) && plan(slate, false),
        };
        let larger = chains.filter(|_| failed_with(cx, FailureKind::ContextTooLong));
        let larger = larger.map_or(&[][..], |chains| &chains.larger_window);
        if !done && !self.walk(larger, cx, slate, DEPTH, &mut |slate| plan(slate, true)) {
            self.walk(&self.fallback, cx, slate, DEPTH, &mut |slate| plan(slate, false));
        }
    }

    /// The version to which the registry leads, those that stand in by its word, and then by the host's.
    fn by_registry(
        &self,
        (requested, lead): (&str, Lead<'_>),
        general: &[String],
        cx: &PlanContext<'_>,
        slate: &mut Slate<'_>,
        plan: &mut dyn FnMut(&mut Slate<'_>) -> bool,
    ) -> bool {
        if let Lead::To(route) = lead {
            // By the name that was asked for: a version in quarantine is served by an alias that has no other.
            if slate.visit(requested) && plan(slate) {
                return true;
            }
            if self.walk(route.fallback, cx, slate, DEPTH, plan) {
                return true;
            }
        }
        self.walk(general, cx, slate, DEPTH, plan)
    }

    /// How many tiers of the request were not opened yet.
    pub(super) fn tiers_behind(&self, cx: &PlanContext<'_>, slate: &Slate<'_>) -> u32 {
        let Some(requested) = cx.facts().requested_model() else { return 0 };
        let stand_in = match cx.lead(requested) {
            Lead::To(route) => route.fallback,
            _ => &[],
        };
        let stand_in = stand_in.iter().map(|name| &**name);
        let own = stand_in.chain(self.chains.get(requested).into_iter().flat_map(Chains::tiers));
        let tiers = own.chain(self.fallback.iter().map(String::as_str));
        tiers.filter(|tier| slate.has_model(tier) && !slate.is_open(tier)).count() as u32
    }

    /// The tiers of an alias: the arm that the request draws, if it splits, and those behind it.
    fn follow(
        &self,
        chains: &Chains,
        cx: &PlanContext<'_>,
        slate: &mut Slate<'_>,
        depth: u32,
        plan: &mut dyn FnMut(&mut Slate<'_>) -> bool,
    ) -> bool {
        let Some(split) = &chains.split else { return self.walk(&chains.general, cx, slate, depth, plan) };
        // The time of the arrival: a ramp must not move a request between its attempts.
        let at = cx.arrival();
        let drawn = split.draw(cx.facts(), cx.seed, at);
        slate.sheet.note_draw(split, drawn, at);
        if self.walk(split.target(drawn.1), cx, slate, depth, plan) {
            return true;
        }
        if !chains.general.is_empty() {
            return self.walk(&chains.general, cx, slate, depth, plan);
        }
        let others = split.arms(at).filter(|(_, share)| *share > 0);
        self.walk(others.map(|(arm, _)| arm), cx, slate, depth, plan)
    }

    fn walk<'t>(
        &self,
        tiers: impl IntoIterator<Item = &'t (impl AsRef<str> + ?Sized + 't)>,
        cx: &PlanContext<'_>,
        slate: &mut Slate<'_>,
        depth: u32,
        plan: &mut dyn FnMut(&mut Slate<'_>) -> bool,
    ) -> bool {
        tiers.into_iter().map(AsRef::as_ref).any(|tier| {
            if slate.has_model(tier) {
                // Opened before means planned before, and found empty.
                return slate.visit(tier) && plan(slate);
            }
            match self.chains.get(tier) {
                Some(chains) if depth > 0 => self.follow(chains, cx, slate, depth - 1, plan),
                _ => false,
            }
        })
    }
}
