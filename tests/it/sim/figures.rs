//! What a run says of itself.

use super::{check, default_stack, run, small};
use fallway::policy::{PlanContext, RoutingPolicy, Slate, round_robin};
use fallway::sim::{Arrivals, Desk, Lengths, Reports, Run, Server, Stack, Trace, World, at, secs};
use std::time::Duration;

/// Requests a second that came.
fn rate(run: &Run, from: f64, to: f64) -> f64 {
    run.between(from, to).count() as f64 / (to - from)
}

#[test]
fn load_is_what_was_asked_for() {
    let world = || World::new().pool("s", 4).server(Server::new("half").speed(0.5)).requests(20_000);
    let long = |world: World| run(&world.lasting(secs(400)));
    assert!((world().capacity() / (4.5 * 6.2) - 1.0).abs() < 0.02, "{}", world().capacity());
    let trace: String = (0..1_000).map(|n| format!("{},{},{}\n", f64::from(n) * 0.7, 500 + n, 100 + n % 50)).collect();
    let trace = Trace::parse(&trace).unwrap();
    for load in [0.2, 0.6, 0.9] {
        for world in [
            world(),
            world().arrivals(Arrivals::Gamma { cv: 1.5 }),
            world().lengths(Lengths::fixed(400, 300)),
            world().trace(trace.clone()),
        ] {
            let world = world.load(load);
            let measured = rate(&long(world.clone()), 0.0, 400.0) / world.capacity();
            assert!((measured / load - 1.0).abs() < 0.05, "{measured} for {load}: {world:?}");
        }
    }
    // One load after the other.
    let steps = world().load_steps([(secs(0), 0.3), (secs(150), 0.8), (secs(300), 0.2)]);
    let run = long(steps.clone());
    for (from, to, load) in [(0.0, 150.0, 0.3), (150.0, 300.0, 0.8), (300.0, 400.0, 0.2)] {
        let measured = rate(&run, from, to) / steps.capacity();
        assert!((measured / load - 1.0).abs() < 0.08, "{measured} for {load}");
    }
}

#[test]
fn a_flood_after_silence_begins_on_time() {
    // A gap of the silence is five hundred seconds long on average.
    let world = World::new().pool("s", 4).load_steps([(secs(0), 1e-4), (secs(50), 0.8), (secs(60), 1e-4)]);
    for seed in 1..20 {
        let run = run(&world.clone().lasting(secs(500)).seed(seed));
        let flood = run.between(50.0, 60.0).count() as f64;
        assert!((150.0..250.0).contains(&flood) && run.records().len() as f64 - flood < 10.0, "seed {seed}: {flood}");
    }
}

#[test]
fn load_one_is_where_queues_begin_to_grow() {
    let late = |load: f64| {
        let run = run(&World::new().pool("s", 4).load(load).lasting(secs(400)));
        run.mean_ttft_between(300.0, 400.0).unwrap()
    };
    let (below, above) = (late(0.85), late(1.2));
    assert!(below < 1.5 && above > 5.0, "{below} {above}");
}

#[test]
fn a_trace_is_replayed_row_by_row() {
    let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n0,100,5\n0.5,200,6\n2.25,300,7\n";
    let trace = Trace::parse(text).unwrap();
    let world = World::new().server(Server::new("a")).trace(trace.clone());
    // At the load of the trace itself it is not stretched.
    let own = trace.rate() / world.capacity();
    let times = |world: &World| -> Vec<_> { run(world).records().iter().map(|record| record.at).collect() };
    let once = times(&world.clone().load(own).requests(4));
    assert!(once.iter().zip([0.0, 0.5, 2.25, 3.0]).all(|(at, expected)| (at - expected).abs() < 1e-6), "{once:?}");
    let twice = times(&world.load(own * 2.0).requests(4));
    assert!(twice.iter().zip(&once).all(|(at, before)| (at * 2.0 - before).abs() < 1e-6), "{twice:?}");
}

#[test]
fn figures_leave_the_warm_up_out() {
    let world = small().fault(at(secs(0)).lasting(secs(20)).down());
    assert!(run(&world).goodput() < 0.95);
    let warm = run(&world.clone().warm_up(secs(40)));
    assert_eq!((warm.goodput(), warm.attempts_per_request()), (1.0, 1.0));
    assert_eq!(warm.requests(), warm.between(40.0, 120.0).count());
    assert!(warm.requests() < warm.records().len() && warm.goodput_between(0.0, 20.0) < 1.0);
    assert!(warm.ttft(0.99) <= 2.0 && warm.end_to_end(0.5) > warm.ttft(0.5));
    // Nor does it use up the requests that are asked for.
    let few = run(&world.warm_up(secs(40)).requests(30));
    assert_eq!((few.requests(), few.between(0.0, 40.0).count()), (30, warm.between(0.0, 40.0).count()));
}

#[test]
fn tenants_and_priorities_have_their_shares() {
    let run = run(&small().lasting(secs(600)).tenants([("x", 3.0), ("y", 1.0)]).critical_share(0.3));
    let share = |which: &dyn Fn(&fallway::sim::Record) -> bool| {
        run.records().iter().filter(|record| which(record)).count() as f64 / run.records().len() as f64
    };
    assert!((share(&|record| record.tenant == 0) - 0.75).abs() < 0.03);
    assert!((share(&|record| record.critical) - 0.3).abs() < 0.03);
    let critical_of_y = share(&|record| record.critical && record.tenant == 1);
    assert!((critical_of_y - 0.075).abs() < 0.02, "{critical_of_y}: independent of each other");
    assert_eq!(run.jain(), 1.0);
}

#[test]
fn routers_have_equal_shares() {
    let run = run(&small().lasting(secs(600)).routers(8));
    for router in 0..8 {
        let share = run.records().iter().filter(|record| record.router == router).count() as f64;
        assert!((share / run.records().len() as f64 - 0.125).abs() < 0.02, "router {router}: {share}");
    }
}

#[test]
fn an_outage_is_found_and_recovered_from() {
    let (start, end) = (100.0, 160.0);
    let outage = at(secs(start)).lasting(secs(end - start)).server("s-1").errors(1.0, secs(0.01));
    let world = World::new().pool("s", 6).load(0.5).lasting(secs(400)).fault(outage);
    let run = run(&world);
    assert!(run.time_to_recover(start, end, 0.95, 5.0).is_some_and(|time| time <= 5.0));
    assert!(run.time_to_recover(end, 400.0, 0.99, 5.0).is_some_and(|time| time <= 5.0));
    assert!(run.shares_between(start + 10.0, end)[0] < 0.05);
    assert!((run.shares_between(0.0, start)[1] - 1.0 / 6.0).abs() < 0.05 && run.share_max() < 0.3);
    // Somebody who keeps sending there finds nothing.
    let naive = world.run(|_| Stack::new(round_robin()).bare()).unwrap();
    check(&naive);
    assert_eq!(naive.time_to_recover(start, end, 0.95, 5.0), None);
    assert_eq!(naive.time_to_recover(end, 400.0, 0.99, 5.0), Some(0.0));
    let windows = naive.goodput_over_time(secs(10));
    assert_eq!((windows.len(), windows[3].0), (40, 30.0));
    let during: Vec<_> = windows[10..16].iter().filter_map(|window| window.1).collect();
    let mean = during.iter().sum::<f64>() / during.len() as f64;
    assert!(during.len() == 6 && (mean - 5.0 / 6.0).abs() < 0.02, "{mean}");
}

/// Goes where a server's report says that the least work waits.
#[derive(Debug)]
struct ByReport {
    reports: Reports,
    truth: bool,
}

impl RoutingPolicy for ByReport {
    fn name(&self) -> &'static str {
        "by_report"
    }

    fn plan(&self, _: &PlanContext<'_>, slate: &mut Slate<'_>) {
        slate.rank(|candidate| {
            let server = candidate.id().slot();
            let load = if self.truth { self.reports.truth(server) } else { self.reports.report(server) };
            (load.waiting_tokens / load.rate * 1e9) as u64
        });
    }
}

#[test]
fn policies_may_read_what_servers_report() {
    let world = World::new().pool("s", 8).server(Server::new("slow").speed(0.3)).load(0.8).lasting(secs(200));
    let p99 = |every: Duration, truth| {
        let world = world.clone().reports_every(every);
        let make = |desk: &Desk| ByReport { reports: desk.reports().clone(), truth };
        let run = world.run(make).unwrap();
        check(&run);
        assert_eq!(run.decisions_hash(), world.run_with_futures(make).unwrap().decisions_hash());
        run.ttft(0.99)
    };
    let (truth, fresh, stale) = (p99(secs(5), true), p99(secs(0.01), false), p99(secs(5), false));
    // The older the reports, the more requests run to the same server.
    assert!(truth <= fresh * 1.05 && fresh * 2.0 < stale, "{truth} {fresh} {stale}");
    let blind = world.run(|_| round_robin()).unwrap().ttft(0.99);
    assert!(truth < blind, "{truth} {blind}");
}

#[test]
fn bursts_make_queues() {
    let world = World::new().pool("s", 2).load(0.6).lasting(secs(300));
    let calm = run(&world).ttft(0.9);
    let bursts = run(&world.arrivals(Arrivals::Gamma { cv: 4.0 })).ttft(0.9);
    assert!(bursts > calm * 2.0, "{bursts} {calm}");
}

#[test]
fn a_run_without_requests_has_figures() {
    let run = small().requests(0).run(|_| default_stack()).unwrap();
    assert_eq!((run.goodput(), run.ttft(0.99), run.attempts_per_request(), run.jain()), (1.0, 0.0, 0.0, 1.0));
    assert_eq!((run.share_max(), run.wasted_token_share(), run.mean_ttft_between(0.0, 9.0)), (0.0, 0.0, None));
    assert!(run.to_string().starts_with("0 requests"));
}
