//! Shaping traffic: who gets which version ([`Split`]), how much a tenant may send ([`RateLimit`]) and
//! spend ([`SpendLimit`]), and what a candidate would have made of it ([`Mirror`]).

mod account;
mod key;
mod mirror;
mod rate;
mod rate_limit;
mod spend_limit;
mod split;

pub(crate) use mirror::{Copied, Flight, Reflect};
pub use mirror::{InvalidMirror, Mirror, MirrorCounts};
pub(crate) use rate_limit::Rates;
pub use rate_limit::{InvalidRateLimit, RateLimit};
pub(crate) use spend_limit::{Held, Means, Spends};
pub use spend_limit::{InvalidSpendLimit, SpendLimit};
pub use split::{Drawn, Split, Sticky};
pub(crate) use split::{WHOLE, bucket};
