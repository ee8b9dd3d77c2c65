//! [`Unreadable`].

/// Why a report of a server or provider was not believed. It never carries any of the text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// Longer than anything that is looked at.
    #[error("{bytes} bytes are no report")]
    TooLong {
        /// How long.
        bytes: usize,
    },
    /// Not UTF-8.
    #[error("it is not text")]
    NotText,
    /// Not in the format that it should have.
    #[error("it is not {0}")]
    Malformed(&'static str),
    /// A value that is no number.
    #[error("{what}: not a number")]
    NotANumber {
        /// Of what.
        what: &'static str,
    },
    /// A number that can not be true: negative, infinite, NaN or absurdly large.
    #[error("{what}: out of range")]
    OutOfRange {
        /// Of what.
        what: &'static str,
    },
    /// The same value twice.
    #[error("{what}: given twice")]
    Twice {
        /// Of what.
        what: &'static str,
    },
    /// More parts of a server than one can have.
    #[error("too many series")]
    TooMany,
    /// Nothing in it that was looked for.
    #[error("it says nothing of the load")]
    Nothing,
}
