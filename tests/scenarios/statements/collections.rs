//! Cases as writes of documents on real collections.

use anyhow::{Context, Result};
use bson::{Bson, DateTime, Document, doc};
use mongodb::{ClientSession, Collection, Database};
use serde_json::Value;

use super::Legacy;
use super::case_file::{ChangeOf, Declared, RowOf};

/// The collections of a pack in a database.
pub(crate) struct Collections(pub(crate) Database);

impl Collections {
    fn of(&self, declared: &Declared, short: &str) -> Collection<Document> {
        let source = declared.source(short);
        let (_, name) = source.split_once('.').expect("database and collection");
        self.0.collection(name)
    }

    async fn change(
        &self,
        declared: &Declared,
        change: &ChangeOf,
        session: &mut ClientSession,
    ) -> Result<()> {
        let collection = self.of(declared, &change.table);
        let found = document(declared, &change.table, &change.key(declared));
        let whole = change.after.as_ref();
        let whole = whole.map(|after| document(declared, &change.table, after));
        match (change.op.as_str(), whole) {
            ("delete", _) => {
                collection.delete_one(found).session(session).await?;
            }
            ("insert", Some(after)) => {
                collection.insert_one(after).session(session).await?;
            }
            (_, Some(after)) if after.keys().any(|name| name.contains('.')) => {
                // `$set` would take the name for a path.
                let replaced = collection.replace_one(found, after);
                replaced.session(session).await?;
            }
            (_, Some(_)) => {
                let update = update(declared, change, &found);
                collection
                    .update_one(found, update)
                    .session(session)
                    .await?;
            }
            (op, None) => anyhow::bail!("an {op} without a row"),
        }
        Ok(())
    }
}

impl Legacy for Collections {
    async fn empty(&self, declared: &Declared) -> Result<()> {
        for (short, _) in &declared.tables {
            self.of(declared, short).delete_many(doc! {}).await?;
        }
        Ok(())
    }

    async fn put(&self, declared: &Declared, rows: &[RowOf]) -> Result<()> {
        for RowOf { table, row } in rows {
            let found = document(declared, table, &declared.key_of(table, row));
            let row = document(declared, table, row);
            let collection = self.of(declared, table);
            collection.replace_one(found, row).upsert(true).await?;
        }
        Ok(())
    }

    async fn write(&self, declared: &Declared, transaction: &[ChangeOf]) -> Result<()> {
        let mut session = self.0.client().start_session().await?;
        let is_one = transaction.len() == 1;
        if !is_one {
            session.start_transaction().await?;
        }
        for change in transaction {
            let written = self.change(declared, change, &mut session).await;
            written.with_context(|| format!("{} of {}", change.op, change.table))?;
        }
        if !is_one {
            session.commit_transaction().await?;
        }
        Ok(())
    }

    async fn mark(&self) -> Result<u64> {
        let answer = self.0.run_command(doc! { "ping": 1 }).await?;
        let present = answer.get_timestamp("operationTime")?;
        Ok(u64::from(present.time) << 32 | u64::from(present.increment))
    }
}

/// `$set` and `$unset` of what differs from the document before; of one that is written as it is, all of it.
fn update(declared: &Declared, change: &ChangeOf, found: &Document) -> Document {
    let mut set = document(
        declared,
        &change.table,
        &change.assigned(&toml::Table::new()),
    );
    let after = change.after.clone().unwrap_or_default();
    if set.is_empty() {
        set = document(declared, &change.table, &after);
    }
    for key in found.keys() {
        set.remove(key);
    }
    let before = change.before.iter().flat_map(toml::Table::keys);
    let unset: Document = before
        .filter(|name| !after.contains_key(*name))
        .map(|name| (name.clone(), Bson::from("")))
        .collect();
    let mut update = doc! {};
    for (operator, fields) in [("$set", set), ("$unset", unset)] {
        if !fields.is_empty() {
            update.insert(operator, fields);
        }
    }
    update
}

/// An image of a case as a document of the types that schema.toml says.
fn document(declared: &Declared, table: &str, image: &toml::Table) -> Document {
    let cells = image
        .iter()
        .map(|(name, cell)| (name.clone(), value(declared.ty(table, name), cell)));
    cells.collect()
}

fn value(ty: &str, cell: &toml::Value) -> Bson {
    match (ty, cell) {
        ("document" | "array" | "bson", toml::Value::Table(_) | toml::Value::Array(_)) => {
            of_json(&json(cell))
        }
        (_, toml::Value::Table(_)) => Bson::Null,
        (_, toml::Value::Boolean(flag)) => Bson::Boolean(*flag),
        ("int32", toml::Value::Integer(number)) => {
            Bson::Int32(i32::try_from(*number).expect("an int32"))
        }
        ("double", toml::Value::Float(number)) => Bson::Double(*number),
        (_, toml::Value::Integer(number)) => Bson::Int64(*number),
        (ty, toml::Value::String(text)) => match ty {
            "objectid" => Bson::ObjectId(text.parse().expect("an id")),
            "decimal128" => Bson::Decimal128(text.parse().expect("a decimal")),
            "double" => Bson::Double(text.parse().expect("a number")),
            "datetime" => {
                let text = text.replace(' ', "T").replace("+00", "Z");
                Bson::DateTime(DateTime::parse_rfc3339_str(&text).expect("a date"))
            }
            "document" | "array" | "bson" => of_json(&serde_json::from_str(text).expect("JSON")),
            _ => Bson::String(text.clone()),
        },
        (ty, cell) => panic!("{cell} as {ty}"),
    }
}

/// The JSON that a cell stands for; `{ null = true }` is null.
fn json(cell: &toml::Value) -> Value {
    match cell {
        toml::Value::Table(table) if table.len() == 1 && table.contains_key("null") => Value::Null,
        toml::Value::Table(table) => {
            let members = table.iter();
            Value::Object(
                members
                    .map(|(name, cell)| (name.clone(), json(cell)))
                    .collect(),
            )
        }
        toml::Value::Array(cells) => Value::Array(cells.iter().map(json).collect()),
        toml::Value::String(text) => Value::String(text.clone()),
        toml::Value::Boolean(flag) => Value::Bool(*flag),
        toml::Value::Integer(number) => Value::from(*number),
        other => panic!("{other} in a document"),
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
