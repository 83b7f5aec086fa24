//! What rules remember, as the state topic has it: a compacted changelog, written in the transactions of the events.
//!
//! Its one partition holds every entry in the order of its changes, so reading it from where it began to the end gives
//! what was remembered at the last commit, and nothing of what was not committed. It begins with a mark that the position
//! record names: a topic without it is not the one that was written, or not all of it.

use std::time::Duration;

use rowbridge_api::State;
use uuid::Uuid;

use super::KafkaConfig;
use super::position::{Reader, Recorded, StateRecord};
use super::reseed::Reseeded;
use super::topics::Admin;
use crate::event::EncodedBatch;
use crate::mapping::{Generations, Kept};
use crate::sink::{EachRecord, Progress, SinkError};
use crate::state::Changelog;

/// The key of the mark that a state begins with; no entry of a memory has one like it.
const MARK: &[u8] = b"begun";

/// Where the state of one life of the sink is recorded.
pub(super) struct StateOfLife {
    pub(super) record: StateRecord,
    /// The mark, where it is yet to be written.
    pub(super) mark: Option<EncodedBatch>,
}

/// Where the state of this life is recorded: where the last one was, or from the end of the topic on where the
/// existing rows are yet to be read. `reseeded` says which rows were read since, and where the pipeline stood.
///
/// # Errors
/// `Refused` with [`State::MappingNeedsState`] if rules look up what was never kept.
pub(super) fn of(
    reader: &Reader<'_>,
    recorded: Option<&Recorded>,
    wanted: &Kept,
    reseeded: Option<&Reseeded>,
) -> Result<StateOfLife, SinkError> {
    let streams = recorded
        .is_some_and(|recorded| matches!(recorded.checkpoint.progress, Progress::At { .. }));
    let known = recorded
        .filter(|_| streams)
        .and_then(|recorded| recorded.record.remembered.as_ref());
    let mut generations = known.map_or_else(Generations::new, |state| state.generations.clone());
    if let Some((recorded, refusal)) = recorded.and_then(|at| Some((at, needs(at, wanted)?))) {
        generations = match reseeded.filter(|reseeded| reseeded.fits(recorded)) {
            Some(reseeded) => reseeded.generations.clone(),
            None => return Err(refusal),
        };
    }
    let kept = wanted.clone();
    if let Some(state) = known {
        let record = StateRecord {
            kept,
            generations,
            ..state.clone()
        };
        return Ok(StateOfLife { record, mark: None });
    }
    let since = reader.watermarks(&reader.config().state_topic())?.1;
    let id = Uuid::new_v4().to_string();
    let mut mark = EncodedBatch::default();
    mark.push_entry(MARK, Some(id.as_bytes()));
    let record = StateRecord {
        id,
        since,
        kept,
        generations: Generations::new(),
    };
    Ok(StateOfLife {
        record,
        mark: Some(mark),
    })
}

/// Why rules cannot go on from what is recorded, if they look up what was not kept.
pub(super) fn needs(recorded: &Recorded, wanted: &Kept) -> Option<SinkError> {
    let Progress::At { .. } = recorded.checkpoint.progress else {
        return None;
    };
    let known = recorded.record.remembered.as_ref();
    let missing = missing(wanted, known.map(|state| &state.kept));
    (!missing.is_empty()).then(|| needs_state(&missing))
}

/// The tables, or columns of them, that are looked up and were not kept.
fn missing(wanted: &Kept, kept: Option<&Kept>) -> Vec<String> {
    let columns_of = |table: &String| kept.and_then(|kept| kept.get(table));
    let mut missing = Vec::new();
    for (table, columns) in wanted {
        match columns_of(table) {
            None => missing.push(table.clone()),
            Some(known) => {
                let unknown = columns.difference(known);
                missing.extend(unknown.map(|column| format!("{table}.{column}")));
            }
        }
    }
    missing
}

fn needs_state(missing: &[String]) -> SinkError {
    SinkError::Refused {
        state: State::MappingNeedsState,
        problem: format!(
            "the mapping looks up what this pipeline did not keep so far: {}; nothing was published past the position",
            missing.join(", ")
        ),
        hint: "`rowbridge run --reseed` lets the mapping that published last go on for a moment, reads these tables as of then, \
               and goes on with the new one: nothing is lost and nothing comes twice; or go back to that mapping"
            .to_owned(),
    }
}

/// How Kafka is told how long it keeps what says that a key is gone.
const SHOWS_FORGOTTEN: &str = "delete.retention.ms";

/// The changelog as it is now. Its name has all that could make another one of it: the cluster, because a copy has other
/// offsets, and the beginning.
///
/// # Errors
/// `Refused` with [`State::StateStale`] if the topic does not reach back to where the state began.
pub(super) fn changelog(
    config: &KafkaConfig,
    cluster: &str,
    state: &StateRecord,
) -> Result<Changelog, SinkError> {
    let topic = config.state_topic();
    let (first, end) = Reader::connect(config)?.watermarks(&topic)?;
    let StateRecord {
        id,
        since,
        generations,
        ..
    } = state;
    if !(first..=end).contains(since) {
        let what = format!(
            "it goes from offset {first} to {end}, and what the rules remember began at {since}"
        );
        return Err(stale(&topic, &what));
    }
    Ok(Changelog {
        beginning: format!("{cluster}/{topic}/{id}/{since}"),
        since: *since,
        end,
        generations: generations.clone(),
    })
}

/// How long the topic shows at least that a key is gone.
pub(super) fn shows_forgotten(config: &KafkaConfig) -> Result<Duration, SinkError> {
    let settings = Admin::connect(config)?.settings(&config.state_topic());
    let retention = match settings {
        Ok(settings) => settings.get(SHOWS_FORGOTTEN).and_then(|ms| ms.parse().ok()),
        Err(SinkError::Refused { problem, .. }) => {
            tracing::warn!(
                problem,
                "{SHOWS_FORGOTTEN} is not known, so that the state is read whole"
            );
            None
        }
        Err(error) => return Err(error),
    };
    Ok(retention.map_or(Duration::ZERO, Duration::from_millis))
}

/// Hands over every entry from offset `from` on.
///
/// # Errors
/// `Refused` with [`State::StateStale`] if the topic is read from where the state began and does not have its mark.
pub(super) fn read(
    config: &KafkaConfig,
    state: &StateRecord,
    from: i64,
    each: &mut EachRecord<'_>,
) -> Result<(), SinkError> {
    let topic = config.state_topic();
    let mut is_marked = false;
    let mut entries = |offset, key: &[u8], value: Option<&[u8]>| {
        if key == MARK {
            is_marked = value == Some(state.id.as_bytes());
            return Ok(());
        }
        each(offset, key, value)
    };
    Reader::connect(config)?.each(&topic, from, &mut entries)?;
    if from <= state.since && !is_marked {
        return Err(stale(&topic, "the mark that it began with is not there"));
    }
    Ok(())
}

fn stale(topic: &str, what: &str) -> SinkError {
    SinkError::Refused {
        state: State::StateStale,
        problem: format!(
            "topic {topic} does not hold what the rules remember: {what}. It was deleted, emptied or cut off at its \
             beginning since; nothing was published past the position, lost is what was remembered"
        ),
        hint: "`rowbridge position set --snapshot` reads the tables again and makes the state anew: `read` rules see \
               every row once more, and what changed since the position gives no events; or start with a mapping that \
               remembers nothing. The topic's cleanup.policy is `compact` alone: `rowbridge check` compares it"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(tables: &[(&str, &[&str])]) -> Kept {
        let columns = |columns: &[&str]| columns.iter().map(|name| (*name).to_owned()).collect();
        let tables = tables.iter();
        tables
            .map(|(table, names)| ((*table).to_owned(), columns(names)))
            .collect()
    }

    #[test]
    fn what_was_not_kept_is_named_and_what_was_kept_beside_it_is_no_matter() {
        let wanted = kept(&[
            ("public.flights", &["gate", "id"]),
            ("public.planes", &["tail"]),
        ]);
        assert!(missing(&wanted, Some(&wanted)).is_empty());
        assert_eq!(missing(&wanted, None), ["public.flights", "public.planes"]);
        let less = kept(&[("public.flights", &["id", "notes"]), ("public.x", &["id"])]);
        assert_eq!(
            missing(&wanted, Some(&less)),
            ["public.flights.gate", "public.planes"]
        );
        assert!(missing(&Kept::new(), None).is_empty());
    }
}
