//! Kept rows: what is remembered of the tables that others look into, and of the events that others take back.
//!
//! Everything is an entry of a [`Memory`], under a key that begins with what it is:
//!
//! - `row`: a row by its key: the hash of its shape, then the columns that rules read
//! - `index`: by the columns of an index, the key of the row: of several while a transaction has them pass through one
//!   value
//! - `shape`: by table and hash, the names and types of the columns of such rows
//! - `event`: by the key of an entity and a type of event, the id of its last one
//!
//! A row is kept in its source's text form. A column whose type has changed since is not read any more: what the
//! source now prints for it, nobody knows.

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod altered;
mod description;
mod entry;
mod stale;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(super) mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use rowbridge_api::{Batch, Cell, Change, Image, Op, Position, Row};
use uuid::Uuid;

use self::description::Description;
use self::entry::Key;
pub(super) use self::entry::{KeptShape, canonical};
use self::stale::{damaged, lost, no_key};
use super::Stop;
use super::bind::Bound;
use super::memory::Memory;
use super::others::Buffer;
use super::rule::{By, Lookup, Table, UnchangedFrom};

/// What is kept of a table's rows.
const ALL_OF_ROWS: [&str; 3] = [entry::ROW, entry::INDEX, entry::SHAPE];

/// Keeps rows and finds them again.
pub(super) struct Keeper {
    memory: Box<dyn Memory>,
    /// How kept rows are read, by table and hash of their shape.
    shapes: HashMap<(usize, u64), Arc<Bound>>,
    /// The rows that the transaction at hand deleted, under their keys and under their indexes: still found by its
    /// lookups, as they were.
    pub(in crate::mapping) deleted: HashMap<Vec<u8>, Vec<u8>>,
    /// Whether there are such lookups: a transaction is gathered, and settled once it is evaluated.
    gathers: bool,
    /// The key of the row at hand.
    key: Key,
    /// The key it had before.
    old_key: Key,
    index: Key,
    /// The row as it was kept.
    old: Vec<u8>,
    /// The row as it is kept from now on.
    new: Vec<u8>,
    buffers: [Buffer; 2],
}

/// A table and how the row at hand is bound.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) number: usize,
    pub(super) table: &'a Table,
    pub(super) bound: &'a Bound,
}

impl std::fmt::Debug for Keeper {
    /// Without what it remembers: that is made of rows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper")
            .field("shapes", &self.shapes.len())
            .finish_non_exhaustive()
    }
}

impl Keeper {
    pub(super) fn new(memory: Box<dyn Memory>, gathers: bool) -> Self {
        Self {
            memory,
            shapes: HashMap::new(),
            deleted: HashMap::new(),
            gathers,
            key: Key::default(),
            old_key: Key::default(),
            index: Key::default(),
            old: Vec::new(),
            new: Vec::new(),
            buffers: Default::default(),
        }
    }

    /// The memory, to hand over what was put.
    pub(super) fn memory(&mut self) -> &mut dyn Memory {
        &mut *self.memory
    }

    /// The transaction at hand has ended: what it deleted is gone.
    pub(super) fn settled(&mut self) {
        self.deleted.clear();
    }

    /// A shape arrived: from now on rows are kept in it, and what earlier rows hold of columns that it makes doubtful
    /// is unavailable.
    ///
    /// # Errors
    /// Earlier rows cannot be found any more, or the memory cannot be read.
    pub(super) fn bind(&mut self, place: Place<'_>, at: &Position) -> Result<(), Stop> {
        let Some(kept) = &place.bound.kept else {
            return Ok(());
        };
        self.key
            .begin(entry::SHAPE, place.table)
            .part(entry::NOW.as_bytes());
        if self.memory.get(self.key.bytes(), &mut self.old)? {
            let then = Description::decode(&self.old).ok_or_else(damaged)?;
            let now = Description::decode(&kept.description).ok_or_else(damaged)?;
            if let Some(why) = now.loses(&then, place.table) {
                return Err(lost(place.table, &why, at));
            }
        }
        let hash = format!("{:016x}", kept.hash);
        for name in [hash.as_str(), entry::NOW] {
            self.key
                .begin(entry::SHAPE, place.table)
                .part(name.as_bytes());
            let known = self.memory.get(self.key.bytes(), &mut self.old)?;
            if !known || self.old != *kept.description {
                self.memory.put(self.key.bytes(), Some(&kept.description));
                self.shapes.retain(|(table, _), _| *table != place.number);
            }
        }
        Ok(())
    }

    /// Forgets the rows of a table that were kept before they were read anew.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(super) fn retire(&mut self, table: &Table) -> Result<(), Stop> {
        match table.generation.checked_sub(1) {
            Some(last) => self.forget_generation(table, last, &ALL_OF_ROWS),
            None => Ok(()),
        }
    }

    /// Forgets what an interrupted reading left of the rows of a table that are about to be read.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(super) fn begin_anew(&mut self, table: &Table) -> Result<(), Stop> {
        self.forget_generation(table, table.generation, &ALL_OF_ROWS)
    }

    fn forget_generation(
        &mut self,
        table: &Table,
        generation: u32,
        kinds: &[&str],
    ) -> Result<(), Stop> {
        let mut prefix = Key::default();
        kinds.iter().try_for_each(|kind| {
            let prefix = prefix.begin_generation(kind, table, generation);
            self.memory.forget_all(prefix.bytes())
        })
    }

    /// Follows a change of a table whose rows are kept.
    ///
    /// # Errors
    /// The change does not say which row it is about, or the memory cannot be read.
    pub(super) fn follow(
        &mut self,
        place: Place<'_>,
        batch: &Batch,
        change: &Change,
    ) -> Result<(), Stop> {
        if place.bound.kept.is_none() {
            return Ok(());
        }
        let (before, after) = (batch.before(change), batch.after(change));
        match change.op {
            Op::Truncate => {
                let kinds = [entry::ROW, entry::INDEX];
                self.forget_generation(place.table, place.table.generation, &kinds)
            }
            Op::Delete => {
                if !self.old_key.of_row(place.table, place.bound, before) {
                    return Err(no_key(place.table, change.op));
                }
                self.forget(place)
            }
            Op::Insert | Op::Update | Op::Read => {
                let has_key = self.key.of_row(place.table, place.bound, after);
                let Some(after) = after.filter(|_| has_key) else {
                    return Err(no_key(place.table, Op::Insert));
                };
                // A source that sends no old row at all says that the key is the same.
                if change.op != Op::Update || before.is_none() {
                    self.old_key.clone_from(&self.key);
                } else if !self.old_key.of_row(place.table, place.bound, before) {
                    return Err(no_key(place.table, change.op));
                }
                self.replace(place, before, after)
            }
        }
    }

    /// Copies a change with what its source left out and is kept: cells of the row before, and those of the row after
    /// that did not change, unless the mapping says not to. What was never kept stays unavailable.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(super) fn complete(
        &mut self,
        place: Place<'_>,
        batch: &Batch,
        change: &Change,
        into: &mut Batch,
    ) -> Result<Change, Stop> {
        into.clear();
        let (before, after) = (batch.before(change), batch.after(change));
        let [mut was, is] = std::mem::take(&mut self.buffers);
        // The key did not change where the row before does not tell one.
        let has_key = self.old_key.of_row(place.table, place.bound, before)
            || self.old_key.of_row(place.table, place.bound, after);
        let old = match has_key && matches!(change.op, Op::Update | Op::Delete) {
            true => self.stored(place.number, place.table, &mut was)?,
            false => None,
        };
        let mut from_kept: Vec<Option<usize>> = vec![None; usize::from(change.width)];
        if let (Some(kept), Some(old)) = (&place.bound.kept, &old) {
            for (slot, index) in &kept.columns {
                from_kept[*index] = old.column(*slot).map(|(_, index)| index);
            }
        }
        let mut copy = |image: Option<Row<'_>>, left_out: UnchangedFrom| {
            let Some(image) = image else {
                return Image::Absent;
            };
            let cells = from_kept.iter().enumerate();
            into.push_row(
                cells.map(|(index, kept)| match (image.cell(index), kept, left_out) {
                    (Cell::Unavailable, Some(kept), UnchangedFrom::State) => was.row().cell(*kept),
                    (cell, ..) => cell,
                }),
            )
        };
        let before = copy(before, UnchangedFrom::State);
        let after = copy(after, place.table.unchanged);
        self.buffers = [was, is];
        Ok(Change {
            before,
            after,
            ..*change
        })
    }

    /// Keeps the row at hand instead of the one under its old key.
    fn replace(
        &mut self,
        place: Place<'_>,
        before: Option<Row<'_>>,
        after: Row<'_>,
    ) -> Result<(), Stop> {
        let Some(kept) = &place.bound.kept else {
            return Ok(());
        };
        let whole = |(_, index): &(u16, usize)| after.cell(*index) != Cell::Unavailable;
        let is_whole = kept.columns.iter().all(whole);
        let [mut was, mut is] = std::mem::take(&mut self.buffers);
        let old = match is_whole && place.table.indexes.is_empty() {
            true => None,
            false => self.stored(place.number, place.table, &mut was)?,
        };
        entry::begin_row(kept.hash, &mut self.new);
        for &(slot, index) in &kept.columns {
            let from_before = || before.map(|row| row.cell(index)).filter(is_known);
            let from_old = || {
                let (_, index) = old.as_ref()?.column(slot)?;
                Some(was.row().cell(index))
            };
            let cell = Some(after.cell(index)).filter(is_known);
            let cell = cell.or_else(from_before).or_else(from_old);
            entry::push_cell(cell.unwrap_or(Cell::Unavailable), &mut self.new);
        }
        if self.old_key != self.key {
            self.memory.put(self.old_key.bytes(), None);
        }
        self.memory.put(self.key.bytes(), Some(&self.new));
        if !place.table.indexes.is_empty() {
            entry::read_row(&self.new, &mut is).ok_or_else(damaged)?;
            let new = self.shape(place.number, place.table, kept.hash)?;
            self.reindex(
                place.table,
                old.as_deref().map(|old| (old, was.row())),
                None,
            )?;
            self.reindex(place.table, None, Some((&*new, is.row())))?;
        }
        self.buffers = [was, is];
        Ok(())
    }

    /// Forgets the row under the old key, but for the lookups of this transaction.
    fn forget(&mut self, place: Place<'_>) -> Result<(), Stop> {
        let [mut was, is] = std::mem::take(&mut self.buffers);
        let old = self.stored(place.number, place.table, &mut was)?;
        if let Some(old) = &old {
            if self.gathers {
                self.keep_deleted(place.table, old, was.row());
            }
            self.reindex(place.table, Some((&**old, was.row())), None)?;
        }
        self.memory.put(self.old_key.bytes(), None);
        self.buffers = [was, is];
        Ok(())
    }

    /// Keeps the row under the old key for the lookups of this transaction.
    fn keep_deleted(&mut self, table: &Table, bound: &Bound, row: Row<'_>) {
        let kept = std::mem::take(&mut self.old);
        let key = self.old_key.bytes().to_vec();
        self.deleted.insert(key, kept.clone());
        for slots in &table.indexes {
            if self.index_key(table, slots, bound, row) {
                self.deleted
                    .insert(self.index.bytes().to_vec(), kept.clone());
            }
        }
    }

    /// Takes a row out of its table's indexes, or puts one in.
    fn reindex(
        &mut self,
        table: &Table,
        out: Option<(&Bound, Row<'_>)>,
        into: Option<(&Bound, Row<'_>)>,
    ) -> Result<(), Stop> {
        for slots in &table.indexes {
            if let Some((bound, row)) = out
                && self.index_key(table, slots, bound, row)
                && self.memory.get(self.index.bytes(), &mut self.new)?
                && entry::unlist(self.old_key.bytes(), &mut self.new)
            {
                let left = Some(&*self.new).filter(|left| !left.is_empty());
                self.memory.put(self.index.bytes(), left);
            }
            if let Some((bound, row)) = into
                && self.index_key(table, slots, bound, row)
            {
                if !self.memory.get(self.index.bytes(), &mut self.new)? {
                    self.new.clear();
                }
                entry::list(self.key.bytes(), &mut self.new);
                self.memory.put(self.index.bytes(), Some(&self.new));
            }
        }
        Ok(())
    }

    /// Puts together what a row is found by in an index; false if it is not found by it.
    fn index_key(&mut self, table: &Table, slots: &[u16], bound: &Bound, row: Row<'_>) -> bool {
        self.index
            .begin_index(table, slots)
            .cells(slots, bound, row)
    }

    /// The row under the old key, and how it is read.
    fn stored(
        &mut self,
        number: usize,
        table: &Table,
        into: &mut Buffer,
    ) -> Result<Option<Arc<Bound>>, Stop> {
        if !self.memory.get(self.old_key.bytes(), &mut self.old)? {
            return Ok(None);
        }
        entry::read_row(&self.old, into).ok_or_else(damaged)?;
        let hash = entry::hash_of(&self.old).ok_or_else(damaged)?;
        self.shape(number, table, hash).map(Some)
    }

    /// How rows of a shape are read.
    fn shape(&mut self, number: usize, table: &Table, hash: u64) -> Result<Arc<Bound>, Stop> {
        if let Some(known) = self.shapes.get(&(number, hash)) {
            return Ok(Arc::clone(known));
        }
        let mut description = |name: &str| {
            let mut value = Vec::new();
            let mut key = Key::default();
            key.begin(entry::SHAPE, table).part(name.as_bytes());
            let found = self.memory.get(key.bytes(), &mut value)?;
            Ok::<_, Stop>(found.then_some(value))
        };
        let described = description(&format!("{hash:016x}"))?.ok_or_else(damaged)?;
        let now = description(entry::NOW)?;
        let bound = entry::bound_as_described(table, number, &described, now.as_deref());
        let bound = Arc::new(bound.ok_or_else(damaged)?);
        self.shapes.insert((number, hash), Arc::clone(&bound));
        Ok(bound)
    }

    /// Finds the row that a lookup is after, by the values of its columns, as of now; a row that this transaction
    /// deleted as it was.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(super) fn find(
        &mut self,
        table: &Table,
        lookup: &Lookup,
        values: &[Vec<u8>],
        into: &mut Buffer,
    ) -> Result<Option<Arc<Bound>>, Stop> {
        let mut key = std::mem::take(&mut self.key);
        match lookup.by {
            By::Key => key.begin(entry::ROW, table),
            By::Index(number) => key.begin_index(table, &table.indexes[number]),
        };
        for value in values {
            key.part(value);
        }
        let found = self.get(key.bytes(), lookup.by)?;
        self.key = key;
        if !found {
            return Ok(None);
        }
        entry::read_row(&self.old, into).ok_or_else(damaged)?;
        let hash = entry::hash_of(&self.old).ok_or_else(damaged)?;
        self.shape(lookup.table, table, hash).map(Some)
    }

    /// Reads the row that is under a key into `old`, or else the one that was and that this transaction deleted.
    fn get(&mut self, key: &[u8], by: By) -> Result<bool, Stop> {
        let mut found = self.memory.get(key, &mut self.old)?;
        if found && by != By::Key {
            let listed = std::mem::take(&mut self.old);
            let row_key = entry::last_listed(&listed).ok_or_else(damaged)?;
            found = self.memory.get(row_key, &mut self.old)?;
        }
        if found {
            return Ok(true);
        }
        let deleted = self.deleted.get(key);
        if let Some(deleted) = deleted {
            self.old.clone_from(deleted);
        }
        Ok(deleted.is_some())
    }

    /// Remembers the last event of a type that another one may take back; `entity` is the text of its key.
    pub(super) fn remember_event(
        &mut self,
        table: &Table,
        event_type: &str,
        entity: &[u8],
        id: Uuid,
    ) {
        self.event_key(table, event_type, entity);
        self.memory.put(self.index.bytes(), Some(id.as_bytes()));
    }

    /// The id of an entity's last event of a type, if there was one.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(super) fn last_event(
        &mut self,
        table: &Table,
        event_type: &str,
        entity: &[u8],
    ) -> Result<Option<Uuid>, Stop> {
        self.event_key(table, event_type, entity);
        let known = self.memory.get(self.index.bytes(), &mut self.old)?;
        Ok(known.then(|| Uuid::from_slice(&self.old).ok()).flatten())
    }

    /// Every entity of a table has ended.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(super) fn forget_events(&mut self, table: &Table) -> Result<(), Stop> {
        let prefix = self.index.begin(entry::EVENT, table).bytes();
        self.memory.forget_all(prefix)
    }

    /// The entity has ended.
    pub(super) fn forget_event(&mut self, table: &Table, event_type: &str, entity: &[u8]) {
        self.event_key(table, event_type, entity);
        self.memory.put(self.index.bytes(), None);
    }

    fn event_key(&mut self, table: &Table, event_type: &str, entity: &[u8]) {
        let key = self.index.begin(entry::EVENT, table);
        key.part(event_type.as_bytes()).part(entity);
    }
}

fn is_known(cell: &Cell<'_>) -> bool {
    *cell != Cell::Unavailable
}
