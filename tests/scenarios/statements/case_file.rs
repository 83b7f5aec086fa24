//! Case files as what is to be done: rows that are there before, and transactions of changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// When transactions commit whose case does not say.
const NEW_YEAR: &str = "2026-01-01T00:00:00Z";

/// A case as its file has it.
pub(super) struct CaseFile {
    pub(super) name: String,
    pub(super) file: PathBuf,
    seeds: Vec<RowOf>,
    changes: Vec<ChangeOf>,
}

/// A row of a table, which has its short name.
#[derive(Clone)]
pub(crate) struct RowOf {
    pub(super) table: String,
    pub(super) row: toml::Table,
}

/// One transaction, and the rows that are put there before it.
pub(super) struct Step<'c> {
    pub(super) rows: Vec<RowOf>,
    pub(super) transaction: &'c [ChangeOf],
}

/// One change.
pub(crate) struct ChangeOf {
    pub(super) table: String,
    pub(super) op: String,
    tx: Option<String>,
    /// When its transaction commits, as far as the case says.
    time: Option<String>,
    pub(super) before: Option<toml::Table>,
    pub(super) after: Option<toml::Table>,
}

impl ChangeOf {
    /// The row before, as far as it is known.
    fn row_as_it_was(&self) -> toml::Table {
        self.before.clone().unwrap_or_default()
    }

    /// The row after; what the change does not name stays as it was.
    fn row_as_it_is(&self) -> toml::Table {
        let mut row = self.row_as_it_was();
        row.extend(self.after.clone().unwrap_or_default());
        row
    }

    /// The row that has to be put there for the change to find it, unless it is stored so.
    fn row_before(
        &self,
        declared: &Declared,
        stored: &BTreeMap<String, toml::Table>,
    ) -> Option<RowOf> {
        let old = self.row_as_it_was();
        let found = stored.get(&declared.id_of(&self.table, &self.key(declared)));
        let is_so = |row: &toml::Table| old.iter().all(|(name, cell)| row.get(name) == Some(cell));
        let row = match self.op.as_str() {
            "read" => self.row_as_it_is(),
            "update" | "delete" if !found.is_some_and(is_so) => declared.row_before(self),
            _ => return None,
        };
        let table = self.table.clone();
        Some(RowOf { table, row })
    }

    fn apply(&self, declared: &Declared, stored: &mut BTreeMap<String, toml::Table>) {
        let found = declared.id_of(&self.table, &self.key(declared));
        let mut row = stored.remove(&found).unwrap_or_default();
        if self.op != "delete" {
            row.extend(self.row_as_it_is());
            stored.insert(declared.id_of(&self.table, &row), row);
        }
    }

    /// The key of the row that is changed.
    pub(super) fn key(&self, declared: &Declared) -> toml::Table {
        let named = match &self.before {
            Some(before) => before,
            None => self.after.as_ref().expect("a change has an image"),
        };
        declared.key_of(&self.table, named)
    }

    /// What the change assigns: cells that differ from the row before, as far as that is known.
    pub(super) fn assigned(&self, key: &toml::Table) -> toml::Table {
        let mut assigned = self.after.clone().unwrap_or_default();
        let old = self.before.as_ref().unwrap_or(key);
        assigned.retain(|name, cell| old.get(name) != Some(cell));
        assigned
    }
}

impl CaseFile {
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text: toml::Table = fs::read_to_string(file)?.parse()?;
        let list = |name: &str| -> Vec<toml::Table> {
            let elements = text.get(name).and_then(toml::Value::as_array);
            let tables = elements
                .into_iter()
                .flatten()
                .filter_map(toml::Value::as_table);
            tables.cloned().collect()
        };
        let word = |table: &toml::Table, key: &str| {
            let word = table.get(key).and_then(toml::Value::as_str);
            word.map(str::to_owned)
        };
        let needed = |table: &toml::Table, key: &str| {
            word(table, key).with_context(|| format!("{} has no {key}", file.display()))
        };
        let image = |table: &toml::Table, key: &str| table.get(key)?.as_table().cloned();
        let seeds = list("seed").into_iter().map(|seed| {
            Ok(RowOf {
                table: needed(&seed, "table")?,
                row: image(&seed, "row").context("a seed has a row")?,
            })
        });
        let changes = list("given").into_iter().map(|given| {
            Ok(ChangeOf {
                table: needed(&given, "table")?,
                op: needed(&given, "op")?,
                tx: word(&given, "tx"),
                time: word(&given, "time"),
                before: image(&given, "before"),
                after: image(&given, "after"),
            })
        });
        Ok(Self {
            name: needed(&text, "name")?,
            file: file.to_owned(),
            seeds: seeds.collect::<Result<_>>()?,
            changes: changes.collect::<Result<_>>()?,
        })
    }

    pub(super) fn changes(&self) -> &[ChangeOf] {
        &self.changes
    }

    /// Whether a transaction of the case commits at this time.
    pub(super) fn commits_at(&self, time: &str) -> bool {
        let mut times = self.changes.iter().map(|change| change.time.as_deref());
        times.any(|given| given.unwrap_or(NEW_YEAR) == time)
    }

    /// Whether it is about rows that are there at first start.
    pub(super) fn is_of_first_start(&self) -> bool {
        self.changes.iter().any(|change| change.op == "read")
    }

    /// The transactions, each with the rows that have to be there before it: seeds, rows of first starts, and those that
    /// its changes find otherwise than the changes before have left them.
    pub(super) fn steps(&self, declared: &Declared) -> Vec<Step<'_>> {
        let same = |one: &ChangeOf, next: &ChangeOf| one.tx.is_some() && one.tx == next.tx;
        let mut rows = self.seeds.clone();
        let mut stored: BTreeMap<String, toml::Table> = rows
            .iter()
            .map(|seed| (declared.id_of(&seed.table, &seed.row), seed.row.clone()))
            .collect();
        let transactions = self.changes.chunk_by(same);
        let steps = transactions.map(|transaction| {
            for change in transaction {
                rows.extend(change.row_before(declared, &stored));
                change.apply(declared, &mut stored);
            }
            Step {
                rows: std::mem::take(&mut rows),
                transaction,
            }
        });
        steps.collect()
    }
}

/// What a pack declares of its tables, and what its cases tell of whole rows.
pub(crate) struct Declared {
    /// Short name, and the name in the source.
    pub(super) tables: Vec<(String, String)>,
    schema: toml::Table,
    /// A row of each table that some case inserts.
    inserted: toml::Table,
}

impl Declared {
    pub(super) fn read<'c>(pack: &Path, cases: impl Iterator<Item = &'c CaseFile>) -> Result<Self> {
        let read = |name: &str| {
            let text = fs::read_to_string(pack.join(name))?;
            anyhow::Ok(text.parse::<toml::Table>()?)
        };
        let mapping = read("mapping.toml")?;
        let tables = mapping["tables"].as_table().context("[tables]")?;
        let tables = tables.iter().map(|(short, declared)| {
            let name = declared.as_str().or_else(|| declared.get("name")?.as_str());
            Ok((short.clone(), name.context("a name")?.to_owned()))
        });
        let mut inserted = toml::Table::new();
        for change in cases.flat_map(CaseFile::changes) {
            if change.op == "insert" && !inserted.contains_key(&change.table) {
                inserted.insert(change.table.clone(), change.row_as_it_is().into());
            }
        }
        Ok(Self {
            tables: tables.collect::<Result<_>>()?,
            schema: read("schema.toml")?,
            inserted,
        })
    }

    pub(super) fn source(&self, short: &str) -> &str {
        let known = self.tables.iter().find(|(known, _)| known == short);
        &known.expect("a table of the mapping").1
    }

    /// The type that schema.toml declares.
    pub(super) fn ty(&self, table: &str, column: &str) -> &str {
        self.schema[table]["columns"][column]
            .as_str()
            .unwrap_or_default()
    }

    /// The key's part of a row; all of it where no key is declared.
    pub(super) fn key_of(&self, table: &str, row: &toml::Table) -> toml::Table {
        let mut key = row.clone();
        if let Some(columns) = self.schema[table]
            .get("key")
            .and_then(toml::Value::as_array)
        {
            key.retain(|name, _| columns.iter().any(|column| column.as_str() == Some(name)));
        }
        key
    }

    /// What names a row among those of all tables.
    pub(super) fn id_of(&self, table: &str, row: &toml::Table) -> String {
        format!("{table} {}", self.key_of(table, row))
    }

    /// The row that an update or a delete finds. What the source does not say of it is as in an insert, but for what
    /// the update sets.
    fn row_before(&self, change: &ChangeOf) -> toml::Table {
        let inserted = self.inserted.get(&change.table);
        let mut row = inserted
            .and_then(toml::Value::as_table)
            .cloned()
            .unwrap_or_default();
        if change.before.is_none() {
            let set = change.after.clone().unwrap_or_default();
            row.retain(|name, _| !set.contains_key(name));
        }
        row.extend(change.key(self));
        row.extend(change.row_as_it_was());
        row
    }
}
