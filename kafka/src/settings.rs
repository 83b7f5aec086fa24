//! How to reach the brokers and how to convince them, by the names of librdkafka's properties.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::tls::Tls;

/// Longest record batch, in bytes, below what brokers take by default (`message.max.bytes`, 1,048,588).
const BATCH_BYTES: usize = 900 * 1024;
/// After so many buffered bytes everything is sent. Larger requests cost less each; what is buffered is resident.
const BUFFER_BYTES: usize = 1024 * 1024;
/// Requests a broker may have from us unanswered. More than five break the order that brokers check.
const REQUESTS_IN_FLIGHT: usize = 5;
const MS: &str = "a number of milliseconds";

/// A property that cannot be used. Never carries its value where that is a secret.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{name}: {problem}")]
pub struct SettingError {
    pub name: String,
    pub problem: String,
}

/// librdkafka's properties, as the user gave them.
#[derive(Clone, Copy)]
pub(crate) struct Properties<'a>(&'a BTreeMap<String, String>);

/// What a [`crate::Producer`] is made of beside its transactional id and its topics.
#[derive(Clone)]
pub struct Settings {
    /// `host:port` of the brokers to ask first.
    pub(crate) brokers: Vec<String>,
    pub(crate) client_id: String,
    /// `None`: in the clear.
    pub(crate) tls: Option<Tls>,
    /// `None`: without a login.
    pub(crate) login: Option<Login>,
    pub(crate) socket: SocketSettings,
    pub(crate) compression: Compression,
    pub(crate) batch_bytes: usize,
    pub(crate) buffer_bytes: usize,
    pub(crate) requests_in_flight: usize,
    /// Longest wait for an answer, and for room to send a request.
    pub(crate) request_timeout: Duration,
    /// After this the brokers abort a transaction.
    pub(crate) transaction_timeout: Duration,
}

/// What the operating system is told of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketSettings {
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalive: bool,
    /// `None`: the system's choice, in bytes.
    pub(crate) send_buffer_bytes: Option<usize>,
    pub(crate) receive_buffer_bytes: Option<usize>,
    pub(crate) family: Family,
}

/// Which addresses of a host are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Any,
    V4,
    V6,
}

/// A SASL login. Its password never shows.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) mechanism: Mechanism,
    pub(crate) user: String,
    pub(crate) password: String,
}

/// The SASL mechanisms that need a name and a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Settings {
    /// Settings from librdkafka's properties; those that speak of other clients than a transactional producer, or
    /// of librdkafka's own threads and queues, say nothing here.
    ///
    /// # Errors
    /// A property that this producer would have to follow and cannot.
    pub fn of(
        brokers: &str,
        client_id: &str,
        transaction_timeout: Duration,
        properties: &BTreeMap<String, String>,
    ) -> Result<Self, SettingError> {
        let properties = Properties(properties);
        let (tls, sasl) = properties.protocol()?;
        Ok(Self {
            brokers: brokers
                .split(',')
                .map(|broker| broker.trim().to_owned())
                .filter(|broker| !broker.is_empty())
                .collect(),
            client_id: properties.get("client.id").unwrap_or(client_id).to_owned(),
            tls: tls.then(|| Tls::of(&properties)).transpose()?,
            login: sasl.then(|| Login::of(&properties)).transpose()?,
            socket: SocketSettings::of(&properties)?,
            compression: Compression::of(&properties)?,
            batch_bytes: properties.number("batch.size")?.unwrap_or(BATCH_BYTES),
            buffer_bytes: BUFFER_BYTES,
            requests_in_flight: REQUESTS_IN_FLIGHT,
            request_timeout: properties
                .duration("socket.timeout.ms")?
                .unwrap_or(Duration::from_secs(60)),
            transaction_timeout,
        })
    }
}

impl Settings {
    /// Whether these properties can be followed, but for the files that they name: those are read by
    /// [`Settings::of`]. A secret that is only known later may stand empty.
    ///
    /// # Errors
    /// As [`Settings::of`].
    pub fn judge(properties: &BTreeMap<String, String>) -> Result<(), SettingError> {
        let properties = Properties(properties);
        let (tls, sasl) = properties.protocol()?;
        if tls {
            properties.flag("enable.ssl.certificate.verification", true)?;
        }
        if sasl {
            Login::of(&properties)?;
        }
        SocketSettings::of(&properties)?;
        Compression::of(&properties)?;
        properties.number("batch.size")?;
        properties.duration("socket.timeout.ms")?;
        Ok(())
    }

    /// How the brokers call us: the user who logs in, or else the subject of our certificate. `None` where only the
    /// brokers know.
    #[must_use]
    pub fn principal(&self) -> Option<&str> {
        match (&self.login, &self.tls) {
            (Some(login), _) => Some(&login.user),
            (None, Some(tls)) => tls.subject.as_deref(),
            (None, None) => Some("ANONYMOUS"),
        }
    }
}

impl<'a> Properties<'a> {
    /// Whether TLS is spoken, and whether with a login.
    fn protocol(&self) -> Result<(bool, bool), SettingError> {
        let protocol = self.get("security.protocol").unwrap_or("plaintext");
        match protocol.to_ascii_lowercase().as_str() {
            "plaintext" => Ok((false, false)),
            "ssl" => Ok((true, false)),
            "sasl_plaintext" => Ok((false, true)),
            "sasl_ssl" => Ok((true, true)),
            _ => Err(wrong(
                "security.protocol",
                "plaintext, ssl, sasl_plaintext or sasl_ssl",
            )),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(String::as_str)
    }

    fn number(&self, name: &'static str) -> Result<Option<usize>, SettingError> {
        self.get(name)
            .map(|value| value.parse().map_err(|_| wrong(name, "a number")))
            .transpose()
    }

    fn duration(&self, name: &'static str) -> Result<Option<Duration>, SettingError> {
        self.get(name)
            .map(|value| match value.parse() {
                Ok(ms) => Ok(Duration::from_millis(ms)),
                Err(_) => Err(wrong(name, MS)),
            })
            .transpose()
    }

    /// A switch, in the words that librdkafka takes.
    pub(crate) fn flag(&self, name: &'static str, default: bool) -> Result<bool, SettingError> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(default),
            Some("true" | "t" | "1") => Ok(true),
            Some("false" | "f" | "0") => Ok(false),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }
}

fn wrong(name: &str, wanted: &str) -> SettingError {
    SettingError {
        name: name.to_owned(),
        problem: format!("it must be {wanted}"),
    }
}

impl SocketSettings {
    fn of(properties: &Properties<'_>) -> Result<Self, SettingError> {
        let family = match properties.get("broker.address.family") {
            None | Some("any") => Family::Any,
            Some("v4") => Family::V4,
            Some("v6") => Family::V6,
            Some(_) => return Err(wrong("broker.address.family", "any, v4 or v6")),
        };
        let buffer = |name| Ok(properties.number(name)?.filter(|bytes| *bytes > 0));
        Ok(Self {
            connect_timeout: properties
                .duration("socket.connection.setup.timeout.ms")?
                .unwrap_or(Duration::from_secs(30)),
            keepalive: properties.flag("socket.keepalive.enable", false)?,
            send_buffer_bytes: buffer("socket.send.buffer.bytes")?,
            receive_buffer_bytes: buffer("socket.receive.buffer.bytes")?,
            family,
        })
    }
}

impl Login {
    fn of(properties: &Properties<'_>) -> Result<Self, SettingError> {
        let name = properties
            .get("sasl.mechanism")
            .or_else(|| properties.get("sasl.mechanisms"))
            .unwrap_or("GSSAPI");
        let mechanism = Mechanism::named(name)
            .ok_or_else(|| wrong("sasl.mechanism", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"))?;
        let required = |name| {
            properties.get(name).map(str::to_owned).ok_or_else(|| {
                wrong(
                    name,
                    "given: the mechanism logs in with a name and a password",
                )
            })
        };
        Ok(Self {
            mechanism,
            user: required("sasl.username")?,
            password: required("sasl.password")?,
        })
    }
}

impl Mechanism {
    /// As the protocol names it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Plain, Self::ScramSha256, Self::ScramSha512]
            .into_iter()
            .find(|mechanism| mechanism.name() == name)
    }
}

impl Compression {
    fn of(properties: &Properties<'_>) -> Result<Self, SettingError> {
        let name = properties
            .get("compression.codec")
            .or_else(|| properties.get("compression.type"));
        Ok(match name {
            None | Some("none") => Self::None,
            Some("gzip") => Self::Gzip,
            Some("snappy") => Self::Snappy,
            Some("lz4") => Self::Lz4,
            Some("zstd") => Self::Zstd,
            Some(_) => {
                return Err(wrong(
                    "compression.codec",
                    "none, gzip, snappy, lz4 or zstd",
                ));
            }
        })
    }

    /// Its number in a batch's attributes (KIP-98, KIP-110).
    pub(crate) const fn attribute(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("brokers", &self.brokers)
            .field("tls", &self.tls.is_some())
            .field("user", &self.login.as_ref().map(|login| &login.user))
            .finish_non_exhaustive()
    }
}
