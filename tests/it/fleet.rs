//! The fleet as it changes under traffic, and fleets too large to look at whole.

mod changes;
mod large;
mod updates;
