//! `mapping.toml`, laid out to be read and edited.

use rowbridge_api::survey::{BeforeImage, Nullability};
use rowbridge_api::{Kind, TableName};

use super::columns::{Column, Role, Withheld};
use super::rules::{Rule, Rules};
use super::table::{Key, Table};
use super::toml_text::{self, Entry, string};

/// The whole file.
pub(super) fn text(pipeline: &str, tables: &[(Table<'_>, Rules)]) -> String {
    let mut text = header(pipeline);
    text.push_str("\n[tables]\n");
    let lines: Vec<Entry> = tables.iter().map(|(table, _)| declaration(table)).collect();
    text.push_str(&toml_text::entries(&lines));
    for (number, (table, _)) in tables.iter().enumerate() {
        text.push_str(&topic(pipeline, table, number));
    }
    for (table, rules) in tables {
        text.push_str(&section(table, rules));
    }
    text
}

fn header(pipeline: &str) -> String {
    let about = "A first mapping, written by `rowbridge init` from the database. It compiles and its cases pass as it \
                 stands; it is meant to be edited: rename events to what the business calls them, take out what nobody \
                 needs, say in `doc` what each one means. A line that starts with # and no blank is TOML that is \
                 switched off.";
    let entries = toml_text::entries(&[
        Entry::new("name", string(pipeline)),
        Entry::new("version", "1".to_owned()),
        Entry::new("on_error", string("quarantine"))
            .commented("a row that a rule cannot read is set aside in Kafka; \"stop\" stops there"),
    ]);
    format!("{}\n[mapping]\n{entries}", toml_text::comment(about))
}

/// The table as a mapping names it: in double quotes only where it could be read as another.
fn source_name(table: &TableName) -> String {
    if !table.schema.contains(['.', '"']) && !table.name.starts_with('"') {
        return table.to_string();
    }
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!("{}.{}", quoted(&table.schema), quoted(&table.name))
}

fn declaration(table: &Table<'_>) -> Entry {
    let name = string(&source_name(&table.survey.table));
    let value = match &table.key {
        Key::Primary(_) => name,
        other => {
            let key = toml_text::strings(other.columns().iter().map(String::as_str));
            toml_text::inline([("name", name), ("key", key)])
        }
    };
    let entry = Entry::new(&table.names.short, value);
    match (table.survey.rows, &table.key) {
        (_, Key::None(_)) => entry.commented("no column names a row; this one stands in"),
        (Some(rows), _) => entry.commented(format!("about {} rows", grouped(rows))),
        (None, _) => entry,
    }
}

/// `1,200,000`
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The Kafka name of a table's topic.
pub(super) fn topic_name(pipeline: &str, table: &Table<'_>) -> String {
    format!("{pipeline}.{}", table.names.topic)
}

fn topic(pipeline: &str, table: &Table<'_>, number: usize) -> String {
    let partitions = Entry::new("partitions", "6".to_owned());
    let entries = toml_text::entries(&[
        Entry::new("name", string(&topic_name(pipeline, table))),
        match number {
            0 => partitions.commented("choose before the first run: more of them later move keys"),
            _ => partitions,
        },
    ]);
    format!(
        "\n[topics.{}]\n{entries}",
        toml_text::key(&table.names.topic)
    )
}

fn section(table: &Table<'_>, rules: &Rules) -> String {
    let title = format!(" {}", table.survey.table);
    let rule = "-".repeat(100_usize.saturating_sub(title.chars().count()));
    let mut text = format!("\n{}", toml_text::comment(&format!("{rule}{title}")));
    text.push_str(&toml_text::comment(&sends(table)));
    for remark in &table.survey.remarks {
        text.push_str(&toml_text::comment(&format!("Note: {remark}.")));
    }
    text.push('\n');
    text.push_str(&defaults(table));
    for rule in &rules.active {
        text.push('\n');
        text.push_str(&event(table, rule));
    }
    text.push_str(&offered(table, &rules.offered));
    text
}

fn sends(table: &Table<'_>) -> String {
    match &table.survey.before {
        BeforeImage::Whole => {
            "The source sends the whole old row of an update or delete, so rules can say what changed.".to_owned()
        }
        BeforeImage::Columns(columns) => format!(
            "Of an old row the source sends {} only, so no rule here can say what an update changed.",
            columns.join(", ")
        ),
        BeforeImage::Refused => {
            "BEWARE: this table has no replica identity. Once it is published, which `run` and `dry-run \
             --create-publication` do, every UPDATE and DELETE of it FAILS in the application. Run the statement below \
             first, or take the table out."
                .to_owned()
        }
    }
}

fn defaults(table: &Table<'_>) -> String {
    let short = toml_text::key(&table.names.short);
    let mut clauses = vec![Entry::new("topic", string(&table.names.topic))];
    let mut prose = String::new();
    match table.key_template() {
        Some(key) => {
            clauses.push(Entry::new("key", string(&key)).commented(table.key_comment()));
        }
        None => prose.push_str(&toml_text::comment(&format!(
            "key: {}, its parts joined by /, which is the default.",
            table.key.columns().join(", ")
        ))),
    }
    if let Some(column) = touched(table) {
        clauses.push(
            Entry::new("time", string(&column.path("row")))
                .commented("when it happened; without it, when the transaction committed")
                .offered(),
        );
    }
    if let Some(column) = referring(table) {
        clauses.push(
            Entry::new("correlation", string(&format!("{{{}}}", column.name)))
                .commented("one id for a whole story; without it, one for the transaction")
                .offered(),
        );
    }
    let mut fields = Vec::new();
    for column in &table.columns {
        let is_key = column.role == Role::Key;
        let entry = Entry::new(&column.field, string(&column.path("row")));
        match column.withheld {
            Some(withheld) if withheld == Withheld::Unwritable => {
                prose.push_str(&toml_text::comment(&format!(
                    "{} is left out: {}.",
                    column.name,
                    withheld.why()
                )));
            }
            Some(withheld) if is_key => {
                fields.push(
                    entry
                        .commented(format!("{}, and is in every key", withheld.why()))
                        .offered(),
                );
            }
            Some(withheld) => fields.push(entry.commented(withheld.why()).offered()),
            None if is_key || table.sends_whole_rows() => fields.push(entry),
            None => {}
        }
    }
    let mut text = format!(
        "[defaults.{short}]\n{prose}{}",
        toml_text::entries(&clauses)
    );
    if !fields.is_empty() {
        text.push_str(&format!(
            "[defaults.{short}.data]\n{}",
            toml_text::entries(&fields)
        ));
    }
    text
}

/// A column that says when a row last changed.
fn touched<'a>(table: &'a Table<'_>) -> Option<&'a Column> {
    let words = ["updated", "modified", "changed"];
    table.columns.iter().find(|column| {
        column.role == Role::Technical
            && column.nullability == Nullability::NeverNull
            && matches!(column.ty.kind, Kind::Timestamp | Kind::TimestampTz)
            && column
                .words
                .iter()
                .any(|word| words.contains(&word.as_str()))
    })
}

/// A single column that refers to another table's row and is never null.
fn referring<'a>(table: &'a Table<'_>) -> Option<&'a Column> {
    let single = table
        .survey
        .references
        .iter()
        .filter(|columns| columns.len() == 1)
        .flatten();
    let mut columns = single.filter_map(|name| {
        table.columns.iter().find(|column| {
            column.name == *name
                && column.withheld.is_none()
                && column.nullability == Nullability::NeverNull
                && super::paths::template(std::slice::from_ref(name)).is_some()
        })
    });
    columns.next()
}

fn event(table: &Table<'_>, rule: &Rule) -> String {
    let mut text: String = rule
        .why
        .iter()
        .map(|paragraph| toml_text::comment(paragraph))
        .collect();
    let mut entries = vec![
        Entry::new("type", string(&rule.event_type)),
        Entry::new("doc", string(&rule.doc)),
        Entry::new("table", string(&table.names.short)),
    ];
    entries.extend(rule.on.map(|on| Entry::new("on", string(on))));
    if !rule.changed.is_empty() {
        let changed = toml_text::strings(rule.changed.iter().map(String::as_str));
        entries.push(Entry::new("changed", changed));
    }
    entries.extend(
        rule.when
            .as_ref()
            .map(|when| Entry::new("when", string(when))),
    );
    text.push_str("[[event]]\n");
    text.push_str(&toml_text::entries(&entries));
    if !rule.data.is_empty() {
        // A column may be called as the field for what another one was.
        let mut seen = std::collections::HashSet::new();
        let data = rule.data.iter().filter(|(field, _)| seen.insert(field));
        let fields: Vec<Entry> = data
            .map(|(field, value)| Entry::new(field, value.clone()))
            .collect();
        text.push_str("[event.data]\n");
        text.push_str(&toml_text::entries(&fields));
    }
    text
}

/// Rules that need whole old rows, switched off, below what switches them on.
fn offered(table: &Table<'_>, rules: &[Rule]) -> String {
    let Some(enabling) = table.survey.enabling.as_ref() else {
        return String::new();
    };
    let mut text = String::from("\n");
    let statement = |text: &mut String| {
        text.push_str(&format!("#     {}\n", enabling.statement));
        text.push_str(&toml_text::comment(&format!("Cost: {}.", enabling.cost)));
    };
    if rules.is_empty() {
        text.push_str("# To have whole old rows sent, the table's owner runs\n");
        statement(&mut text);
        return text;
    }
    text.push_str("# What changed can be said once the table's owner has run\n");
    statement(&mut text);
    let then = match table.survey.before {
        BeforeImage::Refused => "Then take away the # before these events.",
        _ => {
            "Then take away the # before these events, and take out the one above that tells of any update."
        }
    };
    text.push_str(&toml_text::comment(then));
    for rule in rules {
        text.push_str("#\n");
        text.push_str(&toml_text::switched_off(&event(table, rule)));
    }
    text
}
