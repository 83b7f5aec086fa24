//! What rules remember, as the state topic has it: a compacted changelog, written in the transactions of the events.
//!
//! Its one partition holds every entry in the order of its changes, so reading it from where it began to the end gives
//! what was remembered at the last commit, and nothing of what was not committed.

use rowbridge_api::State;

use super::KafkaConfig;
use super::position::{Reader, Recorded, StateRecord};
use crate::mapping::Kept;
use crate::mapping::memory::EachEntry;
use crate::sink::{Progress, SinkError};

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
    let since = match known {
        Some(state) => state.since,
        None => reader.watermarks(&reader.config().state_topic())?.1,
    };
    Ok(StateRecord {
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

/// Hands over every entry.
pub(super) fn read(
    config: &KafkaConfig,
    state: &StateRecord,
    each: &mut EachEntry<'_>,
) -> Result<(), SinkError> {
    let reader = Reader::connect(config)?;
    let topic = config.state_topic();
    let (low, _) = reader.watermarks(&topic)?;
    let mut entries = 0_u64;
    reader.each(&topic, state.since.max(low), &mut |key, value| {
        entries += 1;
        each(key, value);
    })?;
    tracing::info!(entries, "read what the rules remember");
    Ok(())
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
