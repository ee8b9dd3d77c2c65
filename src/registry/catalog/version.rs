//! Versions of models and the states they go through.

use crate::facts::{Capabilities, Price};
use std::fmt;

/// Where a version stands on its way: `Draft → Validated → Canary → Live → Deprecated → Retired`, and `Quarantined`
/// from any of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// Being written. Not served.
    Draft,
    /// Tried and found good. Not served yet.
    Validated,
    /// Served to a share.
    Canary,
    /// Served.
    Live,
    /// Served, and its end is announced.
    Deprecated,
    /// Gone. Not served.
    Retired,
    /// Taken out of traffic. Not served.
    Quarantined,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 7] =
        [Self::Draft, Self::Validated, Self::Canary, Self::Live, Self::Deprecated, Self::Retired, Self::Quarantined];

    /// As documents write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Validated => "validated",
            Self::Canary => "canary",
            Self::Live => "live",
            Self::Deprecated => "deprecated",
            Self::Retired => "retired",
            Self::Quarantined => "quarantined",
        }
    }

    /// Whether requests may be sent there.
    pub const fn is_served(self) -> bool {
        matches!(self, Self::Canary | Self::Live | Self::Deprecated)
    }

    /// Whether `next` may follow. One step forward; a validated version may go live without a canary, a canary may
    /// be withdrawn, a deprecation revoked; and who leaves quarantine begins as validated, or is retired.
    pub const fn leads_to(self, next: Self) -> bool {
        matches!(
            (self, next),
            (_, Self::Quarantined)
                | (Self::Draft | Self::Canary | Self::Quarantined, Self::Validated)
                | (Self::Validated, Self::Canary)
                | (Self::Validated | Self::Canary | Self::Deprecated, Self::Live)
                | (Self::Live, Self::Deprecated)
                | (Self::Deprecated | Self::Quarantined, Self::Retired)
        ) || self as u8 == next as u8
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One version of a model: what it can do, what fits in, what it costs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelVersion {
    pub(in crate::registry) state: State,
    pub(in crate::registry) capabilities: Capabilities,
    pub(in crate::registry) context: Option<u64>,
    pub(in crate::registry) output: Option<u64>,
    pub(in crate::registry) price: Option<Price>,
    pub(in crate::registry) revision: Option<String>,
    pub(in crate::registry) sunset_ms: Option<u64>,
    pub(in crate::registry) replacement: Option<String>,
}

impl ModelVersion {
    /// A version in this state, of which nothing else is known.
    pub const fn new(state: State) -> Self {
        Self {
            state,
            capabilities: Capabilities::NONE,
            context: None,
            output: None,
            price: None,
            revision: None,
            sunset_ms: None,
            replacement: None,
        }
    }

    /// What it can do beyond text.
    #[must_use]
    pub const fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Tokens that fit in, prompt and answer together.
    #[must_use]
    pub const fn context(mut self, tokens: u64) -> Self {
        self.context = Some(tokens);
        self
    }

    /// Tokens of the longest answer.
    #[must_use]
    pub const fn output(mut self, tokens: u64) -> Self {
        self.output = Some(tokens);
        self
    }

    /// What it charges. Not saying means not known, which is never free.
    #[must_use]
    pub fn price(mut self, price: Price) -> Self {
        self.price = Some(price);
        self
    }

    /// What tells it from another under the same name: a hash of the weights, a build. A quarantine holds for the
    /// content; who mends a version without a new name gives it a new revision.
    #[must_use]
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = Some(revision.into());
        self
    }

    /// Its state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// What it can do beyond text.
    pub const fn known_capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Tokens that fit in, where known.
    pub const fn context_limit(&self) -> Option<u64> {
        self.context
    }

    /// Tokens of the longest answer, where known.
    pub const fn output_limit(&self) -> Option<u64> {
        self.output
    }

    /// What it charges, where known.
    pub const fn known_price(&self) -> Option<&Price> {
        self.price.as_ref()
    }

    /// When it will be gone, in milliseconds since 1970; of a deprecated version only.
    pub const fn sunset_ms(&self) -> Option<u64> {
        self.sunset_ms
    }

    /// What to use instead: a `model@version`.
    pub fn replacement(&self) -> Option<&str> {
        self.replacement.as_deref()
    }
}
