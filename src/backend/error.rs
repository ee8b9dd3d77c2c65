//! [`BackendError`]: what a backend says of a failed call.

use super::FailureKind;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// A failed call, classified.
///
/// The source is kept for the host's own logs through [`Error::source`]; it never appears in this type's `Debug`
/// or `Display`, nor in decisions, because messages of HTTP clients carry URLs, headers and prompts.
///
/// ```
/// use fallway::backend::{BackendError, FailureKind};
/// use std::time::Duration;
/// let error = BackendError::new(FailureKind::RateLimited).retry_after(Duration::from_secs(2));
/// assert_eq!(error.to_string(), "rate_limited, retry after 2s");
/// ```
pub struct BackendError {
    kind: FailureKind,
    retry_after: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl BackendError {
    /// The shortest wait that a `Retry-After` hint is taken for.
    pub const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);
    /// The longest wait that a `Retry-After` hint is taken for: a provider's mistake must not bench it for a day.
    pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

    /// A failure of `kind`, without hint or source.
    pub const fn new(kind: FailureKind) -> Self {
        Self { kind, retry_after: None, source: None }
    }

    /// Adds the time after which the backend asked to be called again, clamped to
    /// [`MIN_RETRY_AFTER`](Self::MIN_RETRY_AFTER)`..=`[`MAX_RETRY_AFTER`](Self::MAX_RETRY_AFTER).
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after.clamp(Self::MIN_RETRY_AFTER, Self::MAX_RETRY_AFTER));
        self
    }

    /// Adds the underlying error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// How it failed.
    pub const fn kind(&self) -> FailureKind {
        self.kind
    }

    /// The backend's hint, clamped.
    pub const fn retry_hint(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl From<FailureKind> for BackendError {
    fn from(kind: FailureKind) -> Self {
        Self::new(kind)
    }
}

impl fmt::Debug for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendError")
            .field("kind", &self.kind)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        match self.retry_after {
            Some(after) => write!(f, ", retry after {after:?}"),
            None => Ok(()),
        }
    }
}

impl Error for BackendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}
