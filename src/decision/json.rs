//! Decisions as data (feature `serde`).

use super::{AttemptRecord, Beside, Candidate, Decision, RegionView};
use crate::facts::Facts;
use crate::shape::Drawn;
use crate::time::Instant;
use serde::ser::{Serialize, SerializeStruct, Serializer};

impl Serialize for Decision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Decision", 21)?;
        out.serialize_field("summary", &format!("{self:#}"))?;
        out.serialize_field("next", &self.next())?;
        out.serialize_field("chosen", &self.chosen().map(|candidate| candidate.name()))?;
        out.serialize_field("generation", &self.generation())?;
        // As text: JSON readers that keep numbers as doubles would lose its low bits.
        out.serialize_field("seed", &format!("{:016x}", self.seed()))?;
        out.serialize_field("arrival_ns", &self.arrival())?;
        out.serialize_field("time_ns", &self.time())?;
        out.serialize_field("time_left_ns", &crate::time::nanos(self.deadline() - self.time()))?;
        out.serialize_field("extra", &self.extra())?;
        out.serialize_field("hedged", &self.hedged())?;
        out.serialize_field("beside", &self.beside().map(Beside::attempt))?;
        out.serialize_field("panic", &self.panicked())?;
        out.serialize_field("policy_panicked", &self.policy_panicked())?;
        out.serialize_field::<Facts>("facts", self.facts())?;
        out.serialize_field("attempts", self.attempts())?;
        out.serialize_field("bill", &self.bill())?;
        out.serialize_field("wasted", &self.wasted())?;
        let time = self.time();
        out.serialize_field("regions", &self.regions().map(|region| At(region, time)).collect::<Vec<_>>())?;
        out.serialize_field("splits", self.splits())?;
        #[cfg(feature = "registry")]
        out.serialize_field("registry", &self.provenance())?;
        let mut candidates = self.ranked();
        candidates.extend(self.candidates().filter(|candidate| candidate.rejected().is_some()));
        out.serialize_field("candidates", &candidates)?;
        out.end()
    }
}

#[cfg(feature = "registry")]
impl Serialize for crate::registry::Provenance<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Provenance", 8)?;
        out.serialize_field("generation", &self.generation)?;
        out.serialize_field("digest", &self.digest.to_string())?;
        out.serialize_field("source", self.source.as_str())?;
        out.serialize_field("age_ns", &crate::time::nanos(self.age))?;
        out.serialize_field("version", &self.version)?;
        out.serialize_field("aliases", &self.aliases)?;
        out.serialize_field("bucket", &self.bucket)?;
        out.serialize_field("pinned", &self.pinned)?;
        out.end()
    }
}

impl Serialize for Drawn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Drawn", 4)?;
        out.serialize_field("name", self.split().name())?;
        out.serialize_field("bucket", &self.bucket())?;
        out.serialize_field("arm", self.arm())?;
        out.serialize_field("share", &self.share())?;
        out.end()
    }
}

impl Serialize for AttemptRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Attempt", 12)?;
        out.serialize_field("backend", self.name())?;
        out.serialize_field("started_ns", &self.started())?;
        out.serialize_field("first_item_ns", &self.first_item())?;
        out.serialize_field("elapsed_ns", &crate::time::nanos(self.elapsed()))?;
        out.serialize_field("failure", &self.failure())?;
        out.serialize_field("number", &self.number())?;
        out.serialize_field("hedge", &self.is_hedge())?;
        out.serialize_field("canary_timeout", &self.is_canary_timeout())?;
        out.serialize_field("outrun", &self.is_outrun())?;
        out.serialize_field("ending", &self.ending())?;
        out.serialize_field("tokens", &self.tokens())?;
        out.serialize_field("cost", &self.cost())?;
        out.end()
    }
}

impl Serialize for Candidate<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Candidate", 12)?;
        out.serialize_field("backend", self.name())?;
        out.serialize_field("model", &self.profile().full_model())?;
        out.serialize_field("region", &self.profile().region_name())?;
        out.serialize_field("cost", &self.cost())?;
        out.serialize_field("rejected", &self.rejected())?;
        out.serialize_field("note", &self.note())?;
        out.serialize_field("load", &self.load())?;
        out.serialize_field("latency", &self.latency())?;
        out.serialize_field("spread", &self.spread())?;
        out.serialize_field("pace", &self.pace())?;
        out.serialize_field("cached_tokens", &self.cached_tokens())?;
        out.serialize_field("supposed_tokens", &self.supposed_tokens())?;
        out.end()
    }
}

/// A region at the time of the decision.
struct At<'a>(RegionView<'a>, Instant);

impl Serialize for At<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(region, time) = *self;
        let mut out = serializer.serialize_struct("Region", 12)?;
        out.serialize_field("region", &region.name())?;
        out.serialize_field("model", &region.model())?;
        out.serialize_field("rank", &region.rank())?;
        out.serialize_field("health", &region.health())?;
        out.serialize_field("wish", &region.wish())?;
        out.serialize_field("granted", &region.granted())?;
        out.serialize_field("in_flight", &region.in_flight())?;
        out.serialize_field("room", &region.room())?;
        out.serialize_field("state", &region.phase())?;
        out.serialize_field("flaps", &region.flaps())?;
        out.serialize_field("ramp", &region.ramp(time))?;
        out.serialize_field("last_called_ns", &region.last_called())?;
        out.end()
    }
}
