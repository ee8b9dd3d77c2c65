//! What shapes the traffic of a router: rate limits, spend limits and mirrors.

use super::{Builder, check_profiles};
use crate::router::BuildError;
use crate::router::shadow::Fed;
use crate::shape::{Mirror, RateLimit, SpendLimit};
use std::sync::Arc;

impl<Req: ?Sized + Sync + 'static, Res: Send + 'static> Builder<Req, Res> {
    /// Refuses requests at entry that come faster than this. Of several limits a request needs a token of each.
    ///
    /// ```
    /// # use fallway::{CallOptions, Facts, Profile, Router, backend::{BackendError, backend_fn}, policy::ordered};
    /// # let model = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
    /// use fallway::router::RouteErrorKind;
    /// use fallway::shape::RateLimit;
    /// use std::time::Duration;
    ///
    /// let limit = RateLimit::new("tenant", 60, Duration::from_secs(60)).by_tenant().burst(1);
    /// let router = Router::builder(ordered()).backend(Profile::new("a"), model()).rate_limit(limit).build()?;
    /// # futures::executor::block_on(async {
    /// let options = || CallOptions::new(Facts::any().tenant("search"));
    /// assert!(router.call("one", options()).await.is_ok());
    /// let refused = router.call("two", options()).await.unwrap_err();
    /// assert_eq!(refused.kind(), RouteErrorKind::OverRate);
    /// assert!(refused.retry_after() <= Some(Duration::from_secs(1)));
    /// # });
    /// # Ok::<(), fallway::BuildError>(())
    /// ```
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rates.push(limit);
        self
    }

    /// Bounds what requests may cost. Of several limits, up to [`SpendLimit::MOST`], an attempt needs its money of each.
    ///
    /// ```
    /// # use fallway::{CallOptions, Facts, Profile, Router, backend::{Attempt, BackendError, Usage, backend_fn}, policy::ordered};
    /// # let model = || backend_fn(|_: &str, attempt: &Attempt| { attempt.used(Usage::new(1_000, 500)); async { Ok::<_, BackendError>(()) } });
    /// use fallway::facts::Price;
    /// use fallway::router::RouteErrorKind;
    /// use fallway::shape::SpendLimit;
    /// use std::time::Duration;
    ///
    /// let limit = SpendLimit::new("tenant", 0.10, Duration::from_secs(3_600)).by_tenant().burst(0.03);
    /// let a = Profile::new("a").price(Price::per_million(3.0, 15.0)?);
    /// let router = Router::builder(ordered()).backend(a, model()).spend_limit(limit).build()?;
    /// # futures::executor::block_on(async {
    /// // A thousand tokens and an answer of two thousand at most: 3.3 cents, and 1.05 as it turns out.
    /// let facts = || Facts::any().tenant("search").prompt_tokens(1_000);
    /// let refused = router.call("one", CallOptions::new(facts().max_output_tokens(2_000))).await.unwrap_err();
    /// assert_eq!(refused.kind(), RouteErrorKind::OverSpend);
    /// let reply = router.call("two", CallOptions::new(facts().max_output_tokens(1_000))).await.unwrap();
    /// assert_eq!(reply.decision().bill().known, 10_500_000_000);
    /// # });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn spend_limit(mut self, limit: SpendLimit) -> Self {
        self.spends.push(limit);
        self
    }

    /// Has a share of the requests copied for a backend that answers nobody; [`Router::shadow`](crate::Router::shadow) sends them.
    /// Of a [`Trip`](crate::router::Trip) the router does not see the request, so it is not copied.
    ///
    /// ```
    /// # use fallway::{Profile, Router, backend::{BackendError, backend_fn}, policy::ordered};
    /// # let model = || backend_fn(|_: &str, _: &_| async { Ok::<_, BackendError>(()) });
    /// use fallway::shape::Mirror;
    /// use std::sync::Arc;
    ///
    /// let mirror = Arc::new(Mirror::new(Profile::new("candidate").concurrency(4), 500));
    /// let router = Router::builder(ordered()).backend(Profile::new("a"), model()).mirror(mirror.clone()).build()?;
    /// let shadow = router.shadow(mirror.clone(), model());
    /// // tokio::spawn(shadow);
    /// # drop(shadow);
    /// # Ok::<(), fallway::BuildError>(())
    /// ```
    #[must_use]
    pub fn mirror(mut self, mirror: Arc<Mirror<Req>>) -> Self
    where
        Req: ToOwned,
        Req::Owned: Send,
    {
        let profile = check_profiles(std::iter::once(&**mirror.profile()));
        self.mirror_errors.extend(profile.err());
        self.mirror_errors.extend(mirror.check().err().map(BuildError::Mirror));
        if !self.policy.allows_region(mirror.profile().region_name()) {
            self.mirror_errors.push(mirror.outside().into());
        }
        let id = mirror.profile().id();
        if self.mirrors.iter().any(|fed| fed.0.id() == id) {
            self.mirror_errors.push(BuildError::DuplicateId(id.to_owned()));
        }
        self.mirrors.push(Fed::new(mirror));
        self
    }
}
