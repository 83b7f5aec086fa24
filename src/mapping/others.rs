//! Rows beside the change's own, as a rule reads them: what was looked up, and the parts of a transaction.

use std::ops::Range;
use std::sync::Arc;

use rowbridge_api::{Batch, Cell, CellRange, Change, Op, Row};

use super::bind::Bound;
use super::fault::Fault;
use super::rule::Side;

/// The other rows of one rule, by number; memory kept from rule to rule.
#[derive(Debug, Default)]
pub(super) struct Others {
    rows: Vec<Slot>,
    /// How many of `rows` belong to the rule at hand.
    used: usize,
}

/// One other row, or the fact that there is none.
#[derive(Debug)]
struct Slot {
    name: Arc<str>,
    /// Number of its table in the mapping.
    table: usize,
    row: Buffer,
    bound: Option<Arc<Bound>>,
    /// Why reading it is an error, where there is none and there should be.
    fault: Option<Fault>,
    /// Its images as ranges of cells.
    before: Option<Range<usize>>,
    after: Option<Range<usize>>,
    /// Which of them is the current one.
    current: Side,
}

/// A row's cells with the bytes they are ranges of. Prints without them.
#[derive(Default)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    pub(super) cells: Vec<CellRange>,
}

impl Buffer {
    pub(super) fn row(&self) -> Row<'_> {
        Row::new(&self.bytes, &self.cells)
    }

    fn part(&self, cells: Range<usize>) -> Row<'_> {
        Row::new(&self.bytes, &self.cells[cells])
    }

    fn push(&mut self, cell: Cell<'_>) {
        self.cells.push(match cell {
            Cell::Null => CellRange::NULL,
            Cell::Unavailable => CellRange::UNAVAILABLE,
            Cell::Value(value) => {
                let position =
                    |length: usize| u32::try_from(length).expect("a row stays below 4 GiB");
                let start = position(self.bytes.len());
                self.bytes.extend_from_slice(value);
                CellRange::value(start, position(value.len()))
            }
        });
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer")
            .field("cells", &self.cells.len())
            .finish_non_exhaustive()
    }
}

/// Another row that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct OtherRow<'a> {
    pub(super) bound: &'a Bound,
    before: Option<Row<'a>>,
    after: Option<Row<'a>>,
    current: Side,
}

impl<'a> OtherRow<'a> {
    pub(super) fn image(&self, side: Side) -> Option<Row<'a>> {
        match (side, self.current) {
            (Side::Before, _) | (Side::Row, Side::Before) => self.before,
            (Side::After, _) | (Side::Row, _) => self.after,
        }
    }
}

impl Others {
    /// Forgets the last rule's.
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    /// Adds the next row, of one image; `fill` writes it and says how it is bound, or that there is none and whether
    /// that is an error.
    pub(super) fn add<E>(
        &mut self,
        name: &Arc<str>,
        table: usize,
        fill: impl FnOnce(&Self, &mut Buffer) -> Result<Result<Arc<Bound>, Option<Fault>>, E>,
    ) -> Result<(), E> {
        let mut row = self.take_buffer();
        let (bound, fault) = match fill(self, &mut row)? {
            Ok(bound) => (Some(bound), None),
            Err(fault) => (None, fault),
        };
        let after = Some(0..row.cells.len());
        self.push(Slot {
            name: Arc::clone(name),
            table,
            row,
            bound,
            fault,
            before: None,
            after,
            current: Side::After,
        });
        Ok(())
    }

    /// Adds the next row as a change has it, or the fact that there is none.
    pub(super) fn add_change(
        &mut self,
        name: &Arc<str>,
        table: usize,
        changed: Option<(&Arc<Bound>, &Batch, &Change)>,
    ) {
        let mut row = self.take_buffer();
        row.bytes.clear();
        row.cells.clear();
        let mut copy = |image: Option<Row<'_>>| {
            let start = row.cells.len();
            let image = image?;
            for index in 0..image.width() {
                row.push(image.cell(index));
            }
            Some(start..row.cells.len())
        };
        let (before, after) = match changed {
            Some((_, batch, change)) => (copy(batch.before(change)), copy(batch.after(change))),
            None => (None, None),
        };
        let is_gone = changed.is_some_and(|(_, _, change)| change.op == Op::Delete);
        self.push(Slot {
            name: Arc::clone(name),
            table,
            row,
            bound: changed.map(|(bound, _, _)| Arc::clone(bound)),
            fault: None,
            before,
            after,
            current: if is_gone { Side::Before } else { Side::After },
        });
    }

    fn take_buffer(&mut self) -> Buffer {
        let slot = self.rows.get_mut(self.used);
        slot.map(|slot| std::mem::take(&mut slot.row))
            .unwrap_or_default()
    }

    fn push(&mut self, slot: Slot) {
        match self.rows.get_mut(self.used) {
            Some(old) => *old = slot,
            None => self.rows.push(slot),
        }
        self.used += 1;
    }

    /// The row under a number, if there is one.
    pub(super) fn get(&self, number: u16) -> Option<OtherRow<'_>> {
        let slot = self.rows[..self.used].get(usize::from(number))?;
        Some(OtherRow {
            bound: slot.bound.as_deref()?,
            before: slot.before.clone().map(|cells| slot.row.part(cells)),
            after: slot.after.clone().map(|cells| slot.row.part(cells)),
            current: slot.current,
        })
    }

    /// Why a row that should be there is not.
    pub(super) fn missing(&self) -> Option<&Fault> {
        self.rows[..self.used]
            .iter()
            .find_map(|slot| slot.fault.as_ref())
    }

    /// Why the row under a number is not there, where it should be.
    pub(super) fn fault(&self, number: u16) -> Option<&Fault> {
        let slot = self.rows[..self.used].get(usize::from(number))?;
        slot.fault.as_ref()
    }

    /// The name and the table of the row under a number, whether or not it is there.
    pub(super) fn named(&self, number: u16) -> Option<(&str, usize)> {
        let slot = self.rows[..self.used].get(usize::from(number))?;
        Some((&slot.name, slot.table))
    }
}
