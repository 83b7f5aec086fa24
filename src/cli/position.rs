//! `rowbridge position`: show the committed position, or commit another one by hand.
//!
//! Setting takes the source first, as a running instance would, so that none can run meanwhile. What is
//! never published needs `--accept-gap`; what is published again is only printed, because consumers can tell
//! it by its event id.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use rowbridge_api::{Claim, Identity, Position, Remembers, Source as _, SourceError, State};
use rowbridge_postgres::{
    PostgresConfig, PostgresSource, SlotState, accept_publication, make_slot, remove_slot,
    slot_state,
};

mod mongodb;

use super::args::{PositionCommand, PositionSetArgs, PositionShowArgs};
use super::peers;
use crate::config::{Config, SinkConfig, SourceConfig};
use crate::mapping::Mapping;
use crate::pack;
use crate::refusal::{self, Refusal};
use crate::sink::kafka::position::Recorded;
use crate::sink::kafka::{KafkaConfig, Published, operator};
use crate::sink::{Checkpoint, Progress};

/// Runs the command.
pub(super) async fn run(config: Config, command: &PositionCommand) -> Result<ExitCode> {
    let kafka = kafka_of(&config)?.ok_or_else(|| {
        Refusal::invalid(
            "[sink.stdout] keeps no position",
            "nothing to do: every start goes on where the source was acknowledged",
        )
    })?;
    let postgres = match &config.source {
        SourceConfig::Postgres(settings) => peers::postgres(&config, settings)?,
        SourceConfig::MongoDb(settings) => {
            let mongodb = peers::mongodb(&config, settings);
            return Box::pin(mongodb::run(&config, kafka, mongodb, command)).await;
        }
    };
    match command {
        PositionCommand::Show(args) => show(&config, kafka, &postgres, args).await,
        PositionCommand::Set(args) => set(&config, kafka, &postgres, args).await,
    }
}

/// The Kafka sink's settings, if that is the sink.
pub(super) fn kafka_of(config: &Config) -> Result<Option<KafkaConfig>> {
    match &config.sink {
        SinkConfig::Kafka(settings) => peers::kafka(config, settings).map(Some),
        SinkConfig::Stdout {} => Ok(None),
    }
}

/// Makes the next start a first start, if there is a position. Says what it did.
pub(super) async fn forget(config: &Config, kafka: KafkaConfig) -> Result<String> {
    match recorded(&kafka).await? {
        None => Ok("there was none".to_owned()),
        Some(before) => {
            let source = before.checkpoint.source.clone();
            commit(config, kafka, source, Progress::CREATING).await?;
            Ok(format!("forgotten; it was {}", place(&before.checkpoint)))
        }
    }
}

async fn recorded(kafka: &KafkaConfig) -> Result<Option<Recorded>> {
    let kafka = kafka.clone();
    let shown = tokio::task::spawn_blocking(move || operator::show_position(&kafka)).await?;
    shown.map_err(refusal::of_sink)
}

async fn commit(
    config: &Config,
    kafka: KafkaConfig,
    source: Identity,
    progress: Progress,
) -> Result<()> {
    let published = Published::of(&compile(config)?);
    let set = move || operator::set_position(&kafka, &published, &source, &progress);
    tokio::task::spawn_blocking(set)
        .await?
        .map_err(refusal::of_sink)?;
    Ok(())
}

fn compile(config: &Config) -> Result<Mapping> {
    let pack = pack::read(&config.mapping, config.params.clone())?;
    Ok(Mapping::compile(&pack)?.0)
}

async fn show(
    config: &Config,
    kafka: KafkaConfig,
    postgres: &PostgresConfig,
    args: &PositionShowArgs,
) -> Result<ExitCode> {
    let recorded = recorded(&kafka).await?;
    let slot = slot_state(postgres, &config.pipeline)
        .await
        .map_err(refusal::of_source)?;
    let print = |position: Option<&Position>| position.map(ToString::to_string);
    let mut out = io::stdout();
    if args.json {
        let object = serde_json::json!({
            "pipeline": config.pipeline,
            "position": recorded.as_ref().map(|recorded| place(&recorded.checkpoint)),
            "source": recorded.as_ref().map(|recorded| &recorded.checkpoint.source),
            "written_at": recorded.as_ref().map(|recorded| &recorded.record.written_at),
            "slot": slot.as_ref().map(|slot| serde_json::json!({
                "confirmed": print(slot.confirmed_flush.as_ref()),
                "wal_end": print(slot.wal_end.as_ref()),
                "wal_status": slot.wal_status,
                "holder": slot.holder.as_ref().map(ToString::to_string),
            })),
        });
        writeln!(out, "{object}")?;
        return Ok(ExitCode::SUCCESS);
    }
    print_recorded(recorded.as_ref(), &mut out)?;
    match &slot {
        None => writeln!(out, "slot:      none")?,
        Some(slot) => {
            let or_unknown = |position| print(position).unwrap_or_else(|| "unknown".to_owned());
            writeln!(
                out,
                "slot:      {} ({})",
                or_unknown(slot.confirmed_flush.as_ref()),
                slot.name
            )?;
            writeln!(out, "WAL end:   {}", or_unknown(slot.wal_end.as_ref()))?;
            let holder = slot
                .holder
                .as_ref()
                .map_or_else(|| "nobody".to_owned(), ToString::to_string);
            writeln!(out, "read by:   {holder}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_recorded(recorded: Option<&Recorded>, out: &mut impl io::Write) -> io::Result<()> {
    let Some(recorded) = recorded else {
        return writeln!(out, "position:  none");
    };
    writeln!(out, "position:  {}", place(&recorded.checkpoint))?;
    writeln!(out, "source:    {}", recorded.checkpoint.source.source)?;
    writeln!(out, "written:   {}", recorded.record.written_at)
}

fn place(checkpoint: &Checkpoint) -> String {
    match &checkpoint.progress {
        Progress::Creating { .. } => "first start not finished".to_owned(),
        Progress::At {
            position,
            cursor: None,
        } => position.to_string(),
        Progress::At {
            position,
            cursor: Some(cursor),
        } => {
            format!(
                "{position}, and {} changes of the transaction at {}",
                cursor.skip, cursor.transaction
            )
        }
    }
}

async fn set(
    config: &Config,
    kafka: KafkaConfig,
    postgres: &PostgresConfig,
    args: &PositionSetArgs,
) -> Result<ExitCode> {
    let before = match recorded(&kafka).await {
        // An unreadable record is what this command is there to replace.
        Err(error) if error.is::<Refusal>() => None,
        read => read?,
    };
    let mut source = PostgresSource::new(postgres.clone(), &config.pipeline);
    let taken = take(&mut source, postgres, before.as_ref()).await?;
    let mut out = io::stdout();
    let Some(wanted) = &args.position else {
        drop(source);
        // A slot that somebody else has to make is kept: rows are read at a new snapshot, and the stream goes on
        // from where the slot stands.
        if postgres.create_slot || taken.slot == SlotIs::Lost {
            remove_slot_when_free(postgres, &config.pipeline).await?;
        }
        commit(config, kafka, taken.identity, Progress::CREATING).await?;
        writeln!(
            out,
            "the next start reads the existing rows again, as `read` changes"
        )?;
        return Ok(ExitCode::SUCCESS);
    };
    let slot = slot_state(postgres, &config.pipeline)
        .await
        .map_err(refusal::of_source)?;
    let slot = slot.filter(|_| taken.slot == SlotIs::Usable);
    let at = before
        .as_ref()
        .and_then(|recorded| match &recorded.checkpoint.progress {
            Progress::At { position, .. } => Some(position.clone()),
            Progress::Creating { .. } => None,
        });
    let (progress, consequence) = match slot {
        Some(slot) => {
            let consequence = judge(wanted, at.as_ref(), &slot, args)?;
            (keep_cursor(wanted, before.as_ref()), consequence)
        }
        None => {
            let (position, consequence) =
                new_slot(config, postgres, at.as_ref(), taken.slot, args).await?;
            (
                Progress::At {
                    position,
                    cursor: None,
                },
                consequence,
            )
        }
    };
    if args.accept_gap {
        let accepted = accept_publication(postgres, &config.pipeline);
        accepted.await.map_err(refusal::of_source)?;
    }
    let set_to = match &progress {
        Progress::At { position, .. } => position.to_string(),
        Progress::Creating { .. } => String::new(),
    };
    commit(config, kafka, taken.identity, progress).await?;
    writeln!(out, "{consequence}\nthe position is {set_to}")?;
    Ok(ExitCode::SUCCESS)
}

/// What the source remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotIs {
    Usable,
    Lost,
    Missing,
}

struct Taken {
    identity: Identity,
    slot: SlotIs,
}

/// Becomes the only reader, so that no instance runs meanwhile.
async fn take(
    source: &mut PostgresSource,
    postgres: &PostgresConfig,
    before: Option<&Recorded>,
) -> Result<Taken> {
    match source.own().await {
        Ok(Claim::Owned(ownership)) => Ok(Taken {
            identity: ownership.identity,
            slot: match ownership.remembers {
                Remembers::Start { .. } => SlotIs::Usable,
                Remembers::Nothing => SlotIs::Missing,
            },
        }),
        Ok(Claim::Standby { holder }) => Err(Refusal::invalid(
            format!("an instance runs: {holder} reads the slot"),
            "stop it first",
        )
        .into()),
        // Nobody can read a lost slot, so nobody runs; who the source is, the record says.
        Err(SourceError::Refused {
            state: State::SlotLost,
            problem,
            hint,
        }) => match before {
            Some(before) => Ok(Taken {
                identity: before.checkpoint.source.clone(),
                slot: SlotIs::Lost,
            }),
            None => Err(Refusal::new(
                State::SlotLost,
                format!("{problem} ({})", postgres.address),
                hint,
            )
            .into()),
        },
        Err(error) => Err(refusal::of_source(error)),
    }
}

/// Our own session may need a moment to let the slot go.
async fn remove_slot_when_free(postgres: &PostgresConfig, pipeline: &str) -> Result<()> {
    const TRIES: u32 = 50;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
    for _ in 1..TRIES {
        let slot = slot_state(postgres, pipeline)
            .await
            .map_err(refusal::of_source)?;
        if slot.is_none_or(|slot| slot.holder.is_none()) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    remove_slot(postgres, pipeline)
        .await
        .map_err(refusal::of_source)?;
    Ok(())
}

/// The same position as before keeps the part of a split transaction that is done.
fn keep_cursor(wanted: &Position, before: Option<&Recorded>) -> Progress {
    match before.map(|recorded| &recorded.checkpoint.progress) {
        Some(progress @ Progress::At { position, .. }) if position == wanted => progress.clone(),
        _ => Progress::At {
            position: wanted.clone(),
            cursor: None,
        },
    }
}

/// Whether a usable slot can go on from `wanted`, and what that means for the events; refuses what loses
/// changes without `--accept-gap`.
fn judge(
    wanted: &Position,
    at: Option<&Position>,
    slot: &SlotState,
    args: &PositionSetArgs,
) -> Result<String> {
    if let Some(confirmed) = slot
        .confirmed_flush
        .as_ref()
        .filter(|confirmed| wanted < *confirmed)
    {
        return Err(Refusal::new(
            State::Gap,
            format!("slot {} stands at {confirmed}: the source does not give changes before it", slot.name),
            format!("`rowbridge position set {confirmed} --accept-gap`, or `rowbridge position set --snapshot`"),
        )
        .into());
    }
    if let Some(end) = slot.wal_end.as_ref().filter(|end| wanted > *end) {
        return Err(Refusal::invalid(
            format!("{wanted} is in the future: the source's WAL ends at {end}"),
            "`rowbridge position show` prints where things stand",
        )
        .into());
    }
    consequence(wanted, at, args)
}

/// What going on from `wanted` means for the events, where the source can; refuses what loses changes without
/// `--accept-gap`.
fn consequence(wanted: &Position, at: Option<&Position>, args: &PositionSetArgs) -> Result<String> {
    match at {
        Some(at) if at < wanted && !args.accept_gap => Err(gap(at, wanted)),
        Some(at) if at < wanted => Ok(format!(
            "changes committed after {at} and up to {wanted} are never published"
        )),
        Some(at) if at > wanted => Ok(format!(
            "changes committed after {wanted} and up to {at} are published again"
        )),
        Some(_) => Ok("nothing is skipped and nothing is published again".to_owned()),
        None => Ok(format!(
            "what was published after {wanted} is published again; what was not up to there is skipped"
        )),
    }
}

/// A missing or lost slot is made anew; the position is where it starts, as the source has nothing older.
async fn new_slot(
    config: &Config,
    postgres: &PostgresConfig,
    at: Option<&Position>,
    slot: SlotIs,
    args: &PositionSetArgs,
) -> Result<(Position, String)> {
    let from = at.map_or_else(|| "the beginning".to_owned(), ToString::to_string);
    if !args.accept_gap {
        return Err(Refusal::new(
            State::SlotLost,
            format!("there is no usable slot: everything committed from {from} until a new one exists is lost"),
            "repeat it with --accept-gap to go on without it, or `rowbridge position set --snapshot`",
        )
        .into());
    }
    let mapping = compile(config)?;
    if slot == SlotIs::Lost {
        remove_slot(postgres, &config.pipeline)
            .await
            .map_err(refusal::of_source)?;
    }
    let made = make_slot(postgres, &config.pipeline, mapping.needs());
    let position = made.await.map_err(refusal::of_source)?;
    let consequence = format!(
        "made a new slot; changes committed after {from} and up to {position} are never published"
    );
    Ok((position, consequence))
}

fn gap(at: &Position, wanted: &Position) -> anyhow::Error {
    Refusal::new(
        State::Gap,
        format!("changes committed after {at} and up to {wanted} would never be published"),
        format!("`rowbridge position set {wanted} --accept-gap` if that is meant"),
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(confirmed: u64, wal_end: u64) -> SlotState {
        SlotState {
            name: "rowbridge_airline".to_owned(),
            plugin: "pgoutput".to_owned(),
            database: "x".to_owned(),
            confirmed_flush: Some(Position::new(confirmed)),
            restart: None,
            wal_status: None,
            safe_wal_bytes: None,
            wal_end: Some(Position::new(wal_end)),
            holder: None,
        }
    }

    fn judged(wanted: u64, at: Option<u64>, accept_gap: bool) -> Result<String, State> {
        let args = PositionSetArgs {
            position: None,
            snapshot: false,
            accept_gap,
        };
        let at = at.map(Position::new);
        judge(&Position::new(wanted), at.as_ref(), &slot(100, 200), &args)
            .map_err(|error| error.downcast_ref::<Refusal>().unwrap().state)
    }

    #[test]
    fn what_the_source_cannot_do_is_refused() {
        assert_eq!(judged(99, Some(100), true), Err(State::Gap));
        assert_eq!(judged(201, Some(100), true), Err(State::Invalid));
    }

    #[test]
    fn a_gap_must_be_accepted() {
        assert_eq!(judged(150, Some(120), false), Err(State::Gap));
        assert!(
            judged(150, Some(120), true)
                .unwrap()
                .contains("never published")
        );
    }

    #[test]
    fn going_back_and_staying_are_told() {
        assert!(
            judged(120, Some(150), false)
                .unwrap()
                .contains("published again")
        );
        assert!(
            judged(150, Some(150), false)
                .unwrap()
                .contains("nothing is skipped")
        );
    }
}
