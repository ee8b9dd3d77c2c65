//! A backend as a member of its failure domain.

use super::Ejection;
use super::domain::Turn;
use super::learn::Case;
use super::recovery::{ASKED_TO_WAIT, DOMAIN, IN_DOMAIN, RAMP, Recovery};
use super::ties::Ties;
use crate::backend::{FailureKind, Fault};
use crate::event::Cause;
use crate::sync::Ordering;
use crate::time::Instant;

impl Recovery {
    /// Adds a failure to those of its domain, and takes all of it out when it fails as one.
    pub(super) fn tell_domain(&self, case: Case<'_>, kind: FailureKind, domain: &mut Option<(Turn, Vec<usize>)>) {
        let Case { ties, court, epochs, now, .. } = case;
        let Some(home) = &ties.home else { return };
        if !matches!(kind.conduct().fault, Fault::Backend | Fault::Transport) {
            return;
        }
        let turn = home.domain.failed(epochs[DOMAIN], self.slot, kind, &home.members, court, now);
        if let Some(turn @ Turn { until: Some(until), .. }) = turn {
            let left = |member: &usize| home.members[*member].recovery.go_with_domain(until, now);
            *domain = Some((turn, (0..home.members.len()).filter(left).collect()));
        }
    }

    /// Goes out with its domain. Returns whether it was in.
    fn go_with_domain(&self, until: Instant, now: Instant) -> bool {
        let view = self.health.view();
        // What it asked for itself it gets.
        if view.is_some_and(|view| view.cause == ASKED_TO_WAIT && view.moment > now) {
            return false;
        }
        let was_in = view.is_none_or(|view| view.cause == RAMP);
        if was_in {
            self.out_since.store(now.as_nanos(), Ordering::Relaxed);
        }
        self.health.mark(IN_DOMAIN, until);
        was_in
    }

    /// Comes back with its domain. Returns whether it was out with it.
    pub(super) fn come_with_domain(&self, config: &Ejection, now: Instant) -> bool {
        let epoch = self.health.epoch();
        let with_it = self.health.view().is_some_and(|view| view.cause == IN_DOMAIN);
        with_it && self.come_in(epoch, config, now).is_some()
    }

    /// Whether it is out with its domain, so that what is heard of it is heard of the domain.
    pub(super) fn is_domains_probe(&self, ties: &Ties) -> bool {
        let out = ties.home.as_ref().is_some_and(|home| home.domain.shut().is_some());
        out && self.health.view().is_some_and(|view| view.cause == IN_DOMAIN)
    }

    /// The probe of its domain failed: all of it stays out.
    pub(super) fn fail_domains_probe(
        &self,
        case: Case<'_>,
        kind: FailureKind,
        domain: &mut Option<(Turn, Vec<usize>)>,
    ) -> Option<Cause> {
        let Case { ties, court, epochs, now, .. } = case;
        let home = ties.home.as_ref()?;
        let turn = home.domain.probe_failed(epochs[DOMAIN], kind, home.members.len(), court, now)?;
        *domain = Some((turn, Vec::new()));
        Some(turn.cause)
    }
}
