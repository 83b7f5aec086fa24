//! A connector of one's own: a folder of CSV files, read by the same pipeline as PostgreSQL and MongoDB.
//!
//! `cargo run --example custom_source -- FOLDER [BROKERS]` prints the events, or publishes them exactly once.
//!
//! - `export`: one file, as text and as changes
//! - `folder`: the source, written against nothing but `rowbridge_api`
//!
//! tests/custom_source puts the source to the conformance suite and kills this program.

mod export;
mod folder;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rowbridge::health::Health;
use rowbridge::mapping::{Mapping, Pack, SourceFile};
use rowbridge::metrics::Metrics;
use rowbridge::pipeline::{self, Limits, Meters, Plan};
use rowbridge::refusal::Refusal;
use rowbridge::sink::kafka::{
    KafkaConfig, KafkaLimits, KafkaSink, LetIn, Published, properties::Properties,
};
use rowbridge::sink::stdout::StdoutSink;
use rowbridge::sink::{Sink, SinkError};
use tokio_util::sync::CancellationToken;

use folder::FolderSource;

/// Names the topics of the position and the quarantine, and the transactional ids.
const PIPELINE: &str = "guests";
const MAX_RECORD_BYTES: usize = 1 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .context("usage: custom_source FOLDER [BROKERS]")?;
    let source = FolderSource::new(folder);
    let (mapping, _) = Mapping::compile(&pack())?;
    let mapping = Arc::new(mapping);
    let published = Arc::clone(&mapping);
    match arguments.next() {
        None => {
            let sink = move || {
                Ok(StdoutSink::new(
                    Arc::clone(&published),
                    PIPELINE,
                    std::io::stdout(),
                ))
            };
            publish(source, mapping, sink).await?;
        }
        Some(brokers) => {
            let kafka = kafka(brokers);
            let sink = move || Ok(KafkaSink::new(kafka.clone(), Published::of(&published)));
            publish(source, mapping, sink).await?;
        }
    }
    Ok(())
}

/// The pipeline, until Ctrl-C.
async fn publish<S, M>(
    mut source: FolderSource,
    mapping: Arc<Mapping>,
    sink: M,
) -> Result<(), Refusal>
where
    S: Sink,
    M: Fn() -> Result<S, SinkError> + Send + Sync + 'static,
{
    let health = Health::new(Duration::from_secs(30));
    let metrics = Metrics::new(mapping.rules(), health.clone());
    let shutdown = CancellationToken::new();
    let plan = Plan {
        pipeline: PIPELINE.to_owned(),
        mapping,
        limits: Limits::default(),
        make_sink: Arc::new(sink),
        meters: Meters::new(metrics, health),
        shutdown: shutdown.clone(),
    };
    let stop = async {
        if tokio::signal::ctrl_c().await.is_ok() {
            shutdown.cancel();
        }
        std::future::pending().await
    };
    tokio::select! {
        ended = pipeline::run(&mut source, &plan) => ended,
        never = stop => never,
    }
}

/// A mapping of the exported table, as a folder with these two files would be.
fn pack() -> Pack {
    let file = |name: &str, text: &str| SourceFile {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    Pack {
        mapping: file("mapping.toml", include_str!("mapping.toml")),
        schema: file("schema.toml", include_str!("schema.toml")),
        params: toml::Table::new(),
    }
}

fn kafka(brokers: String) -> KafkaConfig {
    KafkaConfig {
        pipeline: PIPELINE.to_owned(),
        instance: uuid::Uuid::new_v4().to_string(),
        brokers,
        properties: Properties::default(),
        create_topics: true,
        replication: None,
        max_record_bytes: MAX_RECORD_BYTES,
        limits: KafkaLimits::default(),
        let_in: LetIn::default(),
    }
}
