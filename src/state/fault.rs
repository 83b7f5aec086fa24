//! Why the working copy of the state cannot be used, and what helps.

use std::io::{self, ErrorKind};
use std::path::Path;

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It may pass, or starting again cures it.
    Passing,
    /// What is there cannot be trusted: the next start makes it anew.
    Damaged,
    /// Somebody must act.
    Lasting,
}

/// A fault of the working copy. Holds no row value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {hint}")]
pub struct Fault {
    pub kind: Kind,
    pub problem: String,
    pub hint: String,
}

impl Fault {
    /// The system refused something about `path`.
    pub(super) fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        let path = path.display();
        let (kind, hint) = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (
                Kind::Passing,
                "make room, or name another place with state.directory",
            ),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => (
                Kind::Lasting,
                "let this user write there, or name another place with state.directory",
            ),
            ErrorKind::NotFound => (
                Kind::Passing,
                "was it removed while it was in use? It is made anew from the state topic",
            ),
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => (
                Kind::Lasting,
                "move what is in the way, or name another place with state.directory",
            ),
            _ => (
                Kind::Passing,
                "look at the disk and the system's log; state.directory names another place",
            ),
        };
        Self {
            kind,
            problem: format!("{what} {path}: {error}"),
            hint: hint.to_owned(),
        }
    }

    /// The store refused something about `path`.
    pub(super) fn store(what: &str, path: &Path, error: &lsm_tree::Error) -> Self {
        match error {
            // What was written whole ends early: not the system's fault.
            lsm_tree::Error::Io(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput
                ) =>
            {
                Self::damaged(path, &error.to_string())
            }
            lsm_tree::Error::Io(error) => Self::io(what, path, error),
            other => Self::damaged(path, &other.to_string()),
        }
    }

    /// A file is not what was written to it.
    pub(super) fn damaged(path: &Path, how: &str) -> Self {
        Self {
            kind: Kind::Damaged,
            problem: format!("the state in {} is damaged: {how}", path.display()),
            hint: "it is made anew from the state topic; look at the disk if it happens again"
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_says_where_and_what_helps() {
        let path = Path::new("/var/lib/rowbridge/p");
        for (kind, expected, word) in [
            (ErrorKind::StorageFull, Kind::Passing, "make room"),
            (ErrorKind::PermissionDenied, Kind::Lasting, "let this user"),
            (ErrorKind::NotFound, Kind::Passing, "made anew"),
            (ErrorKind::Other, Kind::Passing, "disk"),
        ] {
            let fault = Fault::io("writing", path, &io::Error::from(kind));
            assert_eq!(fault.kind, expected, "{fault}");
            assert!(fault.to_string().contains(word), "{fault}");
            assert!(fault.problem.contains("/var/lib/rowbridge/p"), "{fault}");
        }
        let cut = lsm_tree::Error::Io(ErrorKind::UnexpectedEof.into());
        assert_eq!(Fault::store("reading", path, &cut).kind, Kind::Damaged);
        let full = lsm_tree::Error::Io(ErrorKind::StorageFull.into());
        assert_eq!(Fault::store("writing", path, &full).kind, Kind::Passing);
    }
}
