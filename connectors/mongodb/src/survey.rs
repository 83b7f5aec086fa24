//! What the servers tell of their collections before any mapping names them: for `init`.
//!
//! MongoDB declares no fields, so they are read from documents: all of a small collection, some of a large one, taken at
//! random, with a limit of documents, of bytes and of time. Reads only.
//!
//! - `candidates`: which collections could be captured
//! - `fields`: what documents have in common; pure

mod candidates;
mod fields;

use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::Client;
use mongodb::error::Error;
use rowbridge_api::survey::{Basis, BeforeImage, Candidate, Enabling, Extent, Seen, Survey};
use rowbridge_api::{SourceError, State, TableName};

use crate::check::{IMAGES_COST, enabling_images};
use crate::client;
use crate::config::MongoConfig;
use crate::error::{code, failed, said, server_code};
use fields::Fields;

/// How much of a collection is looked at, and for how long.
#[derive(Clone, Debug)]
pub struct SurveyLimits {
    /// Documents whose fields and types are counted.
    pub documents: usize,
    /// Once their bytes are so many, no more of them are read.
    pub bytes: usize,
    /// Documents that are returned as samples.
    pub sample_rows: usize,
    /// A larger document is no sample.
    pub sample_row_bytes: usize,
    /// More different values than this are not few.
    pub few_values: usize,
    /// Of more fields, those that most documents have are taken.
    pub fields: usize,
    /// Longest that the server may work on the documents of one collection.
    pub read_timeout: Duration,
}

impl Default for SurveyLimits {
    fn default() -> Self {
        Self {
            documents: 1_000,
            bytes: 16 << 20,
            sample_rows: 25,
            sample_row_bytes: 16 << 10,
            few_values: 24,
            fields: 200,
            read_timeout: Duration::from_secs(10),
        }
    }
}

/// A client that looks at collections.
pub struct Surveyor {
    client: Client,
    limits: SurveyLimits,
    /// The one database that the URL names; all of them if it names none.
    database: Option<String>,
}

/// The documents that were looked at.
struct Looked {
    documents: Vec<RawDocumentBuf>,
    of: Seen,
    remark: Option<String>,
}

impl Surveyor {
    /// Connects.
    ///
    /// # Errors
    /// The servers cannot be reached, refuse us, or have no change streams.
    pub async fn connect(config: &MongoConfig, limits: SurveyLimits) -> Result<Self, SourceError> {
        let client = client::connect(config).await?;
        let deployment = client::deployment(&client)
            .await
            .map_err(|error| failed("cannot reach MongoDB", error))?;
        deployment.refuse()?;
        let named = client.default_database();
        let database = named.map(|database| database.name().to_owned());
        Ok(Self {
            client,
            limits,
            // Where users are kept, and no collection of an application.
            database: database.filter(|name| name != "admin"),
        })
    }

    /// Every collection that is not the servers' own, by name.
    ///
    /// # Errors
    /// They cannot be listed.
    pub async fn candidates(&self) -> Result<Vec<Candidate>, SourceError> {
        candidates::read(&self.client, self.database.as_deref()).await
    }

    /// How much there is of collections, whatever columns are asked for; nothing for one that is not there.
    ///
    /// # Errors
    /// They cannot be listed.
    pub async fn extents(
        &self,
        tables: &[(TableName, Vec<String>)],
    ) -> Result<Vec<Option<Extent>>, SourceError> {
        let candidates = self.candidates().await?;
        let mut extents = Vec::new();
        for (table, _) in tables {
            extents.push(
                match candidates.iter().find(|known| known.table == *table) {
                    Some(known) => Some(self.extent(known).await),
                    None => None,
                },
            );
        }
        Ok(extents)
    }

    async fn extent(&self, known: &Candidate) -> Extent {
        let Candidate { table, .. } = known;
        let asked = doc! { "collStats": &table.name };
        // Not every user may ask.
        let told = self.client.database(&table.schema).run_command(asked).await;
        let average = told.ok().and_then(|told| match told.get("avgObjSize") {
            Some(Bson::Int32(bytes)) => u64::try_from(*bytes).ok(),
            Some(Bson::Int64(bytes)) => u64::try_from(*bytes).ok(),
            _ => None,
        });
        Extent {
            table: table.clone(),
            rows: known.rows,
            row_bytes: average,
            before: known.before.clone(),
            enabling: enabling(known),
        }
    }

    /// Looks at `tables`, in their order.
    ///
    /// # Errors
    /// A collection is not there, has no documents, or may not be read.
    pub async fn survey(&self, tables: &[TableName]) -> Result<Vec<Survey>, SourceError> {
        let candidates = self.candidates().await?;
        let mut surveys = Vec::new();
        for table in tables {
            let known = candidates.iter().find(|known| known.table == *table);
            let known = known.ok_or_else(|| {
                SourceError::refused(
                    State::Invalid,
                    format!("collection {table} does not exist or is not visible to this user"),
                    "`rowbridge init` without --table lists the collections",
                )
            })?;
            surveys.push(self.collection(known).await?);
        }
        Ok(surveys)
    }

    async fn collection(&self, known: &Candidate) -> Result<Survey, SourceError> {
        let Candidate { table, .. } = known;
        let looked = self.look(known).await?;
        if looked.documents.is_empty() {
            let problem = format!("{table} has {}", candidates::EMPTY);
            let hint = "insert one first, or leave it out";
            return Err(SourceError::refused(State::Invalid, problem, hint));
        }
        let mut fields = Fields::default();
        for document in &looked.documents {
            fields.add(document, self.limits.few_values);
        }
        let mut remarks: Vec<String> = looked.remark.into_iter().collect();
        let left_out = fields.keep_most_common(self.limits.fields);
        if left_out > 0 {
            remarks.push(format!(
                "{left_out} fields that few of its documents have are left out"
            ));
        }
        let mut columns = fields.columns(self.limits.few_values);
        for column in &mut columns {
            column.length = match known.before {
                BeforeImage::Whole => rowbridge_api::survey::Length::AlwaysSent,
                _ if column.name == "_id" => rowbridge_api::survey::Length::AlwaysSent,
                _ => rowbridge_api::survey::Length::LeftOut,
            };
        }
        let samples = looked
            .documents
            .iter()
            .filter(|document| document.as_bytes().len() <= self.limits.sample_row_bytes)
            .filter_map(|document| fields::row(document, &columns))
            .take(self.limits.sample_rows)
            .collect();
        Ok(Survey {
            table: table.clone(),
            rows: known.rows,
            basis: Basis::Rows {
                seen: looked.documents.len(),
                of: looked.of,
            },
            columns,
            key: known.key.clone(),
            unique: Vec::new(),
            before: known.before.clone(),
            enabling: enabling(known),
            references: Vec::new(),
            samples,
            remarks,
        })
    }

    /// All documents of a small collection, or some of a large one.
    async fn look(&self, known: &Candidate) -> Result<Looked, SourceError> {
        let limit = self.limits.documents;
        let is_small = known
            .rows
            .is_some_and(|rows| usize::try_from(rows).is_ok_and(|rows| rows < limit));
        let size = i64::try_from(limit).unwrap_or(i64::MAX);
        if is_small {
            let looked = self
                .read(&known.table, doc! { "$limit": size }, Seen::All)
                .await?;
            // Else it had more than it was counted to have.
            if looked.documents.len() < limit {
                return Ok(looked);
            }
        }
        let sample = doc! { "$sample": { "size": size } };
        self.read(&known.table, sample, Seen::AtRandom).await
    }

    async fn read(
        &self,
        table: &TableName,
        stage: Document,
        of: Seen,
    ) -> Result<Looked, SourceError> {
        let not_read = |error| self.not_read(table, error);
        let mut cursor = self
            .client
            .database(&table.schema)
            .collection::<RawDocumentBuf>(&table.name)
            .aggregate([stage])
            .max_time(self.limits.read_timeout)
            .with_type::<RawDocumentBuf>()
            .await
            .map_err(not_read)?;
        let (mut documents, mut bytes) = (Vec::new(), 0);
        while let Some(document) = cursor.try_next().await.map_err(not_read)? {
            bytes += document.as_bytes().len();
            documents.push(document);
            if bytes > self.limits.bytes {
                let remark = format!(
                    "its documents are large, so no more than {} were looked at",
                    documents.len()
                );
                return Ok(Looked {
                    documents,
                    of: Seen::AtRandom,
                    remark: Some(remark),
                });
            }
        }
        Ok(Looked {
            documents,
            of,
            remark: None,
        })
    }

    fn not_read(&self, table: &TableName, error: Error) -> SourceError {
        let doing = format!("cannot look at documents of {table}");
        match server_code(&error) {
            Some(code::UNAUTHORIZED) => candidates::no_right(&doing, &table.schema, &error),
            Some(code::MAX_TIME_MS_EXPIRED) => SourceError::refused(
                State::Invalid,
                format!(
                    "{doing}: it took longer than {} s: {}",
                    self.limits.read_timeout.as_secs(),
                    said(&error)
                ),
                "try again when the servers have less to do, or at a secondary: readPreference=secondary in the URL",
            ),
            _ => failed(&doing, error),
        }
    }
}

/// What makes a collection keep its documents as they were, where it does not.
fn enabling(known: &Candidate) -> Option<Enabling> {
    (known.before != BeforeImage::Whole).then(|| Enabling {
        statement: enabling_images(&known.table),
        cost: IMAGES_COST.to_owned(),
    })
}
