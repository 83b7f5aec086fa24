//! What goes wrong between us and the server, and which verdict it is: passing or final.

use std::time::Duration;

use postgres_protocol::message::backend::ErrorFields;
use rowbridge_api::{SourceError, State};

use crate::admission;
use crate::config::{Address, ConfigError};

/// SQLSTATE classes and codes that decide something here (PostgreSQL documentation, appendix A).
pub(crate) mod sqlstate {
    pub(crate) const OBJECT_IN_USE: &str = "55006";
    pub(crate) const NOT_IN_PREREQUISITE_STATE: &str = "55000";
    pub(crate) const UNDEFINED_OBJECT: &str = "42704";
    pub(crate) const UNDEFINED_FILE: &str = "58P01";
    pub(crate) const DUPLICATE_OBJECT: &str = "42710";
    pub(crate) const INSUFFICIENT_PRIVILEGE: &str = "42501";
    pub(crate) const INVALID_PASSWORD: &str = "28P01";
    pub(crate) const INVALID_AUTHORIZATION: &str = "28000";
    pub(crate) const INVALID_PARAMETER_VALUE: &str = "22023";
}

/// The connection to the server failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("cannot {doing}: {cause}")]
    Io {
        doing: &'static str,
        cause: std::io::Error,
    },
    /// Nobody listens there, or there is no way to whoever does.
    #[error("cannot connect to {address}: {cause}")]
    Unreachable {
        address: Address,
        cause: std::io::Error,
    },
    #[error("{0}")]
    Server(ServerError),
    #[error("{what} took longer than {} s", after.as_secs_f32())]
    Timeout { what: &'static str, after: Duration },
    /// The server said something that the protocol does not allow here.
    #[error("protocol violation: {0}")]
    Protocol(String),
    /// The SQL session's client failed in a way of its own.
    #[error("{0}")]
    Session(String),
    /// We are not let in, or do not trust who answers, with what we have to show; see [`admission`].
    #[error("{problem}")]
    Barred { problem: String, hint: String },
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
        error.discreet()
    }

    /// What the server said to the SQL session, if it was the server that failed it.
    pub(crate) fn of_session(error: &tokio_postgres::Error) -> Option<Self> {
        let error = error.as_db_error()?;
        let said = Self {
            severity: error.severity().to_owned(),
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            hint: error.hint().unwrap_or_default().to_owned(),
        };
        Some(said.discreet())
    }

    /// Without words that quote a row: `invalid input syntax for type integer: "..."`, when a row filter or
    /// a generated column is computed. Those are errors of the classes 22 and 23; the server's log has them.
    fn discreet(mut self) -> Self {
        let of_data = self.code.starts_with("22") || self.code.starts_with("23");
        if of_data && self.code != sqlstate::INVALID_PARAMETER_VALUE {
            "an error in the data; what it says may quote a row, and stands in the server's log"
                .clone_into(&mut self.message);
            self.hint.clear();
        }
        self
    }
}

impl From<ConfigError> for WireError {
    fn from(error: ConfigError) -> Self {
        admission::bad_file(&error)
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
            Self::Barred { hint, .. } => SourceError::refused(State::Invalid, problem, hint),
            Self::Server(error) => match refusal(&error.code) {
                Some(hint) => SourceError::refused(State::Invalid, problem, hint),
                None => SourceError::transient(problem),
            },
            _ => SourceError::transient(problem),
        }
    }

    /// As [`WireError::while_doing`], for a server that has let this process in before: its password,
    /// certificates or pg_hba.conf are being changed, and the next attempt reads the files again.
    pub(crate) fn once_let_in(self, doing: &str) -> SourceError {
        match self {
            Self::Barred { problem, hint } => {
                SourceError::transient(format!("{doing}: {problem}; if it stays so: {hint}"))
            }
            error => error.while_doing(doing),
        }
    }
}

/// Why an error of the SQL session is final, if it is; the text is the hint.
fn refusal(code: &str) -> Option<&'static str> {
    match code {
        "3D000" => Some("correct the database in the url"),
        sqlstate::INSUFFICIENT_PRIVILEGE => {
            Some("run `rowbridge check`: it prints the statements that grant what is missing")
        }
        "42P01" | "42703" | "3F000" => Some(
            "run `rowbridge check`: it compares the mapping's tables and columns with the database",
        ),
        // Wrong option or setting, wal_level too low, feature missing.
        "42601"
        | "0A000"
        | sqlstate::INVALID_PARAMETER_VALUE
        | sqlstate::NOT_IN_PREREQUISITE_STATE => Some("run `rowbridge check`"),
        _ => None,
    }
}

/// The verdict on an error of the SQL session.
pub(crate) fn sql_error(doing: &str, error: tokio_postgres::Error) -> SourceError {
    match ServerError::of_session(&error) {
        Some(server) => WireError::Server(server).while_doing(doing),
        None => SourceError::transient_from(doing, error),
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str, message: &str) -> String {
        let error = ServerError {
            severity: "ERROR".to_owned(),
            code: code.to_owned(),
            message: message.to_owned(),
            hint: message.to_owned(),
        };
        format!("{:?}", WireError::Server(error.discreet()))
    }

    #[test]
    fn words_that_quote_a_row_are_not_repeated() {
        for code in ["22P02", "22003", "23514"] {
            let said = said(code, "invalid input syntax for type integer: \"hunter2\"");
            assert!(!said.contains("hunter2"), "{said}");
            assert!(said.contains(code), "{said}");
        }
    }

    #[test]
    fn words_about_settings_are_kept() {
        for code in [sqlstate::INVALID_PARAMETER_VALUE, "42P01", "28P01"] {
            assert!(said(code, "the setting is wrong").contains("the setting is wrong"));
        }
    }
}
