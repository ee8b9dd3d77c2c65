//! Runs a policy over a slate: the pure heart of a decision.

use super::budgeted::admit_closest;
use super::ground::{Ground, Source};
use super::slate::Slate;
pub(crate) use super::survey::{Live, Purse, calm_ones};
use super::{PlanContext, RoutingPolicy, Window};
use crate::decision::names::Terms;
use crate::decision::record::{Entry, Record, Sheet};
use crate::decision::{Class, Next, Reason, Refusal};
use crate::facts::Priority;
use crate::time::Instant;

/// What of a large pool a decision looks at, as its policy says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    window: Window,
    /// By priority, the lowest first.
    ceilings: [u32; Priority::ALL.len()],
}

impl View {
    pub(crate) fn of(policy: &dyn RoutingPolicy) -> Self {
        Self { window: policy.window(), ceilings: Priority::ALL.map(|priority| policy.ceiling(priority)) }
    }
}

/// Decides over the live fleet. The inputs stand in `record`; the sheet is written anew.
pub(crate) fn decide(policy: &dyn RoutingPolicy, view: &View, live: &Live<'_>, record: &mut Record) {
    // A retry is not the next request's turn, nor is a hedge.
    let again = record.planned_after > 0 || record.beside.is_some();
    let source = Source::Live { live, peek: record.dry_run || again };
    let ceiling = record.facts.as_ref().map_or(1000, |facts| view.ceilings[facts.request_priority() as usize]);
    run(policy, (view.window, ceiling), source, record);
}

/// Decides again over what an earlier decision saw. `record` has the inputs of that decision and its sheet is
/// empty.
pub(crate) fn replay(policy: &dyn RoutingPolicy, recorded: &Sheet, record: &mut Record) {
    run(policy, (Window::Random, 1000), Source::Recorded(recorded), record);
}

fn run(policy: &dyn RoutingPolicy, (window, ceiling): (Window, u32), source: Source<'_>, record: &mut Record) {
    let Record {
        roster,
        facts,
        seed,
        now,
        arrival,
        deadline,
        extra,
        last_resort,
        beside,
        attempts,
        planned_after,
        names,
        sheet,
        ..
    } = record;
    sheet.clear();
    let facts = facts.as_ref().expect("a record in use has the facts of its request");
    let cx = PlanContext {
        facts,
        now: *now,
        arrival: *arrival,
        deadline: *deadline,
        seed: *seed,
        attempts: &attempts[..*planned_after],
        extra: *extra,
        last_resort: *last_resort,
        beside: beside.as_ref(),
        names: names.as_ref(),
    };
    let ground = Ground { source, roster, cx: &cx, terms: Terms::UNKNOWN, lenient: false };
    let mut slate = Slate { sheet, ground, window, ceiling, current: None };
    plan(policy, &cx, &mut slate);
    if leaves_nobody(&slate) && admit_closest(&mut slate) {
        // Who saw nobody before may draw a line now, from the first tier on.
        slate.current = None;
        plan(policy, &cx, &mut slate);
    }
    if slate.sheet.next.is_none() && slate.current.is_none() {
        // No policy looked at anybody: all are equal.
        slate.range();
    }
    sheet.best = sheet.best(*seed);
    if sheet.next.is_none() {
        let unknown = sheet.tiers.is_empty();
        sheet.next = Some(match sheet.best {
            Some(_) => Next::Call { at: *now },
            None if unknown => Next::Refuse { why: cx.unserved() },
            None => Next::Refuse { why: Refusal::NothingUsable },
        });
    }
    let refuses = matches!(
        sheet.next,
        Some(Next::LastResort { why: Refusal::NothingUsable } | Next::Refuse { why: Refusal::NothingUsable })
    );
    if let Some(money) = refuses.then(|| only_money(sheet)).flatten()
        && let Some(Next::LastResort { why } | Next::Refuse { why }) = &mut sheet.next
    {
        *why = money;
    }
}

fn plan(policy: &dyn RoutingPolicy, cx: &PlanContext<'_>, slate: &mut Slate<'_>) {
    if !slate.plan_with(policy, cx) {
        slate.sheet.next = None;
    }
}

/// Whether nobody is left, and no policy says what becomes of the request. A hedge is none: it stands beside an attempt.
fn leaves_nobody(slate: &Slate<'_>) -> bool {
    let Sheet { entries, next, .. } = &*slate.sheet;
    next.is_none() && slate.ground.cx.beside.is_none() && !entries.iter().any(Entry::admitted)
}

/// The refusal of a request that somebody would serve, if there was enough money.
fn only_money(sheet: &Sheet) -> Option<Refusal> {
    let mut found: Option<(&'static str, Option<Instant>)> = None;
    for entry in &sheet.entries {
        let (limit, until) = match entry.rejected? {
            Reason::OverSpendLimit { limit, until, .. } => (limit, Some(until)),
            Reason::SpendLimitTooSmall { limit, .. } => (limit, None),
            reason if reason.class() == Class::Hard => continue,
            _ => return None,
        };
        let sooner = |(_, best): (_, Option<Instant>)| best.is_none_or(|best| until.is_some_and(|until| until < best));
        if found.is_none_or(sooner) {
            found = Some((limit, until));
        }
    }
    found.map(|(limit, until)| Refusal::OverSpend { limit, until })
}
