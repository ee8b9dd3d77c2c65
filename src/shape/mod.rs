//! Shaping traffic: who gets which version ([`Split`]), how much a tenant may send ([`RateLimit`]), and what a candidate
//! would have made of it ([`Mirror`]).

mod mirror;
mod rate;
mod rate_limit;
mod split;

pub(crate) use mirror::{Copied, Flight, Reflect};
pub use mirror::{InvalidMirror, Mirror, MirrorCounts};
pub(crate) use rate_limit::Rates;
pub use rate_limit::{InvalidRateLimit, RateLimit};
pub use split::{Drawn, Split, Sticky};
pub(crate) use split::{WHOLE, bucket};
