//! What the command line does around a pipeline that does not run: look at its slot, remove what it left.

use rowbridge_api::{Position, SourceError, State, TableNeeds};

use crate::config::PostgresConfig;
use crate::publication;
use crate::slot::{self, SlotState};
use crate::source::{no_slot_wanted, object_name};
use crate::sql::{Sql, literal, quote};
use crate::wire::{Link, Purpose};

/// The pipeline's slot as the server shows it, or nothing.
///
/// # Errors
/// The server cannot be reached or asked.
pub async fn slot_state(
    config: &PostgresConfig,
    pipeline: &str,
) -> Result<Option<SlotState>, SourceError> {
    let sql = Sql::connect(config).await?;
    slot::read(&sql, &object_name(pipeline)).await
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    Removed,
    /// There was none.
    Absent,
    /// Somebody else made it; the statement removes it.
    Left {
        statement: String,
    },
}

/// What [`drop_slot_and_publication`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removals {
    pub slot: Removal,
    pub publication: Removal,
}

/// Removes the pipeline's slot, so that the server keeps no WAL for it, and its publication where
/// Rowbridge creates it.
///
/// # Errors
/// Refused while an instance holds the slot, or if slot is another program's.
pub async fn drop_slot_and_publication(
    config: &PostgresConfig,
    pipeline: &str,
) -> Result<Removals, SourceError> {
    let name = object_name(pipeline);
    let sql = Sql::connect(config).await?;
    let slot = match slot::read(&sql, &name).await? {
        None => Removal::Absent,
        Some(state) => {
            drop_slot(&sql, config, &state).await?;
            Removal::Removed
        }
    };
    let publication = match publication::read(&sql, &name).await? {
        None => Removal::Absent,
        Some(_) => {
            let statement = format!("DROP PUBLICATION {};", quote(&name));
            if config.create_publication {
                sql.execute(&format!("drop publication {name}"), &statement)
                    .await?;
                Removal::Removed
            } else {
                Removal::Left { statement }
            }
        }
    };
    Ok(Removals { slot, publication })
}

async fn drop_slot(
    sql: &Sql,
    config: &PostgresConfig,
    state: &SlotState,
) -> Result<(), SourceError> {
    if let Some(holder) = &state.holder {
        return Err(SourceError::refused(
            State::Invalid,
            format!("slot {} is in use by {holder}", state.name),
            "stop the running instance first",
        ));
    }
    match state.usable(&config.database) {
        // A lost slot is of no use to anybody.
        Ok(())
        | Err(SourceError::Refused {
            state: State::SlotLost,
            ..
        }) => {}
        Err(error) => return Err(error),
    }
    let statement = format!(
        "SELECT pg_drop_replication_slot({});",
        literal(&state.name).trim_start()
    );
    sql.execute(&format!("drop slot {}", state.name), &statement)
        .await
}

/// Removes only the slot, and keeps the publication.
///
/// # Errors
/// As [`drop_slot_and_publication`].
pub async fn remove_slot(config: &PostgresConfig, pipeline: &str) -> Result<Removal, SourceError> {
    let sql = Sql::connect(config).await?;
    match slot::read(&sql, &object_name(pipeline)).await? {
        None => Ok(Removal::Absent),
        Some(state) => {
            drop_slot(&sql, config, &state).await?;
            Ok(Removal::Removed)
        }
    }
}

/// Makes the slot, which must not exist, and before it the publication if that is missing. Reads no row;
/// returns where the slot's stream starts.
///
/// # Errors
/// Rights or settings are missing, or the configuration leaves the slot to the DBA.
pub async fn make_slot(
    config: &PostgresConfig,
    pipeline: &str,
    needs: &[TableNeeds],
) -> Result<Position, SourceError> {
    let name = object_name(pipeline);
    if !config.create_slot {
        return Err(no_slot_wanted(&name));
    }
    let sql = Sql::connect(config).await?;
    publication::prepare(&sql, config, &name, needs).await?;
    let link = Link::connect(config, Purpose::Replication).await;
    let mut link = link.map_err(|error| error.while_doing("cannot open a replication session"))?;
    let created = slot::create(&mut link, &sql, &name, slot::Lives::On).await?;
    Ok(Position::new(created.consistent_point))
}

/// Takes the pipeline's publication as it is now, with the tables that were taken out and put back: what was
/// committed meanwhile is given up. Does nothing where Rowbridge did not create it.
///
/// # Errors
/// The server cannot be asked, or the role does not own the publication.
pub async fn accept_publication(
    config: &PostgresConfig,
    pipeline: &str,
) -> Result<(), SourceError> {
    let sql = Sql::connect(config).await?;
    publication::accept(&sql, &object_name(pipeline)).await
}
