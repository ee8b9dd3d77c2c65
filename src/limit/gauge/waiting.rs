//! [`Waiting`]: the calls that wait for their first item, in order.

use crate::time::Instant;

/// The calls that wait for their first item, oldest first: a doubly linked list in a slab, so that any of them can
/// leave in constant time.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    links: Vec<Link>,
    free: Vec<usize>,
    first: Option<usize>,
    last: Option<usize>,
}

#[derive(Debug)]
struct Link {
    since: Instant,
    before: Option<usize>,
    after: Option<usize>,
}

impl Waiting {
    /// Appends one, and says where.
    pub(super) fn push(&mut self, since: Instant) -> usize {
        let link = Link { since, before: self.last, after: None };
        let place = match self.free.pop() {
            Some(place) => {
                self.links[place] = link;
                place
            }
            None => {
                self.links.push(link);
                self.links.len() - 1
            }
        };
        match self.last.replace(place) {
            Some(last) => self.links[last].after = Some(place),
            None => self.first = Some(place),
        }
        place
    }

    pub(super) fn remove(&mut self, place: usize) {
        let Link { before, after, .. } = self.links[place];
        match before {
            Some(before) => self.links[before].after = after,
            None => self.first = after,
        }
        match after {
            Some(after) => self.links[after].before = before,
            None => self.last = before,
        }
        self.free.push(place);
    }

    /// Since when the oldest waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.first.map(|first| self.links[first].since)
    }

    pub(super) fn len(&self) -> usize {
        self.links.len() - self.free.len()
    }
}
