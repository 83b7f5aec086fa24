//! A source transaction that is gathered before any of it is evaluated.
//!
//! Its rows are kept in chunks. Past a number of rows, chunks wait in a [`Spool`] and come back one by one: a huge
//! transaction takes the memory of a small one.

mod chunk;

use std::io;
use std::sync::Arc;

use rowbridge_api::{Batch, Change, State, Transaction};

pub(super) use self::chunk::Chunk;
use self::chunk::GatheredChange;
use super::Stop;
use super::spool::Spool;

/// Changes of one chunk.
const CHUNK_CHANGES: usize = 1024;
/// Chunks that came back and are kept: the one that is evaluated, and those of the rows it is read with.
const LOADED_CHUNKS: usize = 4;

/// The changes of the transaction at hand, in their order.
#[derive(Default)]
pub(super) struct Gathered {
    /// With the number of its first change.
    chunks: Vec<(usize, Place)>,
    /// The chunk that is being filled.
    open: Chunk,
    /// How many changes there are.
    length: usize,
    /// More than one where the rows that exist were read at several moments.
    transactions: Vec<Transaction>,
    /// How many are evaluated.
    evaluated: usize,
    spool: Option<Spooling>,
    /// Chunks that came back, the last one first.
    loaded: Vec<(usize, Arc<Chunk>)>,
    bytes: Vec<u8>,
}

/// Where a chunk is.
enum Place {
    Here(Arc<Chunk>),
    Spooled { place: u64, length: usize },
}

/// A spool, and from how many changes on it is used.
struct Spooling {
    spool: Box<dyn Spool>,
    changes: usize,
}

/// One change that waits for its transaction's end.
pub(super) struct GatheredRow {
    chunk: Arc<Chunk>,
    gathered: GatheredChange,
}

/// What was known of a change when it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Its events are to be published; with a hash of what the source sent, which a checkpoint may need.
    New { witness: u64 },
    /// Its events are published already: it is read for what it does to rows.
    Published,
}

impl GatheredRow {
    pub(super) fn batch(&self) -> &Batch {
        &self.chunk.rows.0
    }

    pub(super) const fn change(&self) -> &Change {
        &self.gathered.change
    }

    pub(super) const fn arrival(&self) -> Arrival {
        self.gathered.arrival
    }
}

impl Gathered {
    /// Puts the rows of transactions away that have more than so many changes.
    pub(super) fn spool(&mut self, spool: Box<dyn Spool>, changes: usize) {
        self.spool = Some(Spooling { spool, changes });
    }

    pub(super) fn push(
        &mut self,
        batch: &Batch,
        tx: &Transaction,
        change: &Change,
        arrival: Arrival,
    ) -> Result<(), Stop> {
        if self.transactions.last() != Some(tx) {
            self.transactions.push(tx.clone());
        }
        let transaction = u32::try_from(self.transactions.len() - 1).unwrap_or(u32::MAX);
        let before = self.open.copy(batch.before(change));
        let after = self.open.copy(batch.after(change));
        let change = Change {
            before,
            after,
            ..*change
        };
        self.open.changes.push(GatheredChange {
            change,
            transaction,
            arrival,
        });
        self.length += 1;
        match self.open.changes.len() >= CHUNK_CHANGES {
            true => self.close(),
            false => Ok(()),
        }
    }

    /// Ends the chunk that is being filled, so that its changes can be read.
    pub(super) fn close(&mut self) -> Result<(), Stop> {
        if self.open.changes.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.open);
        let first = self.length - chunk.changes.len();
        self.chunks.push((first, Place::Here(Arc::new(chunk))));
        self.put_away().map_err(|error| no_room(&error))
    }

    fn put_away(&mut self) -> io::Result<()> {
        let Some(Spooling { spool, changes }) = &mut self.spool else {
            return Ok(());
        };
        if self.length <= *changes {
            return Ok(());
        }
        for (_, at) in &mut self.chunks {
            let Place::Here(chunk) = at else { continue };
            self.bytes.clear();
            chunk.write(&mut self.bytes);
            let place = spool.put(&self.bytes)?;
            let length = self.bytes.len();
            *at = Place::Spooled { place, length };
        }
        Ok(())
    }

    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// The number of the next change that is to be evaluated, if there is one.
    pub(super) fn next(&self) -> Option<usize> {
        (self.evaluated < self.length).then_some(self.evaluated)
    }

    /// The next change is evaluated.
    pub(super) const fn advance(&mut self) {
        self.evaluated += 1;
    }

    /// A change by its number; its chunk is closed.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub(super) fn row(&mut self, number: usize) -> Result<GatheredRow, Stop> {
        let at = self.chunks.partition_point(|(first, _)| *first <= number) - 1;
        let first = self.chunks[at].0;
        let chunk = self.chunk(at)?;
        let gathered = chunk.changes[number - first];
        Ok(GatheredRow { chunk, gathered })
    }

    fn chunk(&mut self, at: usize) -> Result<Arc<Chunk>, Stop> {
        let (place, length) = match &self.chunks[at].1 {
            Place::Here(chunk) => return Ok(Arc::clone(chunk)),
            Place::Spooled { place, length } => (*place, *length),
        };
        if let Some((_, chunk)) = self.loaded.iter().find(|(loaded, _)| *loaded == at) {
            return Ok(Arc::clone(chunk));
        }
        let spooling = self.spool.as_mut().ok_or_else(damaged)?;
        let read = spooling.spool.get(place, length, &mut self.bytes);
        read.map_err(|error| no_room(&error))?;
        let chunk = Arc::new(Chunk::read(&self.bytes).ok_or_else(damaged)?);
        self.loaded.truncate(LOADED_CHUNKS - 1);
        self.loaded.insert(0, (at, Arc::clone(&chunk)));
        Ok(chunk)
    }

    pub(super) fn transaction(&self, row: &GatheredRow) -> &Transaction {
        &self.transactions[row.gathered.transaction as usize]
    }

    /// Forgets the transaction.
    pub(super) fn clear(&mut self) -> Result<(), Stop> {
        let is_spooled = |(_, place): &(usize, Place)| matches!(place, Place::Spooled { .. });
        let spooled = self.chunks.iter().any(is_spooled);
        self.open = Chunk::default();
        self.chunks.clear();
        self.loaded.clear();
        self.transactions.clear();
        self.length = 0;
        self.evaluated = 0;
        match &mut self.spool {
            Some(spooling) if spooled => {
                let cleared = spooling.spool.clear();
                cleared.map_err(|error| no_room(&error))
            }
            _ => Ok(()),
        }
    }
}

#[cold]
fn no_room(error: &io::Error) -> Stop {
    Stop {
        state: State::Invalid,
        problem: format!(
            "the rows of a large transaction cannot be put away in the folder for temporary files: {error}"
        ),
        hint: "give that folder room (TMPDIR names another one), or raise limits.transaction_rows if there is memory"
            .to_owned(),
    }
}

#[cold]
fn damaged() -> Stop {
    Stop {
        state: State::Invalid,
        problem: "the rows of a large transaction were changed where they were put away".to_owned(),
        hint: "start again: nothing was published of them".to_owned(),
    }
}
