//! The settings as types, extracted after validation. What each means stands in [`super::schema`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::secret::{Secret, Url};

/// Everything `rowbridge.toml` and the environment say. Paths are resolved.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub pipeline: String,
    /// Folder of the mapping pack.
    pub mapping: PathBuf,
    #[serde(default)]
    pub params: toml::Table,
    pub source: SourceConfig,
    pub sink: SinkConfig,
    #[serde(default)]
    pub privacy: PrivacySettings,
    pub state: StateSettings,
    pub limits: Limits,
    pub http: Http,
    pub log: Log,
}

/// `[privacy]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivacySettings {
    pub hash_key_id: Option<String>,
    pub hash_key: Option<Secret>,
    pub hash_key_file: Option<PathBuf>,
}

/// `[state]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateSettings {
    pub directory: Option<PathBuf>,
    #[serde(deserialize_with = "bytes")]
    pub cache_bytes: usize,
}

/// The one source.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum SourceConfig {
    Postgres(PostgresSettings),
    MongoDb(MongoDbSettings),
}

impl SourceConfig {
    /// The table it stands in.
    #[must_use]
    pub const fn table(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "source.postgres",
            Self::MongoDb(_) => "source.mongodb",
        }
    }
}

/// `[source.postgres]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSettings {
    pub url: Url,
    pub password: Option<Secret>,
    pub password_file: Option<PathBuf>,
    pub tls: Tls,
    pub ca_file: Option<PathBuf>,
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    pub create_publication: bool,
    pub create_slot: bool,
    #[serde(rename = "connect_timeout_ms", deserialize_with = "milliseconds")]
    pub connect_timeout: Duration,
    #[serde(rename = "wal_sender_timeout_ms", deserialize_with = "milliseconds")]
    pub wal_sender_timeout: Duration,
    #[serde(rename = "idle_commit_interval_ms", deserialize_with = "milliseconds")]
    pub idle_commit_interval: Duration,
}

/// `[source.mongodb]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MongoDbSettings {
    pub url: Url,
    pub password: Option<Secret>,
    pub password_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub certificate_key_file: Option<PathBuf>,
    pub on_drop: OnDrop,
    #[serde(rename = "connect_timeout_ms", deserialize_with = "milliseconds")]
    pub connect_timeout: Duration,
    #[serde(rename = "idle_commit_interval_ms", deserialize_with = "milliseconds")]
    pub idle_commit_interval: Duration,
}

/// What the drop of a mapped collection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDrop {
    Stop,
    Continue,
}

/// How the connection is encrypted and the server recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    Disable,
    Require,
    VerifyCa,
    VerifyFull,
}

/// The one sink.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum SinkConfig {
    Kafka(KafkaSettings),
    Stdout {},
}

/// `[sink.kafka]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    pub brokers: String,
    pub create_topics: bool,
    pub replication: Option<u16>,
    /// librdkafka properties, in the order of the file; some are passwords.
    #[serde(default, deserialize_with = "properties")]
    pub properties: Vec<(String, String)>,
}

impl std::fmt::Debug for KafkaSettings {
    /// Names of properties only: their values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.properties.iter().map(|(name, _)| name).collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("create_topics", &self.create_topics)
            .field("replication", &self.replication)
            .field("properties", &names)
            .finish()
    }
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    #[serde(deserialize_with = "bytes")]
    pub channel_bytes: usize,
    #[serde(deserialize_with = "bytes")]
    pub batch_bytes: usize,
    #[serde(deserialize_with = "bytes")]
    pub max_record_bytes: usize,
    pub transaction_records: usize,
    pub transaction_rows: usize,
    #[serde(rename = "transaction_age_ms", deserialize_with = "milliseconds")]
    pub transaction_age: Duration,
    #[serde(rename = "transaction_timeout_ms", deserialize_with = "milliseconds")]
    pub transaction_timeout: Duration,
    #[serde(rename = "sink_open_timeout_ms", deserialize_with = "milliseconds")]
    pub sink_open_timeout: Duration,
    #[serde(rename = "commit_min_interval_ms", deserialize_with = "milliseconds")]
    pub commit_min_interval: Duration,
    #[serde(rename = "commit_suspect_ms", deserialize_with = "milliseconds")]
    pub commit_suspect: Duration,
    #[serde(rename = "retry_min_ms", deserialize_with = "milliseconds")]
    pub retry_min: Duration,
    #[serde(rename = "retry_max_ms", deserialize_with = "milliseconds")]
    pub retry_max: Duration,
    #[serde(rename = "standby_poll_ms", deserialize_with = "milliseconds")]
    pub standby_poll: Duration,
    #[serde(rename = "grace_period_seconds", deserialize_with = "seconds")]
    pub grace_period: Duration,
}

impl Limits {
    /// How many batches the channel holds so that [`Limits::channel_bytes`] is kept. At least 2: one is
    /// filled while the other is mapped.
    #[must_use]
    pub fn channel_batches(&self) -> usize {
        (self.channel_bytes / self.batch_bytes.max(1)).max(2)
    }
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub listen: SocketAddr,
    #[serde(rename = "stale_after_seconds", deserialize_with = "seconds")]
    pub stale_after: Duration,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

fn milliseconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    u64::deserialize(from).map(Duration::from_millis)
}

fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    u64::deserialize(from).map(Duration::from_secs)
}

/// An integer, or text with a unit.
fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    let bytes = match Written::deserialize(from)? {
        Written::Number(bytes) => Some(bytes),
        Written::Text(text) => super::size::parse(&text),
    };
    bytes
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| serde::de::Error::custom("not a size such as `32MiB`"))
}

/// `"a.b" = "x"` and `a.b = "x"` alike.
fn properties<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, String)>, D::Error> {
    fn flatten(prefix: &str, table: toml::Table, into: &mut Vec<(String, String)>) {
        for (name, value) in table {
            let name = match prefix {
                "" => name,
                _ => format!("{prefix}.{name}"),
            };
            match value {
                toml::Value::Table(table) => flatten(&name, table, into),
                toml::Value::String(text) => into.push((name, text)),
                other => into.push((name, other.to_string())),
            }
        }
    }
    let mut flat = Vec::new();
    flatten("", toml::Table::deserialize(from)?, &mut flat);
    Ok(flat)
}
