//! Each kind of fault does what it says, and each part of a server counts.

use super::{check, count, default_stack, run, small};
use fallway::FailureKind;
use fallway::event::{Event, Observer};
use fallway::policy::{ordered, round_robin};
use fallway::router::RouteErrorKind;
use fallway::sim::{Ended, Fault, Lengths, Request, Run, Schedule, Server, Stack, World, at, secs};
use fallway::time::Instant;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

/// Failures by backend and kind, as an observer sees them.
#[derive(Clone, Debug, Default)]
struct Failures(Arc<Mutex<HashMap<(String, FailureKind), usize>>>);

impl Observer for Failures {
    fn on_event(&self, event: &Event<'_>, _: Instant) {
        if let Event::Ended { profile, outcome: fallway::event::Outcome::Failure(error), .. } = event {
            *self.0.lock().unwrap().entry((profile.id().to_owned(), error.kind())).or_default() += 1;
        }
    }
}

/// Runs under this fault, with requests going round in turn and never twice, and counts the failures.
fn under(fault: Fault) -> (Run, HashMap<(String, FailureKind), usize>) {
    let failures = Failures::default();
    let world = small().load(0.3).fault(fault);
    let run = world.run(|_| Stack::new(round_robin()).bare().observer(failures.clone())).unwrap();
    check(&run);
    let failures = failures.0.lock().unwrap().clone();
    (run, failures)
}

fn fault() -> Schedule {
    at(secs(30)).lasting(secs(30))
}

fn of(failures: &HashMap<(String, FailureKind), usize>, server: &str, kind: FailureKind) -> usize {
    failures.get(&(server.to_owned(), kind)).copied().unwrap_or(0)
}

/// When a request ended, in seconds since the start.
fn ends(run: &Run, which: Ended) -> Vec<f64> {
    let of = run.records().iter().filter(|record| record.ended == which);
    of.map(|record| record.at + record.total).collect()
}

#[test]
fn without_a_fault_nothing_fails() {
    let (run, failures) = under(at(secs(119)).server("a").speed(1.0));
    assert_eq!(failures, HashMap::new());
    assert_eq!((run.goodput(), run.wasted_token_share(), run.attempts_per_request()), (1.0, 0.0, 1.0));
    assert_eq!((run.rate_limited_per_1k(), count(&run, |ended| ended == Ended::Completed)), (0.0, run.requests()));
}

#[test]
fn a_server_that_is_down_refuses_and_breaks_what_it_had() {
    let (run, failures) = under(fault().server("a").down());
    let (refused, broken) = (of(&failures, "a", FailureKind::Unreachable), of(&failures, "a", FailureKind::Truncated));
    assert!(refused >= 40 && broken >= 3, "{failures:?}");
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(run.wasted_token_share() > 0.0 && run.harmed() >= (refused + broken) as u64);
    // All at once, half a round trip later.
    for end in ends(&run, Ended::Broken(FailureKind::Truncated)) {
        assert!((end - 30.0005).abs() < 1e-6, "{end}");
    }
}

#[test]
fn a_region_goes_down_whole() {
    let (_, failures) = under(fault().region("eu").down());
    assert!(of(&failures, "a", FailureKind::Unreachable) > 0 && of(&failures, "b", FailureKind::Unreachable) > 0);
    assert_eq!(of(&failures, "c", FailureKind::Unreachable), 0);
}

#[test]
fn a_server_that_hangs_stalls_its_streams_after_thirty_seconds() {
    let (run, failures) = under(at(secs(30)).lasting(secs(31)).server("a").hangs());
    let stalled = ends(&run, Ended::Broken(FailureKind::Stalled));
    assert!(stalled.len() >= 3 && stalled.len() == of(&failures, "a", FailureKind::Stalled), "{failures:?}");
    assert!(stalled.iter().all(|end| (end - 60.0).abs() < 1e-6), "{stalled:?}");
    // A shorter one stalls nobody: everything goes on.
    let (short, failures) = under(at(secs(30)).lasting(secs(29)).server("a").hangs());
    assert_eq!((failures, count(&short, |ended| ended != Ended::Completed)), (HashMap::new(), 0));
    assert!(short.ttft(1.0) > 20.0, "{}", short.ttft(1.0));
}

#[test]
fn a_stream_that_goes_on_in_between_has_not_stalled() {
    // Ten seconds on, one off: no client waits thirty seconds for a token.
    let (run, failures) = under(at(secs(30)).lasting(secs(80)).flapping(secs(10), secs(1)).server("a").hangs());
    assert_eq!(of(&failures, "a", FailureKind::Stalled), 0, "{failures:?}");
    assert!(run.ttft(1.0) > 10.0);
}

#[test]
fn a_slow_server_is_slow_and_a_fast_one_fast() {
    let p90 = |fault| {
        let run = under(fault).0;
        let mut firsts: Vec<_> = run.between(30.0, 60.0).filter_map(|record| record.first).collect();
        firsts.sort_by(f64::total_cmp);
        firsts[firsts.len() * 9 / 10]
    };
    let healthy = p90(at(secs(119)).server("a").speed(1.0));
    let (slow, fast) = (p90(fault().server("a").slow(4.0)), p90(fault().everywhere().speed(4.0)));
    assert!(slow > healthy * 2.0 && fast < healthy / 2.0, "{slow} {healthy} {fast}");
}

#[test]
fn a_share_of_requests_fails() {
    let failures = Failures::default();
    let world = small().fault(fault().server("a").errors(0.4, secs(0.25)));
    let run = world.run(|_| Stack::new(ordered()).bare().observer(failures.clone())).unwrap();
    check(&run);
    let failed = of(&failures.0.lock().unwrap(), "a", FailureKind::ServerError);
    let share = failed as f64 / run.between(30.0, 60.0).count() as f64;
    assert!((0.3..0.5).contains(&share), "{share}");
    let refused = run.records().iter().find(|record| matches!(record.ended, Ended::Refused(_))).unwrap();
    // A millisecond there and back.
    assert!((refused.total - 0.251).abs() < 1e-6, "{refused:?}");
}

#[test]
fn latency_comes_on_top() {
    let median = |fault: Fault| {
        let mut firsts: Vec<_> = under(fault).0.between(31.0, 59.0).filter_map(|record| record.first).collect();
        firsts.sort_by(f64::total_cmp);
        firsts[firsts.len() / 2]
    };
    let more = median(fault().everywhere().latency(secs(0.8))) - median(at(secs(119)).everywhere().latency(secs(1)));
    assert!((more - 0.8).abs() < 1e-6, "{more}");
}

#[test]
fn a_stream_is_cut_after_some_tokens() {
    let (run, failures) = under(fault().server("a").cuts_streams(20));
    let cut = of(&failures, "a", FailureKind::Truncated);
    assert!(cut >= 40 && failures.len() == 1, "{failures:?}");
    assert_eq!(cut, count(&run, |ended| ended == Ended::Broken(FailureKind::Truncated)));
    assert!((0.01..0.3).contains(&run.wasted_token_share()), "{}", run.wasted_token_share());
    for record in run.records().iter().filter(|record| matches!(record.ended, Ended::Broken(_))) {
        // Nineteen steps of 20.4 to 46 ms after the first token.
        let stream = record.total - record.first.unwrap();
        assert!((0.387..0.88).contains(&stream), "{record:?}");
    }
}

#[test]
fn who_is_throttled_is_told_when_to_come_back() {
    let failures = Failures::default();
    let world = small().load(0.3).fault(fault().server("a").throttled(secs(2)));
    // Not bare: the router keeps the pause, so one call in two seconds finds out.
    let run = world.run(|_| Stack::new(round_robin()).observer(failures.clone())).unwrap();
    check(&run);
    let limited = of(&failures.0.lock().unwrap(), "a", FailureKind::RateLimited);
    assert!((8..=16).contains(&limited), "{limited}");
    assert!((run.rate_limited_per_1k() - limited as f64 * 1e3 / run.records().len() as f64).abs() < 1e-9);
}

#[test]
fn a_quota_of_requests_is_kept_by_the_server() {
    // Sixty requests at once, then one a second; about three a second come.
    let world = World::new().server(Server::new("a").quota(Some(60), None)).load(0.5).lasting(secs(200));
    let run = world.run(|_| ordered()).unwrap();
    check(&run);
    let done = count(&run, |ended| ended == Ended::Completed);
    assert!((235..=260).contains(&done), "{done}");
    assert!(run.rate_limited_per_1k() > 20.0, "{}", run.rate_limited_per_1k());
}

#[test]
fn a_quota_of_tokens_is_kept_by_the_server() {
    // Sixty requests of a thousand tokens at once, then one a second.
    let server = Server::new("a").quota(None, Some(60_000));
    let world = World::new().server(server).lengths(Lengths::fixed(900, 100)).load(0.5).lasting(secs(200));
    let run = world.run(|_| ordered()).unwrap();
    check(&run);
    let done = count(&run, |ended| ended == Ended::Completed);
    assert!((235..=260).contains(&done), "{done}");
}

#[test]
fn who_is_told_what_is_left_sends_no_more_and_who_looks_at_nothing_hears_nothing() {
    for (requests, tokens) in [(Some(60), None), (None, Some(60_000))] {
        let silent = Server::new("a").quota(requests, tokens);
        let play = |server: &Server, bare: bool| {
            let world =
                World::new().server(server.clone()).lengths(Lengths::fixed(900, 100)).load(0.5).lasting(secs(200));
            let stack = || Stack::new(ordered());
            let run = world.run(|_| if bare { stack().bare() } else { stack() }).unwrap();
            check(&run);
            (run.rate_limited_per_1k(), count(&run, |ended| ended == Ended::Completed), run.decisions_hash())
        };
        let (refused, done, _) = play(&silent.clone().quota_headers(), false);
        assert_eq!(refused, 0.0);
        // As many as there are.
        assert!((235..=260).contains(&done), "{done}");
        assert!(play(&silent, false).0 > 20.0);
        assert_eq!(play(&silent.clone().quota_headers(), true), play(&silent, true));
    }
}

#[test]
fn flapping_goes_on_and_off() {
    let fault = at(secs(10)).lasting(secs(95)).flapping(secs(2), secs(8)).errors(1.0, secs(0));
    let world = small().round_trip("eu", "eu", secs(0)).round_trip("eu", "us", secs(0)).fault(fault);
    let run = world.run(|_| Stack::new(round_robin()).bare()).unwrap();
    check(&run);
    let mut spells = BTreeMap::new();
    for record in run.records() {
        let into = record.at - 10.0;
        let on = (0.0..95.0).contains(&into) && into % 10.0 < 2.0;
        assert_eq!(record.ended != Ended::Completed, on, "{record:?}");
        *spells.entry((into / 10.0) as i32).or_insert(0) += usize::from(on);
    }
    assert!(spells.values().filter(|count| **count > 5).count() >= 9, "{spells:?}");
}

#[test]
fn faults_at_the_same_place_add_up_and_end_one_by_one() {
    let world = small().load(0.3);
    let world = world.fault(at(secs(20)).lasting(secs(60)).everywhere().latency(secs(0.5)));
    let world = world.fault(at(secs(40)).lasting(secs(20)).everywhere().latency(secs(0.7)));
    let run = world.run(|_| Stack::new(round_robin()).bare()).unwrap();
    check(&run);
    let least =
        |from: f64, to: f64| run.between(from, to).filter_map(|record| record.first).fold(f64::INFINITY, f64::min);
    for (from, to, expected) in
        [(0.0, 19.0, 0.0), (20.0, 39.0, 0.5), (40.0, 59.0, 1.2), (61.0, 79.0, 0.5), (81.0, 120.0, 0.0)]
    {
        let least = least(from, to);
        assert!((expected..expected + 0.1).contains(&least), "{from} to {to}: {least}");
    }
}

#[test]
fn a_clock_that_jumps_moves_the_routers_and_not_the_servers() {
    let world = small().deadline(secs(40));
    let calm = run(&world);
    // Whatever is under way has used its time up, as its router sees it.
    let ahead = run(&world.clone().fault(at(secs(50)).clock_jumps(secs(3_600))));
    let late = ahead.records().iter().filter(|record| record.ended != Ended::Completed);
    let ends: Vec<_> = late.map(|record| record.at + record.total).collect();
    assert!(ends.len() >= 5 && ends.iter().all(|end| (50.0..50.2).contains(end)), "{ends:?}");
    // Back by a year: nobody is harmed.
    let back = run(&world.clone().fault(at(secs(50)).clock_jumps_back(secs(365.0 * 86_400.0))));
    assert_eq!(count(&back, |ended| ended == Ended::Completed), calm.records().len());
}

/// How often each server was passed over for its health, and how often panic mode began.
#[derive(Clone, Debug, Default)]
struct Unhealthy(Arc<Mutex<(BTreeMap<String, usize>, usize)>>);

impl Observer for Unhealthy {
    fn on_event(&self, event: &Event<'_>, _: Instant) {
        if let Event::Decided(decision) = event {
            let mut seen = self.0.lock().unwrap();
            seen.1 += usize::from(decision.panicked());
            for candidate in decision.candidates() {
                if candidate.rejected().is_some_and(|reason| reason.label().contains("unhealthy")) {
                    *seen.0.entry(candidate.name().to_owned()).or_default() += 1;
                }
            }
        }
    }
}

/// The counts for the three servers, and panics; from 30 s on.
fn probed(faults: Vec<Fault>) -> (Run, [usize; 4]) {
    let seen = Unhealthy::default();
    let world = small().probes(secs(1)).faults(faults);
    let run = world.run(|_| Stack::new(default_stack()).observer(seen.clone())).unwrap();
    check(&run);
    let seen = seen.0.lock().unwrap();
    let of = |server| seen.0.get(server).copied().unwrap_or(0);
    (run, [of("a"), of("b"), of("c"), seen.1])
}

#[test]
fn probes_find_a_dead_server_and_lie_when_told_to() {
    assert_eq!(probed(vec![]).1, [0; 4]);
    let [a, b, c, panics] = probed(vec![fault().server("a").hangs()]).1;
    assert!(a > 100 && (b, c, panics) == (0, 0, 0), "{a} {b} {c} {panics}");
    let [a, b, c, panics] = probed(vec![fault().server("b").lying_probes()]).1;
    assert!(b > 100 && (a, c, panics) == (0, 0, 0), "{a} {b} {c} {panics}");
    // Lies of a dead server make it look well; silence makes the last word stale.
    assert_eq!(probed(vec![fault().server("a").hangs(), fault().server("a").lying_probes()]).1, [0; 4]);
    assert_eq!(probed(vec![fault().server("a").hangs(), fault().server("a").silent_probes()]).1, [0; 4]);
}

#[test]
fn probes_that_all_lie_are_not_believed() {
    let (run, [.., panics]) = probed(vec![fault().everywhere().lying_probes()]);
    assert!(panics > 100, "{panics}");
    assert_eq!((run.goodput(), count(&run, |ended| ended != Ended::Completed)), (1.0, 0));
    let (run, [.., panics]) = probed(vec![fault().everywhere().silent_probes()]);
    assert_eq!((run.goodput(), panics), (1.0, 0));
}

#[test]
fn a_server_that_joins_gets_requests_from_then_on() {
    let late = Server::new("late").joins_after(secs(60));
    let world = World::new().server(late).pool("s", 3).load(0.5).lasting(secs(240)).routers(2);
    let run = run(&world);
    // It stands where it joins, behind those that were there.
    assert_eq!(run.servers(), ["s-1", "s-2", "s-3", "late"]);
    assert_eq!(run.shares_between(0.0, 59.9)[3], 0.0);
    let share = run.shares_between(150.0, 240.0)[3];
    assert!((0.15..0.35).contains(&share), "{share}");
    assert_eq!(run.goodput(), 1.0);
}

#[test]
fn a_prefix_cache_saves_what_sessions_share() {
    let world = |blocks| {
        let servers = ["a", "b", "c"].map(|id| Server::new(id).prefix_cache(blocks));
        let world = World::new().servers(servers).sessions(5).lengths(Lengths::fixed(8 * Request::BLOCK, 50));
        run(&world.load(0.5).lasting(secs(120)).seed(11)).ttft(0.5)
    };
    let (without, with, small) = (world(0), world(1_000), world(4));
    assert!(with < without / 4.0 && small > without * 0.6, "{with} {without} {small}");
    // What went down comes back with an empty cache: every session is read once more.
    let one = World::new().server(Server::new("a").prefix_cache(100)).sessions(1);
    let one = one.lengths(Lengths::fixed(8 * Request::BLOCK, 2)).load(0.01).lasting(secs(4_000));
    let one = one.fault(at(secs(2_000)).lasting(secs(1)).down());
    let slow = run(&one).records().iter().filter(|record| record.first.is_some_and(|first| first > 0.5)).count();
    assert_eq!(slow, 2);
}

#[test]
fn callers_who_leave_are_not_counted_against_anybody() {
    let run = run(&small().impatient(0.3, secs(1)));
    let left: Vec<_> = run.records().iter().filter(|record| record.ended == Ended::Left).collect();
    let share = left.len() as f64 / run.records().len() as f64;
    assert!((0.2..0.4).contains(&share) && left.iter().all(|left| (left.total - 1.0).abs() < 1e-6), "{share}");
    assert!(left.iter().all(|left| left.attempts == 1 && left.server.is_some()));
    assert_eq!(run.goodput(), 1.0);
    assert!(run.wasted_token_share() > 0.05);
}

#[test]
fn a_dead_fleet_refuses_everything_by_the_deadline() {
    let run = run(&small().fault(at(secs(0)).down()).deadline(secs(10)));
    assert_eq!(run.goodput(), 0.0);
    for record in run.records() {
        assert!(matches!(record.ended, Ended::Refused(_)) && record.total <= 10.0 + 1e-6, "{record:?}");
    }
    let kinds = [RouteErrorKind::DeadlineExceeded, RouteErrorKind::RetryBudgetEmpty, RouteErrorKind::NothingUsable];
    assert!(count(&run, |ended| kinds.iter().any(|kind| ended == Ended::Refused(*kind))) > 0);
    assert!(run.ttft(0.5) >= 2.0, "what is refused at once is no better than the SLO");
}
