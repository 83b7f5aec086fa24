//! Every key of `rowbridge.toml`: its type, default and documentation, once.
//!
//! Validation, environment variables, defaults and docs/configuration.md are all made from [`KEYS`]; a test
//! holds that the typed settings have exactly these keys.

use std::ops::RangeInclusive;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const MINUTE_MS: u64 = 60_000;

/// What a value must be.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Text,
    /// Text that is never shown.
    Secret,
    /// Text that may hold a password.
    Url,
    /// A file or folder; relative to the folder of the configuration file.
    Path,
    /// `[a-z0-9_]{1,40}`
    PipelineName,
    /// `address:port`
    Socket,
    Choice(&'static [&'static str]),
    Bool,
    Integer(RangeInclusive<u64>),
    /// Bytes: an integer, or text such as `"32MiB"`.
    Size(RangeInclusive<u64>),
    /// A table without keys of its own: its presence is the setting.
    Marker,
    /// A table of strings whose names are not ours.
    Properties,
    /// A table whose names and types are not ours.
    Params,
}

impl Kind {
    /// Its name in documentation and messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text | Self::Secret => "text".to_owned(),
            Self::Url => "URL".to_owned(),
            Self::Path => "path".to_owned(),
            Self::PipelineName => "name of 1 to 40 of a-z, 0-9 and _".to_owned(),
            Self::Socket => "address:port".to_owned(),
            Self::Choice(names) => names
                .iter()
                .map(|name| format!("\"{name}\""))
                .collect::<Vec<_>>()
                .join(", "),
            Self::Bool => "true or false".to_owned(),
            Self::Integer(range) => format!("integer from {} to {}", range.start(), range.end()),
            Self::Size(range) => format!(
                "size from {} to {}",
                super::size::print(*range.start()),
                super::size::print(*range.end())
            ),
            Self::Marker => "empty table".to_owned(),
            Self::Properties => "table of text".to_owned(),
            Self::Params => "table".to_owned(),
        }
    }

    /// Whether its value may be shown in messages.
    pub(super) const fn is_public(&self) -> bool {
        !matches!(
            self,
            Self::Secret | Self::Url | Self::Properties | Self::Params
        )
    }
}

/// When a key must be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Always.
    Required,
    /// When any key of its table is given.
    RequiredInTable,
    Optional,
    /// Optional, with this default, written as TOML.
    Default(&'static str),
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Dotted, from the root.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) presence: Presence,
    /// What it means, in one or more sentences.
    pub(super) doc: &'static str,
}

impl Key {
    /// The table it stands in; empty for the root.
    pub(super) fn table(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(table, _)| table)
    }

    /// The environment variable that sets it.
    pub(super) fn variable(&self) -> String {
        let name = self.path.replace('.', "__").to_uppercase();
        let glue = if self.path.contains('.') { "_" } else { "__" };
        format!("ROWBRIDGE{glue}{name}")
    }
}

macro_rules! keys {
    ($($path:literal: $kind:expr, $presence:expr, $doc:literal;)*) => {
        &[$(Key { path: $path, kind: $kind, presence: $presence, doc: $doc }),*]
    };
}

use Kind::{
    Bool, Choice, Integer, Marker, Params, Path, PipelineName, Properties, Size, Socket, Text, Url,
};
use Presence::{Default, Optional, Required, RequiredInTable};

pub(super) const KEYS: &[Key] = keys! {
    "pipeline": PipelineName, Required,
        "Names the pipeline for good: slot and publication `rowbridge_<pipeline>`, topics `rowbridge.<pipeline>.position` and `.quarantine`, transactional ids `rowbridge.<pipeline>` and `rowbridge.<pipeline>.2`.";
    "mapping": Path, Required,
        "Folder of the mapping pack: `mapping.toml` and `schema.toml`.";
    "params": Params, Optional,
        "Overrides of the mapping's `[params]`, by name.";

    "source.postgres.url": Url, RequiredInTable,
        "`postgres://user@host:5432/database`; a Unix socket as `postgres://user@%2Frun%2Fpostgresql/database`. A password in it is allowed and never printed.";
    "source.postgres.password": Kind::Secret, Optional,
        "The role's password. Better in the environment than in the file.";
    "source.postgres.password_file": Path, Optional,
        "File that holds the password, read at every connect; a line end after it is ignored.";
    "source.postgres.tls": Choice(&["disable", "require", "verify-ca", "verify-full"]), Default("\"verify-full\""),
        "`require` encrypts without looking at the certificate; `verify-ca` checks who signed it; `verify-full` also checks the host name. Unix sockets are never encrypted.";
    "source.postgres.ca_file": Path, Optional,
        "PEM file with the authorities to trust; without it the system's.";
    "source.postgres.client_cert_file": Path, Optional,
        "PEM file with the client certificate, for servers that ask for one.";
    "source.postgres.client_key_file": Path, Optional,
        "PEM file with the key of the client certificate.";
    "source.postgres.create_publication": Bool, Default("true"),
        "`false`: the publication was made by the DBA; `check` prints the statement.";
    "source.postgres.create_slot": Bool, Default("true"),
        "`false`: the slot was made by the DBA; `check` prints the statement. Rows that exist before the slot are then not read.";
    "source.postgres.connect_timeout_ms": Integer(100..=10 * MINUTE_MS), Default("10000"),
        "Longest wait for a connection, its TLS handshake and its authentication.";
    "source.postgres.wal_sender_timeout_ms": Integer(1_000..=60 * MINUTE_MS), Default("60000"),
        "`wal_sender_timeout` of our replication session: after this silence the server ends it, and we take the server for dead.";
    "source.postgres.idle_commit_interval_ms": Integer(100..=60 * MINUTE_MS), Default("5000"),
        "How often the position is committed while no captured table changes but the rest of the server does, so that its WAL can be freed.";

    "source.mongodb.url": Url, RequiredInTable,
        "`mongodb://` or `mongodb+srv://`, with whatever options MongoDB's drivers take: `replicaSet`, `authSource`, `tls`, `readPreference`. A password in it is allowed and never printed.";
    "source.mongodb.password": Kind::Secret, Optional,
        "The user's password. Better in the environment than in the file.";
    "source.mongodb.password_file": Path, Optional,
        "File that holds the password, read at every connect; a line end after it is ignored.";
    "source.mongodb.ca_file": Path, Optional,
        "PEM file with the authorities to trust. Turns TLS on.";
    "source.mongodb.certificate_key_file": Path, Optional,
        "PEM file with the client certificate and its key, for servers that ask for one and for X.509 users. Turns TLS on.";
    "source.mongodb.on_drop": Choice(&["stop", "continue"]), Default("\"stop\""),
        "What the drop or rename of a mapped collection, or the drop of its database, means. `continue`: it may come again.";
    "source.mongodb.connect_timeout_ms": Integer(100..=10 * MINUTE_MS), Default("10000"),
        "Longest wait for a connection, and for a server that may be asked, such as a new primary.";
    "source.mongodb.idle_commit_interval_ms": Integer(100..=60 * MINUTE_MS), Default("5000"),
        "How often the position moves on while no mapped collection changes but others do, so that it stays in the oplog.";

    "sink.kafka.brokers": Text, RequiredInTable,
        "`host:port`, several separated by commas.";
    "sink.kafka.create_topics": Bool, Default("true"),
        "Creates missing topics as the mapping describes them. `false`: they must exist; `check` prints the commands.";
    "sink.kafka.replication": Integer(1..=32), Optional,
        "Replication factor of topics that are created; without it the mapping's, else the broker's default.";
    "sink.kafka.properties": Properties, Optional,
        "Any librdkafka property by its own name, such as `\"security.protocol\" = \"SASL_SSL\"`, but for those the guarantee rests on: these are refused by name, with the reason. Secrets may come from a file, read whenever the brokers are connected to: `\"sasl.password_file\" = \"/run/secrets/kafka\"`. docs/operations.md shows logins. Events are published by Rowbridge itself, which needs no queue: what tunes librdkafka's own (`linger.ms`, `queue.*`) has no effect on them. SASL is PLAIN or SCRAM.";
    "sink.stdout": Marker, Optional,
        "`[sink.stdout]` alone chooses it.";

    "privacy.hash_key_id": Text, RequiredInTable,
        "Stands before every hash (`2026a:...`), so that a new key is seen: 1 to 16 letters, digits, `-`, `_` and `.`. A key of one's own gets an id of its own.";
    "privacy.hash_key": Kind::Secret, Optional,
        "The key that `hash` in the mapping is made with: at least 32 bytes, such as `openssl rand -base64 32` prints. Better in the environment than in the file.";
    "privacy.hash_key_file": Path, Optional,
        "File that holds the key, read at every start; a line end after it is ignored.";

    "state.directory": Path, Optional,
        "Folder for working copies of what rules remember, each in a folder named like its pipeline; made when the mapping remembers anything. Without it the service's state directory (`$STATE_DIRECTORY`, as systemd sets it), else `/var/lib/rowbridge`. It may be lost at any time: what is not there is read from the pipeline's state topic. It holds values of rows and is readable for its owner alone. docs/operations.md says how large it becomes.";
    "state.cache_bytes": Size(MIB..=65_536 * MIB), Default("\"32MiB\""),
        "What is kept in memory of the entries that were used last.";

    "limits.channel_bytes": Size(MIB..=4096 * MIB), Default("\"4MiB\""),
        "Source bytes read and not yet handed to the sink.";
    "limits.batch_bytes": Size(4 * KIB..=64 * MIB), Default("\"256KiB\""),
        "Source bytes after which a batch closes; it closes earlier when the source has nothing more to read.";
    "limits.max_record_bytes": Size(KIB..=64 * MIB), Default("\"960KiB\""),
        "Longest record (key, value and headers). A longer event is a bad record. Must stay below the broker's `message.max.bytes`.";
    "limits.transaction_records": Integer(1..=1_000_000), Default("20000"),
        "Records after which a Kafka transaction is committed, even inside a source transaction.";
    "limits.transaction_rows": Integer(1_000..=100_000_000), Default("10000"),
        "Changes of a source transaction that are kept in memory until its end, where a mapping looks rows up or makes events of several rows; more wait in the folder for temporary files (`TMPDIR`).";
    "limits.transaction_age_ms": Integer(10..=10 * MINUTE_MS), Default("500"),
        "Age after which a Kafka transaction is committed, even inside a source transaction.";
    "limits.transaction_timeout_ms": Integer(1_000..=60 * MINUTE_MS), Default("60000"),
        "After this the brokers abort a transaction that did not end. Must not pass their `transaction.max.timeout.ms`; while they hold one open, readers of committed events wait.";
    "limits.sink_open_timeout_ms": Integer(100..=10 * MINUTE_MS), Default("10000"),
        "Longest wait for the brokers in one step of opening: a first answer, the position, the transactional ids.";
    "limits.commit_min_interval_ms": Integer(0..=10_000), Default("0"),
        "Shortest pause between two Kafka transactions. More makes them fewer and larger, which spares the brokers and costs latency.";
    "limits.commit_suspect_ms": Integer(100..=10 * MINUTE_MS), Default("5000"),
        "A Kafka commit slower than this is settled anew, whatever it returned: its outcome may be a retry's.";
    "limits.retry_min_ms": Integer(10..=MINUTE_MS), Default("100"),
        "First wait after a passing error; it doubles with every further one.";
    "limits.retry_max_ms": Integer(100..=60 * MINUTE_MS), Default("10000"),
        "Longest wait between two attempts.";
    "limits.standby_poll_ms": Integer(10..=MINUTE_MS), Default("500"),
        "How often a standby looks whether the source is free.";
    "limits.grace_period_seconds": Integer(1..=3_600), Default("25"),
        "Longest time from SIGTERM to the end; what is not committed by then is sent again after the next start.";

    "http.listen": Socket, Default("\"127.0.0.1:9464\""),
        "Address and port. There is no authentication: leave it on loopback, or to the pod's network.";
    "http.stale_after_seconds": Integer(1..=86_400), Default("90"),
        "`/readyz` fails when neither source nor sink has confirmed the position for this long.";

    "log.format": Choice(&["text", "json"]), Default("\"text\""),
        "`json`: one object per line.";
    "log.level": Text, Default("\"info\""),
        "`error`, `warn`, `info`, `debug`, `trace`, or per module as in `info,rowbridge::sink=debug`.";
};

/// The key with this path.
pub(super) fn key(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether `path` names a table that holds keys.
pub(super) fn is_table(path: &str) -> bool {
    path.is_empty()
        || KEYS.iter().any(|key| {
            key.path
                .strip_prefix(path)
                .is_some_and(|rest| rest.starts_with('.'))
        })
}

/// The names that may stand in the table `path`, in the order of [`KEYS`].
pub(super) fn names_in(path: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in KEYS {
        let rest = match path {
            "" => Some(key.path),
            _ => key
                .path
                .strip_prefix(path)
                .and_then(|rest| rest.strip_prefix('.')),
        };
        let name = rest.map(|rest| rest.split('.').next().unwrap_or(rest));
        names.extend(name.filter(|name| !names.contains(name)));
    }
    names
}
