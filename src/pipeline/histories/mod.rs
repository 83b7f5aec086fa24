//! Random mappings over random histories, against a model that sees all of the history at once.
//!
//! A mapping that remembers (lookups, rows before a change, reversals, events of several rows) is evaluated change by
//! change, from what was kept so far. The model in [`naive`] has every version of every row and the tables as of each
//! commit, and computes from docs/mapping.md what has to be published. Both must agree, and the mapper must publish the
//! same records, to the last header, where its batches are cut anywhere and its process ends anywhere and goes on from
//! what it has committed.
//!
//! `ROWBRIDGE_HISTORIES` is how many are tried, `ROWBRIDGE_SEED` where the numbers begin; a failure prints both of what
//! it was found with, and the smallest mapping and history that still fail.

mod condition;
mod draft;
mod naive;
mod published;
mod rules;
mod source;
mod story;
mod table;
mod tally;
mod tape;
mod told;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use self::draft::Tapes;
use self::naive::{Expected, World};
use self::published::Record;
use self::rules::Rules;
use self::source::StorySource;
use self::story::Story;
use self::tally::Tally;
use self::tape::Tape;
use crate::mapping::{Mapping, Pack, SourceFile};

/// Histories of one test run: some seconds of a debug build.
const HISTORIES: u32 = 4000;

/// Choices of one thing: a table, a rule, a change.
const CHOICES: usize = 28;

/// Everything that one test is made of.
#[derive(Clone)]
struct Recipe {
    tables: Vec<Vec<u8>>,
    lifecycles: Vec<Vec<u8>>,
    events: Vec<Vec<u8>>,
    seeds: Vec<Vec<u8>>,
    transactions: Vec<Vec<Vec<u8>>>,
    runs: Vec<u8>,
}

fn recipes() -> impl Strategy<Value = Recipe> {
    let tape = || vec(any::<u8>(), 0..CHOICES);
    (
        vec(tape(), 2..=4),
        vec(tape(), 0..4),
        vec(vec(any::<u8>(), 0..2 * CHOICES), 1..6),
        vec(tape(), 0..8),
        vec(vec(tape(), 0..8), 1..8),
        tape(),
    )
        .prop_map(
            |(tables, lifecycles, events, seeds, transactions, runs)| Recipe {
                tables,
                lifecycles,
                events,
                seeds,
                transactions,
                runs,
            },
        )
}

impl Recipe {
    fn rules(&self) -> Rules {
        draft::rules(&Tapes {
            tables: &self.tables,
            lifecycles: &self.lifecycles,
            events: &self.events,
        })
    }

    fn story(&self, rules: &Rules) -> Story {
        Story::tell(&rules.tables, &self.seeds, &self.transactions)
    }
}

impl fmt::Debug for Recipe {
    /// As people read it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.rules();
        f.write_str(&told::all(&rules, &self.story(&rules)))
    }
}

#[test]
fn every_mapping_makes_of_every_history_what_the_model_makes_of_it() {
    let number = |name: &str, default: u64| {
        let given = std::env::var(name).ok();
        given.map_or(default, |text| text.parse().expect("a number"))
    };
    let seed = number("ROWBRIDGE_SEED", u64::from(std::process::id()));
    let cases = u32::try_from(number("ROWBRIDGE_HISTORIES", HISTORIES.into())).unwrap();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let tally = RefCell::new(Tally::default());
    match runner.run(&recipes(), |recipe| hold(&recipe, &mut tally.borrow_mut())) {
        Ok(()) => tally.into_inner().is_of_everything(cases),
        Err(TestError::Fail(why, recipe)) => {
            panic!("ROWBRIDGE_SEED={seed} ROWBRIDGE_HISTORIES={cases}: {why}\n{recipe:?}")
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// One mapping against one history.
fn hold(recipe: &Recipe, tally: &mut Tally) -> Result<(), TestCaseError> {
    let rules = recipe.rules();
    let story = recipe.story(&rules);
    let mapping = compiled(&rules)?;
    let needs = mapping.needs();
    let mut tape = Tape::new(&recipe.runs);
    let source = StorySource {
        tables: &rules.tables,
        story: &story,
        needs,
        is_frugal: tape.once_in(2),
    };
    let stopped = |stop: crate::mapping::Stop| TestCaseError::fail(format!("stopped: {stop}"));
    let at_once = published::at_once(&mapping, &source).map_err(stopped)?;
    let expected = naive::expected(World {
        rules: &rules,
        story: &story,
    });
    same(&expected, &at_once).map_err(TestCaseError::fail)?;
    let (in_runs, begun_inside) =
        published::in_runs(&mapping, &source, &mut tape).map_err(stopped)?;
    tally.count(&rules, &expected);
    tally.add("run that began inside a transaction", begun_inside);
    if in_runs != at_once {
        let first = at_once
            .iter()
            .zip(&in_runs)
            .position(|(one, other)| one != other);
        let first = first.unwrap_or_else(|| at_once.len().min(in_runs.len()));
        return Err(TestCaseError::fail(format!(
            "record {first} differs in several runs:\n  {:?}\n  {:?}",
            in_runs.get(first),
            at_once.get(first)
        )));
    }
    Ok(())
}

fn compiled(rules: &Rules) -> Result<Arc<Mapping>, TestCaseError> {
    let file = |name: &str, text: String| SourceFile {
        name: name.to_owned(),
        text,
    };
    let pack = Pack {
        mapping: file("mapping.toml", rules.mapping()),
        schema: file("schema.toml", rules.schema()),
        params: toml::Table::new(),
    };
    let compiled = Mapping::compile(&pack);
    let (mapping, _) = compiled
        .map_err(|problems| TestCaseError::fail(problems.render(crate::paint::Look::PLAIN)))?;
    Ok(Arc::new(mapping))
}

/// Whether the records are those that are expected. An event's id is any text, as long as no other event has it.
fn same(expected: &[Expected], found: &[Record]) -> Result<(), String> {
    let mut ids = BTreeMap::new();
    for number in 0..expected.len().max(found.len()) {
        let (expected, found) = (expected.get(number), found.get(number));
        let is_same = match (expected, found) {
            (Some(Expected::Aside { rule }), Some(found)) => {
                found.topic.is_none() && found.rule == *rule
            }
            (
                Some(Expected::Event {
                    topic,
                    rule,
                    key,
                    value,
                    id,
                    reverts,
                }),
                Some(found),
            ) => {
                let header = |name: &str| found.headers.get(name).cloned();
                let reverted = reverts.as_ref().and_then(|id| ids.get(id).cloned());
                let is_new =
                    header("ce_id").is_some_and(|text| ids.values().all(|known| *known != text));
                ids.insert(id.clone(), header("ce_id").unwrap_or_default());
                is_new
                    && found.topic.as_deref() == Some(topic)
                    && found.rule == *rule
                    && header("ce_type").as_ref() == Some(rule)
                    && found.key.as_ref() == Some(key)
                    && found.value == *value
                    && header("ce_reverts") == reverted
            }
            _ => false,
        };
        if !is_same {
            return Err(format!(
                "record {number}:\n  the model: {expected:?}\n  the mapper: {found:?}"
            ));
        }
    }
    Ok(())
}
