//! A [`Source`] over whatever can be asked for its transactions by number.
//!
//! Many sources are as simple as that: a folder into which a program exports, an API with a change feed, a journal table
//! of one's own. [`TransactionLog`] is what they differ in; [`LogSource`] makes a source of one, with all that the contract
//! asks for: first start and hand-over to the stream, positions, batches, the way back to the pipeline, refusals.
//!
//! A log keeps all of its transactions, tells of a changed row at least the key that it had, and can keep everybody else
//! from reading. What is not so simple implements [`Source`] itself.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Batch, Cell, Change, Commit, Image, Item, Op, Transaction};
use crate::position::Position;
use crate::shape::{Column, Shape, ShapeId, TableName};
use crate::source::{
    BatchSender, Claim, ConsumerGone, Finding, Frozen, Identity, Ownership, Remembers, Severity,
    Source, SourceError, SourceIo, Start, State, TableNeeds,
};

/// How often a log is asked for news while there are none.
const POLL: Duration = Duration::from_millis(100);
/// A transaction larger than this goes out in several batches.
const BATCH_BYTES: usize = 256 << 10;
/// The same, for small changes: a cell and an item need more memory than the bytes of a short value.
const BATCH_ITEMS: usize = 4096;

/// Transactions numbered from 1, all of them kept, none ever changed.
pub trait TransactionLog: Send {
    /// The tables that it tells of.
    fn tables(&self) -> Vec<LoggedTable>;

    /// A name that no other log has, and that this one keeps when it moves. It is a part of every event's id.
    fn identity(&mut self) -> impl Future<Output = Result<String, SourceError>> + Send;

    /// Keeps everybody else from reading as long as this value lives, or says that somebody else does. What an earlier
    /// call took is given back first.
    fn lock(&mut self) -> impl Future<Output = Result<Lock, SourceError>> + Send;

    /// The highest number. Whenever it can be seen, every lower one is complete.
    fn newest(&mut self) -> impl Future<Output = Result<u64, SourceError>> + Send;

    /// The transaction of a number up to [`TransactionLog::newest`]; nothing if it is not there any more.
    fn read(
        &mut self,
        number: u64,
    ) -> impl Future<Output = Result<Option<LoggedTransaction>, SourceError>> + Send;
}

/// Whether a log is ours to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    Ours,
    /// Who has it, for people.
    Of(String),
}

/// A table of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedTable {
    pub name: TableName,
    pub columns: Vec<Column>,
}

/// What one transaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoggedTransaction {
    /// When it committed, in microseconds since 1970-01-01 UTC.
    pub commit_micros: i64,
    pub changes: Vec<LoggedChange>,
}

/// What became of one row: without an old key it is new, without a row it is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoggedChange {
    /// Its place in [`TransactionLog::tables`].
    pub table: usize,
    /// The values of the key columns before, in the order of the columns.
    pub old_key: Option<Vec<String>>,
    /// The values of all columns after, as text of their types; `None` is null.
    pub row: Option<Vec<Option<String>>>,
}

/// The source that a log makes.
///
/// The transaction `n` begins at position `2n - 1` and ends at `2n`. The existing rows of a first start are what the
/// transactions so far leave; they are held in memory meanwhile, and so is one transaction later.
#[derive(Debug)]
pub struct LogSource<L> {
    log: L,
    tables: Vec<LoggedTable>,
    /// The last transaction of the moment that was fixed last.
    frozen: Option<u64>,
}

impl<L: TransactionLog> LogSource<L> {
    pub fn new(log: L) -> Self {
        let tables = log.tables();
        Self {
            log,
            tables,
            frozen: None,
        }
    }

    async fn identity(&mut self) -> Result<Identity, SourceError> {
        Ok(Identity {
            source: self.log.identity().await?,
            history: String::new(),
        })
    }

    /// A transaction whose changes fit the tables.
    async fn read(&mut self, number: u64) -> Result<LoggedTransaction, SourceError> {
        let read = self.log.read(number).await?;
        let transaction = read.ok_or_else(|| missing(number))?;
        for change in &transaction.changes {
            if let Some(mistake) = mistake(&self.tables, change) {
                let problem = format!("transaction {number} holds {mistake}");
                return Err(SourceError::refused(State::Invalid, problem, "correct it"));
            }
        }
        Ok(transaction)
    }

    /// Sends the rows that the first `newest` transactions leave.
    async fn existing_rows(&mut self, newest: u64, writer: &mut Writer) -> Result<(), SourceError> {
        let mut rows = BTreeMap::new();
        let mut commit_micros = 0;
        for number in 1..=newest {
            let transaction = self.read(number).await?;
            commit_micros = transaction.commit_micros;
            for change in transaction.changes {
                if let Some(old_key) = change.old_key {
                    rows.remove(&(change.table, old_key));
                }
                if let Some(row) = change.row {
                    let key = self.tables[change.table].key_of(&row);
                    rows.insert((change.table, key), row);
                }
            }
        }
        writer.begin(Transaction {
            id: 0,
            position: end_of(newest),
            commit_micros,
        });
        for (ordinal, ((table, _), row)) in (0..).zip(rows) {
            let row = LoggedChange {
                table,
                old_key: None,
                row: Some(row),
            };
            writer.change(Op::Read, &row, ordinal).await?;
        }
        writer.batch.items.push(Item::SnapshotEnd(end_of(newest)));
        writer.send().await
    }

    async fn transaction(&mut self, number: u64, writer: &mut Writer) -> Result<(), SourceError> {
        let transaction = self.read(number).await?;
        writer.begin(Transaction {
            id: number,
            position: Position::new(number * 2 - 1),
            commit_micros: transaction.commit_micros,
        });
        for (ordinal, change) in (0..).zip(&transaction.changes) {
            let op = match (&change.old_key, &change.row) {
                (None, _) => Op::Insert,
                (Some(_), Some(_)) => Op::Update,
                (Some(_), None) => Op::Delete,
            };
            writer.change(op, change, ordinal).await?;
        }
        let position = end_of(number);
        writer.batch.items.push(Item::Commit(Commit { position }));
        writer.send().await
    }
}

impl<L: TransactionLog> Source for LogSource<L> {
    async fn check(&mut self, needs: &[TableNeeds]) -> Result<Vec<Finding>, SourceError> {
        let findings = needs.iter().flat_map(|needs| findings(&self.tables, needs));
        Ok(findings.collect())
    }

    async fn own(&mut self) -> Result<Claim, SourceError> {
        Ok(match self.log.lock().await? {
            Lock::Of(holder) => Claim::Standby { holder },
            Lock::Ours => Claim::Owned(Ownership {
                identity: self.identity().await?,
                remembers: Remembers::Nothing,
                exclusive: true,
            }),
        })
    }

    async fn hold(&mut self) -> Result<Infallible, SourceError> {
        std::future::pending().await
    }

    async fn freeze(&mut self, _tables: &[TableNeeds]) -> Result<Frozen, SourceError> {
        let newest = self.log.newest().await?;
        self.frozen = Some(newest);
        Ok(Frozen {
            position: end_of(newest),
            next: end_of(newest),
        })
    }

    async fn run(&mut self, mut io: SourceIo) -> Result<(), SourceError> {
        let mut writer = Writer::new(&self.tables, io.out);
        let mut done = match io.start {
            Start::First { since } => {
                // As an interrupted first start read them: some rows of that may be published.
                let newest = match since {
                    Some(since) => since.order() / 2,
                    None => self.log.newest().await?,
                };
                self.existing_rows(newest, &mut writer).await?;
                newest
            }
            Start::Resume { position, recorded } => {
                let identity = self.identity().await?;
                if recorded != identity {
                    return Err(other_log(&recorded, &identity));
                }
                position.order() / 2
            }
            Start::Frozen => {
                let newest = self.frozen.take();
                let newest = newest.ok_or_else(|| SourceError::transient("no moment is fixed"))?;
                return self.existing_rows(newest, &mut writer).await;
            }
        };
        while !io.shutdown.is_cancelled() {
            let newest = self.log.newest().await?;
            if newest < done {
                return Err(missing(done));
            }
            while done < newest && !io.shutdown.is_cancelled() {
                done += 1;
                self.transaction(done, &mut writer).await?;
            }
            tokio::select! {
                biased;
                () = io.shutdown.cancelled() => {}
                Err(_) = io.acked.changed() => return Err(ConsumerGone.into()),
                () = tokio::time::sleep(POLL) => {}
            }
        }
        // A log is not told what was acknowledged, as it keeps everything; an error says that no more will be.
        let last = Some(end_of(done));
        let _ = io.acked.wait_for(|acked| *acked >= last).await;
        Ok(())
    }
}

/// What is being put together and sent.
struct Writer {
    shapes: Vec<Arc<Shape>>,
    out: BatchSender,
    batch: Batch,
}

impl Writer {
    fn new(tables: &[LoggedTable], out: BatchSender) -> Self {
        let shape = |(id, table): (u32, &LoggedTable)| Shape {
            id: ShapeId(id),
            table: table.name.clone(),
            table_id: None,
            columns: table.columns.clone(),
        };
        let shapes: Vec<_> = (0..).zip(tables).map(shape).map(Arc::new).collect();
        let mut batch = Batch::default();
        batch.items.extend(shapes.iter().cloned().map(Item::Shape));
        Self { shapes, out, batch }
    }

    fn begin(&mut self, transaction: Transaction) {
        self.batch.items.push(Item::Begin(transaction));
    }

    async fn change(
        &mut self,
        op: Op,
        change: &LoggedChange,
        ordinal: u64,
    ) -> Result<(), SourceError> {
        let shape = &self.shapes[change.table];
        let before = change.old_key.as_ref().map_or(Image::Absent, |old_key| {
            let mut old_key = old_key.iter();
            let mut key = || old_key.next().map(String::as_bytes);
            let cells = shape.columns.iter().map(|column| match column.key {
                true => key().map_or(Cell::Unavailable, Cell::Value),
                false => Cell::Unavailable, // Not told, which is not null.
            });
            self.batch.push_row(cells)
        });
        let after = change.row.as_ref().map_or(Image::Absent, |row| {
            self.batch.push_row(row.iter().map(|cell| match cell {
                Some(text) => Cell::Value(text.as_bytes()),
                None => Cell::Null,
            }))
        });
        self.batch.items.push(Item::Change(Change {
            shape: shape.id,
            op,
            before,
            after,
            width: u16::try_from(shape.columns.len()).expect("a table has fewer columns"),
            ordinal,
        }));
        if self.batch.bytes.len() > BATCH_BYTES || self.batch.items.len() > BATCH_ITEMS {
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

impl LoggedTable {
    /// The key of a row of this table.
    fn key_of(&self, row: &[Option<String>]) -> Vec<String> {
        let cells = self.columns.iter().zip(row);
        let key = cells.filter(|(column, _)| column.key);
        key.filter_map(|(_, cell)| cell.clone()).collect()
    }
}

/// What keeps `change` from being one of these tables'. Never a row's value.
fn mistake(tables: &[LoggedTable], change: &LoggedChange) -> Option<&'static str> {
    let Some(table) = tables.get(change.table) else {
        return Some("a change of a table that the log does not have");
    };
    let key_columns = table.columns.iter().filter(|column| column.key).count();
    let keyed = |key: &[String]| key.len() == key_columns;
    match (&change.old_key, &change.row) {
        (None, None) => Some("a change without an old key and without a row"),
        (Some(old_key), _) if !keyed(old_key) => Some("an old key of another length"),
        (_, Some(row)) if row.len() != table.columns.len() => Some("a row of another width"),
        (_, Some(row)) if !keyed(&table.key_of(row)) => Some("a row with null in its key"),
        _ => None,
    }
}

/// What the mapping needs of one table and the log does not have.
fn findings(tables: &[LoggedTable], needs: &TableNeeds) -> Vec<Finding> {
    let finding = |problem: String| Finding {
        severity: Severity::Error,
        problem,
        fix: String::new(),
        cost: None,
    };
    let name = &needs.table;
    let Some(table) = tables.iter().find(|table| table.name == *name) else {
        return vec![finding(format!("the log has no table {name}"))];
    };
    let problems = needs.columns.iter().filter_map(|need| {
        let column = &need.name;
        match table.columns.iter().find(|has| has.name == *column) {
            None => Some(format!("the log has no column {column} of {name}")),
            Some(has) if has.ty != need.ty => Some(format!(
                "{column} of {name} is {} in the log and {} in schema.toml",
                has.ty.name, need.ty.name
            )),
            Some(has) if need.before && !has.key => Some(format!(
                "{} reads what {column} of {name} was before, and the log tells only the key",
                need.rules.join(", ")
            )),
            Some(_) => None,
        }
    });
    problems.map(finding).collect()
}

/// From where the transaction after this one follows.
const fn end_of(number: u64) -> Position {
    Position::new(number * 2)
}

fn missing(number: u64) -> SourceError {
    let problem = format!("transaction {number} is not there any more");
    SourceError::refused(State::HistoryLost, problem, "put it back")
}

fn other_log(recorded: &Identity, found: &Identity) -> SourceError {
    let problem = format!(
        "the position belongs to {}, this is {}",
        recorded.source, found.source
    );
    SourceError::refused(
        State::WrongSource,
        problem,
        "name that log, or another pipeline",
    )
}
