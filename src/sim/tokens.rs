//! [`Tokens`]: what an answer of a simulated server is made of.

use crate::backend::StreamItem;

/// Some tokens of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tokens {
    /// The first of them, by its number in the answer, from 0.
    pub from: u32,
    /// How many.
    pub count: u32,
    /// Whether the answer is complete with them.
    pub last: bool,
}

impl StreamItem for Tokens {
    fn content(&self) -> u64 {
        self.count.into()
    }

    fn is_last(&self) -> bool {
        self.last
    }

    fn size(&self) -> usize {
        0
    }
}
