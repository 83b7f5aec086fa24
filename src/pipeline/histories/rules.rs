//! A mapping as data: what the model judges by, and what is written down for the compiler.

use std::fmt::Write as _;

use rowbridge_api::Op;

use super::condition::{Condition, Place};
use super::table::{COLUMNS, Col, Table};

/// What the rules of a test are about, and the rules.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) tables: Vec<Table>,
    pub(super) lifecycles: Vec<Lifecycle>,
    pub(super) events: Vec<Event>,
}

/// The states of one table's rows.
#[derive(Clone, Debug)]
pub(super) struct Lifecycle {
    pub(super) table: usize,
    pub(super) start: Vec<&'static str>,
    pub(super) silent: Vec<(&'static str, &'static str)>,
    /// Whether an illegal transition is no matter.
    pub(super) ignores: bool,
}

/// One `[[event]]`.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) topic: &'static str,
    pub(super) of: Of,
    pub(super) lookups: Vec<Lookup>,
    pub(super) when: Option<Condition>,
    pub(super) check: Option<Condition>,
    pub(super) key: Key,
    pub(super) body: Body,
}

/// What an event is made of.
#[derive(Clone, Debug)]
pub(super) enum Of {
    Row(OfRow),
    Rows(OfRows),
}

/// One row's change.
#[derive(Clone, Debug)]
pub(super) struct OfRow {
    pub(super) table: usize,
    pub(super) ops: Vec<Op>,
    pub(super) image_before: bool,
    pub(super) changed: Option<Changed>,
    pub(super) transition: Option<Transition>,
    pub(super) reverts: Option<String>,
    /// The column with an element for each event.
    pub(super) each: Option<Col>,
}

#[derive(Clone, Debug)]
pub(super) struct Changed {
    /// All of the columns, not any of them.
    pub(super) all: bool,
    pub(super) columns: Vec<Col>,
}

#[derive(Clone, Debug)]
pub(super) struct Transition {
    /// Nothing: creation.
    pub(super) from: Option<Vec<&'static str>>,
    pub(super) to: Vec<&'static str>,
}

/// Several rows of a transaction that agree on a column.
#[derive(Clone, Debug)]
pub(super) struct OfRows {
    pub(super) by: Col,
    pub(super) consume: bool,
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) table: usize,
    pub(super) ops: Vec<Op>,
    pub(super) when: Option<Condition>,
    pub(super) optional: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Lookup {
    pub(super) table: usize,
    pub(super) by: Vec<(Col, Place)>,
    /// `missing = "null"`, not an error.
    pub(super) may_miss: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Key {
    OfTable,
    /// A constant, and the places after it.
    Template(&'static str, Vec<Place>),
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Tombstone,
    Data(Vec<Field>),
}

#[derive(Clone, Debug)]
pub(super) enum Field {
    Path { place: Place, required: bool },
    Delta(Col),
    Coalesce(Vec<Place>),
    Template(Place),
}

impl Rules {
    /// mapping.toml.
    pub(super) fn mapping(&self) -> String {
        let mut text =
            "[mapping]\nname = \"t\"\nversion = 1\non_error = \"quarantine\"\n[tables]\n"
                .to_owned();
        for table in &self.tables {
            text.push_str(&table.declared());
        }
        for topic in TOPICS {
            writeln!(text, "[topics.{topic}]\nname = \"{topic}\"").unwrap();
        }
        for lifecycle in &self.lifecycles {
            lifecycle.write(&self.tables, &mut text);
        }
        for event in &self.events {
            event.write(&self.tables, &mut text);
        }
        text
    }

    /// schema.toml.
    pub(super) fn schema(&self) -> String {
        self.tables.iter().map(Table::schema).collect()
    }

    pub(super) fn lifecycle_of(&self, table: usize) -> Option<&Lifecycle> {
        self.lifecycles
            .iter()
            .find(|lifecycle| lifecycle.table == table)
    }

    /// The transitions that are declared of a table's rows.
    pub(super) fn declares(&self, table: usize, from: &str, to: &str) -> bool {
        let silent = self
            .lifecycle_of(table)
            .into_iter()
            .flat_map(|known| &known.silent);
        let transitions = self.events.iter().filter_map(|event| match &event.of {
            Of::Row(row) if row.table == table => row.transition.as_ref(),
            _ => None,
        });
        let mut moves = transitions.filter_map(|known| Some((known.from.as_ref()?, &known.to)));
        silent.into_iter().any(|known| *known == (from, to))
            || moves.any(|(known, to_any)| known.contains(&from) && to_any.contains(&to))
    }
}

pub(super) const TOPICS: [&str; 2] = ["all", "other"];

impl Lifecycle {
    /// What it is called among rules.
    pub(super) fn name(&self, tables: &[Table]) -> String {
        format!("lifecycle of_{}", tables[self.table].name)
    }

    fn write(&self, tables: &[Table], text: &mut String) {
        let table = &tables[self.table].name;
        let pairs = self.silent.iter();
        let pairs: Vec<String> = pairs
            .map(|(from, to)| format!("[\"{from}\", \"{to}\"]"))
            .collect();
        let illegal = if self.ignores { "ignore" } else { "quarantine" };
        writeln!(
            text,
            "[lifecycle.of_{table}]\ntable = \"{table}\"\nstate = \"state\"\nstart = {:?}\nsilent = [{}]\nillegal = \"{illegal}\"",
            self.start,
            pairs.join(", "),
        )
        .unwrap();
    }
}

impl Event {
    fn write(&self, tables: &[Table], text: &mut String) {
        writeln!(
            text,
            "[[event]]\ntype = \"{}\"\ntopic = \"{}\"",
            self.name, self.topic
        )
        .unwrap();
        if let Of::Row(row) = &self.of {
            row.write(tables, text);
        }
        if let Some(when) = &self.when {
            writeln!(text, "when = \"{}\"", when.text()).unwrap();
        }
        if let Key::Template(start, places) = &self.key {
            let places: String = places
                .iter()
                .map(|place| format!("{{{}}}/", place.text()))
                .collect();
            writeln!(text, "key = \"{start}{places}\"").unwrap();
        }
        if matches!(self.body, Body::Tombstone) {
            text.push_str("tombstone = true\n");
        }
        for (number, lookup) in self.lookups.iter().enumerate() {
            lookup.write(number, tables, text);
        }
        if let Of::Rows(rows) = &self.of {
            rows.write(tables, text);
        }
        if let Body::Data(fields) = &self.body {
            text.push_str("[event.data]\n");
            for (number, field) in fields.iter().enumerate() {
                writeln!(text, "f{number} = {}", field.text()).unwrap();
            }
        }
        if let Some(check) = &self.check {
            writeln!(
                text,
                "[[event.check]]\nassert = \"{}\"\nmessage = \"no\"",
                check.text()
            )
            .unwrap();
        }
    }
}

impl OfRow {
    fn write(&self, tables: &[Table], text: &mut String) {
        writeln!(text, "table = \"{}\"", tables[self.table].name).unwrap();
        if self.changed.is_none() && self.transition.is_none() {
            writeln!(text, "on = {}", ops(&self.ops)).unwrap();
        }
        if self.image_before {
            text.push_str("image = \"before\"\n");
        }
        if let Some(changed) = &self.changed {
            let names = changed.columns.iter().map(|column| COLUMNS[*column].0);
            let names: Vec<&str> = names.collect();
            match changed.all {
                true => writeln!(text, "changed = {{ all = {names:?} }}").unwrap(),
                false => writeln!(text, "changed = {names:?}").unwrap(),
            }
        }
        if let Some(Transition { from, to }) = &self.transition {
            let of = &tables[self.table].name;
            let from = from
                .as_ref()
                .map(|from| format!("from = {from:?}, "))
                .unwrap_or_default();
            writeln!(
                text,
                "transition = {{ of = \"of_{of}\", {from}to = {to:?} }}"
            )
            .unwrap();
        }
        if let Some(reverted) = &self.reverts {
            writeln!(text, "reverts = \"{reverted}\"").unwrap();
        }
        if let Some(column) = self.each {
            writeln!(text, "each = \"$.row.{}\"", COLUMNS[column].0).unwrap();
        }
    }
}

impl OfRows {
    fn write(&self, tables: &[Table], text: &mut String) {
        let by = COLUMNS[self.by].0;
        writeln!(
            text,
            "[event.transaction]\nby = \"{by}\"\nconsume = {}",
            self.consume
        )
        .unwrap();
        text.push_str("[event.transaction.parts]\n");
        for (number, part) in self.parts.iter().enumerate() {
            let table = &tables[part.table].name;
            write!(
                text,
                "p{number} = {{ table = \"{table}\", on = {}",
                ops(&part.ops)
            )
            .unwrap();
            if let Some(when) = &part.when {
                write!(text, ", when = \"{}\"", when.text()).unwrap();
            }
            if part.optional {
                text.push_str(", optional = true");
            }
            text.push_str(" }\n");
        }
    }
}

impl Lookup {
    fn write(&self, number: usize, tables: &[Table], text: &mut String) {
        let table = &tables[self.table].name;
        let columns = self.by.iter();
        let columns: Vec<String> = columns
            .map(|(column, place)| format!("{} = \"{}\"", COLUMNS[*column].0, place.text()))
            .collect();
        let missing = if self.may_miss { "null" } else { "error" };
        writeln!(
            text,
            "[event.lookup.l{number}]\ntable = \"{table}\"\nwhere = {{ {} }}\nmissing = \"{missing}\"",
            columns.join(", ")
        )
        .unwrap();
    }
}

impl Field {
    fn text(&self) -> String {
        match self {
            Self::Path {
                place,
                required: false,
            } => format!("\"{}\"", place.text()),
            Self::Path {
                place,
                required: true,
            } => {
                format!("{{ path = \"{}\", required = true }}", place.text())
            }
            Self::Delta(column) => format!("{{ delta = \"{}\" }}", COLUMNS[*column].0),
            Self::Coalesce(places) => {
                let places: Vec<String> = places.iter().map(|place| place.text()).collect();
                format!("{{ coalesce = {places:?}, default = \"none\" }}")
            }
            Self::Template(place) => format!("{{ template = \"<{{{}}}>\" }}", place.text()),
        }
    }
}

fn ops(ops: &[Op]) -> String {
    let names: Vec<&str> = ops.iter().map(|op| op.as_str()).collect();
    format!("{names:?}")
}
