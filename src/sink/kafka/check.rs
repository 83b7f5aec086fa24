//! Rights and settings, found out without writing anything or fencing anybody.
//!
//! Kafka has no question for "may I?", so two requests are sent that a broker refuses for another reason,
//! and only after it has looked at the rights (`KafkaApis`: authorisation comes first in both):
//!
//! - a record with `acks=2`: `INVALID_REQUIRED_ACKS` where it may be written, `TOPIC_AUTHORIZATION_FAILED`
//!   where not; it is never appended;
//! - `InitProducerId` with a transaction time-out above any broker's maximum: `INVALID_TRANSACTION_TIMEOUT`
//!   where the transactional id may be used, before its epoch is raised, so that a running owner is not
//!   fenced.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rowbridge_api::{Finding, Severity};

use super::alarms::Alarms;
use super::commands::Commands;
use super::position::Reader;
use super::topics::{self, Admin, Wanted};
use super::verdict::{self, Right};
use super::{KafkaConfig, Published, properties, state};
use crate::sink::SinkError;

/// Pause between two looks at whether a probe was answered.
const PROBE_PAUSE: Duration = Duration::from_millis(5);

/// Everything that would keep the sink from working.
pub(super) fn check(
    config: &KafkaConfig,
    published: &Published,
) -> Result<Vec<Finding>, SinkError> {
    let reader = match Reader::connect(config).and_then(|reader| {
        reader.cluster_id()?;
        Ok(reader)
    }) {
        Ok(reader) => reader,
        Err(error) => return refusal_as_finding(error).map(|finding| vec![finding]),
    };
    let admin = Admin::connect(config)?;
    let mut findings = topics::compare(&reader, &admin, config, published)?;
    match (reader.position(), &published.kept) {
        (Err(error), _) => findings.push(refusal_as_finding(error)?),
        (Ok(Some(recorded)), Some(wanted)) => {
            let needs = state::needs(&recorded, wanted);
            findings.extend(needs.map(refusal_as_finding).transpose()?);
        }
        (Ok(_), _) => {}
    }
    for wanted in Wanted::all(config, published) {
        if reader
            .partitions(&wanted.name)
            .is_ok_and(|found| found.is_some())
        {
            findings.extend(may_write(config, &wanted.name)?);
        }
    }
    findings.extend(may_use_transactions(config)?);
    // A topic that may not be used is found in more than one way.
    let mut seen = std::collections::BTreeSet::new();
    findings.retain(|finding| seen.insert(finding.problem.clone()));
    Ok(findings)
}

/// What would stop `run` is a finding here.
pub(super) fn refusal_as_finding(error: SinkError) -> Result<Finding, SinkError> {
    match error {
        SinkError::Refused { problem, hint, .. } => Ok(Finding {
            severity: Severity::Error,
            problem,
            fix: hint,
            cost: None,
        }),
        SinkError::Transient { problem } => Ok(Finding {
            severity: Severity::Error,
            problem,
            fix: "start the brokers, or correct sink.kafka.brokers".to_owned(),
            cost: None,
        }),
        other => Err(other),
    }
}

/// Whether records may be written to `topic`.
fn may_write(config: &KafkaConfig, topic: &str) -> Result<Option<Finding>, SinkError> {
    let producer: BaseProducer<Alarms> = properties::write_probe(config)?
        .create_with_context(Alarms::default())
        .map_err(|error| verdict::creation(&error))?;
    let probe = BaseRecord::<[u8], [u8]>::to(topic)
        .partition(super::position::PARTITION)
        .key(b"probe");
    producer.send(probe).map_err(|(error, _)| {
        verdict::of_call(config, "probing a topic", &error, producer.context())
    })?;
    let deadline = Instant::now() + config.limits.open_timeout();
    loop {
        producer.poll(Duration::ZERO);
        if let Some(undelivered) = producer.context().undelivered() {
            return match undelivered {
                RDKafkaErrorCode::TopicAuthorizationFailed => {
                    refusal_as_finding(verdict::no_right(config, Right::Write, topic)).map(Some)
                }
                _ => Ok(None),
            };
        }
        if Instant::now() >= deadline {
            return Err(verdict::unreachable(
                config,
                &format!("asking for the right to write to topic {topic} was not answered"),
                producer.context(),
            ));
        }
        std::thread::sleep(PROBE_PAUSE);
    }
}

/// Whether the pipeline's transactional ids may be used.
fn may_use_transactions(config: &KafkaConfig) -> Result<Option<Finding>, SinkError> {
    let ids = config.transactional_ids();
    // A broker configured without any maximum would let the probe through, and it would fence: only an id
    // that nobody uses may find that out.
    let stand_in = probe_transactions(config, &format!("{}.check", ids[0]))?;
    if stand_in == Probe::LetThrough {
        return Ok(None);
    }
    let mut forbidden = Vec::new();
    for id in ids {
        if probe_transactions(config, &id)? == Probe::Forbidden {
            forbidden.push(id);
        }
    }
    Ok((!forbidden.is_empty()).then(|| Finding {
        severity: Severity::Error,
        problem: format!(
            "no right to use the transactional id {}",
            forbidden.join(" and ")
        ),
        fix: Commands::of(config).allow_transactions(),
        cost: None,
    }))
}

/// How a broker took a transactional id with a time-out it cannot accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    Allowed,
    Forbidden,
    LetThrough,
}

fn probe_transactions(config: &KafkaConfig, id: &str) -> Result<Probe, SinkError> {
    let producer: BaseProducer<Alarms> = properties::transaction_probe(config, id)?
        .create_with_context(Alarms::default())
        .map_err(|error| verdict::creation(&error))?;
    let Err(error) = producer.init_transactions(config.limits.open_timeout()) else {
        return Ok(Probe::LetThrough);
    };
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::InvalidTransactionTimeout) => Ok(Probe::Allowed),
        Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed) => Ok(Probe::Forbidden),
        _ => Err(failed_probe(config, id, &error, &producer)),
    }
}

fn failed_probe(
    config: &KafkaConfig,
    id: &str,
    error: &KafkaError,
    producer: &BaseProducer<Alarms>,
) -> SinkError {
    producer.poll(Duration::ZERO);
    let what = format!("asking for the right to use the transactional id {id}");
    verdict::of_transaction(config, id, &what, error, producer.context())
}
