//! Shaping: splits and ramps, rates, mirrors.

mod splits;
