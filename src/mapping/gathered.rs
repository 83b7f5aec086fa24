//! A source transaction that is gathered before any of it is evaluated.

use rowbridge_api::{Batch, Cell, CellRange, Change, Image, Row, Transaction};

/// The changes of the transaction at hand, in their order, with copies of their rows.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) batch: Batch,
    changes: Vec<GatheredChange>,
    /// More than one where the rows that exist were read at several moments.
    transactions: Vec<Transaction>,
    /// How many are evaluated.
    evaluated: usize,
}

/// One change that waits for its transaction's end.
#[derive(Clone, Copy, Debug)]
pub(super) struct GatheredChange {
    pub(super) change: Change,
    /// Its number among the transactions.
    transaction: usize,
    pub(super) arrival: Arrival,
}

/// What was known of a change when it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Its events are to be published; with a hash of what the source sent, which a checkpoint may need.
    New { witness: u64 },
    /// Its events are published already: it is read for what it does to rows.
    Published,
}

impl Gathered {
    pub(super) fn push(
        &mut self,
        batch: &Batch,
        tx: &Transaction,
        change: &Change,
        arrival: Arrival,
    ) {
        if self.transactions.last() != Some(tx) {
            self.transactions.push(tx.clone());
        }
        let before = self.copy(batch.before(change));
        let after = self.copy(batch.after(change));
        let change = Change {
            before,
            after,
            ..*change
        };
        self.changes.push(GatheredChange {
            change,
            transaction: self.transactions.len() - 1,
            arrival,
        });
    }

    fn copy(&mut self, row: Option<Row<'_>>) -> Image {
        let Some(row) = row else {
            return Image::Absent;
        };
        let first_cell = u32::try_from(self.batch.cells.len()).expect("fewer than 2^32 cells");
        for index in 0..row.width() {
            match row.cell(index) {
                Cell::Value(value) => self.batch.push_value(value),
                Cell::Null => self.batch.cells.push(CellRange::NULL),
                Cell::Unavailable => self.batch.cells.push(CellRange::UNAVAILABLE),
            }
        }
        Image::Row { first_cell }
    }

    /// The next change that is to be evaluated.
    pub(super) fn next(&self) -> Option<GatheredChange> {
        self.changes.get(self.evaluated).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// A change by its number, and its transaction.
    pub(super) fn change(&self, number: usize) -> (&Change, &Transaction) {
        let gathered = &self.changes[number];
        (&gathered.change, self.transaction(gathered))
    }

    /// The number of the next change that is to be evaluated.
    pub(super) const fn evaluated(&self) -> usize {
        self.evaluated
    }

    fn transaction(&self, gathered: &GatheredChange) -> &Transaction {
        &self.transactions[gathered.transaction]
    }

    /// The next change is evaluated.
    pub(super) fn advance(&mut self) {
        self.evaluated += 1;
    }

    pub(super) fn clear(&mut self) {
        self.batch.clear();
        self.changes.clear();
        self.transactions.clear();
        self.evaluated = 0;
    }
}
