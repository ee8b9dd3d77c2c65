//! Runs a policy over a slate: the pure heart of a decision.

use super::slate::{Slate, Source};
use super::survey::Asked;
pub(crate) use super::survey::Live;
use super::{PlanContext, RoutingPolicy, Window};
use crate::decision::record::{Entry, Record, Sheet};
use crate::decision::{Next, Refusal};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Decides over the live fleet. The inputs stand in `record`; the sheet is written anew.
pub(crate) fn decide(policy: &dyn RoutingPolicy, window: Window, live: Live<'_>, record: &mut Record) {
    let source = Source::Live { live, dry_run: record.dry_run };
    run(policy, window, source, record);
}

/// Decides again over what an earlier decision saw. `record` has the inputs of that decision and its sheet is
/// empty.
pub(crate) fn replay(policy: &dyn RoutingPolicy, recorded: &Sheet, record: &mut Record) {
    run(policy, Window::Random, Source::Recorded(recorded), record);
}

fn run(policy: &dyn RoutingPolicy, window: Window, source: Source<'_>, record: &mut Record) {
    let Record { roster, facts, seed, now, deadline, extra, last_resort, attempts, sheet, .. } = record;
    sheet.clear();
    let facts = facts.as_ref().expect("a record in use has the facts of its request");
    let cx = PlanContext {
        facts,
        now: *now,
        deadline: *deadline,
        seed: *seed,
        attempts,
        extra: *extra,
        last_resort: *last_resort,
    };
    let asked = Asked { facts, now: *now, seed: *seed };
    let mut slate = Slate { sheet, source, roster, asked, window, current: None };
    if catch_unwind(AssertUnwindSafe(|| policy.plan(&cx, &mut slate))).is_err() {
        safe_order(&mut slate);
    }
    sheet.best = sheet.best(*seed);
    if sheet.next.is_none() {
        let unknown = sheet.tiers.is_empty();
        sheet.next = Some(match sheet.best {
            Some(_) => Next::Call { at: *now },
            None if unknown => Next::Refuse { why: Refusal::UnknownModel },
            None => Next::Refuse { why: Refusal::NothingUsable },
        });
    }
}

/// The order for when a policy panicked: what the survey lets through, as the host listed it.
fn safe_order(slate: &mut Slate<'_>) {
    for index in slate.range() {
        let Entry { seat, tier, known, .. } = slate.sheet.entries[index];
        let mut entry = Entry { known, cost: u64::from(seat), ..Entry::new(seat, tier) };
        if let Some(finding) = slate.sheet.findings.iter().find(|finding| finding.index == index) {
            finding.apply(&mut entry);
        }
        slate.sheet.entries[index] = entry;
    }
    slate.sheet.next = None;
    slate.sheet.attempts_allowed = 1;
    slate.sheet.attempt_limit = None;
    slate.sheet.policy_panicked = true;
}
