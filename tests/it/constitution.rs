//! The invariants of the constitution, as properties of random plays: any fleet, any stack, any fault.

mod evidence;
mod play;
mod run;

use crate::support::{Told, drawn};
use fallway::decision::{Extra, Next, Reason, Refusal};
use fallway::router::RouteErrorKind;
use fallway::time::Instant;
use play::Play;
use proptest::prelude::*;
use run::{Ended, Run};
use std::collections::BTreeMap;

const CASES: u32 = 150;

proptest! {
    #![proptest_config(drawn(CASES))]

    /// 1. Every request ends by its deadline. (A hang fails the run itself.)
    #[test]
    fn never_hang(play in Play::any()) {
        let run = Run::of(&play);
        for (ask, end) in play.asks.iter().zip(&run.ends) {
            let took = end.ended - end.started;
            prop_assert!(took <= ask.time(), "{took:?} of {:?}", ask.time());
        }
    }

    /// 1. An empty candidate set answers at once.
    #[test]
    fn an_empty_set_answers_at_once(mut play in Play::any()) {
        play.last_resort = None;
        for ask in &mut play.asks {
            (ask.residency, ask.patience) = (Some("mars"), None);
        }
        let run = Run::of(&play);
        for (ask, end) in play.asks.iter().zip(&run.ends) {
            prop_assert_eq!(end.ended, end.started);
            let Ended::Refused(error) = &end.result else { panic!("answered from mars") };
            let kind = error.kind();
            let expected = match ask.model {
                _ if ask.time().is_zero() => RouteErrorKind::ZeroDeadline,
                Some("nowhere") => RouteErrorKind::UnknownModel,
                Some("alias") if play.safety.is_none() => RouteErrorKind::UnknownModel,
                Some("m") if play.members.iter().all(|member| member.facts.model != "m") => RouteErrorKind::UnknownModel,
                _ => RouteErrorKind::NothingUsable,
            };
            prop_assert_eq!(kind, expected, "{}", error);
        }
    }

    /// 2. Exactly one end, and the books of router and backends agree on what led to it.
    #[test]
    fn never_lose_and_never_double_answer(play in Play::any()) {
        let run = Run::of(&play);
        for (number, end) in run.ends.iter().enumerate() {
            let number = number.to_string();
            let seen: usize = run.backends.iter().map(|it| it.seen().iter().filter(|it| it.request == number).count()).sum();
            let (attempts, answers) = match &end.result {
                Ended::Answered { decision, degraded, .. } => (decision.attempts(), usize::from(!degraded)),
                Ended::Refused(error) => (error.attempts(), 0),
                Ended::Gone => continue,
            };
            prop_assert_eq!(attempts.len(), seen);
            prop_assert_eq!(attempts.iter().filter(|attempt| attempt.failure().is_none()).count(), answers);
            prop_assert!(answers == 0 || attempts.last().is_some_and(|last| last.failure().is_none()));
        }
        prop_assert_eq!(run.router.total_in_flight(), 0);
        prop_assert!(run.backends.iter().all(|backend| backend.backstage().in_flight() == 0));
    }

    /// 3. Attempts within the request's limit, extra attempts within the shared budget of every window.
    #[test]
    fn never_amplify(play in Play::any()) {
        let run = Run::of(&play);
        let calls = run.backends.iter().flat_map(|backend| backend.seen());
        // One canary that is given up early does not count.
        for seen in calls {
            prop_assert!(seen.number as usize <= play.attempts() + 1);
        }
        for decision in run.log.decisions() {
            let early = decision.attempts().iter().filter(|attempt| attempt.is_canary_timeout()).count();
            let called = decision.attempts().len() + usize::from(matches!(decision.next(), Next::Call { .. }));
            prop_assert!(early <= 1 && called <= play.attempts() + early, "{decision}");
        }
        let second = |at: Instant| at.as_nanos() / 1_000_000_000;
        // One extra attempt may be decided about several times: it is paid for once.
        let mut extras = BTreeMap::new();
        for decision in run.log.decisions() {
            if decision.extra() == Extra::Granted && matches!(decision.next(), Next::Call { .. }) {
                let last = decision.attempts().last().expect("an extra attempt follows another");
                extras.insert((decision.seed(), decision.attempts().len()), second(last.started() + last.elapsed()));
            }
        }
        let made = run.backends.iter().flat_map(|backend| backend.seen()).filter(|seen| seen.number > 1).count();
        prop_assert!(made <= extras.len(), "{made} extra attempts, {} paid for", extras.len());
        for end in extras.values() {
            let window = end.saturating_sub(9)..=*end;
            let spent = extras.values().filter(|second| window.contains(second)).count();
            let asked = run.ends.iter().filter(|ask| window.contains(&second(ask.started))).count();
            let allowed = asked * play.budget.0 as usize + play.budget.1 as usize * 1000;
            prop_assert!(spent * 100 <= allowed, "{spent} extra attempts, {asked} requests, {:?}", play.budget);
        }
    }

    /// 4. In flight within the limit, as the backends count it.
    #[test]
    fn never_overfill(play in Play::any()) {
        let run = Run::of(&play);
        for (member, backend) in play.members.iter().zip(&run.backends) {
            let limit = member.facts.concurrency.unwrap_or(u32::MAX);
            prop_assert!(backend.backstage().peak() <= limit, "{} of {limit}", backend.backstage().peak());
        }
    }

    /// 5. No hard line is crossed, whatever fails, in panic mode too.
    #[test]
    fn never_cross_a_hard_line(play in Play::any()) {
        let run = Run::of(&play);
        for (member, backend) in play.members.iter().zip(&run.backends) {
            for seen in backend.seen() {
                let ask = &play.asks[seen.request.parse::<usize>().unwrap()];
                prop_assert_eq!(member.facts.crossed(ask), None);
            }
        }
    }

    /// 9. Panics stay where they happen: the call's result is typed, whoever panicked.
    #[test]
    fn contain_panics(mut play in Play::of(prop_oneof![
        Just(crate::support::Act::PanicInCall),
        Just(crate::support::Act::PanicInDrop),
        Just(crate::support::Act::Panic(crate::support::ms(5))),
        Just(crate::support::Act::Answer(crate::support::ms(5))),
    ])) {
        play.moody = true;
        let run = Run::of(&play);
        let failed = run.log.count(|told| matches!(told, Told::Failed { kind, .. }
            if !matches!(kind, fallway::FailureKind::Panicked | fallway::FailureKind::Timeout)));
        prop_assert_eq!(failed, 0);
        prop_assert_eq!(run.router.total_in_flight(), 0);
    }

    /// 12. Every decision on the way replays to the same choice.
    #[test]
    fn every_decision_on_the_way_replays(play in Play::any()) {
        let run = Run::of(&play);
        for decision in run.log.decisions() {
            let again = run.router.replay(&decision);
            prop_assert!(again.same_choice(&decision), "first:\n{decision}\nagain:\n{again}");
        }
    }

    /// 12. The decision that comes with an answer replays to the same choice.
    #[test]
    fn the_decision_of_an_answer_replays(play in Play::any()) {
        let run = Run::of(&play);
        for decision in run.final_decisions(true) {
            let again = run.router.replay(&decision);
            prop_assert!(again.same_choice(&decision), "first:\n{decision}\nagain:\n{again}");
        }
    }

    /// 12. The decision that comes with an error replays to the same choice.
    #[test]
    fn the_decision_of_an_error_replays(play in Play::any()) {
        let run = Run::of(&play);
        for decision in run.final_decisions(false) {
            let again = run.router.replay(&decision);
            prop_assert!(again.same_choice(&decision), "first:\n{decision}\nagain:\n{again}");
        }
    }

    /// 12. Every decision names its choice and the reason of each rejection.
    #[test]
    fn every_decision_explains_itself(play in Play::any()) {
        let run = Run::of(&play);
        let last = run.final_decisions(true).into_iter().chain(run.final_decisions(false));
        for decision in run.log.decisions().into_iter().chain(last) {
            let text = decision.to_string();
            match decision.next() {
                Next::Call { .. } => {
                    let chosen = decision.chosen().map(|chosen| chosen.name().to_owned());
                    prop_assert!(chosen.is_some_and(|name| text.contains(&format!("-> {name}"))), "{text}");
                }
                Next::Refuse { why: Refusal::NothingUsable } => {
                    prop_assert!(decision.candidates().all(|candidate| candidate.rejected().is_some()), "{text}");
                }
                _ => {}
            }
            for reason in decision.candidates().filter_map(|candidate| candidate.rejected()) {
                prop_assert!(text.contains(reason.label()), "{} is missing in {text}", reason.label());
            }
        }
    }

    /// 12. A dry run is a decision too: it replays, and it changes nothing.
    #[test]
    fn explain_replays_and_leaves_no_trace(play in Play::any()) {
        let run = Run::of(&play);
        let told = run.log.told().len();
        for ask in &play.asks {
            let decision = run.router.explain(&ask.options());
            prop_assert!(run.router.replay(&decision).same_choice(&decision), "{decision}");
        }
        prop_assert_eq!(run.log.told().len(), told);
        prop_assert_eq!(run.router.total_in_flight(), 0);
        prop_assert!(run.world.timer().next_wake().is_none(), "somebody sleeps after the play is over");
    }

    /// 2. Each attempt ends once, and a stream that broke says so: it is no success, and nobody starts it over.
    #[test]
    fn each_attempt_ends_once(play in Play::any()) {
        let run = Run::of(&play);
        let count = |of: fn(&Told) -> bool| run.log.count(of);
        let bad = count(|told| matches!(told, Told::Failed { .. } | Told::Cancelled { .. }));
        if !play.moody {
            let good = count(|told| matches!(told, Told::Succeeded { .. }));
            prop_assert_eq!(count(|told| matches!(told, Told::Started { .. })), good + bad);
        }
        let mut broken = 0;
        for end in &run.ends {
            if let Ended::Answered { decision, interrupted: Some(interrupted), .. } = &end.result {
                broken += 1;
                prop_assert!(interrupted.delivered().content < 8, "{interrupted}");
                prop_assert!(decision.attempts().last().is_some_and(|last| last.failure().is_none()), "{decision}");
            }
        }
        prop_assert!(broken <= bad, "{broken} streams broke, {bad} attempts ended so");
    }

    /// A retry goes where this request has not failed, unless nothing else is left, and then the decision says so.
    #[test]
    fn a_retry_goes_elsewhere(play in Play::any()) {
        let run = Run::of(&play);
        for decision in run.log.decisions() {
            let Some(chosen) = decision.chosen() else { continue };
            let failed_here = decision.attempts().iter().any(|attempt| attempt.backend() == chosen.id());
            // Again after a back-off, or as the probe of one whose hint was waited for.
            let again = matches!(chosen.note(), Some(Reason::RetriedHere { .. } | Reason::Probe | Reason::QuotaProbe));
            let said = again || decision.policy_panicked();
            prop_assert!(!failed_here || said, "{decision}");
        }
    }
}
