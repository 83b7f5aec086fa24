//! The mapping language: TOML rules that turn row changes into business events.
//!
//! Compile once ([`Mapping::compile`]), evaluate many times ([`Evaluator`]). Pure: no IO, no clock, no
//! tokio; the sources arrive as text and events leave as bytes. The language is specified in
//! docs/mapping.md.

mod bind;
mod body;
pub mod capture;
pub mod cases;
pub mod change_document;
pub mod change_json;
mod compile;
mod context;
mod convert;
pub mod coverage;
mod delta;
mod diagnostic;
mod encode;
mod evaluate;
mod explain;
mod expression;
mod fault;
mod file;
mod gathered;
mod item;
mod joins;
mod judge;
mod kept;
mod lifecycle;
pub mod memory;
mod others;
mod privacy;
mod quarantine;
pub mod remembers;
mod rule;
mod rules;
mod schema;
pub mod spool;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
mod verdict;
mod work;
#[cfg(test)]
mod wrong;

use std::sync::Arc;

use rowbridge_api::{Column, Identity, Shape, ShapeId, State, TableName, TableNeeds};

pub use self::diagnostic::{Diagnostics, Severity};
pub use self::evaluate::{Arrival, Evaluated, Evaluator, Settled};
pub use self::explain::{Outcome, RuleOutcome};
use self::file::OnError;
pub use self::privacy::{HashKey, HashKeyError};
use self::rule::{Rule, Table};

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

/// What is kept, by source table: columns of its rows, and what they are found by (`by number, day`).
pub type Kept = std::collections::BTreeMap<String, std::collections::BTreeSet<String>>;

/// By source table, how often its rows were read anew since the state began; none of a table that is not listed. What is
/// kept of an earlier generation does not count any more.
pub type Generations = std::collections::BTreeMap<String, u32>;

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
#[derive(Clone, Debug)]
pub struct Mapping {
    name: String,
    version: u32,
    /// `name@version`.
    tag: String,
    hash: String,
    on_error: OnError,
    topics: Vec<Topic>,
    header_names: Vec<String>,
    /// Whether a transaction is evaluated as a whole, once all of it is there.
    gathers: bool,
    rule_names: Vec<String>,
    needs: Vec<TableNeeds>,
    tables: Vec<Table>,
    rules: Vec<Rule>,
    /// What it hashes, by name.
    hashed: Vec<String>,
    hash_key: Option<HashKey>,
}

/// What people want to know of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleInfo<'a> {
    pub event_type: &'a str,
    pub doc: &'a str,
    /// Short name of its table.
    pub table: &'a str,
    /// Where it is in `mapping.toml`, from 1.
    pub line: usize,
}

impl Mapping {
    /// Compiles a pack; on success also the warnings.
    ///
    /// # Errors
    /// Every diagnostic of the pack at once.
    pub fn compile(pack: &Pack) -> Result<(Self, Diagnostics), Diagnostics> {
        compile::compile(pack)
    }

    /// `[mapping] name`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `[mapping] version`.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Hash of everything that decides what is published, in hexadecimal.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// What it hashes, as `table.column`: with any of these it needs [`Mapping::with_hash_key`].
    #[must_use]
    pub fn hashed(&self) -> &[String] {
        &self.hashed
    }

    /// The mapping with the key that it hashes with. Without one, a value that is to be hashed is a bad record.
    #[must_use]
    pub fn with_hash_key(self, key: HashKey) -> Self {
        Self {
            hash_key: Some(key),
            ..self
        }
    }

    /// The mapping for input that was protected when it was written, as quarantine records are: what is a hash under
    /// its key stays as it is.
    #[must_use]
    pub fn for_protected_input(self) -> Self {
        Self {
            hash_key: self.hash_key.map(HashKey::for_protected_input),
            ..self
        }
    }

    /// Topics in the order of [`crate::event::TopicId`].
    #[must_use]
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// Header names in the order of [`crate::event::HeaderId`]; starts with [`crate::event::EVENT_HEADERS`].
    #[must_use]
    pub fn header_names(&self) -> &[String] {
        &self.header_names
    }

    /// Event type of every rule, in file order; then the lifecycles, `lifecycle <name>`, which give no events but
    /// quarantine records.
    #[must_use]
    pub fn rules(&self) -> &[String] {
        &self.rule_names
    }

    /// What people want to know of every rule that gives events, in file order.
    pub fn rule_infos(&self) -> impl Iterator<Item = RuleInfo<'_>> {
        self.rules.iter().map(|rule| RuleInfo {
            event_type: &rule.event_type,
            doc: &rule.doc,
            table: &self.tables[rule.table].short,
            line: rule.line,
        })
    }

    /// Where a rule or lifecycle is in `mapping.toml`, from 1; by its number in [`Mapping::rules`].
    #[must_use]
    pub fn line(&self, rule: usize) -> Option<usize> {
        if let Some(rule) = self.rules.get(rule) {
            return Some(rule.line);
        }
        let mut lifecycles = self.tables.iter().flat_map(|table| &table.lifecycles);
        let found = lifecycles.find(|lifecycle| usize::from(lifecycle.number) == rule)?;
        Some(found.line)
    }

    /// What it reads, per table.
    #[must_use]
    pub fn needs(&self) -> &[TableNeeds] {
        &self.needs
    }

    /// Whether a transaction has to be there as a whole before any of it is evaluated: rules look rows up as of its
    /// commit.
    #[must_use]
    pub const fn gathers(&self) -> bool {
        self.gathers
    }

    /// What rules have to know of what was before: the columns of rows that they look up, and by which. Empty if
    /// they only take events back, nothing if they know enough from each change.
    #[must_use]
    pub fn kept(&self) -> Option<Kept> {
        let reverts = self.tables.iter().any(|table| !table.reverted.is_empty());
        let kept = self.tables.iter().filter_map(|table| {
            let slots = &table.kept.as_ref()?.0;
            let name = |slot: &u16| table.columns[usize::from(*slot)].name.clone();
            let finders = [&*table.key].into_iter();
            let finders = finders.chain(table.indexes.iter().map(AsRef::as_ref));
            let finders = finders.filter(|slots| !slots.is_empty());
            let finders = finders.map(|slots| format!("by {}", table.names_of(slots)));
            let kept = slots.iter().map(name).chain(finders);
            Some((table.source.to_string(), kept.collect()))
        });
        let kept: Kept = kept.collect();
        (reverts || !kept.is_empty()).then_some(kept)
    }

    /// The mapping that keeps and finds rows of these generations.
    #[must_use]
    pub fn of_generations(self: &Arc<Self>, generations: &Generations) -> Arc<Self> {
        if generations.is_empty() {
            return Arc::clone(self);
        }
        let mut mapping = Self::clone(self);
        for table in &mut mapping.tables {
            let generation = generations.get(&table.source.to_string());
            table.generation = generation.copied().unwrap_or_default();
        }
        Arc::new(mapping)
    }

    /// The tables that rules look into.
    #[must_use]
    pub fn looked_into(&self) -> Vec<TableName> {
        let kept = self.tables.iter().filter(|table| table.kept.is_some());
        kept.map(|table| table.source.clone()).collect()
    }

    /// Short name and source table of every table in `[tables]`, in file order.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &TableName)> {
        self.tables
            .iter()
            .map(|table| (table.short.as_str(), &table.source))
    }

    /// The shape of a table as `schema.toml` declares it, by short name or by `schema.name`; its id is the
    /// table's number in [`Mapping::tables`]. For cases and change JSON, which have no source to ask.
    #[must_use]
    pub fn shape(&self, table: &str) -> Option<Shape> {
        let number = self
            .tables
            .iter()
            .position(|known| known.short == table)
            .or_else(|| {
                self.tables
                    .iter()
                    .position(|known| known.source.to_string() == table)
            })?;
        let known = &self.tables[number];
        Some(Shape {
            id: ShapeId(u32::try_from(number).ok()?),
            table: known.source.clone(),
            table_id: None,
            columns: (0_u16..)
                .zip(&known.columns)
                .map(|(slot, column)| Column {
                    name: column.name.clone(),
                    ty: column.ty.clone(),
                    key: known.key.contains(&slot),
                })
                .collect(),
        })
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
