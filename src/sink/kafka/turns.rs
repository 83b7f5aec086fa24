//! Two transactional producers that take turns.
//!
//! A commit is answered once its outcome is decided; the brokers write its markers afterwards, and meanwhile
//! they turn the same transactional id away. The next transaction comes from the other id instead. Only one transaction is ever open, and the next one begins after the last one's
//! outcome is known, so that order and the meaning of the position are those of a single producer. Whoever
//! takes the pipeline over fences both ids before it reads the position; see ARCHITECTURE.md.

use std::sync::Arc;
use std::thread;

use jiff::Timestamp;

use super::producer::{Names, Transactions};
use super::{KafkaConfig, properties};
use crate::event::EncodedBatch;
use crate::sink::SinkError;

/// Owns both transactional ids from [`Turns::fence`] until it is dropped or fenced.
pub(super) struct Turns {
    current: Transactions,
    other: Transactions,
}

impl Turns {
    /// Takes both ids over: every earlier producer is fenced, and what it left open is settled.
    pub(super) fn fence(config: &Arc<KafkaConfig>, names: &Arc<Names>) -> Result<Self, SinkError> {
        let settings = &Arc::new(properties::publisher(config)?);
        let [current, other] = config.transactional_ids();
        thread::scope(|scope| {
            let other = scope.spawn(|| Transactions::fence(config, names, settings, other));
            let current = Transactions::fence(config, names, settings, current);
            let other = other.join();
            let other = other.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok(Self {
                current: current?,
                other: other?,
            })
        })
    }

    /// Takes the batch's records into the open transaction.
    pub(super) fn write(&mut self, batch: &EncodedBatch, now: Timestamp) -> Result<(), SinkError> {
        self.current.write(batch, now)
    }

    /// Takes a record of the position topic that is not the position into the open transaction.
    pub(super) fn note(
        &mut self,
        key: &[u8],
        value: &[u8],
        now: Timestamp,
    ) -> Result<(), SinkError> {
        self.current.note(key, value, now)
    }

    /// An offset of the state topic before which all is committed that was written; none before the first commit with
    /// an entry.
    pub(super) fn state_reached(&self) -> Option<i64> {
        self.current.state_reached().max(self.other.state_reached())
    }

    /// Makes what was written, and the position record, visible at once. After an error no more can be
    /// published: another life has to fence both ids.
    pub(super) fn commit(
        &mut self,
        key: &[u8],
        value: &[u8],
        now: Timestamp,
    ) -> Result<(), SinkError> {
        self.current.commit(key, value, now)?;
        std::mem::swap(&mut self.current, &mut self.other);
        Ok(())
    }
}
