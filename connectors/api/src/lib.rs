//! What every Rowbridge source speaks: batches of changes, values, positions.
//!
//! A source (PostgreSQL, MongoDB, a test fake) implements [`Source`] and pushes [`Batch`]es; the pipeline
//! in the root crate knows nothing else of it. Code map:
//!
//! - [`batch`]: one buffer of source bytes, cells as ranges into it, changes and markers in source order
//! - [`shape`]: table names, columns, and the shape that a change's cells follow
//! - [`value`]: types, decoding of a cell when a rule reads it, and values as JSON
//! - [`position`]: the opaque, ordered, printable place in a source's history
//! - [`password`]: where a connector's password comes from
//! - [`source`]: the contract: own, hold, run, check; errors and findings
//! - [`transaction_log`]: a source made of whatever can be asked for its transactions by number
//! - [`survey`]: what a source tells of a table that no mapping names yet
//! - `testkit` (feature): fakes, the conformance suite, and sources that are wrong on purpose
//!
//! What is deliberately absent: any driver, any mapping, any sink, and any value tree for a row.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod batch;
pub mod password;
pub mod position;
pub mod shape;
pub mod source;
pub mod survey;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
pub mod transaction_log;
pub mod value;

pub use batch::{Batch, Cell, CellRange, Change, Commit, Image, Item, Op, Row, Transaction};
pub use password::{Password, UnreadablePassword};
pub use position::{ParsePositionError, Position};
pub use shape::{Column, Shape, ShapeId, TableName};
pub use source::{
    BatchSender, Claim, ColumnNeed, ConsumerGone, Finding, Frozen, HEARTBEAT, Identity, OpSet,
    Ownership, Remembers, Severity, SnapshotProgress, Source, SourceError, SourceIo, SourceStatus,
    Start, State, TableNeeds, batch_channel,
};
pub use transaction_log::{
    Lock, LogSource, LoggedChange, LoggedTable, LoggedTransaction, TransactionLog,
};
pub use value::{Element, Field, Kind, Type, Value, ValueError};
