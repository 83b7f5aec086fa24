//! Looks at tables with whichever connector the database takes.

use rowbridge_api::survey::{Candidate, Extent, Survey};
use rowbridge_api::{SourceError, TableName};

use super::database::Settings;

/// A session with a database.
pub(in crate::cli) enum AnySurveyor {
    Postgres(rowbridge_postgres::Surveyor),
    MongoDb(rowbridge_mongodb::Surveyor),
}

impl AnySurveyor {
    pub(super) async fn connect(settings: &Settings) -> Result<Self, SourceError> {
        Ok(match settings {
            Settings::Postgres(config) => {
                let limits = rowbridge_postgres::SurveyLimits::default();
                Self::Postgres(rowbridge_postgres::Surveyor::connect(config, limits).await?)
            }
            Settings::MongoDb(config) => {
                let limits = rowbridge_mongodb::SurveyLimits::default();
                let connecting = rowbridge_mongodb::Surveyor::connect(config, limits);
                Self::MongoDb(Box::pin(connecting).await?)
            }
        })
    }

    pub(super) async fn candidates(&self) -> Result<Vec<Candidate>, SourceError> {
        match self {
            Self::Postgres(surveyor) => surveyor.candidates().await,
            Self::MongoDb(surveyor) => Box::pin(surveyor.candidates()).await,
        }
    }

    pub(in crate::cli) async fn extents(
        &self,
        tables: &[(TableName, Vec<String>)],
    ) -> Result<Vec<Option<Extent>>, SourceError> {
        match self {
            Self::Postgres(surveyor) => surveyor.extents(tables).await,
            Self::MongoDb(surveyor) => Box::pin(surveyor.extents(tables)).await,
        }
    }

    pub(super) async fn survey(&self, tables: &[TableName]) -> Result<Vec<Survey>, SourceError> {
        match self {
            Self::Postgres(surveyor) => surveyor.survey(tables).await,
            Self::MongoDb(surveyor) => Box::pin(surveyor.survey(tables)).await,
        }
    }
}
