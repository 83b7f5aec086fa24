//! The fake database: history, slot and connection, behind one lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::source::FakeSource;
use super::table::{FakeChange, FakeTable, SentChange, Stored, Table};
use crate::position::Position;
use crate::source::Identity;

/// Bytes of history that a commit, or a change, takes; any number does.
pub(in crate::testkit) const COMMIT_BYTES: u64 = 0x30;
/// Where the history begins.
const FIRST_BYTE: u64 = 0x0100_0000;
/// 2026-01-01 00:00:00 UTC; transactions commit a millisecond apart.
const FIRST_MICROS: i64 = 1_767_225_600_000_000;
const MICROS_APART: i64 = 1_000;

/// One database with one slot. Clones are handles to the same one; it outlives its sources, so that a
/// crash is a source dropped and another one made.
#[derive(Clone, Debug)]
pub struct FakeDatabase {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: Mutex<Server>,
    /// Bumped by every change of `server`, so that sources wake.
    changed: watch::Sender<u64>,
}

/// An acknowledgement that the server took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    pub position: Position,
    /// What the consumer had committed by then, as told by [`FakeDatabase::consumer_committed`].
    pub committed: Option<Position>,
}

/// A committed transaction; one without changes is an idle stretch of history.
#[derive(Clone, Debug)]
pub(super) struct Committed {
    pub(super) id: u64,
    pub(super) position: u64,
    pub(super) end: u64,
    pub(super) micros: i64,
    pub(super) changes: Vec<SentChange>,
}

/// The rows of one moment.
#[derive(Clone, Debug)]
pub(super) struct Existing {
    pub(super) tables: Vec<BTreeMap<Vec<Stored>, Vec<Stored>>>,
    /// The end of history then.
    pub(super) end: u64,
    pub(super) micros: i64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) confirmed: u64,
    /// What a crash of the server goes back to.
    persisted: u64,
}

/// A connection that holds the slot.
#[derive(Debug)]
struct Walsender {
    session: u64,
    last_heard: Instant,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) identity: Identity,
    pub(super) tables: Vec<Table>,
    pub(super) history: Vec<Arc<Committed>>,
    pub(super) slot: Option<Slot>,
    walsender: Option<Walsender>,
    next_session: u64,
    committed: Option<Position>,
    acks: Vec<Ack>,
    /// Messages until the link breaks.
    fail_after: Option<u64>,
    stalled: bool,
    /// A reader silent for longer is cut off (PostgreSQL: `wal_sender_timeout`).
    pub(super) timeout: Duration,
    /// A source closes its batches at so many items.
    pub(super) batch_items: usize,
}

impl Default for FakeDatabase {
    fn default() -> Self {
        Self::new("fake/1/db")
    }
}

/// What tests do to it.
impl FakeDatabase {
    /// An empty database whose identity is `source`.
    #[must_use]
    pub fn new(source: &str) -> Self {
        let server = Server {
            identity: Identity {
                source: source.to_owned(),
                history: "1".to_owned(),
            },
            tables: Vec::new(),
            history: Vec::new(),
            slot: None,
            walsender: None,
            next_session: 1,
            committed: None,
            acks: Vec::new(),
            fail_after: None,
            stalled: false,
            timeout: Duration::from_secs(60),
            batch_items: 64,
        };
        let shared = Shared {
            server: Mutex::new(server),
            changed: watch::Sender::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A source for this database, as a starting process makes it.
    #[must_use]
    pub fn source(&self) -> FakeSource {
        FakeSource::new(self.clone())
    }

    pub fn create_table(&self, table: FakeTable) {
        self.change(|server| server.tables.push(Table::new(table)));
    }

    /// Commits one transaction and returns its end.
    ///
    /// # Panics
    /// Where a server would refuse a change: no such table or row, or the key is taken.
    pub fn commit(&self, changes: Vec<FakeChange>) -> Position {
        self.change(|server| server.commit(changes))
    }

    /// Writes history that the pipeline has no part in, and returns its end.
    pub fn idle(&self) -> Position {
        self.change(|server| server.commit(Vec::new()))
    }

    /// The rows of a table in the order of their keys' text.
    #[must_use]
    pub fn rows(&self, table: &str) -> Vec<Vec<Option<String>>> {
        let server = self.lock();
        server.tables[server.table(table)]
            .rows
            .values()
            .cloned()
            .collect()
    }

    /// Tells what the consumer has committed, for [`Ack::committed`]. Call it where the fake sink commits.
    pub fn consumer_committed(&self, position: Position) {
        self.change(|server| server.committed = Some(position));
    }

    /// Every acknowledgement so far.
    #[must_use]
    pub fn acks(&self) -> Vec<Ack> {
        self.lock().acks.clone()
    }

    /// The first acknowledgement past what the consumer had committed.
    #[must_use]
    pub fn ack_past_commit(&self) -> Option<Ack> {
        let past = |ack: &&Ack| {
            ack.committed
                .as_ref()
                .is_none_or(|committed| ack.position > *committed)
        };
        self.lock().acks.iter().find(past).cloned()
    }

    /// What the slot has confirmed, or nothing without a slot.
    #[must_use]
    pub fn acked(&self) -> Option<Position> {
        self.lock().slot.map(|slot| Position::new(slot.confirmed))
    }

    /// The end of history: `pg_current_wal_lsn`.
    #[must_use]
    pub fn end(&self) -> Position {
        Position::new(self.lock().end())
    }

    /// Persists the slot.
    pub fn checkpoint(&self) {
        self.change(|server| {
            if let Some(slot) = &mut server.slot {
                slot.persisted = slot.confirmed;
            }
        });
    }

    /// Kills the server and restarts it: the link breaks, the slot is what it was at the last checkpoint.
    pub fn crash_server(&self) {
        self.change(|server| {
            server.walsender = None;
            if let Some(slot) = &mut server.slot {
                slot.confirmed = slot.persisted;
            }
        });
    }

    /// Breaks the link.
    pub fn disconnect(&self) {
        self.change(|server| server.walsender = None);
    }

    /// Drops the slot, as an administrator might.
    pub fn drop_slot(&self) {
        self.change(|server| {
            server.walsender = None;
            server.slot = None;
        });
    }

    /// Moves the slot to the end of history, as an administrator might.
    pub fn advance_slot(&self) {
        self.change(|server| {
            let end = server.end();
            if let Some(slot) = &mut server.slot {
                *slot = Slot {
                    confirmed: end,
                    persisted: end,
                };
            }
        });
    }

    /// Breaks the link once, after `messages` more messages (a begin, a change or a commit each).
    pub fn fail_after(&self, messages: u64) {
        self.change(|server| server.fail_after = Some(messages));
    }

    /// Stops sending, the link staying up, until [`FakeDatabase::go_on`].
    pub fn stall(&self) {
        self.change(|server| server.stalled = true);
    }

    pub fn go_on(&self) {
        self.change(|server| server.stalled = false);
    }

    /// How long a reader may be silent. Default: 60 s.
    pub fn set_timeout(&self, timeout: Duration) {
        self.change(|server| server.timeout = timeout);
    }

    /// How many items a batch holds at most. Default: 64.
    pub fn set_batch_items(&self, items: usize) {
        self.change(|server| server.batch_items = items);
    }

    #[must_use]
    pub fn identity(&self) -> Identity {
        self.lock().identity.clone()
    }

    /// Gives the database another identity, as if it had been replaced.
    pub fn set_identity(&self, identity: Identity) {
        self.change(|server| server.identity = identity);
    }
}

/// What the source does to it.
impl FakeDatabase {
    pub(super) fn lock(&self) -> MutexGuard<'_, Server> {
        // A panicking test must not hide behind a poisoned lock.
        self.shared
            .server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Server) -> T) -> T {
        let result = change(&mut self.lock());
        self.shared.changed.send_modify(|version| *version += 1);
        result
    }

    /// Takes an acknowledgement from whoever sends one.
    pub(in crate::testkit) fn acknowledge(&self, position: &Position) {
        self.change(|server| server.acknowledge(position));
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }
}

impl Server {
    fn table(&self, name: &str) -> usize {
        let found = self
            .tables
            .iter()
            .position(|table| table.definition.name.name == name);
        found.expect("the table is there")
    }

    fn commit(&mut self, changes: Vec<FakeChange>) -> Position {
        let mut sent = Vec::new();
        for change in changes {
            let table = self.table(change.table());
            sent.push(self.tables[table].apply(table, change));
        }
        let id = self.history.len() as u64 + 1;
        let position = self.end() + COMMIT_BYTES * (sent.len() as u64 + 1);
        let end = position + COMMIT_BYTES;
        let micros = self.history.last().map_or(FIRST_MICROS, |last| last.micros) + MICROS_APART;
        self.history.push(Arc::new(Committed {
            id,
            position,
            end,
            micros,
            changes: sent,
        }));
        Position::new(end)
    }

    /// The end of history.
    pub(super) fn end(&self) -> u64 {
        self.history.last().map_or(FIRST_BYTE, |last| last.end)
    }

    /// All rows of all tables, as a snapshot sees them.
    pub(super) fn existing(&self) -> Existing {
        Existing {
            tables: self.tables.iter().map(|table| table.rows.clone()).collect(),
            end: self.end(),
            micros: self.history.last().map_or(0, |last| last.micros),
        }
    }

    /// Takes the slot for a new session, or nothing if another one has it.
    pub(super) fn connect(&mut self) -> Option<u64> {
        if self.walsender.is_some() {
            return None;
        }
        let session = self.next_session;
        self.next_session += 1;
        self.walsender = Some(Walsender {
            session,
            last_heard: Instant::now(),
        });
        Some(session)
    }

    pub(super) fn holder(&self) -> String {
        self.walsender
            .as_ref()
            .map_or_else(String::new, |walsender| {
                format!("session {}", walsender.session)
            })
    }

    /// Lets go of the slot if `session` has it.
    pub(super) fn close(&mut self, session: u64) {
        self.walsender
            .take_if(|walsender| walsender.session == session);
    }

    /// Whether `session` still has the slot; one silent for too long is cut off.
    pub(super) fn is_connected(&mut self, session: u64) -> bool {
        let timeout = self.timeout;
        self.walsender
            .take_if(|walsender| walsender.last_heard.elapsed() > timeout);
        self.walsender
            .as_ref()
            .is_some_and(|walsender| walsender.session == session)
    }

    /// The reader says that it is there.
    pub(super) fn hear(&mut self, session: u64) {
        if let Some(walsender) = &mut self.walsender
            && walsender.session == session
        {
            walsender.last_heard = Instant::now();
        }
    }

    /// Makes the slot at the end of history, if there is none, and returns it.
    pub(super) fn create_slot(&mut self) -> Slot {
        let end = self.end();
        *self.slot.get_or_insert(Slot {
            confirmed: end,
            persisted: end,
        })
    }

    /// Takes an acknowledgement. As PostgreSQL's, the slot never goes back.
    pub(super) fn acknowledge(&mut self, position: &Position) {
        self.acks.push(Ack {
            position: position.clone(),
            committed: self.committed.clone(),
        });
        if let Some(slot) = &mut self.slot {
            slot.confirmed = slot.confirmed.max(position.order());
        }
    }

    /// The transaction after `sent`, the end of the last one sent, if the server sends now.
    pub(super) fn next_after(&self, sent: u64) -> Option<Arc<Committed>> {
        if self.stalled {
            return None;
        }
        let next = self
            .history
            .partition_point(|committed| committed.end <= sent);
        self.history.get(next).cloned()
    }

    /// Counts down to the failure that the test asked for; whether it is now.
    pub(super) fn fails_now(&mut self) -> bool {
        match &mut self.fail_after {
            Some(0) => {
                self.fail_after = None;
                self.walsender = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}
