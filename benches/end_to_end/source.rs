//! The database under measurement, one of two.

use std::time::{Duration, Instant};

use anyhow::Result;
use bson::Document;
use mongodb::Collection;
use rowbridge_api::Position;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Statement};

use crate::backlog::Backlog;
use crate::documents::{self, Documents};
use crate::latency::Times;
use crate::pipeline::{Pack, Pipeline, Process};
use crate::reservations::{self, Reservations};

pub(crate) enum Source {
    Postgres(Reservations),
    MongoDb(Documents),
}

impl Source {
    /// The rows that the updates change.
    pub(crate) async fn prepare(&self) -> Result<()> {
        match self {
            Self::Postgres(reservations) => reservations.prepare().await,
            Self::MongoDb(documents) => documents.prepare().await,
        }
    }

    pub(crate) fn pack(&self) -> Result<Pack> {
        match self {
            Self::Postgres(reservations) => reservations.pack(),
            Self::MongoDb(documents) => Ok(documents.pack()),
        }
    }

    /// Where a floor begins: where the pipeline of the same number does.
    pub(crate) async fn begin_floor(&self, repeat: usize, pipeline: &Pipeline) -> Result<()> {
        match self {
            Self::Postgres(reservations) => reservations.begin_floor(repeat, pipeline).await,
            Self::MongoDb(documents) => documents.begin_floor().await,
        }
    }

    /// Commits the updates; where the last one is.
    pub(crate) async fn write(&self, backlog: &Backlog<'_>) -> Result<Position> {
        match self {
            Self::Postgres(reservations) => reservations.write(backlog).await,
            Self::MongoDb(documents) => documents.write(backlog).await,
        }
    }

    /// How long a bare client takes to receive the backlog.
    pub(crate) async fn floor(
        &self,
        repeat: usize,
        backlog: &Backlog<'_>,
        end: &Position,
    ) -> Result<Duration> {
        match self {
            Self::Postgres(reservations) => reservations.floor(repeat, end).await,
            Self::MongoDb(documents) => documents.floor(backlog.rows).await,
        }
    }

    /// Whether everything up to `end` was published.
    pub(crate) async fn is_drained(
        &self,
        pipeline: &Pipeline,
        process: &Process,
        end: &Position,
    ) -> Result<bool> {
        match self {
            Self::Postgres(reservations) => reservations.is_drained(pipeline, end).await,
            Self::MongoDb(documents) => documents.is_drained(process, end).await,
        }
    }

    /// A bare client that notes when each change reaches it.
    pub(crate) async fn follow(
        &self,
        received: Times,
        start: Instant,
    ) -> Result<JoinHandle<Result<()>>> {
        Ok(match self {
            Self::Postgres(reservations) => {
                tokio::spawn(reservations.follow(received, start).await?)
            }
            Self::MongoDb(documents) => tokio::spawn(documents.follow(received, start).await?),
        })
    }

    pub(crate) async fn writer(&self) -> Result<Writer> {
        Ok(match self {
            Self::Postgres(reservations) => {
                let (client, update) = reservations.writer().await?;
                Writer::Postgres(client, update)
            }
            Self::MongoDb(documents) => Writer::MongoDb(documents.writer()),
        })
    }
}

/// Makes one update at a time.
pub(crate) enum Writer {
    Postgres(Client, Statement),
    MongoDb(Collection<Document>),
}

impl Writer {
    /// Returns once the source acknowledged the update with this number.
    pub(crate) async fn write(&self, number: u64) -> Result<()> {
        match self {
            Self::Postgres(client, update) => reservations::write_one(client, update, number).await,
            Self::MongoDb(segments) => documents::write_one(segments, number).await,
        }
    }
}
