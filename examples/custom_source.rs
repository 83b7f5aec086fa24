//! A connector of one's own: a folder of CSV files, read by the same pipeline as PostgreSQL and MongoDB.
//!
//! `cargo run --example custom_source -- FOLDER PACK [BROKERS]` prints the events, or publishes them exactly once;
//! examples/custom_source is a PACK. tests/custom_source puts the source to the conformance suite and kills this program.
//!
//! A legacy program exports each of its transactions as one file, `1.csv`, `2.csv` and so on, written under another name
//! and renamed when complete: a file that is there never changes, and all are kept.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use rowbridge::embed::{Embedded, Target};
use rowbridge_api::*;

const COLUMNS: [(&str, &str); 3] = [("id", "int8"), ("name", "text"), ("notes", "text")];

/// The one table that is exported.
pub(crate) fn table() -> TableName {
    TableName::new("export", "guests")
}

/// The folder, and the file that keeps everybody else from reading it as long as it is locked.
pub(crate) struct Folder {
    path: PathBuf,
    lock: Option<File>,
}

impl Folder {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            lock: None,
        }
    }
}

impl TransactionLog for Folder {
    fn tables(&self) -> Vec<LoggedTable> {
        let columns = COLUMNS.map(|(name, ty)| Column {
            name: name.to_owned(),
            ty: Type::parse(ty),
            key: name == "id",
        });
        vec![LoggedTable {
            name: table(),
            columns: columns.to_vec(),
        }]
    }

    /// A path is enough on one machine; a database is asked for an id that moves with it.
    async fn identity(&mut self) -> Result<String, SourceError> {
        Ok(format!("csv{}", self.path.canonicalize()?.display()))
    }

    async fn lock(&mut self) -> Result<Lock, SourceError> {
        self.lock = None;
        let file = File::create(self.path.join("lock"))?;
        match file.try_lock() {
            Ok(()) => self.lock = Some(file),
            Err(TryLockError::WouldBlock) => return Ok(Lock::Of("another process".to_owned())),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        Ok(Lock::Ours)
    }

    async fn newest(&mut self) -> Result<u64, SourceError> {
        let number = |name: &str| name.strip_suffix(".csv")?.parse().ok();
        let mut newest = 0;
        let mut entries = tokio::fs::read_dir(&self.path).await?;
        while let Some(entry) = entries.next_entry().await? {
            newest = newest.max(entry.file_name().to_str().and_then(number).unwrap_or(0));
        }
        Ok(newest)
    }

    async fn read(&mut self, number: u64) -> Result<Option<LoggedTransaction>, SourceError> {
        let path = self.path.join(format!("{number}.csv"));
        let text = match tokio::fs::read(&path).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let written = tokio::fs::metadata(&path).await?.modified()?;
        let since_1970 = written.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut lines = csv::ReaderBuilder::new();
        let lines = lines.has_headers(false).from_reader(text.as_slice());
        let changes = lines.into_records().map(|line| Ok(change(&line?)));
        let changes: csv::Result<_> = changes.collect();
        Ok(Some(LoggedTransaction {
            commit_micros: i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX),
            changes: changes.map_err(|error| {
                let problem = format!("{}: {error}", path.display());
                SourceError::refused(State::Invalid, problem, "correct the file")
            })?,
        }))
    }
}

/// `old_id,id,name,notes`: without the old id the row is new, without the id it is gone. An empty cell is null.
fn change(line: &csv::StringRecord) -> LoggedChange {
    let mut cells = line.iter().map(|cell| match cell {
        "" => None,
        text => Some(text.to_owned()),
    });
    let old_id = cells.next().flatten();
    let row: Vec<Option<String>> = cells.collect();
    let exists = row.first().is_some_and(Option::is_some);
    LoggedChange {
        table: 0,
        old_key: old_id.map(|id| vec![id]),
        row: exists.then_some(row),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = std::env::args().skip(1);
    let mut argument = || {
        arguments
            .next()
            .context("custom_source FOLDER PACK [BROKERS]")
    };
    let folder = Folder::new(argument()?);
    let guests = Embedded {
        pipeline: "guests".to_owned(),
        pack: argument()?.into(),
        target: argument().map_or(Target::Stdout, Target::Kafka),
    };
    guests.run(LogSource::new(folder)).await
}
