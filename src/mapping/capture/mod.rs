//! Captures: real changes kept so that they can be evaluated again, exactly as the daemon did.
//!
//! A capture is change JSON ([`super::change_json`]) with lines of its own. The first is its header; the shape of a
//! table stands before the table's first change, and again where it changed; the last line says how much there is,
//! so that a capture which was cut off is known for one. Cells are the source's own text, positions and ordinals are
//! kept: what is evaluated again has the same keys, bodies and event ids. `docs/operations.md` specifies the lines.
//!
//! Not here: files and compression.

mod delimiters;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
mod writer;

use rowbridge_api::{Column, Identity, Position, TableName};
use serde::{Deserialize, Serialize};

use super::Stamp;
pub use writer::{Counts, Writer};

/// The form that this version writes, and the only one it reads.
const FORMAT: u32 = 1;

/// The first line: where the changes come from, and what read them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Always [`FORMAT`]; what it is called marks the line.
    capture: u32,
    /// Version of the Rowbridge that wrote it.
    pub rowbridge: String,
    pub pipeline: String,
    pub identity: Identity,
    pub mapping: Recorded,
    pub max_record_bytes: usize,
    /// When it began, as RFC 3339.
    pub recorded: String,
    /// Where it began; nothing where the source never said.
    pub start: Option<String>,
    pub tables: Vec<TableLine>,
}

/// The mapping whose columns were recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    pub name: String,
    pub version: u32,
    pub hash: String,
}

/// A table, or in a line of its own also its shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableLine {
    /// What the changes call it.
    pub table: String,
    pub schema: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    columns: Vec<ColumnLine>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ColumnLine {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    /// Of the arrays in the type, where its name does not tell them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delimiters: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    key: bool,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::mapping) struct End {
    pub(in crate::mapping) changes: u64,
    pub(in crate::mapping) transactions: u64,
    /// Where it ended.
    position: Option<String>,
    /// Whether the last transaction is there to its end.
    whole: bool,
}

impl Header {
    /// The header of what `stamp`'s pipeline records from now on with `mapping`.
    #[must_use]
    pub fn new(mapping: &super::Mapping, stamp: &Stamp, recorded: String) -> Self {
        let tables = mapping.tables().map(|(short, source)| TableLine {
            table: short.to_owned(),
            schema: source.schema.clone(),
            name: source.name.clone(),
            columns: Vec::new(),
        });
        Self {
            capture: FORMAT,
            rowbridge: env!("CARGO_PKG_VERSION").to_owned(),
            pipeline: stamp.pipeline.clone(),
            identity: stamp.identity.clone(),
            mapping: Recorded {
                name: mapping.name().to_owned(),
                version: mapping.version(),
                hash: mapping.hash().to_owned(),
            },
            max_record_bytes: stamp.max_record_bytes,
            recorded,
            start: None,
            tables: tables.collect(),
        }
    }

    /// The header that `line` is, or what is wrong with it; nothing if it is none.
    ///
    /// # Errors
    /// Another version's header, or one that lacks something.
    pub fn parse(line: &str) -> Option<Result<Self, String>> {
        #[derive(Deserialize)]
        struct Mark {
            capture: u32,
            #[serde(default)]
            rowbridge: String,
        }
        let mark: Mark = serde_json::from_str(line).ok()?;
        if mark.capture != FORMAT {
            return Some(Err(format!(
                "a capture of format {} by Rowbridge {}; this is Rowbridge {} and reads format {FORMAT}",
                mark.capture,
                mark.rowbridge,
                env!("CARGO_PKG_VERSION")
            )));
        }
        Some(
            serde_json::from_str(line)
                .map_err(|error| format!("not the header of a capture: {error}")),
        )
    }

    /// What the events of these changes were stamped with, and are again.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp {
            pipeline: self.pipeline.clone(),
            identity: self.identity.clone(),
            max_record_bytes: self.max_record_bytes,
        }
    }

    fn begin_at(&mut self, position: &Position) {
        self.start = Some(position.to_string());
    }
}

impl TableLine {
    pub(in crate::mapping) fn source(&self) -> TableName {
        TableName::new(&self.schema, &self.name)
    }

    /// # Errors
    /// What no source has.
    pub(in crate::mapping) fn columns(&self) -> Result<Vec<Column>, &'static str> {
        if u16::try_from(self.columns.len()).is_err() {
            return Err("more columns than a table can have");
        }
        let columns = self.columns.iter();
        columns
            .map(|column| {
                Ok(Column {
                    name: column.name.clone(),
                    ty: delimiters::typed(&column.ty, column.delimiters.as_deref())?,
                    key: column.key,
                })
            })
            .collect()
    }
}
