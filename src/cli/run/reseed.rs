//! `rowbridge run --reseed`: before the first session, what the mapping looks up and was not kept so far is read.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rowbridge_api::TableName;

use super::compile;
use crate::cli::source::AnySource;
use crate::config::Config;
use crate::health::Peer;
use crate::pipeline::{self, Plan, Reseed};
use crate::refusal::Refusal;
use crate::sink::SinkError;
use crate::sink::kafka::{KafkaConfig, KafkaSink, Published, Reseeded, Unread, unread};

/// Pause before Kafka is asked again what is kept.
const PAUSE: Duration = Duration::from_secs(1);

/// Has the mapping that published last go on while what that of `plan` lacks is read; nothing if it lacks nothing, or if
/// shutdown came first.
///
/// # Errors
/// A state that does not pass by itself; the mapping that published last does not compile any more.
pub(super) async fn read<M>(
    source: &mut AnySource,
    plan: &Plan<M>,
    config: &Config,
    kafka: &KafkaConfig,
    published: &Published,
) -> Result<Option<Reseeded>> {
    while let Some(Unread { tables, last }) = look(plan, kafka, published).await? {
        let mapping = Arc::new(compile(config, &last)?);
        let sinks = (
            kafka.clone(),
            Published::of_files(&mapping, &last).with_changelog(),
        );
        let before = Plan {
            pipeline: plan.pipeline.clone(),
            limits: plan.limits.clone(),
            make_sink: Arc::new(move || Ok(KafkaSink::new(sinks.0.clone(), sinks.1.clone()))),
            state: plan.state.clone(),
            meters: plan.meters.of_rules(mapping.rules()),
            shutdown: plan.shutdown.clone(),
            mapping,
        };
        let is_unread = |table: &TableName| tables.contains(&table.to_string());
        let looked_into = plan.mapping.looked_into().into_iter();
        let reseed = Reseed {
            before: &before,
            mapping: Arc::clone(&plan.mapping),
            tables: looked_into.filter(is_unread).collect(),
        };
        match pipeline::reseed(source, &reseed).await? {
            pipeline::Reseeded::Overtaken => {}
            pipeline::Reseeded::Stopped => return Ok(None),
            pipeline::Reseeded::At {
                position,
                generations,
            } => {
                return Ok(Some(Reseeded {
                    position,
                    generations,
                }));
            }
        }
    }
    Ok(None)
}

/// What is not kept, as soon as Kafka can be asked.
async fn look<M>(
    plan: &Plan<M>,
    kafka: &KafkaConfig,
    published: &Published,
) -> Result<Option<Unread>, Refusal> {
    while !plan.shutdown.is_cancelled() {
        let (kafka, published) = (kafka.clone(), published.clone());
        let looked = tokio::task::spawn_blocking(move || unread(&kafka, &published)).await;
        let looked = looked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let problem = match looked {
            Ok(None) => {
                tracing::info!("nothing is to be read: all that the mapping looks up is kept");
                return Ok(None);
            }
            Ok(unread) => return Ok(unread),
            Err(SinkError::Refused {
                state,
                problem,
                hint,
            }) => return Err(Refusal::new(state, problem, hint)),
            Err(error) => error.to_string(),
        };
        plan.meters.retrying(Peer::Sink, &problem, PAUSE);
        let _ = tokio::time::timeout(PAUSE, plan.shutdown.cancelled()).await;
    }
    Ok(None)
}
