//! Cases: the tests of a pack. Given these changes, expect exactly these events.
//!
//! Each case runs on its own evaluator, in file order, with a fixed source identity, so that a case gives
//! the same on every machine. [`Case::parse`] reads a file, [`Case::run`] evaluates it and compares.
//!
//! - `document`: a TOML document with spans
//! - `given`, `expected`: the two halves of a case
//! - `published`: an event as a case sees it
//! - `difference`: expected against published, field by field
//!
//! Not here: files and folders, and how a failure is printed.

mod difference;
mod document;
mod expected;
mod given;
mod published;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rowbridge_api::{Batch, Identity};
use toml::de::DeTable;

use super::change_json::{BatchWriter, Replay, RowChange, Tables, TransactionFacts};
use super::coverage::Seen;
use super::{Mapping, SourceFile, Stamp, Stop};
use crate::event::EncodedBatch;
pub use difference::{Difference, Line, Side, Verdict};
use document::Fields;
pub use document::{CaseProblem, Problems};
use expected::ExpectedEvent;
use given::Given;
pub use published::{Body, Published};

/// Longest record a case may give; generous, since no broker is asked.
const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// One case file.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    /// The file, as diagnostics show it.
    pub file: String,
    /// Rows that were there before.
    seeds: Vec<RowChange>,
    given: Vec<Given>,
    expected: Vec<ExpectedEvent>,
}

/// What came of a case.
#[derive(Debug)]
pub struct Outcome {
    /// In the order of the events; empty of faults if the case passed.
    pub differences: Vec<Difference>,
    /// The evaluation stopped: a bad record where the mapping says `on_error = "stop"`.
    pub stopped: Option<Stop>,
}

impl Outcome {
    #[must_use]
    pub fn passed(&self) -> bool {
        let same = |difference: &Difference| difference.verdict == Verdict::Same;
        self.stopped.is_none() && self.differences.iter().all(same)
    }
}

impl Case {
    /// Reads a case file; its cells are typed by `tables`.
    ///
    /// # Errors
    /// Every problem of the file.
    pub fn parse(file: &SourceFile, tables: &Tables) -> Result<Self, Vec<CaseProblem>> {
        let (document, errors) = DeTable::parse_recoverable(&file.text);
        if !errors.is_empty() {
            let problem = |error: toml::de::Error| {
                CaseProblem::new(error.span().unwrap_or(0..0), error.message())
            };
            return Err(errors.into_iter().map(problem).collect());
        }
        let mut problems = Vec::new();
        let mut fields = Fields::new(document.get_ref(), 0..0);
        let name = fields.text("name", &mut problems);
        let silent = fields.flag("silent", &mut problems);
        let seeds = fields.tables("seed", &mut problems);
        let seeds = given::parse_seeds(seeds, tables, &mut problems);
        let given_tables = fields.tables("given", &mut problems);
        let given = given::parse(given_tables, tables, &mut problems);
        let expected = fields.tables("expect", &mut problems);
        let expected: Vec<_> = expected
            .into_iter()
            .filter_map(|fields| ExpectedEvent::parse(fields, &mut problems))
            .collect();
        fields.finish(&mut problems);
        let whole = 0..file.text.lines().next().map_or(0, str::len);
        if name.is_none() {
            problems.push(CaseProblem::new(whole.clone(), "the case has no `name`"));
        }
        match (silent, expected.is_empty()) {
            (true, false) => problems.push(CaseProblem::new(
                whole,
                "`silent = true` expects nothing, and the case has [[expect]]",
            )),
            (false, true) if problems.is_empty() => problems.push(
                CaseProblem::new(whole, "the case expects nothing")
                    .hint("add [[expect]], or `silent = true` where silence is meant"),
            ),
            _ => {}
        }
        if problems.is_empty() {
            Ok(Self {
                name: name.unwrap_or_default(),
                file: file.name.clone(),
                seeds,
                given,
                expected,
            })
        } else {
            Err(problems)
        }
    }

    /// Evaluates the changes and compares what they give with what is expected.
    #[must_use]
    pub fn run(&self, mapping: &Arc<Mapping>, tables: &Tables) -> Outcome {
        let (encoded, stopped) = self.encoded(mapping, tables);
        let published = Published::all(mapping, &encoded);
        Outcome {
            differences: difference::compare(&self.expected, &published),
            stopped,
        }
    }
}

impl Case {
    /// The events that the changes give, whatever the case expects.
    ///
    /// # Errors
    /// The evaluation stopped.
    pub fn published(
        &self,
        mapping: &Arc<Mapping>,
        tables: &Tables,
    ) -> Result<Vec<Published>, Stop> {
        match self.encoded(mapping, tables) {
            (encoded, None) => Ok(Published::all(mapping, &encoded)),
            (_, Some(stop)) => Err(stop),
        }
    }

    /// Notes what the changes come by in the mapping, up to one that stops the evaluation.
    pub fn cover(&self, mapping: &Arc<Mapping>, tables: &Tables, seen: &mut Seen) {
        let [before, batch] = self.batches(tables);
        let mut replay = replay(mapping);
        if replay.seed(&before).is_err() {
            return;
        }
        for item in &batch.items {
            if replay.take_and_cover(&batch, item, seen).is_err() {
                return;
            }
        }
    }

    fn encoded(&self, mapping: &Arc<Mapping>, tables: &Tables) -> (EncodedBatch, Option<Stop>) {
        let [before, batch] = self.batches(tables);
        let mut replay = replay(mapping);
        let mut encoded = EncodedBatch::default();
        let mut items = batch.items.iter();
        let stopped = replay
            .seed(&before)
            .and_then(|()| items.try_for_each(|item| replay.item(&batch, item, &mut encoded)))
            .err();
        (encoded, stopped)
    }

    /// The rows that were there before, and the changes.
    fn batches(&self, tables: &Tables) -> [Batch; 2] {
        let mut writer = BatchWriter::new(tables.len());
        let mut before = Batch::default();
        for seed in &self.seeds {
            writer.change(seed, &TransactionFacts::default(), &mut before);
        }
        writer.commit(None, &mut before);
        let mut batch = Batch::default();
        for given in &self.given {
            writer.change(&given.change, &given.facts, &mut batch);
        }
        writer.commit(None, &mut batch);
        [before, batch]
    }
}

fn replay(mapping: &Arc<Mapping>) -> Replay {
    let stamp = Stamp {
        pipeline: mapping.name().to_owned(),
        identity: Identity {
            source: "case".to_owned(),
            history: "1".to_owned(),
        },
        max_record_bytes: MAX_RECORD_BYTES,
    };
    Replay::new(Arc::clone(mapping), stamp)
}
