//! Names that can be used.

/// A name in a [`Profile`](super::Profile) that cannot be meant.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// A name is given but empty or only white space.
    #[error("{what} is empty")]
    Empty {
        /// Which name.
        what: &'static str,
    },
    /// A name has control characters: it would break a line of a log, or a header.
    #[error("{what} has control characters")]
    Control {
        /// Which name.
        what: &'static str,
    },
    /// A model is `name` or `name@version`, with one `@` at most.
    #[error("the model has more than one version")]
    TwoVersions,
    /// A set of tenants was given, and nobody is in it.
    #[error("the set of tenants is empty")]
    NoTenant,
}

impl InvalidName {
    pub(super) fn check(what: &'static str, name: &str) -> Result<(), Self> {
        // First, for tabs and line ends are white space as well.
        if name.chars().any(char::is_control) {
            return Err(Self::Control { what });
        }
        if name.trim().is_empty() { Err(Self::Empty { what }) } else { Ok(()) }
    }
}
