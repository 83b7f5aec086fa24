//! What the configuration means to the connector and to the sink.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rowbridge_api::Password;
use rowbridge_mongodb::MongoConfig;
use rowbridge_postgres::{Address, ClientCertificate, PostgresConfig, TlsMode};

use crate::config::Config;
use crate::config::KafkaSettings;
use crate::config::{MongoDbSettings, OnDrop, PostgresSettings, Tls};
use crate::pipeline;
use crate::refusal::Refusal;
use crate::sink::kafka::{KafkaConfig, KafkaLimits, LetIn, properties::Properties};
use crate::state;

/// The PostgreSQL connector's settings.
pub(crate) fn postgres(config: &Config, settings: &PostgresSettings) -> Result<PostgresConfig> {
    let hint = "see source.postgres in docs/configuration.md";
    let mut postgres = PostgresConfig::from_url(settings.url.expose())
        .map_err(|error| Refusal::invalid(format!("source.postgres.url: {error}"), hint))?;
    if let Some(password) = &settings.password {
        postgres.password = Password::Literal(password.expose().to_owned());
    }
    if let Some(file) = &settings.password_file {
        postgres.password = Password::File(file.clone());
    }
    postgres.tls = match (&postgres.address, settings.tls) {
        (Address::Unix { .. }, _) | (_, Tls::Disable) => TlsMode::Disable,
        (_, Tls::Require) => TlsMode::Require,
        (_, Tls::VerifyCa) => TlsMode::VerifyCa,
        (_, Tls::VerifyFull) => TlsMode::VerifyFull,
    };
    postgres.ca_file.clone_from(&settings.ca_file);
    postgres.client_certificate = settings
        .client_cert_file
        .clone()
        .zip(settings.client_key_file.clone())
        .map(|(certificate_file, key_file)| ClientCertificate {
            certificate_file,
            key_file,
        });
    postgres.create_publication = settings.create_publication;
    postgres.create_slot = settings.create_slot;
    postgres.limits.connect_timeout = settings.connect_timeout;
    postgres.limits.wal_sender_timeout = settings.wal_sender_timeout;
    postgres.limits.idle_commit_interval = settings.idle_commit_interval;
    postgres.limits.batch_bytes = config.limits.batch_bytes;
    Ok(postgres)
}

/// The MongoDB connector's settings.
pub(crate) fn mongodb(config: &Config, settings: &MongoDbSettings) -> MongoConfig {
    let mut mongodb = MongoConfig::new(settings.url.expose());
    if let Some(password) = &settings.password {
        mongodb.password = Password::Literal(password.expose().to_owned());
    }
    if let Some(file) = &settings.password_file {
        mongodb.password = Password::File(file.clone());
    }
    mongodb.ca_file.clone_from(&settings.ca_file);
    mongodb
        .certificate_key_file
        .clone_from(&settings.certificate_key_file);
    mongodb.on_drop = match settings.on_drop {
        OnDrop::Stop => rowbridge_mongodb::OnDrop::Stop,
        OnDrop::Continue => rowbridge_mongodb::OnDrop::Continue,
    };
    mongodb.limits.connect_timeout = settings.connect_timeout;
    mongodb.limits.idle_commit_interval = settings.idle_commit_interval;
    mongodb.limits.batch_bytes = config.limits.batch_bytes;
    mongodb.limits.ahead_bytes = config.limits.channel_bytes;
    mongodb
}

/// The Kafka sink's settings.
pub(crate) fn kafka(config: &Config, settings: &KafkaSettings) -> Result<KafkaConfig> {
    let given: BTreeMap<_, _> = settings.properties.iter().cloned().collect();
    let properties = Properties::checked(&given).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Refusal::invalid(
            problems.join("\n"),
            "see sink.kafka.properties in docs/configuration.md",
        )
    })?;
    let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Ok(KafkaConfig {
        pipeline: config.pipeline.clone(),
        instance: uuid::Uuid::new_v4().to_string(),
        brokers: settings.brokers.clone(),
        properties,
        create_topics: settings.create_topics,
        replication: settings.replication,
        max_record_bytes: config.limits.max_record_bytes,
        limits: KafkaLimits {
            open_timeout_ms: milliseconds(config.limits.sink_open_timeout),
            commit_suspect_ms: milliseconds(config.limits.commit_suspect),
            transaction_timeout_ms: milliseconds(config.limits.transaction_timeout),
        },
        let_in: LetIn::default(),
    })
}

/// Where working copies of the state are.
pub(crate) fn state(config: &Config) -> state::Settings {
    let directory = config.state.directory.clone();
    state::Settings {
        directory: directory.unwrap_or_else(state::default_directory),
        cache_bytes: config.state.cache_bytes,
    }
}

/// The pipeline's bounds.
pub(crate) fn limits(config: &Config) -> pipeline::Limits {
    let limits = &config.limits;
    pipeline::Limits {
        channel_batches: limits.channel_batches(),
        commit_min_interval: limits.commit_min_interval,
        commit_max_records: limits.transaction_records,
        transaction_rows: limits.transaction_rows,
        commit_max_age: limits.transaction_age,
        max_record_bytes: limits.max_record_bytes,
        backoff_min: limits.retry_min,
        backoff_max: limits.retry_max,
        standby_poll: limits.standby_poll,
        ..pipeline::Limits::default()
    }
}
