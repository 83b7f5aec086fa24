//! From protocol messages to the items of a batch: shapes, transactions, changes, positions.
//!
//! Pure: no IO and no clock. It holds what one run knows: relations as last announced, the transaction
//! that is open, the position up to which transactions were already delivered, and the last position it put
//! into a batch. Three rules live here and nowhere else: a transaction that committed before the resume
//! position is dropped whole; positions come only from commits and, between transactions, from the
//! server's own WAL end; what the server did not send is unavailable, never null ([`announced`]).

mod announced;
mod moved;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use rowbridge_api::{
    Batch, Change, Column, Commit, Image, Item, Op, Position, Shape, ShapeId, TableName,
    TableNeeds, Transaction,
};

use self::announced::{Announced, LeafWatch, row};
use self::moved::{Moves, Removed};
use crate::catalogue::TypeNames;
use crate::pgoutput::{DecodeError, Message, Old, Relation, decode};
use crate::wire::POSTGRES_EPOCH_MICROS;

/// The server sent what the protocol does not allow.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssembleError {
    #[error("cannot decode a pgoutput message: {0}")]
    Decode(#[from] DecodeError),
    #[error("a change of relation {0}, which was never announced")]
    UnknownRelation(u32),
    #[error("a row of {found} cells in a table of {announced} columns")]
    Width { found: u16, announced: u16 },
    #[error("{0} outside of a transaction, or one inside another")]
    Order(&'static str),
}

/// Which columns make each table's key: the mapping's, or the primary key as read at start.
pub(crate) type Keys = HashMap<TableName, Vec<String>>;

/// The keys of `needs`, with `primary_keys` where the mapping names none.
pub(crate) fn keys_of(needs: &[TableNeeds], primary_keys: &Keys) -> Keys {
    needs
        .iter()
        .map(|need| {
            let key = if need.key.is_empty() {
                primary_keys.get(&need.table).cloned().unwrap_or_default()
            } else {
                need.key.clone()
            };
            (need.table.clone(), key)
        })
        .collect()
}

/// See the module's documentation.
pub(crate) struct Assembler {
    keys: Keys,
    types: TypeNames,
    relations: HashMap<u32, Announced>,
    leaves: LeafWatch,
    moves: Moves,
    next_shape: u32,
    open: Option<Open>,
    /// Transactions whose commit record starts before it were delivered.
    resume: u64,
    /// The last position put into a batch.
    last_position: u64,
}

struct Open {
    transaction: Transaction,
    ordinal: u64,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Delivered before: nothing of it is sent again.
    Skipped,
    /// Nothing of it was put into a batch so far.
    Silent,
    Sent,
}

impl Assembler {
    /// `next_shape` follows the shapes that a snapshot took.
    pub(crate) fn new(keys: Keys, types: TypeNames, resume: u64, next_shape: u32) -> Self {
        Self {
            keys,
            types,
            relations: HashMap::new(),
            leaves: LeafWatch::default(),
            moves: Moves::default(),
            next_shape,
            open: None,
            resume,
            last_position: resume,
        }
    }

    /// The last position put into a batch, or the resume position.
    pub(crate) const fn last_position(&self) -> u64 {
        self.last_position
    }

    pub(crate) const fn is_between_transactions(&self) -> bool {
        self.open.is_none()
    }

    /// The last item is a delete that the next change may turn into an update: the batch must wait for it.
    pub(crate) const fn expects_more(&self) -> bool {
        self.moves.is_pending()
    }

    /// Takes such a delete, and all behind it, out of the batch again: nothing more will be read.
    pub(crate) fn withdraw(&mut self, batch: &mut Batch) {
        self.moves.withdraw(&mut batch.items);
    }

    /// When the open transaction committed, in microseconds since 1970.
    pub(crate) fn commit_micros(&self) -> Option<i64> {
        Some(self.open.as_ref()?.transaction.commit_micros)
    }

    /// Puts an idle position into the batch: the server has nothing of ours before `wal_end`. Does
    /// nothing inside a transaction or for a position that is not new. Says whether it did.
    pub(crate) fn idle(&mut self, batch: &mut Batch, wal_end: u64) -> bool {
        let news = self.open.is_none() && wal_end > self.last_position;
        if news {
            self.commit(batch, wal_end);
        }
        news
    }

    fn commit(&mut self, batch: &mut Batch, position: u64) {
        self.last_position = position;
        batch.items.push(Item::Commit(Commit {
            position: Position::new(position),
        }));
    }

    /// Ends the open transaction; see [`Assembler::apply`].
    fn end(&mut self, batch: &mut Batch, end_lsn: u64) -> Result<Option<u64>, AssembleError> {
        self.moves.finish();
        let open = self.open.take().ok_or(AssembleError::Order("a commit"))?;
        match open.stage {
            Stage::Sent => self.commit(batch, end_lsn),
            Stage::Silent => return Ok(Some(end_lsn)),
            Stage::Skipped => {}
        }
        Ok(None)
    }

    /// Takes in the message in `batch.bytes[range]`. Returns the end of a transaction that had nothing for
    /// us: an idle position that may wait.
    pub(crate) fn apply(
        &mut self,
        batch: &mut Batch,
        range: Range<usize>,
    ) -> Result<Option<u64>, AssembleError> {
        let message = batch.bytes.get(range.clone()).unwrap_or_default();
        self.leaves.settle(message, &mut self.relations);
        if self.is_unread(message) {
            self.count();
            return Ok(None);
        }
        let Batch {
            bytes,
            cells,
            items,
        } = batch;
        match decode(bytes, range, cells)? {
            Message::Begin {
                final_lsn,
                commit_time,
                xid,
            } => {
                self.begin(final_lsn, commit_time, xid)?;
            }
            Message::Commit { end_lsn, .. } => return self.end(batch, end_lsn),
            Message::Relation(relation) => {
                if let Some(shape) = self.announce(&relation) {
                    items.push(Item::Shape(shape));
                }
            }
            Message::Type {
                oid,
                namespace,
                name,
            } => self.types.learn(oid, namespace, name),
            Message::Insert { relation, new } => {
                let images = |_: &Announced| (Image::Absent, row(new));
                let at = self.change(items, relation, Op::Insert, new.width, images)?;
                if let Some(at) = at {
                    self.moves.inserted(bytes, cells, items, at);
                }
            }
            Message::Update { relation, old, new } => {
                if let Some(Old::Key(tuple) | Old::Row(tuple)) = old {
                    same_width(tuple.width, new.width)?;
                }
                self.change(items, relation, Op::Update, new.width, |announced| {
                    (announced.before_update(cells, old, new), row(new))
                })?;
                self.moves.settle(relation);
            }
            Message::Delete { relation, old } => {
                let width = match old {
                    Old::Key(tuple) | Old::Row(tuple) => tuple.width,
                };
                let at = self.change(items, relation, Op::Delete, width, |announced| {
                    (announced.before(cells, old), Image::Absent)
                })?;
                self.removed(relation, at);
            }
            Message::Truncate(truncate) => {
                for relation in truncate.relations() {
                    self.truncate(items, relation)?;
                }
            }
            Message::Origin { .. } | Message::LogicalMessage { .. } => {}
        }
        Ok(None)
    }

    /// A row change that nobody will see: of a skipped transaction, or of a table that no rule reads.
    fn is_unread(&self, message: &[u8]) -> bool {
        if !matches!(message.first(), Some(b'I' | b'U' | b'D' | b'T')) {
            return false;
        }
        if matches!(&self.open, Some(open) if open.stage == Stage::Skipped) {
            return true;
        }
        let Some([b'I' | b'U' | b'D', a, b, c, d]) = message.first_chunk::<5>() else {
            return false;
        };
        let relation = u32::from_be_bytes([*a, *b, *c, *d]);
        matches!(
            self.relations.get(&relation),
            Some(Announced { shape: None, .. })
        )
    }

    /// Counts a change that is not sent on, so that ordinals do not depend on the mapping.
    fn count(&mut self) {
        if let Some(open) = &mut self.open {
            open.ordinal += 1;
            self.moves.passed(open.ordinal);
        }
    }

    fn begin(&mut self, final_lsn: u64, commit_time: i64, xid: u32) -> Result<(), AssembleError> {
        if self.open.is_some() {
            return Err(AssembleError::Order("a begin"));
        }
        self.open = Some(Open {
            transaction: Transaction {
                id: u64::from(xid),
                position: Position::new(final_lsn),
                commit_micros: commit_time.saturating_add(POSTGRES_EPOCH_MICROS),
            },
            ordinal: 0,
            stage: if final_lsn < self.resume {
                Stage::Skipped
            } else {
                Stage::Silent
            },
        });
        Ok(())
    }

    /// Takes in a table's description; returns its shape if it is a new one that some rule reads.
    fn announce(&mut self, relation: &Relation<'_>) -> Option<Arc<Shape>> {
        let namespace = match relation.namespace {
            "" => "pg_catalog",
            namespace => namespace,
        };
        let table = TableName::new(namespace, relation.name);
        let key = self.keys.get(&table);
        let columns: Vec<Column> = relation
            .columns()
            .filter(|_| key.is_some())
            .map(|column| Column {
                name: column.name.to_owned(),
                ty: self.types.resolve(column.type_oid, column.type_modifier),
                key: key.is_some_and(|key| key.iter().any(|name| name == column.name)),
            })
            .collect();
        let known = self
            .relations
            .get(&relation.oid)
            .and_then(|announced| announced.shape.clone());
        let same = known.filter(|known| known.table == table && known.columns == columns);
        let is_known = same.is_some();
        let shape = key.map(|_| {
            same.unwrap_or_else(|| {
                let id = ShapeId(self.next_shape);
                self.next_shape += 1;
                Arc::new(Shape {
                    id,
                    table,
                    table_id: Some(relation.oid.into()),
                    columns,
                })
            })
        });
        let mut announced = Announced::new(relation, shape.clone());
        if let Some(before) = self.relations.remove(&relation.oid).filter(|_| is_known) {
            announced.keep_leaves(before);
        }
        self.relations.insert(relation.oid, announced);
        self.leaves.announced(relation);
        shape.filter(|_| !is_known)
    }

    /// Appends a change; returns which item it is, or nothing for a table that no rule reads.
    fn change(
        &mut self,
        items: &mut Vec<Item>,
        relation: u32,
        op: Op,
        width: u16,
        images: impl FnOnce(&Announced) -> (Image, Image),
    ) -> Result<Option<usize>, AssembleError> {
        let announced = self.relations.get(&relation);
        let announced = announced.ok_or(AssembleError::UnknownRelation(relation))?;
        let open = self.open.as_mut().ok_or(AssembleError::Order("a change"))?;
        same_width(width, announced.width)?;
        let ordinal = open.ordinal;
        open.ordinal += 1;
        self.moves.passed(open.ordinal);
        let Some(shape) = &announced.shape else {
            return Ok(None);
        };
        let (before, after) = images(announced);
        if open.stage == Stage::Silent {
            open.stage = Stage::Sent;
            items.push(Item::Begin(open.transaction.clone()));
        }
        items.push(Item::Change(Change {
            shape: shape.id,
            op,
            before,
            after,
            width,
            ordinal,
        }));
        Ok(Some(items.len() - 1))
    }

    /// A row of `relation` went with item `at`: in a partitioned table perhaps to another partition.
    fn removed(&mut self, relation: u32, at: Option<usize>) {
        self.moves.settle(relation);
        let announced = self.relations.get(&relation);
        let partitioned = announced.filter(|announced| announced.is_partitioned());
        let shape = partitioned.and_then(|announced| announced.shape.clone());
        if let (Some(item), Some(shape), Some(open)) = (at, shape, &self.open) {
            self.moves.removed(Removed {
                relation,
                shape,
                item,
                ordinal: open.ordinal,
            });
        }
    }

    fn truncate(&mut self, items: &mut Vec<Item>, relation: u32) -> Result<(), AssembleError> {
        let announced = self.relations.get(&relation);
        let width = announced
            .ok_or(AssembleError::UnknownRelation(relation))?
            .width;
        self.change(items, relation, Op::Truncate, width, |_| {
            (Image::Absent, Image::Absent)
        })?;
        self.moves.settle(relation);
        Ok(())
    }
}

fn same_width(found: u16, announced: u16) -> Result<(), AssembleError> {
    if found == announced {
        Ok(())
    } else {
        Err(AssembleError::Width { found, announced })
    }
}

#[cfg(test)]
mod tests;
