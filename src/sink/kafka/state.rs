//! What rules remember, as the state topic has it: a compacted changelog, written in the transactions of the events.
//!
//! Its one partition holds every entry in the order of its changes, so reading it from where it began to the end gives
//! what was remembered at the last commit, and nothing of what was not committed.

use std::time::Duration;

use rowbridge_api::State;
use uuid::Uuid;

use super::KafkaConfig;
use super::position::{Reader, Recorded, StateRecord};
use super::topics::Admin;
use crate::mapping::Kept;
use crate::sink::{EachRecord, Progress, SinkError};
use crate::state::Changelog;

/// Where the state of this life is recorded: where the last one was, or from the end of the topic on where the
/// existing rows are yet to be read.
///
/// # Errors
/// `Refused` with [`State::MappingNeedsState`] if rules look up what was never kept.
pub(super) fn of(
    reader: &Reader<'_>,
    recorded: Option<&Recorded>,
    wanted: &Kept,
) -> Result<StateRecord, SinkError> {
    let streams = recorded
        .is_some_and(|recorded| matches!(recorded.checkpoint.progress, Progress::At { .. }));
    let known = recorded
        .filter(|_| streams)
        .and_then(|recorded| recorded.record.remembered.as_ref());
    if streams {
        let missing = missing(wanted, known.map(|state| &state.kept));
        if !missing.is_empty() {
            return Err(needs_state(&missing));
        }
    }
    let (id, since) = match known {
        Some(state) => (state.id.clone(), state.since),
        None => {
            let (_, end) = reader.watermarks(&reader.config().state_topic())?;
            (String::new(), end)
        }
    };
    Ok(StateRecord {
        id: match id.is_empty() {
            true => Uuid::new_v4().to_string(),
            false => id,
        },
        since,
        kept: wanted.clone(),
    })
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
        hint: "go back to the mapping that published last, or read the tables again with `rowbridge position set --snapshot`: \
               `read` rules then see every row once more"
            .to_owned(),
    }
}

/// How Kafka is told how long it keeps what says that a key is gone.
const SHOWS_FORGOTTEN: &str = "delete.retention.ms";

/// The changelog as it is now. Its name has all that could make another one of it: the cluster, because a copy has other
/// offsets, and the beginning.
pub(super) fn changelog(
    config: &KafkaConfig,
    cluster: &str,
    state: &StateRecord,
) -> Result<Changelog, SinkError> {
    let topic = config.state_topic();
    let (first, end) = Reader::connect(config)?.watermarks(&topic)?;
    let StateRecord { id, since, .. } = state;
    if *since > end {
        return Err(SinkError::Refused {
            state: State::StateStale,
            problem: format!(
                "what the rules remember is in {topic} from offset {since} on, and the topic ends at {end}"
            ),
            hint: "was the topic deleted? `rowbridge position set --snapshot` reads the tables again and makes the state \
                   anew"
                .to_owned(),
        });
    }
    Ok(Changelog {
        beginning: format!("{cluster}/{topic}/{id}/{since}"),
        since: *since,
        first,
        end,
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
pub(super) fn read(
    config: &KafkaConfig,
    from: i64,
    each: &mut EachRecord<'_>,
) -> Result<(), SinkError> {
    Reader::connect(config)?.each(&config.state_topic(), from, each)
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
