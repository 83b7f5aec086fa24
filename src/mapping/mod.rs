//! The mapping language: TOML rules that turn row changes into business events.
//!
//! Compile once ([`Mapping::compile`]), evaluate many times ([`Evaluator`]). Pure: no IO, no clock, no
//! tokio; the sources arrive as text and events leave as bytes. The language is specified in
//! docs/mapping.md.

pub mod cases;
pub mod change_json;

use std::sync::Arc;

use rowbridge_api::{Batch, Change, Identity, Position, Shape, State, TableNeeds, Transaction};

use crate::event::EncodedBatch;

/// One file of a pack, as text, with the name that diagnostics show.
#[derive(Clone, Debug)]
pub struct SourceFile {
    pub name: String,
    pub text: String,
}

/// The files a mapping is compiled from.
#[derive(Clone, Debug)]
pub struct Pack {
    /// `mapping.toml`
    pub mapping: SourceFile,
    /// `schema.toml`
    pub schema: SourceFile,
    /// `[params]` overridden by the configuration.
    pub params: toml::Table,
}

/// One topic that events go to, as the mapping declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The Kafka name.
    pub name: String,
    pub partitions: Option<u32>,
    pub replication: Option<u16>,
    pub retention_ms: Option<u64>,
    pub max_bytes_per_partition: Option<u64>,
    pub cleanup: Option<Cleanup>,
    pub envelope: Envelope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    Delete,
    Compact,
    CompactDelete,
}

/// CloudEvents content mode on Kafka.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Envelope {
    /// Attributes in headers, data in the value.
    #[default]
    Binary,
    /// Attributes and data in one JSON value.
    Structured,
}

/// A compiled mapping. Immutable and shared.
#[derive(Debug)]
pub struct Mapping {}

/// What is wrong with a mapping's files: all of it, each with file, line, column, caret and a hint.
#[derive(Debug, thiserror::Error)]
#[error("the mapping does not compile")]
pub struct Diagnostics {}

impl Mapping {
    /// Compiles a pack; on success also the warnings.
    ///
    /// # Errors
    /// Every diagnostic of the pack at once.
    pub fn compile(_pack: &Pack) -> Result<(Self, Diagnostics), Diagnostics> {
        unreachable!("skeleton")
    }
    /// `[mapping] name`.
    #[must_use]
    pub fn name(&self) -> &str {
        unreachable!("skeleton")
    }
    /// Hash of everything that decides what is published, in hexadecimal.
    #[must_use]
    pub fn hash(&self) -> &str {
        unreachable!("skeleton")
    }
    /// Topics in the order of [`crate::event::TopicId`].
    #[must_use]
    pub fn topics(&self) -> &[Topic] {
        unreachable!("skeleton")
    }
    /// Header names in the order of [`crate::event::HeaderId`]; starts with [`crate::event::EVENT_HEADERS`].
    #[must_use]
    pub fn header_names(&self) -> &[String] {
        unreachable!("skeleton")
    }
    /// Event type of every rule, in file order.
    #[must_use]
    pub fn rules(&self) -> &[String] {
        unreachable!("skeleton")
    }
    /// What it reads, per table.
    #[must_use]
    pub fn needs(&self) -> &[TableNeeds] {
        unreachable!("skeleton")
    }
}

/// What the events of one run are stamped with.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// The pipeline's name, for `ce_source` (`rowbridge://<pipeline>/<schema>.<table>`).
    pub pipeline: String,
    pub identity: Identity,
    /// Longest record (key, value and headers) in bytes; a longer event is a bad record.
    pub max_record_bytes: usize,
}

/// Why evaluation must stop.
#[derive(Debug, thiserror::Error)]
#[error("{state}: {problem}")]
pub struct Stop {
    pub state: State,
    pub problem: String,
    pub hint: String,
}

/// Evaluates the changes of one run: rules bound to the shapes that arrived so far.
pub struct Evaluator {}

impl Evaluator {
    #[must_use]
    pub fn new(_mapping: Arc<Mapping>, _stamp: Stamp) -> Self {
        unreachable!("skeleton")
    }

    /// Binds the rules to a shape that arrived; `at` is the position of the transaction it arrived in.
    ///
    /// # Errors
    /// A column that a rule reads is not in the shape, or has a type that the rule cannot read.
    pub fn bind(&mut self, _shape: &Arc<Shape>, _at: &Position) -> Result<(), Stop> {
        unreachable!("skeleton")
    }

    /// Appends the events of one change. A bad record becomes a quarantine record where the mapping says
    /// so; the other events of the change go out.
    ///
    /// # Errors
    /// A bad record under `on_error = "stop"`: names rule, column and position, never a row value.
    pub fn change(
        &mut self,
        _batch: &Batch,
        _tx: &Transaction,
        _change: &Change,
        _out: &mut EncodedBatch,
    ) -> Result<(), Stop> {
        unreachable!("skeleton")
    }
}
