//! librdkafka properties: the user's, checked, and ours, which the guarantee rests on.
//!
//! Everything is passed through but what would break exactly-once or contradict another key; those are
//! refused by name with the reason. Secrets may come from a file (`"sasl.password_file" = "/run/..."`), which is
//! read whenever a client is made, so that a rotated one is picked up. They never show in `Debug` or in an error.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use rowbridge_kafka::{SettingError, Settings};

use super::{KafkaConfig, admission};
use crate::sink::SinkError;

/// Properties that may not be set, and why.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["bootstrap.servers", "metadata.broker.list"],
        "the brokers are named by sink.kafka.brokers",
    ),
    (
        &["transactional.id"],
        "it is rowbridge.<pipeline>: another one would not fence the instance that ran before",
    ),
    (
        &["enable.idempotence", "enable.gapless.guarantee"],
        "transactions need the idempotent producer as it is",
    ),
    (
        &["acks", "request.required.acks", "required.acks"],
        "a commit must be on all in-sync replicas before the source is acknowledged",
    ),
    (
        &["retries", "message.send.max.retries"],
        "a record is sent again until its transaction times out",
    ),
    (
        &[
            "partitioner",
            "sticky.partitioning.linger.ms",
            "queuing.strategy",
        ],
        "keys are placed with Kafka's murmur2, in order, so that Java producers and consumers agree",
    ),
    (
        &[
            "transaction.timeout.ms",
            "message.timeout.ms",
            "delivery.timeout.ms",
        ],
        "it follows from the limits of the pipeline's transactions",
    ),
    (
        &["delivery.report.only.error", "dr_cb", "dr_msg_cb"],
        "the sink counts on the delivery reports it asks for",
    ),
    (
        &[
            "isolation.level",
            "enable.auto.commit",
            "auto.commit.enable",
            "enable.auto.offset.store",
            "auto.offset.reset",
            "enable.partition.eof",
            "group.id",
            "group.instance.id",
            "group.protocol",
        ],
        "it decides how the position is read back, which must see committed records and all of them",
    ),
    (
        &["allow.auto.create.topics"],
        "topics are created by sink.kafka.create_topics, with the partitions the mapping declares",
    ),
    (
        &["test.mock.num.brokers", "test.mock.broker.rtt"],
        "a simulated cluster has neither fencing nor isolation",
    ),
];

/// Properties whose value is a secret. Each may be given as `<name>_file` instead.
const SECRET: &[&str] = &[
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
];

/// What a record batch of one record adds to key, value and headers, in bytes, generously.
pub(super) const MESSAGE_OVERHEAD_BYTES: usize = 512;

/// One property that cannot be used. Never carries its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sink.kafka.properties.\"{name}\": {reason}")]
pub struct PropertyProblem {
    pub name: String,
    pub reason: String,
}

/// The user's librdkafka properties, each one known, allowed and of the right type; secrets still in their files.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(name, value)| {
                let value = if SECRET.contains(&name.as_str()) {
                    "<secret>"
                } else {
                    value
                };
                (name, value)
            }))
            .finish()
    }
}

impl Properties {
    /// Checks `given`, without a look at the files it names.
    ///
    /// # Errors
    /// Every property that is refused, unknown or of the wrong type.
    pub fn checked(given: &BTreeMap<String, String>) -> Result<Self, Vec<PropertyProblem>> {
        let mut problems = Vec::new();
        for (name, value) in given {
            let judged = match secret_of_file(name) {
                Some(secret) if given.contains_key(secret) => {
                    Err(format!("{secret} is given too; one of them must go"))
                }
                _ => judge(name, value),
            };
            if let Err(reason) = judged {
                let name = name.clone();
                problems.push(PropertyProblem { name, reason });
            }
        }
        if problems.is_empty() {
            let known_later = given
                .iter()
                .map(|(name, value)| match secret_of_file(name) {
                    Some(secret) => (secret.to_owned(), String::new()),
                    None => (name.clone(), value.clone()),
                });
            if let Err(SettingError { name, problem }) = Settings::judge(&known_later.collect()) {
                let reason = problem;
                problems.push(PropertyProblem { name, reason });
            }
        }
        match problems.is_empty() {
            true => Ok(Self(given.clone())),
            false => Err(problems),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The properties as clients take them, each secret as its file holds it now.
    fn unlocked(&self) -> Result<BTreeMap<String, String>, PropertyProblem> {
        self.0
            .iter()
            .map(|(name, value)| match secret_of_file(name) {
                None => Ok((name.clone(), value.clone())),
                Some(secret) => match secret_in(value) {
                    Ok(text) => Ok((secret.to_owned(), text)),
                    Err(reason) => Err(PropertyProblem {
                        name: name.clone(),
                        reason,
                    }),
                },
            })
            .collect()
    }
}

/// What the file at `path` holds, without the line end after it.
fn secret_in(path: &str) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err(format!("{path} is empty")),
        secret => Ok(secret.to_owned()),
    }
}

/// Whether the value of the property `name` is the path of a file or a folder.
pub(crate) fn names_a_file(name: &str) -> bool {
    const FILES: [&str; 5] = [
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.keystore.location",
        "ssl.crl.location",
    ];
    FILES.contains(&name) || secret_of_file(name).is_some()
}

/// The secret property whose value is in the file that the property `name` names.
fn secret_of_file(name: &str) -> Option<&str> {
    name.strip_suffix("_file")
        .filter(|secret| SECRET.contains(secret))
}

/// Why `name = value` cannot be set, if it cannot.
fn judge(name: &str, value: &str) -> Result<(), String> {
    if let Some((_, reason)) = REFUSED.iter().find(|(names, _)| names.contains(&name)) {
        return Err((*reason).to_owned());
    }
    if secret_of_file(name).is_some() {
        return Ok(());
    }
    let mut alone = ClientConfig::new();
    alone.set(name, value);
    match alone.create_native_config() {
        Ok(_) => Ok(()),
        Err(error) => Err(config_problem(name, value, error)),
    }
}

/// librdkafka's objection to a property, without the value where it is a secret.
fn config_problem(name: &str, value: &str, error: KafkaError) -> String {
    let text = match error {
        KafkaError::ClientConfig(_, text, _, _) => text,
        other => other.to_string(),
    };
    if text.starts_with("No such configuration property") {
        return "librdkafka has no such property".to_owned();
    }
    if SECRET.contains(&name) {
        return "not a value it takes".to_owned();
    }
    // librdkafka's own words name an alias of the property.
    if text.starts_with("Invalid value") {
        return format!("`{value}` is not a value it takes");
    }
    text
}

/// What every client of ours has in common.
fn client(config: &KafkaConfig) -> Result<ClientConfig, SinkError> {
    let mut client = ClientConfig::new();
    client
        .set_log_level(RDKafkaLogLevel::Info)
        .set("client.id", format!("rowbridge-{}", config.pipeline))
        // Small answers must not wait for more bytes; librdkafka's default has been both.
        .set("socket.nagle.disable", "true")
        // A broker that restarts is back in seconds; waiting longer than that for it helps nobody.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000");
    for (name, value) in unlocked(config)? {
        client.set(name, value);
    }
    client
        .set("bootstrap.servers", &config.brokers)
        .set("allow.auto.create.topics", "false");
    Ok(client)
}

fn unlocked(config: &KafkaConfig) -> Result<BTreeMap<String, String>, SinkError> {
    let unlocked = config.properties.unlocked();
    unlocked.map_err(|problem| admission::property(config, &problem))
}

/// The client that reads the position and describes topics.
pub(super) fn consumer(config: &KafkaConfig) -> Result<ClientConfig, SinkError> {
    let mut client = client(config)?;
    client
        // Never joined: librdkafka wants a name before it lets a consumer be assigned.
        .set("group.id", format!("rowbridge.{}", config.pipeline))
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "10")
        // By default it waits a second whenever its queue is full, and the queue holds 64 MiB.
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.max.messages.kbytes", "4096");
    Ok(client)
}

/// The client that creates, describes and deletes topics.
pub(super) fn admin(config: &KafkaConfig) -> Result<ClientConfig, SinkError> {
    client(config)
}

/// What the events are published with, which is not librdkafka: the properties that speak of reaching the brokers,
/// logging in and the form of record batches, as [`Settings`] follows them.
///
/// # Errors
/// A file that a property names cannot be read, or holds what it should not.
pub(super) fn publisher(config: &KafkaConfig) -> Result<Settings, SinkError> {
    let transaction_timeout = Duration::from_millis(config.limits.transaction_timeout_ms);
    let client_id = format!("rowbridge-{}", config.pipeline);
    let properties = unlocked(config)?;
    Settings::of(
        &config.brokers,
        &client_id,
        transaction_timeout,
        &properties,
    )
    .map_err(|SettingError { name, problem }| {
        let reason = problem;
        admission::property(config, &PropertyProblem { name, reason })
    })
}

/// The producer that asks for the right to write, see [`super::check`].
pub(super) fn write_probe(config: &KafkaConfig) -> Result<ClientConfig, SinkError> {
    let mut probe = client(config)?;
    probe
        .set("acks", "2")
        .set("enable.idempotence", "false")
        .set("retries", "0")
        .set(
            "message.timeout.ms",
            config.limits.open_timeout_ms.to_string(),
        );
    Ok(probe)
}

/// The producer that asks for the right to a transactional id, see [`super::check`].
pub(super) fn transaction_probe(
    config: &KafkaConfig,
    transactional_id: &str,
) -> Result<ClientConfig, SinkError> {
    let mut probe = client(config)?;
    probe
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", i32::MAX.to_string());
    Ok(probe)
}

#[cfg(test)]
mod tests {

    use super::*;

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn everything_wrong_is_reported_at_once_with_its_reason() {
        let problems = Properties::checked(&given(&[
            ("acks", "1"),
            ("bootstrap.servers", "kafka:9092"),
            ("compression.codec", "zstd"),
            ("compression.kodec", "zstd"),
            ("linger.ms", "soon"),
            ("transactional.id", "mine"),
        ]))
        .unwrap_err();
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"sink.kafka.properties."acks": a commit must be on all in-sync replicas before the source is acknowledged"#,
                r#"sink.kafka.properties."bootstrap.servers": the brokers are named by sink.kafka.brokers"#,
                r#"sink.kafka.properties."compression.kodec": librdkafka has no such property"#,
                r#"sink.kafka.properties."linger.ms": `soon` is not a value it takes"#,
                r#"sink.kafka.properties."transactional.id": it is rowbridge.<pipeline>: another one would not fence the instance that ran before"#,
            ]
        );
    }

    #[test]
    fn every_property_the_guarantee_rests_on_is_refused() {
        for (names, reason) in REFUSED {
            for name in *names {
                let problems = Properties::checked(&given(&[(name, "1")])).unwrap_err();
                assert_eq!(problems[0].reason, *reason, "{name}");
            }
        }
    }

    #[test]
    fn a_secret_is_read_from_its_file_each_time_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let properties = Properties::checked(&given(&[
            ("sasl.password_file", path),
            ("sasl.username", "app"),
        ]))
        .unwrap();
        for password in ["hunter2", "hunter3"] {
            fs::write(path, format!("{password}\n")).unwrap();
            let unlocked = properties.unlocked().unwrap();
            assert_eq!(unlocked["sasl.password"], password);
            assert!(!unlocked.contains_key("sasl.password_file"));
        }
        let shown = format!("{properties:?}");
        assert!(
            !shown.contains("hunter") && shown.contains("app"),
            "{shown}"
        );
        fs::write(path, "\n").unwrap();
        let problem = properties.unlocked().unwrap_err();
        assert!(problem.to_string().ends_with("is empty"), "{problem}");
    }

    #[test]
    fn a_secret_given_in_place_is_never_shown() {
        for name in SECRET {
            let properties = Properties(given(&[(name, "hunter2")]));
            assert!(!format!("{properties:?}").contains("hunter2"), "{name}");
        }
    }

    #[test]
    fn a_secret_given_twice_is_a_problem() {
        let twice = given(&[("sasl.password", "hunter2"), ("sasl.password_file", "x")]);
        let problems = Properties::checked(&twice).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(!problems[0].to_string().contains("hunter2"));
    }

    #[test]
    fn files_are_not_looked_at_before_they_are_needed() {
        let properties = Properties::checked(&given(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "app"),
            ("sasl.password_file", "/nonexistent/password"),
            ("ssl.ca.location", "/nonexistent/ca.pem"),
        ]))
        .unwrap();
        let problem = properties.unlocked().unwrap_err().to_string();
        assert!(problem.contains("/nonexistent/password"), "{problem}");
    }
}
