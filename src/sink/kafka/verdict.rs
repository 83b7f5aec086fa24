//! What an error of the client means for the pipeline: transient, fenced, open, or refused with a way out.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rowbridge_api::State;
use rowbridge_kafka::{Code, Error, SettingError};

use super::KafkaConfig;
use super::alarms::Alarms;
use super::commands::Commands;
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

/// A broker answered and did not let us in.
pub(super) fn login(reason: &str) -> SinkError {
    invalid(
        format!("the Kafka brokers refuse the connection: {reason}"),
        "compare security.protocol, sasl.mechanism, sasl.username, sasl.password and ssl.ca.location \
         in [sink.kafka.properties] with the listener of the brokers",
    )
}

/// No broker did what was asked in time.
pub(super) fn unreachable(brokers: &str, what: &str, alarms: &Alarms) -> SinkError {
    match (alarms.login(), alarms.link()) {
        (Some(reason), _) => login(&reason),
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
            login(&error.to_string())
        }
        Some(Code::TopicAuthorizationFailed) => invalid(
            format!("{what}: the broker does not allow it"),
            Commands::of(config).allow_topic("TOPIC"),
        ),
        Some(
            Code::OperationTimedOut
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve,
        ) => unreachable(&config.brokers, what, alarms),
        _ => transient(match link {
            Some(link) => format!("{what}: {error} ({link})"),
            None => format!("{what}: {error}"),
        }),
    }
}

/// A topic cannot be used, or a record for it was given up.
pub(super) fn of_topic(config: &KafkaConfig, code: RDKafkaErrorCode, topic: &str) -> SinkError {
    use RDKafkaErrorCode as Code;
    let commands = Commands::of(config);
    match code {
        Code::TopicAuthorizationFailed => invalid(
            format!("no right to use topic {topic}"),
            commands.allow_topic(topic),
        ),
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
        Some(Code::ClusterAuthorizationFailed) => invalid(
            format!("{what}: no right to write to any topic"),
            config
                .topics_of_its_own()
                .map(|topic| Commands::of(config).allow_topic(&topic))
                .join("\n"),
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

/// The publisher cannot follow a property.
pub(super) fn of_setting(error: &SettingError) -> SinkError {
    invalid(
        format!(
            "sink.kafka.properties.\"{}\": {}",
            error.name, error.problem
        ),
        "correct [sink.kafka.properties]; docs/configuration.md lists what may be set",
    )
}

/// Publishing under the transactional id `id` failed, with nothing known to be visible.
pub(super) fn of_publishing(config: &KafkaConfig, id: &str, error: &Error) -> SinkError {
    let (what, code, topic) = match error {
        Error::Login { problem, .. } => return login(problem),
        Error::Link { .. } | Error::Late { .. } | Error::Protocol { .. } => {
            return transient(format!("Kafka at {error}"));
        }
        Error::Refused { what, code, topic } => (*what, *code, topic),
    };
    match (code, topic) {
        (Code::RecordListTooLarge, Some(topic)) => {
            of_topic(config, RDKafkaErrorCode::MessageSizeTooLarge, topic)
        }
        (
            Code::TopicAuthorizationFailed
            | Code::MessageTooLarge
            | Code::InvalidRecord
            | Code::PolicyViolation,
            Some(topic),
        ) => of_topic(config, as_librdkafka(code), topic),
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
        Error::Refused { code, .. } if is_fencing(*code) => of_publishing(config, id, error),
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
