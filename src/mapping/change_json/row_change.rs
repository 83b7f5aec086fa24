//! One change outside a batch, and the writer that lays changes into one.
//!
//! Change JSON, Debezium envelopes and cases all end here, so that the rules about what a missing image
//! means, how changes group into transactions and where a transaction stands exist once.

use std::sync::Arc;

use rowbridge_api::{
    Batch, CellRange, Change, Commit, Image, Item, Op, Position, Shape, Transaction,
};

/// One cell that owns its text form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnedCell {
    Value(Vec<u8>),
    Null,
    Unavailable,
}

/// One row's change with its images in the columns' order.
#[derive(Clone, Debug)]
pub(crate) struct RowChange {
    pub(crate) shape: Arc<Shape>,
    pub(crate) op: Op,
    pub(crate) before: Option<Vec<OwnedCell>>,
    pub(crate) after: Option<Vec<OwnedCell>>,
}

impl RowChange {
    /// An image whose cells are all unavailable.
    pub(crate) fn unavailable_row(shape: &Shape) -> Vec<OwnedCell> {
        vec![OwnedCell::Unavailable; shape.columns.len()]
    }

    /// Checks that the images fit the operation and fills in what the model says of an update without an
    /// old tuple: a before image with the unchanged key, all else unavailable.
    pub(crate) fn complete(&mut self) -> Result<(), String> {
        let op = self.op.as_str();
        let (needs_before, needs_after) = match self.op {
            Op::Insert | Op::Read => (false, true),
            Op::Update => (true, true),
            Op::Delete => (true, false),
            Op::Truncate => (false, false),
        };
        if needs_after && self.after.is_none() {
            return Err(format!(
                "`{op}` needs `after` (the quarantine record of an oversize event carries no row)"
            ));
        }
        for (name, image, needed) in [
            ("before", &self.before, needs_before),
            ("after", &self.after, needs_after),
        ] {
            if image.is_some() && !needed {
                return Err(format!("`{op}` has no `{name}`"));
            }
        }
        if needs_before && self.before.is_none() {
            let Some(after) = &self.after else {
                return Err(format!("`{op}` needs `before`, or `key`"));
            };
            let mut before = Self::unavailable_row(&self.shape);
            for (index, column) in self.shape.columns.iter().enumerate() {
                if column.key {
                    before[index] = after[index].clone();
                }
            }
            self.before = Some(before);
        }
        Ok(())
    }
}

/// What a change says about its transaction. Changes that follow each other with the same `group` are one
/// transaction; a change without one stands alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TransactionFacts {
    pub(crate) group: Option<String>,
    pub(crate) id: Option<u64>,
    pub(crate) position: Option<Position>,
    pub(crate) commit_micros: Option<i64>,
    pub(crate) ordinal: Option<u64>,
}

/// Lays changes into batches: shapes before their first change, transactions around changes.
///
/// What the input does not say is made up the same way on every run: positions count up from the last
/// one, commit times are the epoch.
#[derive(Debug)]
pub(crate) struct BatchWriter {
    shape_was_sent: Vec<bool>,
    open: Option<OpenTransaction>,
    last_order: u64,
}

#[derive(Debug)]
struct OpenTransaction {
    group: Option<String>,
    order: u64,
    next_ordinal: u64,
}

impl BatchWriter {
    pub(crate) fn new(tables: usize) -> Self {
        Self {
            shape_was_sent: vec![false; tables],
            open: None,
            last_order: 0,
        }
    }

    /// Appends one change, ending the open transaction first if the change is not part of it.
    pub(crate) fn change(
        &mut self,
        change: &RowChange,
        facts: &TransactionFacts,
        batch: &mut Batch,
    ) {
        let number = change.shape.id.0 as usize;
        if number >= self.shape_was_sent.len() {
            self.shape_was_sent.resize(number + 1, false);
        }
        if !self.shape_was_sent[number] {
            self.shape_was_sent[number] = true;
            batch.items.push(Item::Shape(Arc::clone(&change.shape)));
        }
        let ordinal = self.join_transaction(facts, batch);
        let before = push_image(change.before.as_deref(), batch);
        let after = push_image(change.after.as_deref(), batch);
        batch.items.push(Item::Change(Change {
            shape: change.shape.id,
            op: change.op,
            before,
            after,
            width: u16::try_from(change.shape.columns.len())
                .expect("a table has fewer than 65,536 columns"),
            ordinal,
        }));
    }

    /// Ends the open transaction, if there is one.
    pub(crate) fn commit(&mut self, position: Option<Position>, batch: &mut Batch) {
        if let Some(open) = self.open.take() {
            let after = Position::new(open.order + 1);
            // A transaction ends after the place that names it; captures by others may say otherwise.
            let position = position
                .filter(|position| *position >= after)
                .unwrap_or(after);
            self.last_order = position.order();
            batch.items.push(Item::Commit(Commit { position }));
        }
    }

    /// Begins a transaction unless `facts` belong to the open one; the number of the change in it.
    fn join_transaction(&mut self, facts: &TransactionFacts, batch: &mut Batch) -> u64 {
        let joins = self
            .open
            .as_ref()
            .is_some_and(|open| open.group.is_some() && open.group == facts.group);
        if !joins {
            self.commit(None, batch);
            self.begin(facts, batch);
        }
        let open = self.open.as_mut().expect("a transaction was begun");
        let ordinal = facts.ordinal.unwrap_or(open.next_ordinal);
        open.next_ordinal = ordinal + 1;
        ordinal
    }

    fn begin(&mut self, facts: &TransactionFacts, batch: &mut Batch) {
        let position = facts
            .position
            .clone()
            .unwrap_or_else(|| Position::new(self.last_order + 1));
        let order = position.order();
        batch.items.push(Item::Begin(Transaction {
            id: facts.id.unwrap_or(order),
            position,
            commit_micros: facts.commit_micros.unwrap_or_default(),
        }));
        self.open = Some(OpenTransaction {
            group: facts.group.clone(),
            order,
            next_ordinal: 0,
        });
    }
}

fn push_image(cells: Option<&[OwnedCell]>, batch: &mut Batch) -> Image {
    let Some(cells) = cells else {
        return Image::Absent;
    };
    let first_cell = u32::try_from(batch.cells.len()).expect("a batch has fewer than 2^32 cells");
    for cell in cells {
        match cell {
            OwnedCell::Value(text) => batch.push_value(text),
            OwnedCell::Null => batch.cells.push(CellRange::NULL),
            OwnedCell::Unavailable => batch.cells.push(CellRange::UNAVAILABLE),
        }
    }
    Image::Row { first_cell }
}
