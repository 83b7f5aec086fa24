//! What the connector needs to know: where the servers are, who we are there, and every limit by name.
//!
//! Nothing here reads files; secrets have no `Debug`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rowbridge_api::Password;

/// A MongoDB source.
#[derive(Clone)]
pub struct MongoConfig {
    /// `mongodb://` or `mongodb+srv://`; what it says of credentials, TLS and read preference counts, unless
    /// said below.
    pub url: String,
    pub password: Password,
    /// PEM file with the authorities to trust; turns TLS on.
    pub ca_file: Option<PathBuf>,
    /// PEM file with our certificate and its key, for servers that ask for one; turns TLS on.
    pub certificate_key_file: Option<PathBuf>,
    pub on_drop: OnDrop,
    pub limits: Limits,
}

impl fmt::Debug for MongoConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoConfig")
            .field("ca_file", &self.ca_file)
            .field("certificate_key_file", &self.certificate_key_file)
            .field("on_drop", &self.on_drop)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What the drop or rename of a mapped collection means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDrop {
    /// The pipeline stops and says so: nobody drops a collection that others read by plan.
    #[default]
    Stop,
    /// The collection may come again.
    Continue,
}

/// Bounds.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest wait for a server that may be asked.
    pub connect_timeout: Duration,
    /// A batch is sent once its bytes are so many.
    pub batch_bytes: usize,
    /// Bytes of events that are read and not yet taken in.
    pub ahead_bytes: usize,
    /// Events of one reply of the server, at most. It ends one at 16 MB too, however few they are.
    pub reply_events: u32,
    /// How long the server waits for an event before it says that there is none.
    pub await_time: Duration,
    /// Least time between two positions that come with no change.
    pub idle_commit_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            batch_bytes: 256 * 1024,
            ahead_bytes: 4 << 20,
            reply_events: 3_000,
            await_time: Duration::from_millis(1_000),
            idle_commit_interval: Duration::from_secs(5),
        }
    }
}

impl MongoConfig {
    /// The servers of `url`, with every default.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password: Password::None,
            ca_file: None,
            certificate_key_file: None,
            on_drop: OnDrop::Stop,
            limits: Limits::default(),
        }
    }
}
