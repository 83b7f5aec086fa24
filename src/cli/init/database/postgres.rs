//! A PostgreSQL database.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rowbridge_postgres::{Address, ConfigError, Password, PostgresConfig, TlsMode};

use super::super::super::args::InitArgs;
use super::super::super::peers;
use super::{Database, PasswordFrom, Settings, absolute};
use crate::config::{Config, PostgresSettings, Tls};
use crate::init::{Connection, SourceKind};
use crate::refusal::Refusal;

/// What is not escaped in a URL.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The database of a URL.
pub(super) fn named(url: &str, args: &InitArgs) -> anyhow::Result<Database> {
    let invalid = |error: ConfigError| {
        let hint =
            "--url postgres://user@host:5432/database, or mongodb://user@host:27017/database";
        Refusal::invalid(format!("--url: {error}"), hint)
    };
    let mut postgres = PostgresConfig::from_url(url).map_err(invalid)?;
    let mut password = PasswordFrom::Elsewhere;
    if matches!(postgres.password, Password::Literal(_)) {
        password = PasswordFrom::NotCopied;
    }
    if let Ok(secret) = std::env::var(SourceKind::Postgres.password_variable()) {
        postgres.password = Password::Literal(secret);
        password = PasswordFrom::Elsewhere;
    }
    if let Some(file) = &args.password_file {
        postgres.password = Password::File(file.clone());
        password = PasswordFrom::Elsewhere;
    }
    if let Some(file) = &args.ca_file {
        postgres.ca_file = Some(file.clone());
    }
    let tls = args.tls.as_deref().or_else(|| ssl_mode(url));
    let tls = tls.unwrap_or("verify-full");
    if !matches!(postgres.address, Address::Unix { .. }) {
        postgres.tls = tls.parse::<TlsMode>().map_err(invalid)?;
    }
    let files = [
        ("password_file", args.password_file.as_ref()),
        ("ca_file", args.ca_file.as_ref()),
    ];
    Ok(Database {
        connection: Connection {
            kind: SourceKind::Postgres,
            url: url_of(&postgres),
            tls: Some(tls.to_owned()),
            files: absolute(files)?,
            brokers: None,
            properties: Vec::new(),
        },
        settings: Settings::Postgres(postgres),
        given: None,
        password,
    })
}

/// The database of a configuration.
pub(super) fn configured(config: &Config, settings: &PostgresSettings) -> anyhow::Result<Database> {
    let postgres = peers::postgres(config, settings)?;
    let files = [
        ("password_file", settings.password_file.as_ref()),
        ("ca_file", settings.ca_file.as_ref()),
        ("client_cert_file", settings.client_cert_file.as_ref()),
        ("client_key_file", settings.client_key_file.as_ref()),
    ];
    let is_in_environment = std::env::var_os(SourceKind::Postgres.password_variable()).is_some();
    let password = match &postgres.password {
        Password::Literal(_) if !is_in_environment => PasswordFrom::NotCopied,
        _ => PasswordFrom::Elsewhere,
    };
    Ok(Database {
        connection: Connection {
            kind: SourceKind::Postgres,
            url: url_of(&postgres),
            tls: Some(tls_name(settings.tls).to_owned()),
            files: absolute(files)?,
            brokers: None,
            properties: Vec::new(),
        },
        settings: Settings::Postgres(postgres),
        given: None,
        password,
    })
}

/// What a URL's `sslmode` says, if it is a mode that does not fall back to plain text.
fn ssl_mode(url: &str) -> Option<&str> {
    let (_, query) = url.rsplit_once('?')?;
    let mode = query
        .split('&')
        .find_map(|part| part.strip_prefix("sslmode="))?;
    TlsMode::NAMES.contains(&mode).then_some(mode)
}

/// The URL again, made from what was read of it, so that no secret can be left in it.
fn url_of(postgres: &PostgresConfig) -> String {
    let escape = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
    let (host, port) = match &postgres.address {
        Address::Tcp { host, port } if host.contains(':') => {
            (format!("[{}]", host.trim_matches(['[', ']'])), port)
        }
        Address::Tcp { host, port } => (escape(host), port),
        Address::Unix { directory, port } => (escape(&directory.to_string_lossy()), port),
    };
    format!(
        "postgres://{}@{host}:{port}/{}",
        escape(&postgres.user),
        escape(&postgres.database)
    )
}

const fn tls_name(tls: Tls) -> &'static str {
    match tls {
        Tls::Disable => "disable",
        Tls::Require => "require",
        Tls::VerifyCa => "verify-ca",
        Tls::VerifyFull => "verify-full",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_urls_own_mode_counts_unless_it_would_fall_back() {
        for (url, mode) in [
            ("postgres://a@b/c?sslmode=disable", Some("disable")),
            ("postgres://a@b/c?x=y&sslmode=require", Some("require")),
            ("postgres://a@b/c?sslmode=prefer", None),
            ("postgres://a@b/c", None),
        ] {
            assert_eq!(ssl_mode(url), mode, "{url}");
        }
    }

    #[test]
    fn a_url_is_written_without_its_secrets() {
        for (url, written) in [
            (
                "postgres://app:hunter2@db.internal/sales",
                "postgres://app@db.internal:5432/sales",
            ),
            (
                "postgres://app@db:6432/sales?password=hunter2&sslmode=disable",
                "postgres://app@db:6432/sales",
            ),
            (
                "postgres://a%40b:hunter2@%2Frun%2Fpg/odd%20name",
                "postgres://a%40b@%2Frun%2Fpg:5432/odd%20name",
            ),
        ] {
            let config = PostgresConfig::from_url(url).unwrap();
            assert_eq!(url_of(&config), written);
            let again = PostgresConfig::from_url(written).unwrap();
            assert_eq!(
                (again.address, again.user, again.database),
                (config.address, config.user, config.database)
            );
        }
    }
}
