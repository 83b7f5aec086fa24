//! What the driver's errors mean: whether they pass, and what to do where they do not.
//!
//! Nothing here repeats a document: the server quotes one only in errors of writing, which this program does not do.

use mongodb::error::{Error, ErrorKind};
use rowbridge_api::{Position, SourceError, State};

use crate::admission;

/// Codes of server errors (server source, `error_codes.yml`).
pub(crate) mod code {
    pub(crate) const UNAUTHORIZED: i32 = 13;
    pub(crate) const AUTHENTICATION_FAILED: i32 = 18;
    pub(crate) const CURSOR_NOT_FOUND: i32 = 43;
    pub(crate) const MAX_TIME_MS_EXPIRED: i32 = 50;
    pub(crate) const INVALID_RESUME_TOKEN: i32 = 260;
    pub(crate) const CHANGE_STREAM_FATAL_ERROR: i32 = 280;
    pub(crate) const CHANGE_STREAM_HISTORY_LOST: i32 = 286;
    pub(crate) const BSON_OBJECT_TOO_LARGE: i32 = 10_334;
    pub(crate) const SNAPSHOT_TOO_OLD: i32 = 239;
    pub(crate) const SNAPSHOT_UNAVAILABLE: i32 = 246;
    pub(crate) const NOT_A_REPLICA_SET: i32 = 40_573;
}

const AGAIN: &str = "`rowbridge position set --snapshot` reads the collections again";

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
            let hint = admission::of_login(&said);
            SourceError::refused(State::Invalid, format!("{doing}: {said}"), hint)
        }
        (Some(code::NOT_A_REPLICA_SET), _) => not_a_replica_set(),
        (_, ErrorKind::InvalidArgument { .. } | ErrorKind::InvalidTlsConfig { .. }) => {
            SourceError::refused(
                State::Invalid,
                format!("{doing}: {said}"),
                "see source.mongodb in docs/configuration.md",
            )
        }
        _ => match admission::of_tls(&said) {
            Some((problem, hint)) => {
                SourceError::refused(State::Invalid, format!("{doing}: {problem}: {said}"), hint)
            }
            None => {
                SourceError::transient_from(format!("{doing}{}", admission::perhaps(&said)), error)
            }
        },
    }
}

/// Whether the server says that the history is not what the stream needs. Opening it again finds out: what it says of
/// one batch may be of a moment, or of another way to filter.
pub(crate) fn is_history_in_doubt(error: &Error) -> bool {
    is_token_unknown(error) || server_code(error) == Some(code::CHANGE_STREAM_HISTORY_LOST)
}

/// Whether a stream that ended with this may be opened again behind what it gave (MongoDB's drivers, "Change Streams",
/// "Resumable Error").
pub(crate) fn is_resumable(error: &Error) -> bool {
    match server_code(error) {
        Some(code) => {
            code == code::CURSOR_NOT_FOUND || error.contains_label("ResumableChangeStreamError")
        }
        None => !matches!(&*error.kind, ErrorKind::Authentication { .. }),
    }
}

/// One event has more than the server can send.
pub(crate) fn is_event_too_large(error: &Error) -> bool {
    server_code(error) == Some(code::BSON_OBJECT_TOO_LARGE)
}

/// The stream cannot go on from `from`; `oldest` is what the oplog still has, where that is known.
pub(crate) fn history_lost(
    from: &Position,
    oldest: Option<&Position>,
    error: &Error,
) -> SourceError {
    let (lost, hint) = match oldest {
        Some(oldest) => (
            format!("every change from {from} to {oldest} is lost"),
            format!(
                "{AGAIN}; `rowbridge position set {oldest} --accept-gap` goes on without what is lost"
            ),
        ),
        None => (
            format!("every change from {from} to the oldest that the oplog still has is lost"),
            AGAIN.to_owned(),
        ),
    };
    let problem = format!(
        "the server cannot go on from {from}: {}; {lost}",
        said(error)
    );
    SourceError::refused(State::HistoryLost, problem, hint)
}

/// An event after `from` is too large; `present` is a moment behind it.
pub(crate) fn event_too_large(from: &Position, present: &Position, error: &Error) -> SourceError {
    SourceError::refused(
        State::EventTooLarge,
        format!(
            "an event after {from} is larger than 16 MB with its images, which MongoDB before 6.0.9 cannot send: {}",
            said(error)
        ),
        format!(
            "upgrade the servers; or pass it over: `rowbridge position set {present} --accept-gap` goes on from now; {AGAIN}"
        ),
    )
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
