//! Names that the business would use, made from those of the database.

use std::collections::HashSet;

use heck::ToUpperCamelCase as _;

pub(super) use crate::words::{one_of, words};

/// `checked_in`, `CHECKED-IN` and `Checked in` as `CheckedIn`; empty where nothing is left.
pub(super) fn camel(name: &str) -> String {
    words(name).join("_").to_upper_camel_case()
}

/// Hands out names once each.
#[derive(Debug, Default)]
pub(super) struct Taken(HashSet<String>);

impl Taken {
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains(&name.to_ascii_lowercase())
    }

    /// The first of `choices` that is free, or the last with a number behind it.
    pub(super) fn take(&mut self, choices: &[String]) -> String {
        let numbered = || {
            let last = choices.last().map_or("x", String::as_str);
            (2_u32..).map(move |number| format!("{last}{number}"))
        };
        let found = choices.iter().cloned().chain(numbered());
        let name = found
            .filter(|name| !name.is_empty() && !self.has(name))
            .take(1)
            .collect::<String>();
        self.0.insert(name.to_ascii_lowercase());
        name
    }
}

/// What a table is called in a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableNames {
    /// `segment`: what rules call it.
    pub(super) short: String,
    /// `Segment`: what its event types begin with.
    pub(super) entity: String,
    /// `segment`, `order item`: what sentences call it.
    pub(super) noun: String,
    /// `segments`: the end of its topic's name.
    pub(super) topic: String,
}

/// Names for tables of a mapping, distinct from each other.
#[derive(Debug, Default)]
pub(super) struct TableNamer {
    shorts: Taken,
    entities: Taken,
    topics: Taken,
}

/// Longest end of a topic's name: Kafka's limit is 249 for all of it.
const TOPIC_CHARACTERS: usize = 150;

impl TableNamer {
    pub(super) fn name(&mut self, schema: &str, table: &str) -> TableNames {
        let one = match one_of(table) {
            words if words.is_empty() => vec!["table".to_owned()],
            words => words,
        };
        let many = match words(table) {
            words if words.is_empty() => "table".to_owned(),
            words => words.join("_"),
        };
        let many: String = many.chars().take(TOPIC_CHARACTERS).collect();
        let schema = words(schema).join("_");
        let short = one.join("_");
        // A type's name begins with a letter in most languages that consumers are written in.
        let named = |name: &str| match name.to_upper_camel_case() {
            name if name.starts_with(|c: char| c.is_ascii_digit()) => format!("T{name}"),
            name => name,
        };
        TableNames {
            noun: one.join(" "),
            entity: self
                .entities
                .take(&[named(&short), named(&format!("{schema}_{short}"))]),
            topic: self
                .topics
                .take(&[many.clone(), format!("{schema}_{many}")]),
            short: self
                .shorts
                .take(&[short.clone(), format!("{schema}_{short}")]),
        }
    }
}

/// `segment_status` of a segment as `Status`: the entity is in the event's name already.
pub(super) fn column_part(entity: &str, column: &str) -> String {
    let name = camel(column);
    match name.strip_prefix(entity) {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_uppercase()) => rest.to_owned(),
        _ => name,
    }
}

/// A pipeline's name made from any text: `[a-z0-9_]{1,40}`.
#[must_use]
pub fn pipeline(text: &str) -> String {
    let name: String = words(text).join("_").chars().take(40).collect();
    match name.trim_matches('_') {
        "" => "pipeline".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_the_end_of_a_type() {
        for (value, end) in [
            ("CHECKED_IN", "CheckedIn"),
            ("Not Arrived", "NotArrived"),
            ("no-show", "NoShow"),
            ("it's fine", "ItSFine"),
            ("§", ""),
        ] {
            assert_eq!(camel(value), end);
        }
    }

    #[test]
    fn tables_of_one_name_in_two_schemas_are_told_apart() {
        let mut namer = TableNamer::default();
        let first = namer.name("public", "orders");
        let second = namer.name("archive", "orders");
        let third = namer.name("archive", "Orders");
        assert_eq!(
            [first.short, second.short, third.short],
            ["order", "archive_order", "archive_order2"]
        );
        assert_eq!(
            [first.entity, second.entity, third.entity],
            ["Order", "ArchiveOrder", "ArchiveOrder2"]
        );
        assert_eq!(namer.name("public", "§").short, "table");
        assert_eq!(namer.name("public", "2026_fares").entity, "T2026Fare");
    }

    #[test]
    fn a_pipeline_has_a_plain_name() {
        assert_eq!(pipeline("Airline-2"), "airline_2");
        assert_eq!(pipeline("___"), "pipeline");
        assert_eq!(pipeline(&"x".repeat(50)).len(), 40);
    }
}
