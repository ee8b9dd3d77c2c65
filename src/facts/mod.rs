//! What is known: [`Facts`] of a request, [`Profile`] of a backend.

mod adaptive;
mod capabilities;
mod name;
mod need;
mod prefix;
mod price;
mod profile;
mod request;

pub use adaptive::Adaptive;
pub use capabilities::Capabilities;
pub use name::InvalidName;
pub(crate) use need::Need;
pub use prefix::Prefix;
pub use price::{InvalidPrice, Price};
pub use profile::Profile;
pub use request::{Facts, Priority};
