//! How full each region is, over time.

use super::World;
use super::machine::nanos;

/// The regions of a world, and what was seen of them in consecutive spells.
#[derive(Clone, Debug)]
pub(super) struct Regions {
    names: Vec<String>,
    /// The region of each server.
    of: Vec<usize>,
    /// The servers of each region.
    servers: Vec<Vec<usize>>,
    /// Where requests may be served that are bound.
    open_to_bound: Vec<bool>,
    /// Nanoseconds.
    width: u64,
    spells: Vec<Spell>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Spell {
    /// The fullest that any was.
    fullest: f64,
    /// Whether one had more than it has room for, and not all of that was critical.
    overrun: bool,
}

/// A run is looked at in so many spells, or in seconds.
const SPELLS: u64 = 1_000;
const SECOND: u64 = 1_000_000_000;

impl Regions {
    pub(super) fn new(world: &World) -> Self {
        let names: Vec<_> = world.regions().into_iter().map(str::to_owned).collect();
        let place = |region: &str| names.iter().position(|name| name == region).unwrap_or_default();
        let of: Vec<_> = world.servers.iter().map(|server| place(&server.region)).collect();
        let inside = |name: &String| world.residency.as_ref().is_none_or(|(_, regions)| regions.contains(name));
        let within = |region: usize| (0..of.len()).filter(|server| of[*server] == region).collect();
        Self {
            servers: (0..names.len()).map(within).collect(),
            open_to_bound: names.iter().map(inside).collect(),
            of,
            names,
            width: (nanos(world.lasting) / SPELLS).max(SECOND),
            spells: Vec::new(),
        }
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The region of a server.
    pub(super) fn of(&self, server: usize) -> usize {
        self.of[server]
    }

    /// All servers of the region of this one.
    pub(super) fn servers_beside(&self, server: usize) -> &[usize] {
        &self.servers[self.of[server]]
    }

    /// Whether there is nothing to choose.
    pub(super) const fn are_one(&self) -> bool {
        self.names.len() < 2
    }

    /// Whether a bound request may be served there.
    pub(super) fn may_serve_bound(&self, server: usize) -> bool {
        self.open_to_bound[self.of[server]]
    }

    /// A region is this full.
    pub(super) fn filled(&mut self, now: u64, share: f64, overrun: bool) {
        let at = (now / self.width) as usize;
        if self.spells.len() <= at {
            self.spells.resize(at + 1, Spell::default());
        }
        let spell = &mut self.spells[at];
        spell.fullest = spell.fullest.max(share);
        spell.overrun |= overrun;
    }

    /// The spells that begin between two moments, in seconds.
    fn between(&self, from: f64, to: f64) -> impl Iterator<Item = &Spell> {
        let width = self.width as f64 / 1e9;
        let timed = self.spells.iter().enumerate();
        timed.filter(move |(at, _)| (from..to).contains(&(*at as f64 * width))).map(|(_, spell)| spell)
    }

    pub(super) fn fullest(&self, from: f64, to: f64) -> f64 {
        self.between(from, to).map(|spell| spell.fullest).fold(0.0, f64::max)
    }

    pub(super) fn overruns(&self, from: f64, to: f64) -> usize {
        self.between(from, to).filter(|spell| spell.overrun).count()
    }
}
