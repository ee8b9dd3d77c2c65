//! The report as a page.
pub(crate) struct Row {
    pub(crate) policy: &'static str,
    pub(crate) goodput: f64,
    pub(crate) ttft_p50: f64,
    pub(crate) ttft_p90: f64,
    pub(crate) ttft_p99: f64,
    pub(crate) attempts: f64,
    pub(crate) wasted: f64,
    pub(crate) recover: Option<f64>,
    pub(crate) cdf: Vec<(f64, f64)>,
    pub(crate) timeline: Vec<(f64, f64)>,
}
pub(crate) struct Chapter {
    pub(crate) scenario: &'static str,
    pub(crate) title: &'static str,
    pub(crate) variant: &'static str,
    pub(crate) routers: usize,
    pub(crate) load: f64,
    pub(crate) slo: f64,
    pub(crate) windows: Vec<(f64, f64)>,
    pub(crate) rows: Vec<Row>,
    pub(crate) oracle: Option<Row>,
}
pub(crate) fn render(_: &[Chapter], _: &[u64], _: f64) -> String {
    String::new()
}
