//! What keeps us out of the server, in words that name the key or the command that lets us in.
//!
//! Passwords, certificates and pg_hba.conf fail at the same moment, while connecting, and each is mended in
//! another place. Nothing here repeats a secret; the server's own words name only roles, addresses and
//! databases.

use rowbridge_api::Password;
use rustls::{AlertDescription, CertificateError, Error};

use crate::config::{ConfigError, PostgresConfig, TlsMode, password_key};
use crate::error::{ServerError, WireError, chain, sqlstate};

/// An error of connecting; where it says that we are not let in, with what would change that.
pub(crate) fn explain(config: &PostgresConfig, error: WireError) -> WireError {
    match &error {
        WireError::Server(server) => match server.code.as_str() {
            sqlstate::INVALID_PASSWORD => wrong_password(config, server),
            sqlstate::INVALID_AUTHORIZATION => not_authorized(config, server),
            _ => error,
        },
        WireError::Io { cause, .. } => match tls_error(cause) {
            Some(Error::AlertReceived(alert)) => rejected(config, *alert).unwrap_or(error),
            _ => error,
        },
        _ => error,
    }
}

/// The TLS error inside of an IO error.
fn tls_error(cause: &std::io::Error) -> Option<&Error> {
    cause.get_ref().and_then(|inner| inner.downcast_ref())
}

fn barred(problem: impl Into<String>, hint: impl Into<String>) -> WireError {
    WireError::Barred {
        problem: problem.into(),
        hint: hint.into(),
    }
}

fn wrong_password(config: &PostgresConfig, error: &ServerError) -> WireError {
    let (key, role) = (password_key(&config.password), &config.user);
    barred(
        error.to_string(),
        format!(
            "correct {key}, or give the role that password: ALTER ROLE \"{role}\" PASSWORD '...'; \
             then run `rowbridge check`"
        ),
    )
}

/// SQLSTATE 28000: no line of pg_hba.conf lets us in, or the line that fits wants something we do not show.
fn not_authorized(config: &PostgresConfig, error: &ServerError) -> WireError {
    let PostgresConfig { user, database, .. } = config;
    let line = match config.tls {
        TlsMode::Disable => "host",
        _ => "hostssl",
    };
    let says = |words: &str| error.message.contains(words);
    let hint = if says("valid client certificate") {
        "show a certificate: set source.postgres.client_cert_file and source.postgres.client_key_file, signed \
         by an authority in the server's ssl_ca_file"
            .to_owned()
    } else if says("certificate authentication failed") {
        format!(
            "the certificate in source.postgres.client_cert_file must be issued to CN={user}, or pg_ident.conf \
             must map its name to {user}"
        )
    } else if says("no encryption") && config.tls == TlsMode::Disable {
        "the server wants TLS: set source.postgres.tls = \"verify-full\"".to_owned()
    } else if says("pg_hba.conf") {
        format!(
            "let it in by a line of pg_hba.conf on the server, with our address: \
             `{line} {database} {user} ADDRESS scram-sha-256`, then SELECT pg_reload_conf()"
        )
    } else {
        format!(
            "the role {user} must exist and have LOGIN, and pg_hba.conf must let it in: CREATE ROLE \"{user}\" \
             LOGIN REPLICATION; correct source.postgres.url if the role is another one"
        )
    };
    barred(error.to_string(), hint)
}

/// No password to show, for a server that wants one.
pub(crate) fn no_password(config: &PostgresConfig) -> WireError {
    barred(
        format!(
            "the server wants a password for `{}` and none is configured",
            config.user
        ),
        "set source.postgres.password_file, or ROWBRIDGE_SOURCE__POSTGRES__PASSWORD in the environment",
    )
}

/// The server asks for something else than what we can show, or could not show it knows our password.
pub(crate) fn unknown_method(config: &PostgresConfig, problem: impl Into<String>) -> WireError {
    let PostgresConfig { user, database, .. } = config;
    barred(
        problem,
        format!(
            "let pg_hba.conf on the server ask for SCRAM: `hostssl {database} {user} ADDRESS scram-sha-256`, then \
             SELECT pg_reload_conf(); a password that was stored as md5 must be set again"
        ),
    )
}

/// The server signed its side of SCRAM with another password than ours: it is not the server we know.
pub(crate) fn unproven(config: &PostgresConfig) -> WireError {
    barred(
        "the server could not prove that it knows the password: it may be another one that pretends",
        format!(
            "make sure that {} is the server you mean, with source.postgres.tls = \"verify-full\"",
            config.address
        ),
    )
}

/// The server does not speak TLS.
pub(crate) fn no_tls() -> WireError {
    barred(
        "the server does not offer TLS",
        "on the server: ALTER SYSTEM SET ssl = on, with ssl_cert_file and ssl_key_file, and SELECT \
         pg_reload_conf(); only on a network that nobody else reads, source.postgres.tls = \"disable\"",
    )
}

/// A name that no certificate can carry, so that none could be compared with it.
pub(crate) fn no_name(host: &str) -> WireError {
    barred(
        format!("`{host}` is no name a certificate can have"),
        "write the host in source.postgres.url as a DNS name or an IP address",
    )
}

/// A file that the settings name cannot be used.
pub(crate) fn bad_file(error: &ConfigError) -> WireError {
    let hint = match error {
        ConfigError::File { file, .. } => {
            format!("correct {}, or let this process read the file", file.key())
        }
        ConfigError::Pem { file, .. } => format!("correct {}, which is a PEM file", file.key()),
        ConfigError::NoAuthorities(_) => {
            "set source.postgres.ca_file to the PEM file of the authority that signed the server's certificate"
                .to_owned()
        }
        _ => "correct source.postgres.url".to_owned(),
    };
    barred(chain(error), hint)
}

/// We do not accept the server's certificate.
pub(crate) fn bad_certificate(config: &PostgresConfig, error: &CertificateError) -> WireError {
    let address = &config.address;
    let renew =
        "put a valid certificate into the server's ssl_cert_file and SELECT pg_reload_conf()";
    let (problem, hint) = match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            match &config.ca_file {
                Some(file) => format!("was not signed by an authority in {}", file.display()),
                None => "was not signed by an authority that this system trusts".to_owned(),
            },
            "set source.postgres.ca_file to the PEM file of the authority that signed it".to_owned(),
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            (format!("has expired ({error})"), renew.to_owned())
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            format!("is not valid yet ({error})"),
            format!("correct the clock of one of the two, or {renew}"),
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("was issued to another name ({error})"),
            "name the host in source.postgres.url as the certificate does, or have it issued to that name too \
             (subjectAltName); source.postgres.tls = \"verify-ca\" accepts any name that the authority signed"
                .to_owned(),
        ),
        error => (
            format!("cannot be used ({error})"),
            format!("{renew}: one that an authority of its own signed, with a subjectAltName (X.509 version 3)"),
        ),
    };
    barred(
        format!("the certificate of the server at {address} {problem}"),
        hint,
    )
}

/// The server did not accept our certificate, or wants one (RFC 8446, section 6.2).
fn rejected(config: &PostgresConfig, alert: AlertDescription) -> Option<WireError> {
    use AlertDescription as Alert;
    let shown = match &config.client_certificate {
        Some(client) => format!(
            "the server does not accept the client certificate {}",
            client.certificate_file.display()
        ),
        None => "the server wants a client certificate".to_owned(),
    };
    let hint = match alert {
        Alert::CertificateExpired => {
            "it has expired: put a new one into source.postgres.client_cert_file and its key into \
             source.postgres.client_key_file; they are read at every connect"
        }
        Alert::UnknownCA
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateUnknown
        | Alert::CertificateRequired
        | Alert::DecryptError
        | Alert::AccessDenied => {
            "set source.postgres.client_cert_file and source.postgres.client_key_file to a certificate that an \
             authority in the server's ssl_ca_file signed"
        }
        _ => return None,
    };
    Some(barred(format!("{shown} (TLS alert {alert:?})"), hint))
}

/// What the SQL session's own client says when it cannot log in.
pub(crate) fn of_session(config: &PostgresConfig, error: tokio_postgres::Error) -> WireError {
    let text = error.to_string();
    if let Some(server) = ServerError::of_session(&error) {
        return explain(config, WireError::Server(server));
    }
    // Its kinds are not public; these two are ours to tell apart.
    if text.starts_with("invalid configuration") && matches!(config.password, Password::None) {
        return no_password(config);
    }
    if text.starts_with("authentication error") {
        return unknown_method(config, format!("cannot log in: {text}"));
    }
    match error
        .into_source()
        .map(|cause| cause.downcast::<std::io::Error>())
    {
        Some(Ok(cause)) => {
            let error = WireError::Io {
                doing: "log in",
                cause: *cause,
            };
            explain(config, error)
        }
        _ => WireError::Session(text),
    }
}
