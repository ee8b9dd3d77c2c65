//! What backends probably keep of prompts: an approximate index for each.

mod index;

pub(crate) use index::{Footprint, PrefixIndex};
