//! Measured figures beside their bars, as a table for people and as JSON.

use std::fmt;

use serde_json::{Value, json};

/// What a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Pass up to here.
    AtMost(f64),
    /// Pass from here.
    AtLeast(f64),
    /// Pass inside, ends included.
    Within(f64, f64),
    /// Shown, never judged.
    Info,
}

impl Bound {
    /// NaN, a figure that could not be measured, passes no bound.
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
            Self::Within(low, high) => low <= value && value <= high,
            Self::Info => true,
        }
    }
}

/// One figure of a row.
#[derive(Clone, Debug)]
pub struct Check {
    name: &'static str,
    value: f64,
    unit: &'static str,
    bound: Bound,
}

impl Check {
    fn measured(&self) -> String {
        if self.value.is_nan() {
            return format!("{} not measured", self.name);
        }
        let mark = if self.bound.holds(self.value) { "" } else { "!" };
        format!("{} {mark}{}{}", self.name, figure(self.value), self.unit)
    }

    fn bar(&self) -> Option<String> {
        let (name, unit) = (self.name, self.unit);
        match self.bound {
            Bound::AtMost(limit) => Some(format!("{name} ≤ {limit}{unit}")),
            Bound::AtLeast(limit) => Some(format!("{name} ≥ {limit}{unit}")),
            Bound::Within(low, high) if low == high => Some(format!("{name} = {low}{unit}")),
            Bound::Within(low, high) => Some(format!("{name} {low}–{high}{unit}")),
            Bound::Info => None,
        }
    }
}

/// The result of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every figure is within its bar.
    Pass,
    /// At least one is not, or the scenario could not be run.
    Miss,
    /// Beyond its bar, but the feature is due in a later issue.
    Later,
    /// Shown beside another row, without a bar of its own.
    Info,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "PASS",
            Self::Miss => "miss",
            Self::Later => "later",
            Self::Info => "info",
        })
    }
}

/// One line of the table: a scenario, or one variant of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was done, in the words of the table of bars.
    pub title: String,
    checks: Vec<Check>,
    later: bool,
    error: Option<String>,
}

impl Row {
    /// A row without figures yet.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), checks: Vec::new(), later: false, error: None }
    }

    /// A row for a scenario that could not be run to its end.
    pub fn failed(title: impl Into<String>, error: &dyn fmt::Display) -> Self {
        Self { error: Some(error.to_string()), ..Self::new(title) }
    }

    /// Adds a figure and its bound.
    #[must_use]
    pub fn check(mut self, name: &'static str, value: f64, unit: &'static str, bound: Bound) -> Self {
        self.checks.push(Check { name, value, unit, bound });
        self
    }

    /// Adds a figure that must not exceed its limit.
    #[must_use]
    pub fn at_most(self, name: &'static str, value: f64, unit: &'static str, limit: f64) -> Self {
        self.check(name, value, unit, Bound::AtMost(limit))
    }

    /// Adds a figure that must reach its limit.
    #[must_use]
    pub fn at_least(self, name: &'static str, value: f64, unit: &'static str, limit: f64) -> Self {
        self.check(name, value, unit, Bound::AtLeast(limit))
    }

    /// Adds a figure that must be exactly this.
    #[must_use]
    pub fn exactly(self, name: &'static str, value: f64, unit: &'static str, limit: f64) -> Self {
        self.check(name, value, unit, Bound::Within(limit, limit))
    }

    /// Adds a figure that is only shown.
    #[must_use]
    pub fn info(self, name: &'static str, value: f64, unit: &'static str) -> Self {
        self.check(name, value, unit, Bound::Info)
    }

    /// Marks the row as due in a later issue: measured and shown, never a miss.
    #[must_use]
    pub fn later(mut self) -> Self {
        self.later = true;
        self
    }

    /// The result.
    pub fn verdict(&self) -> Verdict {
        let pass = self.error.is_none() && self.checks.iter().all(|check| check.bound.holds(check.value));
        if self.error.is_none() && self.checks.iter().all(|check| check.bound == Bound::Info) {
            return Verdict::Info;
        }
        match (pass, self.later) {
            (true, _) => Verdict::Pass,
            (false, true) => Verdict::Later,
            (false, false) => Verdict::Miss,
        }
    }

    /// The figures, an exclamation mark at each that misses its bar.
    pub fn measured(&self) -> String {
        match &self.error {
            Some(error) => format!("could not be run: {error}"),
            None => self.checks.iter().map(Check::measured).collect::<Vec<_>>().join("; "),
        }
    }

    /// The bars.
    pub fn bar(&self) -> String {
        let bars: Vec<_> = self.checks.iter().filter_map(Check::bar).collect();
        if bars.is_empty() { "–".into() } else { bars.join("; ") }
    }

    /// The row as JSON; a figure that was not measured is null.
    pub fn json(&self, scenario: &str) -> Value {
        let checks: Vec<Value> = self
            .checks
            .iter()
            .map(|check| {
                json!({
                    "name": check.name, "value": check.value, "unit": check.unit.trim(),
                    "bar": check.bar(), "pass": check.bound.holds(check.value),
                })
            })
            .collect();
        json!({
            "scenario": scenario, "title": self.title, "verdict": self.verdict().to_string(),
            "error": self.error, "checks": checks,
        })
    }
}

/// The table as Markdown.
pub fn markdown<'a>(rows: impl Iterator<Item = (&'a str, &'a Row)>) -> String {
    let mut table = String::from("| scenario | case | measured | bar | |\n| --- | --- | --- | --- | --- |\n");
    for (scenario, row) in rows {
        let line = [scenario, &row.title, &row.measured(), &row.bar(), &row.verdict().to_string()].join(" | ");
        table.push_str(&format!("| {line} |\n"));
    }
    table
}

/// The table for a terminal: two lines per row.
pub fn plain<'a>(rows: impl Iterator<Item = (&'a str, &'a Row)>) -> String {
    let mut table = String::new();
    for (scenario, row) in rows {
        table.push_str(&format!("{:<5} {scenario}: {}\n", row.verdict(), row.title));
        table.push_str(&format!("      measured  {}\n      bar       {}\n", row.measured(), row.bar()));
    }
    table
}

/// Three significant digits, whole numbers as they are.
fn figure(value: f64) -> String {
    let digits = match value.abs() {
        _ if value.fract() == 0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}
