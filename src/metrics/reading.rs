//! The metrics as the process itself reads them, for the status line.

use rowbridge_api::{Position, SnapshotProgress};

use super::{Metrics, locked};

/// How far the pipeline is, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Events that became visible, of all types.
    pub events: u64,
    pub quarantined: u64,
    /// Age of the oldest source commit that is not yet visible.
    pub lag_seconds: f64,
    /// History the source holds for this pipeline.
    pub lag_bytes: u64,
    /// The last committed position of this process.
    pub position: Option<Position>,
    pub snapshot: Option<SnapshotProgress>,
}

impl Metrics {
    /// Reads what the threads of the pipeline have counted, without a word to them.
    #[must_use]
    pub fn read(&self) -> Reading {
        let position = locked(&self.live.place).clone();
        Reading {
            events: self.events.total(),
            quarantined: self.quarantined.total(),
            lag_seconds: self.live.lag_seconds(),
            lag_bytes: u64::try_from(self.lag_bytes.get()).unwrap_or_default(),
            position: position.map(|(position, _)| position),
            snapshot: locked(&self.live.snapshot).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rowbridge_api::{SourceStatus, TableName};

    use super::*;
    use crate::health::Health;

    #[test]
    fn rules_that_share_a_type_are_counted_once() {
        let types = ["SeatSold", "FareChanged", "SeatSold"].map(str::to_owned);
        let metrics = Metrics::new(&types, Health::new(Duration::from_secs(60)));
        for rule in 0..3 {
            metrics.add_events(rule, 10);
        }
        metrics.add_quarantined(2, 1);
        let progress = SnapshotProgress {
            table: TableName::new("public", "segments"),
            number: 1,
            tables: 2,
            rows: 7,
            rows_about: None,
        };
        metrics.source_status(&SourceStatus {
            snapshot: Some(progress.clone()),
            lag_bytes: Some(4096),
            safe_wal_bytes: None,
            history_seconds: None,
        });
        let reading = metrics.read();
        assert_eq!((reading.events, reading.quarantined), (30, 1));
        assert_eq!(
            (reading.lag_bytes, reading.snapshot),
            (4096, Some(progress))
        );
    }
}
