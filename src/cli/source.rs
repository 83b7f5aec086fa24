//! The configured source: one variant for each connector, chosen once.

use std::convert::Infallible;

use anyhow::Result;
use rowbridge_api::{Claim, Finding, Frozen, Source, SourceError, SourceIo, TableNeeds};
use rowbridge_mongodb::MongoSource;
use rowbridge_postgres::{PostgresSource, PreviewPublication, PreviewSource};

use super::peers;
use crate::config::{Config, SourceConfig};
use crate::mapping::Mapping;

/// A source of whichever kind.
pub(crate) enum AnySource {
    Postgres(PostgresSource),
    PostgresPreview(PreviewSource),
    MongoDb(MongoSource),
}

/// The source that the configuration names.
pub(crate) fn configured(config: &Config) -> Result<AnySource> {
    Ok(match &config.source {
        SourceConfig::Postgres(settings) => {
            let postgres = peers::postgres(config, settings)?;
            AnySource::Postgres(PostgresSource::new(postgres, &config.pipeline))
        }
        SourceConfig::MongoDb(settings) => {
            AnySource::MongoDb(MongoSource::new(peers::mongodb(config, settings)))
        }
    })
}

/// The same, for looking: it leaves no trace in the database.
///
/// Existing rows are read of the tables that `mapping` looks into.
pub(crate) fn preview(
    config: &Config,
    mapping: &Mapping,
    publication: PreviewPublication,
) -> Result<AnySource> {
    Ok(match &config.source {
        SourceConfig::Postgres(settings) => {
            let postgres = peers::postgres(config, settings)?;
            let source = PreviewSource::new(postgres, &config.pipeline, publication);
            AnySource::PostgresPreview(source.looking_into(mapping.looked_into()))
        }
        SourceConfig::MongoDb(settings) => {
            AnySource::MongoDb(MongoSource::preview(peers::mongodb(config, settings)))
        }
    })
}

impl Source for AnySource {
    async fn check(&mut self, needs: &[TableNeeds]) -> Result<Vec<Finding>, SourceError> {
        match self {
            Self::Postgres(source) => source.check(needs).await,
            Self::PostgresPreview(source) => source.check(needs).await,
            Self::MongoDb(source) => Box::pin(source.check(needs)).await,
        }
    }

    async fn own(&mut self) -> Result<Claim, SourceError> {
        match self {
            Self::Postgres(source) => source.own().await,
            Self::PostgresPreview(source) => source.own().await,
            Self::MongoDb(source) => Box::pin(source.own()).await,
        }
    }

    async fn hold(&mut self) -> Result<Infallible, SourceError> {
        match self {
            Self::Postgres(source) => source.hold().await,
            Self::PostgresPreview(source) => source.hold().await,
            Self::MongoDb(source) => source.hold().await,
        }
    }

    async fn freeze(&mut self, tables: &[TableNeeds]) -> Result<Frozen, SourceError> {
        match self {
            Self::Postgres(source) => source.freeze(tables).await,
            Self::PostgresPreview(source) => source.freeze(tables).await,
            Self::MongoDb(source) => Box::pin(source.freeze(tables)).await,
        }
    }

    async fn run(&mut self, io: SourceIo) -> Result<(), SourceError> {
        match self {
            Self::Postgres(source) => source.run(io).await,
            Self::PostgresPreview(source) => source.run(io).await,
            Self::MongoDb(source) => Box::pin(source.run(io)).await,
        }
    }
}
