//! The configuration of `region_failover`.

use crate::decision::RegionRules;
use crate::policy::Check;
use crate::rng::hash_str;
use std::time::Duration;

/// In which order regions are used, and how traffic moves between them. Wrap a policy with
/// [`PolicyExt::region_failover`](crate::policy::PolicyExt::region_failover).
///
/// ```
/// use fallway::policy::{FailSafe, PolicyExt, Regions, predicted_ttft};
/// let regions = Regions::new("eu-west").then("eu-north").then_any(["us-east", "us-west"]);
/// let policy = predicted_ttft().region_failover(regions).fail_safe(FailSafe::default());
/// ```
#[derive(Clone, Debug)]
pub struct Regions {
    pub(super) tiers: Vec<Vec<Name>>,
    pub(super) residency: Option<Vec<Name>>,
    pub(super) spill: Spill,
    pub(super) thresholds: (f64, f64),
    pub(super) headroom: (f64, f64),
    pub(super) hold: (Duration, Duration),
    pub(super) ramp: Duration,
    pub(super) exercise: f64,
}

/// How much of its traffic a region keeps when a part of it is unhealthy.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Spill {
    /// In proportion: a region whose healthy part is `h` of its capacity keeps `min(1, overprovisioning · h)` of its
    /// traffic. The factor is the spare capacity: 1.4 means that 71 % of a region can carry all of its traffic; it must
    /// be at most one divided by the usual utilisation. Envoy's rule, and its default of 1.4.
    Proportional {
        /// At least 1.
        overprovisioning: f64,
    },
    /// All or nothing: everything until the region is [down](Regions::thresholds), and then nothing.
    Switch,
}

/// A region's name, with its hash: names that differ are told apart by one comparison.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) name: String,
    pub(super) hash: u64,
}

impl Name {
    fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { hash: hash_str(&name), name }
    }
}

impl Regions {
    /// Spare capacity: Envoy's default.
    pub const OVERPROVISIONING: f64 = 1.4;
    /// A region is down below the first and may come back from the second on: shares of its capacity that are healthy.
    pub const THRESHOLDS: (f64, f64) = (0.5, 0.8);
    /// How full the first region may be before requests go to the next, and the others before they go on: traffic that
    /// is far from home leaves room for what is at home there.
    pub const HEADROOM: (f64, f64) = (0.85, 0.60);
    /// How long a region must be healthy before it gets traffic again, at first and at most; doubled by each flap.
    pub const HOLD: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
    /// How long a region takes to get all of its traffic back.
    pub const RAMP: Duration = Duration::from_secs(60);
    /// The share of traffic that a region on hold gets, in thousandths: evidence that it is well.
    pub const HOLD_SHARE: u16 = 10;
    /// A region that stays up for so long is forgiven one flap.
    pub const CLEAN: Duration = crate::decision::CLEAN;

    /// The region that is preferred: usually where the caller stands. Regions that are not named come last.
    pub fn new(region: impl Into<String>) -> Self {
        Self {
            tiers: vec![vec![Name::new(region)]],
            residency: None,
            spill: Spill::Proportional { overprovisioning: Self::OVERPROVISIONING },
            thresholds: Self::THRESHOLDS,
            headroom: Self::HEADROOM,
            hold: Self::HOLD,
            ramp: Self::RAMP,
            exercise: 0.0,
        }
    }

    /// The region that comes next.
    #[must_use]
    pub fn then(self, region: impl Into<String>) -> Self {
        self.then_any([region])
    }

    /// Regions that come next, none before another: each takes as much as it has capacity.
    #[must_use]
    pub fn then_any<S: Into<String>>(mut self, regions: impl IntoIterator<Item = S>) -> Self {
        self.tiers.push(regions.into_iter().map(Name::new).collect());
        self
    }

    /// The only regions where any request of this router may be served: a hard line, beside that of the
    /// [request](crate::Facts::residency). Nothing overrides it.
    #[must_use]
    pub fn residency<S: Into<String>>(mut self, regions: impl IntoIterator<Item = S>) -> Self {
        self.residency = Some(regions.into_iter().map(Name::new).collect());
        self
    }

    /// How much of its traffic a region keeps when a part of it is unhealthy; default proportional.
    #[must_use]
    pub const fn spill(mut self, spill: Spill) -> Self {
        self.spill = spill;
        self
    }

    /// Below which healthy share of its capacity a region is down, and from which on it may come back.
    #[must_use]
    pub const fn thresholds(mut self, down: f64, up: f64) -> Self {
        self.thresholds = (down, up);
        self
    }

    /// How full the first region may be before requests go on to the next, and how full the others, as shares of their
    /// concurrency limits. No request but a [critical](crate::facts::Priority::Critical) one goes to a region that is
    /// fuller than the larger of the two; where a profile gives no limit, its region is never full.
    #[must_use]
    pub const fn headroom(mut self, first: f64, others: f64) -> Self {
        self.headroom = (first, others);
        self
    }

    /// How long a region must stay healthy before it gets traffic again, at first and at most; zero for at once.
    #[must_use]
    pub const fn hold(mut self, first: Duration, most: Duration) -> Self {
        self.hold = (first, most);
        self
    }

    /// How long a region then takes to get all of its traffic back; zero for at once.
    #[must_use]
    pub const fn ramp(mut self, ramp: Duration) -> Self {
        self.ramp = ramp;
        self
    }

    /// The share of traffic that every region gets that may serve, also while nobody needs it, so that a failover goes
    /// to one that already carries traffic; default none, at most 0.1.
    #[must_use]
    pub const fn exercise(mut self, share: f64) -> Self {
        self.exercise = share;
        self
    }

    pub(super) fn rules(&self) -> RegionRules {
        RegionRules {
            down: permille(self.thresholds.0),
            up: permille(self.thresholds.1),
            hold: self.hold,
            ramp: self.ramp,
        }
    }

    pub(super) fn check(&self, check: &mut Check<'_>) {
        const NAME: &str = "region_failover";
        let mut seen: Vec<&str> = Vec::new();
        for tier in &self.tiers {
            if tier.is_empty() {
                check.error(NAME, "a tier of the preference names no region");
            }
            for Name { name, .. } in tier {
                if seen.contains(&name.as_str()) {
                    check.error(NAME, format!("region {name:?} stands in the preference twice"));
                }
                if !check.has_region(name) {
                    check.error(NAME, format!("the preference names region {name:?}, where no backend stands"));
                }
                seen.push(name);
            }
        }
        for Name { name, .. } in self.residency.iter().flatten() {
            if !check.has_region(name) {
                check.error(NAME, format!("the residency set names region {name:?}, where no backend stands"));
            }
        }
        if self.residency.as_ref().is_some_and(Vec::is_empty) {
            check.error(NAME, "an empty residency set would refuse every request");
        }
        if let Spill::Proportional { overprovisioning } = self.spill
            && !(1.0..=MOST_OVERPROVISIONING).contains(&overprovisioning)
        {
            check.error(NAME, format!("an overprovisioning factor of {overprovisioning} is not in 1..=1000"));
        }
        let (down, up) = self.thresholds;
        if !(0.0..=1.0).contains(&down) || !(0.0..=1.0).contains(&up) {
            check.error(NAME, format!("thresholds of {down} and {up} are not in 0..=1"));
        } else if down > up {
            check.error(NAME, format!("the threshold for down, {down}, is above that for up, {up}"));
        }
        for share in [self.headroom.0, self.headroom.1] {
            if !(share > 0.0 && share <= 1.0) {
                check.error(NAME, format!("a headroom of {share} is not above 0 and at most 1"));
            }
        }
        if self.hold.0 > self.hold.1 {
            check.error(NAME, format!("a hold of {:?} is longer than its maximum, {:?}", self.hold.0, self.hold.1));
        }
        if !(0.0..=0.1).contains(&self.exercise) {
            check.error(NAME, format!("an exercise share of {} is not in 0..=0.1", self.exercise));
        }
    }
}

const MOST_OVERPROVISIONING: f64 = 1000.0;

pub(super) fn permille(share: f64) -> u16 {
    (share * 1000.0).round() as u16
}
