//! Why one event could not be made. Names columns and rules, never a row's values.

use rowbridge_api::ValueError;

/// What kind of bad record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// Something could not be read or made: `on_error` decides.
    Record,
    /// A check failed: always quarantined.
    Check,
    /// The record is longer than the broker takes: quarantined without the row where `on_error` says so.
    Oversize(Sizes),
}

/// Sizes of an oversize record in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) key: usize,
    pub(super) value: usize,
    pub(super) headers: usize,
    pub(super) limit: usize,
}

impl Sizes {
    pub(super) const fn total(self) -> usize {
        self.key + self.value + self.headers
    }
}

/// One event's failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) problem: String,
}

impl Fault {
    #[cold]
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self {
            kind: FaultKind::Record,
            problem: problem.into(),
        }
    }

    #[cold]
    pub(super) fn check(message: &str) -> Self {
        Self {
            kind: FaultKind::Check,
            problem: format!("check failed: {message}"),
        }
    }

    #[cold]
    pub(super) fn oversize(sizes: Sizes) -> Self {
        Self {
            kind: FaultKind::Oversize(sizes),
            problem: format!(
                "the record has {} bytes, the limit is {} (max_record_bytes)",
                sizes.total(),
                sizes.limit
            ),
        }
    }

    /// A cell that is not a value of its type.
    #[cold]
    pub(super) fn value(place: &str, error: &ValueError) -> Self {
        Self::new(format!("`{place}` is {error}"))
    }
}
