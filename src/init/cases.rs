//! Cases for the rules of a mapping: changes that make each fire, with what the compiled mapping gives for
//! them, so that what is expected is right by construction.

use std::sync::Arc;

use rowbridge_api::Kind;

use super::case_file::{Draft, Row, RowFrom};
use super::columns::{Column, Role};
use super::made_up::{self, Pick};
use super::names::Taken;
use super::rules::{FiresOn, Rule, Rules};
use super::table::Table;
use super::{File, Rows};
use crate::mapping::cases::{Body, Case, Published};
use crate::mapping::change_json::Tables;
use crate::mapping::{Mapping, SourceFile};

/// Most rows of a table that are tried for one case.
const MOST_ROWS: usize = 8;

/// Cases of a whole mapping.
#[derive(Debug, Default)]
pub(super) struct Cases {
    pub(super) files: Vec<File>,
    /// How many different rows of the source they start from.
    pub(super) real_rows: usize,
    /// Rules for which no change was found that makes them fire.
    pub(super) without: Vec<String>,
}

pub(super) fn write(mapping: &Arc<Mapping>, tables: &[(Table<'_>, Rules)], rows: Rows) -> Cases {
    let declared = Tables::of(mapping);
    let mut cases = Cases::default();
    let mut names = Taken::default();
    for (table, rules) in tables {
        let mut writer = Writer {
            mapping,
            declared: &declared,
            table,
            rows: rows_of(table, rows),
            used: Vec::new(),
        };
        for rule in &rules.active {
            match writer.of_rule(rule) {
                Some(text) => cases.files.push(file(&mut names, &rule.event_type, text)),
                None => cases.without.push(rule.event_type.clone()),
            }
        }
        let name = format!("{}Untouched", table.names.entity);
        if let Some(text) = writer.of_nothing() {
            cases.files.push(file(&mut names, &name, text));
        }
        cases.real_rows += writer.used.len();
    }
    cases
}

fn file(names: &mut Taken, event_type: &str, text: String) -> File {
    use heck::ToKebabCase as _;
    let name = names.take(&[event_type.to_kebab_case()]);
    File {
        name: format!("cases/{name}.toml"),
        text,
    }
}

struct Writer<'a, 'b> {
    mapping: &'a Arc<Mapping>,
    declared: &'a Tables,
    table: &'a Table<'b>,
    rows: Vec<(RowFrom, Row)>,
    /// The samples that a case was made from.
    used: Vec<usize>,
}

impl Writer<'_, '_> {
    /// The first change that makes the rule fire, alone, as a case.
    fn of_rule(&mut self, rule: &Rule) -> Option<String> {
        let fires = |published: &[Published]| {
            matches!(published, [event] if event.event_type == rule.event_type
                && matches!(event.body, Body::Data(_)))
        };
        let drafts = self.drafts(rule);
        let found = drafts.into_iter().find_map(|draft| {
            let published = self.run(&draft).filter(|published| fires(published))?;
            Some((draft, published))
        });
        let (draft, published) = found?;
        self.finished(&draft, &published)
    }

    /// An update that changes nothing a rule looks at.
    fn of_nothing(&mut self) -> Option<String> {
        if !self.table.sends_whole_rows() {
            return None;
        }
        let (from, row) = self.rows.first()?.clone();
        let mut after = row.clone();
        let columns = &self.table.columns;
        let touched = columns.iter().enumerate().find_map(|(index, column)| {
            let other = others(column, row[index].as_deref()).into_iter().next();
            Some((index, other?)).filter(|_| column.role == Role::Technical)
        });
        if let Some((index, other)) = &touched {
            after[*index] = Some(other.clone());
        }
        let noun = &self.table.names.noun;
        let draft = Draft {
            name: format!("nothing that matters about the {noun} changed"),
            from,
            op: "update",
            before: Some(row),
            after: Some(after),
            before_is_key: false,
            changed: touched.into_iter().map(|(index, _)| index).collect(),
            fields: Vec::new(),
        };
        let published = self.run(&draft)?;
        published
            .is_empty()
            .then(|| self.finished(&draft, &published))?
    }

    fn run(&self, draft: &Draft) -> Option<Vec<Published>> {
        let case = self.parse(draft.text(self.table, &[]))?;
        case.published(self.mapping, self.declared).ok()
    }

    fn parse(&self, text: String) -> Option<Case> {
        let file = SourceFile {
            name: String::new(),
            text,
        };
        Case::parse(&file, self.declared).ok()
    }

    /// The case's text, once it passes as it will be read.
    fn finished(&mut self, draft: &Draft, published: &[Published]) -> Option<String> {
        let text = draft.text(self.table, published);
        let case = self.parse(text.clone())?;
        if !case.run(self.mapping, self.declared).passed() {
            return None;
        }
        if let RowFrom::Source(number) = draft.from
            && !self.used.contains(&number)
        {
            self.used.push(number);
        }
        Some(text)
    }

    /// Changes that may make the rule fire, the likeliest first.
    fn drafts(&self, rule: &Rule) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for (from, row) in self.rows.iter().take(MOST_ROWS) {
            match &rule.fires_on {
                FiresOn::Insert => drafts.push(self.insert(*from, row)),
                FiresOn::Delete => drafts.push(self.delete(*from, row)),
                FiresOn::Becomes(index, value) => {
                    if row[*index].as_ref() != Some(value) {
                        drafts.push(self.update(rule, *from, row, *index, value.clone()));
                        continue;
                    }
                    // The row is in that state already: it comes from another.
                    let ty = &self.table.columns[*index].ty;
                    let unknown = made_up::value(ty, Pick::First);
                    for other in self.choices(*index, Some(value)).into_iter().chain(unknown) {
                        let mut earlier = row.clone();
                        earlier[*index] = Some(other);
                        drafts.push(self.update(rule, *from, &earlier, *index, value.clone()));
                    }
                }
                FiresOn::Changes(indexes) => {
                    for index in indexes {
                        for other in self.choices(*index, row[*index].as_deref()) {
                            drafts.push(self.update(rule, *from, row, *index, other));
                        }
                    }
                }
            }
        }
        // A change of something that was there tells more than one from null.
        drafts.sort_by_key(|draft| {
            let was_null = |index: &usize| {
                draft
                    .before
                    .as_ref()
                    .is_some_and(|before| before[*index].is_none())
            };
            draft.changed.iter().any(was_null)
        });
        drafts
    }

    fn insert(&self, from: RowFrom, row: &Row) -> Draft {
        Draft {
            name: format!("a new {}", self.table.names.noun),
            from,
            op: "insert",
            before: None,
            after: Some(row.clone()),
            before_is_key: false,
            changed: Vec::new(),
            fields: Vec::new(),
        }
    }

    fn delete(&self, from: RowFrom, row: &Row) -> Draft {
        Draft {
            name: format!("the {} is deleted", self.table.names.noun),
            from,
            op: "delete",
            before: Some(row.clone()),
            after: None,
            before_is_key: !self.table.sends_whole_rows(),
            changed: Vec::new(),
            fields: Vec::new(),
        }
    }

    fn update(&self, rule: &Rule, from: RowFrom, row: &Row, index: usize, value: String) -> Draft {
        let column = &self.table.columns[index];
        let noun = &self.table.names.noun;
        let words = column.words.join(" ");
        let name = match &rule.fires_on {
            FiresOn::Becomes(..) => format!("the {noun}'s {words} becomes {value}"),
            _ => format!("the {noun}'s {words} changes"),
        };
        let mut after = row.clone();
        after[index] = Some(value);
        let whole = self.table.sends_whole_rows();
        let mut fields: Vec<String> = Vec::new();
        if whole {
            let keys = self
                .table
                .columns
                .iter()
                .filter(|column| column.role == Role::Key && column.withheld.is_none());
            fields.extend(keys.map(|column| column.field.clone()));
            fields.push(column.field.clone());
            fields.extend(rule.data.iter().map(|(field, _)| field.clone()));
        }
        Draft {
            name,
            from,
            op: "update",
            // Where the source sends no old row, an update comes without one.
            before: whole.then(|| row.clone()),
            after: Some(after),
            before_is_key: false,
            changed: vec![index],
            fields,
        }
    }

    /// Other values for a column: those that occur, then made-up ones.
    fn choices(&self, index: usize, current: Option<&str>) -> Vec<String> {
        let column = &self.table.columns[index];
        let occurring = self
            .rows
            .iter()
            .filter_map(|(_, row)| row[index].clone())
            .filter(|value| Some(value.as_str()) != current);
        let known = column.values.iter().flat_map(|known| known.values.clone());
        let mut choices: Vec<String> = known
            .filter(|value| Some(value.as_str()) != current)
            .chain(occurring)
            .collect();
        choices.truncate(2);
        choices.extend(others(column, current));
        choices
    }
}

/// Values other than the current one: known ones, and made-up ones where there may be others.
fn others(column: &Column, current: Option<&str>) -> Vec<String> {
    let mut others: Vec<String> = Pick::ALL
        .into_iter()
        .filter_map(|pick| made_up(column, pick))
        .collect();
    if column.declared().is_none() {
        let of_type = Pick::ALL.into_iter();
        others.extend(of_type.filter_map(|pick| made_up::value(&column.ty, pick)));
    }
    others.retain(|value| Some(value.as_str()) != current);
    others
}

fn made_up(column: &Column, pick: Pick) -> Option<String> {
    if let Some(known) = &column.values {
        let number = match pick {
            Pick::First => 0,
            Pick::Second => 1,
        };
        return known.values.get(number).cloned();
    }
    match column.withheld {
        Some(withheld) if withheld.is_made_up() => {
            made_up::personal(&column.words, &column.ty, pick)
        }
        _ => made_up::value(&column.ty, pick),
    }
}

/// The rows that cases are made from: real ones with made-up cells for what looks personal, or a made-up one.
fn rows_of(table: &Table<'_>, rows: Rows) -> Vec<(RowFrom, Row)> {
    let samples = match rows {
        Rows::Real => table.survey.samples.as_slice(),
        Rows::MadeUp => &[],
    };
    let real = samples.iter().enumerate().map(|(number, sample)| {
        let row = table.columns.iter().map(|column| {
            let cell = sample.get(column.index).cloned().flatten()?;
            match column.withheld {
                Some(withheld) if withheld.is_made_up() => made_up(column, Pick::First),
                Some(withheld) if withheld.is_in_no_case() => None,
                _ if column.ty.kind == Kind::Char => Some(cell.trim_end_matches(' ').to_owned()),
                _ => Some(cell),
            }
        });
        (RowFrom::Source(number), row.collect())
    });
    let mut rows: Vec<(RowFrom, Row)> = real.collect();
    if rows.is_empty() {
        let row = table
            .columns
            .iter()
            .map(|column| made_up(column, Pick::First));
        rows.push((RowFrom::MadeUp, row.collect()));
    }
    rows
}
