//! The backends of one model, and the windows on a large pool of them.

use super::Berth;
use crate::decision::record::RegionIndex;
use crate::recover::RegionGate;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The backends of one model (or one version of it).
#[derive(Debug)]
pub(crate) struct Pool {
    /// Seats in the order of the fleet.
    pub(crate) seats: Vec<u32>,
    /// The smallest context window.
    pub(crate) least_window: u64,
    /// Some backend is drained, barred, or chooses its tenants.
    pub(crate) selective: bool,
    /// Seats around a ring by the hash of their names. The order is unrelated to how a host lists its backends,
    /// and stays when others come and go.
    ring: Ring,
    /// The same by region, for requests that are bound to some.
    regions: Vec<(RegionIndex, Ring)>,
    pub(super) areas: Vec<Area>,
    turns: Turns,
}

/// What a pool has of a region.
#[derive(Debug)]
pub(crate) struct Area {
    pub(crate) region: RegionIndex,
    pub(crate) seats: u32,
    /// How the region is for this model.
    pub(crate) gate: Arc<RegionGate>,
}

/// Alone on its cache line: threads that decide under a policy that takes turns write it all the time.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Turns(AtomicU64);

type Ring = Vec<(u64, u32)>;

/// How many regions have a ring of their own. The others share the last; membership is checked per backend anyway.
const RINGS: usize = 16;

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            seats: Vec::new(),
            least_window: u64::MAX,
            selective: false,
            ring: Vec::new(),
            regions: Vec::new(),
            areas: Vec::new(),
            turns: Turns::default(),
        }
    }

    /// The regions in which it has a backend.
    pub(crate) fn areas(&self) -> &[Area] {
        &self.areas
    }

    /// The gate of a region.
    pub(crate) fn gate(&self, region: RegionIndex) -> Option<&Arc<RegionGate>> {
        self.areas.iter().find(|area| area.region == region).map(|area| &area.gate)
    }

    /// Counts the requests that took their turn here.
    pub(crate) const fn turns(&self) -> &AtomicU64 {
        &self.turns.0
    }

    pub(super) fn add(&mut self, (region, hash, seat): (RegionIndex, u64, u32), berth: &Berth) {
        self.least_window = self.least_window.min(berth.context_window);
        self.selective |= berth.drained || berth.barred || berth.picky;
        self.seats.push(seat);
        self.ring.push((hash, seat));
        let full = self.regions.len() == RINGS;
        match self.regions.iter_mut().find(|(index, _)| *index == region) {
            Some((_, ring)) => ring.push((hash, seat)),
            None if full => self.regions[RINGS - 1].1.push((hash, seat)),
            None => self.regions.push((region, vec![(hash, seat)])),
        }
    }

    pub(super) fn sort(&mut self) {
        self.ring.sort_unstable();
        for (_, ring) in &mut self.regions {
            ring.sort_unstable();
        }
    }

    /// One full round through the seats of a large pool, in the order of the fleet.
    pub(crate) fn in_order(&self) -> Round<'_> {
        Round::List(self.seats.iter())
    }

    /// One full round along the ring.
    pub(crate) fn around(&self, point: u64) -> Round<'_> {
        let mut cursors = [Cursor::EMPTY; RINGS];
        cursors[0] = Cursor::at(point, &self.ring, false);
        Round::Rings(cursors)
    }

    /// One full round along the rings of the regions that are `allowed`. They take turns: `equal`, or in proportion to
    /// their size.
    pub(crate) fn by_region(&self, point: u64, equal: bool, allowed: impl Fn(RegionIndex) -> bool) -> Round<'_> {
        let mut cursors = [Cursor::EMPTY; RINGS];
        let shared = RINGS - 1;
        let rings = self.regions.iter().enumerate().filter(|(at, (region, _))| *at == shared || allowed(*region));
        for (slot, (_, (_, ring))) in cursors.iter_mut().zip(rings) {
            *slot = Cursor::at(point, ring, equal);
        }
        Round::Rings(cursors)
    }
}

/// A way through the seats of a large pool. Lives on the stack for one decision.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum Round<'a> {
    List(std::slice::Iter<'a, u32>),
    Rings([Cursor<'a>; RINGS]),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    ring: &'a [(u64, u32)],
    first: usize,
    taken: usize,
    /// Its part of the turns.
    weight: usize,
}

impl<'a> Cursor<'a> {
    const EMPTY: Self = Self { ring: &[], first: 0, taken: 0, weight: 1 };

    fn at(point: u64, ring: &'a Ring, equal: bool) -> Self {
        let first = ring.partition_point(|(hash, _)| *hash < point);
        Self { ring, first, taken: 0, weight: if equal { 1 } else { ring.len() } }
    }
}

impl Iterator for Round<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let cursors = match self {
            Round::List(seats) => return seats.next().copied(),
            Round::Rings(cursors) => cursors,
        };
        // Unused places are at the end and empty.
        let cursor = cursors
            .iter_mut()
            .take_while(|cursor| !cursor.ring.is_empty())
            .filter(|cursor| cursor.taken < cursor.ring.len())
            .min_by(|a, b| (a.taken * b.weight).cmp(&(b.taken * a.weight)))?;
        let place = (cursor.first + cursor.taken) % cursor.ring.len();
        cursor.taken += 1;
        Some(cursor.ring[place].1)
    }
}
