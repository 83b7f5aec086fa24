//! Which database is looked at, and what a configuration may say of it: everything but its secrets.

mod mongodb;
mod postgres;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rowbridge_mongodb::MongoConfig;
use rowbridge_postgres::PostgresConfig;

use super::super::args::InitArgs;
use super::super::load;
use crate::config::{Config, ConfigError, SinkConfig, SourceConfig};
use crate::init::Connection;
use crate::refusal::Refusal;

/// A database to look at.
pub(super) struct Database {
    pub(super) settings: Settings,
    pub(super) connection: Connection,
    /// The configuration it comes from.
    pub(super) given: Option<Given>,
    pub(super) password: PasswordFrom,
}

/// How to reach it.
pub(super) enum Settings {
    Postgres(PostgresConfig),
    MongoDb(MongoConfig),
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
            Some(url) if mongodb::is_url(url) => mongodb::named(url, args),
            Some(url) => postgres::named(url, args),
            None => Self::configured(config),
        }
    }

    fn configured(named: Option<&Path>) -> anyhow::Result<Self> {
        let config = load(named).map_err(|error| match error.downcast_ref() {
            Some(ConfigError::NoFile) => Refusal::invalid(
                "no database was named, and there is no configuration",
                "--url postgres://user@host:5432/database, --url mongodb://user@host:27017/database, or -c FILE",
            )
            .into(),
            _ => error,
        })?;
        let mut database = match &config.source {
            SourceConfig::Postgres(settings) => postgres::configured(&config, settings)?,
            SourceConfig::MongoDb(settings) => mongodb::configured(&config, settings)?,
        };
        if let SinkConfig::Kafka(kafka) = &config.sink {
            let names = kafka.properties.iter().map(|(name, _)| name.clone());
            database.connection.brokers = Some(kafka.brokers.clone());
            database.connection.properties = names.collect();
        }
        database.given = Some(given(named, &config));
        Ok(database)
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

/// Files that a configuration in another folder has to name, by their keys.
fn absolute<const N: usize>(
    files: [(&str, Option<&PathBuf>); N],
) -> anyhow::Result<Vec<(String, String)>> {
    let given = files
        .into_iter()
        .filter_map(|(key, file)| Some((key, file?)));
    given
        .map(|(key, file)| {
            let path = std::path::absolute(file)
                .with_context(|| format!("cannot tell where {} is", file.display()))?;
            Ok((key.to_owned(), path.display().to_string()))
        })
        .collect()
}
