//! The lines of the gateway benchmark, as logic in virtual time: the default stack with the fast ejection profile, 50
//! requests a second, backends that answer in about 20 ms, each line over twenty seeds.
//!
//! What the same lines cost over real sockets is measured by `examples/bars.rs`.

mod limits;
mod outages;
mod pool;
mod slow;
mod streams;
