//! `schema.toml`: every column with its type, and why some are not there.

use rowbridge_api::survey::{Basis, Seen, Survey};

use super::columns::Role;
use super::mapping_file::grouped;
use super::table::{Key, Table};
use super::toml_text::{self, Entry, string};

const DECLARED: &str = "The columns that rules may read, as the database names their types. `rowbridge check` compares \
                        this file with it.";
const SEEN: &str = "The top-level fields that rules may read, with the types of their values in the documents that were \
                    looked at: of several types, the one that reads them all, or bson, which is any value as JSON. \
                    The database holds no document to it: a value of another type is an error where a rule reads it.";

pub(super) fn text<'a>(tables: impl Iterator<Item = &'a Table<'a>> + Clone) -> String {
    let is_declared = |table: &Table<'_>| table.survey.basis == Basis::Declared;
    let about = match tables.clone().all(is_declared) {
        true => DECLARED,
        false => SEEN,
    };
    let mut text = toml_text::comment(about);
    for table in tables {
        text.push('\n');
        text.push_str(&section(table));
    }
    text
}

/// What a table that declares nothing was judged by, and what that means: `12 documents, all there were`.
pub(super) fn looked_at(survey: &Survey) -> Option<String> {
    let Basis::Rows { seen, of } = survey.basis else {
        return None;
    };
    let seen = match seen {
        1 => "1 document".to_owned(),
        seen => format!("{} documents", grouped(seen as u64)),
    };
    Some(match (of, survey.rows) {
        (Seen::All, _) => format!("{seen}, all there were"),
        (Seen::AtRandom, Some(rows)) => {
            format!("{seen} taken at random, of about {}", grouped(rows))
        }
        (Seen::AtRandom, None) => format!("{seen} taken at random"),
    })
}

fn section(table: &Table<'_>) -> String {
    let short = toml_text::key(&table.names.short);
    let mut text = match looked_at(table.survey) {
        Some(seen) => toml_text::comment(&format!(
            "{}: from {seen}. A field that none of these had is not here.",
            table.survey.table
        )),
        None => String::new(),
    };
    text.push_str(&format!("[{short}]\n"));
    if let Key::Primary(key) = &table.key {
        let key = toml_text::strings(key.iter().map(String::as_str));
        text.push_str(&format!("key = {key}\n"));
    }
    text.push_str(&format!("[{short}.columns]\n"));
    let columns = table.columns.iter().map(|column| {
        let entry = Entry::new(&column.name, string(&column.ty.name));
        let withheld = column.withheld.filter(|_| column.role != Role::Key);
        let why = withheld.map(|withheld| format!("{}; no rule reads it", withheld.why()));
        let comment: Vec<String> = column.note.clone().into_iter().chain(why).collect();
        match comment.is_empty() {
            true => entry,
            false => entry.commented(comment.join("; ")),
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
