//! The PostgreSQL versions that can be started, and where each one's binaries come from.

/// The major versions that can be started: all that are supported as a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PgVersion {
    V13,
    V14,
    V15,
    V16,
    V17,
    V18,
}

/// Where the binaries of a major version come from when there is no Docker engine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Binaries {
    /// Debian 12's own packages.
    Debian,
    /// This exact version of the npm package; ranges do not resolve, all are pre-releases.
    Npm(&'static str),
}

impl PgVersion {
    /// Oldest first, in the order of the variants.
    pub const ALL: [Self; 6] = [
        Self::V13,
        Self::V14,
        Self::V15,
        Self::V16,
        Self::V17,
        Self::V18,
    ];

    /// The version's row: its major number and its binaries.
    const fn release(self) -> (u8, Binaries) {
        match self {
            Self::V13 => (13, Binaries::Npm("13.23.0-beta.16")),
            Self::V14 => (14, Binaries::Npm("14.23.0-beta.17")),
            Self::V15 => (15, Binaries::Debian),
            Self::V16 => (16, Binaries::Npm("16.14.0-beta.17")),
            Self::V17 => (17, Binaries::Npm("17.10.0-beta.17")),
            Self::V18 => (18, Binaries::Npm("18.4.0-beta.17")),
        }
    }

    /// The number before the dot.
    #[must_use]
    pub const fn major(self) -> u8 {
        self.release().0
    }

    pub(crate) const fn binaries(self) -> Binaries {
        self.release().1
    }
}
