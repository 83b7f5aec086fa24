//! What keeps us out of the brokers, in words that name the property or the command that lets us in.
//!
//! At the start a wrong password or certificate is a mistake to correct. Once the brokers let this process in, it is
//! being rotated, and waited for as the source does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rowbridge_api::State;
use rowbridge_kafka::Barrier;

use super::KafkaConfig;
use super::commands::Commands;
use super::properties::PropertyProblem;
use crate::sink::SinkError;

/// Whether the brokers have let this process in.
#[derive(Clone, Debug, Default)]
pub struct LetIn(Arc<AtomicBool>);

impl LetIn {
    /// They have.
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The verdict on what keeps us out.
    fn judge(&self, problem: String, hint: String) -> SinkError {
        if self.0.load(Ordering::Relaxed) {
            let problem = format!("{problem}; unless it is being rotated: {hint}");
            return SinkError::Transient { problem };
        }
        SinkError::Refused {
            state: State::Invalid,
            problem,
            hint,
        }
    }
}

/// A property that cannot be followed, or a file it names that cannot be used.
pub(super) fn property(config: &KafkaConfig, problem: &PropertyProblem) -> SinkError {
    let hint =
        "correct [sink.kafka.properties] or the file; docs/configuration.md lists what may be set";
    config.let_in.judge(problem.to_string(), hint.to_owned())
}

/// librdkafka was not let in, although our own link was just before.
pub(super) fn reason(config: &KafkaConfig, reason: &str) -> SinkError {
    let hint = "compare security.protocol, sasl.mechanism, sasl.username, sasl.password and ssl.ca.location in \
                [sink.kafka.properties] with the listener of the brokers";
    let problem = format!("the Kafka brokers refuse the connection: {reason}");
    config.let_in.judge(problem, hint.to_owned())
}

/// A broker does not let us in, or we do not believe it.
pub(super) fn barred(config: &KafkaConfig, peer: &str, why: &Barrier) -> SinkError {
    let hint = way_in(config, why);
    config.let_in.judge(format!("Kafka at {peer}: {why}"), hint)
}

/// What to correct, here or at the brokers.
fn way_in(config: &KafkaConfig, why: &Barrier) -> String {
    let given = |names: &[&'static str]| {
        let mut names = names.iter().copied();
        names.find(|name| config.properties.get(name).is_some())
    };
    match why {
        Barrier::Authority(_) => match given(&["ssl.ca.pem", "ssl.ca.location"]) {
            Some(name) => format!(
                "{} must hold the authority that signed the brokers' certificate",
                key(name)
            ),
            None => format!(
                "set {} to a PEM file with the authority that signed the brokers' certificate; without it those \
                 of the system are trusted",
                key("ssl.ca.location")
            ),
        },
        Barrier::HostName(host) => format!(
            "name the brokers in sink.kafka.brokers, and in their advertised.listeners, as their certificate does, \
             or let it be made with {host} among its names (subjectAltName)"
        ),
        Barrier::Expired(_) => {
            "renew the brokers' certificate (their ssl.keystore.location), unless the clock here is wrong".to_owned()
        }
        Barrier::OwnCertificate(_) => {
            match given(&[
                "ssl.certificate.pem",
                "ssl.keystore.location",
                "ssl.certificate.location",
            ]) {
                Some(name) => format!(
                    "the certificate in {} must be signed by an authority that the brokers trust (their \
                     ssl.truststore.location), and be valid now",
                    key(name)
                ),
                None => format!(
                    "show a certificate: set {} and {}, signed by an authority that the brokers trust",
                    key("ssl.certificate.location"),
                    key("ssl.key.location")
                ),
            }
        }
        Barrier::Tls(_) => format!(
            "compare {} and the other ssl.* properties with the listener of the brokers",
            key("security.protocol")
        ),
        Barrier::Mechanism { offered, .. } => {
            format!("set {} to one that the brokers take: {offered}", key("sasl.mechanism"))
        }
        Barrier::Password(_) => wrong_password(config),
        Barrier::Unproven(_) => format!(
            "make sure that {} are the brokers you mean, with {} = \"SASL_SSL\"",
            config.brokers,
            key("security.protocol")
        ),
    }
}

fn wrong_password(config: &KafkaConfig) -> String {
    let password = ["sasl.password_file", "sasl.password"];
    let password = password
        .into_iter()
        .find(|name| config.properties.get(name).is_some());
    let correct = format!(
        "correct {} and {}",
        key("sasl.username"),
        key(password.unwrap_or("sasl.password_file"))
    );
    match config.properties.get("sasl.mechanism") {
        Some(mechanism) if mechanism.starts_with("SCRAM") => format!(
            "{correct}, or give the user that password: {}",
            Commands::of(config).set_password(mechanism)
        ),
        _ => correct,
    }
}

/// A property as the configuration names it.
fn key(name: &str) -> String {
    format!("sink.kafka.properties.\"{name}\"")
}
