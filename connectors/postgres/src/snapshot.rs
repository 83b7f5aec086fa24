//! The rows that exist at one moment, such as a first start: COPY in text form, un-escaped where it lies in the batch.
//!
//! Reads the publication's columns and row filter, so that a row looks the same as in the stream. Memory is
//! one batch, however large the table.

use std::ops::Range;
use std::sync::Arc;

use rowbridge_api::{
    CellRange, Change, Column, Image, Item, Op, Position, Shape, ShapeId, SnapshotProgress,
    SourceError, SourceIo, State, TableNeeds, Transaction,
};

use crate::assembler::Keys;
use crate::catalogue::{Generated, Table, TypeNames};
use crate::config::PostgresConfig;
use crate::error::WireError;
use crate::intake::Intake;
use crate::publication::{Member, Publication};
use crate::sql::{literal, quote, quote_table};
use crate::stream::walsender_error;
use crate::wire::{Link, Purpose, server_message, unix_micros};

/// A plain session inside the snapshot's transaction.
pub(crate) struct Snapshot {
    link: Link,
    position: Position,
    ordinal: u64,
    next_shape: u32,
}

/// One table to copy.
pub(crate) struct Copied {
    /// Selects its rows.
    query: String,
    shape: Shape,
}

impl Snapshot {
    /// Opens the session before the slot exists, so that an exported snapshot is taken up at once.
    pub(crate) async fn open(config: &PostgresConfig) -> Result<Self, WireError> {
        Ok(Self {
            link: Link::connect(config, Purpose::Copy).await?,
            position: Position::new(0),
            ordinal: 0,
            next_shape: 0,
        })
    }

    /// Begins the transaction at the snapshot that creating the slot exported.
    pub(crate) async fn import(&mut self, exported: &str, point: u64) -> Result<(), SourceError> {
        self.begin().await?;
        let import = format!("SET TRANSACTION SNAPSHOT {}", literal(exported));
        self.link.query(&import).await.map_err(failed)?;
        self.position = Position::new(point);
        Ok(())
    }

    /// As [`Snapshot::import`], to wait in the transaction until it is read, whatever the server says of idle ones.
    pub(crate) async fn fix(&mut self, exported: &str, point: u64) -> Result<(), SourceError> {
        let patient = "SET idle_in_transaction_session_timeout = 0";
        self.link.query(patient).await.map_err(failed)?;
        self.import(exported, point).await
    }

    /// The moment that it shows.
    pub(crate) const fn position(&self) -> &Position {
        &self.position
    }

    /// Begins the transaction at a snapshot of its own: after an interrupted first start, whose slot
    /// delivers every change since its creation.
    pub(crate) async fn take(&mut self) -> Result<(), SourceError> {
        self.begin().await?;
        let lsn = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
                   ELSE pg_current_wal_lsn() END";
        let rows = self.link.query(lsn).await.map_err(failed)?;
        let lsn = rows.first().and_then(|row| row.first()?.as_ref());
        let lsn = lsn.and_then(|text| text.parse().ok());
        self.position =
            lsn.ok_or_else(|| SourceError::transient("the server told no WAL position"))?;
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), SourceError> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        self.link.query(begin).await.map(drop).map_err(failed)
    }

    /// What to copy of one table.
    pub(crate) fn plan(
        &mut self,
        need: &TableNeeds,
        table: &Table,
        publication: &Publication,
        types: &TypeNames,
        keys: &Keys,
    ) -> Copied {
        let member = publication
            .tables
            .get(&need.table)
            .cloned()
            .unwrap_or_default();
        let key = keys.get(&need.table);
        let columns: Vec<Column> = table
            .columns
            .iter()
            .filter(|column| is_published(&member, &column.name, column.generated))
            .map(|column| Column {
                name: column.name.clone(),
                ty: types.resolve(column.type_oid, column.type_modifier),
                key: key.is_some_and(|key| key.contains(&column.name)),
            })
            .collect();
        let id = ShapeId(self.next_shape);
        self.next_shape += 1;
        let names: Vec<String> = columns.iter().map(|column| quote(&column.name)).collect();
        // A published partition root stands for its leaves; any other table for itself alone.
        let only = if table.kind == 'p' { "" } else { "ONLY " };
        let filter = member.filter.map(|filter| format!(" WHERE {filter}"));
        Copied {
            query: format!(
                "SELECT {} FROM {only}{}{}",
                names.join(", "),
                quote_table(&need.table),
                filter.unwrap_or_default()
            ),
            shape: Shape {
                id,
                table: need.table.clone(),
                table_id: Some(table.oid.into()),
                columns,
            },
        }
    }

    /// Sends every row of `tables`, then the end of the snapshot. Returns the first free shape number.
    pub(crate) async fn send(
        mut self,
        tables: Vec<Copied>,
        io: &mut SourceIo,
        config: &PostgresConfig,
        stream_from: u64,
    ) -> Result<u32, SourceError> {
        let limits = &config.limits;
        let rows_about = self.rows_about(&tables).await?;
        let mut intake = Intake::new(&mut self.link, limits.batch_bytes, limits.max_message_bytes);
        intake.batch.items.push(Item::Begin(Transaction {
            id: 0,
            position: self.position.clone(),
            commit_micros: unix_micros(),
        }));
        let count = tables.len();
        for (number, copied) in (1..).zip(tables) {
            let progress = SnapshotProgress {
                table: copied.shape.table.clone(),
                number,
                tables: count,
                rows: self.ordinal,
                rows_about,
            };
            tracing::info!(table = %progress.table, "reading existing rows");
            io.status
                .send_modify(|status| status.snapshot = Some(progress));
            intake.hand_over(&mut self.link);
            let copy = format!("COPY ({}) TO STDOUT", copied.query);
            self.link.start_copy(&copy).await.map_err(failed)?;
            intake.take_over(&mut self.link);
            self.copy(copied.shape, &mut intake, io).await?;
        }
        intake
            .batch
            .items
            .push(Item::SnapshotEnd(Position::new(stream_from)));
        intake.send(&mut io.out).await?;
        tracing::info!(rows = self.ordinal, position = %self.position, "read all existing rows");
        Ok(self.next_shape)
    }

    /// How many rows the server's planner expects of `tables`: as good as their last ANALYZE, scaled to their
    /// size now, and made up from the size alone where there was none.
    async fn rows_about(&mut self, tables: &[Copied]) -> Result<Option<u64>, SourceError> {
        let mut sum: u64 = 0;
        for copied in tables {
            let explain = format!("EXPLAIN (FORMAT JSON) {}", copied.query);
            let answer = self.link.query(&explain).await.map_err(failed)?;
            let Some(rows) = answer
                .first()
                .and_then(|row| planned_rows(row.first()?.as_ref()?))
            else {
                return Ok(None);
            };
            sum = sum.saturating_add(rows);
        }
        Ok(Some(sum))
    }

    async fn copy(
        &mut self,
        shape: Shape,
        intake: &mut Intake,
        io: &mut SourceIo,
    ) -> Result<(), SourceError> {
        let (id, width) = (shape.id, shape.columns.len());
        intake.batch.items.push(Item::Shape(Arc::new(shape)));
        loop {
            while let Some(frame) = intake.frame()? {
                match frame.tag {
                    b'd' => self.row(id, width, frame.body, intake)?,
                    b'c' => {
                        intake.hand_over(&mut self.link);
                        return self.link.finish_copy().await.map_err(failed);
                    }
                    b'E' => {
                        let error = server_message(&intake.batch.bytes[frame.whole])?;
                        return Err(walsender_error(&error));
                    }
                    b'N' | b'S' => {}
                    other => {
                        let problem = format!("message {other:#04x} inside a copy");
                        return Err(WireError::Protocol(problem).into());
                    }
                }
            }
            if intake.is_full() && !intake.is_empty() {
                intake.send(&mut io.out).await?;
                self.report(io);
            }
            intake.read(&mut self.link).await?;
        }
    }

    fn row(
        &mut self,
        shape: ShapeId,
        width: usize,
        range: Range<usize>,
        intake: &mut Intake,
    ) -> Result<(), SourceError> {
        let batch = &mut intake.batch;
        let first_cell = u32::try_from(batch.cells.len()).unwrap_or(u32::MAX);
        let found = split_row(&mut batch.bytes, range, &mut batch.cells);
        if found != width {
            let problem = format!("a copied row of {found} cells in a table of {width} columns");
            return Err(WireError::Protocol(problem).into());
        }
        batch.items.push(Item::Change(Change {
            shape,
            op: Op::Read,
            before: Image::Absent,
            after: Image::Row { first_cell },
            width: u16::try_from(width).unwrap_or(u16::MAX),
            ordinal: self.ordinal,
        }));
        self.ordinal += 1;
        Ok(())
    }

    /// Publishes how many rows are read.
    fn report(&self, io: &SourceIo) {
        io.status.send_modify(|status| {
            if let Some(progress) = &mut status.snapshot {
                progress.rows = self.ordinal;
            }
        });
    }
}

/// What an explained plan says of its rows.
fn planned_rows(plan: &str) -> Option<u64> {
    let plan: serde_json::Value = serde_json::from_str(plan).ok()?;
    plan.pointer("/0/Plan/Plan Rows")?.as_u64()
}

fn is_published(member: &Member, name: &str, generated: Generated) -> bool {
    match &member.columns {
        Some(columns) => columns.iter().any(|column| column == name),
        None => generated == Generated::No,
    }
}

fn failed(error: WireError) -> SourceError {
    error.while_doing("cannot read the existing rows")
}

/// A mapped table that does not exist.
pub(crate) fn no_such_table(need: &TableNeeds) -> SourceError {
    SourceError::refused(
        State::Invalid,
        format!(
            "table {} does not exist or is not visible to this role",
            need.table
        ),
        "correct the mapping or grant the rights; `rowbridge check` prints the statements",
    )
}

/// Splits one row of COPY's text form (PostgreSQL documentation, COPY, "Text Format") into cells and
/// un-escapes them in place: a cell never grows. Returns the number of cells pushed.
fn split_row(bytes: &mut [u8], range: Range<usize>, cells: &mut Vec<CellRange>) -> usize {
    let before = cells.len();
    let mut end = range.end;
    if bytes[range.clone()].last() == Some(&b'\n') {
        end -= 1;
    }
    let is_plain = memchr::memchr(b'\\', &bytes[range.start..end]).is_none();
    let mut start = range.start;
    loop {
        let stop = memchr::memchr(b'\t', &bytes[start..end]).map_or(end, |at| start + at);
        cells.push(if is_plain {
            cell(start, stop - start)
        } else if &bytes[start..stop] == b"\\N" {
            CellRange::NULL
        } else {
            let length = unescape(&mut bytes[start..stop]);
            cell(start, length)
        });
        if stop == end {
            return cells.len() - before;
        }
        start = stop + 1;
    }
}

fn cell(start: usize, length: usize) -> CellRange {
    match (u32::try_from(start), u32::try_from(length)) {
        (Ok(start), Ok(length)) if length < u32::MAX - 1 => CellRange::value(start, length),
        // Messages are limited to 1 GiB, so this is not reached; it must not be a lie if it is.
        _ => CellRange::UNAVAILABLE,
    }
}

/// Un-escapes in place and returns the new length. COPY TO writes only the escapes listed here.
fn unescape(text: &mut [u8]) -> usize {
    let Some(first) = memchr::memchr(b'\\', text) else {
        return text.len();
    };
    let (mut from, mut to) = (first, first);
    while from < text.len() {
        let mut byte = text[from];
        from += 1;
        if byte == b'\\' && from < text.len() {
            byte = match text[from] {
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 0x0b,
                other => other,
            };
            from += 1;
        }
        text[to] = byte;
        to += 1;
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rowbridge_api::{Batch, Cell};

    fn escape(value: Option<&[u8]>) -> Vec<u8> {
        let Some(value) = value else {
            return b"\\N".to_vec();
        };
        let mut out = Vec::new();
        for byte in value {
            match byte {
                0x08 => out.extend(b"\\b"),
                0x0c => out.extend(b"\\f"),
                b'\n' => out.extend(b"\\n"),
                b'\r' => out.extend(b"\\r"),
                b'\t' => out.extend(b"\\t"),
                0x0b => out.extend(b"\\v"),
                b'\\' => out.extend(b"\\\\"),
                other => out.push(*other),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn a_copied_row_gives_back_its_values(
            row in prop::collection::vec(prop::option::of("[a\\\\N\t\n\r\u{8}\u{b}\u{c}é]{0,6}"), 1..6),
        ) {
            let text: Vec<Vec<u8>> =
                row.iter().map(|value| escape(value.as_ref().map(String::as_bytes))).collect();
            let mut batch = Batch { bytes: b"xx".to_vec(), ..Batch::default() };
            batch.bytes.extend(text.join(&b'\t'));
            batch.bytes.push(b'\n');
            let end = batch.bytes.len();
            let count = split_row(&mut batch.bytes, 2..end, &mut batch.cells);
            prop_assert_eq!(count, row.len());
            let change = Change {
                shape: ShapeId(0),
                op: Op::Read,
                before: Image::Absent,
                after: Image::Row { first_cell: 0 },
                width: u16::try_from(count).unwrap(),
                ordinal: 0,
            };
            let found = batch.after(&change).unwrap();
            for (index, value) in row.iter().enumerate() {
                let expected = value.as_ref().map_or(Cell::Null, |text| Cell::Value(text.as_bytes()));
                prop_assert_eq!(found.cell(index), expected);
            }
        }
    }
}
