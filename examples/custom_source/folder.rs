//! The source: a folder into which a legacy program exports each of its transactions as one file.
//!
//! `1.csv`, `2.csv` and so on, written under another name and renamed when complete: a file that is there never
//! changes, and all are kept. File `n` begins at position `2n - 1` and ends at `2n`, where the next run goes on.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{File, TryLockError};
use std::io::{Error, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rowbridge_api::*;

use crate::export::{Export, Line};

/// How often the folder is looked at while nothing comes.
const POLL: Duration = Duration::from_millis(100);
/// A transaction larger than this goes out in several batches.
const BATCH_BYTES: usize = 256 << 10;
const COLUMNS: [(&str, &str); 3] = [("id", "int8"), ("name", "text"), ("notes", "text")];

/// The one table that is exported.
pub(crate) fn table() -> TableName {
    TableName::new("export", "guests")
}

/// The folder, and the lock that keeps everybody else from reading it as long as this process lives.
pub(crate) struct FolderSource {
    folder: PathBuf,
    lock: Option<File>,
}

impl FolderSource {
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self { folder, lock: None }
    }

    /// A path is enough on one machine; a database is asked for an id that moves with it.
    fn identity(&self) -> Result<Identity, SourceError> {
        let path = self.folder.canonicalize().map_err(unreadable)?;
        Ok(Identity {
            source: format!("csv{}", path.display()),
            history: String::new(),
        })
    }
}

impl Source for FolderSource {
    async fn check(&mut self, needs: &[TableNeeds]) -> Result<Vec<Finding>, SourceError> {
        let others = needs.iter().filter(|needs| needs.table != table());
        Ok(others.map(|needs| not_exported(&needs.table)).collect())
    }

    async fn own(&mut self) -> Result<Claim, SourceError> {
        self.lock = None; // An earlier session's.
        let lock = File::create(self.folder.join("lock")).map_err(unreadable)?;
        match lock.try_lock() {
            Ok(()) => self.lock = Some(lock),
            Err(TryLockError::Error(error)) => return Err(unreadable(error)),
            Err(TryLockError::WouldBlock) => {
                let holder = "whoever locked the folder".to_owned();
                return Ok(Claim::Standby { holder });
            }
        }
        Ok(Claim::Owned(Ownership {
            identity: self.identity()?,
            remembers: Remembers::Nothing,
            exclusive: true,
        }))
    }

    async fn hold(&mut self) -> Result<Infallible, SourceError> {
        std::future::pending().await
    }

    async fn run(&mut self, mut io: SourceIo) -> Result<(), SourceError> {
        let mut run = Run::new(self.folder.clone(), io.out);
        let mut done = match io.start {
            // The rows as they were when an interrupted first start read them: some may be published.
            Start::First { since: Some(since) } => run.existing_rows(since.order() / 2).await?,
            Start::First { since: None } => run.existing_rows(run.newest().await?).await?,
            Start::Resume { recorded, .. } if recorded != self.identity()? => {
                return Err(other_folder(&recorded));
            }
            Start::Resume { position, .. } => position.order() / 2,
        };
        while !io.shutdown.is_cancelled() {
            let newest = run.newest().await?;
            if newest < done {
                return Err(missing(done));
            }
            while done < newest && !io.shutdown.is_cancelled() {
                done += 1;
                run.transaction(done).await?;
            }
            tokio::select! {
                biased;
                () = io.shutdown.cancelled() => {}
                Err(_) = io.acked.changed() => return Err(ConsumerGone.into()),
                () = tokio::time::sleep(POLL) => {}
            }
        }
        // Nobody is told what was acknowledged, as the files stay; an error says that no more will be.
        let last = Some(end_of(done));
        let _ = io.acked.wait_for(|acked| *acked >= last).await;
        Ok(())
    }
}

/// What is being put together and sent.
struct Run {
    folder: PathBuf,
    out: BatchSender,
    batch: Batch,
}

impl Run {
    fn new(folder: PathBuf, out: BatchSender) -> Self {
        let columns = COLUMNS.map(|(name, ty)| Column {
            name: name.to_owned(),
            ty: Type::parse(ty),
            key: name == "id",
        });
        let shape = Shape {
            id: ShapeId(0),
            table: table(),
            columns: columns.to_vec(),
        };
        let mut batch = Batch::default();
        batch.items.push(Item::Shape(Arc::new(shape)));
        Self { folder, out, batch }
    }

    /// The highest number of a file; every lower one was there before it.
    async fn newest(&self) -> Result<u64, SourceError> {
        let number = |name: &str| name.strip_suffix(".csv")?.parse().ok();
        let mut newest = 0;
        let mut entries = tokio::fs::read_dir(&self.folder)
            .await
            .map_err(unreadable)?;
        while let Some(entry) = entries.next_entry().await.map_err(unreadable)? {
            newest = newest.max(entry.file_name().to_str().and_then(number).unwrap_or(0));
        }
        Ok(newest)
    }

    async fn read(&self, number: u64) -> Result<Export, SourceError> {
        let read = Export::read(&self.folder, number).await;
        read.map_err(|error| match error.kind() {
            ErrorKind::NotFound => missing(number),
            ErrorKind::InvalidData => {
                SourceError::refused(State::Invalid, error.to_string(), "correct the file")
            }
            _ => unreadable(error),
        })
    }

    /// Sends the rows that the first `files` files leave, and gives their number back.
    async fn existing_rows(&mut self, files: u64) -> Result<u64, SourceError> {
        let mut rows = BTreeMap::new();
        let mut commit_micros = 0;
        for number in 1..=files {
            let export = self.read(number).await?;
            commit_micros = export.micros;
            for line in export.lines {
                rows.remove(&line.old_id);
                if line.op != Op::Delete {
                    rows.insert(line.row[0].clone(), line.into_existing());
                }
            }
        }
        let position = end_of(files);
        let begin = Transaction {
            id: 0,
            position: position.clone(),
            commit_micros,
        };
        self.batch.items.push(Item::Begin(begin));
        for (ordinal, row) in (0..).zip(rows.values()) {
            self.change(row, ordinal).await?;
        }
        self.batch.items.push(Item::SnapshotEnd(position));
        self.send().await?;
        Ok(files)
    }

    async fn transaction(&mut self, number: u64) -> Result<(), SourceError> {
        let export = self.read(number).await?;
        let begin = Transaction {
            id: number,
            position: Position::new(number * 2 - 1),
            commit_micros: export.micros,
        };
        self.batch.items.push(Item::Begin(begin));
        for (ordinal, line) in (0..).zip(&export.lines) {
            self.change(line, ordinal).await?;
        }
        let position = end_of(number);
        self.batch.items.push(Item::Commit(Commit { position }));
        self.send().await
    }

    async fn change(&mut self, line: &Line, ordinal: u64) -> Result<(), SourceError> {
        let first_cell = |batch: &Batch| Image::Row {
            first_cell: u32::try_from(batch.cells.len()).expect("a batch is small"),
        };
        let batch = &mut self.batch;
        let (mut before, mut after) = (Image::Absent, Image::Absent);
        if !line.old_id.is_empty() {
            before = first_cell(batch);
            batch.push_value(line.old_id.as_bytes());
            batch.cells.extend([CellRange::UNAVAILABLE; 2]); // Not exported, which is not null.
        }
        if line.op != Op::Delete {
            after = first_cell(batch);
            for cell in &line.row {
                match cell.as_str() {
                    "" => batch.cells.push(CellRange::NULL),
                    text => batch.push_value(text.as_bytes()),
                }
            }
        }
        batch.items.push(Item::Change(Change {
            shape: ShapeId(0),
            op: line.op,
            before,
            after,
            width: 3,
            ordinal,
        }));
        if batch.bytes.len() > BATCH_BYTES {
            self.send().await?;
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), SourceError> {
        self.batch = self.out.send(std::mem::take(&mut self.batch)).await?;
        self.batch.clear();
        Ok(())
    }
}

impl Line {
    /// The row as it is there at first start.
    fn into_existing(self) -> Self {
        Self {
            op: Op::Read,
            old_id: String::new(),
            ..self
        }
    }
}

/// From where the file after this one follows.
fn end_of(number: u64) -> Position {
    Position::new(number * 2)
}

fn not_exported(table: &TableName) -> Finding {
    Finding {
        severity: Severity::Error,
        problem: format!("table {table} is not exported"),
        fix: String::new(),
        cost: None,
    }
}

fn unreadable(error: Error) -> SourceError {
    SourceError::transient_from("the folder cannot be read", error)
}

fn missing(number: u64) -> SourceError {
    let problem = format!("{number}.csv is not there any more");
    SourceError::refused(State::HistoryLost, problem, "put it back")
}

fn other_folder(recorded: &Identity) -> SourceError {
    let problem = format!("the position belongs to {}", recorded.source);
    SourceError::refused(State::WrongSource, problem, "name that folder")
}
