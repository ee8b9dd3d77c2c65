//! What a tenant notices of another, on simulated servers.

use fallway::limit::{Bulkheads, Share};
use fallway::policy::{FailSafe, PolicyExt, predicted_ttft};
use fallway::sim::baselines::Contestant;
use fallway::sim::scenarios::{Scenario, Settings};
use fallway::sim::{Ended, Run, Server, Stack, World, secs};

const TENANTS: usize = 8;

/// What an eighth of the servers does: about 6.2 requests a second, each for about 6.3 seconds.
const PART: u32 = 40;

/// Eight servers, and eight tenants. Seven ask for half of their part, "loud" for `times` its own.
fn play(times: f64, seed: u64, (wait, deadline): (Option<u32>, u32), shares: bool) -> Run {
    let servers = (1..=8).map(|number| Server::new(format!("s{number}")).known_limit(Server::BATCH));
    let world =
        World::new().servers(servers).load(7.0 / 16.0).lasting(secs(200)).warm_up(secs(20)).deadline(secs(deadline));
    let world = world.tenants((1..TENANTS).map(|number| (format!("t{number}"), 1.0))).guest("loud", times / 8.0, 1.0);
    let stack = |_: &_| {
        let stack = Stack::new(predicted_ttft().fail_safe(FailSafe::default())).load_reports();
        let stack = wait.into_iter().fold(stack, |stack, wait| stack.longest_wait(secs(wait)));
        if shares { stack.tenant_bulkheads(Bulkheads::of(8 * PART, Share::at_most(PART))) } else { stack }
    };
    world.seed(seed).run(stack).unwrap()
}

/// The time to first token that 99 in 100 of the others' requests stayed below, where who got none counts as the last, and the
/// share of them that was answered completely.
fn of_others(run: &Run) -> (f64, f64) {
    let others: Vec<_> = run.counted().filter(|record| record.tenant as usize != TENANTS - 1).collect();
    let answered = others.iter().filter(|record| record.ended == Ended::Completed).count();
    let mut times: Vec<_> = others.iter().map(|record| record.first.unwrap_or(f64::INFINITY)).collect();
    times.sort_by(f64::total_cmp);
    (times[times.len() * 99 / 100], answered as f64 / others.len() as f64)
}

#[test]
fn ten_times_its_share_raises_the_tail_of_others_by_a_fifth_at_most() {
    let waits =
        [(1, Some(1)), (2, Some(1)), (3, Some(1)), (1, Some(20)), (2, Some(20)), (1, None), (2, None), (3, None)];
    for (seed, wait) in waits {
        let [(usual, all), (loud, answered), (unbounded, _)] = [(1.0, true), (10.0, true), (10.0, false)]
            .map(|(times, shares)| of_others(&play(times, seed, (wait, 60), shares)));
        let raised = loud / usual;
        let which = format!("seed {seed}, longest wait {wait:?} s");
        assert!(raised <= 1.2, "{which}: {usual} s, then {loud} s ({raised}), without shares {unbounded} s");
        assert!(all >= 0.999 && answered >= 0.999, "{which}: {all} are answered, then {answered}");
        assert!(unbounded / usual > 3.0, "{which}: without shares {unbounded} s, usually {usual} s");
    }
}

#[test]
fn so_it_is_where_many_answers_take_longer_than_their_deadlines() {
    for (seed, deadline) in [(1, 20), (2, 20), (1, 10), (2, 10)] {
        let [(usual, all), (loud, answered)] =
            [1.0, 10.0].map(|times| of_others(&play(times, seed, (None, deadline), true)));
        let which = format!("seed {seed}, deadline {deadline} s: {usual} s, then {loud} s");
        assert!(loud <= 1.2 * usual && answered >= all - 0.01, "{which}; {all} are answered, then {answered}");
    }
}

#[test]
fn a_tenant_in_bursts_costs_the_others_nothing() {
    for routers in [1, 32] {
        let settings = Settings { seed: 1, routers, ..Settings::default() };
        let [stage] = &Scenario::S10.stages(&settings)[..] else { panic!("one way to play it") };
        let [ours, fifo] = ["fallway", "global_fifo"].map(|name| {
            let run = stage.run(Contestant::by_name(name).unwrap()).unwrap();
            assert_eq!(run.leaked(), 0);
            stage.measure(&run)
        });
        let others = [&ours, &fifo].map(|measured| measured.others_goodput_vs_alone.unwrap());
        assert!(others[0] >= 0.99 && ours.jain >= 0.95, "{routers} routers: {others:?}, Jain {}", ours.jain);
        assert!(others[1] < 0.95, "{routers} routers: one line for all starves the rest, {others:?}");
    }
}
