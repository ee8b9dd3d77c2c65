//! [`Interrupted`]: a stream that broke, and what of it was delivered.

use crate::backend::{BackendError, FailureKind};
use crate::router::RouteError;
use std::error::Error;
use std::fmt;

/// How much of a stream was handed to its caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Delivered {
    /// Items, those without content too.
    pub items: u64,
    /// The sum of their [content](crate::backend::StreamItem::content).
    pub content: u64,
}

/// A stream that broke after it began. What was delivered until then stands; nothing follows.
#[derive(Debug)]
pub struct Interrupted {
    pub(super) error: BackendError,
    pub(super) delivered: Delivered,
    /// Whether only the caller's time is over.
    pub(super) out_of_time: bool,
    pub(super) not_resumed: Option<RouteError>,
}

impl Interrupted {
    /// How it broke: [`Timeout`](FailureKind::Timeout) when the request's deadline passed or the backend itself reported
    /// one; only the second counts against it.
    pub const fn kind(&self) -> FailureKind {
        self.error.kind()
    }

    /// What was delivered before.
    pub const fn delivered(&self) -> Delivered {
        self.delivered
    }

    /// The backend's error.
    pub const fn backend_error(&self) -> &BackendError {
        &self.error
    }

    /// Why nobody else could go on with it, where the host's [`Resume`](super::Resume) wanted that.
    pub const fn not_resumed(&self) -> Option<&RouteError> {
        self.not_resumed.as_ref()
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Delivered { items, content } = self.delivered;
        write!(f, "the stream broke after {items} items with a content of {content}: {}", self.error)?;
        match &self.not_resumed {
            Some(error) => write!(f, "; not resumed: {error}"),
            None => Ok(()),
        }
    }
}

impl Error for Interrupted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}
