//! The static facts of a backend.

use super::{Adaptive, Capabilities, InvalidName, Price};
use std::time::Duration;

/// The static facts of a backend: what it is, where it stands, what it can take.
///
/// The setters take anything; [`Builder::build`](crate::router::Builder::build) refuses what makes no sense and
/// names it.
///
/// ```
/// use fallway::Profile;
/// let profile = Profile::new("eu-a").model("llama-70b@3").region("eu-west").concurrency(64);
/// assert_eq!(profile.model_name(), Some("llama-70b"));
/// assert_eq!(profile.model_version(), Some("3"));
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Profile {
    pub(crate) id: String,
    pub(crate) model: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) credential: Option<String>,
    pub(crate) failure_domain: Option<String>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) adaptive: Option<Adaptive>,
    pub(crate) max_prefill_tokens: Option<u64>,
    pub(crate) max_total_tokens: Option<u64>,
    pub(crate) requests_per_minute: Option<u64>,
    pub(crate) request_burst: Option<u64>,
    pub(crate) tokens_per_minute: Option<u64>,
    pub(crate) token_burst: Option<u64>,
    pub(crate) context_window: Option<u64>,
    pub(crate) prefix_cache: Option<u64>,
    pub(crate) price: Option<Price>,
    pub(crate) capabilities: Option<Capabilities>,
    pub(crate) weight: f64,
    pub(crate) tenants: Vec<String>,
    /// Whether a set of tenants was given: an empty one is a mistake, not "all".
    #[cfg_attr(feature = "serde", serde(skip))]
    selective: bool,
    pub(crate) attempt_limit: Option<Duration>,
    pub(crate) drained: bool,
}

impl Profile {
    /// A backend's facts; `id` is unique in a fleet and names it in every decision.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            model: None,
            region: None,
            zone: None,
            provider: None,
            credential: None,
            failure_domain: None,
            concurrency: None,
            adaptive: None,
            max_prefill_tokens: None,
            max_total_tokens: None,
            requests_per_minute: None,
            request_burst: None,
            tokens_per_minute: None,
            token_burst: None,
            context_window: None,
            prefix_cache: None,
            price: None,
            capabilities: None,
            weight: 1.0,
            tenants: Vec::new(),
            selective: false,
            attempt_limit: None,
            drained: false,
        }
    }

    /// The model it serves, as `name` or `name@version`.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// The region it stands in; what residency is checked against.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// The zone inside the region.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Who runs it.
    #[must_use]
    pub fn provider(mut self, provider: impl Into<String>) -> Self {
        self.provider = Some(provider.into());
        self
    }

    /// A *name* for the credential it is called with, never the secret itself: backends of one credential cool
    /// down together when it is refused or out of credit.
    #[must_use]
    pub fn credential(mut self, name: impl Into<String>) -> Self {
        self.credential = Some(name.into());
        self
    }

    /// What fails together with it; default the region. Where a fleet has several, the backends of one that fail
    /// together go out as one, and one request finds out for all of them whether they are back.
    #[must_use]
    pub fn failure_domain(mut self, domain: impl Into<String>) -> Self {
        self.failure_domain = Some(domain.into());
        self
    }

    /// The most calls that may be in flight to it from this router; default no limit.
    #[must_use]
    pub const fn concurrency(mut self, limit: u32) -> Self {
        self.concurrency = Some(limit);
        self
    }

    /// Learns the most calls that may be in flight to it, from how it takes them; default off. Where a
    /// [limit](Self::concurrency) is given as well, the lower of the two holds.
    #[must_use]
    pub const fn adaptive_concurrency(mut self, how: Adaptive) -> Self {
        self.adaptive = Some(how);
        self
    }

    /// The most tokens of prompts that may wait for their first item there; default no bound. What a server works through
    /// in one step before it goes on with its answers: `max_num_batched_tokens` of vLLM, `--max-prefill-tokens` of
    /// SGLang. A prompt counts without what of it the backend [probably has](crate::facts::Prefix), until its first item is
    /// here; one that is longer than this is refused.
    #[must_use]
    pub const fn max_prefill_tokens(mut self, tokens: u64) -> Self {
        self.max_prefill_tokens = Some(tokens);
        self
    }

    /// The most tokens that calls in flight may have together, of prompts and expected answers; default no bound. What fits in
    /// the KV cache of a server: `GPU KV cache size` in vLLM's log, `--max-total-tokens` of SGLang. Counted are calls that
    /// were sent since there is a bound, each with what it was expected to have until it ends; a request that is sure to have
    /// more is refused, and one whose answer is only [guessed](crate::Facts::expected_output_tokens) to be that long takes all.
    ///
    /// ```
    /// use fallway::Profile;
    /// let profile = Profile::new("a").concurrency(256).max_prefill_tokens(16_384).max_total_tokens(400_000);
    /// assert_eq!(profile.total_token_bound(), Some(400_000));
    /// ```
    #[must_use]
    pub const fn max_total_tokens(mut self, tokens: u64) -> Self {
        self.max_total_tokens = Some(tokens);
        self
    }

    /// The requests that this router may send it in a minute; default no limit. Where several routers share the quota of
    /// a provider, each is told its part of it.
    ///
    /// The router mirrors the quota as a bucket that refills continuously and holds a minute's worth (or
    /// [so many](Self::request_burst)), so in no window of a minute are there more than this and what the full bucket held.
    /// What the backend says of its quota ([`Attempt::quota`](crate::backend::Attempt::quota), a 429) corrects the mirror,
    /// downwards from here.
    #[must_use]
    pub const fn requests_per_minute(mut self, limit: u64) -> Self {
        self.requests_per_minute = Some(limit);
        self
    }

    /// How many requests may be sent at once after a pause; default as many as in a minute. Fewer where a provider holds its
    /// limit per minute against every second, or every ten.
    #[must_use]
    pub const fn request_burst(mut self, requests: u64) -> Self {
        self.request_burst = Some(requests);
        self
    }

    /// The tokens, of prompts and answers together, that this router may send it in a minute; default no limit. A bucket
    /// like that of [requests](Self::requests_per_minute): a request takes its prompt and the expected answer when it is
    /// sent, and [`Attempt::used`](crate::backend::Attempt::used) corrects that.
    ///
    /// ```
    /// use fallway::Profile;
    /// let profile = Profile::new("a").requests_per_minute(500).request_burst(50).tokens_per_minute(200_000);
    /// assert_eq!(profile.token_quota(), Some(200_000));
    /// ```
    #[must_use]
    pub const fn tokens_per_minute(mut self, limit: u64) -> Self {
        self.tokens_per_minute = Some(limit);
        self
    }

    /// How many tokens may be sent at once after a pause; default as many as in a minute. More where this router has a part
    /// of a quota and none of the others asks just now: the whole of the quota.
    #[must_use]
    pub const fn token_burst(mut self, tokens: u64) -> Self {
        self.token_burst = Some(tokens);
        self
    }

    /// The tokens that prompt and answer may have together; default no limit.
    #[must_use]
    pub const fn context_window(mut self, tokens: u64) -> Self {
        self.context_window = Some(tokens);
        self
    }

    /// The tokens of prompts that it keeps at most, in its KV or prompt cache; 0 for one that keeps none. By default
    /// that is learned.
    #[must_use]
    pub const fn prefix_cache(mut self, tokens: u64) -> Self {
        self.prefix_cache = Some(tokens);
        self
    }

    /// What it charges; default unknown, which is never free.
    #[must_use]
    pub fn price(mut self, price: Price) -> Self {
        self.price = Some(price);
        self
    }

    /// What its model can do. Not saying means not known, and no request is refused for it.
    #[must_use]
    pub const fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = Some(capabilities);
        self
    }

    /// Its share relative to its peers' in [`weighted`](crate::policy::weighted); default 1.
    #[must_use]
    pub const fn weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// The only tenants that it serves; default all. An empty set makes no sense and is refused by
    /// [`check`](Self::check): to serve nobody, drain it.
    #[must_use]
    pub fn only_tenants<S: Into<String>>(mut self, tenants: impl IntoIterator<Item = S>) -> Self {
        self.tenants = tenants.into_iter().map(Into::into).collect();
        self.selective = true;
        self
    }

    /// How long one call may take until it returns (a stream: until its first item); default what the request has.
    #[must_use]
    pub const fn attempt_limit(mut self, limit: Duration) -> Self {
        self.attempt_limit = Some(limit);
        self
    }

    /// Takes no new requests; what is in flight finishes.
    #[must_use]
    pub const fn drained(mut self, drained: bool) -> Self {
        self.drained = drained;
        self
    }

    /// Its unique name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The model with its version, as it was given.
    pub fn full_model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The model without its version.
    pub fn model_name(&self) -> Option<&str> {
        self.model.as_deref().map(|model| model.split_once('@').map_or(model, |(name, _)| name))
    }

    /// The model's version.
    pub fn model_version(&self) -> Option<&str> {
        self.model.as_deref().and_then(|model| model.split_once('@')).map(|(_, version)| version)
    }

    /// Its region.
    pub fn region_name(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// The zone inside the region.
    pub fn zone_name(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Who runs it.
    pub fn provider_name(&self) -> Option<&str> {
        self.provider.as_deref()
    }

    /// Its failure domain, or its region where none was given.
    pub fn domain(&self) -> Option<&str> {
        self.failure_domain.as_deref().or(self.region.as_deref())
    }

    /// The name of its credential.
    pub fn credential_name(&self) -> Option<&str> {
        self.credential.as_deref()
    }

    /// Its price, where known.
    pub const fn known_price(&self) -> Option<&Price> {
        self.price.as_ref()
    }

    /// Its weight.
    pub const fn relative_weight(&self) -> f64 {
        self.weight
    }

    /// Its limit of calls in flight.
    pub const fn concurrency_limit(&self) -> Option<u32> {
        self.concurrency
    }

    /// How its limit of calls in flight is learned, if it is.
    pub const fn adaptive_limit(&self) -> Option<Adaptive> {
        self.adaptive
    }

    /// Its bound of tokens of prompts that wait for their first item.
    pub const fn prefill_token_bound(&self) -> Option<u64> {
        self.max_prefill_tokens
    }

    /// Its bound of tokens of calls in flight.
    pub const fn total_token_bound(&self) -> Option<u64> {
        self.max_total_tokens
    }

    /// The tokens of prompts that it keeps at most, where known.
    pub const fn prefix_cache_limit(&self) -> Option<u64> {
        self.prefix_cache
    }

    pub(crate) const fn has_quota(&self) -> bool {
        self.requests_per_minute.is_some() || self.tokens_per_minute.is_some()
    }

    pub(crate) const fn bounds_tokens(&self) -> bool {
        self.max_prefill_tokens.is_some() || self.max_total_tokens.is_some()
    }

    /// Its quota of requests per minute.
    pub const fn request_quota(&self) -> Option<u64> {
        self.requests_per_minute
    }

    /// How many requests may be sent at once, where that is not a minute's worth.
    pub const fn request_burst_limit(&self) -> Option<u64> {
        self.request_burst
    }

    /// Its quota of tokens per minute.
    pub const fn token_quota(&self) -> Option<u64> {
        self.tokens_per_minute
    }

    /// How many tokens may be sent at once, where that is not a minute's worth.
    pub const fn token_burst_limit(&self) -> Option<u64> {
        self.token_burst
    }

    /// The tokens that prompt and answer may have together, where known.
    pub const fn context_limit(&self) -> Option<u64> {
        self.context_window
    }

    /// What its model can do, where known.
    pub const fn known_capabilities(&self) -> Option<Capabilities> {
        self.capabilities
    }

    /// The only tenants that it serves; `None` for all.
    pub fn allowed_tenants(&self) -> Option<&[String]> {
        self.selective.then_some(&self.tenants)
    }

    /// How long one call may take until it returns, if it is limited.
    pub const fn attempt_time_limit(&self) -> Option<Duration> {
        self.attempt_limit
    }

    /// Whether it takes no new requests.
    pub const fn is_drained(&self) -> bool {
        self.drained
    }

    /// Whether its names can be told apart, printed on one line and sent in a header.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] says which name and why: one that is given but empty, one with control characters, a set of
    /// tenants without any, a model with two versions.
    ///
    /// ```
    /// use fallway::Profile;
    /// let error = Profile::new("a").model("llama@3@4").check().unwrap_err();
    /// assert_eq!(error.to_string(), "the model has more than one version");
    /// ```
    pub fn check(&self) -> Result<(), InvalidName> {
        let version = self.full_model().filter(|model| model.contains('@')).and(self.model_version());
        let names = [
            ("the id", Some(self.id())),
            ("the model", self.model_name()),
            ("the model's version", version),
            ("the region", self.region.as_deref()),
            ("the zone", self.zone.as_deref()),
            ("the provider", self.provider.as_deref()),
            ("the credential", self.credential.as_deref()),
            ("the failure domain", self.failure_domain.as_deref()),
        ];
        let given = names.into_iter().filter_map(|(what, name)| Some((what, name?)));
        let tenants = self.tenants.iter().map(|tenant| ("a tenant", tenant.as_str()));
        given.chain(tenants).try_for_each(|(what, name)| InvalidName::check(what, name))?;
        if version.is_some_and(|version| version.contains('@')) {
            return Err(InvalidName::TwoVersions);
        }
        if self.selective && self.tenants.is_empty() {
            return Err(InvalidName::NoTenant);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a() -> Profile {
        Profile::new("a")
    }

    #[test]
    fn names_that_cannot_be_meant_are_named() {
        for (profile, says) in [
            (Profile::new("a\nb"), "the id has control characters"),
            (a().model("m\0"), "the model has control characters"),
            (a().model("m@1\t"), "the model's version has control characters"),
            (a().model("m@1@2"), "the model has more than one version"),
            (a().model("@1"), "the model is empty"),
            (a().model("m@"), "the model's version is empty"),
            (a().region(""), "the region is empty"),
            (a().zone(" "), "the zone is empty"),
            (a().provider(""), "the provider is empty"),
            (a().credential(""), "the credential is empty"),
            (a().failure_domain("\u{1b}[0m"), "the failure domain has control characters"),
            (a().failure_domain(""), "the failure domain is empty"),
            (a().only_tenants(["x", ""]), "a tenant is empty"),
            (a().only_tenants([""; 0]), "the set of tenants is empty"),
        ] {
            assert_eq!(profile.check().unwrap_err().to_string(), says, "{profile:?}");
        }
        let full =
            a().model("m@1").region("eu").zone("eu-1").provider("p").failure_domain("rack 7").only_tenants(["x"]);
        assert_eq!((full.check(), a().check(), Profile::new("ä b").check()), (Ok(()), Ok(()), Ok(())));
    }

    #[test]
    fn what_was_set_can_be_read() {
        let window = Duration::from_secs(2);
        let full = a().zone("z").provider("p").context_window(9).prefix_cache(7).capabilities(Capabilities::TOOLS);
        let full =
            full.only_tenants(["x"]).attempt_limit(window).drained(true).credential("key").failure_domain("rack");
        assert_eq!((full.zone_name(), full.provider_name(), full.context_limit()), (Some("z"), Some("p"), Some(9)));
        assert_eq!((full.known_capabilities(), full.is_drained()), (Some(Capabilities::TOOLS), true));
        assert_eq!((full.allowed_tenants(), full.attempt_time_limit()), (Some(&["x".to_owned()][..]), Some(window)));
        assert_eq!((full.prefix_cache_limit(), a().prefix_cache_limit()), (Some(7), None));
        let learns = a().adaptive_concurrency(Adaptive::Gradient);
        assert_eq!((learns.adaptive_limit(), a().adaptive_limit()), (Some(Adaptive::Gradient), None));
        assert_eq!((full.credential_name(), full.domain()), (Some("key"), Some("rack")));
        let bare = a();
        assert_eq!((bare.zone_name(), bare.provider_name(), bare.context_limit()), (None, None, None));
        assert_eq!((bare.known_capabilities(), bare.is_drained()), (None, false));
        assert_eq!((bare.allowed_tenants(), bare.attempt_time_limit()), (None, None));
    }
}
