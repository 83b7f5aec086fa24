//! The fake database's source: as careful as a real one.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::server::{Committed, Existing, FakeDatabase, Server, Slot};
use super::table::{Sent, SentChange};
use crate::batch::{Batch, CellRange, Change, Commit, Image, Item, Op, Transaction};
use crate::position::Position;
use crate::shape::ShapeId;
use crate::source::{
    Claim, Finding, Frozen, Identity, Ownership, Remembers, Severity, SnapshotProgress, Source,
    SourceError, SourceIo, SourceStatus, Start, State, TableNeeds,
};

/// Follows a [`FakeDatabase`]. Dropping it closes its connection.
#[derive(Debug)]
pub struct FakeSource {
    database: FakeDatabase,
    session: Option<u64>,
    frozen: Option<Existing>,
    /// Answers its server so many times per time-out; 0 for the wrong source that does not.
    pub(in crate::testkit) answers_per_timeout: u32,
}

impl FakeSource {
    pub(super) const fn new(database: FakeDatabase) -> Self {
        Self {
            database,
            session: None,
            frozen: None,
            answers_per_timeout: 4,
        }
    }

    pub(in crate::testkit) const fn database(&self) -> &FakeDatabase {
        &self.database
    }

    fn close(&mut self) {
        if let Some(session) = self.session.take() {
            self.database.change(|server| server.close(session));
        }
    }
}

impl Drop for FakeSource {
    fn drop(&mut self) {
        self.close();
    }
}

impl Source for FakeSource {
    async fn check(&mut self, needs: &[TableNeeds]) -> Result<Vec<Finding>, SourceError> {
        let server = self.database.lock();
        let exists = |needs: &&TableNeeds| {
            server
                .tables
                .iter()
                .any(|table| table.definition.name == needs.table)
        };
        let missing = |needs: &TableNeeds| Finding {
            severity: Severity::Error,
            problem: format!("table {} does not exist", needs.table),
            fix: format!("CREATE TABLE {} (...);", needs.table),
            cost: None,
        };
        Ok(needs
            .iter()
            .filter(|needs| !exists(needs))
            .map(missing)
            .collect())
    }

    async fn own(&mut self) -> Result<Claim, SourceError> {
        self.close();
        self.database.change(|server| {
            self.session = server.connect();
            let identity = server.identity.clone();
            Ok(match (self.session, server.slot) {
                (None, _) => Claim::Standby {
                    holder: server.holder(),
                },
                (Some(_), _) => Claim::Owned(Ownership {
                    identity,
                    exclusive: true,
                    remembers: server.slot.as_ref().map_or(Remembers::Nothing, |slot| {
                        Remembers::Start {
                            position: Some(Position::new(slot.confirmed)),
                        }
                    }),
                }),
            })
        })
    }

    async fn hold(&mut self) -> Result<Infallible, SourceError> {
        let mut link = Link::new(self)?;
        loop {
            link.changed().await?;
        }
    }

    async fn freeze(&mut self, _tables: &[TableNeeds]) -> Result<Frozen, SourceError> {
        Link::new(self)?;
        let existing = self.database.change(|server| server.existing());
        let position = Position::new(existing.end);
        self.frozen = Some(existing);
        Ok(Frozen {
            next: position.clone(),
            position,
        })
    }

    async fn run(&mut self, io: SourceIo) -> Result<(), SourceError> {
        let link = Link::new(self)?;
        let frozen = match io.start {
            Start::Frozen => self.frozen.take(),
            Start::First { .. } | Start::Resume { .. } => None,
        };
        let mut run = Run {
            link,
            io,
            batch: Batch::default(),
            shapes: HashMap::new(),
            last_sent: None,
            acked: None,
        };
        let (sent, from) = match run.io.start.clone() {
            Start::First { .. } => run.first_start().await?,
            Start::Resume { position, recorded } => {
                let slot = run.link.database.lock().resume(&position, &recorded)?;
                (slot.confirmed, position.order())
            }
            Start::Frozen => {
                let existing =
                    frozen.ok_or_else(|| SourceError::transient("no moment is fixed"))?;
                let end = existing.end;
                run.existing_rows(existing).await?;
                run.push(Item::SnapshotEnd(Position::new(end))).await?;
                return run.flush().await;
            }
        };
        run.stream(sent, from).await
    }
}

impl Server {
    /// Compares what was recorded with what is there. The server itself would say nothing: asked for a
    /// position before its slot's, it silently starts at the slot's.
    fn resume(&self, position: &Position, recorded: &Identity) -> Result<Slot, SourceError> {
        let refused =
            |state, problem: &str| Err(SourceError::refused(state, problem, "look at the test"));
        if recorded.source != self.identity.source {
            return refused(
                State::WrongSource,
                "the position belongs to another database",
            );
        }
        if recorded.history != self.identity.history {
            return refused(
                State::TimelineDiverged,
                "the position belongs to another history",
            );
        }
        match self.slot {
            None => refused(State::SlotLost, "the slot is gone"),
            Some(slot) if slot.confirmed > position.order() => {
                refused(State::Gap, "the slot is past the position")
            }
            Some(slot) => Ok(slot),
        }
    }
}

/// The connection that holds the slot.
struct Link {
    database: FakeDatabase,
    session: u64,
    changes: watch::Receiver<u64>,
    answer: Option<Interval>,
}

impl Link {
    fn new(source: &FakeSource) -> Result<Self, SourceError> {
        let database = source.database.clone();
        let session = source
            .session
            .ok_or_else(|| SourceError::transient("not the owner"))?;
        let timeout = database.lock().timeout;
        let answer = timeout
            .checked_div(source.answers_per_timeout)
            .map(|every| {
                let mut answer = interval(every.max(Duration::from_millis(1)));
                answer.set_missed_tick_behavior(MissedTickBehavior::Delay);
                answer
            });
        let link = Self {
            changes: database.changes(),
            database,
            session,
            answer,
        };
        link.check()?;
        Ok(link)
    }

    fn check(&self) -> Result<(), SourceError> {
        if self.database.lock().is_connected(self.session) {
            Ok(())
        } else {
            Err(SourceError::transient("the server closed the connection"))
        }
    }

    /// Waits for something to change, answering the server meanwhile. Cancel safe.
    async fn changed(&mut self) -> Result<(), SourceError> {
        let answer = async {
            match &mut self.answer {
                Some(answer) => drop(answer.tick().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.changes.changed() => changed.map_err(|_| SourceError::transient("the server is gone"))?,
            () = answer => self.database.lock().hear(self.session),
        }
        self.check()
    }
}

/// One run: what was sent, and what is being put together.
struct Run {
    link: Link,
    io: SourceIo,
    batch: Batch,
    /// The shape of each table that was sent.
    shapes: HashMap<usize, ShapeId>,
    /// The last commit sent.
    last_sent: Option<Position>,
    /// What the server was told last.
    acked: Option<Position>,
}

impl Run {
    /// Makes the slot, reads all rows, and returns from where the server streams and from where we read:
    /// both the slot's point, which an interrupted first start may have set long before this snapshot.
    async fn first_start(&mut self) -> Result<(u64, u64), SourceError> {
        let (slot, existing) = self
            .link
            .database
            .change(|server| (server.create_slot(), server.existing()));
        self.existing_rows(existing).await?;
        self.push(Item::SnapshotEnd(Position::new(slot.confirmed)))
            .await?;
        Ok((slot.confirmed, slot.confirmed))
    }

    /// Sends the rows of one moment.
    async fn existing_rows(&mut self, existing: Existing) -> Result<(), SourceError> {
        let Existing {
            tables,
            end,
            micros,
        } = existing;
        let position = Position::new(end);
        self.push(Item::Begin(Transaction {
            id: 0,
            position,
            commit_micros: micros,
        }))
        .await?;
        let mut ordinal = 0;
        let rows_about = tables.iter().map(|rows| rows.len() as u64).sum();
        let count = tables.len();
        for (table, rows) in tables.into_iter().enumerate() {
            let name = self.link.database.lock().tables[table]
                .definition
                .name
                .clone();
            for row in rows.into_values() {
                let after = Some(row.into_iter().map(Sent::from).collect());
                let read = SentChange {
                    table,
                    op: Op::Read,
                    before: None,
                    after,
                };
                self.push_change(&read, ordinal).await?;
                ordinal += 1;
                self.report(Some(SnapshotProgress {
                    table: name.clone(),
                    number: table + 1,
                    tables: count,
                    rows: ordinal,
                    rows_about: Some(rows_about),
                }));
            }
        }
        Ok(())
    }

    /// Sends what the server sends after `sent`, but for transactions that committed before `from`.
    async fn stream(&mut self, mut sent: u64, from: u64) -> Result<(), SourceError> {
        while !self.io.shutdown.is_cancelled() {
            self.link.check()?;
            self.acknowledge();
            self.report(None);
            let next = self.link.database.lock().next_after(sent);
            let Some(committed) = next else {
                self.flush().await?;
                self.wait().await?;
                continue;
            };
            sent = committed.end;
            if committed.position >= from {
                self.transaction(&committed).await?;
            }
        }
        self.drain().await
    }

    async fn transaction(&mut self, committed: &Committed) -> Result<(), SourceError> {
        if !committed.changes.is_empty() {
            let position = Position::new(committed.position);
            let begin = Transaction {
                id: committed.id,
                position,
                commit_micros: committed.micros,
            };
            self.push(Item::Begin(begin)).await?;
            for (ordinal, change) in (0..).zip(&committed.changes) {
                self.push_change(change, ordinal).await?;
            }
        }
        self.push(Item::Commit(Commit {
            position: Position::new(committed.end),
        }))
        .await
    }

    async fn push_change(&mut self, change: &SentChange, ordinal: u64) -> Result<(), SourceError> {
        let shape = match self.shapes.get(&change.table) {
            Some(shape) => *shape,
            None => self.push_shape(change.table).await?,
        };
        let before = push_row(&mut self.batch, change.before.as_deref());
        let after = push_row(&mut self.batch, change.after.as_deref());
        let width = self.link.database.lock().tables[change.table]
            .definition
            .columns
            .len();
        let width = u16::try_from(width).expect("a test's table is narrow");
        self.push(Item::Change(Change {
            shape,
            op: change.op,
            before,
            after,
            width,
            ordinal,
        }))
        .await
    }

    async fn push_shape(&mut self, table: usize) -> Result<ShapeId, SourceError> {
        let id = ShapeId(u32::try_from(self.shapes.len()).expect("a test has few tables"));
        let shape = self.link.database.lock().tables[table].shape(id);
        self.shapes.insert(table, id);
        self.batch.items.push(Item::Shape(Arc::new(shape)));
        Ok(id)
    }

    /// Adds a message; a full batch goes out.
    async fn push(&mut self, item: Item) -> Result<(), SourceError> {
        let (fails, batch_items) = {
            let mut server = self.link.database.lock();
            (server.fails_now(), server.batch_items)
        };
        if fails {
            return Err(SourceError::transient("the link broke, as the test asked"));
        }
        self.batch.items.push(item);
        if self.batch.items.len() >= batch_items {
            self.flush().await?;
        }
        Ok(())
    }

    /// Sends the batch once the consumer has room, answering the server meanwhile. On shutdown it gives
    /// up: what was not sent comes again.
    async fn flush(&mut self) -> Result<(), SourceError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        loop {
            tokio::select! {
                biased;
                () = self.io.shutdown.cancelled() => return Ok(()),
                ready = self.io.out.ready() => break ready?,
                changed = self.link.changed() => changed?,
            }
            self.acknowledge();
        }
        let last_sent = self.batch.items.iter().rev().find_map(|item| match item {
            Item::Commit(commit) => Some(commit.position.clone()),
            Item::SnapshotEnd(position) => Some(position.clone()),
            _ => None,
        });
        self.last_sent = last_sent.or(self.last_sent.take());
        self.batch = self.io.out.send(std::mem::take(&mut self.batch)).await?;
        self.batch.clear();
        Ok(())
    }

    /// Waits for the server, an acknowledgement or the shutdown.
    async fn wait(&mut self) -> Result<(), SourceError> {
        tokio::select! {
            () = self.io.shutdown.cancelled() => Ok(()),
            changed = self.link.changed() => changed,
            acked = self.io.acked.changed() => match acked {
                Ok(()) => Ok(()),
                Err(_) if self.io.shutdown.is_cancelled() => Ok(()),
                Err(_) => Err(SourceError::transient("the consumer is gone")),
            },
        }
    }

    /// After shutdown: waits until the last commit sent is acknowledged or nobody will, and passes it on.
    async fn drain(&mut self) -> Result<(), SourceError> {
        loop {
            self.acknowledge();
            if self.last_sent <= self.acked {
                return Ok(());
            }
            tokio::select! {
                acked = self.io.acked.changed() => if acked.is_err() {
                    self.acknowledge();
                    return Ok(());
                },
                changed = self.link.changed() => changed?,
            }
        }
    }

    /// Tells the server what the consumer committed.
    fn acknowledge(&mut self) {
        let acked = self.io.acked.borrow_and_update().clone();
        if let Some(position) = &acked
            && acked != self.acked
        {
            self.link.database.lock().acknowledge(position);
            self.acked = acked;
        }
    }

    fn report(&self, snapshot: Option<SnapshotProgress>) {
        let lag_bytes = {
            let server = self.link.database.lock();
            server.slot.map(|slot| server.end() - slot.confirmed)
        };
        let status = SourceStatus {
            snapshot,
            lag_bytes,
            safe_wal_bytes: None,
            history_seconds: None,
        };
        self.io.status.send_replace(status);
    }
}

fn push_row(batch: &mut Batch, row: Option<&[Sent]>) -> Image {
    let Some(row) = row else { return Image::Absent };
    let first_cell = u32::try_from(batch.cells.len()).expect("a test's batch is small");
    for cell in row {
        match cell {
            Sent::Value(text) => batch.push_value(text.as_bytes()),
            Sent::Null => batch.cells.push(CellRange::NULL),
            Sent::Unavailable => batch.cells.push(CellRange::UNAVAILABLE),
        }
    }
    Image::Row { first_cell }
}
