//! What can be seen of the servers.

use super::Cluster;
use crate::sim::machine::{Probes, seconds};
use crate::sim::stack::Load;

impl Cluster {
    /// How a server stands, as nobody outside can know it.
    pub(in crate::sim) fn load(&mut self, server: usize) -> Load {
        let machine = &mut self.machines[server];
        machine.engine.advance(seconds(self.now));
        Load {
            in_flight: machine.engine.in_flight(),
            queued: machine.engine.queued(),
            waiting_tokens: machine.engine.waiting_tokens(),
            rate: if machine.state.hung || !machine.state.up { 0.0 } else { machine.engine.rate() },
            until_room: machine.engine.until_room(),
            base: machine.server.base.saturating_add(machine.state.latency).as_secs_f64(),
            kv_use: machine.engine.use_of_batch(),
            error_share: machine.state.errors.map_or(0.0, |(_, share, _)| share),
            reachable: machine.state.up,
            up: machine.state.up && !machine.state.hung && machine.state.throttled.is_none(),
        }
    }

    /// The median time to first token, in seconds, of the latest requests that found about this many in flight.
    pub(in crate::sim) fn latency_at(&self, server: usize, in_flight: usize) -> f64 {
        let samples = &self.machines[server].samples;
        let Some(nearest) = samples.iter().map(|(at, _)| at.abs_diff(in_flight)).min() else { return 0.0 };
        let near = samples.iter().filter(|(at, _)| at.abs_diff(in_flight) <= nearest + 1);
        let mut times: Vec<_> = near.map(|(_, time)| *time).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }

    /// Whether a server reports its load.
    pub(in crate::sim) fn reports(&self, server: usize) -> bool {
        self.machines[server].state.reports
    }

    /// What a health probe sees of a server, and how the probe itself is.
    pub(in crate::sim) fn probe(&self, server: usize) -> (bool, Probes) {
        let state = self.machines[server].state;
        (state.up && !state.hung, state.probes)
    }
}
