//! Walking a TOML document with spans, so that every problem of a case file is found at once.

use std::ops::Range;

use annotate_snippets::Level;
use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::SourceFile;
use crate::paint::{Excerpt, Look};

/// What is wrong in a case file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseProblem {
    /// Bytes of the file's text.
    pub span: Range<usize>,
    pub message: String,
    /// What would work instead; empty where the message says it.
    pub hint: String,
}

impl CaseProblem {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            hint: String::new(),
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// All problems of one case file.
#[derive(Clone, Debug)]
pub struct Problems {
    pub file: SourceFile,
    pub list: Vec<CaseProblem>,
}

impl Problems {
    /// Text for people: file, line, column, a caret under the exact characters, a hint.
    #[must_use]
    pub fn render(&self, look: Look) -> String {
        let rendered = self.list.iter().map(|problem| {
            let excerpt = Excerpt {
                level: Level::ERROR,
                title: &problem.message,
                file: &self.file.name,
                text: &self.file.text,
                span: problem.span.clone(),
                label: "",
                hint: Some(problem.hint.as_str()).filter(|hint| !hint.is_empty()),
            };
            excerpt.draw(look)
        });
        rendered.collect::<Vec<_>>().join("\n\n")
    }
}

/// A table whose keys are read one by one; what is left at the end is unknown.
pub(super) struct Fields<'d> {
    pub(super) span: Range<usize>,
    table: &'d DeTable<'d>,
    read: Vec<&'static str>,
}

impl<'d> Fields<'d> {
    pub(super) fn new(table: &'d DeTable<'d>, span: Range<usize>) -> Self {
        Self {
            span,
            table,
            read: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, name: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.read.push(name);
        self.table.get(name)
    }

    /// A string, or a date or time as its text.
    pub(super) fn text(
        &mut self,
        name: &'static str,
        problems: &mut Vec<CaseProblem>,
    ) -> Option<String> {
        let value = self.take(name)?;
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Datetime(moment) => Some(moment.to_string()),
            _ => {
                problems.push(CaseProblem::new(
                    value.span(),
                    format!("`{name}` is a string"),
                ));
                None
            }
        }
    }

    /// Whether `name = true` is there.
    pub(super) fn flag(&mut self, name: &'static str, problems: &mut Vec<CaseProblem>) -> bool {
        match self.take(name).map(|value| (value.get_ref(), value.span())) {
            None | Some((DeValue::Boolean(false), _)) => false,
            Some((DeValue::Boolean(true), _)) => true,
            Some((_, span)) => {
                problems.push(CaseProblem::new(span, format!("`{name}` is true or false")));
                false
            }
        }
    }

    pub(super) fn table(
        &mut self,
        name: &'static str,
        problems: &mut Vec<CaseProblem>,
    ) -> Option<&'d DeTable<'d>> {
        let value = self.take(name)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            problems.push(CaseProblem::new(
                value.span(),
                format!("`{name}` is a table"),
            ));
        }
        table
    }

    /// The tables of `[[name]]`, each with its span.
    pub(super) fn tables(
        &mut self,
        name: &'static str,
        problems: &mut Vec<CaseProblem>,
    ) -> Vec<Fields<'d>> {
        let Some(value) = self.take(name) else {
            return Vec::new();
        };
        let elements = value.get_ref().as_array();
        let tables: Option<Vec<Fields<'d>>> = elements.and_then(|elements| {
            let fields = elements.iter().map(|element| {
                let table = element.get_ref().as_table()?;
                Some(Fields::new(table, element.span()))
            });
            fields.collect()
        });
        tables.unwrap_or_else(|| {
            let problem = CaseProblem::new(value.span(), format!("`{name}` is a list of tables"));
            problems.push(problem.hint(format!("write [[{name}]]")));
            Vec::new()
        })
    }

    /// Reports every key that was not asked for.
    pub(super) fn finish(self, problems: &mut Vec<CaseProblem>) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if !self.read.contains(&name) {
                let problem = CaseProblem::new(key.span(), format!("unknown key `{name}`"));
                problems.push(problem.hint(format!("known here: {}", self.read.join(", "))));
            }
        }
    }
}

/// A TOML value as JSON. TOML has no null: `{ null = true }` stands for it. Numbers keep their digits.
pub(super) fn to_json(value: &Spanned<DeValue<'_>>) -> Result<Value, CaseProblem> {
    let number = |digits: &str| {
        let digits = digits.strip_prefix('+').unwrap_or(digits);
        serde_json::from_str::<Number>(digits)
            .map(Value::Number)
            .map_err(|_| {
                CaseProblem::new(value.span(), "not a number of JSON").hint("write it as text")
            })
    };
    match value.get_ref() {
        DeValue::String(text) => Ok(Value::String(text.to_string())),
        DeValue::Integer(integer) if integer.radix() != 10 => {
            let parsed = i64::from_str_radix(integer.as_str(), integer.radix());
            parsed
                .map(Value::from)
                .map_err(|_| CaseProblem::new(value.span(), "a number past 64 bits"))
        }
        DeValue::Integer(integer) => number(integer.as_str()),
        DeValue::Float(float) => number(float.as_str()),
        DeValue::Boolean(flag) => Ok(Value::Bool(*flag)),
        DeValue::Datetime(moment) => Ok(Value::String(moment.to_string())),
        DeValue::Array(elements) => elements.iter().map(to_json).collect(),
        DeValue::Table(table) if is_null(table) => Ok(Value::Null),
        DeValue::Table(table) => {
            let members = table
                .iter()
                .map(|(name, value)| Ok((name.get_ref().to_string(), to_json(value)?)));
            members.collect::<Result<Map<_, _>, _>>().map(Value::Object)
        }
    }
}

fn is_null(table: &DeTable<'_>) -> bool {
    let null = table.get("null").map(|flag| flag.get_ref());
    table.len() == 1 && matches!(null, Some(DeValue::Boolean(true)))
}
