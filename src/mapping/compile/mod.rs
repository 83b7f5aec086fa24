//! From files to a [`Mapping`]: resolves names to numbers and reports everything that is wrong.

mod each;
mod event;
mod keep;
mod key;
mod lifecycle;
mod lint;
mod lookup;
mod needs;
mod only;
mod privacy;
mod transaction;
mod value;

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_128;

use self::event::{CompiledEvents, EventCompiler};
use super::diagnostic::{At, Diagnostic, Diagnostics, FileId, Report, one_of};
use super::file::reader::{Table as TomlTable, Text};
use super::file::{self, MappingFile, Param, TableDecl, TopicDecl};
use super::privacy::TablePrivacy;
use super::rule::Table;
use super::schema::{self, SchemaTable, unknown_column};
use super::{Mapping, Pack, Topic};

/// Most rules, topics, columns and headers of one mapping: they are numbered in 16 bits.
const NUMBERED: usize = u16::MAX as usize - 1;

/// Compiles a pack; on success also its warnings.
pub(super) fn compile(pack: &Pack) -> Result<(Mapping, Diagnostics), Diagnostics> {
    let report = Report::default();
    let mapping = compile_files(pack, &report);
    let failed = report.has_errors();
    let diagnostics = report.finish(pack);
    match mapping {
        Some(mapping) if !failed => Ok((mapping, diagnostics)),
        _ => Err(diagnostics),
    }
}

fn compile_files(pack: &Pack, report: &Report) -> Option<Mapping> {
    let parsed = file::parse(FileId::Mapping, &pack.mapping.text, report);
    let schema = file::parse(FileId::Schema, &pack.schema.text, report);
    if report.has_errors() {
        // After a syntax error the rest of the file is a guess, and would be reported as one.
        return None;
    }
    let root = TomlTable::root(FileId::Mapping, &parsed, &pack.mapping.text, report);
    let file = MappingFile::read(&root);
    let schema_root = TomlTable::root(FileId::Schema, &schema, &pack.schema.text, report);
    let schema = schema::read(&schema_root);

    let mut tables = resolve_tables(report, &file, &schema);
    privacy::resolve(report, file.privacy.as_ref(), &mut tables);
    let params = resolve_params(report, &file.params, &pack.params);
    check_topics(report, &file.topics);
    check_defaults(report, &file);
    let mut compiler = EventCompiler::new(report, &pack.mapping.text, &file, &tables, &params);
    for event in &file.events {
        compiler.event(event);
    }
    let compiled = compiler.finish();
    check_counts(report, root.at, &file, &compiled);
    lint::lint(report, &file.topics, &tables, &compiled);
    let needs = needs::of(&tables, &compiled);
    let hashed = privacy::finish(file.privacy.as_ref(), &mut tables, &compiled);
    let mut tables: Vec<Table> = tables.into_iter().map(|table| table.table).collect();
    keep::keep(report, &file.tables, &mut tables, &compiled);
    for (table, watched) in tables.iter_mut().zip(compiled.watched) {
        table.watched = watched;
    }
    for rule in compiled.rules.iter().filter(|rule| rule.is_reverted) {
        let reverted = &mut tables[rule.table].reverted;
        if !reverted.contains(&rule.event_type) {
            reverted.push(rule.event_type.clone());
        }
    }
    let rules = compiled.rules.iter().map(|rule| rule.event_type.clone());
    let lifecycles = compiled.lifecycles.iter();
    let lifecycles = lifecycles.map(|compiled| compiled.lifecycle.rule.clone());
    let rule_names = rules.chain(lifecycles).collect();
    for compiled in compiled.lifecycles {
        tables[compiled.table].lifecycles.push(compiled.lifecycle);
    }
    Some(Mapping {
        tag: format!("{}@{}", file.header.name, file.header.version),
        name: file.header.name,
        version: file.header.version,
        on_error: file.header.on_error,
        hash: hash(pack, &params),
        topics: file.topics.into_iter().map(|topic| topic.topic).collect(),
        header_names: compiled.header_names,
        gathers: compiled
            .rules
            .iter()
            .any(|rule| !rule.lookups.is_empty() || rule.joining.is_some()),
        rule_names,
        needs,
        tables,
        rules: compiled.rules,
        hashed,
        hash_key: None,
    })
}

/// Reports more of anything than its number can tell.
fn check_counts(report: &Report, at: At, file: &MappingFile, compiled: &CompiledEvents) {
    for (what, count) in [
        (
            "events and lifecycles",
            file.events.len() + file.lifecycles.len(),
        ),
        ("topics", file.topics.len()),
        ("headers", compiled.header_names.len()),
    ] {
        if count > NUMBERED {
            let message = format!("more than {NUMBERED} {what}");
            report.push(Diagnostic::error(at, message));
        }
    }
}

/// A table, and where it was named (for "did you mean").
pub(super) struct ResolvedTable {
    pub(super) table: Table,
    /// Whether its columns are known; if not, nothing about them is reported twice.
    pub(super) known: Known,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Yes,
    No,
}

fn resolve_tables(
    report: &Report,
    file: &MappingFile,
    schema: &[SchemaTable],
) -> Vec<ResolvedTable> {
    let mut resolved: Vec<ResolvedTable> = Vec::new();
    for decl in &file.tables {
        let source = decl.source.as_ref().map(|(name, _)| name.clone());
        let twin = source
            .as_ref()
            .and_then(|name| resolved.iter().find(|table| table.table.source == *name));
        if let (Some(twin), Some((name, text))) = (twin, &decl.source) {
            report.push(
                Diagnostic::error(text.at, format!("`{name}` has two short names"))
                    .label(format!("also `{}`", twin.table.short))
                    .hint("one short name for each table of the source"),
            );
        }
        resolved.push(resolve_table(report, decl, schema));
    }
    for table in schema {
        if !file
            .tables
            .iter()
            .any(|decl| decl.short.value == table.name.value)
        {
            let shorts: Vec<&str> = file
                .tables
                .iter()
                .map(|decl| decl.short.value.as_str())
                .collect();
            report.push(
                Diagnostic::warning(
                    table.name.at,
                    format!("table `{}` is not in [tables]", table.name.value),
                )
                .label("nothing can read it")
                .maybe_hint(one_of(&table.name.value, &shorts)),
            );
        }
    }
    resolved
}

fn resolve_table(report: &Report, decl: &TableDecl, schema: &[SchemaTable]) -> ResolvedTable {
    let declared = schema
        .iter()
        .find(|table| table.name.value == decl.short.value);
    if declared.is_none() {
        report.push(undeclared(&decl.short, schema));
    }
    let columns = declared
        .map(|table| table.columns.clone())
        .unwrap_or_default();
    let known = match declared.is_some() && decl.source.is_some() {
        true => Known::Yes,
        false => Known::No,
    };
    let mut table = Table {
        short: decl.short.value.clone(),
        source: decl.source.as_ref().map_or_else(
            || rowbridge_api::TableName::new("", ""),
            |(name, _)| name.clone(),
        ),
        columns,
        key: Vec::new(),
        indexes: Vec::new(),
        kept: None,
        generation: 0,
        before: decl.before,
        unchanged: decl.unchanged,
        reverted: Vec::new(),
        key_places: Box::default(),
        watched: Vec::new(),
        lifecycles: Vec::new(),
        privacy: TablePrivacy::default(),
    };
    let named = decl.indexes.iter().flatten();
    let own: &[Text] = decl.key.as_deref().unwrap_or_default();
    for part in own.iter().chain(named).filter(|_| known == Known::Yes) {
        if table.slot(&part.value).is_none() {
            report.push(unknown_column(
                part.at,
                &part.value,
                &table.short,
                &table.columns,
            ));
        }
    }
    let key = match &decl.key {
        Some(own) => own.as_slice(),
        None => declared
            .map(|table| table.key.as_slice())
            .unwrap_or_default(),
    };
    table.key = key
        .iter()
        .filter_map(|part| table.slot(&part.value))
        .collect();
    let slots = |columns: &Vec<Text>| {
        let slots = columns.iter().map(|column| table.slot(&column.value));
        slots.collect::<Option<Box<[u16]>>>()
    };
    table.indexes = decl.indexes.iter().filter_map(slots).collect();
    ResolvedTable { table, known }
}

fn undeclared(short: &Text, schema: &[SchemaTable]) -> Diagnostic {
    let names: Vec<&str> = schema
        .iter()
        .map(|table| table.name.value.as_str())
        .collect();
    let message = format!("table `{}` is not in schema.toml", short.value);
    Diagnostic::error(short.at, message)
        .label("its columns are unknown")
        .maybe_hint(one_of(&short.value, &names).filter(|hint| hint.starts_with("did")))
}

/// A parameter's value after the configuration's override, and where it is declared.
pub(super) struct ResolvedParam {
    pub(super) value: toml::Value,
    pub(super) at: At,
}

fn resolve_params(
    report: &Report,
    params: &[Param],
    overrides: &toml::Table,
) -> BTreeMap<String, ResolvedParam> {
    let mut resolved = BTreeMap::new();
    for param in params {
        let overriding = overrides.get(&param.name.value);
        if let Some(value) = overriding.filter(|value| !value.same_type(&param.value)) {
            report.push(
                Diagnostic::error(
                    param.at,
                    format!(
                        "the configuration overrides `{}` with another type",
                        param.name.value
                    ),
                )
                .label(format!(
                    "{} here, {} there",
                    param.value.type_str(),
                    value.type_str()
                )),
            );
        }
        let value = overriding.unwrap_or(&param.value).clone();
        resolved.insert(
            param.name.value.clone(),
            ResolvedParam {
                value,
                at: param.at,
            },
        );
    }
    let names: Vec<&str> = params
        .iter()
        .map(|param| param.name.value.as_str())
        .collect();
    for name in overrides
        .keys()
        .filter(|name| !resolved.contains_key(*name))
    {
        report.push(
            Diagnostic::error(
                At::new(FileId::Mapping, 0..0),
                format!("the configuration overrides `{name}`, which [params] does not declare"),
            )
            .maybe_hint(one_of(name, &names)),
        );
    }
    resolved
}

fn check_topics(report: &Report, topics: &[TopicDecl]) {
    for (index, topic) in topics.iter().enumerate() {
        let Some(name) = &topic.name else { continue };
        let same = |earlier: &&TopicDecl| {
            earlier
                .name
                .as_ref()
                .is_some_and(|earlier| earlier.value == name.value)
        };
        if let Some(earlier) = topics[..index].iter().find(same) {
            report.push(
                Diagnostic::error(
                    name.at,
                    format!("two topics have the name `{}`", name.value),
                )
                .label(format!("also [topics.{}]", earlier.short.value)),
            );
        }
    }
}

fn check_defaults(report: &Report, file: &MappingFile) {
    let shorts: Vec<&str> = file
        .tables
        .iter()
        .map(|decl| decl.short.value.as_str())
        .collect();
    for (table, _) in &file.defaults {
        if !shorts.contains(&table.value.as_str()) {
            report.push(unknown_table(table, &shorts));
        } else if !file.events.iter().any(|event| {
            event
                .table
                .as_ref()
                .is_some_and(|name| name.value == table.value)
        }) {
            report.push(
                Diagnostic::warning(
                    table.at,
                    format!("no event starts from [defaults.{}]", table.value),
                )
                .label("has no effect"),
            );
        }
    }
}

fn unknown_table(table: &Text, known: &[&str]) -> Diagnostic {
    Diagnostic::error(table.at, format!("unknown table `{}`", table.value))
        .label("not in [tables]")
        .maybe_hint(one_of(&table.value, known))
}

/// Short names of topics, for "did you mean".
fn topic_names(topics: &[TopicDecl]) -> Vec<&str> {
    topics
        .iter()
        .map(|topic| topic.short.value.as_str())
        .collect()
}

/// The topic's declaration by short name.
fn find_topic<'a>(topics: &'a [TopicDecl], short: &str) -> Option<(usize, &'a Topic)> {
    let index = topics.iter().position(|topic| topic.short.value == short)?;
    Some((index, &topics[index].topic))
}

/// What decides what is published: both files without comments and layout, and the parameters in force.
fn hash(pack: &Pack, params: &BTreeMap<String, ResolvedParam>) -> String {
    let canonical = |text: &str| match text.parse::<toml::Table>() {
        Ok(table) => table.to_string(),
        Err(_) => text.to_owned(),
    };
    let params: toml::Table = params
        .iter()
        .map(|(name, param)| (name.clone(), param.value.clone()))
        .collect();
    let all = [
        canonical(&pack.mapping.text),
        canonical(&pack.schema.text),
        params.to_string(),
    ];
    format!("{:032x}", xxh3_128(all.join("\0").as_bytes()))
}
