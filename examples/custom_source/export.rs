//! One exported transaction: `17.csv`, a line for each row that it changed.

use std::io::{Error, ErrorKind};
use std::path::Path;
use std::time::UNIX_EPOCH;

use rowbridge_api::Op;

/// A file.
pub(crate) struct Export {
    /// When it was written, in microseconds since 1970-01-01 UTC.
    pub(crate) micros: i64,
    pub(crate) lines: Vec<Line>,
}

/// A row's change.
pub(crate) struct Line {
    pub(crate) op: Op,
    /// The id that the row had; empty for a row that is new.
    pub(crate) old_id: String,
    /// Id, name and notes; empty is null. All are, for a row that is gone.
    pub(crate) row: [String; 3],
}

impl Export {
    /// Reads the file with this number.
    pub(crate) async fn read(folder: &Path, number: u64) -> Result<Self, Error> {
        let path = folder.join(format!("{number}.csv"));
        let written = tokio::fs::metadata(&path).await?.modified()?;
        let since_1970 = written.duration_since(UNIX_EPOCH).unwrap_or_default();
        let text = tokio::fs::read_to_string(&path).await?;
        let parsed = text.lines().map(|line| {
            let problem = || format!("{}: `{line}` is no change", path.display());
            Line::parse(line).ok_or_else(|| Error::new(ErrorKind::InvalidData, problem()))
        });
        Ok(Self {
            micros: i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX),
            lines: parsed.collect::<Result<_, _>>()?,
        })
    }
}

impl Line {
    /// `op,old_id,id,name,notes`.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.splitn(5, ',').collect();
        let [op, old_id, row @ ..] = <[&str; 5]>::try_from(fields).ok()?;
        let op = match (op, old_id.is_empty(), row[0].is_empty()) {
            ("insert", true, false) => Op::Insert,
            ("update", false, false) => Op::Update,
            ("delete", false, true) => Op::Delete,
            _ => return None,
        };
        Some(Self {
            op,
            old_id: old_id.to_owned(),
            row: row.map(str::to_owned),
        })
    }
}
