//! Which collections could be captured.

use bson::raw::RawDocumentBuf;
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::Client;
use mongodb::error::Error;
use rowbridge_api::survey::{BeforeImage, Candidate};
use rowbridge_api::{SourceError, State, TableName};

use crate::check::keeps_images;
use crate::error::{code, failed, said, server_code};

/// Databases of the servers themselves.
const OWN: [&str; 3] = ["admin", "config", "local"];
/// Why nothing can be said of a collection, after what it is called.
pub(super) const EMPTY: &str =
    "no documents, and MongoDB declares no fields: there is nothing to make a mapping from";
const DOING: &str = "cannot list the collections";

/// Those of one database, or of all.
pub(super) async fn read(
    client: &Client,
    only: Option<&str>,
) -> Result<Vec<Candidate>, SourceError> {
    let databases = match only {
        Some(database) => vec![database.to_owned()],
        None => databases(client).await?,
    };
    let mut candidates = Vec::new();
    for database in &databases {
        candidates.extend(collections(client, database).await?);
    }
    candidates.sort_by(|a: &Candidate, b| a.table.cmp(&b.table));
    Ok(candidates)
}

/// The databases in which this user may do anything.
async fn databases(client: &Client) -> Result<Vec<String>, SourceError> {
    let list = doc! { "listDatabases": 1, "nameOnly": true, "authorizedDatabases": true };
    let listed = client.database("admin").run_command(list).await;
    let listed = listed.map_err(|error| failed(DOING, error))?;
    let databases = listed.get_array("databases").cloned().unwrap_or_default();
    let names = databases
        .iter()
        .filter_map(Bson::as_document)
        .filter_map(|database| database.get_str("name").ok());
    Ok(names
        .filter(|name| !OWN.contains(name))
        .map(str::to_owned)
        .collect())
}

async fn collections(client: &Client, database: &str) -> Result<Vec<Candidate>, SourceError> {
    let refused = |error: Error| match server_code(&error) {
        Some(code::UNAUTHORIZED) => no_right(DOING, database, &error),
        _ => failed(DOING, error),
    };
    let listed: Vec<Document> = client
        .database(database)
        .run_cursor_command(doc! { "listCollections": 1 })
        .await
        .map_err(refused)?
        .try_collect()
        .await
        .map_err(refused)?;
    let mut candidates = Vec::new();
    for info in &listed {
        let name = info.get_str("name").unwrap_or_default();
        // `system.buckets.*` holds a time series, and so on.
        if name.is_empty() || name.starts_with("system.") {
            continue;
        }
        candidates.push(candidate(client, TableName::new(database, name), info).await);
    }
    Ok(candidates)
}

async fn candidate(client: &Client, table: TableName, info: &Document) -> Candidate {
    let key = vec!["_id".to_owned()];
    let mut candidate = Candidate {
        rows: None,
        bytes: 0,
        before: match keeps_images(info) {
            true => BeforeImage::Whole,
            false => BeforeImage::Columns(key.clone()),
        },
        key,
        obstacle: obstacle(info.get_str("type").unwrap_or("collection")).map(str::to_owned),
        table,
    };
    if candidate.obstacle.is_some() {
        return candidate;
    }
    let collection = client
        .database(&candidate.table.schema)
        .collection::<RawDocumentBuf>(&candidate.table.name);
    // Where this user may not look, the survey says so.
    candidate.rows = collection.estimated_document_count().await.ok();
    let is_empty = async || matches!(collection.find_one(doc! {}).await, Ok(None));
    // The count is a guess after a crash.
    if candidate.rows == Some(0) && is_empty().await {
        candidate.obstacle = Some(format!("it has {EMPTY}"));
    }
    candidate
}

fn obstacle(kind: &str) -> Option<&'static str> {
    match kind {
        "view" => Some("a view: it has no changes of its own"),
        "timeseries" => Some("a time series: the servers tell no changes of it"),
        _ => None,
    }
}

/// What this user needs to look at a database.
pub(super) fn no_right(doing: &str, database: &str, error: &Error) -> SourceError {
    SourceError::refused(
        State::Invalid,
        format!("{doing} of database {database}: {}", said(error)),
        format!(
            "the role that `rowbridge check` prints lets this user, and so does read: \
             db.getSiblingDB(\"admin\").grantRolesToUser(USER, [{{ role: \"read\", db: \"{database}\" }}])"
        ),
    )
}
