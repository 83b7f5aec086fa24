//! A change as JSON: the document of docs/mapping.md section 1 without `row`, for quarantine and captures.
//!
//! A cell that is unavailable is left out and listed under `unavailable`; one that is not a value of its
//! type is left out and kept under `invalid` as base64 of the source's bytes, so that nothing is lost and
//! nothing is made up. What the mapping protects is written protected and listed under `protected`, and what does not
//! leave is not there.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rowbridge_api::{Batch, Cell, Change, Identity, Kind, Row, Shape, Transaction, Type, Value};
use serde_json::value::RawValue;

use super::privacy::{Form, HashKey, Shield};
use super::rule::Table;

/// What a change document is written from.
#[derive(Clone, Copy, Debug)]
pub struct ChangeDocument<'a> {
    /// The table as the document names it: the mapping's short name, or `schema.name`.
    pub table: &'a str,
    pub shape: &'a Shape,
    pub batch: &'a Batch,
    pub tx: &'a Transaction,
    pub change: &'a Change,
    pub identity: &'a Identity,
    pub protection: Protection<'a>,
}

/// What of a change leaves, and how.
#[derive(Clone, Copy, Debug)]
pub struct Protection<'a>(Option<(&'a Table, Option<&'a HashKey>)>);

impl<'a> Protection<'a> {
    /// Everything leaves as it is.
    pub const NONE: Self = Self(None);

    /// As the mapping's table says.
    pub(super) const fn of(table: &'a Table, key: Option<&'a HashKey>) -> Self {
        Self(Some((table, key)))
    }

    /// Whether a column leaves at all.
    pub(super) fn lets_out(self, column: &str) -> bool {
        self.of_column(column).is_some()
    }

    /// What protects a column, and the key for it; `None` if it is left out.
    fn of_column(self, column: &str) -> Option<(Shield, Option<&'a HashKey>)> {
        match self.0 {
            None => Some((Shield::default(), None)),
            Some((table, key)) => Some((table.privacy.shown(table.slot(column))?, key)),
        }
    }
}

/// Whether the images are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    With,
    /// Key and position only, for records that would be too long.
    Without,
}

/// Which cells are written, and how.
#[derive(Clone, Copy)]
enum Cells<'a> {
    /// All, as values of JSON.
    Values,
    /// Those of these columns, so that they are read back as the same bytes.
    Exact(&'a [usize]),
}

impl Cells<'_> {
    fn has(self, column: usize) -> bool {
        match self {
            Self::Values => true,
            Self::Exact(columns) => columns.contains(&column),
        }
    }
}

/// Cells that could not be written as values.
#[derive(Default)]
struct Missing<'a> {
    unavailable: Vec<String>,
    /// Written as something else than the source sent.
    protected: Vec<String>,
    invalid: Vec<(String, &'a [u8])>,
    /// Values whose text JSON cannot keep.
    bytes: Vec<(String, &'a [u8])>,
}

impl<'a> ChangeDocument<'a> {
    /// Appends the document as one JSON object on one line.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_members(Rows::With, out);
        out.push(b'}');
    }

    /// Appends the document as one line of a capture: the cells of `columns` alone, each in the source's own text, so
    /// that they are read back as the same bytes.
    pub fn write_exact(&self, columns: &[usize], out: &mut Vec<u8>) {
        self.write_in(Rows::With, Cells::Exact(columns), out);
        out.push(b'}');
    }

    /// Appends the document without its closing brace, so that members may follow.
    pub fn write_members(&self, rows: Rows, out: &mut Vec<u8>) {
        self.write_in(rows, Cells::Values, out);
    }

    fn write_in(&self, rows: Rows, cells: Cells<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"op\":\"");
        out.extend_from_slice(self.change.op.as_str().as_bytes());
        out.extend_from_slice(b"\",\"table\":");
        write_string(self.table, out);
        let (before, after) = (
            self.batch.before(self.change),
            self.batch.after(self.change),
        );
        let mut missing = Missing::default();
        if let Some(row) = after.or(before) {
            self.write_key(row, out, &mut missing);
        }
        if rows == Rows::With {
            if let Some(row) = before {
                self.write_image("before", row, cells, out, &mut missing);
            }
            if let Some(row) = after {
                self.write_image("after", row, cells, out, &mut missing);
            }
        }
        self.write_origin(out);
        missing.write(out);
    }

    /// The parts of the key that are there, of the current image or else the old one.
    fn write_key(&self, row: Row<'a>, out: &mut Vec<u8>, missing: &mut Missing<'a>) {
        out.extend_from_slice(b",\"key\":{");
        let mut first = true;
        for (index, column) in self
            .shape
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.key)
        {
            let Cell::Value(raw) = row.cell(index) else {
                continue;
            };
            let Some((shield, key)) = self.protection.of_column(&column.name) else {
                continue;
            };
            let (before, was_first) = (out.len(), first);
            write_name(&column.name, &mut first, out);
            if shield
                .write_cell(&column.ty, raw, Form::Json, key, out)
                .is_err()
            {
                out.truncate(before);
                first = was_first;
            } else if !shield.is_empty() {
                missing.protected.push(format!("key.{}", column.name));
            }
        }
        out.push(b'}');
    }

    fn write_image(
        &self,
        side: &str,
        row: Row<'a>,
        cells: Cells<'_>,
        out: &mut Vec<u8>,
        missing: &mut Missing<'a>,
    ) {
        out.push(b',');
        write_string(side, out);
        out.extend_from_slice(b":{");
        let mut first = true;
        let columns = self.shape.columns.iter().enumerate();
        for (index, column) in columns.filter(|(index, _)| cells.has(*index)) {
            let (start, was_first) = (out.len(), first);
            let Some((shield, key)) = self.protection.of_column(&column.name) else {
                continue;
            };
            match row.cell(index) {
                Cell::Unavailable => missing.unavailable.push(format!("{side}.{}", column.name)),
                Cell::Null => {
                    write_name(&column.name, &mut first, out);
                    out.extend_from_slice(b"null");
                }
                Cell::Value(raw) => {
                    write_name(&column.name, &mut first, out);
                    let written = match (shield.is_empty(), cells) {
                        (true, Cells::Values) => write_value(&column.ty, raw, out),
                        (true, Cells::Exact(_)) => write_text(&column.ty, raw, out),
                        (false, _) => write_protected(&shield, &column.ty, raw, key, out),
                    };
                    let name = format!("{side}.{}", column.name);
                    match written {
                        Written::Value => continue,
                        Written::Protected => {
                            missing.protected.push(name);
                            continue;
                        }
                        Written::Not => missing.invalid.push((name, raw)),
                        Written::Inexact => missing.bytes.push((name, raw)),
                        Written::Lost => missing.unavailable.push(name),
                    }
                    out.truncate(start);
                    first = was_first;
                }
            }
        }
        out.push(b'}');
    }

    fn write_origin(&self, out: &mut Vec<u8>) {
        write!(out, ",\"tx\":{{\"id\":{},\"time\":", self.tx.id)
            .expect("writing to memory cannot fail");
        Value::TimestampTz(self.tx.commit_micros).write_json(out);
        write!(
            out,
            ",\"ordinal\":{}}},\"source\":{{\"name\":",
            self.change.ordinal
        )
        .expect("writing to memory cannot fail");
        write_string(&self.identity.source, out);
        write!(out, ",\"position\":\"{}\"}}", self.tx.position)
            .expect("writing to memory cannot fail");
    }
}

impl Missing<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        if !self.unavailable.is_empty() {
            out.extend_from_slice(b",\"unavailable\":");
            write_json(&self.unavailable, out);
        }
        if !self.protected.is_empty() {
            out.extend_from_slice(b",\"protected\":");
            write_json(&self.protected, out);
        }
        for (member, cells) in [("invalid", &self.invalid), ("bytes", &self.bytes)] {
            if cells.is_empty() {
                continue;
            }
            write!(out, ",\"{member}\":{{").expect("writing to memory cannot fail");
            let mut first = true;
            for (name, raw) in cells {
                write_name(name, &mut first, out);
                write_string(&STANDARD.encode(raw), out);
            }
            out.push(b'}');
        }
    }
}

/// What became of a cell.
enum Written {
    Value,
    /// It leaves as something else.
    Protected,
    /// It could not be protected, and the source's bytes would leave in the clear.
    Lost,
    /// It is not a value of its type.
    Not,
    /// It would be read back as other bytes.
    Inexact,
}

fn write_protected(
    shield: &Shield,
    ty: &Type,
    raw: &[u8],
    key: Option<&HashKey>,
    out: &mut Vec<u8>,
) -> Written {
    let start = out.len();
    if shield.write_cell(ty, raw, Form::Json, key, out).is_err() {
        return Written::Lost;
    }
    keep_on_one_line(&mut out[start..]);
    Written::Protected
}

fn write_value(ty: &Type, raw: &[u8], out: &mut Vec<u8>) -> Written {
    let start = out.len();
    if ty.write_json(raw, out).is_err() {
        return Written::Not;
    }
    keep_on_one_line(&mut out[start..]);
    Written::Value
}

/// A cell in its own text: as a string, but for JSON, and for numbers and booleans that JSON spells alike.
fn write_text(ty: &Type, raw: &[u8], out: &mut Vec<u8>) -> Written {
    let text = match std::str::from_utf8(raw) {
        Ok(text) if ty.write_json(raw, &mut Vec::new()).is_ok() => text,
        _ => return Written::Not,
    };
    match ty.kind {
        Kind::Json if is_same_in_line(text) => out.extend_from_slice(raw),
        Kind::Json => return Written::Inexact,
        Kind::Bytes if !text.starts_with("\\x") => return Written::Inexact,
        Kind::Bool if text == "t" => out.extend_from_slice(b"true"),
        Kind::Bool if text == "f" => out.extend_from_slice(b"false"),
        Kind::Int
            if text
                .parse::<i64>()
                .is_ok_and(|number| number.to_string() == text) =>
        {
            out.extend_from_slice(raw);
        }
        _ => write_string(text, out),
    }
    Written::Value
}

/// Whether a JSON text is found again where it stands in a line: on one line, without space around it, and not the
/// null that means that there is no value.
fn is_same_in_line(json: &str) -> bool {
    let found = serde_json::from_str::<&RawValue>(json);
    found.is_ok_and(|found| found.get() == json) && json != "null" && !json.contains(['\n', '\r'])
}

/// A `json` cell is as it was stored, and may spread over lines. In JSON a bare line break is always white space.
fn keep_on_one_line(json: &mut [u8]) {
    for byte in json.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
}

fn write_name(name: &str, first: &mut bool, out: &mut Vec<u8>) {
    if !std::mem::take(first) {
        out.push(b',');
    }
    write_string(name, out);
    out.push(b':');
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    write_json(text, out);
}

fn write_json(value: &(impl serde::Serialize + ?Sized), out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("writing JSON to memory cannot fail");
}
