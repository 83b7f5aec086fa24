//! `rowbridge run`: the daemon.

mod live;
mod status_line;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::{FAILED, hash_key, peers, source};
use crate::config::{Config, SinkConfig};
use crate::health::Health;
use crate::http::Server;
use crate::mapping::Mapping;
use crate::metrics::Metrics;
use crate::pack;
use crate::paint::Look;
use crate::pipeline::{self, Meters, Plan};
use crate::sink::kafka::{KafkaSink, Published};
use crate::sink::stdout::StdoutSink;
use crate::sink::{Sink, SinkError};
use crate::stop::{Cut, told_to_stop};
use live::StatusLine;

/// Runs the pipeline until it is told to stop, or refuses.
pub(crate) async fn run(config: Config) -> Result<ExitCode> {
    let mapping = Arc::new(compile(&config)?);
    let published = Arc::clone(&mapping);
    match &config.sink {
        SinkConfig::Kafka(settings) => {
            let kafka = peers::kafka(&config, settings)?;
            let published = Published::of(&published);
            Box::pin(daemon(&config, mapping, move || {
                Ok(KafkaSink::new(kafka.clone(), published.clone()))
            }))
            .await
        }
        SinkConfig::Stdout {} => {
            let pipeline = config.pipeline.clone();
            Box::pin(daemon(&config, mapping, move || {
                Ok(StdoutSink::new(
                    Arc::clone(&published),
                    &pipeline,
                    std::io::stdout(),
                ))
            }))
            .await
        }
    }
}

/// The configured mapping, compiled; its warnings are logged.
fn compile(config: &Config) -> Result<Mapping> {
    let (mapping, warnings) =
        Mapping::compile(&pack::read(&config.mapping, config.params.clone())?)?;
    if !warnings.is_empty() {
        tracing::warn!("{}", warnings.render(Look::PLAIN));
    }
    hash_key::keyed(mapping, Some(&config.privacy))
}

/// The pipeline with its probes, until a signal.
async fn daemon<S, M>(config: &Config, mapping: Arc<Mapping>, make_sink: M) -> Result<ExitCode>
where
    S: Sink,
    M: Fn() -> Result<S, SinkError> + Send + Sync + 'static,
{
    let mut source = source::configured(config)?;
    let health = Health::new(config.http.stale_after);
    let metrics = Metrics::new(mapping.rules(), health.clone());
    let server = Server::bind(config.http.listen).await?;
    tracing::info!(pipeline = config.pipeline, http = %server.address(), "starting");
    // Until the end, however it comes.
    let _line = StatusLine::start(config, metrics.clone(), health.clone())?;

    let shutdown = CancellationToken::new();
    let answering = CancellationToken::new();
    let plan = Plan {
        pipeline: config.pipeline.clone(),
        mapping,
        limits: peers::limits(config),
        make_sink: Arc::new(make_sink),
        state: Some(peers::state(config)),
        meters: Meters::new(metrics.clone(), health.clone()),
        shutdown: shutdown.clone(),
    };
    let pipeline = async {
        let ended = pipeline::run(&mut source, &plan).await;
        answering.cancel();
        ended
    };
    let serve = server.serve(health, metrics, answering.clone());
    tokio::select! {
        (ended, ()) = async { tokio::join!(pipeline, serve) } => {
            ended?;
            tracing::info!("stopped; everything received is published and acknowledged");
            Ok(ExitCode::SUCCESS)
        }
        cut = told_to_stop(shutdown, config.limits.grace_period) => {
            let why = match cut? {
                Cut::SecondSignal => "a second signal".to_owned(),
                Cut::GraceIsOver => {
                    let seconds = config.limits.grace_period.as_secs();
                    format!("limits.grace_period_seconds = {seconds} is over")
                }
            };
            tracing::error!("{why}; what was not committed is published by the next start");
            Ok(ExitCode::from(FAILED))
        }
    }
}
