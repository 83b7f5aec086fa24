//! What an error of the client means for the pipeline: transient, fenced, open, or refused with a way out.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rowbridge_api::State;
use rowbridge_kafka::{Code, Error};

use super::alarms::Alarms;
use super::commands::Commands;
use super::{KafkaConfig, admission};
use crate::sink::SinkError;

fn invalid(problem: String, hint: impl Into<String>) -> SinkError {
    SinkError::Refused {
        state: State::Invalid,
        problem,
        hint: hint.into(),
    }
}

fn transient(problem: String) -> SinkError {
    SinkError::Transient { problem }
}

/// A client could not be made of the configuration.
pub(super) fn creation(error: &KafkaError) -> SinkError {
    let text = match error {
        // The last part of a configuration error is the value, which may be a secret.
        KafkaError::ClientConfig(_, text, name, _) => format!("{name}: {text}"),
        other => other.to_string(),
    };
    invalid(
        format!("the Kafka client does not accept its configuration: {text}"),
        "correct [sink.kafka.properties]; docs/configuration.md lists what may be set",
    )
}

/// No broker did what was asked in time.
pub(super) fn unreachable(config: &KafkaConfig, what: &str, alarms: &Alarms) -> SinkError {
    let brokers = &config.brokers;
    match (alarms.login(), alarms.link()) {
        (Some(reason), _) => admission::reason(config, &reason),
        (None, Some(link)) => transient(format!("Kafka at {brokers}: {what}: {link}")),
        (None, None) => transient(format!("Kafka at {brokers}: {what} in time")),
    }
}

/// A call failed.
pub(super) fn of_call(
    config: &KafkaConfig,
    what: &str,
    error: &KafkaError,
    alarms: &Alarms,
) -> SinkError {
    use RDKafkaErrorCode as Code;
    let link = alarms.link();
    match error.rdkafka_error_code() {
        Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL) => {
            admission::reason(config, &error.to_string())
        }
        Some(
            Code::OperationTimedOut
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve,
        ) => unreachable(config, what, alarms),
        _ => transient(match link {
            Some(link) => format!("{what}: {error} ({link})"),
            None => format!("{what}: {error}"),
        }),
    }
}

/// What one may be allowed to do with a topic. Brokers only say that something was not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    See,
    Read,
    Write,
    Create,
    Delete,
    /// Of its settings.
    Describe,
}

/// A right is missing.
pub(super) fn no_right(config: &KafkaConfig, right: Right, topic: &str) -> SinkError {
    let commands = Commands::of(config);
    let (what, hint) = match right {
        // Who may not see a topic is not told whether it exists.
        Right::See if config.create_topics => (
            "see",
            format!(
                "{}\n{}",
                commands.allow_creating(topic),
                commands.allow_topic(topic)
            ),
        ),
        Right::See => ("see", commands.allow_topic(topic)),
        Right::Read => ("read", commands.allow_topic(topic)),
        Right::Write => ("write to", commands.allow_topic(topic)),
        Right::Describe => ("read the settings of", commands.allow_topic(topic)),
        Right::Create => ("create", commands.allow_creating(topic)),
        Right::Delete => ("delete", commands.allow_deleting(topic)),
    };
    invalid(format!("no right to {what} topic {topic}"), hint)
}

/// A topic cannot be used, or a record for it was given up; `right` is what was made use of.
pub(super) fn of_topic(
    config: &KafkaConfig,
    right: Right,
    code: RDKafkaErrorCode,
    topic: &str,
) -> SinkError {
    use RDKafkaErrorCode as Code;
    let commands = Commands::of(config);
    match code {
        Code::TopicAuthorizationFailed => no_right(config, right, topic),
        Code::MessageSizeTooLarge => invalid(
            format!("a record is longer than topic {topic} takes"),
            format!(
                "lower limits.max_record_bytes below the topic's limit, or raise that: {}",
                commands.set_topic(
                    topic,
                    "max.message.bytes",
                    &(config.max_record_bytes + 4096).to_string()
                )
            ),
        ),
        Code::InvalidRecord => invalid(
            format!("topic {topic} takes no record without a key: it is compacted"),
            "give every event on that topic a key in the mapping, or let the topic be cleaned by \
             time: cleanup = \"delete\"",
        ),
        Code::PolicyViolation => invalid(
            format!("a policy of the brokers forbids the records for topic {topic}"),
            "ask whoever runs the brokers which policy it is",
        ),
        code => transient(format!("a record for topic {topic} was given up: {code}")),
    }
}

/// A call of the transactional producer of `id` failed, with nothing known to be visible.
pub(super) fn of_transaction(
    config: &KafkaConfig,
    id: &str,
    what: &str,
    error: &KafkaError,
    alarms: &Alarms,
) -> SinkError {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => {
            fenced(what, error)
        }
        Some(Code::TransactionalIdAuthorizationFailed) => invalid(
            format!("{what}: no right to use the transactional id {id}"),
            Commands::of(config).allow_transactions(),
        ),
        Some(Code::InvalidTransactionTimeout) => invalid(
            format!(
                "{what}: transactions of {} ms are longer than the brokers allow",
                config.limits.transaction_timeout_ms
            ),
            "raise transaction.max.timeout.ms on the brokers",
        ),
        _ => of_call(config, what, error, alarms),
    }
}

/// No broker let us in.
pub(super) fn of_greeting(config: &KafkaConfig, error: &Error) -> SinkError {
    match error {
        Error::Login { peer, why } => admission::barred(config, peer, why),
        other => transient(format!("Kafka at {other}")),
    }
}

/// Publishing under the transactional id `id` failed, with nothing known to be visible; `right` is what was made use of.
pub(super) fn of_publishing(
    config: &KafkaConfig,
    id: &str,
    right: Right,
    error: &Error,
) -> SinkError {
    let (what, code, topic) = match error {
        Error::Login { peer, why } => return admission::barred(config, peer, why),
        Error::Link { .. } | Error::Late { .. } | Error::Protocol { .. } => {
            return transient(format!("Kafka at {error}"));
        }
        Error::Refused { what, code, topic } => (*what, *code, topic),
    };
    match (code, topic) {
        (Code::RecordListTooLarge, Some(topic)) => {
            of_topic(config, right, RDKafkaErrorCode::MessageSizeTooLarge, topic)
        }
        (
            Code::TopicAuthorizationFailed
            | Code::MessageTooLarge
            | Code::InvalidRecord
            | Code::PolicyViolation,
            Some(topic),
        ) => of_topic(config, right, as_librdkafka(code), topic),
        _ if topic.is_some() && !is_fencing(code) => transient(error.to_string()),
        _ => {
            let error = KafkaError::Global(as_librdkafka(code));
            of_transaction(config, id, what, &error, &Alarms::default())
        }
    }
}

/// A commit that was asked for did not come back with success.
pub(super) fn of_commit(config: &KafkaConfig, id: &str, error: &Error) -> SinkError {
    match error {
        Error::Refused { code, .. } if is_fencing(*code) => {
            of_publishing(config, id, Right::Write, error)
        }
        _ => SinkError::Ambiguous {
            problem: error.to_string(),
        },
    }
}

/// Whether it says that another producer has the id, or that the broker ended the transaction.
const fn is_fencing(code: Code) -> bool {
    matches!(code, Code::ProducerFenced | Code::InvalidProducerEpoch)
}

/// The same code as librdkafka's clients give it: both have the protocol's numbers.
fn as_librdkafka(code: Code) -> RDKafkaErrorCode {
    RDKafkaRespErr::try_from(i32::from(code.code()))
        .map_or(RDKafkaErrorCode::Fail, RDKafkaErrorCode::from)
}

/// Another producer has the transactional id now.
fn fenced(what: &str, error: &KafkaError) -> SinkError {
    SinkError::Fenced {
        problem: format!("{what}: {error}"),
    }
}
