//! Rows beside the change's own, as a rule reads them: what was looked up.

use std::sync::Arc;

use rowbridge_api::{CellRange, Row};

use super::bind::Bound;

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
    pub(super) row: Row<'a>,
}

impl Others {
    /// Forgets the last rule's.
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    /// Adds the next row; `fill` writes it and says how it is bound, or that there is none.
    pub(super) fn add<E>(
        &mut self,
        name: &Arc<str>,
        table: usize,
        fill: impl FnOnce(&Self, &mut Buffer) -> Result<Option<Arc<Bound>>, E>,
    ) -> Result<(), E> {
        let mut row = match self.rows.get_mut(self.used) {
            Some(slot) => std::mem::take(&mut slot.row),
            None => Buffer::default(),
        };
        let bound = fill(self, &mut row)?;
        let slot = Slot {
            name: Arc::clone(name),
            table,
            row,
            bound,
        };
        match self.rows.get_mut(self.used) {
            Some(old) => *old = slot,
            None => self.rows.push(slot),
        }
        self.used += 1;
        Ok(())
    }

    /// How many rows the rule at hand has so far, those that are not there included.
    pub(super) const fn len(&self) -> usize {
        self.used
    }

    /// The row under a number, if there is one.
    pub(super) fn get(&self, number: u16) -> Option<OtherRow<'_>> {
        let slot = self.rows[..self.used].get(usize::from(number))?;
        Some(OtherRow {
            bound: slot.bound.as_deref()?,
            row: slot.row.row(),
        })
    }

    /// The name and the table of the row under a number, whether or not it is there.
    pub(super) fn named(&self, number: u16) -> Option<(&str, usize)> {
        let slot = self.rows[..self.used].get(usize::from(number))?;
        Some((&slot.name, slot.table))
    }
}
