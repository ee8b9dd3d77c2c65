//! The breaker of one backend beside a plain state machine that does the same without atomics, in random sequences.

use super::gate::staggered;
use super::recovery::Standing;
use super::{Alarm, Court, Credential, Ejection, Evidence, Kin, Permits, Recovery, Ties};
use crate::backend::{BackendError, BackendId, FailureKind};
use crate::decision::Reason;
use crate::facts::Profile;
use crate::rng::Rng;
use crate::time::Instant;
use std::sync::Arc;
use std::time::Duration;

const SLOT: usize = 3;
const SALT: u64 = 11;
const SEQUENCES: u64 = 100_000;
const EVENTS: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    Ejected,
    Overloaded,
    Unreachable,
    AskedToWait,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    /// In; the slow start, if there is one: since when, and for how long.
    In(Option<(Instant, Duration)>),
    Out(Why, Instant),
}

/// An attempt as the state machine knows it.
#[derive(Clone, Copy, Debug)]
struct Sent {
    epoch: u64,
    permit: Option<u64>,
}

/// The plain state machine.
#[derive(Debug)]
struct Plain {
    config: Ejection,
    state: State,
    /// Counts the changes of the state.
    epoch: u64,
    streak: u32,
    trips: u32,
    out_since: Instant,
    /// The permit that is out, and until when.
    permit: Option<(u64, Instant)>,
    permits: u64,
}

/// Gates keep moments in units of sixteen nanoseconds.
fn coarse(at: Instant) -> Instant {
    Instant::from_nanos(at.as_nanos() & !15)
}

impl Plain {
    fn new(config: Ejection) -> Self {
        let (state, out_since) = (State::In(None), Instant::default());
        Self { config, state, epoch: 0, streak: 0, trips: 0, out_since, permit: None, permits: 0 }
    }

    fn permit_is_out(&self, now: Instant) -> bool {
        self.permit.is_some_and(|(_, until)| until > now)
    }

    fn enter(&mut self, now: Instant, force: bool) -> Option<Sent> {
        let sent = Sent { epoch: self.epoch, permit: None };
        let State::Out(why, until) = self.state else { return Some(sent) };
        if until > now && !force {
            return (why != Why::AskedToWait).then_some(sent);
        }
        if self.permit_is_out(now) {
            return None;
        }
        self.permits += 1;
        self.permit = Some((self.permits, now + Ejection::PROBE_LEASE));
        Some(Sent { permit: Some(self.permits), ..sent })
    }

    fn end(&mut self, sent: Sent, said: Said, now: Instant) {
        match said {
            Said::Nothing => {}
            Said::Success => self.succeed(sent.epoch, now),
            Said::Failed(FailureKind::ServerError, _) if sent.epoch != self.epoch => {}
            Said::Failed(FailureKind::ServerError, _) => {
                self.streak += 1;
                if matches!(self.state, State::Out(..)) || self.streak >= self.config.consecutive {
                    self.go_out(sent.epoch, Why::Ejected, None, now);
                }
            }
            Said::Failed(FailureKind::Unreachable, _) => self.go_out(sent.epoch, Why::Unreachable, None, now),
            Said::Failed(_, None) => self.go_out(sent.epoch, Why::Overloaded, None, now),
            Said::Failed(_, hint) => self.go_out(sent.epoch, Why::AskedToWait, hint, now),
        }
        if sent.permit.is_some() && self.permit.map(|(permit, _)| permit) == sent.permit {
            self.permit = None;
        }
    }

    fn succeed(&mut self, epoch: u64, now: Instant) {
        self.streak = 0;
        match self.state {
            State::In(Some((since, ramp))) if now - since >= ramp => self.turn(State::In(None)),
            State::Out(..) if epoch == self.epoch => {
                let ramp = self.config.slow_start.min((now - self.out_since) * 10);
                self.turn(State::In((!ramp.is_zero()).then(|| (coarse(now), ramp))));
            }
            _ => return,
        }
        if self.state == State::In(None) {
            self.trips = 0;
        }
    }

    fn go_out(&mut self, epoch: u64, why: Why, hint: Option<Duration>, now: Instant) {
        let growth = match why {
            Why::Ejected => self.config.eject,
            Why::Unreachable => self.config.unreachable,
            Why::Overloaded | Why::AskedToWait => self.config.overloaded,
        };
        if epoch != self.epoch {
            // Late; but a later promise is kept.
            if let (State::Out(Why::AskedToWait, until), Why::AskedToWait, Some(hint)) = (self.state, why, hint)
                && until > now
            {
                self.state = State::Out(why, coarse(until.max(now + hint)));
            }
            return;
        }
        if let State::In(ramp) = self.state {
            self.out_since = now;
            if ramp.is_some_and(|(since, ramp)| now - since >= ramp) {
                self.trips = 0;
            }
        }
        self.trips += 1;
        let until =
            hint.map_or_else(|| staggered(now, growth.after(self.trips), self.trips, SLOT, SALT), |hint| now + hint);
        self.turn(State::Out(why, coarse(until)));
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
        self.permit = None;
    }

    /// What a decision must see.
    fn standing(&self, now: Instant) -> Standing {
        match self.state {
            State::In(Some((since, ramp))) if now - since < ramp => {
                Standing::Ramping((((now - since).as_nanos() * 1000 / ramp.as_nanos()) as u32).max(100))
            }
            State::In(_) => Standing::In,
            State::Out(..) if self.permit_is_out(now) => {
                Standing::Out(Reason::OnProbation { until: self.permit.unwrap().1 })
            }
            State::Out(_, until) if until <= now => Standing::Due { quota: false },
            State::Out(Why::Ejected, until) => Standing::Out(Reason::Ejected { until, failures: self.streak }),
            State::Out(Why::AskedToWait, until) => Standing::Out(Reason::AskedToWait { until }),
            State::Out(_, until) => Standing::Out(Reason::CoolingDown { until, failures: self.trips }),
        }
    }
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug)]
enum Said {
    Success,
    Failed(FailureKind, Option<Duration>),
    Nothing,
}

fn drawn(rng: &mut Rng) -> Said {
    match rng.below(10) {
        0..=2 => Said::Success,
        3..=5 => Said::Failed(FailureKind::ServerError, None),
        6 => Said::Failed(FailureKind::Unreachable, None),
        7 => Said::Failed(FailureKind::Overloaded, None),
        8 => Said::Failed(FailureKind::Overloaded, Some(Duration::from_secs(1 + rng.below(20) as u64))),
        _ => Said::Nothing,
    }
}

/// The time that passes: often none, sometimes a rest, a lease, or a year; sometimes the clock jumps back.
fn passed(rng: &mut Rng, now: Instant) -> Instant {
    let ms = |ms: u64| Duration::from_millis(ms);
    match rng.below(12) {
        0..=3 => now,
        4..=6 => now + ms(rng.below(2_000) as u64),
        7..=9 => now + ms(rng.below(40_000) as u64),
        10 => now + ms(rng.below(100_000) as u64 * rng.below(1_000) as u64),
        _ => now - ms(rng.below(10_000) as u64),
    }
}

/// Whether two standings are one: shares are rounded differently.
fn alike(one: Standing, other: Standing) -> bool {
    match (one, other) {
        (Standing::Ramping(one), Standing::Ramping(other)) => one.abs_diff(other) <= 3,
        (one, other) => one == other,
    }
}

fn alone() -> (Ties, Court, Recovery) {
    let config = Ejection::default().consecutive(3).failure_rate(None);
    let alarm = Arc::new(Alarm::default());
    let kin = Kin {
        id: BackendId::new(SLOT as u32, 0),
        profile: Arc::new(Profile::new("a")),
        recovery: Arc::new(Recovery::new(SLOT, &alarm, &config)),
    };
    let ties = Ties::of(&[kin], vec![Arc::new(Credential::new(&alarm))], |_| unreachable!("it has no domain"));
    let ties = Arc::into_inner(ties.into_iter().next().unwrap()).unwrap();
    (ties, Court::new(config, SALT), Recovery::new(SLOT, &alarm, &config))
}

#[test]
fn the_breaker_is_the_plain_state_machine() {
    let (mut probes, mut refused, mut late) = (0u64, 0u64, 0u64);
    for sequence in 0..SEQUENCES {
        let mut rng = Rng::new(sequence);
        let (ties, court, recovery) = alone();
        let mut plain = Plain::new(court.ejection);
        let mut now = Instant::from_nanos(1_000_000_000_000);
        let mut sent: Vec<(Permits, Sent)> = Vec::new();
        for event in 0..EVENTS {
            now = passed(&mut rng, now);
            if sent.is_empty() || rng.below(2) == 0 {
                let force = rng.below(8) == 0;
                match (recovery.enter(&ties, now, force), plain.enter(now, force)) {
                    (Some(permits), Some(attempt)) => {
                        probes += u64::from(attempt.permit.is_some());
                        sent.push((permits, attempt));
                    }
                    (None, None) => refused += 1,
                    (one, other) => panic!("sequence {sequence}, event {event}: {one:?}, and not {other:?}"),
                }
            } else {
                let (permits, attempt) = sent.swap_remove(rng.below(sent.len()));
                let said = drawn(&mut rng);
                late += u64::from(attempt.epoch != plain.epoch);
                let hinted;
                let evidence = match said {
                    Said::Success => Evidence::Success,
                    Said::Nothing => Evidence::Nothing,
                    Said::Failed(kind, hint) => {
                        let error = BackendError::new(kind);
                        hinted = match hint {
                            Some(hint) => error.retry_after(hint),
                            None => error,
                        };
                        Evidence::Failure(&hinted)
                    }
                };
                recovery.learn(&ties, permits, evidence, &court, now);
                plain.end(attempt, said, now);
            }
            let (one, other) = (recovery.standing(&ties, now), plain.standing(now));
            assert!(alike(one, other), "sequence {sequence}, event {event}: {one:?}, and not {other:?}");
        }
    }
    assert!(probes > SEQUENCES / 2 && refused > SEQUENCES / 8 && late > SEQUENCES / 2, "{probes} {refused} {late}");
}
