//! The response header of ORCA, Open Request Cost Aggregation.
//!
//! `endpoint-load-metrics: TEXT cpu_utilization=0.3, named_metrics.kv_cache_usage_perc=0.4`, or the same as
//! `JSON {"cpu_utilization": 0.3, "named_metrics": {"kv_cache_usage_perc": 0.4}}`. The fields are those of
//! [`xds.data.orca.v3.OrcaLoadReport`](https://github.com/cncf/xds/blob/main/xds/data/orca/v3/orca_load_report.proto),
//! and `named_metrics` is free: vLLM writes `kv_cache_usage_perc` and `num_requests_waiting`.

use super::{Gauge, LoadReport, Unreadable, json, number, text};

/// What is known of the load while a report is read.
#[derive(Default)]
struct Draft {
    report: LoadReport,
    /// What an application says of itself goes before what its processor does.
    of_application: Option<u64>,
}

impl LoadReport {
    /// Reads the value of the ORCA response header or trailer `endpoint-load-metrics`, in its `TEXT` or `JSON` form.
    /// Servers send it when the request asks for it (vLLM: `endpoint-load-metrics-format: TEXT`).
    ///
    /// Utilization is `application_utilization`, or else `cpu_utilization`; of the named metrics `kv_cache_usage_perc`,
    /// `kv_cache_utilization`, `num_requests_waiting` and `num_requests_running` are known. Others are passed over.
    ///
    /// ```
    /// use fallway::signal::LoadReport;
    /// let header = "TEXT cpu_utilization=0.3, named_metrics.kv_cache_usage_perc=0.4";
    /// let report = LoadReport::from_orca(header)?;
    /// assert_eq!((report.utilization, report.kv_cache), (Some(300), Some(400)));
    /// # Ok::<(), fallway::signal::Unreadable>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Unreadable`] says why it was not believed; the binary form is [`Unreadable::Malformed`].
    pub fn from_orca(header: impl AsRef<[u8]>) -> Result<Self, Unreadable> {
        let value = text(header.as_ref())?.trim();
        let (format, report) = value.split_once([' ', '\t']).ok_or(MALFORMED)?;
        let mut draft = Draft::default();
        if format.eq_ignore_ascii_case("TEXT") {
            for pair in report.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
                // The design says `=`; Envoy reads `:`.
                let (name, value) = pair.split_once(['=', ':']).ok_or(MALFORMED)?;
                draft.note(name.trim(), value.trim())?;
            }
        } else if format.eq_ignore_ascii_case("JSON") {
            json::numbers(report, |outer, key, number| match outer {
                "" => draft.note(key, number),
                "named_metrics" | "namedMetrics" => draft.note_named(key, number),
                _ => Ok(()),
            })?;
        } else {
            return Err(MALFORMED);
        }
        if let Some(utilization) = draft.of_application.filter(|share| *share > 0) {
            Gauge::Utilization.set(&mut draft.report, utilization);
        }
        draft.report.unless_empty()
    }
}

const MALFORMED: Unreadable = Unreadable::Malformed("an ORCA report in text or JSON");

impl Draft {
    fn note(&mut self, name: &str, value: &str) -> Result<(), Unreadable> {
        match name {
            "cpu_utilization" | "cpuUtilization" => self.set(Gauge::Utilization, value),
            "application_utilization" | "applicationUtilization" => {
                let share = number(value, Gauge::Utilization)?;
                match self.of_application.replace(share) {
                    Some(_) => Err(Unreadable::Twice { what: "application utilization" }),
                    None => Ok(()),
                }
            }
            _ => match name.strip_prefix("named_metrics.") {
                Some(name) => self.note_named(name, value),
                None => Ok(()),
            },
        }
    }

    fn note_named(&mut self, name: &str, value: &str) -> Result<(), Unreadable> {
        match name {
            "kv_cache_usage_perc" | "kv_cache_utilization" => self.set(Gauge::KvCache, value),
            "num_requests_waiting" => self.set(Gauge::Waiting, value),
            "num_requests_running" => self.set(Gauge::Running, value),
            _ => Ok(()),
        }
    }

    fn set(&mut self, gauge: Gauge, value: &str) -> Result<(), Unreadable> {
        if gauge.of(&self.report).is_some() {
            return Err(Unreadable::Twice { what: gauge.name() });
        }
        gauge.set(&mut self.report, number(value, gauge)?);
        Ok(())
    }
}
