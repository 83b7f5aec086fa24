//! A test printed for people: the mapping, and what happened.

use std::fmt::Write as _;

use super::rules::Rules;
use super::story::{Cell, Change, Image, Story};
use super::table::{COLUMNS, Table};

pub(super) fn all(rules: &Rules, story: &Story) -> String {
    let mut text = format!("\n{}\n# schema.toml\n{}\n", rules.mapping(), rules.schema());
    for table in &rules.tables {
        writeln!(
            text,
            "# {} sends of the old row: {:?}",
            table.name, table.identity
        )
        .unwrap();
    }
    for (number, transaction) in story.transactions.iter().enumerate() {
        writeln!(text, "# transaction {number}").unwrap();
        for (ordinal, change) in transaction.changes.iter().enumerate() {
            writeln!(
                text,
                "#   {ordinal}: {}",
                line(change, &rules.tables[change.table])
            )
            .unwrap();
        }
    }
    text
}

fn line(change: &Change, table: &Table) -> String {
    let mut line = format!("{} {}", change.op.as_str(), table.name);
    for (name, image) in [
        ("before", &change.sent_before),
        ("after", &change.sent_after),
    ] {
        if let Some(image) = image {
            write!(line, " {name} {{{}}}", cells(image, table)).unwrap();
        }
    }
    line
}

fn cells(image: &Image, table: &Table) -> String {
    let cells = table.columns.iter().map(|column| {
        let name = COLUMNS[*column].0;
        match image[*column] {
            Cell::Sent(Some(value)) => format!("{name}: {value}"),
            Cell::Sent(None) => format!("{name}: null"),
            Cell::LeftOut => format!("{name}: ?"),
        }
    });
    cells.collect::<Vec<_>>().join(", ")
}
