//! Typed access to a TOML table with the place of every key and value.
//!
//! A wrong type or an unknown key is pushed into the report and reads as absent, so that the rest of the
//! file is still looked at.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::mapping::diagnostic::{At, Diagnostic, FileId, Report, one_of};

/// A string of the file, and where its characters are.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct Text {
    pub(in crate::mapping) value: String,
    pub(in crate::mapping) at: At,
    /// Where the value's first byte is in the file; `None` where escapes make the two differ.
    pub(in crate::mapping) content: Option<usize>,
}

impl Text {
    fn new(value: &str, file: FileId, span: Range<usize>, source: &str) -> Self {
        Self {
            value: value.to_owned(),
            content: content_start(value, &span, source),
            at: At::new(file, span),
        }
    }

    /// The place of some bytes of the value; the whole string where escapes hide it.
    pub(in crate::mapping) fn part(&self, range: Range<usize>) -> At {
        match self.content {
            Some(start) => At::new(self.at.file, start + range.start..start + range.end),
            None => self.at,
        }
    }
}

/// Where a string's value starts in the file, if the file has it byte for byte.
fn content_start(value: &str, span: &Range<usize>, source: &str) -> Option<usize> {
    let raw = source.get(span.clone())?;
    let quotes = [
        "\"\"\"\r\n",
        "\"\"\"\n",
        "'''\r\n",
        "'''\n",
        "\"\"\"",
        "'''",
        "\"",
        "'",
    ];
    let opening = quotes
        .iter()
        .find(|quotes| raw.starts_with(**quotes))
        .map_or(0, |quotes| quotes.len());
    raw[opening..]
        .starts_with(value)
        .then_some(span.start + opening)
}

/// A `true` or `false` of the file.
#[derive(Clone, Copy, Debug)]
pub(in crate::mapping) struct Flag {
    pub(in crate::mapping) on: bool,
    pub(in crate::mapping) at: At,
}

/// One table of a file.
#[derive(Clone, Copy)]
pub(in crate::mapping) struct Table<'a> {
    entries: &'a DeTable<'a>,
    pub(in crate::mapping) at: At,
    source: &'a str,
    report: &'a Report,
}

/// One value of a file.
#[derive(Clone, Copy)]
pub(in crate::mapping) struct Node<'a> {
    pub(in crate::mapping) value: &'a DeValue<'a>,
    pub(in crate::mapping) at: At,
    source: &'a str,
    report: &'a Report,
}

impl<'a> Table<'a> {
    /// The root table of a file.
    pub(in crate::mapping) fn root(
        file: FileId,
        parsed: &'a Spanned<DeTable<'a>>,
        source: &'a str,
        report: &'a Report,
    ) -> Self {
        Self {
            entries: parsed.get_ref(),
            at: At::new(file, 0..0),
            source,
            report,
        }
    }

    pub(in crate::mapping) const fn report(&self) -> &'a Report {
        self.report
    }

    /// All keys and values in file order.
    pub(in crate::mapping) fn entries(&self) -> impl Iterator<Item = (Text, Node<'a>)> + use<'a> {
        let this = *self;
        this.entries
            .iter()
            .map(move |(key, value)| (this.key_text(key), this.node(value)))
    }

    fn key_text(&self, key: &Spanned<toml::de::DeString<'a>>) -> Text {
        Text::new(key.get_ref(), self.at.file, key.span(), self.source)
    }

    fn node(&self, value: &'a Spanned<DeValue<'a>>) -> Node<'a> {
        Node {
            value: value.get_ref(),
            at: At::new(self.at.file, value.span()),
            source: self.source,
            report: self.report,
        }
    }

    pub(in crate::mapping) fn get(&self, key: &str) -> Option<Node<'a>> {
        self.entries()
            .find(|(name, _)| name.value == key)
            .map(|(_, node)| node)
    }

    /// The place of a key, for messages about what it says.
    pub(in crate::mapping) fn key_at(&self, key: &str) -> Option<At> {
        self.entries()
            .find(|(name, _)| name.value == key)
            .map(|(name, _)| name.at)
    }

    pub(in crate::mapping) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Reports every key that is not in `known`; those in `later` by name.
    pub(in crate::mapping) fn only_keys(&self, place: &str, known: &[&str], later: &[&str]) {
        for (key, _) in self.entries() {
            let name = key.value.as_str();
            if later.contains(&name) {
                self.report
                    .push(Diagnostic::not_yet(key.at, &format!("`{name}`")));
            } else if !known.contains(&name) {
                self.report.push(
                    Diagnostic::error(key.at, format!("unknown key `{name}`"))
                        .label(format!("no such key in {place}"))
                        .maybe_hint(one_of(name, known)),
                );
            }
        }
    }

    /// Reports the keys of `keys` that are not there.
    pub(in crate::mapping) fn text(&self, key: &str) -> Option<Text> {
        self.get(key)?.text()
    }

    pub(in crate::mapping) fn flag(&self, key: &str) -> Option<Flag> {
        self.get(key)?.flag()
    }

    pub(in crate::mapping) fn table(&self, key: &str) -> Option<Table<'a>> {
        self.get(key)?.table()
    }

    /// A whole number between `range`'s ends.
    pub(in crate::mapping) fn number<N: TryFrom<i64>>(
        &self,
        key: &str,
        expected: &str,
    ) -> Option<N> {
        self.get(key)?.number(expected)
    }
}

impl<'a> Node<'a> {
    fn mismatch<T>(&self, expected: &str) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.report.push(
            Diagnostic::error(self.at, format!("expected {expected}, found {found}"))
                .label(format!("should be {expected}")),
        );
        None
    }

    /// The value if it is a string; says nothing if not.
    pub(in crate::mapping) fn as_text(&self) -> Option<Text> {
        let value = self.value.as_str()?;
        let span = self.at.start..self.at.end;
        Some(Text::new(value, self.at.file, span, self.source))
    }

    /// The value if it is a table; says nothing if not.
    pub(in crate::mapping) fn as_table(&self) -> Option<Table<'a>> {
        Some(Table {
            entries: self.value.as_table()?,
            at: self.at,
            source: self.source,
            report: self.report,
        })
    }

    pub(in crate::mapping) fn text(&self) -> Option<Text> {
        self.as_text().or_else(|| self.mismatch("a string"))
    }

    pub(in crate::mapping) fn table(&self) -> Option<Table<'a>> {
        self.as_table().or_else(|| self.mismatch("a table"))
    }

    pub(in crate::mapping) fn flag(&self) -> Option<Flag> {
        match self.value {
            DeValue::Boolean(on) => Some(Flag {
                on: *on,
                at: self.at,
            }),
            _ => self.mismatch("true or false"),
        }
    }

    pub(in crate::mapping) fn number<N: TryFrom<i64>>(&self, expected: &str) -> Option<N> {
        let number = match self.value {
            DeValue::Integer(integer) => {
                i64::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
            _ => None,
        };
        number
            .and_then(|number| N::try_from(number).ok())
            .or_else(|| self.mismatch(expected))
    }

    /// The elements if it is an array; says nothing if not.
    pub(in crate::mapping) fn as_array(&self) -> Option<impl Iterator<Item = Node<'a>> + use<'a>> {
        let this = *self;
        Some(this.value.as_array()?.iter().map(move |element| Node {
            value: element.get_ref(),
            at: At::new(this.at.file, element.span()),
            source: this.source,
            report: this.report,
        }))
    }

    /// The strings of an array of strings.
    pub(in crate::mapping) fn texts(&self) -> Option<Vec<Text>> {
        match self.as_array() {
            Some(elements) => Some(elements.filter_map(|element| element.text()).collect()),
            None => self.mismatch("an array of strings"),
        }
    }

    /// One string, or an array of them.
    pub(in crate::mapping) fn text_or_texts(&self) -> Option<Vec<Text>> {
        match (self.as_text(), self.as_array()) {
            (Some(text), _) => Some(vec![text]),
            (None, Some(_)) => self.texts(),
            (None, None) => self.mismatch("a string or an array of strings"),
        }
    }

    pub(in crate::mapping) const fn report(&self) -> &'a Report {
        self.report
    }

    /// Says that the value should have been something else.
    pub(in crate::mapping) fn expected(&self, what: &str) {
        self.mismatch::<()>(what);
    }
}
