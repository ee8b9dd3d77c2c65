//! What shapes the traffic of a router: rate limits and mirrors.

use super::{Builder, check_profiles};
use crate::router::BuildError;
use crate::router::shadow::Fed;
use crate::shape::{Mirror, RateLimit};
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
        self.mirrors.push(Fed::new(mirror));
        self
    }
}
