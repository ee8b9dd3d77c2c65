//! [`Waiting`]: the calls that wait for their first item, in order.

use crate::time::Instant;

/// The calls that wait for their first item, oldest first: a doubly linked list in a slab, so that any of them can
/// leave in constant time.
#[derive(Debug)]
pub(super) struct Waiting {
    links: Vec<Link>,
    /// How many of them are in the list. The others are free, each `after` the one that is to be used before it.
    taken: u32,
    free: Place,
    first: Place,
    last: Place,
}

#[derive(Debug)]
struct Link {
    since: Instant,
    before: Place,
    after: Place,
}

/// Where a call is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place(u32);

impl Place {
    const NONE: Self = Self(u32::MAX);
}

impl Default for Waiting {
    fn default() -> Self {
        Self { links: Vec::new(), taken: 0, free: Place::NONE, first: Place::NONE, last: Place::NONE }
    }
}

impl Waiting {
    /// Appends one, and says where.
    pub(super) fn push(&mut self, since: Instant) -> Place {
        let link = Link { since, before: self.last, after: Place::NONE };
        let place = match self.links.get_mut(self.free.0 as usize) {
            Some(free) => {
                let place = self.free;
                self.free = std::mem::replace(free, link).after;
                place
            }
            None => {
                self.links.push(link);
                Place(self.links.len() as u32 - 1)
            }
        };
        self.taken += 1;
        self.join(self.last, place);
        self.last = place;
        place
    }

    pub(super) fn remove(&mut self, place: Place) {
        let link = &mut self.links[place.0 as usize];
        let (before, after) = (link.before, std::mem::replace(&mut link.after, self.free));
        self.free = place;
        self.taken -= 1;
        self.join(before, after);
        if after == Place::NONE {
            self.last = before;
        }
    }

    /// From now on `after` comes after `before`.
    fn join(&mut self, before: Place, after: Place) {
        match self.links.get_mut(before.0 as usize) {
            Some(before) => before.after = after,
            None => self.first = after,
        }
        if let Some(after) = self.links.get_mut(after.0 as usize) {
            after.before = before;
        }
    }

    /// Since when the oldest waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.links.get(self.first.0 as usize).map(|first| first.since)
    }

    pub(super) const fn len(&self) -> u32 {
        self.taken
    }
}
