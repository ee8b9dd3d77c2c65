//! The names that requests use.

use crate::shape::Sticky;

/// A name that requests use: who serves it, in which shares, and who stands in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alias {
    pub(in crate::registry) targets: Vec<(String, u32)>,
    pub(in crate::registry) sticky: Sticky,
    pub(in crate::registry) fallback: Vec<String>,
}

impl Alias {
    /// The whole of an alias, in the unit of its shares: basis points.
    pub const WHOLE: u32 = crate::shape::WHOLE;
    /// How many aliases may stand one behind the other.
    pub const MAX_DEPTH: usize = 4;

    /// All of it to one target: a `model@version` or another alias.
    pub fn to(target: impl Into<String>) -> Self {
        Self::split([(target, Self::WHOLE)])
    }

    /// To each target its share in basis points; together 10,000.
    pub fn split<S: Into<String>>(targets: impl IntoIterator<Item = (S, u32)>) -> Self {
        let targets = targets.into_iter().map(|(target, share)| (target.into(), share)).collect();
        Self { targets, sticky: Sticky::default(), fallback: Vec::new() }
    }

    /// By what a request keeps its version.
    #[must_use]
    pub const fn sticky(mut self, sticky: Sticky) -> Self {
        self.sticky = sticky;
        self
    }

    /// Who stands in when nobody of it can serve, in this order.
    #[must_use]
    pub fn fallback<S: Into<String>>(mut self, chain: impl IntoIterator<Item = S>) -> Self {
        self.fallback = chain.into_iter().map(Into::into).collect();
        self
    }

    /// The targets with their shares in basis points.
    pub fn targets(&self) -> &[(String, u32)] {
        &self.targets
    }

    /// Who stands in.
    pub fn fallback_chain(&self) -> &[String] {
        &self.fallback
    }

    /// By what a request keeps its version.
    pub const fn stickiness(&self) -> Sticky {
        self.sticky
    }
}
