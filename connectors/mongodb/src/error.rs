//! What the driver's errors mean: whether they pass, and what to do where they do not.
//!
//! Nothing here repeats a document: the server quotes one only in errors of writing, which this program does not do.

use std::time::{SystemTime, UNIX_EPOCH};

use mongodb::error::{Error, ErrorKind};
use rowbridge_api::{Position, SourceError, State};

/// Codes of server errors (server source, `error_codes.yml`).
pub(crate) mod code {
    pub(crate) const UNAUTHORIZED: i32 = 13;
    pub(crate) const AUTHENTICATION_FAILED: i32 = 18;
    pub(crate) const MAX_TIME_MS_EXPIRED: i32 = 50;
    pub(crate) const INVALID_RESUME_TOKEN: i32 = 260;
    pub(crate) const CHANGE_STREAM_FATAL_ERROR: i32 = 280;
    pub(crate) const CHANGE_STREAM_HISTORY_LOST: i32 = 286;
    pub(crate) const BSON_OBJECT_TOO_LARGE: i32 = 10_334;
    pub(crate) const SNAPSHOT_TOO_OLD: i32 = 239;
    pub(crate) const SNAPSHOT_UNAVAILABLE: i32 = 246;
    pub(crate) const NOT_A_REPLICA_SET: i32 = 40_573;
    pub(crate) const NO_PRE_IMAGE: i32 = 47;
}

pub(crate) fn server_code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

/// The history at the moment of a snapshot is gone: the read has to go on at a later one.
pub(crate) fn is_snapshot_gone(error: &Error) -> bool {
    matches!(
        server_code(error),
        Some(code::SNAPSHOT_TOO_OLD | code::SNAPSHOT_UNAVAILABLE)
    )
}

/// The server knows the moment, but not the event of this token: it was filtered in another way then.
pub(crate) fn is_token_unknown(error: &Error) -> bool {
    matches!(
        server_code(error),
        Some(code::INVALID_RESUME_TOKEN | code::CHANGE_STREAM_FATAL_ERROR)
    )
}

/// An error while `doing` something.
pub(crate) fn failed(doing: &str, error: Error) -> SourceError {
    let said = said(&error);
    match (server_code(&error), &*error.kind) {
        (Some(code::UNAUTHORIZED), _) => SourceError::refused(
            State::Invalid,
            format!("{doing}: {said}"),
            "`rowbridge check` prints the role that is needed",
        ),
        (Some(code::AUTHENTICATION_FAILED), _) | (_, ErrorKind::Authentication { .. }) => {
            SourceError::refused(
                State::Invalid,
                format!("{doing}: {said}"),
                "correct the user in source.mongodb.url, its password, and authSource: the database that holds the user",
            )
        }
        (Some(code::NOT_A_REPLICA_SET), _) => not_a_replica_set(),
        (_, ErrorKind::InvalidArgument { .. } | ErrorKind::InvalidTlsConfig { .. }) => {
            SourceError::refused(
                State::Invalid,
                format!("{doing}: {said}"),
                "see source.mongodb in docs/configuration.md",
            )
        }
        _ => SourceError::transient_from(doing.to_owned(), error),
    }
}

/// An error of the stream that began at `from`; `oldest` is what the oplog still has, where that is known.
pub(crate) fn of_stream(from: &Position, oldest: Option<&Position>, error: Error) -> SourceError {
    let said = said(&error);
    let again = "`rowbridge position set --snapshot` reads the collections again";
    match server_code(&error) {
        Some(
            code::CHANGE_STREAM_HISTORY_LOST
            | code::INVALID_RESUME_TOKEN
            | code::CHANGE_STREAM_FATAL_ERROR,
        ) => {
            let (lost, hint) = match oldest {
                Some(oldest) => (
                    format!("every change from {from} to {oldest} is lost"),
                    format!(
                        "{again}; `rowbridge position set {oldest} --accept-gap` goes on without what is lost"
                    ),
                ),
                None => (
                    format!(
                        "every change from {from} to the oldest that the oplog still has is lost"
                    ),
                    again.to_owned(),
                ),
            };
            let problem = format!("the server cannot go on from {from}: {said}; {lost}");
            SourceError::refused(State::HistoryLost, problem, hint)
        }
        Some(code::BSON_OBJECT_TOO_LARGE) => SourceError::refused(
            State::EventTooLarge,
            format!(
                "an event after {from} is larger than 16 MB with its images, which MongoDB before 6.0.9 cannot send: {said}"
            ),
            format!(
                "upgrade the servers; or pass it over: `rowbridge position set {} --accept-gap` goes on from now; {again}",
                Position::new(now() << 32)
            ),
        ),
        Some(code::NO_PRE_IMAGE) => SourceError::refused(
            State::HistoryLost,
            format!("the document before a change after {from} is gone: {said}"),
            again,
        ),
        _ => failed("the change stream failed", error),
    }
}

/// Seconds since 1970 by our clock.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Change streams need an oplog.
pub(crate) fn not_a_replica_set() -> SourceError {
    SourceError::refused(
        State::Invalid,
        "this server is standalone: only replica sets and sharded clusters have change streams",
        "start it with --replSet rs0 and run rs.initiate() once; a set of one node will do",
    )
}

/// What the server said; the driver wraps it in its own words.
pub(crate) fn said(error: &Error) -> String {
    match &*error.kind {
        ErrorKind::Command(command) => format!(
            "{} ({} {})",
            command.message, command.code, command.code_name
        ),
        other => other.to_string(),
    }
}
