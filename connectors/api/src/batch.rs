//! One buffer of source bytes, cells as ranges into it, changes and markers in source order.
//!
//! A batch is what crosses the channel from a source to the mapper. Nothing in it is allocated per row or
//! per cell, and its vectors are recycled. A cell stays in the source's text form (for PostgreSQL the text
//! output of the type) until a rule reads it; see [`crate::value`].

use std::fmt;
use std::sync::Arc;

use crate::position::Position;
use crate::shape::{Shape, ShapeId};

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Insert,
    Update,
    Delete,
    /// The row existed at first start.
    Read,
    Truncate,
}

impl Op {
    /// The word for it in mappings, metrics and change JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Read => "read",
            Self::Truncate => "truncate",
        }
    }
}

/// Where one cell's bytes are in its batch's buffer, or why there are none. Eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellRange {
    start: u32,
    len: u32,
}

impl CellRange {
    const NULL_LEN: u32 = u32::MAX;
    const UNAVAILABLE_LEN: u32 = u32::MAX - 1;

    pub const NULL: Self = Self {
        start: 0,
        len: Self::NULL_LEN,
    };
    pub const UNAVAILABLE: Self = Self {
        start: 0,
        len: Self::UNAVAILABLE_LEN,
    };

    /// A value of `len` bytes at `start` of the batch's buffer. A source keeps its batches under 2 GiB.
    #[must_use]
    pub const fn value(start: u32, len: u32) -> Self {
        assert!(len < Self::UNAVAILABLE_LEN, "a cell is shorter than 4 GiB");
        Self { start, len }
    }

    /// As numbers, to be put away and made again with [`CellRange::from_numbers`].
    #[must_use]
    pub const fn to_numbers(self) -> [u32; 2] {
        [self.start, self.len]
    }

    #[must_use]
    pub const fn from_numbers([start, len]: [u32; 2]) -> Self {
        Self { start, len }
    }

    /// The value in its batch's buffer; nothing for null and for unavailable.
    #[must_use]
    pub fn bytes(self, buffer: &[u8]) -> Option<&[u8]> {
        (self.len < Self::UNAVAILABLE_LEN)
            .then(|| &buffer[self.start as usize..][..self.len as usize])
    }
}

/// One cell as a rule sees it before decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// The value in the source's text form.
    Value(&'a [u8]),
    Null,
    /// The source did not send it: unchanged TOAST, a non-key cell of a key-only old tuple, a missing
    /// pre-image. In the after image of an update it also says that the cell did not change.
    Unavailable,
}

/// A row image: absent (an insert has no before), or cells following the change's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    Absent,
    /// Index of the row's first cell in the batch.
    Row {
        first_cell: u32,
    },
}

/// One row's change.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub shape: ShapeId,
    pub op: Op,
    /// For an update without any old tuple: a row whose cells are unavailable but for the (unchanged) key.
    pub before: Image,
    pub after: Image,
    /// Number of cells in each image: the shape's columns.
    pub width: u16,
    /// Number of this change in its transaction as the source sent it, from 0.
    pub ordinal: u64,
}

/// The transaction that the following changes belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The source's number for it (PostgreSQL: xid; 0 for a snapshot).
    pub id: u64,
    /// Where it committed; known before its changes (PostgreSQL: `final_lsn` of BEGIN). Unique in the
    /// source and rising; less than the [`Commit::position`] that ends it. A snapshot: its own position.
    pub position: Position,
    /// When it committed, in microseconds since 1970-01-01 UTC.
    pub commit_micros: i64,
}

/// The end of a transaction, or an idle position (no transaction open, nothing of ours before it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// From where the source would go on (PostgreSQL: the commit's end LSN).
    pub position: Position,
}

/// What a batch holds, in source order.
#[derive(Clone, Debug)]
pub enum Item {
    /// Changes with this shape's id may follow, in this batch and in later ones.
    Shape(Arc<Shape>),
    Begin(Transaction),
    Change(Change),
    Commit(Commit),
    /// All existing rows were read; the stream follows from this position.
    SnapshotEnd(Position),
}

/// One buffer of source bytes with the cells, changes and markers in it. See the module's documentation.
/// Prints without its rows.
#[derive(Default)]
pub struct Batch {
    /// Raw source bytes; cells are ranges into them. A source may read its socket straight into it.
    pub bytes: Vec<u8>,
    pub cells: Vec<CellRange>,
    pub items: Vec<Item>,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("bytes", &self.bytes.len())
            .field("cells", &self.cells.len())
            .field("items", &self.items)
            .finish()
    }
}

impl Batch {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.cells.clear();
        self.items.clear();
    }

    /// Nothing to send: no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Appends `value` to the buffer and a cell for it. For sources that do not decode in place.
    ///
    /// # Panics
    /// Past 4 GiB in one batch, which no source builds.
    pub fn push_value(&mut self, value: &[u8]) {
        let start = u32::try_from(self.bytes.len()).expect("a batch stays below 4 GiB");
        let len = u32::try_from(value.len()).expect("a batch stays below 4 GiB");
        self.bytes.extend_from_slice(value);
        self.cells.push(CellRange::value(start, len));
    }

    /// Appends a row with these cells, for a [`Change`] of as many columns. For sources that do not decode in place.
    ///
    /// # Panics
    /// As [`Batch::push_value`].
    pub fn push_row<'a>(&mut self, cells: impl IntoIterator<Item = Cell<'a>>) -> Image {
        let first_cell = u32::try_from(self.cells.len()).expect("a batch stays below 4 GiB");
        for cell in cells {
            match cell {
                Cell::Value(value) => self.push_value(value),
                Cell::Null => self.cells.push(CellRange::NULL),
                Cell::Unavailable => self.cells.push(CellRange::UNAVAILABLE),
            }
        }
        Image::Row { first_cell }
    }

    /// The row of `image`, or nothing if it is absent.
    #[must_use]
    pub fn row(&self, change: &Change, image: Image) -> Option<Row<'_>> {
        match image {
            Image::Absent => None,
            Image::Row { first_cell } => {
                let first = first_cell as usize;
                Some(Row {
                    bytes: &self.bytes,
                    cells: &self.cells[first..first + usize::from(change.width)],
                })
            }
        }
    }

    #[must_use]
    pub fn before(&self, change: &Change) -> Option<Row<'_>> {
        self.row(change, change.before)
    }

    #[must_use]
    pub fn after(&self, change: &Change) -> Option<Row<'_>> {
        self.row(change, change.after)
    }
}

/// The cells of one row image. Prints without them.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    bytes: &'a [u8],
    cells: &'a [CellRange],
}

impl fmt::Debug for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row")
            .field("cells", &self.cells.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Row<'a> {
    /// A row whose cells are ranges of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8], cells: &'a [CellRange]) -> Self {
        Self { bytes, cells }
    }

    /// The cell of column `index` of the change's shape.
    #[must_use]
    #[inline]
    pub fn cell(&self, index: usize) -> Cell<'a> {
        let range = self.cells[index];
        match range.len {
            CellRange::NULL_LEN => Cell::Null,
            CellRange::UNAVAILABLE_LEN => Cell::Unavailable,
            len => Cell::Value(&self.bytes[range.start as usize..][..len as usize]),
        }
    }

    #[must_use]
    pub const fn width(&self) -> usize {
        self.cells.len()
    }
}
