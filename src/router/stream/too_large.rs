//! [`TooLarge`]: more than the router takes.

use std::fmt;

/// An item of a stream is larger than the router [takes](crate::router::Builder::largest_item), or all that came before
/// the first content is: the source of a [`Protocol`](crate::FailureKind::Protocol) failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLarge {
    /// Bytes of the item, or of all that was held back.
    pub bytes: usize,
    /// The bound.
    pub limit: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes in a stream, {} are taken at once", self.bytes, self.limit)
    }
}

impl std::error::Error for TooLarge {}
