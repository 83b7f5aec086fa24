//! Skipping, after a restart, the part of a transaction that is already published.
//!
//! A transaction that had to be split over several sink commits leaves a [`Cursor`]: how many of its
//! changes are done, and a witness of the last of them. The source sends the whole transaction again; the
//! first `skip` changes are dropped, and the last one dropped must be the one the witness saw. Anything
//! else is `REPLAY_DIVERGED`: the source's history is not the one that was published.

use rowbridge_api::{Batch, Cell, Change, Position, Shape, State};
use xxhash_rust::xxh3::Xxh3;

use super::planted;
use crate::mapping::Stop;
use crate::sink::Cursor;

/// What is still to be skipped.
pub(super) struct Replay {
    cursor: Option<Cursor>,
    /// Whether the split transaction has begun again.
    begun: bool,
}

impl Replay {
    pub(super) const fn new(cursor: Option<Cursor>) -> Self {
        Self {
            cursor,
            begun: false,
        }
    }

    /// What a checkpoint must still say while the split transaction has not come again.
    pub(super) fn pending(&self) -> Option<Cursor> {
        self.cursor.clone()
    }

    /// A transaction begins: while a cursor waits, it must be the split one.
    pub(super) fn begin(&mut self, transaction: &Position) -> Result<(), Stop> {
        let Some(cursor) = &self.cursor else {
            return Ok(());
        };
        if cursor.transaction != transaction.to_string() {
            return Err(diverged(
                cursor,
                &format!("the source went on with the transaction at {transaction}"),
            ));
        }
        self.begun = true;
        Ok(())
    }

    /// Whether `change` is already published.
    #[inline]
    pub(super) fn skips(
        &mut self,
        shape: &Shape,
        batch: &Batch,
        change: &Change,
    ) -> Result<bool, Stop> {
        let Some(cursor) = self.cursor.as_ref().filter(|_| self.begun) else {
            return Ok(false);
        };
        if change.ordinal + 1 < cursor.skip {
            return Ok(true);
        }
        // The last published change itself does not come when a new mapping no longer wants its table.
        let is_last = change.ordinal + 1 == cursor.skip;
        if is_last && witness(shape, batch, change) != cursor.witness {
            let what = format!(
                "its change number {} is not the one that was published",
                cursor.skip
            );
            return Err(diverged(cursor, &what));
        }
        self.cursor = None;
        self.begun = false;
        Ok(is_last && !planted::skip_off_by_one())
    }

    /// A transaction (or an idle stretch) ended at `position`: a split transaction cannot lie behind it.
    pub(super) fn finish(&mut self, position: &Position) -> Result<(), Stop> {
        let Some(cursor) = &self.cursor else {
            return Ok(());
        };
        if self.begun {
            return Err(diverged(
                cursor,
                "it ended before the changes that were published",
            ));
        }
        let passed = cursor
            .transaction
            .parse::<Position>()
            .is_ok_and(|transaction| transaction < *position);
        if passed {
            Err(diverged(
                cursor,
                &format!("the source went past it, to {position}"),
            ))
        } else {
            Ok(())
        }
    }
}

/// A hash of everything the source said of a change: a replayed history that hashes the same is the same.
pub(super) fn witness(shape: &Shape, batch: &Batch, change: &Change) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(shape.table.schema.as_bytes());
    hash.update(&[0]);
    hash.update(shape.table.name.as_bytes());
    hash.update(&[0, change.op as u8]);
    for row in [batch.before(change), batch.after(change)] {
        let Some(row) = row else {
            hash.update(b"absent");
            continue;
        };
        for index in 0..row.width() {
            match row.cell(index) {
                Cell::Value(bytes) => {
                    hash.update(&(bytes.len() as u64).to_le_bytes());
                    hash.update(bytes);
                }
                Cell::Null => hash.update(b"null"),
                Cell::Unavailable => hash.update(b"unavailable"),
            }
        }
    }
    hash.digest()
}

fn diverged(cursor: &Cursor, what: &str) -> Stop {
    Stop {
        state: State::ReplayDiverged,
        problem: format!(
            "the first {} changes of the transaction at {} are published, and the source no longer has that history: {what}",
            cursor.skip, cursor.transaction
        ),
        hint: format!(
            "if the source was restored from a backup, choose where to go on: `rowbridge position set {} --accept-gap` \
             goes on after that transaction, `rowbridge position set --snapshot` reads the tables again",
            cursor.transaction
        ),
    }
}
