//! Why something was not done.

pub use kafka_protocol::error::ResponseError as Code;

/// Why a step before the commit failed: nothing of the transaction is or becomes visible.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No connection, or it broke.
    #[error("{peer}: {problem}")]
    Link { peer: String, problem: String },
    /// A broker does not let us in, or we do not trust it.
    #[error("{peer}: {why}")]
    Login { peer: String, why: Barrier },
    /// A broker answered, and not with success.
    #[error("{what}: the broker answers {code}{}", topic.as_ref().map(|topic| format!(" for topic {topic}")).unwrap_or_default())]
    Refused {
        what: &'static str,
        code: Code,
        topic: Option<String>,
    },
    /// No answer in time.
    #[error("{peer}: no answer in time: {what}")]
    Late { peer: String, what: &'static str },
    /// The broker speaks another protocol than it said, or none that we know.
    #[error("{peer}: {problem}")]
    Protocol { peer: String, problem: String },
}

/// What stands between us and a broker: each is mended in another place. Holds no secret.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Barrier {
    /// No authority that we trust signed the broker's certificate.
    #[error(
        "TLS: the broker's certificate is not signed by an authority that is trusted here: {0}"
    )]
    Authority(String),
    /// The broker's certificate is for other hosts than the one we asked for.
    #[error("TLS: the broker's certificate is not for the host {0}")]
    HostName(String),
    /// The broker's certificate is not valid any more, or not yet.
    #[error("TLS: the broker's {0}")]
    Expired(String),
    /// The broker wants a certificate of ours, or another one.
    #[error("TLS: the broker does not accept our certificate, or misses one: {0}")]
    OwnCertificate(String),
    /// TLS failed for another reason: most likely one side does not speak it.
    #[error("TLS: {0}")]
    Tls(String),
    /// The broker does not log anybody in like this.
    #[error("SASL: the broker does not take {asked}, but {offered}")]
    Mechanism {
        asked: &'static str,
        offered: String,
    },
    /// The broker does not take the name and the password.
    #[error("SASL: {0}")]
    Password(String),
    /// The broker did not prove that it knows the password: it may be another one that pretends.
    #[error("SASL: {0}")]
    Unproven(String),
}

/// How a commit that did not succeed ended.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommitError {
    /// Records could not be sent: the commit was not asked for and nothing is visible.
    #[error(transparent)]
    NotAsked(Error),
    /// The commit was asked for. Whether it happened is settled by fencing.
    #[error("{0}")]
    Open(Error),
}

impl Error {
    /// The broker's answer, if that is what it was.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(crate) const fn refused(what: &'static str, code: Code) -> Self {
        Self::Refused {
            what,
            code,
            topic: None,
        }
    }
}

/// The error that a code stands for, if it stands for one.
pub(crate) fn check(what: &'static str, code: i16) -> Result<(), Error> {
    match Code::try_from_code(code) {
        None => Ok(()),
        Some(code) => Err(Error::refused(what, code)),
    }
}
