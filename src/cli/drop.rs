//! `rowbridge drop`: the way not to fill the source's disk with WAL that nobody will read.
//!
//! The slot goes first, because that is what frees the disk. Then the position is forgotten, so that the next
//! `run` is a first start and not a refusal.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use rowbridge_postgres::{Removal, drop_slot_and_publication, object_name};

use super::args::DropArgs;
use super::position::{forget, kafka_of};
use super::{REFUSED, peers};
use crate::config::{Config, SourceConfig};
use crate::refusal::{self, Refusal};
use crate::sink::kafka::{KafkaConfig, operator};
use crate::state;

const NOTHING_IN_MONGODB: &str =
    "MongoDB keeps nothing of a pipeline: there is nothing to remove there";

/// Runs the command.
pub(super) async fn run(config: Config, args: &DropArgs) -> Result<ExitCode> {
    let postgres = match &config.source {
        SourceConfig::Postgres(settings) => Some(peers::postgres(&config, settings)?),
        SourceConfig::MongoDb(_) => None,
    };
    let kafka = kafka_of(&config)?;
    let folder = peers::state(&config).of(&config.pipeline).folder;
    let mut out = io::stdout();
    if !args.yes {
        match &postgres {
            Some(postgres) => {
                let name = object_name(&config.pipeline);
                let address = &postgres.address;
                writeln!(
                    out,
                    "would remove slot {name} and publication {name} at {address}"
                )?;
            }
            None => writeln!(out, "{NOTHING_IN_MONGODB}")?,
        }
        if let Some(kafka) = &kafka {
            let what = if args.topics {
                "would delete"
            } else {
                "would forget the position in"
            };
            writeln!(out, "{what} {}", kafka.position_topic())?;
            if args.topics {
                writeln!(out, "would delete {}", kafka.quarantine_topic())?;
                if folder.exists() {
                    writeln!(out, "would remove {}", folder.display())?;
                }
            }
        }
        writeln!(out, "nothing was done; repeat it with --yes")?;
        return Ok(ExitCode::from(REFUSED));
    }
    match &postgres {
        Some(postgres) => {
            let removals = drop_slot_and_publication(postgres, &config.pipeline);
            let removals = removals.await.map_err(refusal::of_source)?;
            writeln!(out, "slot: {}", describe(&removals.slot))?;
            writeln!(out, "publication: {}", describe(&removals.publication))?;
        }
        None => writeln!(out, "{NOTHING_IN_MONGODB}")?,
    }
    if let Some(kafka) = kafka {
        let context = "the position is not forgotten: repeat this when Kafka answers";
        if args.topics {
            writeln!(
                out,
                "topics: {}",
                delete_topics(kafka).await.context(context)?
            )?;
            if state::forget(&folder).map_err(Refusal::from)? {
                writeln!(out, "state: removed {}", folder.display())?;
            }
        } else {
            writeln!(
                out,
                "position: {}",
                forget(&config, kafka).await.context(context)?
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(removal: &Removal) -> String {
    match removal {
        Removal::Removed => "removed".to_owned(),
        Removal::Absent => "there was none".to_owned(),
        Removal::Left { statement } => format!("left to its maker: {statement}"),
    }
}

async fn delete_topics(kafka: KafkaConfig) -> Result<String> {
    let deleted = tokio::task::spawn_blocking(move || operator::delete_topics(&kafka)).await?;
    let deleted = deleted.map_err(refusal::of_sink)?;
    Ok(match deleted.as_slice() {
        [] => "there were none".to_owned(),
        names => format!("deleted {}", names.join(" and ")),
    })
}
