//! Which rows a changed mapping looks up and were not kept, and what became of them.

use std::collections::BTreeSet;

use rowbridge_api::{Position, State};

use super::position::{Reader, Recorded};
use super::{KafkaConfig, Published, published_mapping, state};
use crate::mapping::{Generations, Pack};
use crate::sink::{Progress, SinkError};

/// Rows that were read for a mapping that is to take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reseeded {
    /// As of here.
    pub position: Position,
    /// Which generation of each table's rows counts from then on.
    pub generations: Generations,
}

impl Reseeded {
    /// Whether a pipeline stands where they were read.
    pub(super) fn fits(&self, recorded: &Recorded) -> bool {
        let here = Progress::At {
            position: self.position.clone(),
            cursor: None,
        };
        recorded.checkpoint.progress == here
    }
}

/// What keeps a mapping from going on.
#[derive(Clone, Debug)]
pub struct Unread {
    /// Source names of the tables whose rows were not kept, or not all that is looked up of them.
    pub tables: BTreeSet<String>,
    /// The mapping that published last.
    pub last: Pack,
}

/// What of the rows that `published` looks up was not kept so far; nothing if it can go on as it is.
///
/// # Errors
/// The brokers cannot be reached; or what published last is not known any more.
pub fn unread(config: &KafkaConfig, published: &Published) -> Result<Option<Unread>, SinkError> {
    let Some(wanted) = &published.kept else {
        return Ok(None);
    };
    let reader = Reader::connect(config)?;
    reader.cluster_id()?;
    let recorded = reader.position()?;
    let Some(recorded) = recorded.filter(|recorded| state::needs(recorded, wanted).is_some())
    else {
        return Ok(None);
    };
    let Recorded { record, checkpoint } = recorded;
    let kept = record.remembered.as_ref().map(|state| &state.kept);
    let is_known = |table: &String| {
        let kept = kept.and_then(|kept| kept.get(table));
        kept.is_some_and(|kept| wanted[table].is_subset(kept))
    };
    let tables = wanted.keys().filter(|table| !is_known(table)).cloned();
    let files = match record.has_mapping {
        true => reader.mapping()?,
        false => None,
    };
    let last = files.and_then(|files| published_mapping::files(&files, &checkpoint.mapping_hash));
    let last = last.ok_or_else(|| last_unknown(config, &checkpoint.mapping_hash))?;
    Ok(Some(Unread {
        tables: tables.collect(),
        last,
    }))
}

fn last_unknown(config: &KafkaConfig, hash: &str) -> SinkError {
    SinkError::Refused {
        state: State::MappingNeedsState,
        problem: format!(
            "the mapping that published last ({hash}) is not in {}, and it has to go on for a moment before the new one \
             takes over",
            config.position_topic()
        ),
        hint: "start once with that mapping: `rowbridge run` records it; then `rowbridge run --reseed` with the new one"
            .to_owned(),
    }
}
