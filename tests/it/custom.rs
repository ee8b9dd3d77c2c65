//! Policies that a host wrote: the lines they draw, what they conclude, and how they panic.

mod conclusions;
mod lines;
mod panics;
