//! The settings as the pipeline, the connector and the sink want them.

use super::Config;

/// Encoded batches between the mapper and the committer: one is filled while one is sent, and two more so
/// that neither waits for the other's last step.
const ENCODED_BATCHES: usize = 4;

impl Config {
    /// The bounds of the pipeline.
    #[must_use]
    pub fn pipeline_limits(&self) -> crate::pipeline::Limits {
        let limits = &self.limits;
        crate::pipeline::Limits {
            channel_batches: limits.channel_batches(),
            encoded_batches: ENCODED_BATCHES,
            commit_min_interval: limits.commit_min_interval,
            commit_max_records: limits.transaction_records,
            commit_max_age: limits.transaction_age,
            max_record_bytes: limits.max_record_bytes,
            backoff_min: limits.retry_min,
            backoff_max: limits.retry_max,
            standby_poll: limits.standby_poll,
        }
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use rowbridge_postgres::{
        Address, ClientCertificate, ConfigError, Limits, Password, PostgresConfig, TlsMode,
    };

    use super::Config;
    use crate::config::{PostgresSettings, Tls};

    impl Config {
        /// The connector's settings.
        ///
        /// # Errors
        /// The URL is not one of PostgreSQL's; loading the configuration found that already.
        pub fn postgres(&self, settings: &PostgresSettings) -> Result<PostgresConfig, ConfigError> {
            let from_url = PostgresConfig::from_url(settings.url.expose())?;
            let tls = match (&from_url.address, settings.tls) {
                (Address::Unix { .. }, _) | (_, Tls::Disable) => TlsMode::Disable,
                (_, Tls::Require) => TlsMode::Require,
                (_, Tls::VerifyCa) => TlsMode::VerifyCa,
                (_, Tls::VerifyFull) => TlsMode::VerifyFull,
            };
            let password = match (&settings.password, &settings.password_file) {
                (Some(secret), _) => Password::Literal(secret.expose().to_owned()),
                (None, Some(file)) => Password::File(file.clone()),
                (None, None) => from_url.password,
            };
            let certificate = settings.client_cert_file.clone();
            let client_certificate = certificate.zip(settings.client_key_file.clone()).map(
                |(certificate_file, key_file)| ClientCertificate {
                    certificate_file,
                    key_file,
                },
            );
            Ok(PostgresConfig {
                password,
                tls,
                ca_file: settings.ca_file.clone(),
                client_certificate,
                create_publication: settings.create_publication,
                create_slot: settings.create_slot,
                limits: Limits {
                    connect_timeout: settings.connect_timeout,
                    wal_sender_timeout: settings.wal_sender_timeout,
                    idle_commit_interval: settings.idle_commit_interval,
                    batch_bytes: self.limits.batch_bytes,
                    ..Limits::default()
                },
                ..from_url
            })
        }
    }
}

#[cfg(feature = "kafka")]
mod kafka {
    use std::time::Duration;

    use super::Config;
    use crate::config::KafkaSettings;
    use crate::sink::kafka::properties::{Properties, PropertyProblem};
    use crate::sink::kafka::{KafkaConfig, KafkaLimits};

    impl Config {
        /// The sink's settings; reads the files that hold secrets.
        ///
        /// # Errors
        /// A property cannot be used; loading the configuration found that already, unless a file is gone.
        pub fn kafka(&self, settings: &KafkaSettings) -> Result<KafkaConfig, Vec<PropertyProblem>> {
            let milliseconds =
                |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            Ok(KafkaConfig {
                pipeline: self.pipeline.clone(),
                brokers: settings.brokers.clone(),
                properties: Properties::checked(&settings.properties.iter().cloned().collect())?,
                create_topics: settings.create_topics,
                replication: settings.replication,
                max_record_bytes: self.limits.max_record_bytes,
                limits: KafkaLimits {
                    open_timeout_ms: milliseconds(self.limits.sink_open_timeout),
                    commit_suspect_ms: milliseconds(self.limits.commit_suspect),
                    transaction_timeout_ms: milliseconds(self.limits.transaction_timeout),
                },
            })
        }
    }
}
