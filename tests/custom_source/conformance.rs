//! The suite that the shipped connectors pass.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rowbridge_api::testkit::conformance::{
    Acknowledged, Row, Subject, Violation, Write, violations,
};
use rowbridge_api::{LogSource, TableName};

use crate::custom_source::{Folder, table};
use crate::legacy::Legacy;

/// The folder with the rows that it tells of, as an update is exported with the whole row.
struct Exports {
    legacy: Legacy,
    rows: Mutex<BTreeMap<i64, Row>>,
}

impl Exports {
    fn new() -> Result<Self, Violation> {
        Ok(Self {
            legacy: Legacy::start().map_err(|error| Violation::new(error.to_string()))?,
            rows: Mutex::default(),
        })
    }
}

impl Subject for Exports {
    type Source = LogSource<Folder>;

    async fn reset(&mut self) -> Result<(), Violation> {
        *self = Self::new()?;
        Ok(())
    }

    fn table(&self) -> TableName {
        table()
    }

    fn source(&self) -> LogSource<Folder> {
        LogSource::new(Folder::new(self.legacy.folder.path()))
    }

    async fn commit(&self, writes: &[Write]) -> Result<(), Violation> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: String = writes.iter().map(|write| line(&mut rows, write)).collect();
        let exported = self.legacy.export(&lines);
        exported.map_err(|error| Violation::new(error.to_string()))
    }

    async fn acknowledged(&self) -> Result<Acknowledged, Violation> {
        Ok(Acknowledged::Never)
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// The line of one write.
fn line(rows: &mut BTreeMap<i64, Row>, write: &Write) -> String {
    let (old_id, row) = match write.clone() {
        Write::Insert(row) => (None, Some(row)),
        Write::Rename { id, name } => {
            let renamed = rows.get(&id).map(|row| Row {
                name,
                ..row.clone()
            });
            (Some(id), renamed)
        }
        Write::Rekey { from, to } => {
            let moved = rows.get(&from).map(|row| Row {
                id: to,
                ..row.clone()
            });
            (Some(from), moved)
        }
        Write::Delete { id } => (Some(id), None),
    };
    let mut line = String::new();
    if let Some(id) = old_id {
        rows.remove(&id);
        write!(line, "{id}").expect("a String takes all writes");
    }
    match row {
        None => line.push_str(",,,\n"),
        Some(row) => {
            let (name, notes) = (&row.name, &row.notes);
            let [name, notes] = [name, notes].map(|cell| cell.clone().unwrap_or_default());
            writeln!(line, ",{},{name},{notes}", row.id).expect("a String takes all writes");
            rows.insert(row.id, row);
        }
    }
    line
}

#[tokio::test]
async fn the_folder_keeps_every_promise() -> Result<(), Violation> {
    let violations = violations(&mut Exports::new()?).await;
    assert!(violations.is_empty(), "{violations:#?}");
    Ok(())
}
