//! A pipeline inside of another program, over a source of that program's own.
//!
//! `rowbridge run` reads PostgreSQL and MongoDB. [`Embedded::run`] takes any [`Source`] and keeps the same promise; it has
//! defaults where the daemon has a configuration. A program that wants another limit, or probes, takes [`pipeline::run`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use rowbridge_api::Source;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::mapping::Mapping;
use crate::metrics::Metrics;
use crate::pack;
use crate::paint::Look;
use crate::pipeline::{self, Limits, Meters, Plan};
#[cfg(feature = "kafka")]
use crate::sink::kafka::{KafkaConfig, KafkaSink, Published};
use crate::sink::stdout::StdoutSink;
use crate::sink::{Sink, SinkError};
use crate::stop::{Cut, told_to_stop};

/// After so long without a confirmed position a pipeline is not well.
const STALE_AFTER: Duration = Duration::from_secs(30);
/// How long the last commits may take once the program was told to stop.
const GRACE: Duration = Duration::from_secs(25);

/// A pipeline without a configuration file.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// Names the topics of the position and the quarantine, and the transactional ids; for good.
    pub pipeline: String,
    /// The folder of the mapping.
    pub pack: PathBuf,
    pub target: Target,
}

/// Where events go.
#[derive(Clone, Debug)]
pub enum Target {
    /// Printed as JSON lines. Every run starts over.
    Stdout,
    /// Published exactly once to these `bootstrap.servers`; topics are made where they are missing.
    #[cfg(feature = "kafka")]
    Kafka(String),
}

impl Embedded {
    /// Publishes what `source` tells until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// The mapping does not compile; a [`crate::refusal::Refusal`], as of [`pipeline::run`]; a second signal, or a last
    /// commit that takes too long.
    pub async fn run<D: Source>(&self, source: D) -> Result<()> {
        let (mapping, warnings) = Mapping::compile(&pack::read(&self.pack, toml::Table::new())?)?;
        if !warnings.is_empty() {
            tracing::warn!("{}", warnings.render(Look::PLAIN));
        }
        let mapping = Arc::new(mapping);
        let printed = Arc::clone(&mapping);
        match &self.target {
            Target::Stdout => {
                let name = self.pipeline.clone();
                let sink = move || {
                    Ok(StdoutSink::new(
                        Arc::clone(&printed),
                        &name,
                        std::io::stdout(),
                    ))
                };
                self.publish(source, mapping, sink).await
            }
            #[cfg(feature = "kafka")]
            Target::Kafka(brokers) => {
                let kafka = KafkaConfig::new(&self.pipeline, brokers);
                let published = Published::of(&mapping);
                let sink = move || Ok(KafkaSink::new(kafka.clone(), published.clone()));
                self.publish(source, mapping, sink).await
            }
        }
    }

    async fn publish<D, S, M>(&self, mut source: D, mapping: Arc<Mapping>, sink: M) -> Result<()>
    where
        D: Source,
        S: Sink,
        M: Fn() -> Result<S, SinkError> + Send + Sync + 'static,
    {
        let health = Health::new(STALE_AFTER);
        let metrics = Metrics::new(mapping.rules(), health.clone());
        let shutdown = CancellationToken::new();
        let plan = Plan {
            pipeline: self.pipeline.clone(),
            mapping,
            limits: Limits::default(),
            make_sink: Arc::new(sink),
            state: None,
            meters: Meters::new(metrics, health),
            shutdown: shutdown.clone(),
        };
        tokio::select! {
            ended = pipeline::run(&mut source, &plan) => Ok(ended?),
            cut = told_to_stop(shutdown, GRACE) => {
                let why = match cut? {
                    Cut::SecondSignal => "a second signal".to_owned(),
                    Cut::GraceIsOver => format!("not committed within {GRACE:?}"),
                };
                bail!("{why}; the next start publishes what was not committed")
            }
        }
    }
}
