//! What a Kafka client says outside its calls: lost links, failed logins, records that did not arrive.
//!
//! librdkafka retries by itself and reports the reasons only through callbacks, which run while a client is
//! polled. They are kept here until somebody asks why a call failed, or whether a commit can be trusted.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{NoCustomPartitioner, ProducerContext};
use rdkafka::{ClientContext, Statistics};

#[derive(Debug, Default)]
struct Raised {
    login: Option<String>,
    link: Option<String>,
    undelivered: Option<RDKafkaErrorCode>,
}

/// The callbacks of one client.
#[derive(Debug, Default)]
pub(super) struct Alarms(Mutex<Raised>);

impl Alarms {
    fn raised(&self) -> MutexGuard<'_, Raised> {
        // Every update is one assignment, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a broker did not let us in: authentication or TLS. Does not pass by itself.
    pub(super) fn login(&self) -> Option<String> {
        self.raised().login.clone()
    }

    /// The last time-out or transport error.
    pub(super) fn link(&self) -> Option<String> {
        self.raised().link.clone()
    }

    /// Why the first record was given up.
    pub(super) fn undelivered(&self) -> Option<RDKafkaErrorCode> {
        self.raised().undelivered
    }
}

impl ClientContext for Alarms {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match (level, facility) {
            (_, "REQTMOUT") => self.raised().link = Some(message.to_owned()),
            // Our properties go to producers and consumers alike.
            (_, "CONFWARN") => return,
            _ => {}
        }
        // Errors come through `error` too, where they are handled; here they are only told.
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::info!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(target: "librdkafka", facility, "{message}");
            }
        }
    }

    fn stats(&self, _statistics: Statistics) {}

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        let mut raised = self.raised();
        match error.rdkafka_error_code() {
            Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL) => {
                raised.login.get_or_insert_with(|| reason.to_owned());
            }
            // Says only that the reason was given before.
            Some(Code::AllBrokersDown) if raised.link.is_some() => {}
            Some(
                Code::AllBrokersDown
                | Code::BrokerTransportFailure
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::Resolve
                | Code::NetworkException
                | Code::MessageTimedOut,
            ) => raised.link = Some(reason.to_owned()),
            _ => tracing::debug!(target: "librdkafka", %error, reason, "client error"),
        }
    }
}

impl ConsumerContext for Alarms {}

impl ProducerContext<NoCustomPartitioner> for Alarms {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {
        let Err((error, _)) = result else {
            return;
        };
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        // What is purged follows a failure and is none.
        if matches!(
            code,
            RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight
        ) {
            return;
        }
        self.raised().undelivered.get_or_insert(code);
    }
}
