//! What the connector needs to know: where the server is, who we are there, and every limit by name.
//!
//! The daemon reads the user's file and fills this in; nothing here reads files but the password, which
//! is read at each connect so that a rotated secret is picked up. Secrets have no `Debug`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rowbridge_api::{Password, UnreadablePassword};
use tokio_postgres::config::Host;

/// A PostgreSQL source.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    pub address: Address,
    pub user: String,
    pub database: String,
    pub password: Password,
    pub tls: TlsMode,
    /// PEM file with the authorities to trust; without it the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files that prove who we are to a server that asks for a client certificate.
    pub client_certificate: Option<ClientCertificate>,
    /// Create the publication at first start and add mapped tables to it later. Needs `CREATE` on the
    /// database and ownership of the tables; otherwise the DBA creates it and `check` prints how.
    pub create_publication: bool,
    /// Create the slot at first start; otherwise it must exist.
    pub create_slot: bool,
    pub limits: Limits,
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp {
        host: String,
        port: u16,
    },
    /// The socket is `<directory>/.s.PGSQL.<port>`.
    Unix {
        directory: PathBuf,
        port: u16,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { directory, port } => {
                write!(f, "{}/.s.PGSQL.{port}", directory.display())
            }
        }
    }
}

/// How the connection is protected. There is no mode that silently falls back to plain text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Plain text.
    Disable,
    /// Encrypted, but whoever answers is believed.
    Require,
    /// The server's certificate must come from a trusted authority; its name does not matter.
    VerifyCa,
    /// As `VerifyCa`, and the certificate must be for the host we asked for.
    #[default]
    VerifyFull,
}

impl TlsMode {
    pub const NAMES: [&str; 4] = ["disable", "require", "verify-ca", "verify-full"];
}

impl std::str::FromStr for TlsMode {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "disable" => Ok(Self::Disable),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err(ConfigError::TlsMode(text.to_owned())),
        }
    }
}

/// A certificate and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

/// Every time-out and size, with its unit in its type or name.
#[derive(Clone, Debug)]
pub struct Limits {
    /// For TCP, TLS and authentication together.
    pub connect_timeout: Duration,
    /// Set as `wal_sender_timeout` of our replication session; we report three times as often, and at
    /// least every `status_interval`. Zero disables the server's time-out.
    pub wal_sender_timeout: Duration,
    /// At least this often the server hears from us.
    pub status_interval: Duration,
    /// Acknowledgements are sent at most this often.
    pub ack_interval: Duration,
    /// How long the server may stay silent after we asked it for a reply.
    pub reply_timeout: Duration,
    /// How often an idle position may become an empty commit.
    pub idle_commit_interval: Duration,
    /// How often slot and publication are looked at while streaming.
    pub watch_interval: Duration,
    /// A batch closes at this size, or when there is nothing more to read.
    pub batch_bytes: usize,
    /// A longer message of the server is refused. PostgreSQL's own limit is 1 GiB a message.
    pub max_message_bytes: usize,
    /// While the stream is further behind its commits than this, reads are paced.
    pub pace_after_lag: Duration,
    /// How long a paced read lets the socket fill, at most.
    pub pace_interval: Duration,
    /// So much fills it.
    pub pace_bytes: usize,
    /// A read of fewer bytes shows that no more are waiting.
    pub dry_below_bytes: usize,
    /// On shutdown, how long to wait for the server to confirm that it took our last acknowledgement.
    pub goodbye_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            wal_sender_timeout: Duration::from_secs(60),
            status_interval: Duration::from_secs(10),
            ack_interval: Duration::from_millis(10),
            reply_timeout: Duration::from_secs(30),
            idle_commit_interval: Duration::from_secs(5),
            watch_interval: Duration::from_secs(30),
            batch_bytes: 256 * 1024,
            max_message_bytes: 1 << 30,
            pace_after_lag: Duration::from_millis(25),
            pace_interval: Duration::from_millis(10),
            pace_bytes: 128 * 1024,
            dry_below_bytes: 32 * 1024,
            goodbye_timeout: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// How often the walsender must hear from us.
    pub(crate) fn report_interval(&self) -> Duration {
        if self.wal_sender_timeout.is_zero() {
            self.status_interval
        } else {
            self.status_interval.min(self.wal_sender_timeout / 3)
        }
    }
}

/// The key to correct when the password is wrong.
pub(crate) const fn password_key(password: &Password) -> &'static str {
    match password {
        Password::File(_) => ConfigFile::Password.key(),
        Password::None | Password::Literal(_) => "source.postgres.password",
    }
}

impl From<UnreadablePassword> for ConfigError {
    fn from(unreadable: UnreadablePassword) -> Self {
        Self::File {
            file: ConfigFile::Password,
            path: unreadable.path,
            cause: unreadable.cause,
        }
    }
}

/// A file that the settings name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigFile {
    Password,
    Authorities,
    ClientCertificate,
    ClientKey,
}

impl ConfigFile {
    /// The key that names it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Password => "source.postgres.password_file",
            Self::Authorities => "source.postgres.ca_file",
            Self::ClientCertificate => "source.postgres.client_cert_file",
            Self::ClientKey => "source.postgres.client_key_file",
        }
    }
}

impl fmt::Display for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password => "the password file",
            Self::Authorities => "the file of trusted authorities",
            Self::ClientCertificate => "the client certificate",
            Self::ClientKey => "the client key",
        })
    }
}

/// The settings cannot be used. Never carries a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The URL itself is not repeated: it may hold a password.
    #[error("the url is not a PostgreSQL URL: {0}")]
    Url(String),
    #[error("the url names no {0}")]
    Missing(&'static str),
    #[error("the url names {0} hosts; name one, a proxy or a DNS name that follows the primary")]
    Hosts(usize),
    #[error("`{0}` is not a TLS mode; the modes are disable, require, verify-ca, verify-full")]
    TlsMode(String),
    #[error("cannot read {file} {}", path.display())]
    File {
        file: ConfigFile,
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{file} {} holds nothing usable: {problem}", path.display())]
    Pem {
        file: ConfigFile,
        path: PathBuf,
        problem: String,
    },
    /// `ca_file` is not given, and the system has no authorities that can be used.
    #[error("there are no authorities to trust: {0}")]
    NoAuthorities(String),
}

impl PostgresConfig {
    /// Reads `postgres://user[:password]@host[:port]/database`, or a host that is an absolute directory
    /// (`%2Frun%2Fpostgresql`, or `?host=/run/postgresql`) for a Unix socket. TLS is `verify-full` for TCP
    /// and off for a Unix socket, which PostgreSQL never encrypts.
    ///
    /// # Errors
    /// The text is not such a URL, or lacks host, user or database.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let parsed: tokio_postgres::Config = url
            .parse()
            .map_err(|error: tokio_postgres::Error| ConfigError::Url(cause_of(&error)))?;
        let host = match parsed.get_hosts() {
            [] => return Err(ConfigError::Missing("host")),
            [host] => host,
            hosts => return Err(ConfigError::Hosts(hosts.len())),
        };
        let port = parsed.get_ports().first().copied().unwrap_or(5432);
        let address = match host {
            Host::Tcp(host) => Address::Tcp {
                host: host.clone(),
                port,
            },
            Host::Unix(directory) => Address::Unix {
                directory: directory.clone(),
                port,
            },
        };
        let password = parsed.get_password().map_or(Password::None, |bytes| {
            Password::Literal(String::from_utf8_lossy(bytes).into_owned())
        });
        Ok(Self {
            tls: match &address {
                Address::Tcp { .. } => TlsMode::VerifyFull,
                Address::Unix { .. } => TlsMode::Disable,
            },
            address,
            user: parsed
                .get_user()
                .ok_or(ConfigError::Missing("user"))?
                .to_owned(),
            database: parsed
                .get_dbname()
                .ok_or(ConfigError::Missing("database"))?
                .to_owned(),
            password,
            ca_file: None,
            client_certificate: None,
            create_publication: true,
            create_slot: true,
            limits: Limits::default(),
        })
    }
}

fn cause_of(error: &dyn std::error::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

pub(crate) fn read_file(file: ConfigFile, path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|cause| ConfigError::File {
        file,
        path: path.to_owned(),
        cause,
    })
}

/// What the session shows in `pg_stat_activity` and `pg_stat_replication`.
pub(crate) const APPLICATION_NAME: &str = "rowbridge";

/// Settings that every session of ours sets for itself: a role's or database's defaults would change
/// the text form of values, shrink a snapshot (row security) or end a session that waits.
const SESSION_SETTINGS: &[&str] = &[
    "DateStyle=ISO",
    "IntervalStyle=iso_8601",
    "TimeZone=UTC",
    "extra_float_digits=3",
    "bytea_output=hex",
    "lc_monetary=C",
    "quote_all_identifiers=off",
    "search_path=",
    "row_security=off",
    "statement_timeout=0",
    "lock_timeout=0",
    "idle_in_transaction_session_timeout=0",
    "synchronous_commit=local",
];

/// The `options` startup parameter (PostgreSQL documentation, chapter 20.1.4).
pub(crate) fn session_options(limits: &Limits) -> String {
    let mut options = format!(
        "-c wal_sender_timeout={}ms",
        limits.wal_sender_timeout.as_millis()
    );
    for setting in SESSION_SETTINGS {
        options.push_str(" -c ");
        options.push_str(setting);
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_everything() {
        let config =
            PostgresConfig::from_url("postgres://app:s3cret@db.internal:6432/sales").unwrap();
        assert_eq!(config.address.to_string(), "db.internal:6432");
        assert_eq!(
            (config.user.as_str(), config.database.as_str()),
            ("app", "sales")
        );
        assert_eq!(config.tls, TlsMode::VerifyFull);
    }

    #[test]
    fn a_directory_is_a_unix_socket_without_tls() {
        let config = PostgresConfig::from_url("postgres://app@%2Frun%2Fpostgresql/sales").unwrap();
        assert_eq!(config.address.to_string(), "/run/postgresql/.s.PGSQL.5432");
        assert_eq!(config.tls, TlsMode::Disable);
    }

    #[test]
    fn the_password_is_never_shown() {
        let config = PostgresConfig::from_url("postgres://app:s3cret@db/sales").unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
        let error = PostgresConfig::from_url("postgres://app:s3cret@db:port/sales").unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[test]
    fn what_is_missing_is_named() {
        for (url, missing) in [
            ("postgres://app@db", "database"),
            ("postgres://db/sales", "user"),
            ("postgres:///sales?user=app", "host"),
        ] {
            let error = PostgresConfig::from_url(url).unwrap_err().to_string();
            assert_eq!(error, format!("the url names no {missing}"), "{url}");
        }
    }
}
