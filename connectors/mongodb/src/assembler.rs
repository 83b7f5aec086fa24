//! From change events to the items of a batch: shapes, transactions, changes, positions.
//!
//! Pure: no IO and no clock. A change stream has no commit marker. Events of one transaction have one cluster time, and
//! on a replica set nothing else has that, so the events of one cluster time are taken for one transaction. It is
//! complete when the stream has passed that time; its changes need not wait for that. An update outside a transaction of
//! several statements is complete by itself (inserts and deletes are not: the server puts several of them into one
//! entry of its oplog), which a quiet server would else show only with its next sign of life. A change's ordinal is its place
//! among all operations of the transaction, so it does not depend on which collections are mapped.

use std::sync::Arc;

use bson::raw::RawDocument;
use rowbridge_api::{
    Batch, Change, Column, Commit, Image, Item, Op, OpSet, Position, Shape, ShapeId, SourceError,
    State, TableName, TableNeeds, Transaction,
};

use crate::config::OnDrop;
use crate::event::{Event, EventError, Operation, Place};
use crate::image::Columns;
use crate::token::{self, UnknownToken};

/// A mapped collection.
#[derive(Debug)]
struct Collection {
    name: TableName,
    columns: Columns,
    key: Vec<String>,
    /// What the mapping wants to know of it.
    ops: OpSet,
    shape: Option<ShapeId>,
}

/// The events of one cluster time.
#[derive(Debug)]
struct Open {
    transaction: Transaction,
    /// After its last event so far.
    last: Position,
    next_ordinal: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Assembler {
    collections: Vec<Collection>,
    on_drop: OnDrop,
    next_shape: u32,
    /// An update outside a transaction of several statements has its cluster time for itself.
    updates_are_alone: bool,
    /// Everything up to here was delivered.
    resume: Position,
    /// The last position put into a batch, or the resume position.
    last_position: Position,
    open: Option<Open>,
    /// The stream has passed everything up to here, and nothing of it was ours.
    idle: Option<Position>,
}

/// What an event leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Taken,
    /// The stream ended and has to be opened again behind this event.
    Invalidated,
}

/// Why an event cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Event(#[from] EventError),
    #[error(transparent)]
    Token(#[from] UnknownToken),
    #[error("{what} of {name} at {at}")]
    Dropped {
        what: &'static str,
        name: String,
        at: Position,
    },
}

impl Assembler {
    /// `resume` is where an earlier stream ended, `next_shape` follows the shapes that a snapshot took.
    pub(crate) fn new(
        needs: &[TableNeeds],
        on_drop: OnDrop,
        resume: Position,
        next_shape: u32,
    ) -> Self {
        let collection = |needs: &TableNeeds| Collection {
            name: needs.table.clone(),
            columns: Columns::of(needs),
            key: needs.key.clone(),
            ops: needs.ops,
            shape: None,
        };
        Self {
            collections: needs.iter().map(collection).collect(),
            on_drop,
            next_shape,
            updates_are_alone: false,
            last_position: resume.clone(),
            resume,
            open: None,
            idle: None,
        }
    }

    /// The stream is of one replica set: where several shards write, events of one cluster time need not be of one
    /// transaction.
    pub(crate) fn of_one_replica_set(mut self, is: bool) -> Self {
        self.updates_are_alone = is;
        self
    }

    pub(crate) const fn last_position(&self) -> &Position {
        &self.last_position
    }

    /// Takes in one event.
    pub(crate) fn apply(
        &mut self,
        document: &RawDocument,
        batch: &mut Batch,
    ) -> Result<Applied, ApplyError> {
        let event = Event::read(document)?;
        let position = token::position(event.token)?;
        if self.was_delivered(&position) {
            return Ok(Applied::Taken);
        }
        self.pass(position.order(), batch);
        let op = match event.operation {
            Operation::Insert => Op::Insert,
            Operation::Update | Operation::Replace => Op::Update,
            Operation::Delete => Op::Delete,
            Operation::Drop | Operation::Rename | Operation::DropDatabase => {
                self.dropped(&event, &position)?;
                self.emptied(&event, &position, batch)?;
                return Ok(Applied::Taken);
            }
            Operation::Invalidate => {
                self.idle = Some(position);
                return Ok(Applied::Invalidated);
            }
            Operation::Other => {
                self.idle = Some(position);
                return Ok(Applied::Taken);
            }
        };
        match self.collection(event.place) {
            Some(collection) => self.change(collection, op, &event, position, batch)?,
            None => self.idle = Some(position),
        }
        Ok(Applied::Taken)
    }

    /// Everything up to `position` has come, as the server says when it has nothing more.
    pub(crate) fn passed(&mut self, mut position: Position, batch: &mut Batch) {
        self.pass(position.order(), batch);
        if token::is_mark(&position) {
            // Events of its own moment may still come.
            position = Position::new(position.order().saturating_sub(1));
        }
        if !self.was_delivered(&position) {
            self.idle = Some(position);
        }
    }

    /// Puts an idle position into the batch, if there is a new one and no transaction is open.
    pub(crate) fn send_idle(&mut self, batch: &mut Batch) {
        if self.open.is_some() {
            return;
        }
        if let Some(position) = self
            .idle
            .take()
            .filter(|position| *position > self.last_position)
        {
            self.commit(position, batch);
        }
    }

    fn was_delivered(&self, position: &Position) -> bool {
        match self.resume.token() {
            Some(_) => *position <= self.resume,
            None => position.order() <= self.resume.order(),
        }
    }

    /// The stream is at `order`: a transaction of an earlier time is complete.
    fn pass(&mut self, order: u64, batch: &mut Batch) {
        let is_over = |open: &Open| open.transaction.position.order() < order;
        if let Some(open) = self.open.take_if(|open| is_over(open)) {
            self.commit(open.last, batch);
        }
    }

    fn commit(&mut self, position: Position, batch: &mut Batch) {
        self.last_position = position.clone();
        self.idle = None;
        batch.items.push(Item::Commit(Commit { position }));
    }

    fn collection(&self, place: Option<Place<'_>>) -> Option<usize> {
        let place = place?;
        self.collections.iter().position(|collection| {
            collection.name.schema == place.database && collection.name.name == place.collection
        })
    }

    fn change(
        &mut self,
        at: usize,
        op: Op,
        event: &Event<'_>,
        position: Position,
        batch: &mut Batch,
    ) -> Result<(), ApplyError> {
        let shape = self.announce(at, batch);
        let columns = &self.collections[at].columns;
        let (before, after) = images(columns, op, event, batch)?;
        let open = self.open.get_or_insert_with(|| {
            let transaction = transaction(event, &position);
            batch.items.push(Item::Begin(transaction.clone()));
            Open {
                transaction,
                last: position.clone(),
                next_ordinal: 0,
            }
        });
        // Shards may have events at one cluster time, and each counts its own.
        let place = token::place(&position).unwrap_or_default();
        let ordinal = place.max(open.next_ordinal);
        batch.items.push(Item::Change(Change {
            shape,
            op,
            before,
            after,
            width: u16::try_from(columns.len()).unwrap_or(u16::MAX),
            ordinal,
        }));
        open.next_ordinal = ordinal + 1;
        open.last = position;
        let is_alone = self.updates_are_alone && op == Op::Update && event.transaction.is_none();
        if let Some(open) = self.open.take_if(|open| is_alone && open.next_ordinal == 1) {
            self.commit(open.last, batch);
        }
        Ok(())
    }

    /// What was in a mapped collection that is gone, or that another one replaced, is there no more: a truncate, for
    /// those who want to know. Of a database that is dropped the servers first tell each collection.
    fn emptied(
        &mut self,
        event: &Event<'_>,
        position: &Position,
        batch: &mut Batch,
    ) -> Result<(), ApplyError> {
        let mut is_told = false;
        for place in [event.place, event.target] {
            let mapped = self.collection(place);
            let wants = |at: &usize| self.collections[*at].ops.contains(Op::Truncate);
            if let Some(at) = mapped.filter(wants) {
                self.change(at, Op::Truncate, event, position.clone(), batch)?;
                is_told = true;
            }
        }
        if !is_told {
            self.idle = Some(position.clone());
        }
        Ok(())
    }

    fn announce(&mut self, at: usize, batch: &mut Batch) -> ShapeId {
        let collection = &mut self.collections[at];
        if let Some(shape) = collection.shape {
            return shape;
        }
        let id = ShapeId(self.next_shape);
        self.next_shape += 1;
        collection.shape = Some(id);
        let shape = shape(id, &collection.name, &collection.columns, &collection.key);
        batch.items.push(Item::Shape(Arc::new(shape)));
        id
    }

    /// A mapped collection is gone, or another took its place.
    fn dropped(&self, event: &Event<'_>, at: &Position) -> Result<(), ApplyError> {
        let what = match event.operation {
            Operation::Rename => "the rename",
            _ => "the drop",
        };
        let mapped = self
            .collection(event.place)
            .or_else(|| self.collection(event.target));
        let name = match (event.operation, event.place, mapped) {
            (Operation::DropDatabase, Some(place), _)
                if self
                    .collections
                    .iter()
                    .any(|collection| collection.name.schema == place.database) =>
            {
                format!("database {}", place.database)
            }
            (_, _, Some(mapped)) => format!("collection {}", self.collections[mapped].name),
            _ => return Ok(()),
        };
        match self.on_drop {
            OnDrop::Stop => Err(ApplyError::Dropped {
                what,
                name,
                at: at.clone(),
            }),
            OnDrop::Continue => {
                tracing::warn!(name, position = %at, "{what} of something mapped; going on, as on_drop says");
                Ok(())
            }
        }
    }
}

/// The shape of a collection: the columns that rules read.
pub(crate) fn shape(id: ShapeId, name: &TableName, columns: &Columns, key: &[String]) -> Shape {
    let column = |(name, ty): (&str, &rowbridge_api::Type)| Column {
        name: name.to_owned(),
        ty: ty.clone(),
        key: key.iter().any(|key| key == name),
    };
    Shape {
        id,
        table: name.clone(),
        table_id: None,
        columns: columns.iter().map(column).collect(),
    }
}

fn images(
    columns: &Columns,
    op: Op,
    event: &Event<'_>,
    batch: &mut Batch,
) -> Result<(Image, Image), EventError> {
    if op == Op::Truncate {
        return Ok((Image::Absent, Image::Absent));
    }
    let row = |first_cell| Image::Row { first_cell };
    let full = || event.full.ok_or(EventError::Missing("fullDocument"));
    if op == Op::Insert {
        return Ok((Image::Absent, row(columns.whole(full()?, batch)?)));
    }
    let before = match event.before {
        Some(document) => columns.whole(document, batch)?,
        None => columns.key_only(event.key, batch)?,
    };
    let after = match (op, &event.update) {
        (Op::Delete, _) => Image::Absent,
        (_, Some(update)) => {
            let known = event.before.map(|document| (document, before));
            row(columns.updated(known, event.key, update, batch)?)
        }
        (_, None) => row(columns.whole(full()?, batch)?),
    };
    Ok((row(before), after))
}

fn transaction(event: &Event<'_>, position: &Position) -> Transaction {
    let millis = event
        .wall_millis
        .unwrap_or_else(|| i64::from(event.time.time) * 1_000);
    Transaction {
        id: event.transaction.map_or(0, i64::cast_unsigned),
        position: Position::new(position.order()),
        commit_micros: millis.saturating_mul(1_000),
    }
}

/// What an error of the assembler means to the run.
pub(crate) fn refusal(error: ApplyError) -> SourceError {
    match error {
        ApplyError::Dropped { what, name, at } => SourceError::refused(
            State::PublicationChanged,
            format!(
                "{what} of {name}, which the mapping reads, at {at}; everything before it is published"
            ),
            format!(
                "if its events may end there, or it was made again on purpose: set source.mongodb.on_drop = \"continue\" \
                 and start; to read what it holds now again: `rowbridge position set --snapshot`; to go on after it, \
                 which leaves out nothing else: `rowbridge position set {at} --accept-gap`"
            ),
        ),
        ApplyError::Token(error) => SourceError::transient(error.to_string()),
        ApplyError::Event(error) => SourceError::transient(format!("the server sent {error}")),
    }
}

#[cfg(test)]
mod tests;
