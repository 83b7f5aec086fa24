//! What was given, by whom: the file's keys with their spans and the environment's variables, each checked
//! against the schema. Everything wrong is collected; nothing stops at the first.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::schema::{self, Kind};
use super::size;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Bytes of the configuration file.
    File(Range<usize>),
    /// An environment variable.
    Variable(String),
    /// It is missing, so it is nowhere.
    Nowhere,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) title: String,
    pub(super) origin: Origin,
    /// What stands beside the caret.
    pub(super) label: String,
    pub(super) help: Option<String>,
}

/// A value that was given.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) value: toml::Value,
    pub(super) origin: Origin,
}

/// Every key that was given and is right by itself, by path; properties and parameters one by one.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) values: BTreeMap<String, Value>,
    /// Tables that the file names, with their headers.
    pub(super) tables: BTreeMap<String, Origin>,
    pub(super) problems: Vec<Problem>,
    /// Keys that were given and are wrong: present, but without a value.
    wrong: Vec<String>,
}

impl Given {
    /// Whether `path` or a key below it was given, be it rightly.
    pub(super) fn has(&self, path: &str) -> bool {
        let is_below = |name: &String| {
            name.strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.tables.contains_key(path)
            || self.values.keys().any(is_below)
            || self.wrong.iter().any(is_below)
    }

    /// Where `path`, or else a key below it, was given.
    pub(super) fn origin(&self, path: &str) -> Origin {
        let below = format!("{path}.");
        self.values
            .get(path)
            .map(|value| &value.origin)
            .or_else(|| self.tables.get(path))
            .or_else(|| {
                let mut values = self.values.iter();
                values
                    .find(|(name, _)| name.starts_with(&below))
                    .map(|(_, value)| &value.origin)
            })
            .cloned()
            .unwrap_or(Origin::Nowhere)
    }

    fn take(&mut self, path: &str, kind: &Kind, value: toml::Value, origin: Origin) {
        match check(kind, &value) {
            Ok(()) => {
                self.values.insert(path.to_owned(), Value { value, origin });
            }
            Err(found) => {
                self.wrong.push(path.to_owned());
                self.problems.push(Problem {
                    title: format!("`{path}` is not valid"),
                    origin,
                    label: format!("expected {}, found {found}", kind.describe()),
                    help: schema::key(path).map(|key| key.doc.to_owned()),
                });
            }
        }
    }

    /// Takes the file's keys.
    pub(super) fn take_file(&mut self, root: &DeTable<'_>) {
        self.take_table("", root);
    }

    fn take_table(&mut self, path: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let span = name.span();
            let full = join(path, name.get_ref());
            match (schema::key(&full), value.get_ref()) {
                (Some(key), _) => self.take_key(key, value, span),
                (None, DeValue::Table(inner)) if schema::is_table(&full) => {
                    self.tables.insert(full.clone(), Origin::File(span));
                    self.take_table(&full, inner);
                }
                (None, _) if schema::is_table(&full) => self.problems.push(Problem {
                    title: format!("`{full}` is not valid"),
                    origin: Origin::File(value.span()),
                    label: format!("expected a table, found {}", kind_of(&to_value(value))),
                    help: Some(format!("write it as `[{full}]`")),
                }),
                (None, _) => self.problems.push(unknown(path, &full, Origin::File(span))),
            }
        }
    }

    fn take_key(&mut self, key: &schema::Key, value: &Spanned<DeValue<'_>>, name: Range<usize>) {
        match (&key.kind, value.get_ref()) {
            (Kind::Properties, DeValue::Table(table)) => {
                self.tables.insert(key.path.to_owned(), Origin::File(name));
                self.take_properties(key.path, table);
            }
            (Kind::Params, DeValue::Table(table)) => {
                self.tables.insert(key.path.to_owned(), Origin::File(name));
                for (name, value) in table {
                    let origin = Origin::File(value.span());
                    let value = to_value(value);
                    self.values
                        .insert(join(key.path, name.get_ref()), Value { value, origin });
                }
            }
            _ => self.take(
                key.path,
                &key.kind,
                to_value(value),
                Origin::File(value.span()),
            ),
        }
    }

    /// `"a.b" = "x"` and `a.b = "x"` are the same property.
    fn take_properties(&mut self, path: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let full = join(path, name.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) => self.take_properties(&full, inner),
                _ => self.take(
                    &full,
                    &Kind::Text,
                    to_value(value),
                    Origin::File(value.span()),
                ),
            }
        }
    }

    /// Takes the environment: variables that start with `ROWBRIDGE_` and hold `__`.
    pub(super) fn take_environment(&mut self, variables: &[(String, String)]) {
        for (variable, text) in variables {
            let Some(path) = path_of(variable) else {
                continue;
            };
            let origin = Origin::Variable(variable.clone());
            if let Some((table, name)) = open_table(&path) {
                let (kind, full) = match table.kind {
                    Kind::Properties => (Kind::Text, join(table.path, &property(name))),
                    _ => (Kind::Params, join(table.path, name)),
                };
                let value = from_text(&kind, text);
                match kind {
                    Kind::Params => drop(self.values.insert(full, Value { value, origin })),
                    kind => self.take(&full, &kind, value, origin),
                }
            } else if let Some(key) = schema::key(&path) {
                self.take(key.path, &key.kind, from_text(&key.kind, text), origin);
            } else {
                let table = path.rsplit_once('.').map_or("", |(table, _)| table);
                self.problems.push(unknown(table, &path, origin));
            }
        }
    }

    /// Adds what `over` says on top.
    pub(super) fn overlay(&mut self, mut over: Self) {
        self.values.append(&mut over.values);
        self.tables.append(&mut over.tables);
        self.problems.append(&mut over.problems);
        self.wrong.append(&mut over.wrong);
    }

    /// Everything that was given, as one tree.
    pub(super) fn tree(&self) -> toml::Table {
        let mut root = toml::Table::new();
        for path in self.tables.keys() {
            table_at(&mut root, path);
        }
        for (path, given) in &self.values {
            insert(&mut root, path, given.value.clone());
        }
        root
    }
}

/// Puts `value` where `path` says. The names of properties and parameters keep their dots.
pub(super) fn insert(root: &mut toml::Table, path: &str, value: toml::Value) {
    let (table, name) = match open_table(path) {
        Some((table, name)) => (table.path, name),
        None => path.rsplit_once('.').unwrap_or(("", path)),
    };
    table_at(root, table).insert(name.to_owned(), value);
}

fn table_at<'a>(root: &'a mut toml::Table, path: &str) -> &'a mut toml::Table {
    let mut table = root;
    for name in path.split('.').filter(|name| !name.is_empty()) {
        let entry = table
            .entry(name)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let toml::Value::Table(inner) = entry else {
            unreachable!("the schema has no key that is a value and a table")
        };
        table = inner;
    }
    table
}

/// The table with names of its own that `path` lies in, and the rest of `path`.
fn open_table(path: &str) -> Option<(&'static schema::Key, &str)> {
    schema::KEYS
        .iter()
        .filter(|key| matches!(key.kind, Kind::Properties | Kind::Params))
        .find_map(|key| Some((key, path.strip_prefix(key.path)?.strip_prefix('.')?)))
}

/// `ROWBRIDGE_SOURCE__POSTGRES__URL` and `ROWBRIDGE__PIPELINE` as paths; `None` for variables that are none
/// of ours.
fn path_of(variable: &str) -> Option<String> {
    let rest = variable.strip_prefix("ROWBRIDGE_")?;
    let names = match rest.strip_prefix('_') {
        Some(names) => names,
        None if rest.contains("__") => rest,
        None => return None,
    };
    Some(names.to_lowercase().replace("__", "."))
}

/// The librdkafka property that the end of a variable's name stands for: it is written with dots, which a variable's
/// name cannot have; only our own `_file` behind a secret's name is none.
fn property(name: &str) -> String {
    match name.strip_suffix("_file") {
        Some(secret) => format!("{}_file", secret.replace('_', ".")),
        None => name.replace('_', "."),
    }
}

/// A variable's text as the value that `kind` wants; text that does not fit stays text, and is refused as
/// such.
fn from_text(kind: &Kind, text: &str) -> toml::Value {
    let value = match kind {
        Kind::Bool => text.parse().ok().map(toml::Value::Boolean),
        Kind::Integer(_) => text.parse().ok().map(toml::Value::Integer),
        Kind::Params => text
            .parse()
            .map(toml::Value::Boolean)
            .or_else(|_| text.parse().map(toml::Value::Integer))
            .ok(),
        _ => None,
    };
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

/// Whether `value` is of `kind`; if not, what it is instead.
fn check(kind: &Kind, value: &toml::Value) -> Result<(), String> {
    let text = || value.as_str().ok_or_else(|| kind_of(value).to_owned());
    let shown = || {
        if kind.is_public() {
            value.to_string()
        } else {
            "something else".to_owned()
        }
    };
    let fits = match kind {
        Kind::Text => !text()?.trim().is_empty(),
        Kind::Path | Kind::Secret => !text()?.is_empty(),
        Kind::Url => text()?.contains("://"),
        Kind::PipelineName => {
            let allowed =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            (1..=40).contains(&text()?.len()) && text()?.bytes().all(allowed)
        }
        Kind::Socket => text()?.parse::<std::net::SocketAddr>().is_ok(),
        Kind::Choice(names) => names.contains(&text()?),
        Kind::Bool => value.is_bool(),
        Kind::Integer(range) => match value.as_integer() {
            Some(number) => u64::try_from(number).is_ok_and(|number| range.contains(&number)),
            None => return Err(kind_of(value).to_owned()),
        },
        Kind::Size(range) => size_of(value).is_some_and(|bytes| range.contains(&bytes)),
        Kind::Marker => value.as_table().is_some_and(toml::Table::is_empty),
        Kind::Properties | Kind::Params => return Err(kind_of(value).to_owned()),
    };
    if fits { Ok(()) } else { Err(shown()) }
}

/// The bytes that a size says.
pub(super) fn size_of(value: &toml::Value) -> Option<u64> {
    match value {
        toml::Value::Integer(bytes) => u64::try_from(*bytes).ok(),
        toml::Value::String(text) => size::parse(text),
        _ => None,
    }
}

fn kind_of(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::String(_) => "text",
        toml::Value::Integer(_) => "an integer",
        toml::Value::Float(_) => "a float",
        toml::Value::Boolean(_) => "a boolean",
        toml::Value::Datetime(_) => "a date",
        toml::Value::Array(_) => "an array",
        toml::Value::Table(_) => "a table",
    }
}

/// A number past 64 bits becomes text, which no number's kind accepts.
fn to_value(value: &Spanned<DeValue<'_>>) -> toml::Value {
    match value.get_ref() {
        DeValue::String(text) => toml::Value::String(text.clone().into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(
                |_| toml::Value::String(number.to_string()),
                toml::Value::Integer,
            ),
        DeValue::Float(number) => number.as_str().parse().map_or_else(
            |_| toml::Value::String(number.to_string()),
            toml::Value::Float,
        ),
        DeValue::Boolean(boolean) => toml::Value::Boolean(*boolean),
        DeValue::Datetime(datetime) => toml::Value::Datetime(*datetime),
        DeValue::Array(array) => toml::Value::Array(array.iter().map(to_value).collect()),
        DeValue::Table(table) => {
            let entries = table.iter();
            let entries =
                entries.map(|(name, value)| (name.get_ref().clone().into_owned(), to_value(value)));
            toml::Value::Table(entries.collect())
        }
    }
}

fn unknown(table: &str, path: &str, origin: Origin) -> Problem {
    let name = path.rsplit('.').next().unwrap_or(path);
    let known = schema::names_in(table);
    let near = known
        .iter()
        .map(|known| (strsim::osa_distance(known, name), known))
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3))
        .min();
    let elsewhere = || {
        let mut keys = schema::KEYS.iter();
        keys.find(|key| key.path.rsplit('.').next() == Some(name))
    };
    let variable = matches!(origin, Origin::Variable(_));
    let spelled = |path: &str| match schema::key(path) {
        Some(key) if variable => key.variable(),
        _ => path.rsplit('.').next().unwrap_or(path).to_owned(),
    };
    let help = match (near, elsewhere()) {
        (Some((_, near)), _) => Some(format!("did you mean `{}`?", spelled(&join(table, near)))),
        (None, Some(key)) if variable => Some(format!("did you mean `{}`?", key.variable())),
        (None, Some(key)) => Some(format!("`{name}` belongs into `[{}]`", key.table())),
        (None, None) if known.is_empty() => None,
        (None, None) => Some(format!("known here: {}", known.join(", "))),
    };
    let place = match table {
        "" => String::new(),
        _ => format!(" in `[{table}]`"),
    };
    Problem {
        title: format!("unknown key `{name}`{place}"),
        origin,
        label: "not a key of the configuration".to_owned(),
        help,
    }
}

fn join(table: &str, name: &str) -> String {
    match table {
        "" => name.to_owned(),
        _ => format!("{table}.{name}"),
    }
}
