//! A broker that wants to know who comes, and the files and properties of those who do.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use rowbridge::sink::kafka::properties::Properties;
use rowbridge::sink::{Opened, Sink as _, SinkError};
use rowbridge_api::State;
use rowbridge_testbed::certificates::{Authority, Issued};
use rowbridge_testbed::{Kafka, KafkaBuilder, KafkaGuard, KafkaTools};
use tempfile::TempDir;

use crate::bed::{Bed, at, batch, source, wait};

/// In every secret of these tests, so that none may be in what is said.
pub(crate) const MARK: &str = "s3cret";

/// Users and their passwords; `admin` and `rotated` may do anything.
const USERS: [(&str, &str); 3] = [
    ("admin", "admin-s3cret"),
    ("app", "app-s3cret"),
    ("rotated", "first-s3cret"),
];

/// The password that `user` has when the broker starts.
pub(crate) fn password(user: &str) -> &'static str {
    USERS.iter().find(|(name, _)| *name == user).unwrap().1
}

/// A broker for `localhost` that trusts its own authority's clients.
pub(crate) struct Guarded {
    pub(crate) kafka: Kafka,
    pub(crate) authority: Authority,
}

impl Guarded {
    /// The broker that all tests share. No test may change what another one relies on.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: LazyLock<Guarded> = LazyLock::new(|| {
            let authority = Authority::new("the authority of tests").unwrap();
            let server = authority.server(&["localhost"]).unwrap();
            Guarded::start(authority, server, |builder| builder)
        });
        &SHARED
    }

    pub(crate) fn start(
        authority: Authority,
        server: Issued,
        change: impl FnOnce(KafkaBuilder) -> KafkaBuilder,
    ) -> Self {
        let guard = KafkaGuard::new(server, &authority, &USERS);
        let builder = Kafka::builder().guarded(guard).property(
            "super.users",
            "User:ANONYMOUS;User:admin;User:rotated;User:CN=admin",
        );
        let kafka = wait(change(builder).start());
        Self { kafka, authority }
    }
}

/// Properties by name, to be changed one by one.
#[derive(Clone)]
pub(crate) struct Wallet(BTreeMap<String, String>);

impl Wallet {
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self(pairs.collect())
    }

    pub(crate) fn with(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        let value = value.as_ref().to_str().unwrap();
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.remove(name).unwrap();
        self
    }

    pub(crate) fn properties(&self) -> Properties {
        Properties::checked(&self.0).unwrap()
    }
}

/// A folder with one client's files.
pub(crate) struct Files(TempDir);

impl Files {
    /// With `ca.pem` for whoever trusts `authority`.
    pub(crate) fn trusting(authority: &Authority) -> Self {
        let files = Self(TempDir::new().unwrap());
        files.write("ca.pem", authority.pem());
        files
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// The path of a new or replaced file.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.0.path().join(name), text).unwrap();
        self.path(name)
    }

    /// How `user` logs in over SASL_SSL, with the password in a file.
    pub(crate) fn login(&self, user: &str) -> Wallet {
        let password = self.write(&format!("{user}.password"), password(user));
        Wallet::of(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", user),
            ("sasl.password_file", &password),
            ("ssl.ca.location", &self.path("ca.pem")),
        ])
    }

    /// How somebody with this certificate comes in by mutual TLS.
    pub(crate) fn badge(&self, shown: &Issued) -> Wallet {
        Wallet::of(&[
            ("security.protocol", "SSL"),
            ("ssl.ca.location", &self.path("ca.pem")),
            (
                "ssl.certificate.location",
                &self.write("client.pem", &shown.certificate),
            ),
            ("ssl.key.location", &self.write("client.key", &shown.key)),
        ])
    }

    /// Kafka's tools with the login of an administrator who comes by SASL_SSL.
    pub(crate) fn tools_by_password(&self) -> KafkaTools {
        let login = format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n\
             sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
             username=\"admin\" password=\"{}\";\n{}",
            password("admin"),
            self.truststore()
        );
        wait(KafkaTools::install(self.folder(), &login))
    }

    /// The same by mutual TLS.
    pub(crate) fn tools_by_badge(&self, admin: &Issued) -> KafkaTools {
        let store = self.write("admin.pem", &format!("{}{}", admin.key, admin.certificate));
        let login = format!(
            "security.protocol=SSL\nssl.keystore.type=PEM\nssl.keystore.location={store}\n{}",
            self.truststore()
        );
        wait(KafkaTools::install(self.folder(), &login))
    }

    fn truststore(&self) -> String {
        format!(
            "ssl.truststore.type=PEM\nssl.truststore.location={}\n",
            self.path("ca.pem")
        )
    }
}

/// A pipeline at `brokers` that comes in with `wallet`.
pub(crate) fn bed(brokers: &str, pipeline: &str, wallet: &Wallet) -> Bed {
    let mut bed = Bed::at(brokers, pipeline, 2);
    bed.config.properties = wallet.properties();
    bed
}

/// Opens, publishes an event and commits.
pub(crate) fn publish(bed: &Bed) -> Result<Opened, SinkError> {
    let mut sink = bed.sink();
    let opened = sink.open(&source("a"))?;
    sink.write(&batch(0, 8))?;
    sink.commit(&at(1))?;
    Ok(opened)
}

/// What a refusal says: its problem and its hint.
pub(crate) fn refusal<T: std::fmt::Debug>(outcome: Result<T, SinkError>) -> (String, String) {
    match outcome {
        Err(SinkError::Refused {
            state: State::Invalid,
            problem,
            hint,
        }) => {
            assert!(
                !format!("{problem}{hint}").contains(MARK),
                "{problem}; {hint}"
            );
            (problem, hint)
        }
        other => panic!("not refused as INVALID: {other:?}"),
    }
}

/// Runs each line of what is printed, as somebody would paste it.
pub(crate) fn paste(tools: &KafkaTools, lines: &str) {
    for command in lines.lines() {
        wait(tools.paste(command));
    }
}
