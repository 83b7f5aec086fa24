//! The topics of a pipeline: what they should be, creating what is missing, and comparing what exists.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication, TopicResult,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rowbridge_api::{Finding, Severity, State};

use super::alarms::Alarms;
use super::check::refusal_as_finding;
use super::commands::Commands;
use super::position::Reader;
use super::verdict::{self, Right};
use super::{KafkaConfig, Published, properties};
use crate::mapping::{Cleanup, Topic};
use crate::sink::SinkError;

/// Segments of the position topic, in bytes: the least Kafka 4 takes. Small ones are compacted soon, so that
/// the topic stays short although every commit writes to it.
const POSITION_SEGMENT_BYTES: u32 = 1024 * 1024;
/// Pause between two looks at whether a topic that was created is known to the brokers.
const CREATED_PAUSE: Duration = Duration::from_millis(20);
/// Looks until a topic that exists and is not seen is one that may not be seen.
const CREATED_LOOKS: u32 = 50;

/// A topic as it should be. `None` leaves a choice to the brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    partitions: Option<u32>,
    replication: Option<u16>,
    settings: Vec<(&'static str, String)>,
}

impl Wanted {
    fn event_topic(config: &KafkaConfig, topic: &Topic) -> Self {
        let mut settings = Vec::new();
        if let Some(cleanup) = topic.cleanup {
            let policy = match cleanup {
                Cleanup::Delete => "delete",
                Cleanup::Compact => "compact",
                Cleanup::CompactDelete => "compact,delete",
            };
            settings.push(("cleanup.policy", policy.to_owned()));
        }
        if let Some(retention_ms) = topic.retention_ms {
            settings.push(("retention.ms", retention_ms.to_string()));
        }
        if let Some(bytes) = topic.max_bytes_per_partition {
            settings.push(("retention.bytes", bytes.to_string()));
        }
        Self {
            name: topic.name.clone(),
            partitions: topic.partitions,
            replication: config.replication.or(topic.replication),
            settings,
        }
    }

    fn position_topic(config: &KafkaConfig) -> Self {
        Self {
            name: config.position_topic(),
            partitions: Some(1),
            replication: config.replication,
            settings: vec![
                ("cleanup.policy", "compact".to_owned()),
                ("segment.bytes", POSITION_SEGMENT_BYTES.to_string()),
            ],
        }
    }

    fn state_topic(config: &KafkaConfig) -> Self {
        Self {
            name: config.state_topic(),
            // One order of all entries.
            partitions: Some(1),
            replication: config.replication,
            settings: vec![("cleanup.policy", "compact".to_owned())],
        }
    }

    fn quarantine_topic(config: &KafkaConfig) -> Self {
        Self {
            name: config.quarantine_topic(),
            partitions: Some(1),
            replication: config.replication,
            settings: vec![("cleanup.policy", "delete".to_owned())],
        }
    }

    /// Every topic of the pipeline, its own first.
    pub(super) fn all(config: &KafkaConfig, published: &Published) -> Vec<Self> {
        let mut wanted = vec![Self::position_topic(config), Self::quarantine_topic(config)];
        wanted.extend(published.kept.as_ref().map(|_| Self::state_topic(config)));
        for topic in &published.topics {
            if wanted.iter().all(|known| known.name != topic.name) {
                wanted.push(Self::event_topic(config, topic));
            }
        }
        wanted
    }

    pub(super) fn command(&self, commands: &Commands<'_>) -> String {
        commands.create_topic(
            &self.name,
            self.partitions,
            self.replication,
            &self.settings,
        )
    }

    fn new_topic(&self) -> NewTopic<'_> {
        // -1 is the brokers' default, KIP-464.
        let partitions = self
            .partitions
            .map_or(-1, |count| i32::try_from(count).unwrap_or(i32::MAX));
        let replication = self.replication.map_or(-1, i32::from);
        let mut topic = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(replication));
        for (name, value) in &self.settings {
            topic = topic.set(name, value);
        }
        topic
    }
}

/// Whether a request is carried out or only judged by the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Carry,
    Judge,
}

/// The settings of one topic, by name.
pub(super) type Settings = HashMap<String, String>;

/// A client for requests that change or describe topics. Dropping it takes up to 100 ms.
pub(super) struct Admin<'a> {
    client: AdminClient<Alarms>,
    runtime: tokio::runtime::Runtime,
    config: &'a KafkaConfig,
}

impl<'a> Admin<'a> {
    pub(super) fn connect(config: &'a KafkaConfig) -> Result<Self, SinkError> {
        let client = properties::admin(config)?
            .create_with_context(Alarms::default())
            .map_err(|error| verdict::creation(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| SinkError::Transient {
                problem: format!("no runtime for requests to Kafka: {error}"),
            })?;
        Ok(Self {
            client,
            runtime,
            config,
        })
    }

    fn options(&self) -> AdminOptions {
        let limit = self.config.limits.open_timeout();
        AdminOptions::new()
            .request_timeout(Some(limit))
            .operation_timeout(Some(limit))
    }

    /// Creates `topics`, or asks whether they could be; one result each, in order.
    pub(super) fn create(
        &self,
        topics: &[&Wanted],
        mode: Mode,
    ) -> Result<Vec<TopicResult>, SinkError> {
        let new: Vec<_> = topics.iter().map(|topic| topic.new_topic()).collect();
        let options = self.options().validate_only(mode == Mode::Judge);
        self.runtime
            .block_on(self.client.create_topics(&new, &options))
            .map_err(|error| self.failed("creating topics", &error))
    }

    /// Deletes `topics`; those that do not exist count as deleted.
    pub(super) fn delete(&self, topics: &[&str]) -> Result<Vec<TopicResult>, SinkError> {
        self.runtime
            .block_on(self.client.delete_topics(topics, &self.options()))
            .map_err(|error| self.failed("deleting topics", &error))
    }

    /// The settings of `topic`.
    pub(super) fn settings(&self, topic: &str) -> Result<Settings, SinkError> {
        let resource = ResourceSpecifier::Topic(topic);
        let described = self
            .runtime
            .block_on(self.client.describe_configs([&resource], &self.options()))
            .map_err(|error| self.failed("describing topics", &error))?;
        match described.into_iter().next() {
            // The client drops the broker's refusal; a topic always has settings.
            Some(Ok(resource)) if resource.entries.is_empty() => {
                Err(verdict::no_right(self.config, Right::Describe, topic))
            }
            Some(Ok(resource)) => Ok(resource
                .entries
                .into_iter()
                .filter_map(|entry| Some((entry.name, entry.value?)))
                .collect()),
            Some(Err(code)) => Err(verdict::of_topic(self.config, Right::Describe, code, topic)),
            None => Ok(Settings::new()),
        }
    }

    fn failed(&self, what: &str, error: &KafkaError) -> SinkError {
        verdict::of_call(self.config, what, error, self.client.inner().context())
    }
}

/// Sees to it that every topic exists, and returns how many partitions each event topic has.
///
/// # Errors
/// `Refused` with the commands if a topic is missing and may not or cannot be created.
pub(super) fn ensure(
    reader: &Reader<'_>,
    config: &KafkaConfig,
    published: &Published,
) -> Result<BTreeMap<String, u32>, SinkError> {
    let wanted = Wanted::all(config, published);
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    for topic in &wanted {
        match reader.partitions(&topic.name)? {
            Some(partitions) => {
                found.insert(topic.name.clone(), partitions);
            }
            None => missing.push(topic),
        }
    }
    if !missing.is_empty() {
        create(config, &missing)?;
        for topic in missing {
            let partitions = until_known(reader, config, &topic.name)?;
            found.insert(topic.name.clone(), partitions);
        }
    }
    found.retain(|name, _| published.topics.iter().any(|topic| topic.name == *name));
    Ok(found)
}

fn create(config: &KafkaConfig, missing: &[&Wanted]) -> Result<(), SinkError> {
    let commands = Commands::of(config);
    let refused = |problem: String, topics: &[&Wanted]| SinkError::Refused {
        state: State::Invalid,
        problem,
        hint: topics
            .iter()
            .map(|topic| topic.command(&commands))
            .collect::<Vec<_>>()
            .join("\n"),
    };
    if !config.create_topics {
        let names: Vec<_> = missing.iter().map(|topic| topic.name.as_str()).collect();
        return Err(refused(
            format!(
                "topics are missing, and sink.kafka.create_topics is off: {}",
                names.join(", ")
            ),
            missing,
        ));
    }
    let results = Admin::connect(config)?.create(missing, Mode::Carry)?;
    for (topic, result) in missing.iter().zip(results) {
        match result {
            // Another instance that starts beside us was faster.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {
                tracing::info!(topic = topic.name, "topic created");
            }
            Err((
                name,
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed,
            )) => return Err(verdict::no_right(config, Right::Create, &name)),
            Err((name, code)) => {
                return Err(refused(
                    format!("topic {name} could not be created: {code}"),
                    &[topic],
                ));
            }
        }
    }
    Ok(())
}

/// Waits until the brokers tell of a topic that was created, and of its leader.
fn until_known(reader: &Reader<'_>, config: &KafkaConfig, topic: &str) -> Result<u32, SinkError> {
    let deadline = Instant::now() + config.limits.open_timeout();
    loop {
        if let Some(partitions) = reader.partitions(topic)? {
            return Ok(partitions);
        }
        if Instant::now() >= deadline {
            return Err(SinkError::Transient {
                problem: format!("topic {topic} was created, but the brokers do not know it yet"),
            });
        }
        std::thread::sleep(CREATED_PAUSE);
    }
}

/// Compares the topics with what the configuration and the mapping say. Reads only.
pub(super) fn compare(
    reader: &Reader<'_>,
    admin: &Admin<'_>,
    config: &KafkaConfig,
    published: &Published,
) -> Result<Vec<Finding>, SinkError> {
    let commands = Commands::of(config);
    let mut findings = Vec::new();
    for wanted in Wanted::all(config, published) {
        let partitions = match reader.partitions(&wanted.name) {
            Ok(Some(partitions)) => partitions,
            Ok(None) => match missing(reader, admin, &commands, config, &wanted)? {
                Missing::CreatedMeanwhile(partitions) => partitions,
                Missing::Judged(finding) => {
                    findings.extend(finding);
                    continue;
                }
            },
            Err(refused @ SinkError::Refused { .. }) => {
                findings.push(refusal_as_finding(refused)?);
                continue;
            }
            Err(error) => return Err(error),
        };
        findings.extend(placement(reader, &commands, &wanted, partitions)?);
        match admin.settings(&wanted.name) {
            Ok(settings) => {
                findings.extend(setting_findings(&commands, config, &wanted, &settings));
            }
            Err(refused @ SinkError::Refused { .. }) => findings.push(Finding {
                severity: Severity::Warning,
                ..refusal_as_finding(refused)?
            }),
            Err(error) => return Err(error),
        }
    }
    Ok(findings)
}

/// What became of a topic that the brokers did not know.
enum Missing {
    /// A daemon that started at this moment created it; with its partitions.
    CreatedMeanwhile(u32),
    Judged(Option<Finding>),
}

/// What a missing topic means: nothing if `run` will create it.
fn missing(
    reader: &Reader<'_>,
    admin: &Admin<'_>,
    commands: &Commands<'_>,
    config: &KafkaConfig,
    wanted: &Wanted,
) -> Result<Missing, SinkError> {
    let name = &wanted.name;
    if !config.create_topics {
        return Ok(Missing::Judged(Some(Finding {
            severity: Severity::Error,
            problem: format!(
                "topic {name} is missing or may not be seen, and sink.kafka.create_topics is off"
            ),
            fix: wanted.command(commands),
            cost: None,
        })));
    }
    let judged = admin.create(&[wanted], Mode::Judge)?.into_iter().next();
    if let Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) = judged {
        for _ in 0..CREATED_LOOKS {
            std::thread::sleep(CREATED_PAUSE);
            if let Some(partitions) = reader.partitions(name)? {
                return Ok(Missing::CreatedMeanwhile(partitions));
            }
        }
    }
    Ok(Missing::Judged(match judged {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Some(Finding {
            severity: Severity::Error,
            problem: format!("no right to see topic {name}, which exists"),
            fix: commands.allow_topic(name),
            cost: None,
        }),
        Some(Err((
            _,
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed,
        ))) => Some(Finding {
            severity: Severity::Error,
            problem: format!("no right to create topic {name}, which is missing"),
            fix: format!(
                "{}\n{}",
                commands.allow_creating(name),
                commands.allow_topic(name)
            ),
            cost: None,
        }),
        Some(Err((_, code))) => Some(Finding {
            severity: Severity::Error,
            problem: format!("topic {name} could not be created: {code}"),
            fix: wanted.command(commands),
            cost: None,
        }),
        Some(Ok(_)) | None => None,
    }))
}

/// Differences in partitions and replication.
fn placement(
    reader: &Reader<'_>,
    commands: &Commands<'_>,
    wanted: &Wanted,
    partitions: u32,
) -> Result<Vec<Finding>, SinkError> {
    let name = &wanted.name;
    let mut findings = Vec::new();
    if let Some(declared) = wanted.partitions
        && declared != partitions
    {
        findings.push(Finding {
            severity: Severity::Warning,
            problem: format!("topic {name} has {partitions} partitions, and {declared} are declared"),
            fix: if declared > partitions {
                commands.add_partitions(name, declared)
            } else {
                format!("declare partitions = {partitions}: a topic never loses partitions")
            },
            cost: (declared > partitions).then(|| {
                "keys move to other partitions: stop the pipeline first; it starts again only after \
                 `rowbridge position set`, and order per key holds from there on"
                    .to_owned()
            }),
        });
    }
    let replicas = reader.replication(name)?;
    if let (Some(declared), Some(replicas)) = (wanted.replication, replicas)
        && usize::from(declared) != replicas
    {
        findings.push(Finding {
            severity: Severity::Warning,
            problem: format!("topic {name} has {replicas} replicas, and {declared} are declared"),
            fix: format!(
                "declare replication = {replicas}, or move it with kafka-reassign-partitions.sh"
            ),
            cost: None,
        });
    }
    Ok(findings)
}

/// Differences in settings, and a record limit below ours.
fn setting_findings(
    commands: &Commands<'_>,
    config: &KafkaConfig,
    wanted: &Wanted,
    settings: &Settings,
) -> Vec<Finding> {
    let name = &wanted.name;
    let mut findings = Vec::new();
    for (setting, declared) in &wanted.settings {
        let Some(actual) = settings.get(*setting) else {
            continue;
        };
        if same_list(actual, declared) || *setting == "segment.bytes" {
            continue;
        }
        // Retention would delete the position of an idle pipeline, and rows that nobody touched for long.
        let is_kept = *name == config.position_topic() || *name == config.state_topic();
        let fatal = is_kept && *setting == "cleanup.policy";
        findings.push(Finding {
            severity: if fatal {
                Severity::Error
            } else {
                Severity::Warning
            },
            problem: format!("topic {name} has {setting}={actual}, and {declared} is declared"),
            fix: commands.set_topic(name, setting, declared),
            cost: None,
        });
    }
    let limit = settings
        .get("max.message.bytes")
        .and_then(|limit| limit.parse::<usize>().ok());
    if let Some(limit) = limit
        && limit < config.max_record_bytes
    {
        findings.push(Finding {
            severity: Severity::Error,
            problem: format!(
                "topic {name} takes records up to {limit} bytes, and limits.max_record_bytes is {}",
                config.max_record_bytes
            ),
            fix: commands.set_topic(
                name,
                "max.message.bytes",
                &(config.max_record_bytes + properties::MESSAGE_OVERHEAD_BYTES).to_string(),
            ),
            cost: None,
        });
    }
    findings
}

/// Whether two comma separated lists have the same members.
fn same_list(left: &str, right: &str) -> bool {
    let members = |list: &str| {
        let mut members: Vec<_> = list.split(',').map(|part| part.trim().to_owned()).collect();
        members.sort_unstable();
        members
    };
    members(left) == members(right)
}
