//! The images of cases as documents of MongoDB, of the types that schema.toml says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bson::{Bson, DateTime, Document};
use serde_json::Value;

use crate::init::Case;

/// What the pack says of its tables.
pub(crate) struct Declared {
    /// By short name.
    pub(crate) collections: BTreeMap<String, String>,
    schema: toml::Table,
}

impl Declared {
    pub(crate) fn read(pack: &Path) -> Result<Self> {
        let read =
            |name: &str| anyhow::Ok(fs::read_to_string(pack.join(name))?.parse::<toml::Table>()?);
        let mapping = read("mapping.toml")?;
        let tables = mapping["tables"].as_table().context("[tables]")?;
        let collections = tables.iter().map(|(short, name)| {
            let name = name.as_str().and_then(|name| name.split_once('.'));
            Ok((short.clone(), name.context("a name")?.1.to_owned()))
        });
        Ok(Self {
            collections: collections.collect::<Result<_>>()?,
            schema: read("schema.toml")?,
        })
    }

    /// An image of a case as a document of the types that schema.toml says.
    pub(crate) fn document(&self, table: &str, image: &toml::Table) -> Document {
        let columns = &self.schema[table]["columns"];
        let cells = image.iter().map(|(name, cell)| {
            let ty = columns[name.as_str()].as_str().unwrap_or_default();
            (name.clone(), value(ty, cell))
        });
        cells.collect()
    }

    /// The document that a change starts from; `row` is that of the collection's insert.
    pub(crate) fn old(&self, case: &Case, row: &Document) -> Document {
        let mut old = row.clone();
        if let Some(before) = &case.before {
            old.extend(self.document(&case.table, before));
        } else if let Some(after) = &case.after {
            // What the update sets was not there.
            for (name, value) in self.document(&case.table, after) {
                match name.as_str() {
                    "_id" => drop(old.insert(name, value)),
                    _ => drop(old.remove(&name)),
                }
            }
        }
        old
    }
}

fn value(ty: &str, cell: &toml::Value) -> Bson {
    match (ty, cell) {
        (_, toml::Value::Table(_)) => Bson::Null,
        (_, toml::Value::Boolean(flag)) => Bson::Boolean(*flag),
        ("int32", toml::Value::Integer(number)) => {
            Bson::Int32(i32::try_from(*number).expect("an int32"))
        }
        (_, toml::Value::Integer(number)) => Bson::Int64(*number),
        (ty, toml::Value::String(text)) => match ty {
            "objectid" => Bson::ObjectId(text.parse().expect("an id")),
            "decimal128" => Bson::Decimal128(text.parse().expect("a decimal")),
            "double" => Bson::Double(text.parse().expect("a number")),
            "datetime" => {
                let text = text.replace(' ', "T").replace("+00", "Z");
                Bson::DateTime(DateTime::parse_rfc3339_str(&text).expect("a date"))
            }
            "document" | "bson" => {
                let json: Value = serde_json::from_str(text).expect("JSON");
                of_json(&json)
            }
            _ => Bson::String(text.clone()),
        },
        (ty, cell) => panic!("{cell} as {ty}"),
    }
}

/// What reads as this JSON again.
fn of_json(json: &Value) -> Bson {
    match json {
        Value::Null => Bson::Null,
        Value::Bool(flag) => Bson::Boolean(*flag),
        Value::Number(number) => Bson::Int64(number.as_i64().expect("an integer")),
        Value::String(text) => Bson::String(text.clone()),
        Value::Array(elements) => Bson::Array(elements.iter().map(of_json).collect()),
        Value::Object(members) => {
            let members = members.iter();
            Bson::Document(
                members
                    .map(|(name, value)| (name.clone(), of_json(value)))
                    .collect(),
            )
        }
    }
}
