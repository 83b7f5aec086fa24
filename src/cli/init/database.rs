//! Which database is looked at, and what a configuration may say of it: everything but its secrets.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rowbridge_postgres::{Address, Password, PostgresConfig, TlsMode};

use super::super::args::InitArgs;
use super::super::{load, peers};
use crate::config::{Config, ConfigError, SinkConfig, SourceConfig, Tls};
use crate::init::Connection;
use crate::refusal::Refusal;

/// The variable that holds the password, for a database that is named on the command line.
const PASSWORD: &str = "ROWBRIDGE_SOURCE__POSTGRES__PASSWORD";

/// What is not escaped in a URL.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A database to look at.
pub(super) struct Database {
    pub(super) postgres: PostgresConfig,
    pub(super) connection: Connection,
    /// The configuration it comes from.
    pub(super) given: Option<Given>,
    pub(super) password: PasswordFrom,
}

/// A configuration that exists.
pub(super) struct Given {
    /// As it was named, or found.
    pub(super) file: PathBuf,
    pub(super) pipeline: String,
    pub(super) mapping: PathBuf,
}

/// Whether the next commands will find the password where this one did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PasswordFrom {
    /// There is none, or it is in a file or the environment.
    Elsewhere,
    /// It was part of what is not copied.
    NotCopied,
}

impl Database {
    pub(super) fn of(config: Option<&Path>, args: &InitArgs) -> anyhow::Result<Self> {
        match &args.url {
            Some(url) => Self::named(url, args),
            None => Self::configured(config),
        }
    }

    fn named(url: &str, args: &InitArgs) -> anyhow::Result<Self> {
        let invalid = |error: rowbridge_postgres::ConfigError| {
            let hint = "--url postgres://user@host:5432/database";
            Refusal::invalid(format!("--url: {error}"), hint)
        };
        let mut postgres = PostgresConfig::from_url(url).map_err(invalid)?;
        let mut password = PasswordFrom::Elsewhere;
        if matches!(postgres.password, Password::Literal(_)) {
            password = PasswordFrom::NotCopied;
        }
        if let Ok(secret) = std::env::var(PASSWORD) {
            postgres.password = Password::Literal(secret);
            password = PasswordFrom::Elsewhere;
        }
        let mut files = Vec::new();
        if let Some(file) = &args.password_file {
            files.push(("password_file".to_owned(), absolute(file)?));
            postgres.password = Password::File(file.clone());
            password = PasswordFrom::Elsewhere;
        }
        if let Some(file) = &args.ca_file {
            files.push(("ca_file".to_owned(), absolute(file)?));
            postgres.ca_file = Some(file.clone());
        }
        let tls = args.tls.as_deref().or_else(|| ssl_mode(url));
        let tls = tls.unwrap_or("verify-full");
        if !matches!(postgres.address, Address::Unix { .. }) {
            postgres.tls = tls.parse::<TlsMode>().map_err(invalid)?;
        }
        Ok(Self {
            connection: Connection {
                url: url_of(&postgres),
                tls: tls.to_owned(),
                files,
                brokers: None,
                properties: Vec::new(),
            },
            postgres,
            given: None,
            password,
        })
    }

    fn configured(named: Option<&Path>) -> anyhow::Result<Self> {
        let config = load(named).map_err(|error| match error.downcast_ref() {
            Some(ConfigError::NoFile) => Refusal::invalid(
                "no database was named, and there is no configuration",
                "--url postgres://user@host:5432/database, or -c FILE",
            )
            .into(),
            _ => error,
        })?;
        let SourceConfig::Postgres(settings) = &config.source else {
            return Err(Refusal::invalid(
                "init does not read MongoDB yet",
                "start from mappings/hotel; docs/mapping.md describes schema.toml",
            )
            .into());
        };
        let postgres = peers::postgres(&config, settings)?;
        let mut files = Vec::new();
        for (key, file) in [
            ("password_file", &settings.password_file),
            ("ca_file", &settings.ca_file),
            ("client_cert_file", &settings.client_cert_file),
            ("client_key_file", &settings.client_key_file),
        ] {
            if let Some(file) = file {
                files.push((key.to_owned(), absolute(file)?));
            }
        }
        let (brokers, properties) = match &config.sink {
            SinkConfig::Kafka(kafka) => {
                let names = kafka.properties.iter().map(|(name, _)| name.clone());
                (Some(kafka.brokers.clone()), names.collect())
            }
            SinkConfig::Stdout {} => (None, Vec::new()),
        };
        let is_in_environment = std::env::var_os(PASSWORD).is_some();
        let password = match &postgres.password {
            Password::Literal(_) if !is_in_environment => PasswordFrom::NotCopied,
            _ => PasswordFrom::Elsewhere,
        };
        Ok(Self {
            connection: Connection {
                url: url_of(&postgres),
                tls: tls_name(settings.tls).to_owned(),
                files,
                brokers,
                properties,
            },
            postgres,
            given: Some(given(named, &config)),
            password,
        })
    }
}

fn given(named: Option<&Path>, config: &Config) -> Given {
    let found = || {
        let files = crate::config::DEFAULT_FILES.map(PathBuf::from);
        files.into_iter().find(|file| file.exists())
    };
    Given {
        file: named.map(Path::to_owned).or_else(found).unwrap_or_default(),
        pipeline: config.pipeline.clone(),
        mapping: config.mapping.clone(),
    }
}

/// What a URL's `sslmode` says, if it is a mode that does not fall back to plain text.
fn ssl_mode(url: &str) -> Option<&str> {
    let (_, query) = url.rsplit_once('?')?;
    let mode = query
        .split('&')
        .find_map(|part| part.strip_prefix("sslmode="))?;
    TlsMode::NAMES.contains(&mode).then_some(mode)
}

/// As a configuration in another folder has to name it.
fn absolute(file: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(file)
        .with_context(|| format!("cannot tell where {} is", file.display()))?;
    Ok(path.display().to_string())
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
