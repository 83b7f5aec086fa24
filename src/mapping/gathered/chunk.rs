//! A part of a gathered transaction, and its bytes in a spool.

use rowbridge_api::{Batch, CellRange, Change, Image, Op, Row, ShapeId};

use super::Arrival;

/// Changes in their order, with copies of their rows.
#[derive(Debug, Default, PartialEq)]
pub(in crate::mapping) struct Chunk {
    pub(in crate::mapping) rows: Rows,
    pub(super) changes: Vec<GatheredChange>,
}

/// The rows of a chunk: a batch without items. Compares by its cells.
#[derive(Debug, Default)]
pub(in crate::mapping) struct Rows(pub(in crate::mapping) Batch);

/// One change that waits for its transaction's end.
#[derive(Clone, Copy, Debug)]
pub(super) struct GatheredChange {
    pub(super) change: Change,
    /// Its number among the transactions.
    pub(super) transaction: u32,
    pub(super) arrival: Arrival,
}

const OPS: [Op; 5] = [Op::Insert, Op::Update, Op::Delete, Op::Read, Op::Truncate];
/// Where a row begins that is absent.
const ABSENT: u32 = u32::MAX;

impl Chunk {
    /// Copies a row; where it is.
    pub(super) fn copy(&mut self, row: Option<Row<'_>>) -> Image {
        let Some(row) = row else {
            return Image::Absent;
        };
        let cells = (0..row.width()).map(|index| row.cell(index));
        self.rows.0.push_row(cells)
    }

    /// Appends its bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let Batch { bytes, cells, .. } = &self.rows.0;
        for length in [bytes.len(), cells.len(), self.changes.len()] {
            out.extend_from_slice(&number(length).to_le_bytes());
        }
        out.extend_from_slice(bytes);
        for cell in cells {
            for number in cell.to_numbers() {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        for gathered in &self.changes {
            gathered.write(out);
        }
    }

    /// The chunk of these bytes; nothing if they are none.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let lengths = [input.u32()?, input.u32()?, input.u32()?];
        let mut chunk = Self::default();
        let batch = &mut chunk.rows.0;
        batch.bytes.extend_from_slice(input.take(lengths[0])?);
        for _ in 0..lengths[1] {
            batch
                .cells
                .push(CellRange::from_numbers([input.u32()?, input.u32()?]));
        }
        for _ in 0..lengths[2] {
            chunk.changes.push(GatheredChange::read(&mut input)?);
        }
        input.0.is_empty().then_some(chunk)
    }
}

impl GatheredChange {
    fn write(&self, out: &mut Vec<u8>) {
        let change = &self.change;
        let first = |image| match image {
            Image::Absent => ABSENT,
            Image::Row { first_cell } => first_cell,
        };
        let op = OPS.iter().position(|op| *op == change.op);
        let (is_new, witness) = match self.arrival {
            Arrival::New { witness } => (1, witness),
            Arrival::Published => (0, 0),
        };
        for number in [
            change.shape.0,
            number(op.unwrap_or_default()),
            first(change.before),
            first(change.after),
            u32::from(change.width),
            self.transaction,
            is_new,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [change.ordinal, witness] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn read(input: &mut Input<'_>) -> Option<Self> {
        let image = |first_cell| match first_cell {
            ABSENT => Image::Absent,
            first_cell => Image::Row { first_cell },
        };
        let (shape, op) = (ShapeId(input.u32()?), input.u32()?);
        let (before, after) = (image(input.u32()?), image(input.u32()?));
        let width = u16::try_from(input.u32()?).ok()?;
        let (transaction, is_new) = (input.u32()?, input.u32()?);
        let (ordinal, witness) = (input.u64()?, input.u64()?);
        Some(Self {
            change: Change {
                shape,
                op: *OPS.get(op as usize)?,
                before,
                after,
                width,
                ordinal,
            },
            transaction,
            arrival: match is_new {
                0 => Arrival::Published,
                _ => Arrival::New { witness },
            },
        })
    }
}

fn number(length: usize) -> u32 {
    u32::try_from(length).expect("a chunk stays below 4 GiB")
}

/// Bytes that are yet to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: u32) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length as usize)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }

    fn u64(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }
}

impl PartialEq for Rows {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes == other.0.bytes && self.0.cells == other.0.cells
    }
}

impl PartialEq for GatheredChange {
    fn eq(&self, other: &Self) -> bool {
        let parts = |gathered: &Self| {
            let change = gathered.change;
            (
                (change.shape, change.op, change.before, change.after),
                (change.width, change.ordinal),
                (gathered.transaction, gathered.arrival),
            )
        };
        parts(self) == parts(other)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunks() -> impl Strategy<Value = Chunk> {
        let cell = proptest::option::of(proptest::option::of(".{0,12}"));
        let row = proptest::option::of(proptest::collection::vec(cell, 3));
        let change = (
            row.clone(),
            row,
            0..5_usize,
            any::<u64>(),
            any::<Option<u64>>(),
        );
        proptest::collection::vec(change, 0..20).prop_map(|changes| {
            let mut chunk = Chunk::default();
            for (before, after, op, ordinal, witness) in changes {
                let images = [before, after].map(|row| {
                    let mut batch = Batch::default();
                    for cell in row.iter().flatten() {
                        match cell {
                            Some(Some(text)) => batch.push_value(text.as_bytes()),
                            Some(None) => batch.cells.push(CellRange::NULL),
                            None => batch.cells.push(CellRange::UNAVAILABLE),
                        }
                    }
                    chunk.copy(row.map(|_| Row::new(&batch.bytes, &batch.cells)))
                });
                chunk.changes.push(GatheredChange {
                    change: Change {
                        shape: ShapeId(7),
                        op: OPS[op],
                        before: images[0],
                        after: images[1],
                        width: 3,
                        ordinal,
                    },
                    transaction: 1,
                    arrival: match witness {
                        Some(witness) => Arrival::New { witness },
                        None => Arrival::Published,
                    },
                });
            }
            chunk
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(chunk in chunks()) {
            let mut bytes = Vec::new();
            chunk.write(&mut bytes);
            prop_assert_eq!(Chunk::read(&bytes).unwrap(), chunk);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Chunk::read(&bytes);
        }
    }
}
