//! Every point of a mapping, with its place and with what a case would have to do to come by it.

use std::collections::HashSet;

use rowbridge_api::{Op, OpSet};

use super::{Held, Kind, Point, Site};
use crate::mapping::diagnostic::{At, line_and_column};
use crate::mapping::expression::literal::Literal;
use crate::mapping::lifecycle::{Illegal, Lifecycle};
use crate::mapping::rule::{Body, Field, FieldValue, Only, Otherwise, Rule, Table};
use crate::mapping::{Mapping, Pack, SourceFile};

/// The points in the order of their files, each once.
pub(super) fn of(mapping: &Mapping, pack: &Pack) -> Vec<Point> {
    let mut list = List {
        mapping: &pack.mapping,
        known: HashSet::new(),
        points: Vec::new(),
    };
    for (number, rule) in mapping.rules.iter().enumerate() {
        list.rule(number, rule, &mapping.tables[rule.table]);
    }
    for table in &mapping.tables {
        for lifecycle in &table.lifecycles {
            list.lifecycle(lifecycle, table);
        }
    }
    let mut points = list.points;
    // Stable: what stands on one line stays in its order.
    points.sort_by_key(|point| point.line);
    for (number, table) in mapping.tables.iter().enumerate() {
        points.extend(columns(number, table, &pack.schema));
    }
    points
}

fn columns(number: usize, table: &Table, schema: &SourceFile) -> impl Iterator<Item = Point> {
    (0_u16..)
        .zip(&table.columns)
        .map(move |(slot, column)| Point {
            kind: Kind::Column,
            file: schema.name.clone(),
            line: line_and_column(&schema.text, column.at.start).0,
            missing: format!("{}.{}: never has a value", table.short, column.name),
            wanted: format!(
                "a row of `{}` with a value in `{}`",
                table.short, column.name
            ),
            site: Site::Column(number, slot),
        })
}

/// The points of mapping.toml.
struct List<'a> {
    mapping: &'a SourceFile,
    known: HashSet<Site>,
    points: Vec<Point>,
}

/// Points of one owner, a rule or a lifecycle: what they are called by and where they are met.
struct Owner<'a> {
    name: &'a str,
    /// `an update of \`segment\``
    change: String,
}

impl List<'_> {
    /// Adds a point; one of defaults is that of the first rule which starts from them.
    fn add(&mut self, kind: Kind, line: usize, site: Site, missing: String, wanted: String) {
        if self.known.insert(site) {
            self.points.push(Point {
                kind,
                file: self.mapping.name.clone(),
                line,
                missing,
                wanted,
                site,
            });
        }
    }

    fn line(&self, at: At) -> usize {
        line_and_column(&self.mapping.text, at.start).0
    }

    /// Both ends of a condition.
    fn ends(&mut self, at: At, site: fn(usize, Held) -> Site, ends: [(Held, String, String); 2]) {
        for (held, missing, wanted) in ends {
            self.add(
                Kind::Branch,
                self.line(at),
                site(at.start, held),
                missing,
                wanted,
            );
        }
    }

    fn rule(&mut self, number: usize, rule: &Rule, table: &Table) {
        let owner = Owner {
            name: &rule.event_type,
            change: match rule.joining {
                None => format!("{} of `{}`", words(rule.ops), table.short),
                Some(_) => "a transaction with all the rows of it".to_owned(),
            },
        };
        let Owner { name, change } = &owner;
        let missing = format!("{name}: never published");
        let wanted = format!("{change} that meets all its conditions and checks");
        self.add(Kind::Rule, rule.line, Site::Rule(number), missing, wanted);
        if let Some(changed) = &rule.changed {
            for &watched in &changed.watched {
                let slot = table.watched[usize::from(watched)].slot;
                let column = &table.columns[usize::from(slot)].name;
                self.add(
                    Kind::Column,
                    self.line(changed.at),
                    Site::Changed(changed.at.start, watched),
                    format!("{name}: `changed` never sees `{column}` change"),
                    format!("{change} that changes `{column}`"),
                );
            }
        }
        for only in &rule.only {
            self.only(only, &owner);
        }
        for guard in &rule.when {
            let wanted = |held| format!("{change} for which this {held}: {}", guard.text);
            self.ends(
                guard.at,
                Site::When,
                [
                    (
                        Held::Yes,
                        format!("{name}: `when` is never true"),
                        wanted("holds"),
                    ),
                    (
                        Held::No,
                        format!("{name}: `when` is never false"),
                        wanted("does not hold"),
                    ),
                ],
            );
        }
        for check in &rule.checks {
            let message = &check.message;
            self.ends(check.at, Site::Check, [
                (
                    Held::Yes,
                    format!("{name}: no event passes the check \"{message}\""),
                    format!("{change} that fires the rule and passes"),
                ),
                (
                    Held::No,
                    format!("{name}: no event fails the check \"{message}\""),
                    format!("{change} that fires the rule and fails: `quarantined = true`, with that error"),
                ),
            ]);
        }
        if let Body::Data(fields) = &rule.body {
            self.fields(fields, &owner);
        }
    }

    fn only(&mut self, only: &Only, owner: &Owner<'_>) {
        let Owner { name, change } = owner;
        let (column, param) = (&only.column, &only.param);
        self.ends(
            only.at,
            Site::Only,
            [
                (
                    Held::Yes,
                    format!("{name}: `{column}` is never in `{param}`"),
                    format!("{change} whose `{column}` is in `{param}`"),
                ),
                (
                    Held::No,
                    format!("{name}: `{column}` is always in `{param}`"),
                    format!("{change} whose `{column}` is not in `{param}`: it publishes nothing"),
                ),
            ],
        );
    }

    fn fields(&mut self, fields: &[Field], owner: &Owner<'_>) {
        for field in fields {
            match &field.value {
                FieldValue::Map {
                    with, otherwise, ..
                } => {
                    for (arm, (from, _)) in with.iter().enumerate() {
                        let from = written(from);
                        let what = format!("`map` never meets `{from}`");
                        let wanted = format!("it is made from `{from}`");
                        self.field(field, owner, Site::Arm(field.at.start, arm), &what, &wanted);
                    }
                    if !matches!(otherwise, Otherwise::Unsaid) {
                        let what = "`map` never comes to `else`";
                        let wanted = "it is made from a value that is not listed";
                        self.field(field, owner, Site::Else(field.at.start), what, wanted);
                    }
                }
                FieldValue::Place {
                    default: Some(_), ..
                } => {
                    let what = "never has a value of its own";
                    self.field(
                        field,
                        owner,
                        Site::Valued(field.at.start),
                        what,
                        "it has a value",
                    );
                    self.default(field, owner);
                }
                FieldValue::Coalesce {
                    places, default, ..
                } => {
                    for number in 0..places.len() {
                        let what =
                            format!("path {} of `coalesce` never gives the value", number + 1);
                        let wanted = match number {
                            0 => "its first path has a value".to_owned(),
                            _ => format!("its path {} is the first with a value", number + 1),
                        };
                        self.field(
                            field,
                            owner,
                            Site::Coalesced(field.at.start, number),
                            &what,
                            &wanted,
                        );
                    }
                    if default.is_some() {
                        self.default(field, owner);
                    }
                }
                FieldValue::Object(fields) => self.fields(fields, owner),
                _ => {}
            }
        }
    }

    fn default(&mut self, field: &Field, owner: &Owner<'_>) {
        let (what, wanted) = ("never takes its default", "it has no value of its own");
        self.field(field, owner, Site::Default(field.at.start), what, wanted);
    }

    fn field(&mut self, field: &Field, owner: &Owner<'_>, site: Site, what: &str, wanted: &str) {
        self.add(
            Kind::Branch,
            self.line(field.at),
            site,
            format!("{}: field `{}`: {what}", owner.name, field.name),
            format!("{} that fires the rule, where {wanted}", owner.change),
        );
    }

    fn lifecycle(&mut self, lifecycle: &Lifecycle, table: &Table) {
        let (name, short) = (&lifecycle.rule, &table.short);
        let state = |number: u16| lifecycle.states[usize::from(number)].text.as_str();
        for (&to, &at) in lifecycle.start.iter().zip(&lifecycle.start_at) {
            self.add(
                Kind::Transition,
                self.line(at),
                Site::Step(lifecycle.number, None, to),
                format!("{name}: nothing is created as {}", state(to)),
                format!("an insert of `{short}` as {}", state(to)),
            );
        }
        for (&(from, to), &at) in lifecycle.declared.iter().zip(&lifecycle.declared_at) {
            let step = format!("{} to {}", state(from), state(to));
            self.add(
                Kind::Transition,
                self.line(at),
                Site::Step(lifecycle.number, Some(from), to),
                format!("{name}: {step} is never made"),
                format!("an update of `{short}` from {step}"),
            );
        }
        if lifecycle.illegal == Illegal::Quarantine {
            self.add(
                Kind::Transition,
                lifecycle.line,
                Site::Illegal(lifecycle.number),
                format!("{name}: no transition is illegal"),
                format!("an update of `{short}` that nobody declares: `quarantined = true`"),
            );
        }
        let owner = Owner {
            name,
            change: format!("an illegal transition of `{short}`"),
        };
        for only in &lifecycle.only {
            self.only(only, &owner);
        }
    }
}

/// `an insert or update`
fn words(ops: OpSet) -> String {
    let all = [Op::Insert, Op::Update, Op::Delete, Op::Read, Op::Truncate];
    let names: Vec<&str> = all
        .into_iter()
        .filter(|op| ops.contains(*op))
        .map(Op::as_str)
        .collect();
    let article = match names.first() {
        Some(&("insert" | "update")) => "an",
        _ => "a",
    };
    format!("{article} {}", names.join(" or "))
}

/// A literal as it stands in the mapping, nearly.
fn written(literal: &Literal) -> String {
    let mut text = Vec::new();
    match literal {
        Literal::Null => text.extend_from_slice(b"null"),
        Literal::Value(value) => value.write_text(&mut text),
    }
    String::from_utf8_lossy(&text).into_owned()
}
