//! What goes wrong between us and the server, and which verdict it is: passing or final.

use std::time::Duration;

use postgres_protocol::message::backend::ErrorFields;
use rowbridge_api::{SourceError, State};

use crate::config::ConfigError;

/// SQLSTATE classes and codes that decide something here (PostgreSQL documentation, appendix A).
pub(crate) mod sqlstate {
    pub(crate) const OBJECT_IN_USE: &str = "55006";
    pub(crate) const NOT_IN_PREREQUISITE_STATE: &str = "55000";
    pub(crate) const UNDEFINED_OBJECT: &str = "42704";
    pub(crate) const UNDEFINED_FILE: &str = "58P01";
    pub(crate) const DUPLICATE_OBJECT: &str = "42710";
    pub(crate) const INSUFFICIENT_PRIVILEGE: &str = "42501";
}

/// The connection to the server failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("cannot {doing}: {cause}")]
    Io {
        doing: &'static str,
        cause: std::io::Error,
    },
    #[error("{0}")]
    Server(ServerError),
    #[error("{what} took longer than {} s", after.as_secs_f32())]
    Timeout { what: &'static str, after: Duration },
    /// The server said something that the protocol does not allow here.
    #[error("protocol violation: {0}")]
    Protocol(String),
    /// Cannot be used as configured.
    #[error("{0}")]
    Unusable(String),
}

/// An ErrorResponse or NoticeResponse (PostgreSQL documentation, 55.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerError {
    pub(crate) severity: String,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl std::fmt::Display for ServerError {
    /// Without the detail field, which may quote row values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} (SQLSTATE {})",
            self.severity, self.message, self.code
        )
    }
}

impl ServerError {
    pub(crate) fn from_fields(mut fields: ErrorFields<'_>) -> Self {
        use fallible_iterator::FallibleIterator;
        let mut error = Self::default();
        while let Ok(Some(field)) = fields.next() {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'V' => error.severity = value,
                b'S' if error.severity.is_empty() => error.severity = value,
                b'C' => error.code = value,
                b'M' => error.message = value,
                b'H' => error.hint = value,
                _ => {}
            }
        }
        error
    }
}

impl From<ConfigError> for WireError {
    fn from(error: ConfigError) -> Self {
        Self::Unusable(chain(&error))
    }
}

impl WireError {
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.code),
            _ => None,
        }
    }

    /// The verdict, with what we were doing.
    pub(crate) fn while_doing(self, doing: &str) -> SourceError {
        let problem = format!("{doing}: {self}");
        match &self {
            Self::Unusable(_) => {
                SourceError::refused(State::Invalid, problem, "correct the configuration")
            }
            Self::Server(error) => match refusal(&error.code) {
                Some(hint) => SourceError::refused(State::Invalid, problem, hint),
                None => SourceError::transient(problem),
            },
            _ => SourceError::transient(problem),
        }
    }
}

/// Why an error of the SQL session is final, if it is; the text is the hint.
fn refusal(code: &str) -> Option<&'static str> {
    match code {
        "28P01" | "28000" => {
            Some("correct user, password or pg_hba.conf; then run `rowbridge check`")
        }
        "3D000" => Some("correct the database in the url"),
        sqlstate::INSUFFICIENT_PRIVILEGE => {
            Some("run `rowbridge check`: it prints the statements that grant what is missing")
        }
        "42P01" | "42703" | "3F000" => Some(
            "run `rowbridge check`: it compares the mapping's tables and columns with the database",
        ),
        // Wrong option or setting, wal_level too low, feature missing.
        "42601" | "22023" | "0A000" | sqlstate::NOT_IN_PREREQUISITE_STATE => {
            Some("run `rowbridge check`")
        }
        _ => None,
    }
}

/// The verdict on an error of the SQL session.
pub(crate) fn sql_error(doing: &str, error: tokio_postgres::Error) -> SourceError {
    let Some(db) = error.as_db_error() else {
        return SourceError::transient_from(format!("{doing}: {}", chain(&error)), error);
    };
    let problem = format!("{doing}: {} (SQLSTATE {})", db.message(), db.code().code());
    match refusal(db.code().code()) {
        Some(hint) => SourceError::refused(State::Invalid, problem, hint),
        None => SourceError::transient(problem),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
