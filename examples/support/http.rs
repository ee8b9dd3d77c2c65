//! One pooled HTTP client for everything that talks to an OpenAI-compatible server.
//!
//! It does four things: keep connections, bound the time to connect, tell "never reached the server" apart from "broke
//! after it was sent" (only the first is safe to repeat blindly), and hand the body out piece by piece. It does not retry,
//! decide or time answers: that is the work of whoever routes.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// An idle connection is closed after this long; shorter than the idle limits that servers and balancers usually have
/// (60 s and more), so that the pool rarely offers a connection that the other side is about to close.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// A cheap handle: clones share one connection pool.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Http {
    /// A client that gives up connecting after `connect_timeout`.
    pub(crate) fn new(connect_timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true); // a request is one small write: waiting for more only delays it
        connector.set_connect_timeout(Some(connect_timeout));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { client }
    }

    /// Posts a JSON document and returns when the headers of the answer are there.
    ///
    /// # Errors
    /// See [`HttpError`]. A status is not an error here.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection, which tells the server to stop working.
    pub(crate) async fn post_json(
        &self,
        uri: &Uri,
        headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        body: Bytes,
    ) -> Result<Reply, HttpError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        let all = request.headers_mut();
        all.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        all.extend(headers);

        let response = self.client.request(request).await.map_err(|error| {
            if error.is_connect() {
                HttpError::Unreachable(Box::new(error))
            } else {
                HttpError::Broken(Box::new(error))
            }
        })?;
        let (head, body) = response.into_parts();
        Ok(Reply { status: head.status, headers: head.headers, body })
    }
}

/// The head of an answer, and the body still to be read.
#[derive(Debug)]
pub(crate) struct Reply {
    /// As sent by the server.
    pub(crate) status: StatusCode,
    /// As sent by the server.
    pub(crate) headers: HeaderMap,
    body: Incoming,
}

impl Reply {
    /// The next piece of the body as it arrives; `None` at its clean end.
    ///
    /// # Cancel safety
    /// A piece is either returned or still to come.
    pub(crate) async fn chunk(&mut self) -> Option<Result<Bytes, HttpError>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_trailers) => {}
                },
                Err(error) => return Some(Err(HttpError::Broken(Box::new(error)))),
            }
        }
    }

    /// The whole body, which must not be larger than `limit` bytes: a server in trouble may send anything.
    ///
    /// # Errors
    /// [`HttpError::Broken`] when it ends early or is too large.
    pub(crate) async fn bytes(self, limit: usize) -> Result<Bytes, HttpError> {
        let whole = Limited::new(self.body, limit).collect().await;
        whole.map(http_body_util::Collected::to_bytes).map_err(HttpError::Broken)
    }
}

/// Why there is no answer, or only a part of one.
#[derive(Debug)]
pub(crate) enum HttpError {
    /// No connection: the server has seen nothing of the request.
    Unreachable(Box<dyn Error + Send + Sync>),
    /// The connection failed later: the server may have seen all of it and done the work.
    Broken(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable(_) => "no connection",
            Self::Broken(_) => "connection broken",
        })
    }
}

impl Error for HttpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreachable(source) | Self::Broken(source) => Some(source.as_ref()),
        }
    }
}
