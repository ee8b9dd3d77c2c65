//! How traffic falls to regions: plain arithmetic over the rows of a decision, in thousandths.

use super::{Regions, Spill, permille};
use crate::decision::{RegionPhase, RegionRow, RegionRules};
use crate::time::Instant;

/// The factor of a spill in thousandths.
pub(super) fn factor(spill: Spill) -> Option<u64> {
    match spill {
        Spill::Proportional { overprovisioning } => Some((overprovisioning * 1000.0).round() as u64),
        Spill::Switch => None,
    }
}

/// What every region may take: by its health, and no more than its phase allows.
pub(super) fn offer(rows: &mut [RegionRow], factor: Option<u64>, rules: &RegionRules, now: Instant) {
    let whole = factor.unwrap_or(1000).min(MOST) as u16;
    for row in rows.iter_mut().filter(|row| row.capacity > 0) {
        // As it is most of the time: nothing changes.
        if row.is_whole() {
            (row.offer, row.allowed) = (whole, whole);
            continue;
        }
        let offer = match factor {
            Some(factor) => row.open / row.capacity * factor / 1000,
            None => 1000 * u64::from(row.health() >= rules.down && row.open > 0),
        };
        row.offer = offer.min(MOST) as u16;
        row.state = row.before.next(row.verdict(), row.offer, rules, now);
        row.allowed = match row.state.phase {
            RegionPhase::Up => row.offer,
            _ => row.offer.min(row.state.cap(rules, now)),
        };
    }
    // Nothing is left but what is held back: better that than nothing.
    if rows.iter().all(|row| row.allowed == 0) {
        for row in rows {
            row.allowed = row.offer;
        }
    }
}

/// A region may offer more than all of the traffic, which makes up for others of its rank.
const MOST: u64 = 60_000;

/// Lets the traffic fall to the regions, rank by rank: a rank takes what it may, the next the rest. Where all together may
/// not take everything, each takes as much more. `rows` are in order of rank.
pub(super) fn fall(rows: &mut [RegionRow]) {
    let mut left = 1000;
    for rank in rows.chunk_by_mut(|a, b| a.rank == b.rank) {
        if let [alone] = rank {
            alone.wish = alone.allowed.min(left as u16);
            left -= u64::from(alone.wish);
            continue;
        }
        let capacity: u128 = rank.iter().map(RegionRow::weight).sum();
        let weight = |row: &RegionRow| row.weight() * u128::from(row.allowed);
        let all: u128 = rank.iter().map(weight).sum();
        if all == 0 {
            continue;
        }
        let takes = ((all / capacity) as u64).min(left);
        left -= takes;
        // Each its part of the sum so far: what is lost by rounding goes to no region in particular.
        let (mut weights, mut given) = (0, 0);
        for row in rank {
            weights += weight(row);
            let so_far = (u128::from(takes) * weights / all) as u16;
            (row.wish, given) = (so_far - given, so_far);
        }
    }
    if left == 0 {
        return round(rows);
    }
    let total: u64 = rows.iter().map(|row| u64::from(row.wish)).sum();
    if total == 0 {
        return;
    }
    let (mut wishes, mut given) = (0, 0);
    for row in rows.iter_mut() {
        wishes += u64::from(row.wish);
        let so_far = (wishes * 1000 / total) as u16;
        (row.wish, given) = (so_far - given, so_far);
    }
    round(rows);
}

/// Gives what truncation lost to the first that takes anything.
fn round(rows: &mut [RegionRow]) {
    let total: u16 = rows.iter().map(|row| row.wish).sum();
    if let Some(row) = rows.iter_mut().find(|row| row.wish > 0) {
        row.wish += 1000 - total;
    }
}

/// Sees to it that regions which must show that they are well get some traffic.
pub(super) fn exercise(rows: &mut [RegionRow], always: u16) {
    for index in 0..rows.len() {
        let row = &rows[index];
        let held = matches!(row.state.phase, RegionPhase::Held { .. });
        let least = if held { always.max(Regions::HOLD_SHARE) } else { always };
        let short = least.saturating_sub(row.wish);
        if short == 0 || row.open == 0 || row.failed_here {
            continue;
        }
        let most = (0..rows.len()).max_by_key(|other| rows[*other].wish).unwrap_or(index);
        if most != index && rows[most].wish > least + short {
            rows[most].wish -= short;
            rows[index].wish += short;
        }
    }
}

/// How full a region may be, in thousandths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceilings {
    /// The first of the order, and the others, before they pass requests on.
    soft: (u16, u16),
    /// Any, for this request.
    hard: u16,
}

impl Ceilings {
    pub(super) fn new(headroom: (f64, f64), critical: bool) -> Self {
        let soft = (permille(headroom.0), permille(headroom.1));
        Self { soft, hard: if critical { 1000 } else { soft.0.max(soft.1) } }
    }

    /// Whether it keeps all that falls to it.
    pub(super) const fn has_room(&self, row: &RegionRow) -> bool {
        !row.is_full(self.soft(row))
    }

    const fn soft(&self, row: &RegionRow) -> u16 {
        match row.rank {
            Some(0) => self.soft.0,
            _ => self.soft.1,
        }
    }

    /// Whether no request like this goes there.
    pub(super) const fn closed(&self, row: &RegionRow) -> bool {
        row.is_full(self.hard)
    }
}

/// Where traffic goes that falls to the row `at`: there, while it has room; else to the first that has.
pub(super) fn overflow(rows: &[RegionRow], at: usize, ceilings: &Ceilings) -> Option<usize> {
    let roomy = |row: usize| ceilings.has_room(&rows[row]);
    let open = |row: usize| !ceilings.closed(&rows[row]);
    let taking = |row: &usize| rows[*row].allowed > 0 || *row == at;
    let order = || std::iter::once(at).chain((0..rows.len()).filter(move |row| *row != at)).filter(taking);
    order().find(|row| roomy(*row)).or_else(|| order().find(|row| open(*row)))
}
