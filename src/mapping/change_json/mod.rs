//! Change JSON: captures, standard input and quarantine records as batches of changes.
//!
//! One JSON object per line: the change document of the mapping language without `row` and lookups, a
//! `{"commit": {..}}` that ends a transaction, a line of a capture ([`captured`]), or Debezium's envelope
//! ([`debezium`]). Reading is the
//! inverse of what a quarantine record writes, so one can be fixed by hand and tried again.
//!
//! Not here: files, standard input, and evaluation.

mod captured;
mod cell;
mod debezium;
mod node;
mod replay;
mod row_change;
mod tables;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rowbridge_api::{Batch, Kind, Op, Position};

use captured::{CaptureLine, Captured};
pub(crate) use cell::{checked as cell_from_text, from_json as cell_from_json};
pub(crate) use node::{Node, Object, Problem};
pub use replay::Replay;
pub(crate) use row_change::{BatchWriter, OwnedCell, RowChange, TransactionFacts};
pub use tables::{DeclaredTable, Tables};

/// What is wrong with a line of change JSON. Never carries a row value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct LineError {
    /// From 1.
    pub line: u64,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
}

/// What one line says.
enum Line {
    /// A blank line, a tombstone, a heartbeat.
    Nothing,
    Change(RowChange, TransactionFacts),
    Commit(Option<Position>),
    Capture(CaptureLine),
}

/// Reads change JSON line by line into batches.
#[derive(Debug)]
pub struct ChangeReader {
    tables: Arc<Tables>,
    writer: BatchWriter,
    line: u64,
    /// Where the input is a capture.
    capture: Option<Captured>,
}

impl ChangeReader {
    /// Reads changes of `tables`; each shape is announced before its first change.
    #[must_use]
    pub fn new(tables: Arc<Tables>) -> Self {
        Self {
            writer: BatchWriter::new(tables.len()),
            tables,
            line: 0,
            capture: None,
        }
    }

    /// Appends what `text`, one line, says. On an error the batch is as it was.
    ///
    /// # Errors
    /// The line is not change JSON, speaks of a table that the mapping does not declare, or has a cell
    /// that is not of its column's type.
    pub fn line(&mut self, text: &str, batch: &mut Batch) -> Result<(), LineError> {
        self.line += 1;
        let taken = self.read(text).and_then(|line| self.take(line, batch));
        taken.map_err(|problem| {
            let before = text.get(..problem.offset).unwrap_or(text);
            LineError {
                line: self.line,
                column: before.chars().count() + 1,
                message: problem.message,
            }
        })
    }

    fn take(&mut self, line: Line, batch: &mut Batch) -> Result<(), Problem> {
        if let Some(capture) = &mut self.capture {
            capture.count(&line)?;
        }
        match line {
            Line::Nothing => {}
            Line::Change(change, facts) => self.writer.change(&change, &facts, batch),
            Line::Commit(position) => self.writer.commit(position, batch),
            Line::Capture(line) => self.captured(line)?,
        }
        Ok(())
    }

    /// Ends the transaction that the last line left open.
    pub fn end(&mut self, batch: &mut Batch) {
        self.writer.commit(None, batch);
    }

    fn read(&self, text: &str) -> Result<Line, Problem> {
        if text.trim().is_empty() {
            return Ok(Line::Nothing);
        }
        let root = Node::parse(text)?;
        if root.is_null() {
            return Ok(Line::Nothing); // the tombstone that follows a delete on a Debezium topic
        }
        let object = root.object()?;
        if let Some(commit) = object.get("commit") {
            return Ok(Line::Commit(position_in(&commit.object()?)?));
        }
        if let Some(line) = captured::read(&object)? {
            return Ok(Line::Capture(line));
        }
        if debezium::is_envelope(&object) {
            return debezium::read(&object, &self.tables);
        }
        change(&object, &self.tables)
    }
}

fn change(object: &Object<'_>, tables: &Tables) -> Result<Line, Problem> {
    let op_at = object.require("op")?;
    let op = op_named(&op_at.string()?)
        .ok_or_else(|| op_at.problem("`op` is one of insert, update, delete, read, truncate"))?;
    let table_at = object.require("table")?;
    let name = table_at.string()?;
    let table = tables.named(&name).ok_or_else(|| {
        table_at.problem(format!(
            "the mapping declares no table `{name}`; it has {}",
            tables.short_names()
        ))
    })?;
    let protected = protected(object, table)?;
    let image = |name: &str| {
        let image = object.get(name);
        let cells = image.map(|node| image_cells(node, table, &protected));
        cells.transpose()
    };
    let mut before = image("before")?;
    if before.is_none() && op == Op::Delete {
        before = image("key")?;
    }
    let mut change = RowChange {
        shape: Arc::clone(&table.shape),
        op,
        before,
        after: image("after")?,
    };
    if let Some(unavailable) = object.get("unavailable") {
        for at in unavailable.array()? {
            hide(&mut change, table, at)?;
        }
    }
    for member in ["invalid", "bytes"] {
        let Some(cells) = object.get(member) else {
            continue;
        };
        for (path, raw) in cells.object()?.members {
            restore(&mut change, table, &path, raw)?;
        }
    }
    change
        .complete()
        .map_err(|message| object.at.problem(message))?;
    Ok(Line::Change(change, facts(object)?))
}

/// The operation that mappings and change JSON call `word`.
pub(crate) fn op_named(word: &str) -> Option<Op> {
    [Op::Insert, Op::Update, Op::Delete, Op::Read, Op::Truncate]
        .into_iter()
        .find(|op| op.as_str() == word)
}

/// The cells of an image. Columns that schema.toml does not list are skipped (a capture has the whole
/// row); listed ones that are not there are unavailable, never null.
fn image_cells(
    image: Node<'_>,
    table: &DeclaredTable,
    protected: &[usize],
) -> Result<Vec<OwnedCell>, Problem> {
    let mut cells = RowChange::unavailable_row(&table.shape);
    for (name, value) in image.object()?.members {
        let index = table.column(&name);
        if let Some(index) = index.filter(|index| !protected.contains(index)) {
            cells[index] = cell_from_json(&table.shape.columns[index].ty, value.text())
                .map_err(|message| value.problem(format!("`{name}`: {message}")))?;
        }
    }
    Ok(cells)
}

/// The columns that are protected and cannot hold the text that became of them: their values are not known any more.
fn protected(object: &Object<'_>, table: &DeclaredTable) -> Result<Vec<usize>, Problem> {
    let Some(protected) = object.get("protected") else {
        return Ok(Vec::new());
    };
    let mut columns = Vec::new();
    for at in protected.array()? {
        let path = at.string()?;
        let column = path.split_once('.').map_or("", |(_, column)| column);
        let index = table.column(column);
        columns.extend(index.filter(|index| {
            let ty = &table.shape.columns[*index].ty;
            !matches!(ty.kind, Kind::Text | Kind::Char | Kind::Json)
        }));
    }
    Ok(columns)
}

/// Puts back a cell that is not a value of its type, or that JSON cannot keep: the source's bytes in base64.
fn restore(
    change: &mut RowChange,
    table: &DeclaredTable,
    path: &str,
    raw: Node<'_>,
) -> Result<(), Problem> {
    let bytes = STANDARD
        .decode(raw.string()?)
        .map_err(|_| raw.problem("expected base64"))?;
    if let Some(cell) = cell_at(change, table, path).map_err(|message| raw.problem(message))? {
        *cell = OwnedCell::Value(bytes);
    }
    Ok(())
}

/// Makes the cell that `at` names (`"before.notes"`) unavailable.
fn hide(change: &mut RowChange, table: &DeclaredTable, at: Node<'_>) -> Result<(), Problem> {
    let path = at.string()?;
    if let Some(cell) = cell_at(change, table, &path).map_err(|message| at.problem(message))? {
        *cell = OwnedCell::Unavailable;
    }
    Ok(())
}

/// The cell at a path such as `before.notes`, if the image is there and schema.toml has the column.
fn cell_at<'c>(
    change: &'c mut RowChange,
    table: &DeclaredTable,
    path: &str,
) -> Result<Option<&'c mut OwnedCell>, &'static str> {
    let (image, column) = path
        .split_once('.')
        .ok_or("expected an image and a column, as in `before.notes`")?;
    let cells = match image {
        "before" => &mut change.before,
        "after" => &mut change.after,
        _ => return Err("expected `before.` or `after.` and a column"),
    };
    let index = table.column(column);
    Ok(cells
        .as_mut()
        .zip(index)
        .map(|(cells, index)| &mut cells[index]))
}

fn facts(object: &Object<'_>) -> Result<TransactionFacts, Problem> {
    let mut facts = TransactionFacts::default();
    if let Some(tx) = object.get("tx") {
        let tx = tx.object()?;
        if let Some(id) = tx.get("id") {
            let word = if id.is_string() {
                id.string()?
            } else {
                id.text().to_owned()
            };
            facts.id = word.parse().ok();
            facts.group = Some(word);
        }
        facts.commit_micros = tx.get("time").map(time).transpose()?;
        facts.ordinal = tx.get("ordinal").map(ordinal).transpose()?;
    }
    if let Some(source) = object.get("source").filter(|source| source.is_object()) {
        facts.position = position_in(&source.object()?)?;
    }
    if facts.position.is_none() {
        facts.position = position_in(object)?;
    }
    Ok(facts)
}

fn position_in(object: &Object<'_>) -> Result<Option<Position>, Problem> {
    let Some(at) = object.get("position") else {
        return Ok(None);
    };
    let position: Position = at
        .string()?
        .parse()
        .map_err(|error: rowbridge_api::ParsePositionError| at.problem(error.to_string()))?;
    if position.order() > MAX_ORDER {
        return Err(at.problem(TOO_FAR));
    }
    Ok(Some(position))
}

/// Positions count up from the last one that the input names; no server comes so far that this ends.
const MAX_ORDER: u64 = u64::MAX / 2;
const TOO_FAR: &str = "a position past all that a server can reach";

/// As many changes of a transaction as an event's sequence can number.
const MAX_ORDINAL: u64 = (1 << 48) - 1;

fn ordinal(at: Node<'_>) -> Result<u64, Problem> {
    let ordinal = at.integer()?;
    if ordinal > MAX_ORDINAL {
        return Err(at.problem("more changes than a transaction can have"));
    }
    Ok(ordinal)
}

/// An RFC 3339 time as microseconds since 1970-01-01 UTC.
fn time(at: Node<'_>) -> Result<i64, Problem> {
    micros(&at.string()?).ok_or_else(|| at.problem("expected a time as in 2026-12-01T10:15:00Z"))
}

/// An RFC 3339 time as microseconds since 1970-01-01 UTC.
pub(crate) fn micros(text: &str) -> Option<i64> {
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    Some(timestamp.as_microsecond())
}
