//! `rowbridge run`: the daemon.

mod live;
mod reseed;
mod status_line;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::args::RunArgs;
use super::source::{self, AnySource};
use super::{FAILED, hash_key, peers};
use crate::config::{Config, SinkConfig};
use crate::health::Health;
use crate::http::Server;
use crate::mapping::{Mapping, Pack};
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
pub(crate) async fn run(config: Config, args: &RunArgs) -> Result<ExitCode> {
    let pack = pack::read(&config.mapping, config.params.clone())?;
    let mapping = Arc::new(compile(&config, &pack)?);
    match &config.sink {
        SinkConfig::Kafka(settings) => {
            let kafka = peers::kafka(&config, settings)?;
            let published = Published::of_files(&mapping, &pack);
            let reseeded = Arc::new(OnceLock::new());
            let make_sink = {
                let (kafka, published) = (kafka.clone(), published.clone());
                let reseeded = Arc::clone(&reseeded);
                move || {
                    let sink = KafkaSink::new(kafka.clone(), published.clone());
                    Ok(sink.reseeded(reseeded.get().cloned()))
                }
            };
            let prepare = async |source: &mut AnySource, plan: &Plan<_>| {
                if args.reseed
                    && let Some(read) =
                        reseed::read(source, plan, &config, &kafka, &published).await?
                {
                    let _ = reseeded.set(read);
                }
                Ok(())
            };
            Box::pin(daemon(&config, mapping, make_sink, prepare)).await
        }
        SinkConfig::Stdout {} => {
            let pipeline = config.pipeline.clone();
            let printed = Arc::clone(&mapping);
            let make_sink = move || {
                Ok(StdoutSink::new(
                    Arc::clone(&printed),
                    &pipeline,
                    std::io::stdout(),
                ))
            };
            // It keeps nothing from run to run, and reads everything at each start.
            let prepare = async |_: &mut AnySource, _: &Plan<_>| Ok(());
            Box::pin(daemon(&config, mapping, make_sink, prepare)).await
        }
    }
}

/// A mapping, compiled, with the configured key; its warnings are logged.
fn compile(config: &Config, pack: &Pack) -> Result<Mapping> {
    let (mapping, warnings) = Mapping::compile(pack)?;
    if !warnings.is_empty() {
        tracing::warn!("{}", warnings.render(Look::PLAIN));
    }
    hash_key::keyed(mapping, Some(&config.privacy))
}

/// The pipeline with its probes, until a signal; `prepare` comes before its first session.
async fn daemon<S, M, P>(
    config: &Config,
    mapping: Arc<Mapping>,
    make_sink: M,
    prepare: P,
) -> Result<ExitCode>
where
    S: Sink,
    M: Fn() -> Result<S, SinkError> + Send + Sync + 'static,
    P: AsyncFnOnce(&mut AnySource, &Plan<M>) -> Result<()>,
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
        let ended = match prepare(&mut source, &plan).await {
            Ok(()) => pipeline::run(&mut source, &plan).await.map_err(Into::into),
            Err(error) => Err(error),
        };
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
