//! One workload's figures.

use std::fmt;

use serde::Serialize;

/// Figures of one workload: medians of three for a drain, one run for a latency. What a workload does not
/// measure is `null`.
#[derive(Serialize, Default)]
pub(crate) struct Report {
    pub(crate) workload: String,
    pub(crate) rows_per_s: Option<f64>,
    pub(crate) floor_rows_per_s: Option<f64>,
    pub(crate) ratio_to_floor: Option<f64>,
    pub(crate) events: u64,
    pub(crate) events_per_s: f64,
    pub(crate) rss_peak_mib: f64,
    pub(crate) cpu_s_per_million_events: f64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p95_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) max_ms: Option<f64>,
    pub(crate) floor_p99_ms: Option<f64>,
    /// From the start of a process that goes on to its streaming.
    pub(crate) start_ms: Option<f64>,
    pub(crate) state_rows: Option<u64>,
    /// From the start of the process until it is ready: with an empty folder, and with the one it left.
    pub(crate) restore_s: Option<f64>,
    pub(crate) restart_s: Option<f64>,
    pub(crate) state_disk_mib: Option<f64>,
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
}

impl Report {
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and a name")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.workload)?;
        let value = serde_json::to_value(self).map_err(|_| fmt::Error)?;
        for (name, value) in value
            .as_object()
            .into_iter()
            .flatten()
            .skip(1)
            .filter(|(_, value)| !value.is_null())
        {
            writeln!(f, "  {name:<26} {value}")?;
        }
        Ok(())
    }
}

/// The middle one; of an even number the lower middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values
        .get((values.len().saturating_sub(1)) / 2)
        .copied()
        .unwrap_or_default()
}

/// Rounded, so that reports read well.
pub(crate) fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
