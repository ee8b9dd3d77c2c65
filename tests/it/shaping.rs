//! Shaping: splits and ramps, rates, mirrors.

mod mirrors;
mod rates;
mod splits;
