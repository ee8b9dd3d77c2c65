//! The configuration of `fail_safe`.

use super::chains::DEPTH;
use crate::budget::Backoff;
use crate::policy::Check;
use crate::shape::Split;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How requests degrade when the best backend is not available. Wrap a policy with
/// [`PolicyExt::fail_safe`](crate::policy::PolicyExt::fail_safe).
///
/// ```
/// use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
/// let policy = predicted_ttft().fail_safe(
///     FailSafe::default()
///         .tiers("chat", ["llama-70b", "llama-8b"])
///         .on_context_too_long("chat", ["llama-70b-128k"])
///         .attempts(3),
/// );
/// ```
#[derive(Clone, Debug)]
pub struct FailSafe {
    pub(super) attempts: u32,
    pub(super) panic_threshold: f64,
    pub(super) backoff: Backoff,
    pub(super) attempt_limit: Option<Duration>,
    pub(super) chains: BTreeMap<String, Chains>,
    pub(super) fallback: Vec<String>,
}

/// The tiers of one alias, by the failure that leads to them.
#[derive(Clone, Debug, Default)]
pub(super) struct Chains {
    /// Draws the tier that comes before the general ones.
    pub(super) split: Option<Arc<Split>>,
    /// The host named two splits for it.
    split_twice: bool,
    pub(super) general: Vec<String>,
    pub(super) larger_window: Vec<String>,
    pub(super) rejected_content: Vec<String>,
}

impl Chains {
    /// The tiers behind the one that is drawn, if there is a split: where the host names none, all arms.
    pub(super) fn tiers(&self) -> impl Iterator<Item = &str> {
        let arms = self.split.iter().filter(|_| self.general.is_empty()).flat_map(|split| split.targets());
        self.general.iter().map(String::as_str).chain(arms)
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        let arms = self.split.iter().flat_map(|split| split.targets());
        let others = self.general.iter().chain(&self.larger_window).chain(&self.rejected_content);
        arms.chain(others.map(String::as_str))
    }
}

impl FailSafe {
    /// Attempts of one request, across tiers, the first included.
    pub const ATTEMPTS: u32 = 3;
    /// Below this share of healthy candidates a tier doubts its signals: Envoy's default.
    pub const PANIC_THRESHOLD: f64 = 0.5;
    /// How often a request tries a backend while all of them rest after failures.
    pub const TRIAL_INTERVAL: Duration = Duration::from_millis(350);
    /// What an attempt leaves for each that could follow it, at most.
    pub const RESERVE: Duration = Duration::from_secs(1);

    /// How long before the deadline a request stops waiting for a backend, where there is a last resort.
    pub const LAST_RESORT_RESERVE: Duration = Duration::from_millis(250);

    /// The models that serve `alias`, best first. A tier is a model (`name` or `name@version`), another alias, or what the
    /// [registry](crate::router::Builder::registry) knows by the name. Where that knows `alias` itself, these stand behind.
    /// An alias may be a model's own name.
    #[must_use]
    pub fn tiers<S: Into<String>>(mut self, alias: impl Into<String>, models: impl IntoIterator<Item = S>) -> Self {
        self.chain(alias).general = models.into_iter().map(Into::into).collect();
        self
    }

    /// Has a name split: the arm that a request draws is its first tier. Behind it come the
    /// [tiers](Self::tiers) of the name, in their order; where it has none, the other arms that have a share. So a
    /// canary that may not serve the requests of others stands in no tier. A second split of the same name is an error of
    /// the builder.
    ///
    /// ```
    /// use fallway::policy::FailSafe;
    /// use fallway::shape::Split;
    ///
    /// let config = FailSafe::default()
    ///     .split(Split::new("chat", [("llama-70b@3", 9_500), ("llama-70b@4", 500)]))
    ///     .tiers("chat", ["llama-70b@3", "llama-8b"]);
    /// # let _ = config;
    /// ```
    #[must_use]
    pub fn split(mut self, split: Split) -> Self {
        let chain = self.chain(split.name());
        chain.split_twice |= chain.split.is_some();
        chain.split = Some(Arc::new(split));
        self
    }

    /// Where a request for `alias` goes after its prompt was too long; backends of larger window in its own tiers
    /// come first. A tier named here counts as larger, unless its profiles give a context window that is not.
    #[must_use]
    pub fn on_context_too_long<S: Into<String>>(
        mut self,
        alias: impl Into<String>,
        models: impl IntoIterator<Item = S>,
    ) -> Self {
        self.chain(alias).larger_window = models.into_iter().map(Into::into).collect();
        self
    }

    /// Where a request for `alias` goes after a content policy refused it; without this, nowhere.
    #[must_use]
    pub fn on_content_rejected<S: Into<String>>(
        mut self,
        alias: impl Into<String>,
        models: impl IntoIterator<Item = S>,
    ) -> Self {
        self.chain(alias).rejected_content = models.into_iter().map(Into::into).collect();
        self
    }

    /// Tiers behind those of every model and alias: models, or aliases with tiers of their own.
    #[must_use]
    pub fn fallback<S: Into<String>>(mut self, models: impl IntoIterator<Item = S>) -> Self {
        self.fallback = models.into_iter().map(Into::into).collect();
        self
    }

    /// How many attempts a request may make, the first included; default 3. One [canary that was given up
    /// early](crate::decision::AttemptRecord::is_canary_timeout) is not counted, so a request makes one call more at most; the retry
    /// budget pays for that as for any other. The last attempt is not given up early: with 1 there is one call.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The share of healthy candidates below which panic mode begins; 0 turns it off. Default 0.5.
    #[must_use]
    pub const fn panic_threshold(mut self, share: f64) -> Self {
        self.panic_threshold = share;
        self
    }

    /// The back-off before the same backend is tried again; another one is tried at once.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The longest that one attempt may take until it answers (a stream: until its first item). Default what the
    /// deadline leaves, less a reserve for the attempts that could follow.
    #[must_use]
    pub const fn attempt_limit(mut self, limit: Duration) -> Self {
        self.attempt_limit = Some(limit);
        self
    }

    fn chain(&mut self, alias: impl Into<String>) -> &mut Chains {
        self.chains.entry(alias.into()).or_default()
    }

    pub(super) fn check(&self, check: &mut Check<'_>) {
        const NAME: &str = "fail_safe";
        if self.attempts == 0 {
            check.error(NAME, "0 attempts would refuse every request");
        }
        if !(0.0..=1.0).contains(&self.panic_threshold) {
            check.error(NAME, format!("a panic threshold of {} is not in 0..=1", self.panic_threshold));
        }
        if self.attempt_limit.is_some_and(|limit| limit.is_zero()) {
            check.error(NAME, "an attempt limit of zero would time out every attempt");
        }
        for model in &self.fallback {
            self.check_unsplit(model, check);
            if !check.has_model(model) && !self.chains.contains_key(model) {
                check.error(NAME, format!("the fallback names {model:?}, which no backend serves"));
            }
        }
        for (alias, chains) in &self.chains {
            if chains.split_twice {
                check.error(NAME, format!("name {alias:?} is split twice"));
            }
            match &chains.split {
                Some(_) if check.is_registered(alias) => {
                    check.error(NAME, format!("name {alias:?} is split here, and is in the registry"));
                }
                Some(split) => split.check(|problem| check.error(NAME, problem)),
                None if chains.general.is_empty() && !check.has_model(alias) => {
                    check.error(NAME, format!("alias {alias:?} has no tiers"));
                }
                None => {}
            }
            for tier in chains.all() {
                self.check_unsplit(tier, check);
                if !check.has_model(tier) && !self.chains.contains_key(tier) {
                    check.error(NAME, format!("alias {alias:?} names {tier:?}, which no backend serves"));
                }
            }
            if let Some(path) = self.cycle(alias, check) {
                check.error(NAME, format!("cyclic fallback: {}", path.join(" -> ")));
            } else if !self.shallow(alias, check, DEPTH) {
                check.error(NAME, format!("alias {alias:?} leads through more than {DEPTH} other aliases"));
            }
        }
    }

    /// A tier that is a model is served as that, so a split of its name would be passed by without a word.
    fn check_unsplit(&self, tier: &str, check: &mut Check<'_>) {
        let splits = self.chains.get(tier).is_some_and(|chains| chains.split.is_some());
        if splits && !check.again && check.has_model(tier) {
            check.error("fail_safe", format!("tier {tier:?} is a model and a split: give the split a name of its own"));
        }
    }

    /// Whether every chain of aliases from `from` ends within `depth`.
    fn shallow(&self, from: &str, check: &Check<'_>, depth: u32) -> bool {
        let Some(chains) = self.chains.get(from) else { return true };
        chains.all().all(|tier| check.has_model(tier) || (depth > 0 && self.shallow(tier, check, depth - 1)))
    }

    /// A path from `alias` back to it through aliases that are no models themselves.
    fn cycle<'a>(&'a self, alias: &'a str, check: &Check<'_>) -> Option<Vec<&'a str>> {
        let mut path = vec![alias];
        let mut seen = Vec::new();
        self.find(alias, alias, check, &mut path, &mut seen).then_some(path)
    }

    fn find<'a>(
        &'a self,
        from: &'a str,
        to: &str,
        check: &Check<'_>,
        path: &mut Vec<&'a str>,
        seen: &mut Vec<&'a str>,
    ) -> bool {
        if seen.contains(&from) {
            return false;
        }
        seen.push(from);
        let Some(chains) = self.chains.get(from) else { return false };
        for next in chains.all() {
            // A model is served, not resolved further: it ends the path even if it is an alias too.
            if check.has_model(next) {
                continue;
            }
            path.push(next);
            if next == to || self.find(next, to, check, path, seen) {
                return true;
            }
            path.pop();
        }
        false
    }
}

impl Default for FailSafe {
    fn default() -> Self {
        Self {
            attempts: Self::ATTEMPTS,
            panic_threshold: Self::PANIC_THRESHOLD,
            backoff: Backoff::FAILURE,
            attempt_limit: None,
            chains: BTreeMap::new(),
            fallback: Vec::new(),
        }
    }
}
