//! A row that moves to another partition: the server writes a delete and an insert, and it is one update.
//!
//! The two follow each other in their table; only what triggers write can come between. So a delete of a
//! partitioned table is kept at hand until the table's next change, and an insert of the same key makes one
//! update of both, in the insert's place. Whether they are joined depends on the stream alone and not on how it
//! was cut into batches: a replay joins the same ones.

use std::sync::Arc;

use rowbridge_api::{CellRange, Change, Image, Item, Op, Shape};

/// How many changes of other tables may come between the two: what row triggers write.
const MAX_CHANGES_BETWEEN: u64 = 64;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Moves {
    pending: Option<Removed>,
}

/// A delete in the batch at hand.
pub(super) struct Removed {
    pub(super) relation: u32,
    pub(super) shape: Arc<Shape>,
    /// Which item of the batch it is.
    pub(super) item: usize,
    /// How many changes of the transaction are behind it.
    pub(super) ordinal: u64,
}

impl Moves {
    pub(super) const fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    pub(super) fn removed(&mut self, removed: Removed) {
        self.pending = Some(removed);
    }

    /// Another change of the same table than an insert: the delete stays what it is.
    pub(super) fn settle(&mut self, relation: u32) {
        self.pending.take_if(|removed| removed.relation == relation);
    }

    /// The transaction ends.
    pub(super) fn finish(&mut self) {
        self.pending = None;
    }

    /// The transaction has come to `ordinal`.
    pub(super) fn passed(&mut self, ordinal: u64) {
        self.pending
            .take_if(|removed| ordinal > removed.ordinal + MAX_CHANGES_BETWEEN + 1);
    }

    /// Item `at` is an insert: with the delete before it, of the same key, it becomes one update.
    pub(super) fn inserted(
        &mut self,
        bytes: &[u8],
        cells: &[CellRange],
        items: &mut Vec<Item>,
        at: usize,
    ) {
        let Some(Item::Change(insert)) = items.get(at) else {
            return;
        };
        let insert = *insert;
        let Some(removed) = self
            .pending
            .take_if(|removed| removed.shape.id == insert.shape)
        else {
            return;
        };
        let Some(Item::Change(delete)) = items.get(removed.item) else {
            return;
        };
        let before = delete.before;
        if same_key(&removed.shape, bytes, cells, before, insert.after) {
            items[at] = Item::Change(Change {
                op: Op::Update,
                before,
                ..insert
            });
            items.remove(removed.item);
        }
    }

    /// See [`super::Assembler::withdraw`].
    pub(super) fn withdraw(&mut self, items: &mut Vec<Item>) {
        if let Some(removed) = self.pending.take() {
            items.truncate(removed.item);
        }
    }
}

/// Whether both images have the same key, all of it sent and none of it null.
fn same_key(shape: &Shape, bytes: &[u8], cells: &[CellRange], before: Image, after: Image) -> bool {
    let (Image::Row { first_cell: old }, Image::Row { first_cell: new }) = (before, after) else {
        return false;
    };
    let cell = |first: u32, index: usize| {
        let range = cells.get(first as usize + index)?;
        range.bytes(bytes)
    };
    let mut key = shape
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.key)
        .peekable();
    key.peek().is_some()
        && key.all(|(index, _)| {
            let old = cell(old, index);
            old.is_some() && old == cell(new, index)
        })
}
