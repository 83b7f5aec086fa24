//! Which events a table suggests, and the change that makes each fire.

use rowbridge_api::survey::{BeforeImage, KnownValues, Length, Origin};

use super::columns::{Column, Role};
use super::names::{self, Taken};
use super::paths;
use super::table::Table;
use super::toml_text;

/// Most states that get an event each.
const MOST_STATES: usize = 12;
/// Most amounts, and most codes, that get an event each; more of them share one.
const MOST_EVENTS_OF_A_KIND: usize = 6;
/// Most columns of the event for all the rest that also show what they were.
const MOST_PREVIOUS: usize = 8;

/// One `[[event]]`.
#[derive(Debug)]
pub(super) struct Rule {
    /// Why it is suggested; comments above it, a paragraph each.
    pub(super) why: Vec<String>,
    pub(super) event_type: String,
    pub(super) doc: String,
    pub(super) on: Option<&'static str>,
    pub(super) changed: Vec<String>,
    pub(super) when: Option<String>,
    /// Field and value, which is TOML.
    pub(super) data: Vec<(String, String)>,
    pub(super) fires_on: FiresOn,
}

/// A change that makes a rule fire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FiresOn {
    Insert,
    Delete,
    /// The column (its place in [`Table::columns`]) gets this value.
    Becomes(usize, String),
    /// One of these columns gets another value.
    Changes(Vec<usize>),
}

/// The events of one table.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) active: Vec<Rule>,
    /// What could be said too if the source sent whole old rows.
    pub(super) offered: Vec<Rule>,
}

/// The events that `table` suggests; `types` are those that exist already.
pub(super) fn suggest(table: &Table<'_>, types: &mut Taken) -> Rules {
    let mut suggest = Suggest { table, types };
    let created = suggest.created();
    let mut rules = Rules {
        active: vec![created],
        offered: Vec::new(),
    };
    match &table.survey.before {
        BeforeImage::Whole => {
            let deleted = suggest.deleted();
            rules.active.extend(suggest.changes());
            rules.active.push(deleted);
        }
        BeforeImage::Columns(_) => {
            rules.active.push(suggest.updated());
            if table.sends_deleted_key() {
                rules.active.push(suggest.deleted());
            }
            rules.offered = suggest.changes();
        }
        BeforeImage::Refused => rules.offered = suggest.changes(),
    }
    rules
}

struct Suggest<'a, 'b> {
    table: &'a Table<'b>,
    types: &'a mut Taken,
}

impl Suggest<'_, '_> {
    fn event_type(&mut self, ends: &[String]) -> String {
        let entity = &self.table.names.entity;
        let types: Vec<String> = ends.iter().map(|end| format!("{entity}{end}")).collect();
        self.types.take(&types)
    }

    /// What of the current row an event carries by itself: nothing where the table's defaults have it.
    fn row(&self) -> Vec<(String, String)> {
        if self.table.sends_whole_rows() {
            return Vec::new();
        }
        let published = self
            .table
            .columns
            .iter()
            .filter(|column| column.withheld.is_none() && column.role != Role::Key);
        published.map(current).collect()
    }

    fn created(&mut self) -> Rule {
        Rule {
            why: Vec::new(),
            event_type: self.event_type(&["Created".to_owned(), "RowCreated".to_owned()]),
            doc: format!("A new {}.", self.table.names.noun),
            on: Some("insert"),
            changed: Vec::new(),
            when: None,
            data: self.row(),
            fires_on: FiresOn::Insert,
        }
    }

    fn deleted(&mut self) -> Rule {
        let why = match self.table.sends_whole_rows() {
            true => {
                "An archive at work deletes rows too: take this out if a deleted row is no event."
            }
            false => "Of a deleted row only its key is sent.",
        };
        Rule {
            why: vec![why.to_owned()],
            event_type: self.event_type(&["Deleted".to_owned(), "RowDeleted".to_owned()]),
            doc: format!("The {} was deleted.", self.table.names.noun),
            on: Some("delete"),
            changed: Vec::new(),
            when: None,
            data: Vec::new(),
            fires_on: FiresOn::Delete,
        }
    }

    /// Any update, for a table that does not tell what it changed.
    fn updated(&mut self) -> Rule {
        let mut data = self.row();
        let columns = &self.table.columns;
        let left_out: Vec<&Column> = columns
            .iter()
            .filter(|column| column.length != Length::AlwaysSent)
            .collect();
        data.retain(|(field, _)| !left_out.iter().any(|column| column.field == *field));
        let mut why = vec![format!(
            "Any update, whatever it changed: {} does not send old values.",
            self.table.survey.table
        )];
        let left_out = left_out
            .iter()
            .filter(|column| column.withheld.is_none() && column.role != Role::Key);
        let names_of = |length: Length| -> Vec<&str> {
            let columns = left_out.clone().filter(|column| column.length == length);
            columns.map(|column| column.name.as_str()).collect()
        };
        let long = names_of(Length::MaybeLeftOut);
        if !long.is_empty() {
            why.push(format!(
                "Without {}: the source leaves long values out of an update that does not change them.",
                long.join(", ")
            ));
        }
        if !names_of(Length::LeftOut).is_empty() {
            why.push(
                "Of the new values it sends only those that the update set, so the event tells which it was and no more."
                    .to_owned(),
            );
        }
        let changing = (0..columns.len())
            .filter(|index| columns[*index].role != Role::Key)
            .collect();
        Rule {
            why,
            event_type: self.event_type(&["Updated".to_owned(), "RowUpdated".to_owned()]),
            doc: format!("The {} was updated.", self.table.names.noun),
            on: Some("update"),
            changed: Vec::new(),
            when: None,
            data,
            fires_on: FiresOn::Changes(changing),
        }
    }

    /// Everything that needs the old row.
    fn changes(&mut self) -> Vec<Rule> {
        let columns = &self.table.columns;
        let of_role = |role: Role| -> Vec<usize> {
            (0..columns.len())
                .filter(|index| columns[*index].role == role && columns[*index].withheld.is_none())
                .collect()
        };
        let mut rest = of_role(Role::Other);
        let mut rules = Vec::new();
        for index in of_role(Role::State) {
            rules.extend(self.states(index));
        }
        for role in [Role::Amount, Role::Code] {
            let indexes = of_role(role);
            if indexes.len() > MOST_EVENTS_OF_A_KIND {
                rest.extend(indexes);
                continue;
            }
            for index in indexes {
                rules.push(match role {
                    Role::Amount => self.amount(index),
                    _ => self.code(index),
                });
            }
        }
        rest.sort_unstable();
        rules.extend(self.rest(rest));
        rules
    }

    fn states(&mut self, index: usize) -> Vec<Rule> {
        let column = &self.table.columns[index];
        let known = column
            .values
            .clone()
            .filter(|known| known.values.len() <= MOST_STATES);
        let listed: Vec<(String, String)> = known
            .iter()
            .flat_map(|known| &known.values)
            .filter_map(|value| Some((value.clone(), paths::literal(value)?)))
            .collect();
        let is_all = column
            .declared()
            .is_some_and(|known| known.values.len() == listed.len());
        let mut rules: Vec<Rule> = listed
            .iter()
            .map(|(value, literal)| self.state(index, value, literal))
            .collect();
        if let (Some(first), Some(known)) = (rules.first_mut(), &known) {
            first.why.push(why_states(&column.name, known));
        }
        if !is_all {
            rules.push(self.other_state(index, &listed));
        }
        rules
    }

    fn state(&mut self, index: usize, value: &str, literal: &str) -> Rule {
        let column = &self.table.columns[index];
        let noun = self.table.names.noun.clone();
        let part = names::column_part(&self.table.names.entity, &column.name);
        let value_part = names::camel(value);
        // Of a `payment_status` the word `payment` matters, `status` does not.
        let aspect: String = ["Status", "State", "Stage", "Phase", "Lifecycle"]
            .iter()
            .find_map(|word| part.strip_suffix(word))
            .unwrap_or(&part)
            .to_owned();
        let says_little = value_part.len() <= 2
            || value_part.starts_with(|c: char| c.is_ascii_digit())
            || ["Created", "Updated", "Deleted", "Changed"].contains(&value_part.as_str());
        let long = format!("{part}{value_part}");
        let ends = match says_little {
            true => vec![long],
            false => vec![format!("{aspect}{value_part}"), long],
        };
        let (changed, when, data) = (
            vec![column.name.clone()],
            Some(format!("{} == {literal}", column.path("after"))),
            self.with_previous(index),
        );
        let doc = format!("The {noun}'s {} became {value}.", column.words.join(" "));
        Rule {
            why: Vec::new(),
            event_type: self.event_type(&ends),
            doc,
            on: None,
            changed,
            when,
            data,
            fires_on: FiresOn::Becomes(index, value.to_owned()),
        }
    }

    /// A value that is not listed.
    fn other_state(&mut self, index: usize, listed: &[(String, String)]) -> Rule {
        let column = &self.table.columns[index];
        let path = column.path("after");
        let conditions: Vec<String> = listed
            .iter()
            .map(|(_, literal)| format!("{path} != {literal}"))
            .collect();
        let values: Vec<&str> = listed.iter().map(|(value, _)| value.as_str()).collect();
        let other = ["OTHER", "Z9", "?"]
            .iter()
            .map(|other| cut(other, &column.ty.name))
            .find(|other| !values.contains(&other.as_str()))
            .unwrap_or_default();
        let mut rule = self.changed_event(index);
        let name = &self.table.columns[index].name;
        rule.why.push(match listed {
            [] => format!("{name} looks like a state, and nothing tells which it can have: see what it holds, and write an event for each."),
            _ => format!("Any {name} that has no event above."),
        });
        rule.when = (!conditions.is_empty()).then(|| conditions.join(" && "));
        rule.fires_on = FiresOn::Becomes(index, other);
        rule
    }

    /// `<Entity><Column>Changed`.
    fn changed_event(&mut self, index: usize) -> Rule {
        let column = &self.table.columns[index];
        let part = names::column_part(&self.table.names.entity, &column.name);
        let (name, words) = (column.name.clone(), column.words.join(" "));
        let data = self.with_previous(index);
        Rule {
            why: Vec::new(),
            event_type: self
                .event_type(&[format!("{part}Changed"), format!("Column{part}Changed")]),
            doc: format!("The {}'s {words} changed.", self.table.names.noun),
            on: None,
            changed: vec![name],
            when: None,
            data,
            fires_on: FiresOn::Changes(vec![index]),
        }
    }

    fn amount(&mut self, index: usize) -> Rule {
        let mut rule = self.changed_event(index);
        let column = &self.table.columns[index];
        let delta = toml_text::inline([("delta", toml_text::string(&column.name))]);
        rule.data.push((format!("{}_delta", column.field), delta));
        rule.why.push(format!(
            "{} is an amount: the event tells by how much it changed.",
            column.name
        ));
        rule
    }

    fn code(&mut self, index: usize) -> Rule {
        let mut rule = self.changed_event(index);
        let column = &self.table.columns[index];
        if let Some(known) = &column.values {
            rule.why.push(format!(
                "{} has few values ({}): {}.",
                column.name,
                origin(known),
                known.values.join(", ")
            ));
        }
        rule
    }

    fn rest(&mut self, rest: Vec<usize>) -> Option<Rule> {
        if rest.is_empty() {
            return None;
        }
        let columns = &self.table.columns;
        let named: Vec<&Column> = rest.iter().map(|index| &columns[*index]).collect();
        let mut data: Vec<(String, String)> = match self.table.sends_whole_rows() {
            true => Vec::new(),
            false => named.iter().map(|column| current(column)).collect(),
        };
        let mut why = vec![
            "Everything else that changed, in one event: split it into what the business calls them, or take it out."
                .to_owned(),
        ];
        if named.len() <= MOST_PREVIOUS {
            data.extend(named.iter().map(|column| previous(column)));
        } else {
            why.push("`previous_x = \"$.before.x\"` adds what a column was.".to_owned());
        }
        let changed = named.iter().map(|column| column.name.clone()).collect();
        Some(Rule {
            why,
            event_type: self.event_type(&["Changed".to_owned(), "RowChanged".to_owned()]),
            doc: format!(
                "Something else about the {} changed.",
                self.table.names.noun
            ),
            on: None,
            changed,
            when: None,
            data,
            fires_on: FiresOn::Changes(rest),
        })
    }

    fn with_previous(&self, index: usize) -> Vec<(String, String)> {
        let column = &self.table.columns[index];
        match self.table.sends_whole_rows() {
            true => vec![previous(column)],
            false => vec![current(column), previous(column)],
        }
    }
}

fn current(column: &Column) -> (String, String) {
    (column.field.clone(), toml_text::string(&column.path("row")))
}

fn previous(column: &Column) -> (String, String) {
    let field = format!("previous_{}", column.field);
    (field, toml_text::string(&column.path("before")))
}

fn why_states(name: &str, known: &KnownValues) -> String {
    format!(
        "{name} looks like a state ({}): {}. An event for each that it becomes.",
        origin(known),
        known.values.join(", ")
    )
}

fn origin(known: &KnownValues) -> String {
    match known.origin {
        Origin::Declared(how) => format!("{how} lists its values"),
        Origin::Statistics => "values from the database's statistics".to_owned(),
        Origin::Sample { rows: 1 } => "values seen in the one row there is".to_owned(),
        Origin::Sample { rows } => format!("values seen in {rows} rows"),
    }
}

/// What fits `varchar(n)` or `char(n)`.
fn cut(text: &str, ty: &str) -> String {
    let length = ty
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')')?.parse::<usize>().ok());
    text.chars().take(length.unwrap_or(usize::MAX)).collect()
}
