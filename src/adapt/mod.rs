//! Adapters to what hosts use; one file and one feature each.

#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "tokio")]
pub mod tokio;
