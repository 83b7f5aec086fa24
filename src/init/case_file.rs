//! One file of `cases/`: a change laid out to be read, and what it gives.

use rowbridge_api::Kind;
use rowbridge_api::survey::Length;
use serde_json::Value;

use super::columns::{Column, Withheld};
use super::table::{Key, Table};
use super::toml_text::{self, Entry, EntryState, string};
use crate::mapping::cases::{Body, Published};

/// Longest line of an inline table; a longer image gets a line for each column.
const INLINE_COLUMNS: usize = 150;

/// A row: a cell for each of a table's columns; `None` is a null, `char(n)` has no trailing blanks.
pub(super) type Row = Vec<Option<String>>;

/// Where a case's row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowFrom {
    /// The sample with this number.
    Source(usize),
    MadeUp,
}

/// A case before its expectation is known.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) from: RowFrom,
    pub(super) op: &'static str,
    pub(super) before: Option<Row>,
    pub(super) after: Option<Row>,
    /// Only the key is known of `before`.
    pub(super) before_is_key: bool,
    /// The columns that changed.
    pub(super) changed: Vec<usize>,
    /// The fields of `data` that matter; all of them if empty.
    pub(super) fields: Vec<String>,
}

impl Draft {
    /// The file with what it expects; with nothing expected it is silent.
    pub(super) fn text(&self, table: &Table<'_>, expected: &[Published]) -> String {
        let mut text = self.origin(table);
        text.push_str(&format!("name = {}\n", string(&self.name)));
        if expected.is_empty() {
            text.push_str("silent = true\n");
        }
        text.push_str("\n[[given]]\n");
        let mut entries = vec![
            Entry::new("table", string(&table.names.short)),
            Entry::new("op", string(self.op)),
        ];
        let mut tables = String::new();
        let before = self.before.as_ref().map(|row| ("before", row));
        let after = self.after.as_ref().map(|row| ("after", row));
        for (image, row) in before.into_iter().chain(after) {
            let cells = self.cells(table, image, row);
            push_table("given", image, &cells, &mut entries, &mut tables);
        }
        text.push_str(&toml_text::entries(&entries));
        text.push_str(&tables);
        for event in expected {
            text.push_str(&self.expectation(table, event));
        }
        text
    }

    fn origin(&self, table: &Table<'_>) -> String {
        let made_up: Vec<&str> = shown(table)
            .filter(|(_, column)| column.withheld.is_some_and(Withheld::is_made_up))
            .map(|(_, column)| column.name.as_str())
            .collect();
        let prose = match (self.from, made_up.as_slice()) {
            (RowFrom::MadeUp, _) => "The row is made up from the columns' types.".to_owned(),
            (RowFrom::Source(_), []) => format!("From a real row of {}.", table.survey.table),
            (RowFrom::Source(_), made_up) => format!(
                "From a real row of {}; made up: {}.",
                table.survey.table,
                made_up.join(", ")
            ),
        };
        toml_text::comment(&prose)
    }

    fn cells(&self, table: &Table<'_>, image: &str, row: &Row) -> Vec<Entry> {
        let key_only = image == "before" && self.before_is_key;
        let is_partly_sent = image == "after" && self.op == "update" && !table.sends_whole_rows();
        shown(table)
            .filter(|(_, column)| !key_only || table.key.columns().contains(&column.name))
            .filter(|(index, column)| {
                let is_left_out = is_partly_sent && column.length == Length::LeftOut;
                !is_left_out || self.changed.contains(index)
            })
            .map(|(index, column)| {
                let entry = Entry::new(&column.name, cell(column, row[index].as_deref()));
                let was = self.before.as_ref().map(|before| &before[index]);
                match was.filter(|_| image == "after" && self.changed.contains(&index)) {
                    Some(was) => entry.commented(match was {
                        Some(was) => format!("was {was}"),
                        None => "was null".to_owned(),
                    }),
                    None => entry,
                }
            })
            .collect()
    }

    fn expectation(&self, table: &Table<'_>, event: &Published) -> String {
        let mut entries = vec![Entry::new("type", string(&event.event_type))];
        entries.extend(
            event
                .topic
                .as_ref()
                .map(|topic| Entry::new("topic", string(topic))),
        );
        // The number of a transaction is another one each time.
        let key = event
            .key
            .as_ref()
            .filter(|_| !matches!(table.key, Key::None(_)));
        entries.extend(key.map(|key| Entry::new("key", string(key))));
        let mut tables = String::new();
        if let Body::Data(Value::Object(members)) = &event.body {
            if !self.fields.is_empty() {
                entries.push(Entry::new("match", string("contains")));
            }
            let members = members
                .iter()
                .filter(|(name, _)| self.fields.is_empty() || self.fields.contains(name));
            let data: Vec<Entry> = members
                .map(|(name, member)| Entry::new(name, toml_text::value(member)))
                .collect();
            push_table("expect", "data", &data, &mut entries, &mut tables);
        }
        format!("\n[[expect]]\n{}{tables}", toml_text::entries(&entries))
    }
}

/// The columns that a case shows: what nobody reads and may be long is left out.
fn shown<'a>(table: &'a Table<'_>) -> impl Iterator<Item = (usize, &'a Column)> {
    table
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| !column.withheld.is_some_and(Withheld::is_in_no_case))
}

/// Inline where it fits on a line, else a table of its own.
fn push_table(
    parent: &str,
    name: &str,
    cells: &[Entry],
    entries: &mut Vec<Entry>,
    tables: &mut String,
) {
    let inline: Vec<String> = cells
        .iter()
        .map(|cell| format!("{} = {}", cell.key, cell.value))
        .collect();
    let inline = match inline.as_slice() {
        [] => "{}".to_owned(),
        cells => format!("{{ {} }}", cells.join(", ")),
    };
    debug_assert!(cells.iter().all(|cell| cell.state == EntryState::Active));
    if inline.chars().count() <= INLINE_COLUMNS {
        entries.push(Entry::new(name, inline));
    } else {
        tables.push_str(&format!("[{parent}.{name}]\n{}", toml_text::entries(cells)));
    }
}

/// A cell as cases write it: numbers and truth values as TOML has them, all else in its text form.
fn cell(column: &Column, text: Option<&str>) -> String {
    let Some(text) = text else {
        return "{ null = true }".to_owned();
    };
    match (&column.ty.kind, text) {
        (Kind::Bool, "t" | "true") => "true".to_owned(),
        (Kind::Bool, "f" | "false") => "false".to_owned(),
        (Kind::Int, digits) if digits.parse::<i64>().is_ok() => digits.to_owned(),
        (Kind::Char, text) => string(&padded(text, &column.ty.name)),
        _ => string(text),
    }
}

/// As `char(n)` is sent: filled up with blanks. Rows hold it without them, as conditions compare it.
fn padded(text: &str, ty: &str) -> String {
    let length = ty
        .strip_prefix("char(")
        .and_then(|rest| rest.strip_suffix(')')?.parse().ok());
    format!("{text:0$}", length.unwrap_or_default())
}
