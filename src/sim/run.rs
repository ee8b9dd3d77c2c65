//! [`Run`]: what came of a simulation.

use super::World;
use super::diary::Transition;
use super::regions::Regions;
use super::source::Arrival;
use super::tally::Tally;
use crate::backend::FailureKind;
use crate::router::RouteErrorKind;
use std::fmt;
use std::time::Duration;

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Answered, completely.
    Completed,
    /// Its answer began and broke.
    Broken(FailureKind),
    /// Refused.
    Refused(RouteErrorKind),
    /// Its caller left before the answer was complete.
    Left,
    /// It never ended, long after its deadline: a hang.
    Open,
}

/// One request of a run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Record {
    /// When it came, in seconds since the start.
    pub at: f64,
    /// Seconds to its first token; `None` when none came.
    pub first: Option<f64>,
    /// Seconds until it ended.
    pub total: f64,
    /// Attempts.
    pub attempts: u32,
    /// The server that it was sent to last, by its position in the world.
    pub server: Option<u32>,
    /// The router that it came to.
    pub router: u32,
    /// Its tenant, by its position in the world.
    pub tenant: u32,
    /// Whether it is critical.
    pub critical: bool,
    /// Whether it must stay within the world's [residency](super::World::residency).
    pub bound: bool,
    /// How it ended.
    pub ended: Ended,
    /// Tokens of a whole answer.
    pub answer: u32,
    /// Tokens that its caller got.
    pub delivered: u32,
    /// How often its answer broke after the first token.
    pub breaks: u32,
    /// No server could have answered it in its time ([`World::hurry`]).
    pub hopeless: bool,
}

impl Record {
    pub(super) fn new(arrival: &Arrival) -> Self {
        Self {
            at: arrival.at as f64 / 1e9,
            first: None,
            total: 0.0,
            attempts: 0,
            server: None,
            router: arrival.router as u32,
            tenant: arrival.tenant as u32,
            critical: arrival.request.critical,
            bound: arrival.request.bound,
            ended: Ended::Open,
            answer: arrival.request.output,
            delivered: 0,
            breaks: 0,
            hopeless: arrival.hopeless,
        }
    }

    /// Seconds to the first token. A request that got none, or whose answer broke, is as bad as the time that it
    /// took, and never better than `at_least`.
    fn first_or(&self, at_least: f64) -> f64 {
        match (self.ended, self.first) {
            (Ended::Completed, Some(first)) => first,
            _ => self.total.max(at_least),
        }
    }
}

/// What came of a simulation. Requests of the warm-up are in [`records`](Self::records) and in no figure.
#[derive(Clone, Debug)]
pub struct Run {
    pub(super) records: Vec<Record>,
    pub(super) servers: Vec<String>,
    pub(super) tenants: Vec<String>,
    pub(super) tally: Tally,
    pub(super) regions: Regions,
    pub(super) transitions: Vec<Transition>,
    pub(super) warm_up: f64,
    pub(super) slo: f64,
    pub(super) deadline: f64,
    pub(super) hash: u64,
    pub(super) leaked: u64,
    /// The goodput of the same world without its guest, where that was played.
    pub(super) alone: Option<f64>,
}

impl Run {
    pub(super) fn new(
        world: &World,
        records: Vec<Record>,
        tally: Tally,
        regions: Regions,
        transitions: Vec<Transition>,
        hash: u64,
        leaked: u64,
    ) -> Self {
        Self {
            records,
            servers: world.servers.iter().map(|server| server.id.clone()).collect(),
            tenants: world.tenant_names(),
            tally,
            regions,
            transitions,
            warm_up: world.warm_up.as_secs_f64(),
            slo: world.slo.as_secs_f64(),
            deadline: world.deadline.as_secs_f64(),
            hash,
            leaked,
            alone: None,
        }
    }

    /// Every request, in the order in which they came.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The requests that count.
    pub fn counted(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.at >= self.warm_up)
    }

    /// Those that came between two moments, in seconds.
    pub fn between(&self, from: f64, to: f64) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| record.at >= from && record.at < to)
    }

    /// How many requests count.
    pub fn requests(&self) -> usize {
        self.counted().count()
    }

    /// Whether a request was served well: its first token came within the SLO, and its answer is whole. A caller who
    /// leaves of its own will is not counted against anybody.
    pub fn is_good(&self, record: &Record) -> bool {
        match record.ended {
            Ended::Completed => record.first.is_some_and(|first| first <= self.slo),
            Ended::Left => true,
            _ => false,
        }
    }

    /// The share of requests that were served well. 1 when there were none.
    pub fn goodput(&self) -> f64 {
        self.share_good(self.counted())
    }

    /// The share of those served well that came between two moments, in seconds.
    pub fn goodput_between(&self, from: f64, to: f64) -> f64 {
        self.share_good(self.between(from, to))
    }

    pub(super) fn share_good<'r>(&self, records: impl Iterator<Item = &'r Record>) -> f64 {
        let (mut good, mut all) = (0u64, 0u64);
        for record in records {
            good += u64::from(self.is_good(record));
            all += 1;
        }
        if all == 0 { 1.0 } else { good as f64 / all as f64 }
    }

    /// The time to first token below which this share of the requests stayed, in seconds. Requests that were not
    /// answered count with the time until they ended, and at least with the SLO.
    pub fn ttft(&self, share: f64) -> f64 {
        quantile(self.counted().map(|record| record.first_or(self.slo)).collect(), share)
    }

    /// The mean time to first token of the answered requests that came between two moments, in seconds.
    pub fn mean_ttft_between(&self, from: f64, to: f64) -> Option<f64> {
        let times: Vec<_> = self.between(from, to).map(|record| record.first_or(self.slo)).collect();
        (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64)
    }

    /// The time to the last token below which this share stayed, in seconds. Requests that failed count with the
    /// deadline.
    pub fn end_to_end(&self, share: f64) -> f64 {
        let time = |record: &Record| if record.ended == Ended::Completed { record.total } else { self.deadline };
        quantile(self.counted().map(time).collect(), share)
    }

    /// Attempts per request.
    pub fn attempts_per_request(&self) -> f64 {
        let attempts: u64 = self.counted().map(|record| u64::from(record.attempts)).sum();
        attempts as f64 / self.requests().max(1) as f64
    }

    /// The share of all tokens worked that were worked for nothing.
    pub fn wasted_token_share(&self) -> f64 {
        let all = self.tally.useful + self.tally.wasted;
        if all > 0.0 { self.tally.wasted / all } else { 0.0 }
    }

    /// Answers 429 in a thousand requests.
    pub fn rate_limited_per_1k(&self) -> f64 {
        self.tally.rate_limited as f64 * 1e3 / self.records.len().max(1) as f64
    }

    /// What the tokens cost, in dollars.
    pub const fn cost(&self) -> f64 {
        self.tally.cost
    }

    /// How many times a request met a fault.
    pub const fn harmed(&self) -> u64 {
        self.tally.harmed
    }

    /// The most requests that a server had at once.
    pub const fn peak(&self) -> usize {
        self.tally.peak
    }

    /// Slots of backends that the routers think in use after the last request. Should be 0.
    pub const fn leaked(&self) -> u64 {
        self.leaked
    }

    /// Stands for every decision that was carried out: equal runs have equal ones.
    pub const fn decisions_hash(&self) -> u64 {
        self.hash
    }

    /// Jain's index over the tenants' goodput (1 is fair; of one tenant, or none, it is 1).
    pub fn jain(&self) -> f64 {
        let share = |tenant: usize| self.share_good(self.counted().filter(|record| record.tenant as usize == tenant));
        let shares: Vec<_> = (0..self.tenants.len()).map(share).collect();
        let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
        if squares > 0.0 { sum * sum / (shares.len() as f64 * squares) } else { 1.0 }
    }

    /// The share of requests served well, of those that came between two moments, in seconds, from every tenant but this.
    pub fn goodput_beside(&self, tenant: &str, from: f64, to: f64) -> f64 {
        let own = self.tenants.iter().position(|name| name == tenant);
        self.share_good(self.between(from, to).filter(|record| Some(record.tenant as usize) != own))
    }

    /// Each server's share of the requests that came between two moments, by where they were sent last.
    pub fn shares_between(&self, from: f64, to: f64) -> Vec<f64> {
        let mut counts = vec![0u64; self.servers.len()];
        for record in self.between(from, to) {
            if let Some(count) = record.server.and_then(|server| counts.get_mut(server as usize)) {
                *count += 1;
            }
        }
        let all = counts.iter().sum::<u64>().max(1) as f64;
        counts.into_iter().map(|count| count as f64 / all).collect()
    }

    /// The largest share of one server over the whole run.
    pub fn share_max(&self) -> f64 {
        self.shares_between(self.warm_up, f64::INFINITY).into_iter().fold(0.0, f64::max)
    }

    /// How many requests got no complete answer, of those that count; callers who left of their own will apart.
    pub fn failures(&self) -> usize {
        self.counted().filter(|record| !matches!(record.ended, Ended::Completed | Ended::Left)).count()
    }

    /// How many requests count whose stream broke after its first token, whatever became of them.
    pub fn broken_streams(&self) -> usize {
        self.counted().filter(|record| record.breaks > 0).count()
    }

    /// The share of these that were answered whole; `None` where no stream broke.
    pub fn resumed_share(&self) -> Option<f64> {
        let whole = self.counted().filter(|record| record.breaks > 0 && record.ended == Ended::Completed).count();
        let broken = self.broken_streams();
        (broken > 0).then(|| whole as f64 / broken as f64)
    }

    /// How many answers were called complete and lack tokens.
    pub fn silent_truncations(&self) -> usize {
        self.counted().filter(|it| it.ended == Ended::Completed && it.delivered < it.answer).count()
    }

    /// Tokens that callers got more than once.
    pub fn repeated_tokens(&self) -> u64 {
        self.counted().map(|record| u64::from(record.delivered.saturating_sub(record.answer))).sum()
    }

    /// The share of requests served well, of those that had a chance and came between two moments, in seconds.
    pub fn goodput_of_feasible(&self, from: f64, to: f64) -> f64 {
        self.share_good(self.between(from, to).filter(|record| !record.hopeless))
    }

    /// The share that was refused without an attempt, of the requests that had no chance and came between two moments, in
    /// seconds; `None` where there were none.
    pub fn hopeless_refused(&self, from: f64, to: f64) -> Option<f64> {
        let hopeless = || self.between(from, to).filter(|record| record.hopeless);
        let refused = hopeless().filter(|it| it.attempts == 0 && matches!(it.ended, Ended::Refused(_))).count();
        let all = hopeless().count();
        (all > 0).then(|| refused as f64 / all as f64)
    }

    /// The share of critical requests served well, of those that came between two moments, in seconds.
    pub fn critical_goodput_between(&self, from: f64, to: f64) -> f64 {
        self.share_good(self.between(from, to).filter(|record| record.critical))
    }

    /// How many calls went to a server where their request may not be served.
    pub const fn outside_residency(&self) -> u64 {
        self.tally.outside
    }

    /// What the routers told of backends that they took out and let back, in the order of time.
    pub fn transitions(&self) -> &[Transition] {
        &self.transitions
    }

    /// The names of the regions, in the order of the servers.
    pub fn region_names(&self) -> &[String] {
        self.regions.names()
    }

    /// Each region's share of the requests that came between two moments, by where they were sent last.
    pub fn region_shares_between(&self, from: f64, to: f64) -> Vec<f64> {
        let mut shares = vec![0.0; self.regions.names().len()];
        for (server, share) in self.shares_between(from, to).into_iter().enumerate() {
            shares[self.regions.of(server)] += share;
        }
        shares
    }

    /// The fullest that a region was between two moments, in seconds: requests on its servers for each that their
    /// batches have room for. 0 in a world of one region, where nobody looks.
    pub fn fullest_region_between(&self, from: f64, to: f64) -> f64 {
        self.regions.fullest(from, to)
    }

    /// In how many spells between two moments a region had more on its servers than their batches have room for,
    /// and a request among that which is not critical. A spell is a second, or a thousandth of the run.
    pub fn overruns_between(&self, from: f64, to: f64) -> usize {
        self.regions.overruns(from, to)
    }

    /// Seconds after `moment` from which on, in windows of one second up to `end`, no more than this share of the
    /// requests end in a region; `None` when that is never so, or for a region that is not there.
    pub fn time_to_leave(&self, region: &str, moment: f64, end: f64, share: f64) -> Option<f64> {
        let region = self.regions.names().iter().position(|name| name == region)?;
        let (mut left, mut from) = (Some(0.0), moment);
        while from + 1.0 <= end {
            if self.region_shares_between(from, from + 1.0)[region] > share {
                left = None;
            } else {
                left = left.or(Some(from - moment));
            }
            from += 1.0;
        }
        left
    }

    /// The servers, in the order of the shares.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// Goodput in consecutive windows: the start of each, and its share (`None` where no request came).
    pub fn goodput_over_time(&self, window: Duration) -> Vec<(f64, Option<f64>)> {
        let width = window.as_secs_f64().max(1e-3);
        let end = self.records.last().map_or(0.0, |record| record.at);
        let mut windows = vec![(0u64, 0u64); (end / width) as usize + 1];
        for record in &self.records {
            let (good, all) = &mut windows[(record.at / width) as usize];
            *good += u64::from(self.is_good(record));
            *all += 1;
        }
        let share = |(good, all): &(u64, u64)| (*all > 0).then(|| *good as f64 / *all as f64);
        windows.iter().enumerate().map(|(at, window)| (at as f64 * width, share(window))).collect()
    }

    /// Seconds after `moment` until goodput is at least `share`, in windows of `width` seconds, and stays so up to
    /// `end`; `None` when it does not.
    pub fn time_to_recover(&self, moment: f64, end: f64, share: f64, width: f64) -> Option<f64> {
        let mut recovered = None;
        let mut from = moment;
        while from + width <= end {
            if self.goodput_between(from, from + width) >= share {
                recovered = recovered.or(Some(from - moment));
            } else {
                recovered = None;
            }
            from += width;
        }
        recovered
    }
}

/// The value that this share does not exceed (nearest rank); 0 of nothing.
fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let rank = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len()) - 1;
    *values.select_nth_unstable_by(rank, f64::total_cmp).1
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests, goodput {:.4}, first token p50 {:.3} s, p99 {:.3} s, {:.3} attempts per request",
            self.requests(),
            self.goodput(),
            self.ttft(0.5),
            self.ttft(0.99),
            self.attempts_per_request(),
        )
    }
}
