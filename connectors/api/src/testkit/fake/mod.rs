//! A database in memory with one slot, and a source that follows it.
//!
//! It models what a PostgreSQL gives and takes: commits in one order, before images as the replica
//! identity has them, a slot that re-sends from its last *persisted* position after a crash and silently
//! starts at its confirmed one, one reader at a time, and a reader that falls silent being cut off. It
//! drops nothing, and [`FakeSource`] is as careful as a real source has to be.
//!
//! - `table`: tables, rows, and the images of a change
//! - `server`: history, slot and connection, behind one lock
//! - `source`: [`FakeSource`]

mod server;
mod source;
mod table;

pub(in crate::testkit) use server::COMMIT_BYTES;
pub use server::{Ack, FakeDatabase};
pub use source::FakeSource;
pub use table::{FakeChange, FakeTable, ReplicaIdentity};

#[cfg(test)]
mod tests;
