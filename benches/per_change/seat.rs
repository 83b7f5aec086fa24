//! The row that the changes are of, and the mapping that reads it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rowbridge::mapping::{Mapping, Pack, SourceFile};

/// A segment before the update, in the order of `schema.toml`.
pub(crate) const BEFORE: [&str; 12] = [
    "7",
    "QX4RTZ",
    "9000002",
    "BA117",
    "2026-12-01",
    "Y",
    "M",
    "12A",
    "310.00",
    "OPEN",
    "web",
    "2026-11-20 09:00:00+00",
];

/// What an update changes: number of the column, and its new value.
pub(crate) type Update = [(usize, &'static str)];

const NO_EVENT: [(usize, &str); 1] = [(11, "2026-11-20 10:15:00+00")];
pub(crate) const ONE_EVENT: [(usize, &str); 1] = [(7, "14C")];
const THREE_EVENTS: [(usize, &str); 3] = [(6, "K"), (7, "14C"), (8, "275.00")];

/// By how many events each gives.
pub(crate) const UPDATES: [(&str, &Update); 3] = [
    ("nothing fires", &NO_EVENT),
    ("one event", &ONE_EVENT),
    ("three events", &THREE_EVENTS),
];

/// The segment after an update.
pub(crate) fn after(update: &Update) -> [&'static str; 12] {
    let mut row = BEFORE;
    for (column, value) in update {
        row[*column] = value;
    }
    row
}

pub(crate) fn mapping() -> Result<Arc<Mapping>> {
    let pack = Pack {
        mapping: file("mapping.toml")?,
        schema: file("schema.toml")?,
        params: toml::Table::new(),
    };
    Ok(Arc::new(Mapping::compile(&pack)?.0))
}

fn file(name: &str) -> Result<SourceFile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/airline");
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(SourceFile {
        name: name.to_owned(),
        text,
    })
}
