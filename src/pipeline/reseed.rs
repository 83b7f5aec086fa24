//! A changed mapping that looks up what was not kept so far takes over from the one that published last.
//!
//! A moment is fixed in the source. The mapping before publishes everything up to it; then the rows that the new one
//! looks up are read as of that moment, and kept as another generation of them, which counts only once the new mapping
//! commits. Until then nothing is changed: whatever interrupts it, the mapping before could go on.

use std::sync::Arc;

use rowbridge_api::{Frozen, Position, Source, Start, TableName, TableNeeds};

use super::Plan;
use super::backoff::Recovery;
use super::mapper::{Done, Mapper};
use super::session::{Ended, Session};
use crate::health::Peer;
use crate::mapping::{Generations, Mapping};
use crate::refusal::Refusal;
use crate::sink::{Progress, Sink, SinkError};

/// What takes over from what.
pub struct Reseed<'a, M> {
    /// Runs the mapping that published last, in a sink that has a changelog whatever that mapping remembers.
    pub before: &'a Plan<M>,
    pub mapping: Arc<Mapping>,
    /// Whose rows are read.
    pub tables: Vec<TableName>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reseeded {
    /// The new mapping may go on.
    At {
        position: Position,
        /// With those of the rows that were read.
        generations: Generations,
    },
    /// Another mapping than the one before published last: look again.
    Overtaken,
    /// Told to stop.
    Stopped,
}

/// Lets one mapping take over from another, through any number of sessions.
///
/// # Errors
/// A state that does not pass by itself. What is published is of the mapping before.
pub async fn reseed<D, S, M>(source: &mut D, reseed: &Reseed<'_, M>) -> Result<Reseeded, Refusal>
where
    D: Source,
    S: Sink,
    M: Fn() -> Result<S, SinkError> + Send + Sync + 'static,
{
    let mut recovery = Recovery::new(reseed.before);
    while !reseed.before.shutdown.is_cancelled() {
        match attempt(source, reseed).await {
            Ok(ended) => return Ok(ended),
            Err(ended) => recovery.after(ended).await?,
        }
    }
    Ok(Reseeded::Stopped)
}

async fn attempt<D, S, M>(source: &mut D, reseed: &Reseed<'_, M>) -> Result<Reseeded, Ended>
where
    D: Source,
    S: Sink,
    M: Fn() -> Result<S, SinkError> + Send + Sync + 'static,
{
    let plan = reseed.before;
    let Some(session) = Session::begin(source, plan).await? else {
        return Ok(Reseeded::Stopped);
    };
    if !is_of(&session, &plan.mapping) {
        return Ok(Reseeded::Overtaken);
    }
    let tables = together(plan.mapping.needs(), reseed.mapping.needs());
    let moment = tokio::select! {
        moment = source.freeze(&tables) => moment?,
        () = plan.shutdown.cancelled() => return Ok(Reseeded::Stopped),
    };
    match stands(&session.begin.progress, &moment)? {
        Stands::There => drop(session),
        Stands::Before => {
            let done = run_up_to(source, plan, session, tables, &moment).await?;
            if done != Done::Reached {
                return Ok(Reseeded::Stopped);
            }
        }
    }
    read(source, reseed, moment.position).await
}

/// Publishes what the mapping before makes of everything up to the moment.
async fn run_up_to<D: Source, M>(
    source: &mut D,
    plan: &Plan<M>,
    mut session: Session,
    tables: Vec<TableNeeds>,
    moment: &Frozen,
) -> Result<Done, Ended> {
    plan.meters.begun(&session.begin, plan.mapping.hash());
    tracing::info!(until = %moment.position, "the mapping that published last goes on for a moment");
    let generations = std::mem::take(&mut session.begin.generations);
    let evaluator = session.evaluator(plan, &plan.mapping, &generations);
    let progress = session.begin.progress.clone();
    let mapper = Mapper::new(evaluator, progress).until(moment.clone());
    let start = session.begin.start.clone();
    session.run(source, plan, start, tables, mapper).await
}

/// Reads the rows of the moment, which is where the pipeline stands.
async fn read<D, S, M>(
    source: &mut D,
    reseed: &Reseed<'_, M>,
    position: Position,
) -> Result<Reseeded, Ended>
where
    D: Source,
    S: Sink,
    M: Fn() -> Result<S, SinkError> + Send + Sync + 'static,
{
    let plan = reseed.before;
    let Some(mut session) = Session::begin(source, plan).await? else {
        return Ok(Reseeded::Stopped);
    };
    let expected = Progress::At {
        position: position.clone(),
        cursor: None,
    };
    if !is_of(&session, &plan.mapping) || session.begin.progress != expected {
        return Err(Ended::Transient {
            peer: Peer::Sink,
            problem: format!("another instance went on from {position}"),
        });
    }
    let needs = reseed.mapping.needs().iter();
    let tables: Vec<TableNeeds> = needs
        .filter(|needs| reseed.tables.contains(&needs.table))
        .cloned()
        .collect();
    plan.meters.reading(&position, &tables);
    let mut generations = std::mem::take(&mut session.begin.generations);
    for table in &reseed.tables {
        *generations.entry(table.to_string()).or_default() += 1;
    }
    let evaluator = session.evaluator(plan, &reseed.mapping, &generations);
    let mapper = Mapper::seeding(evaluator, position.clone(), tables.clone());
    let done = session
        .run(source, plan, Start::Frozen, tables, mapper)
        .await?;
    Ok(match done {
        Done::Reached => Reseeded::At {
            position,
            generations,
        },
        Done::HungUp => Reseeded::Stopped,
    })
}

fn is_of(session: &Session, mapping: &Mapping) -> bool {
    let is_streaming = matches!(session.begin.progress, Progress::At { .. });
    is_streaming && session.begin.mapping_hash.as_deref() == Some(mapping.hash())
}

/// Where a pipeline stands, seen from a moment.
enum Stands {
    There,
    Before,
}

fn stands(progress: &Progress, moment: &Frozen) -> Result<Stands, Ended> {
    match progress {
        Progress::At { position, cursor } if *position == moment.position && cursor.is_none() => {
            Ok(Stands::There)
        }
        Progress::At { position, .. } if *position >= moment.next => Err(Ended::Transient {
            peer: Peer::Source,
            problem: format!(
                "the source shows its rows as of {}, and everything up to {position} is published",
                moment.position
            ),
        }),
        Progress::At { .. } | Progress::Creating { .. } => Ok(Stands::Before),
    }
}

/// What two mappings read.
fn together(one: &[TableNeeds], other: &[TableNeeds]) -> Vec<TableNeeds> {
    let mut all = one.to_vec();
    for needs in other {
        let Some(known) = all.iter_mut().find(|known| known.table == needs.table) else {
            all.push(needs.clone());
            continue;
        };
        known.ops = known.ops.union(needs.ops);
        for column in &needs.columns {
            match known
                .columns
                .iter_mut()
                .find(|known| known.name == column.name)
            {
                Some(known) => known.before |= column.before,
                None => known.columns.push(column.clone()),
            }
        }
    }
    all
}
