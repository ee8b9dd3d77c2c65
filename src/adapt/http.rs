//! Health checks over HTTP (feature `http`).

use crate::backend::{BackendError, BackendId, FailureKind};
use crate::facts::Profile;
use crate::router::Probe;
use ::http::header::{HeaderName, HeaderValue};
use ::http::uri::{PathAndQuery, Uri};
use ::http::{HeaderMap, Method, Request, Response};
use async_trait::async_trait;
use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Empty, Limited};
use std::fmt;
use std::future::poll_fn;
use std::time::SystemTime;
use tower_service::Service;

/// The body that a client of [`HttpProbe`] sends: none.
pub type ProbeBody = Empty<Bytes>;

/// Asks every backend with a `GET` whether it is there: [`PATH`](Self::PATH), or for a provider `/v1/models`. Never a
/// completion.
///
/// The client is the host's, and with it connector, TLS, proxies and pool: anything that is a
/// [`Service`] from requests to responses, such as the `Client` of hyper-util. It should have a time limit for
/// connecting, though the prober gives up a check by itself, and it must not follow redirects (that of hyper-util does
/// not): one that says where health lives has not said that it is well.
///
/// A status of 2xx passes. Any other is classified as [`BackendError::from_http`] does: 5xx, 429 and redirects fail the
/// check, while 401, 403 and 404 are faults of the prober's credential or path and come to no verdict. A client that
/// can not send fails it as [`Unreachable`](FailureKind::Unreachable). Of the body [`MOST_BYTES`](Self::MOST_BYTES) are
/// read, so that the connection can be used again; what is in it does not matter.
///
/// ```no_run
/// use fallway::adapt::http::{HttpProbe, ProbeBody};
/// use hyper_util::client::legacy::Client;
/// use hyper_util::rt::TokioExecutor;
///
/// let client = Client::builder(TokioExecutor::new()).build_http::<ProbeBody>();
/// let probe = HttpProbe::new(client, |profile| format!("http://{}.internal:8000", profile.id()).parse().ok());
/// ```
#[derive(Clone)]
pub struct HttpProbe<C, A> {
    client: C,
    address: A,
    path: PathAndQuery,
    headers: HeaderMap,
}

impl<C, A: Fn(&Profile) -> Option<Uri>> HttpProbe<C, A> {
    /// What is asked for: the health page of vLLM, SGLang and most others.
    pub const PATH: &'static str = "/health";
    /// How much of a body is read.
    pub const MOST_BYTES: usize = 64 * 1024;

    /// Asks the server at `address` (scheme and authority; a path in it comes before that of the check). A backend
    /// without an address comes to no verdict.
    pub fn new(client: C, address: A) -> Self {
        Self { client, address, path: PathAndQuery::from_static(Self::PATH), headers: HeaderMap::new() }
    }

    /// Asks for `path` instead.
    #[must_use]
    pub fn path(mut self, path: PathAndQuery) -> Self {
        self.path = path;
        self
    }

    /// Sends a header with every check. Its value is never printed, nor part of an error.
    #[must_use]
    pub fn header(mut self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.headers.insert(name, value);
        self
    }

    fn request(&self, profile: &Profile) -> Option<Request<ProbeBody>> {
        let mut parts = (self.address)(profile)?.into_parts();
        let before = parts.path_and_query.as_ref().map_or("", |path| path.path().trim_end_matches('/'));
        parts.path_and_query = Some(format!("{before}{}", self.path).parse().ok()?);
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = Uri::from_parts(parts).ok()?;
        *request.headers_mut() = self.headers.clone();
        Some(request)
    }
}

#[async_trait]
impl<C, A, B> Probe for HttpProbe<C, A>
where
    C: Service<Request<ProbeBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    C::Future: Send,
    A: Fn(&Profile) -> Option<Uri> + Send + Sync + 'static,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn probe(&self, _: BackendId, profile: &Profile) -> Result<(), BackendError> {
        let request = self.request(profile).ok_or(FailureKind::InvalidRequest)?;
        let mut client = self.client.clone();
        // What the client says of the failure may name the address, which may hold a secret.
        let unreachable = |_| BackendError::new(FailureKind::Unreachable);
        poll_fn(|cx| client.poll_ready(cx)).await.map_err(unreachable)?;
        let (head, body) = client.call(request).await.map_err(unreachable)?.into_parts();
        let _ = Box::pin(Limited::new(body, Self::MOST_BYTES).collect()).await;
        if head.status.is_success() {
            return Ok(());
        }
        // The prober keeps its own pace, so no hint is read and no date compared.
        Err(BackendError::from_http(head.status.as_u16(), |_| None, "", SystemTime::UNIX_EPOCH))
    }
}

impl<C, A> fmt::Debug for HttpProbe<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().map(HeaderName::as_str).collect();
        f.debug_struct("HttpProbe").field("path", &self.path.path()).field("headers", &headers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::header::AUTHORIZATION;

    #[test]
    fn a_request_is_a_get_of_the_page_below_the_address_with_sensitive_headers() {
        let probe = HttpProbe::new((), |profile: &Profile| profile.id().parse().ok())
            .header(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        for (address, page) in [
            ("http://a:80", "http://a:80/health"),
            ("https://a/base/", "https://a/base/health"),
            ("https://a/base?query", "https://a/base/health"),
        ] {
            let request = probe.request(&Profile::new(address)).unwrap();
            assert_eq!((request.method(), request.uri().to_string()), (&Method::GET, page.to_owned()));
            assert!(request.headers()[AUTHORIZATION].is_sensitive());
        }
        assert!(probe.request(&Profile::new("not an address")).is_none());
    }
}
