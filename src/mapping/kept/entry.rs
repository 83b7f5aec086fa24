//! The bytes of kept entries: keys, rows and shapes.

use std::io::Write as _;
use std::sync::Arc;

use rowbridge_api::{Cell, CellRange, Column, Kind, Row, Shape, ShapeId, Type};
use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_64;

use super::description::Description;
use crate::mapping::bind::Bound;
use crate::mapping::others::Buffer;
use crate::mapping::rule::Table;

/// A row by its key.
pub(super) const ROW: &str = "row";
/// By the columns of an index, the keys of the rows: one, but for moments inside a transaction.
pub(super) const INDEX: &str = "index";
/// Names and types of the columns of kept rows.
pub(super) const SHAPE: &str = "shape";
/// In the place of a hash: the shape that came last.
pub(super) const NOW: &str = "now";
/// The last event of a type of one entity.
pub(super) const EVENT: &str = "event";

/// A longer key is cut, and says by a digest what is missing: stores take no more than 65,535 bytes.
const LONGEST_KEY_BYTES: usize = 32 << 10;
/// What is left of it: more than what it is and whose, by which keys are found together.
const CUT_KEY_BYTES: usize = 2 << 10;

/// A length that says: null.
const NULL: u32 = u32::MAX;
/// A length that says: unavailable.
const UNAVAILABLE: u32 = u32::MAX - 1;

/// An entry's key: words and texts, each ended by a zero byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Key(Vec<u8>);

impl Key {
    /// Starts over with what it is and whose.
    pub(super) fn begin(&mut self, kind: &str, table: &Table) -> &mut Self {
        self.begin_generation(kind, table, table.generation)
    }

    /// As [`Key::begin`], of another generation of the table's rows. It is a part of what it is, so that no generation's
    /// keys begin as another's do.
    pub(super) fn begin_generation(
        &mut self,
        kind: &str,
        table: &Table,
        generation: u32,
    ) -> &mut Self {
        self.0.clear();
        self.0.extend_from_slice(kind.as_bytes());
        // Ids of events outlive the rows that they were made of.
        if generation > 0 && kind != EVENT {
            let _ = write!(self.0, ".{generation}");
        }
        self.0.push(0);
        self.part(table.source.schema.as_bytes());
        self.part(table.source.name.as_bytes())
    }

    /// Starts over with an index of a table: it is known by its columns, wherever the mapping lists it.
    pub(super) fn begin_index(&mut self, table: &Table, slots: &[u16]) -> &mut Self {
        let name = table.names_of(slots);
        self.begin(INDEX, table).part(name.as_bytes())
    }

    /// Appends a part; none is mistaken for two.
    pub(super) fn part(&mut self, part: &[u8]) -> &mut Self {
        for &byte in part {
            match byte {
                0 | 1 => self.0.extend([1, b'0' + byte]),
                byte => self.0.push(byte),
            }
        }
        self.0.push(0);
        if self.0.len() > LONGEST_KEY_BYTES {
            let digest = Sha256::digest(&self.0);
            self.0.truncate(CUT_KEY_BYTES);
            // As no part is written, so that no other key is the same.
            self.0.push(1);
            for byte in digest {
                let _ = write!(self.0, "{byte:02x}");
            }
            self.0.push(0);
        }
        self
    }

    /// Appends a cell in the form that equal values share.
    pub(super) fn cell(&mut self, ty: &Type, raw: &[u8]) -> bool {
        let mut text = Vec::new();
        if ty.write_text(raw, &mut text).is_err() {
            return false;
        }
        self.part(canonical(ty, &mut text));
        true
    }

    /// The key of a row of a table; false if a part of it has no value.
    pub(super) fn of_row(&mut self, table: &Table, bound: &Bound, row: Option<Row<'_>>) -> bool {
        self.begin(ROW, table);
        row.is_some_and(|row| self.cells(&table.key, bound, row))
    }

    /// Appends these columns of a row; false if one of them has no value.
    pub(super) fn cells(&mut self, slots: &[u16], bound: &Bound, row: Row<'_>) -> bool {
        !slots.is_empty()
            && slots.iter().all(|slot| {
                let Some((ty, index)) = bound.column(*slot) else {
                    return false;
                };
                match row.cell(index) {
                    Cell::Value(raw) => self.cell(ty, raw),
                    Cell::Null | Cell::Unavailable => false,
                }
            })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The form of a value's text that all equal values share: `7`, `7.0` and `7.00` are one number, and the blanks at the
/// end of a `char(n)` do not count.
pub(in crate::mapping) fn canonical<'t>(ty: &Type, text: &'t mut Vec<u8>) -> &'t [u8] {
    if ty.kind == Kind::Char {
        let blanks = text.iter().rev().take_while(|byte| **byte == b' ').count();
        text.truncate(text.len() - blanks);
    }
    if ty.kind == Kind::Decimal && text.contains(&b'.') {
        let zeros = text.iter().rev().take_while(|byte| **byte == b'0').count();
        text.truncate(text.len() - zeros);
        if text.last() == Some(&b'.') {
            text.pop();
        }
        if text == b"-0" {
            text.remove(0);
        }
    }
    text
}

/// How the rows of one shape are kept.
#[derive(Debug)]
pub(in crate::mapping) struct KeptShape {
    /// Of names and types.
    pub(super) hash: u64,
    /// Slot and index in the shape of each column that is kept, in the order in which they are.
    pub(super) columns: Box<[(u16, usize)]>,
    /// What is put under [`SHAPE`].
    pub(super) description: Box<[u8]>,
}

impl KeptShape {
    /// How rows of `shape` are kept for a table, where they are.
    pub(in crate::mapping) fn of(
        table: &Table,
        shape: &Shape,
        indexes: &[Option<u16>],
    ) -> Option<Self> {
        let columns: Box<[(u16, usize)]> = table
            .kept
            .as_ref()?
            .0
            .iter()
            .filter_map(|slot| Some((*slot, usize::from(indexes[usize::from(*slot)]?))))
            .collect();
        let kept = columns.iter().map(|(_, index)| &shape.columns[*index]);
        let description = Description::of(shape, kept).encode();
        Some(Self {
            hash: xxh3_64(&description),
            columns,
            description: description.into(),
        })
    }
}

/// How rows that are kept in a described shape are read: without the columns that a change of their table has made
/// doubtful since.
pub(super) fn bound_as_described(
    table: &Table,
    number: usize,
    description: &[u8],
    now: Option<&[u8]>,
) -> Option<Bound> {
    let then = Description::decode(description)?;
    let now = match now {
        Some(now) => Some(Description::decode(now)?),
        None => None,
    };
    let is_certain = |index: usize| match &now {
        Some(now) => now.vouches_for(index, &then),
        None => true,
    };
    let indexes = table.columns.iter().map(|declared| {
        let index = then.index_of(&declared.name)?;
        u16::try_from(index).ok().filter(|_| is_certain(index))
    });
    let indexes = indexes.collect();
    let columns = then.columns.iter().map(|(name, ty)| Column {
        name: name.clone(),
        ty: Type::parse(ty),
        key: false,
    });
    let shape = Shape {
        id: ShapeId(0),
        table: table.source.clone(),
        table_id: None,
        columns: columns.collect(),
    };
    Some(Bound::of_kept(Arc::new(shape), number, indexes))
}

/// Begins a row of a shape.
pub(super) fn begin_row(hash: u64, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&hash.to_le_bytes());
}

/// Appends a cell to a row.
pub(super) fn push_cell(cell: Cell<'_>, out: &mut Vec<u8>) {
    let length = match cell {
        Cell::Value(raw) => u32::try_from(raw.len()).expect("a cell is shorter than 4 GiB"),
        Cell::Null => NULL,
        Cell::Unavailable => UNAVAILABLE,
    };
    out.extend_from_slice(&length.to_le_bytes());
    if let Cell::Value(raw) = cell {
        out.extend_from_slice(raw);
    }
}

/// The hash of a row's shape.
pub(super) fn hash_of(row: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*row.first_chunk()?))
}

/// Reads a row's cells; nothing if the bytes are no row.
pub(super) fn read_row(row: &[u8], into: &mut Buffer) -> Option<()> {
    into.bytes.clear();
    into.bytes.extend_from_slice(row);
    into.cells.clear();
    let mut at = size_of::<u64>();
    while at < row.len() {
        let length = u32::from_le_bytes(*row[at..].first_chunk()?);
        at += size_of::<u32>();
        into.cells.push(match length {
            NULL => CellRange::NULL,
            UNAVAILABLE => CellRange::UNAVAILABLE,
            length => {
                let start = u32::try_from(at).ok()?;
                at += length as usize;
                CellRange::value(start, length)
            }
        });
    }
    (at == row.len()).then_some(())
}

/// Most rows that an index lists under one value. It finds one, so there are more only inside a transaction, or where the
/// mapping calls an index what is none.
const LISTED: usize = 8;

/// Adds the key of a row to those that an index lists under one value.
pub(super) fn list(key: &[u8], listed: &mut Vec<u8>) {
    unlist(key, listed);
    if keys(listed).count() == LISTED {
        let first = keys(listed).next().map(<[u8]>::to_vec);
        unlist(&first.unwrap_or_default(), listed);
    }
    let length = u32::try_from(key.len()).expect("a key is shorter than 4 GiB");
    listed.extend_from_slice(&length.to_le_bytes());
    listed.extend_from_slice(key);
}

/// Takes the key of a row out of those that an index lists; false if it is not there.
pub(super) fn unlist(key: &[u8], listed: &mut Vec<u8>) -> bool {
    let length_of = |key: &[u8]| size_of::<u32>() + key.len();
    let Some(number) = keys(listed).position(|known| known == key) else {
        return false;
    };
    let at: usize = keys(listed).take(number).map(length_of).sum();
    listed.drain(at..at + length_of(key));
    true
}

/// The key of the row that came last under a value.
pub(super) fn last_listed(listed: &[u8]) -> Option<&[u8]> {
    keys(listed).last()
}

fn keys(mut listed: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = listed.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        listed = rest;
        Some(key)
    })
}
