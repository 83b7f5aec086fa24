//! The same for MongoDB, which keeps its history by time and nothing of a pipeline.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use rowbridge_api::{Claim, Position, Source as _, State};
use rowbridge_mongodb::{History, MongoConfig, MongoSource, history};
use tokio_util::sync::CancellationToken;

use super::{commit, compile, consequence, keep_cursor, place, print_recorded, recorded};
use crate::cli::args::{PositionCommand, PositionSetArgs, PositionShowArgs};
use crate::config::Config;
use crate::pipeline;
use crate::refusal::{self, Refusal};
use crate::sink::kafka::{KafkaConfig, KafkaSink, Published};
use crate::sink::{Progress, SinkError};

/// Runs the command.
pub(super) async fn run(
    config: &Config,
    kafka: KafkaConfig,
    mongodb: MongoConfig,
    command: &PositionCommand,
) -> Result<ExitCode> {
    match command {
        PositionCommand::Show(args) => show(config, &kafka, &mongodb, args).await,
        PositionCommand::Set(args) => set(config, kafka, mongodb, args).await,
    }
}

async fn show(
    config: &Config,
    kafka: &KafkaConfig,
    mongodb: &MongoConfig,
    args: &PositionShowArgs,
) -> Result<ExitCode> {
    let recorded = recorded(kafka).await?;
    let History { oldest, present } = history(mongodb).await.map_err(refusal::of_source)?;
    let mut out = io::stdout();
    if args.json {
        let object = serde_json::json!({
            "pipeline": config.pipeline,
            "position": recorded.as_ref().map(|recorded| place(&recorded.checkpoint)),
            "source": recorded.as_ref().map(|recorded| &recorded.checkpoint.source),
            "written_at": recorded.as_ref().map(|recorded| &recorded.record.written_at),
            "oplog": { "from": oldest.map(|oldest| oldest.to_string()), "to": present.to_string() },
        });
        writeln!(out, "{object}")?;
        return Ok(ExitCode::SUCCESS);
    }
    print_recorded(recorded.as_ref(), &mut out)?;
    let from = oldest.map_or_else(
        || "a time that this user may not see".to_owned(),
        |oldest| oldest.to_string(),
    );
    writeln!(out, "oplog:     from {from} to {present}")?;
    Ok(ExitCode::SUCCESS)
}

async fn set(
    config: &Config,
    kafka: KafkaConfig,
    mongodb: MongoConfig,
    args: &PositionSetArgs,
) -> Result<ExitCode> {
    let before = match recorded(&kafka).await {
        // An unreadable record is what this command is there to replace.
        Err(error) if error.is::<Refusal>() => None,
        read => read?,
    };
    nobody_runs(config, &kafka).await?;
    let mut source = MongoSource::new(mongodb.clone());
    let claim = source.own().await.map_err(refusal::of_source)?;
    let Claim::Owned(owned) = claim else {
        unreachable!("MongoDB keeps nobody out")
    };
    let mut out = io::stdout();
    let Some(wanted) = &args.position else {
        commit(config, kafka, owned.identity, Progress::CREATING).await?;
        writeln!(
            out,
            "the next start reads the existing documents again, as `read` changes"
        )?;
        return Ok(ExitCode::SUCCESS);
    };
    let history = history(&mongodb).await.map_err(refusal::of_source)?;
    within(wanted, &history)?;
    let at = before
        .as_ref()
        .and_then(|recorded| match &recorded.checkpoint.progress {
            Progress::At { position, .. } => Some(position.clone()),
            Progress::Creating { .. } => None,
        });
    let consequence = consequence(wanted, at.as_ref(), args)?;
    let progress = keep_cursor(wanted, before.as_ref());
    commit(config, kafka, owned.identity, progress).await?;
    writeln!(out, "{consequence}\nthe position is {wanted}")?;
    Ok(ExitCode::SUCCESS)
}

/// An instance that runs is seen by its commits.
async fn nobody_runs(config: &Config, kafka: &KafkaConfig) -> Result<()> {
    let published = Published::of(&compile(config)?);
    let mut sink = KafkaSink::new(kafka.clone(), published);
    let look = move || {
        let limits = pipeline::Limits::default();
        pipeline::wait_for_the_last(&mut sink, &limits, &CancellationToken::new())
    };
    match tokio::task::spawn_blocking(look).await? {
        Err(SinkError::Standby { holder }) => {
            let problem = format!("an instance runs: {holder} commits");
            Err(Refusal::invalid(problem, "stop it first").into())
        }
        looked => looked.map_err(refusal::of_sink),
    }
}

fn within(wanted: &Position, history: &History) -> Result<()> {
    if let Some(oldest) = history.oldest.as_ref().filter(|oldest| wanted < *oldest) {
        return Err(Refusal::new(
            State::HistoryLost,
            format!("the oplog begins at {oldest}: the servers do not give changes before it"),
            format!("`rowbridge position set {oldest} --accept-gap`, or `rowbridge position set --snapshot`"),
        )
        .into());
    }
    if *wanted > history.present && wanted.order() > history.present.order() {
        return Err(Refusal::invalid(
            format!(
                "{wanted} is in the future: the servers are at {}",
                history.present
            ),
            "`rowbridge position show` prints where things stand",
        )
        .into());
    }
    Ok(())
}
