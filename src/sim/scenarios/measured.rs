//! [`Measured`]: the figures of one run.

use super::{Scenario, Stage, deadlines, pools, providers, quotas, regions, rollouts, tenants};
use crate::sim::Run;

/// The figures of one run. Where no request counts, they are no numbers; what a scenario does not ask for is `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// How many requests came after the warm-up.
    pub requests: usize,
    /// The share of requests served well, of those that count: in S3 those that came while the region was down, in S9
    /// all, whenever their first token came (availability); in S13 those that had a chance; in S16 of what the fleet could do, at its worst step.
    pub goodput: f64,
    /// The same of those that are critical (S3, S12).
    pub critical_goodput: Option<f64>,
    /// The goodput of all tenants but the one that comes in bursts, as a share of what theirs is without it (S10).
    pub others_goodput_vs_alone: Option<f64>,
    /// The share of the requests without a chance that were refused before any attempt (S13).
    pub hopeless_refused: Option<f64>,
    /// How many attempts met the bad version's fault, for each request (S11).
    pub harmed: Option<f64>,
    /// Requests without a complete answer.
    pub failures: usize,
    /// Seconds to the first token: median.
    pub ttft_p50: f64,
    /// Nine in ten.
    pub ttft_p90: f64,
    /// Ninety-nine in a hundred.
    pub ttft_p99: f64,
    /// Seconds to the last token: ninety-nine in a hundred.
    pub e2e_p99: f64,
    /// Attempts per request.
    pub attempts: f64,
    /// The share of tokens that were worked for nothing.
    pub wasted: f64,
    /// Answers 429 in a thousand requests.
    pub rate_limited: f64,
    /// Dollars.
    pub cost: f64,
    /// What was spent, as a share of the cap: in S9 a tenth more than all whole answers would cost at the cheaper
    /// provider.
    pub spend: Option<f64>,
    /// What a token of a whole answer cost, of what it costs whoever knows all lengths and quotas and takes the cheapest
    /// provider that has room (S5, S12).
    pub cost_vs_best: Option<f64>,
    /// Seconds from the fault's start until the policy had answered to it: in windows of five seconds, goodput stays
    /// above 0.95 (S3: of the requests of a second, no more than 5 % end in the region that is down; S8: the mean time to
    /// first token within a quarter of what it is in the end of the fault; S11: no request goes to the bad version any
    /// more). Nothing is told of a run that ended before the
    /// fault did.
    pub time_to_detect: Option<f64>,
    /// Seconds from the fault's end until the run is as before (S2, S4, S15: goodput 0.99 in windows of five seconds,
    /// for good; S3: within 0.01 of what it was before; S8: mean time to first token within 10 % of that before, in
    /// windows of ten). Nothing is told of a run that ended less than a minute after the fault.
    pub time_to_recover: Option<f64>,
    /// Jain's index over tenants.
    pub jain: f64,
    /// The largest share of one server; in S18 the newcomer's, in windows of twenty seconds, divided by its fair share.
    pub share_max: f64,
    /// The fullest that any region was in the time that counts: requests on its servers, for each that their batches
    /// have room for.
    pub max_region_utilisation: Option<f64>,
    /// In how many seconds of that time a region had more on its servers than that, and not only critical requests
    /// (S3).
    pub overruns: Option<usize>,
    /// Calls to servers outside the regions to which their requests are bound (S3).
    pub outside_residency: Option<u64>,
    /// Requests whose stream broke after its first token (S14).
    pub broken_streams: Option<usize>,
    /// The share of them that were answered whole all the same, by another server; nothing where none broke.
    pub resumed_share: Option<f64>,
    /// Answers that were called complete and were not (S14).
    pub silent_truncations: Option<usize>,
    /// Tokens that callers got more than once (S14).
    pub repeated_tokens: Option<u64>,
    /// How often what had come back left again. S3: how often the region that was down lost its traffic once it had
    /// some again, in windows of five seconds. S9: how often a router took a backend out within ten minutes of letting
    /// it back, per hour. S15: how often a router took the flapping server out in one minute, once it had done so
    /// three times, at most. In S9 and S15 only of stacks that tell.
    pub flaps: Option<f64>,
}

impl Stage {
    /// What is measured in this scenario.
    pub fn measure(&self, run: &Run) -> Measured {
        let (from, to) = self.counted;
        let only = |scenario: Scenario| (self.scenario == scenario).then_some(());
        let (time_to_detect, time_to_recover) = self.times(run);
        let some_regions = run.region_names().len() > 1;
        let requests = run.requests();
        let known = |value: f64| if requests > 0 { value } else { f64::NAN };
        let nobody = |critical: bool| !run.between(from, to).any(|record| record.critical || !critical);
        Measured {
            requests,
            goodput: match self.scenario {
                Scenario::S16 => known(pools::worst_step(self, run)),
                _ if nobody(false) => f64::NAN,
                Scenario::S13 => deadlines::feasible(self, run),
                _ => run.goodput_between(from, to),
            },
            critical_goodput: match self.scenario {
                Scenario::S3 | Scenario::S12 if !nobody(true) => Some(run.critical_goodput_between(from, to)),
                _ => None,
            },
            others_goodput_vs_alone: tenants::others(self, run),
            hopeless_refused: only(Scenario::S13).and_then(|()| deadlines::refused(self, run)),
            harmed: only(Scenario::S11).map(|()| known(rollouts::harmed(run))),
            failures: run.failures(),
            ttft_p50: known(run.ttft(0.5)),
            ttft_p90: known(run.ttft(0.9)),
            ttft_p99: known(run.ttft(0.99)),
            e2e_p99: known(run.end_to_end(0.99)),
            attempts: known(run.attempts_per_request()),
            wasted: run.wasted_token_share(),
            rate_limited: run.rate_limited_per_1k(),
            cost: run.cost(),
            spend: only(Scenario::S9).map(|()| providers::spend(self, run)),
            cost_vs_best: match self.scenario {
                Scenario::S5 | Scenario::S12 => Some(known(quotas::cost_vs_best(self, run))),
                _ => None,
            },
            time_to_detect,
            time_to_recover,
            jain: run.jain(),
            share_max: match self.scenario {
                Scenario::S18 => pools::newcomer(self, run),
                _ => run.share_max(),
            },
            max_region_utilisation: some_regions.then(|| run.fullest_region_between(from, to)),
            overruns: only(Scenario::S3).map(|()| run.overruns_between(from, to)),
            outside_residency: only(Scenario::S3).map(|()| run.outside_residency()),
            broken_streams: only(Scenario::S14).map(|()| run.broken_streams()),
            resumed_share: only(Scenario::S14).and_then(|()| run.resumed_share()),
            silent_truncations: only(Scenario::S14).map(|()| run.silent_truncations()),
            repeated_tokens: only(Scenario::S14).map(|()| run.repeated_tokens()),
            flaps: match self.scenario {
                Scenario::S3 => Some(regions::flaps(self, run)),
                Scenario::S9 => providers::flaps(self, run),
                Scenario::S15 => pools::ejections(self, run),
                _ => None,
            },
        }
    }

    /// Seconds until the policy had answered to the fault, and until all was as before.
    fn times(&self, run: &Run) -> (Option<f64>, Option<f64>) {
        if self.scenario == Scenario::S11 {
            return (rollouts::time_to_roll_back(run), None);
        }
        let Some(&(start, end)) = self.windows.first() else { return (None, None) };
        let last_came = run.records().last().map_or(0.0, |record| record.at);
        let (detect, recover) = match self.scenario {
            Scenario::S2 | Scenario::S4 | Scenario::S15 => {
                let recover = run.time_to_recover(end, self.lasting(), 0.99, 5.0);
                (run.time_to_recover(start, end, 0.95, 5.0), recover)
            }
            Scenario::S3 => {
                let before = run.goodput_between(start - 100.0, start);
                let recover = run.time_to_recover(end, self.lasting(), before - 0.01, 5.0);
                (run.time_to_leave(regions::LOST, start, end, 0.05), recover)
            }
            Scenario::S8 => providers::reaction(self, run),
            _ => (None, None),
        };
        (detect.filter(|_| last_came >= end), recover.filter(|_| last_came >= end + 60.0))
    }
}
