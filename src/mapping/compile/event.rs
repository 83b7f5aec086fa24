//! `[[event]]`, with its table's defaults, to a [`Rule`].

use std::cell::RefCell;
use std::collections::BTreeMap;

use rowbridge_api::{Kind, Op, OpSet};

use super::lifecycle::{self, CompiledLifecycle, Lifecycles};
use super::{
    Known, ResolvedParam, ResolvedTable, each, find_topic, key, lookup, only, topic_names,
    transaction, unknown_table, value,
};
use crate::event::{EVENT_HEADERS, HeaderId, TopicId};
use crate::mapping::Topic;
use crate::mapping::diagnostic::{At, Diagnostic, Report, line_and_column, one_of};
use crate::mapping::expression::column::{self, ColumnPath};
use crate::mapping::expression::leaving::{in_the_clear, leaving};
use crate::mapping::expression::path::{Place, PlaceType};
use crate::mapping::expression::template;
use crate::mapping::expression::{ItemScope, Reads, Rows, Scope, condition};
use crate::mapping::file::MappingFile;
use crate::mapping::file::event::{ChangedDecl, CheckDecl, Clauses, EventDecl};
use crate::mapping::file::reader::Text;
use crate::mapping::file::transaction::TransactionDecl;
use crate::mapping::file::value::{FieldDecl, From};
use crate::mapping::privacy::Class;
use crate::mapping::rule::{
    Body, Changed, Check, Guard, HeaderValue, Judges, Lookup, OwnHeader, RowImage, Rule, Side,
};

/// Every rule of the mapping, and what came up on the way.
pub(super) struct CompiledEvents {
    pub(super) rules: Vec<Rule>,
    /// What each rule reads.
    pub(super) reads: Vec<Reads>,
    /// What rules of several rows read of each of them.
    pub(super) part_reads: Vec<PartReads>,
    /// Where each rule is written.
    pub(super) sites: Vec<Site>,
    /// Per table: the places that `changed` watches.
    pub(super) watched: Vec<Vec<ColumnPath>>,
    pub(super) header_names: Vec<String>,
    pub(super) lifecycles: Vec<CompiledLifecycle>,
}

/// What an event of several rows reads of one of them.
pub(super) struct PartReads {
    pub(super) event_type: String,
    pub(super) table: usize,
    pub(super) ops: OpSet,
    pub(super) reads: Reads,
}

/// Where a rule is written.
pub(super) struct Site {
    /// Its type, or the rule where that is broken.
    pub(super) event_type: At,
    /// Its key, where it is not the table's.
    pub(super) key: Option<At>,
}

impl Site {
    fn of(event: &EventDecl, clauses: &Clauses) -> Self {
        Self {
            event_type: event.event_type.as_ref().map_or(event.at, |name| name.at),
            key: clauses.key.as_ref().map(|key| key.at),
        }
    }
}

impl CompiledEvents {
    fn push(&mut self, rule: Rule, reads: Reads, site: Site) {
        self.rules.push(rule);
        self.reads.push(reads);
        self.sites.push(site);
    }
}

pub(super) struct EventCompiler<'a> {
    report: &'a Report,
    text: &'a str,
    file: &'a MappingFile,
    tables: &'a [ResolvedTable],
    params: &'a BTreeMap<String, ResolvedParam>,
    lifecycles: Lifecycles<'a>,
    types: Vec<String>,
    /// Event types that are taken back, where that is written.
    reverted: Vec<Text>,
    compiled: CompiledEvents,
}

impl<'a> EventCompiler<'a> {
    pub(super) fn new(
        report: &'a Report,
        text: &'a str,
        file: &'a MappingFile,
        tables: &'a [ResolvedTable],
        params: &'a BTreeMap<String, ResolvedParam>,
    ) -> Self {
        Self {
            report,
            text,
            file,
            tables,
            params,
            lifecycles: Lifecycles::read(report, text, file, tables, params),
            types: Vec::new(),
            reverted: Vec::new(),
            compiled: CompiledEvents {
                rules: Vec::new(),
                reads: Vec::new(),
                part_reads: Vec::new(),
                sites: Vec::new(),
                watched: vec![Vec::new(); tables.len()],
                header_names: EVENT_HEADERS
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect(),
                lifecycles: Vec::new(),
            },
        }
    }

    /// The rules, and the lifecycles that they declared transitions of.
    pub(super) fn finish(mut self) -> CompiledEvents {
        self.mark_reverted();
        self.compiled.lifecycles = self.lifecycles.finish(self.compiled.rules.len());
        self.compiled
    }

    /// Compiles one event; a broken one is reported and left out.
    pub(super) fn event(&mut self, event: &'a EventDecl) {
        if let Some(decl) = &event.joined {
            self.joined(event, decl);
            return;
        }
        let Some(short) = &event.table else { return };
        let shorts: Vec<&str> = self
            .tables
            .iter()
            .map(|table| table.table.short.as_str())
            .collect();
        let Some(number) = shorts.iter().position(|known| *known == short.value) else {
            self.report.push(unknown_table(short, &shorts));
            self.without_its_table(event);
            return;
        };
        if self.tables[number].known == Known::No {
            self.without_its_table(event);
            return;
        }
        let defaults = self
            .file
            .defaults
            .iter()
            .find(|(table, _)| table.value == short.value);
        let clauses = match defaults {
            Some((_, defaults)) => defaults.overridden_by(&event.clauses),
            None => event.clauses.clone(),
        };
        let ops = self.ops(event, &clauses);
        let image = self.image(&clauses, ops);
        let reads = RefCell::new(Reads::default());
        let scope = Scope {
            report: self.report,
            table: &self.tables[number].table,
            ops,
            image,
            reads: &reads,
            others: &[],
            rows: Rows::Own,
            item: ItemScope::No,
        };
        let each = event.each.as_ref().map(|text| each::compile(&scope, text));
        let item = match &each {
            None => ItemScope::No,
            Some(None) => ItemScope::Broken,
            Some(Some(each)) => ItemScope::Of(each),
        };
        let scope = Scope { item, ..scope };
        let (others, lookups) = lookup::compile(&scope, self.tables, &clauses.lookups, Vec::new());
        let scope = Scope {
            others: &others,
            ..scope
        };
        let lookups = lookups.into_iter().collect::<Option<_>>();
        let rule = self.rule(event, &clauses, number, &scope, lookups);
        if let Some(rule) = rule {
            let site = Site::of(event, &clauses);
            self.compiled.push(rule, reads.into_inner(), site);
        }
    }

    /// Reports the mistakes that show without the table, so that one mistake does not hide another.
    fn without_its_table(&self, event: &EventDecl) {
        let clauses = &event.clauses;
        if clauses.on.is_some() {
            self.ops(event, clauses);
        }
        if clauses.topic.is_some() {
            self.topic(event, clauses);
        }
    }

    /// Compiles an event of several rows.
    fn joined(&mut self, event: &'a EventDecl, decl: &'a TransactionDecl) {
        self.check_joined(event);
        let Some(parts) = transaction::resolve(self.report, self.tables, decl) else {
            return;
        };
        let reads = RefCell::new(Reads::default());
        let others = transaction::others(&parts);
        let Some(first) = others.first() else { return };
        let scope = Scope {
            report: self.report,
            table: first.table,
            ops: OpSet::default(),
            image: RowImage::Current,
            reads: &reads,
            others: &others,
            rows: Rows::OnlyParts,
            item: ItemScope::No,
        };
        let joining = transaction::compile(&scope, self.params, decl, &parts);
        let number = first.number;
        let (with_lookups, lookups) =
            lookup::compile(&scope, self.tables, &event.clauses.lookups, others.clone());
        let scope = Scope {
            others: &with_lookups,
            ..scope
        };
        let lookups = lookups.into_iter().collect::<Option<_>>();
        let rule = self.rule(event, &event.clauses, number, &scope, lookups);
        let (Some(mut rule), Some(joining)) = (rule, joining) else {
            return;
        };
        rule.joining = Some(joining);
        rule.judges = Judges::LookedUp;
        let event_type = rule.event_type.clone();
        let site = Site::of(event, &event.clauses);
        self.compiled.push(rule, reads.into_inner(), site);
        let part_reads = transaction::reads(&event_type, parts);
        self.compiled.part_reads.extend(part_reads);
    }

    /// Reports what an event of several rows cannot have.
    fn check_joined(&self, event: &EventDecl) {
        let clauses = &event.clauses;
        let only = clauses.only.as_ref().and_then(|only| only.first());
        let on = clauses.on.as_ref().and_then(|on| on.first());
        for (key, at) in [
            ("table", event.table.as_ref().map(|text| text.at)),
            ("on", on.map(|text| text.at)),
            ("changed", clauses.changed.as_ref().map(|decl| decl.at)),
            ("transition", event.transition.as_ref().map(|decl| decl.at)),
            ("each", event.each.as_ref().map(|text| text.at)),
            ("reverts", event.reverts.as_ref().map(|text| text.at)),
            ("image", clauses.image.as_ref().map(|text| text.at)),
            ("only", only.map(|(column, _)| column.at)),
        ] {
            if let Some(at) = at {
                self.report.push(
                    Diagnostic::error(at, format!("`{key}` in an event of several rows"))
                        .label("of which of them?")
                        .hint("leave it out; a part has `table`, `on`, `when` and `only`"),
                );
            }
        }
    }

    fn rule(
        &mut self,
        event: &'a EventDecl,
        clauses: &Clauses,
        table: usize,
        scope: &Scope<'_>,
        lookups: Option<Box<[Lookup]>>,
    ) -> Option<Rule> {
        let changed = clauses
            .changed
            .as_ref()
            .map(|changed| self.changed(scope, changed, table));
        let transition = event
            .transition
            .as_ref()
            .map(|decl| self.lifecycles.transition(scope, event, decl, table));
        let only = clauses
            .only
            .as_deref()
            .map(|list| only::compile(scope, self.params, list))
            .unwrap_or_default();
        let reverts = event
            .reverts
            .as_ref()
            .map(|reverted| self.reverted_type(scope, reverted));
        let (when, judges) = conditions(scope, clauses);
        let checks = clauses
            .checks
            .iter()
            .map(|decl| check(scope, decl))
            .collect::<Vec<_>>();
        let topic = self.topic(event, clauses);
        let key = key::compile(scope, event, clauses, topic.map(|(_, topic)| topic));
        let subject = clauses
            .subject
            .as_ref()
            .map(|text| template::compile(scope, text));
        let correlation = clauses
            .correlation
            .as_ref()
            .map(|text| template::compile(scope, text));
        let time = clauses.time.as_ref().map(|text| time(scope, text));
        let headers = self.headers(scope, &clauses.headers);
        let body = body(scope, event, clauses);
        let event_type = event.event_type.as_ref()?.value.clone();
        let (topic, envelope) = topic.map(|(number, topic)| (number, topic.envelope))?;
        Some(Rule {
            type_number: self.type_number(&event_type),
            event_type,
            doc: event.doc.clone(),
            line: line_and_column(self.text, event.at.start).0,
            table,
            ops: scope.ops,
            image: scope.image,
            changed: all_or_none(changed)?,
            transition: all_or_none(transition)?,
            reverts: all_or_none(reverts)?,
            is_reverted: false,
            joining: None,
            lookups: lookups?,
            judges,
            each: match scope.item {
                ItemScope::No => None,
                ItemScope::Broken => return None,
                ItemScope::Of(each) => Some(each.clone()),
            },
            only: only.into_iter().collect::<Option<_>>()?,
            when: when.into_iter().collect::<Option<_>>()?,
            checks: checks.into_iter().collect::<Option<_>>()?,
            topic,
            envelope,
            key: key?,
            subject: all_or_none(subject)?,
            correlation: all_or_none(correlation)?,
            time: all_or_none(time)?,
            headers,
            body: body?,
        })
    }

    fn type_number(&mut self, event_type: &str) -> u16 {
        let known = self.types.iter().position(|known| known == event_type);
        let number = known.unwrap_or_else(|| {
            self.types.push(event_type.to_owned());
            self.types.len() - 1
        });
        u16::try_from(number).unwrap_or(u16::MAX)
    }

    /// The event type that is taken back; it may come further below.
    fn reverted_type(&mut self, scope: &Scope<'_>, reverted: &Text) -> Option<String> {
        if scope.table.key.is_empty() {
            scope.error(
                Diagnostic::error(reverted.at, "`reverts` in a table without a key")
                    .label("of which entity the last event is meant, nobody knows")
                    .hint(format!(
                        "key = [\"id\"] in [{}] of schema.toml",
                        scope.table.short
                    )),
            );
            return None;
        }
        for slot in &scope.table.key {
            scope.reads(*slot, Side::Row);
        }
        self.reverted.push(reverted.clone());
        Some(reverted.value.clone())
    }

    /// Marks the events that others take back, and reports every `reverts` that names no event of its table.
    fn mark_reverted(&mut self) {
        let pairs: Vec<(usize, String)> = self
            .compiled
            .rules
            .iter()
            .filter_map(|rule| Some((rule.table, rule.reverts.clone()?)))
            .collect();
        for (table, reverted) in pairs {
            let rules = &mut self.compiled.rules;
            let names: Vec<String> = rules.iter().map(|rule| rule.event_type.clone()).collect();
            let mut known = false;
            for rule in rules.iter_mut() {
                // What is made of several rows is the event of none of them.
                let is_it = rule.table == table && rule.joining.is_none();
                if is_it && rule.event_type == reverted {
                    rule.is_reverted = true;
                    known = true;
                }
            }
            let written = self.reverted.iter().find(|text| text.value == reverted);
            if let Some(text) = written.filter(|_| !known) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                self.report.push(
                    Diagnostic::error(
                        text.at,
                        format!("no event of this table has the type `{reverted}`"),
                    )
                    .label("is taken back here")
                    .maybe_hint(one_of(&reverted, &names)),
                );
            }
        }
    }

    /// `on`; by default update alone with `changed`, what can be the transition where there is one, else insert,
    /// update and delete.
    fn ops(&self, event: &EventDecl, clauses: &Clauses) -> OpSet {
        let Some(on) = &clauses.on else {
            return match (&clauses.changed, &event.transition) {
                (Some(_), _) => OpSet::default().with(Op::Update),
                (None, Some(transition)) => transition.implied(),
                (None, None) => [Op::Insert, Op::Update, Op::Delete].into_iter().collect(),
            };
        };
        let mut ops = OpSet::default();
        for word in on {
            if let Some(op) = op_named(self.report, word) {
                ops = ops.with(op);
                if let Some(transition) = &event.transition {
                    lifecycle::check_op(self.report, transition, op);
                }
            }
            if let Some(changed) = clauses.changed.as_ref().filter(|_| word.value != "update") {
                self.report.push(
                    Diagnostic::error(
                        changed.at,
                        format!("`changed` in a rule that runs on {}", word.value),
                    )
                    .label("only an update has two images")
                    .hint("on = \"update\", or leave `on` out: `changed` implies it"),
                );
            }
        }
        if on.is_empty() {
            let at = clauses.data_at;
            if let Some(at) = at {
                self.report
                    .push(Diagnostic::error(at, "`on` names no operation").hint("on = \"update\""));
            }
        }
        ops
    }

    fn image(&self, clauses: &Clauses, ops: OpSet) -> RowImage {
        let Some(image) = &clauses.image else {
            return RowImage::Current;
        };
        match image.value.as_str() {
            "before" => {
                if ops.contains(Op::Insert) || ops.contains(Op::Read) {
                    self.report.push(
                        Diagnostic::error(
                            image.at,
                            "`image = \"before\"` in a rule that runs on inserts",
                        )
                        .label("an insert has no before image")
                        .hint("on = [\"update\", \"delete\"]"),
                    );
                }
                RowImage::Before
            }
            "after" => RowImage::Current,
            other => {
                self.report.push(
                    Diagnostic::error(image.at, format!("unknown image `{other}`"))
                        .maybe_hint(one_of(other, &["before", "after"])),
                );
                RowImage::Current
            }
        }
    }

    fn topic(&self, event: &EventDecl, clauses: &Clauses) -> Option<(TopicId, &'a Topic)> {
        let topics = &self.file.topics;
        let Some(short) = &clauses.topic else {
            let hint = match topics.first() {
                Some(topic) => format!("topic = \"{}\", here or in [defaults]", topic.short.value),
                None => "topic = \"inventory\", and a [topics.inventory] with its name".to_owned(),
            };
            self.report
                .push(Diagnostic::error(event.at, "this event has no topic").hint(hint));
            return None;
        };
        let Some((number, topic)) = find_topic(topics, &short.value) else {
            let by_name = topics.iter().find(|topic| topic.topic.name == short.value);
            let hint = by_name
                .map(|topic| format!("did you mean `{}`, its short name?", topic.short.value))
                .or_else(|| one_of(&short.value, &topic_names(topics)));
            self.report.push(
                Diagnostic::error(short.at, format!("unknown topic `{}`", short.value))
                    .label("no such [topics.…]")
                    .maybe_hint(hint),
            );
            return None;
        };
        Some((TopicId(u16::try_from(number).ok()?), topic))
    }

    fn changed(
        &mut self,
        scope: &Scope<'_>,
        changed: &ChangedDecl,
        table: usize,
    ) -> Option<Changed> {
        let watched: Vec<Option<u16>> = changed
            .columns
            .iter()
            .map(|name| {
                let place = column::compile(scope, name)?;
                scope.reads(place.slot, Side::Before);
                scope.reads(place.slot, Side::After);
                let watched = &mut self.compiled.watched[table];
                let known = watched.iter().position(|known| known.same_as(&place));
                let number = known.unwrap_or_else(|| {
                    watched.push(place);
                    watched.len() - 1
                });
                u16::try_from(number).ok()
            })
            .collect();
        Some(Changed {
            at: changed.at,
            quantifier: changed.quantifier,
            watched: watched.into_iter().collect::<Option<_>>()?,
        })
    }

    fn headers(&mut self, scope: &Scope<'_>, fields: &[FieldDecl]) -> Box<[OwnHeader]> {
        fields
            .iter()
            .filter_map(|field| self.header(scope, field))
            .collect()
    }

    fn header(&mut self, scope: &Scope<'_>, field: &FieldDecl) -> Option<OwnHeader> {
        let name = &field.name.value;
        let lower = name.to_ascii_lowercase();
        if lower.starts_with("ce_") || lower == "content-type" {
            self.report.push(
                Diagnostic::error(
                    field.name.at,
                    format!("header `{name}` belongs to CloudEvents"),
                )
                .label("Rowbridge writes it")
                .hint("choose a name without `ce_`"),
            );
            return None;
        }
        let own = field.value.privacy.as_ref();
        if own.is_some_and(|own| own.class == Class::Drop) {
            return None;
        }
        let mut class = None;
        let value = match &field.value.from {
            From::Path(text) => {
                let place = leaving(scope, value::single(scope, text)?, text.at, own)?;
                HeaderValue::Place(place)
            }
            From::Template(text) => {
                let template = template::compile(scope, text)?;
                class = value::protected(scope, own, template.places())?;
                HeaderValue::Template(template)
            }
            From::Const(literal) => {
                let json: serde_json::Value = serde_json::from_str(&literal.json).ok()?;
                let text = json
                    .as_str()
                    .map_or_else(|| literal.json.clone(), str::to_owned);
                HeaderValue::Const(text.into_bytes().into())
            }
            _ => {
                self.report.push(
                    Diagnostic::error(field.name.at, format!("header `{name}` is text"))
                        .hint("a path, { const = .. } or { template = .. }"),
                );
                return None;
            }
        };
        let names = &mut self.compiled.header_names;
        let known = names.iter().position(|known| known == name);
        let number = known.unwrap_or_else(|| {
            names.push(name.clone());
            names.len() - 1
        });
        let id = HeaderId(u16::try_from(number).ok()?);
        Some(OwnHeader { id, value, class })
    }
}

/// The operation that a word of `on` means.
pub(super) fn op_named(report: &Report, word: &Text) -> Option<Op> {
    const WORDS: [(&str, Op); 5] = [
        ("insert", Op::Insert),
        ("update", Op::Update),
        ("delete", Op::Delete),
        ("read", Op::Read),
        ("truncate", Op::Truncate),
    ];
    let found = WORDS.iter().find(|(name, _)| *name == word.value);
    if found.is_none() {
        report.push(
            Diagnostic::error(word.at, format!("unknown operation `{}`", word.value))
                .maybe_hint(one_of(&word.value, &WORDS.map(|(name, _)| name))),
        );
    }
    found.map(|(_, op)| *op)
}

/// A clause that is absent is fine; one that is broken is not.
#[expect(clippy::option_option, reason = "absent, broken, or there")]
fn all_or_none<T>(clause: Option<Option<T>>) -> Option<Option<T>> {
    match clause {
        None => Some(None),
        Some(compiled) => compiled.map(Some),
    }
}

/// Every condition, and what they are about.
fn conditions(scope: &Scope<'_>, clauses: &Clauses) -> (Vec<Option<Guard>>, Judges) {
    let looked_up = || scope.reads.borrow().others.len();
    let before = looked_up();
    let when = clauses.when.iter().map(|when| guard(scope, when));
    let when = when.collect();
    let judges = match looked_up() > before {
        true => Judges::LookedUp,
        false => Judges::TheChange,
    };
    (when, judges)
}

pub(super) fn guard(scope: &Scope<'_>, text: &Text) -> Option<Guard> {
    Some(Guard {
        at: text.at,
        condition: condition::compile(scope, text)?,
        text: one_line(&text.value),
    })
}

fn check(scope: &Scope<'_>, decl: &CheckDecl) -> Option<Check> {
    Some(Check {
        at: decl.assert.at,
        condition: condition::compile(scope, &decl.assert)?,
        message: decl.message.clone(),
    })
}

/// An expression that was written over several lines, in one.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn time(scope: &Scope<'_>, text: &Text) -> Option<Place> {
    let place = value::single(scope, text)?;
    if let PlaceType::Column(ty) = place.ty(scope)
        && !matches!(ty.kind, Kind::Date | Kind::Timestamp | Kind::TimestampTz)
    {
        scope.error(
            Diagnostic::error(
                text.at,
                format!("the event's time is made from {}", ty.name),
            )
            .label("not a date or timestamp")
            .hint("leave `time` out for the commit time"),
        );
        return None;
    }
    let hint = "leave `time` out for the commit time";
    in_the_clear(scope, &place, text.at, "the event's time", hint)?;
    Some(place)
}

fn body(scope: &Scope<'_>, event: &EventDecl, clauses: &Clauses) -> Option<Body> {
    if let Some(flag) = clauses.tombstone.filter(|flag| flag.on) {
        if event.clauses.data_at.is_some() {
            scope.error(
                Diagnostic::error(flag.at, "a tombstone with data")
                    .label("publishes the key with no value")
                    .hint("leave out [event.data] or `tombstone`"),
            );
            return None;
        }
        return Some(Body::Tombstone);
    }
    value::fields(scope, &clauses.data).map(Body::Data)
}
