//! [`Fit`]: a line through samples of work and time.

/// Decayed sums of a least-squares fit, drawn towards a line through the origin; times in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fit {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

/// The weight of the line through the origin, as a share of the squared mean work.
const PRIOR: f64 = 0.05;
/// Who takes so many times as long as others, or as short, is not one of them.
pub(super) const UNLIKE: f64 = 4.0;
/// Work beyond this many times the usual is not believed.
const OUTLIER: f64 = 16.0;

impl Fit {
    /// What was learned weighs next to nothing from now on.
    pub(super) fn forget(&mut self) {
        *self = self.scaled(0.02);
    }

    /// The usual work; `None` without samples.
    fn usual(&self) -> Option<f64> {
        (self.n > 0.0).then(|| self.x / self.n)
    }

    /// Adds a sample; `decay` is what it leaves of the weight of those before it.
    pub(super) fn add(&mut self, work: f64, time: f64, decay: f64) {
        // Callers estimate the work, and one absurd estimate would have the leverage of thousands of good ones.
        // Where prompts really grow, so does what is usual, in a few samples.
        let x = work.min(self.usual().map_or(work, |usual| usual * OUTLIER));
        *self = self.scaled(decay).plus(Self { n: 1.0, x, y: time, xx: x * x, xy: x * time });
    }

    /// With the weight of so many samples of `others`, unless these are of another kind.
    pub(super) fn filled_up(self, samples: f64, others: Self) -> Self {
        let expected = others.line().map_or(0.0, |(base, slope)| base * self.n + slope * self.x);
        let alike = self.y <= expected * UNLIKE && expected <= self.y * UNLIKE && expected > 0.0;
        if alike { self.plus(others.scaled(samples / others.n)) } else { self }
    }

    /// How long so much work takes by this line; `None` without samples.
    pub(super) fn expected(&self, work: f64) -> Option<f64> {
        self.line().map(|(base, slope)| base + slope * work)
    }

    fn scaled(self, by: f64) -> Self {
        Self { n: self.n * by, x: self.x * by, y: self.y * by, xx: self.xx * by, xy: self.xy * by }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            n: self.n + other.n,
            x: self.x + other.x,
            y: self.y + other.y,
            xx: self.xx + other.xx,
            xy: self.xy + other.xy,
        }
    }

    /// Intercept and slope, neither negative; `None` without samples.
    pub(super) fn line(&self) -> Option<(f64, f64)> {
        if self.n <= 0.0 {
            return None;
        }
        let (mean_x, mean_y) = (self.x / self.n, self.y / self.n);
        let variance = (self.xx / self.n - mean_x * mean_x).max(0.0);
        let covariance = self.xy / self.n - mean_x * mean_y;
        let through_origin = mean_y / mean_x;
        let prior = PRIOR * mean_x * mean_x;
        let slope = ((covariance + prior * through_origin) / (variance + prior)).clamp(0.0, through_origin);
        Some(((mean_y - slope * mean_x).max(0.0), slope))
    }
}
