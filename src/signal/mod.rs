//! Health signals: sources of readings about backends, and how to join them.
//!
//! | source | learns from | silent about a backend |
//! | --- | --- | --- |
//! | [`SuccessRate`] | the outcomes of this router's own calls | that got no calls |
//! | [`Probes`] | checks that [`Router::probe`](crate::Router::probe) makes, or the host's own | never, where checks come to a verdict |
//! | [`LoadReports`] | what servers say of their load, handed over by the host | that reports nothing |
//! | [`Manual`] | an operator, a status page | nobody spoke of |
//!
//! [`HealthSignalExt::worst_of`], [`HealthSignalExt::hysteresis`], [`HealthSignalExt::fresh_for`] and [`Quorum`] make
//! one signal of several. `docs/guide/health.md` has the rules for signals that disagree.
//!
//! A signal belongs to one router: it hears of the fleet through [`Event::Fleet`](crate::event::Event::Fleet), and the
//! ids in it are those of that router.

mod calm;
mod ext;
mod fit;
mod fusion;
mod invalid;
mod latch;
mod latency;
mod load;
mod manual;
mod probes;
mod probing;
mod reading;
mod rows;
mod sketch;
mod success_rate;

pub use crate::backend::quota::{Quota, QuotaReport};
pub use ext::HealthSignalExt;
pub use fusion::{FreshFor, Hysteresis, Quorum, WorstOf};
pub use invalid::InvalidSignal;
pub(crate) use latency::{ENOUGH, LatencyModel, Peers};
pub(crate) use load::Reported;
pub use load::{LoadCounts, LoadReport, LoadReports, Unreadable};
pub use manual::{Manual, Scope};
pub use probes::Probes;
pub(crate) use probes::Turn;
pub use probing::Probing;
pub use reading::{HealthSignal, Reading, Score};
pub use success_rate::SuccessRate;
