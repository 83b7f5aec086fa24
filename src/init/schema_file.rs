//! `schema.toml`: every column with its type, and why some are not there.

use super::columns::Role;
use super::table::{Key, Table};
use super::toml_text::{self, Entry, string};

pub(super) fn text<'a>(tables: impl Iterator<Item = &'a Table<'a>>) -> String {
    let mut text = toml_text::comment(
        "The columns that rules may read, as the database names their types. `rowbridge check` compares this file with \
         it.",
    );
    for table in tables {
        text.push('\n');
        text.push_str(&section(table));
    }
    text
}

fn section(table: &Table<'_>) -> String {
    let short = toml_text::key(&table.names.short);
    let mut text = format!("[{short}]\n");
    if let Key::Primary(key) = &table.key {
        let key = toml_text::strings(key.iter().map(String::as_str));
        text.push_str(&format!("key = {key}\n"));
    }
    text.push_str(&format!("[{short}.columns]\n"));
    let columns = table.columns.iter().map(|column| {
        let entry = Entry::new(&column.name, string(&column.ty.name));
        match column.withheld {
            Some(withheld) if column.role != Role::Key => {
                entry.commented(format!("{}; no rule reads it", withheld.why()))
            }
            _ => entry,
        }
    });
    let hidden = table.survey.columns.iter().filter_map(|column| {
        let why = column.hidden.as_ref()?;
        let entry = Entry::new(&column.name, string(&column.ty.name));
        Some(entry.commented(why).offered())
    });
    let entries: Vec<Entry> = columns.chain(hidden).collect();
    text + &toml_text::entries(&entries)
}
