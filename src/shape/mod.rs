//! Shaping traffic: who gets which version ([`Split`]), how much a tenant may send ([`RateLimit`]), and what a candidate
//! would have made of it ([`Mirror`]).

mod mirror;
mod split;

pub(crate) use mirror::{Copied, Flight, Reflect};
pub use mirror::{InvalidMirror, Mirror, MirrorCounts};
pub use split::{Drawn, Split, Sticky};
pub(crate) use split::{WHOLE, bucket};
