//! A relation as the server described it, and which cells of an old image it really sends.
//!
//! For a partitioned table published by its root the rows name the root, but each *leaf's* replica identity
//! decides what its old rows hold, and the root's says nothing of it. The server announces a leaf right after
//! its root and right before the leaf's first change (`maybe_send_schema` of pgoutput, 13 to 18): that is how
//! leaves are known here, also those made after we started.

use std::collections::HashMap;
use std::sync::Arc;

use rowbridge_api::{CellRange, Image, Shape};

use crate::pgoutput::{Old, Relation, Tuple};

/// See the module's documentation.
pub(super) struct Announced {
    /// Nothing for a table that no rule reads.
    pub(super) shape: Option<Arc<Shape>>,
    pub(super) width: u16,
    /// The columns that did not change when an update comes without an old row: the replica identity's, and of
    /// a partitioned table those that are in the identity of each leaf. None under FULL, which always sends one.
    unchanged: Box<[bool]>,
    is_partitioned: bool,
    /// For each leaf that is not FULL, the columns of its identity in this table's order.
    leaves: HashMap<u32, Box<[bool]>>,
}

impl Announced {
    pub(super) fn new(relation: &Relation<'_>, shape: Option<Arc<Shape>>) -> Self {
        let full = is_full(relation);
        Self {
            shape,
            width: relation.width(),
            unchanged: relation
                .columns()
                .map(|column| column.identity && !full)
                .collect(),
            is_partitioned: false,
            leaves: HashMap::new(),
        }
    }

    /// Takes over what is known of the leaves; the columns are the same as `before`.
    pub(super) fn keep_leaves(&mut self, before: Self) {
        if before.is_partitioned {
            *self = Self {
                shape: self.shape.take(),
                ..before
            };
        }
    }

    /// Rows of this table lie in leaves.
    pub(super) const fn is_partitioned(&self) -> bool {
        self.is_partitioned
    }

    fn learn(&mut self, leaf: &Leaf) {
        self.is_partitioned = true;
        match (&self.shape, &leaf.identity) {
            (Some(shape), Some(identity)) => {
                let columns = shape.columns.iter();
                let here = columns.map(|column| identity.contains(&column.name));
                self.leaves.insert(leaf.oid, here.collect());
            }
            _ => drop(self.leaves.remove(&leaf.oid)),
        }
        let leaves = &self.leaves;
        for (index, unchanged) in self.unchanged.iter_mut().enumerate() {
            let in_all = leaves
                .values()
                .all(|identity| identity.get(index).copied().unwrap_or(false));
            *unchanged = in_all && !leaves.is_empty();
        }
    }

    /// The old image as sent.
    pub(super) fn before(&self, cells: &mut [CellRange], old: Old) -> Image {
        match old {
            Old::Row(tuple) => {
                self.hide_unsent(cells_of(cells, tuple));
                row(tuple)
            }
            // The columns of a replica identity are NOT NULL: in a key tuple a null is a cell that was not sent.
            Old::Key(tuple) => {
                hide_nulls(cells_of(cells, tuple));
                row(tuple)
            }
        }
    }

    /// Under a root that is FULL, a leaf that is not sends its identity alone in a row that looks whole. A null
    /// in a row that could be such a one is not believed.
    fn hide_unsent(&self, old: &mut [CellRange]) {
        let could_be = |identity: &[bool]| {
            let mut cells = old.iter().zip(identity);
            cells.all(|(cell, identity)| *identity || *cell == CellRange::NULL)
        };
        if self.leaves.values().any(|identity| could_be(identity)) {
            hide_nulls(old);
        }
    }

    /// The old image of an update. Fills cells of the new one that the server left out and sent in the old.
    pub(super) fn before_update(
        &self,
        cells: &mut Vec<CellRange>,
        old: Option<Old>,
        new: Tuple,
    ) -> Image {
        let new_at = new.first_cell as usize;
        let Some(old) = old else {
            // No old tuple means that the identity did not change: its cells are the new ones.
            let first_cell = u32::try_from(cells.len()).unwrap_or(u32::MAX);
            for index in 0..usize::from(new.width) {
                let known = self.unchanged.get(index).copied().unwrap_or(false);
                cells.push(if known {
                    cells[new_at + index]
                } else {
                    CellRange::UNAVAILABLE
                });
            }
            return Image::Row { first_cell };
        };
        let before = self.before(cells, old);
        if let Old::Row(tuple) = old {
            // An unchanged TOAST value is absent from the new row and, under FULL, present in the old one.
            let old_at = tuple.first_cell as usize;
            for index in 0..usize::from(new.width) {
                if cells[new_at + index] == CellRange::UNAVAILABLE {
                    cells[new_at + index] = cells[old_at + index];
                }
            }
        }
        before
    }
}

pub(super) const fn row(tuple: Tuple) -> Image {
    Image::Row {
        first_cell: tuple.first_cell,
    }
}

fn cells_of(cells: &mut [CellRange], tuple: Tuple) -> &mut [CellRange] {
    &mut cells[tuple.first_cell as usize..][..usize::from(tuple.width)]
}

fn hide_nulls(cells: &mut [CellRange]) {
    for cell in cells {
        if *cell == CellRange::NULL {
            *cell = CellRange::UNAVAILABLE;
        }
    }
}

fn is_full(relation: &Relation<'_>) -> bool {
    relation.replica_identity == b'f'
}

/// The relations announced since the last change: the change that follows tells whether the last one is a leaf.
#[derive(Default)]
pub(super) struct LeafWatch {
    before: Option<u32>,
    last: Option<Leaf>,
}

/// A relation that may be a leaf.
struct Leaf {
    oid: u32,
    /// Names of its identity's columns; nothing under FULL.
    identity: Option<Vec<String>>,
}

impl LeafWatch {
    pub(super) fn announced(&mut self, relation: &Relation<'_>) {
        let identity = (!is_full(relation)).then(|| {
            let columns = relation.columns().filter(|column| column.identity);
            columns.map(|column| column.name.to_owned()).collect()
        });
        self.before = self.last.as_ref().map(|last| last.oid);
        self.last = Some(Leaf {
            oid: relation.oid,
            identity,
        });
    }

    /// Looks at the next message: a row of the relation announced before the last one lies in the last one.
    #[inline]
    pub(super) fn settle(&mut self, message: &[u8], relations: &mut HashMap<u32, Announced>) {
        let Some(last) = &self.last else {
            return;
        };
        match message.first() {
            Some(b'R' | b'Y') => return,
            Some(b'I' | b'U' | b'D') => {
                let oid = message.get(1..).and_then(|rest| rest.first_chunk());
                let root = oid.map(|oid| u32::from_be_bytes(*oid));
                if root.is_some()
                    && root == self.before
                    && root != Some(last.oid)
                    && let Some(root) = root.and_then(|root| relations.get_mut(&root))
                {
                    root.learn(last);
                }
            }
            _ => {}
        }
        *self = Self::default();
    }
}
