//! What goes wrong, when, and where.

use crate::backend::FailureKind;
use std::time::Duration;

/// Begins a fault: `at(secs(200)).lasting(secs(60)).region("eu").down()`.
///
/// ```
/// use fallway::sim::{at, secs};
/// let faults = [
///     at(secs(60)).lasting(secs(30)).region("eu").down(),
///     at(secs(60)).lasting(secs(200)).server("a").slow(20.0),
///     at(secs(90)).server("b").flapping(secs(10), secs(10)).down(),
///     at(secs(120)).lasting(secs(5)).everywhere().throttled(secs(2)),
/// ];
/// # let _ = faults;
/// ```
pub const fn at(start: Duration) -> Schedule {
    Schedule { start, lasting: None, flapping: None, target: Target::Everywhere }
}

/// When and where; the last word says what.
#[derive(Clone, Debug)]
pub struct Schedule {
    start: Duration,
    lasting: Option<Duration>,
    flapping: Option<(Duration, Duration)>,
    target: Target,
}

/// One thing that goes wrong. Made by [`at`].
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub(super) start: Duration,
    pub(super) lasting: Option<Duration>,
    pub(super) flapping: Option<(Duration, Duration)>,
    pub(super) target: Target,
    pub(super) effect: Effect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Everywhere,
    Server(String),
    Region(String),
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Effect {
    Down,
    Hang,
    Speed(f64),
    Errors { kind: FailureKind, share: f64, after: Duration },
    Latency(Duration),
    Straggle { share: f64, times: f64 },
    Cut { tokens: u32 },
    Throttled { retry_after: Duration },
    ProbesSilent,
    ProbesLie,
    ReportsSilent,
    ClockJump { nanos: i64 },
}

impl Schedule {
    /// For how long; without it, until the end.
    #[must_use]
    pub const fn lasting(mut self, time: Duration) -> Self {
        self.lasting = Some(time);
        self
    }

    /// On and off by turns.
    #[must_use]
    pub const fn flapping(mut self, on: Duration, off: Duration) -> Self {
        self.flapping = Some((on, off));
        self
    }

    /// One server.
    #[must_use]
    pub fn server(mut self, id: impl Into<String>) -> Self {
        self.target = Target::Server(id.into());
        self
    }

    /// All servers of a region.
    #[must_use]
    pub fn region(mut self, name: impl Into<String>) -> Self {
        self.target = Target::Region(name.into());
        self
    }

    /// All servers.
    #[must_use]
    pub fn everywhere(mut self) -> Self {
        self.target = Target::Everywhere;
        self
    }

    /// Connections are refused, and what was in flight breaks.
    pub fn down(self) -> Fault {
        self.with(Effect::Down)
    }

    /// Connections are taken and nothing moves on.
    pub fn hangs(self) -> Fault {
        self.with(Effect::Hang)
    }

    /// Everything takes this many times as long.
    pub fn slow(self, times: f64) -> Fault {
        self.with(Effect::Speed(1.0 / times))
    }

    /// This share of the executions takes so many times as long as it should, whoever asks for it: preempted, swapped out, on
    /// the wrong side of a collection. Asked again, it is as likely as any other to be one of them.
    pub fn straggles(self, share: f64, times: f64) -> Fault {
        self.with(Effect::Straggle { share, times })
    }

    /// Runs at this share of its speed.
    pub fn speed(self, share: f64) -> Fault {
        self.with(Effect::Speed(share))
    }

    /// This share of the requests fails with a server error, after this time.
    pub fn errors(self, share: f64, after: Duration) -> Fault {
        self.fails(FailureKind::ServerError, share, after)
    }

    /// This share of the requests fails in this way, after this time.
    pub fn fails(self, kind: FailureKind, share: f64, after: Duration) -> Fault {
        self.with(Effect::Errors { kind, share, after })
    }

    /// Every answer takes this much longer to begin.
    pub fn latency(self, more: Duration) -> Fault {
        self.with(Effect::Latency(more))
    }

    /// Streams end without their terminator after this many tokens.
    pub fn cuts_streams(self, tokens: u32) -> Fault {
        self.with(Effect::Cut { tokens })
    }

    /// Every request is answered 429, with this hint.
    pub fn throttled(self, retry_after: Duration) -> Fault {
        self.with(Effect::Throttled { retry_after })
    }

    /// The health probes deliver nothing, so what they said becomes stale.
    pub fn silent_probes(self) -> Fault {
        self.with(Effect::ProbesSilent)
    }

    /// The health probes say the opposite of the truth.
    pub fn lying_probes(self) -> Fault {
        self.with(Effect::ProbesLie)
    }

    /// The servers report their load to nobody: what they said last becomes stale.
    pub fn silent_reports(self) -> Fault {
        self.with(Effect::ReportsSilent)
    }

    /// The routers' clock jumps ahead. It stays there; `lasting` and the target mean nothing.
    pub fn clock_jumps(self, ahead: Duration) -> Fault {
        self.with(Effect::ClockJump { nanos: i64::try_from(ahead.as_nanos()).unwrap_or(i64::MAX) })
    }

    /// The routers' clock jumps back, which a clock must not do.
    pub fn clock_jumps_back(self, by: Duration) -> Fault {
        self.with(Effect::ClockJump { nanos: i64::try_from(by.as_nanos()).map_or(i64::MIN, |nanos| -nanos) })
    }

    fn with(self, effect: Effect) -> Fault {
        let Self { start, lasting, flapping, target } = self;
        Fault { start, lasting, flapping, target, effect }
    }
}

impl Fault {
    /// Its window in the run, which ends at `end`.
    pub(super) fn window(&self, end: Duration) -> (Duration, Duration) {
        (self.start, self.lasting.map_or(end, |lasting| self.start.saturating_add(lasting)).min(end))
    }

    /// When it is on.
    pub(super) fn spells(&self, end: Duration) -> Vec<(Duration, Duration)> {
        let (start, end) = self.window(end);
        let Some((on, off)) = self.flapping else { return vec![(start, end)] };
        let mut spells = Vec::new();
        let mut from = start;
        while from < end && spells.len() < MAX_SPELLS {
            let to = from.saturating_add(on);
            spells.push((from, to.min(end)));
            from = to.saturating_add(off);
        }
        spells
    }

    /// The share of its speed that it leaves a server.
    pub(super) const fn speed_share(&self) -> f64 {
        match self.effect {
            Effect::Speed(share) => share,
            _ => 1.0,
        }
    }

    /// How far it sets the routers' clock back.
    pub(super) const fn jumps_back_by(&self) -> Duration {
        match self.effect {
            Effect::ClockJump { nanos } if nanos < 0 => Duration::from_nanos(nanos.unsigned_abs()),
            _ => Duration::ZERO,
        }
    }

    /// What is wrong with it by itself.
    pub(super) fn mistake(&self) -> Option<&'static str> {
        if self.lasting == Some(Duration::ZERO) {
            return Some("ends when it starts");
        }
        if self.flapping.is_some_and(|(on, off)| on.is_zero() || off.is_zero()) {
            return Some("flaps without a pause");
        }
        match self.effect {
            Effect::Speed(speed) if !(speed.is_finite() && speed > 0.0) => {
                Some("has a speed that is no positive number")
            }
            Effect::Straggle { times, .. } if !(times.is_finite() && times >= 1.0) => {
                Some("straggles by less than once, or by no number")
            }
            Effect::Errors { share, .. } | Effect::Straggle { share, .. } if !(0.0..=1.0).contains(&share) => {
                Some("has a share outside 0 to 1")
            }
            _ => None,
        }
    }
}

/// No schedule needs more; a flapping of nanoseconds over a year would fill the memory.
const MAX_SPELLS: usize = 1_000_000;
