//! What the router may know of a request.

use super::{Capabilities, Prefix, Price};
use std::sync::Arc;

/// How much a request matters when there is not enough for all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Priority {
    /// Work that can wait for hours.
    Batch,
    /// Work that somebody would miss, but not now.
    Sheddable,
    /// Ordinary traffic.
    #[default]
    Standard,
    /// Traffic that is served when nothing else is.
    Critical,
}

impl Priority {
    /// All of them, the lowest first.
    pub(crate) const ALL: [Self; 4] = [Self::Batch, Self::Sheddable, Self::Standard, Self::Critical];
}

/// What the router may know of a request: everything but its payload.
///
/// Policies see facts only, so they are not generic over the request, and whatever they decide can be logged and
/// replayed.
///
/// ```
/// use fallway::facts::{Capabilities, Facts, Priority};
/// let facts = Facts::model("llama-70b")
///     .prompt_tokens(1_200)
///     .priority(Priority::Critical)
///     .tenant("search")
///     .residency(["eu-west", "eu-north"])
///     .needs(Capabilities::TOOLS)
///     .replay_safe();
/// assert_eq!(facts.expected_output_tokens(), 1_800);
/// ```
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Facts {
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::facts::request::text"))]
    pub(crate) model: Option<Arc<str>>,
    pub(crate) prompt_tokens: u64,
    pub(crate) prefix: Option<Prefix>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) most_output_tokens: Option<u64>,
    pub(crate) priority: Priority,
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::facts::request::text"))]
    pub(crate) tenant: Option<Arc<str>>,
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::facts::request::text"))]
    pub(crate) session: Option<Arc<str>>,
    /// `None` is anywhere; an empty set is nowhere.
    pub(crate) residency: Option<Vec<String>>,
    pub(crate) needs: Capabilities,
    pub(crate) replay_safe: bool,
    pub(crate) max_cost: Option<u64>,
    pub(crate) labels: Vec<(String, String)>,
}

impl Facts {
    /// Facts of a request for `model`: a model's name, `name@version`, or an alias that a policy or the
    /// [registry](crate::router::Builder::registry) knows.
    pub fn model(model: impl Into<Arc<str>>) -> Self {
        Self { model: Some(model.into()), ..Self::default() }
    }

    /// Facts of a request that any backend may serve.
    pub fn any() -> Self {
        Self::default()
    }

    /// Tokens of the prompt. A good estimate is one per four characters ([`Facts::estimate_tokens`]).
    #[must_use]
    pub const fn prompt_tokens(mut self, tokens: u64) -> Self {
        self.prompt_tokens = tokens;
        self
    }

    /// How the prompt begins, for backends that need not compute again what they have of it. Counts up to
    /// [`prompt_tokens`](Self::prompt_tokens); default nothing is known.
    #[must_use]
    pub fn prefix(mut self, prefix: Prefix) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// Tokens that the answer will probably have; default 1.5 × the prompt.
    #[must_use]
    pub const fn output_tokens(mut self, tokens: u64) -> Self {
        self.output_tokens = Some(tokens);
        self
    }

    /// Tokens that the answer has at most, because the request itself says so (`max_tokens`). An expectation is no more than
    /// that; what an attempt [can cost](Self::max_cost) is that of such an answer. Default not known, and then costs are
    /// those of the answer that is expected.
    #[must_use]
    pub const fn max_output_tokens(mut self, tokens: u64) -> Self {
        self.most_output_tokens = Some(tokens);
        self
    }

    /// How much it matters; default [`Priority::Standard`].
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Who asks.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// The conversation it belongs to: the key of session affinity.
    #[must_use]
    pub fn session(mut self, session: impl Into<Arc<str>>) -> Self {
        self.session = Some(session.into());
        self
    }

    /// The only regions where it may be served. A hard line: no failover ever crosses it.
    ///
    /// An empty set is a set too: no region is in it, so the request is refused everywhere. A lookup that went wrong
    /// must not send data anywhere it likes. Without this call the request may be served in every region.
    ///
    /// ```
    /// use fallway::Facts;
    /// assert_eq!(Facts::any().allowed_regions(), None);
    /// let lookup: [&str; 0] = [];
    /// assert_eq!(Facts::any().residency(lookup).allowed_regions(), Some(&[][..]));
    /// ```
    #[must_use]
    pub fn residency<S: Into<String>>(mut self, regions: impl IntoIterator<Item = S>) -> Self {
        self.residency = Some(regions.into_iter().map(Into::into).collect());
        self
    }

    /// What the model must be able to do.
    #[must_use]
    pub const fn needs(mut self, needs: Capabilities) -> Self {
        self.needs = needs;
        self
    }

    /// Declares that executing the request twice does no harm. Without it, a request is not sent again after a
    /// failure that may have left it executed (see [`Replay::Uncertain`](crate::backend::Replay::Uncertain)).
    /// Plain completions are replay-safe; they cost money twice, no more.
    #[must_use]
    pub const fn replay_safe(mut self) -> Self {
        self.replay_safe = true;
        self
    }

    /// The most that the whole request may cost, in pico-dollars (10⁻¹² USD). A hard line: no attempt is made, first or
    /// repeated, that could cost more than what those before it leave, with all that they may have cost. A backend without
    /// a known price does not pass it.
    ///
    /// What an attempt can cost follows from the tokens of the prompt and of the
    /// [longest answer](Self::max_output_tokens).
    #[must_use]
    pub const fn max_cost(mut self, pico_usd: u64) -> Self {
        self.max_cost = Some(pico_usd);
        self
    }

    /// A label for observers and custom policies.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((key.into(), value.into()));
        self
    }

    /// One token per four characters, at least one: the usual estimate where no tokenizer is at hand.
    pub const fn estimate_tokens(characters: usize) -> u64 {
        let tokens = (characters as u64).div_ceil(4);
        if tokens == 0 { 1 } else { tokens }
    }

    /// The model or alias that was asked for.
    pub fn requested_model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Tokens of the prompt.
    pub const fn input_tokens(&self) -> u64 {
        self.prompt_tokens
    }

    /// How the prompt begins, where it is known.
    pub const fn prompt_prefix(&self) -> Option<&Prefix> {
        self.prefix.as_ref()
    }

    /// The host's estimate of the answer, or 1.5 × the prompt; no more than the [most](Self::max_output_tokens); saturates.
    pub const fn expected_output_tokens(&self) -> u64 {
        let expected = match self.output_tokens {
            Some(tokens) => tokens,
            None => self.prompt_tokens.saturating_add(self.prompt_tokens / 2),
        };
        match self.most_output_tokens {
            Some(most) if most < expected => most,
            _ => expected,
        }
    }

    /// Tokens that the answer has at most, where that is known.
    pub const fn output_cap(&self) -> Option<u64> {
        self.most_output_tokens
    }

    /// The most that an attempt costs which sends so many tokens of an answer along, in pico-dollars.
    pub(crate) fn most_cost(&self, price: &Price, carried: u64) -> u64 {
        let output = self.most_output_tokens.unwrap_or(self.expected_output_tokens());
        price.of(self.prompt_tokens.saturating_add(carried), output)
    }

    /// Prompt and answer together, as the context window must hold them. An answer of unknown length counts
    /// nothing here: a guess must not exclude a model.
    pub(crate) const fn context_tokens(&self) -> u64 {
        match self.output_tokens {
            Some(tokens) => self.prompt_tokens.saturating_add(tokens),
            None => self.prompt_tokens,
        }
    }

    /// How much it matters.
    pub const fn request_priority(&self) -> Priority {
        self.priority
    }

    /// Who asks.
    pub fn request_tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The conversation it belongs to.
    pub fn request_session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// The only regions where it may be served; `None` for anywhere, empty for nowhere.
    pub fn allowed_regions(&self) -> Option<&[String]> {
        self.residency.as_deref()
    }

    /// Whether it is bound to regions at all.
    pub(crate) const fn has_residency(&self) -> bool {
        self.residency.is_some()
    }

    /// Whether it may be served in this region.
    pub(crate) fn allows_region(&self, region: &str) -> bool {
        self.residency.as_ref().is_none_or(|regions| regions.iter().any(|allowed| allowed == region))
    }

    /// What the model must be able to do.
    pub const fn needed_capabilities(&self) -> Capabilities {
        self.needs
    }

    /// The most that it may cost, in pico-dollars; `None` for any price.
    pub const fn cost_cap(&self) -> Option<u64> {
        self.max_cost
    }

    /// Whether executing it twice does no harm.
    pub const fn is_replay_safe(&self) -> bool {
        self.replay_safe
    }

    /// All labels with their values, in the order in which they were added; a key may occur twice.
    pub fn all_labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The value of the first label with this key.
    pub fn label_value(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// `Arc<str>` as a string; serde's own implementation needs its `rc` feature, for every user of the graph.
#[cfg(feature = "serde")]
#[allow(clippy::ref_option)]
pub(crate) fn text<S: serde::Serializer>(value: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(text) => serializer.serialize_some(&**text),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_residency_allows_nothing_and_none_allows_all() {
        let (anywhere, eu) = (Facts::any(), Facts::any().residency(["eu-west", "eu-north"]));
        let nowhere = Facts::any().residency([""; 0]);
        assert!(!anywhere.has_residency() && anywhere.allows_region("us-east"));
        assert!(eu.has_residency() && eu.allows_region("eu-north") && !eu.allows_region("us-east"));
        assert!(nowhere.has_residency() && !nowhere.allows_region("eu-west") && !nowhere.allows_region(""));
    }

    #[test]
    fn what_was_set_can_be_read() {
        let facts = Facts::any().needs(Capabilities::TOOLS).max_cost(7).label("zone", "a").label("zone", "b");
        assert_eq!((facts.needed_capabilities(), facts.cost_cap()), (Capabilities::TOOLS, Some(7)));
        assert_eq!(facts.all_labels().collect::<Vec<_>>(), [("zone", "a"), ("zone", "b")]);
        assert_eq!(facts.label_value("zone"), Some("a"));
        let bare = Facts::any();
        assert_eq!(
            (bare.needed_capabilities(), bare.cost_cap(), bare.all_labels().count()),
            (Capabilities::NONE, None, 0)
        );
    }
}
