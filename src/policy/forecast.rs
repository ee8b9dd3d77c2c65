//! [`Forecast`]: how long a candidate will probably take for this request.

use super::{Budgets, Contender};
use crate::decision::{Pace, Spread};

/// How long a candidate will probably take for this request, in nanoseconds: until its first token, or until its last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Forecast {
    /// In half of all cases it takes no longer.
    pub(super) half: u64,
    /// In 95 of 100.
    pub(super) late: u64,
    /// It may be wrong: nobody was sent there for so long, or the last answers came much sooner than was predicted.
    pub(super) doubtful: bool,
}

impl Contender<'_> {
    /// `whole`: until the last token, where the request says how many it expects. `None` while too little is
    /// known.
    #[inline]
    pub(super) fn forecast(&mut self, whole: bool) -> Option<Forecast> {
        let (work, now) = (self.work(), self.now());
        let load = self.load();
        let (behind, age) = (load.queued_tokens().saturating_add(work), load.age(now));
        let forecast = self.forecast_behind(behind, whole)?;
        // A backend that hangs says nothing, and is late all the same.
        Some(Forecast { late: forecast.late.max(age), ..forecast })
    }

    /// The same, if nobody else were there.
    pub(super) fn forecast_idle(&mut self, whole: bool) -> Option<Forecast> {
        let work = self.work();
        self.forecast_behind(work, whole)
    }

    #[inline]
    fn forecast_behind(&mut self, work: u64, whole: bool) -> Option<Forecast> {
        let spread = *self.spread();
        if !is_known(&spread) {
            return None;
        }
        let first = self.latency().predict(work);
        let doubtful = self.load().stale || self.readings.contradicted;
        let mut forecast = Forecast { half: spread.half_of(first), late: spread.late_of(first), doubtful };
        if whole && let Some(tokens) = self.facts().output_tokens {
            let Pace { usual, spread } = *self.pace();
            if is_known(&spread) {
                let rest = usual.saturating_mul(tokens.saturating_sub(1));
                forecast.half = forecast.half.saturating_add(spread.half_of(rest));
                forecast.late = forecast.late.saturating_add(spread.late_of(rest));
            }
        }
        Some(forecast)
    }
}

const fn is_known(spread: &Spread) -> bool {
    spread.samples >= Budgets::ENOUGH
}
