//! What stands on the right of a field in `data`, `headers` and `object`.

use super::privacy::OwnClass;
use super::reader::{Node, Table, Text};
use crate::mapping::diagnostic::{Diagnostic, one_of};
use crate::mapping::file::{event, plain};

/// One field: a name and how to make its value.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct FieldDecl {
    pub(in crate::mapping) name: Text,
    pub(in crate::mapping) value: ValueDecl,
}

/// How to make a value.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct ValueDecl {
    pub(in crate::mapping) from: From,
    pub(in crate::mapping) convert: Option<Text>,
    pub(in crate::mapping) required: bool,
    pub(in crate::mapping) default: Option<Const>,
    pub(in crate::mapping) privacy: Option<OwnClass>,
}

/// What a value is made from.
#[derive(Clone, Debug)]
pub(in crate::mapping) enum From {
    Path(Text),
    Const(Const),
    Delta(Text),
    Template(Text),
    Coalesce(Vec<Text>),
    Map {
        path: Text,
        with: Vec<(Text, Const)>,
        otherwise: Otherwise,
    },
    Object(Vec<FieldDecl>),
}

/// What a map gives for a value that it does not list.
#[derive(Clone, Debug)]
pub(in crate::mapping) enum Otherwise {
    /// There is no `else`.
    Unsaid,
    Error,
    Value(Const),
}

/// A literal of the file, as JSON.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct Const {
    pub(in crate::mapping) json: String,
}

/// The keys that say what a value is made from.
const FROM_KEYS: &[&str] = &[
    "path", "const", "delta", "template", "coalesce", "map", "object",
];

/// The fields of a table, without those that are broken (and reported).
pub(in crate::mapping) fn read_fields(table: &Table<'_>) -> Vec<FieldDecl> {
    table
        .entries()
        .filter_map(|(name, node)| {
            let value = read_value(&name, &node)?;
            Some(FieldDecl { name, value })
        })
        .collect()
}

fn read_value(name: &Text, node: &Node<'_>) -> Option<ValueDecl> {
    if let Some(text) = node.as_text().filter(|text| text.value.starts_with('$')) {
        return Some(ValueDecl::plain(From::Path(text)));
    }
    let table = node.as_table();
    let has_from = |table: &Table<'_>| FROM_KEYS.iter().any(|key| table.has(key));
    if let Some(table) = table.as_ref().filter(|table| has_from(table)) {
        return read_table_value(name, node, table);
    }
    let keys = event::EVENT_KEYS.iter().chain(event::LATER_KEYS);
    if keys.clone().any(|key| *key == name.value) {
        node.report().push(
            Diagnostic::error(name.at, format!("`{}` is read as a field here", name.value))
                .label("TOML puts it into the table above")
                .hint("move it above [event.data]"),
        );
    } else if let Some(text) = node.as_text() {
        node.report().push(not_a_path(&text));
    } else if table.is_some() {
        node.report().push(
            Diagnostic::error(
                node.at,
                format!("field `{}` does not say what it is made from", name.value),
            )
            .label(format!("needs one of: {}", FROM_KEYS.join(", ")))
            .hint("a nested object is { object = { name = \"$.row.name\" } }"),
        );
    } else {
        let json = literal(node).json;
        node.report().push(
            Diagnostic::error(node.at, "a literal is written as `const`")
                .label("not a path")
                .hint(format!("{} = {{ const = {} }}", name.value, json)),
        );
    }
    None
}

/// A string in `data` that is no path: probably a column's name, or a literal.
fn not_a_path(text: &Text) -> Diagnostic {
    let value = &text.value;
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
    let hint = if value.contains('{') {
        format!("did you mean {{ template = \"{value}\" }}?")
    } else if !value.is_empty() && value.chars().all(word) {
        let path = match value.split_once('.') {
            Some(("before" | "after" | "row" | "key" | "tx" | "source", _)) => format!("$.{value}"),
            _ => format!("$.row.{value}"),
        };
        format!("did you mean `{path}`? A literal is {{ const = \"{value}\" }}")
    } else {
        format!(
            "a literal is {{ const = {} }}",
            serde_json::Value::from(value.as_str())
        )
    };
    Diagnostic::error(text.at, format!("`{value}` is not a path"))
        .label("a path starts with `$`")
        .hint(hint)
}

impl ValueDecl {
    const fn plain(from: From) -> Self {
        Self {
            from,
            convert: None,
            required: false,
            default: None,
            privacy: None,
        }
    }
}

fn read_table_value(name: &Text, node: &Node<'_>, table: &Table<'_>) -> Option<ValueDecl> {
    let forms: Vec<&str> = FROM_KEYS
        .iter()
        .copied()
        .filter(|key| table.has(key))
        .collect();
    let [form] = forms.as_slice() else {
        node.report().push(
            Diagnostic::error(
                node.at,
                format!("field `{}` is made from two things", name.value),
            )
            .label(format!("has {}", forms.join(" and ")))
            .hint("one of them; `coalesce` takes the first of several"),
        );
        return None;
    };
    let known: &[&str] = match *form {
        "path" | "coalesce" => &["path", "coalesce", "as", "required", "default", "privacy"],
        "const" => &["const"],
        "template" => &["template", "privacy"],
        "delta" => &["delta", "as", "required", "privacy"],
        "map" => &["map", "with", "else", "required", "privacy"],
        _ => &["object"],
    };
    table.only_keys(&format!("a value made with `{form}`"), known, &[]);
    let from = match *form {
        "path" => From::Path(table.text("path")?),
        "const" => From::Const(literal(&table.get("const")?)),
        "template" => From::Template(table.text("template")?),
        "delta" => From::Delta(table.text("delta")?),
        "coalesce" => From::Coalesce(table.get("coalesce")?.texts()?),
        "map" => read_map(node, table)?,
        _ => From::Object(read_fields(&table.table("object")?)),
    };
    Some(ValueDecl {
        from,
        convert: table.text("as"),
        required: table.flag("required").is_some_and(|flag| flag.on),
        default: table.get("default").map(|default| literal(&default)),
        privacy: OwnClass::read(table),
    })
}

fn read_map(node: &Node<'_>, table: &Table<'_>) -> Option<From> {
    let path = table.text("map")?;
    let Some(with) = table.table("with") else {
        if !table.has("with") {
            node.report().push(
                Diagnostic::error(node.at, "`map` needs `with`, what to give for which value")
                    .hint("with = { Y = \"economy\", J = \"business\" }"),
            );
        }
        return None;
    };
    let otherwise = match table.get("else") {
        None => Otherwise::Unsaid,
        Some(node) => match node.as_text() {
            Some(text) if text.value == "error" => Otherwise::Error,
            Some(text) if text.value == "null" => Otherwise::Value(Const {
                json: "null".to_owned(),
            }),
            Some(text) if text.value.starts_with('$') => {
                node.report().push(
                    Diagnostic::error(text.at, "`else` is a literal, not a path").maybe_hint(
                        one_of("error", &["error"])
                            .map(|_| "else = \"error\", \"null\", or a literal".to_owned()),
                    ),
                );
                Otherwise::Error
            }
            _ => Otherwise::Value(literal(&node)),
        },
    };
    Some(From::Map {
        path,
        with: with
            .entries()
            .map(|(key, value)| (key, literal(&value)))
            .collect(),
        otherwise,
    })
}

fn literal(node: &Node<'_>) -> Const {
    Const {
        json: json(&plain(node.value)).to_string(),
    }
}

/// A TOML value as JSON: dates and times as their text, and what JSON cannot say as text.
fn json(value: &toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(*number)
            .map_or_else(|| number.to_string().into(), serde_json::Value::Number),
        toml::Value::Boolean(flag) => (*flag).into(),
        toml::Value::Datetime(datetime) => datetime.to_string().into(),
        toml::Value::Array(elements) => elements.iter().map(json).collect(),
        toml::Value::Table(table) => table
            .iter()
            .map(|(key, value)| (key.clone(), json(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}
