//! JSON values that know where they stand in their line, so that an error can name the column.
//!
//! Nothing is parsed before it is asked for, and numbers keep every digit: a node is the text of a value.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What is wrong, and at which byte of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) offset: usize,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(offset: usize, message: impl Into<String>) -> Self {
        Self {
            offset,
            message: message.into(),
        }
    }
}

/// The text of one JSON value and its byte offset in the line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Node<'a> {
    /// Reads a whole line as one value.
    pub(crate) fn parse(line: &'a str) -> Result<Self, Problem> {
        let root = Self {
            text: line,
            offset: 0,
        };
        let raw: &RawValue = root.decode()?;
        Ok(root.child(raw))
    }

    pub(crate) const fn text(self) -> &'a str {
        self.text
    }

    pub(crate) fn is_null(self) -> bool {
        self.text == "null"
    }

    pub(crate) fn is_object(self) -> bool {
        self.text.starts_with('{')
    }

    pub(crate) fn is_string(self) -> bool {
        self.text.starts_with('"')
    }

    /// The members in the order they are written.
    pub(crate) fn object(self) -> Result<Object<'a>, Problem> {
        if !self.is_object() {
            return Err(self.problem("expected an object"));
        }
        let members: RawMembers<'a> = self.decode()?;
        let members = members
            .0
            .into_iter()
            .map(|(name, raw)| (name, self.child(raw)))
            .collect();
        Ok(Object { at: self, members })
    }

    pub(crate) fn array(self) -> Result<Vec<Self>, Problem> {
        if !self.text.starts_with('[') {
            return Err(self.problem("expected an array"));
        }
        let elements: Vec<&'a RawValue> = self.decode()?;
        Ok(elements.into_iter().map(|raw| self.child(raw)).collect())
    }

    pub(crate) fn string(self) -> Result<String, Problem> {
        if !self.is_string() {
            return Err(self.problem("expected a string"));
        }
        self.decode()
    }

    /// A number, or a string that is one.
    pub(crate) fn integer<T: std::str::FromStr>(self) -> Result<T, Problem> {
        let digits = if self.is_string() {
            self.string()?
        } else {
            self.text.to_owned()
        };
        digits
            .parse()
            .map_err(|_| self.problem("expected a whole number"))
    }

    pub(crate) fn problem(self, message: impl Into<String>) -> Problem {
        Problem::new(self.offset, message)
    }

    fn decode<T: Deserialize<'a>>(self) -> Result<T, Problem> {
        serde_json::from_str(self.text).map_err(|error| {
            // serde_json counts columns in bytes from 1, and 0 stands for the end of an empty text.
            let within = error.column().saturating_sub(1);
            let whole = error.to_string();
            let message = whole
                .rsplit_once(" at line ")
                .map_or(whole.as_str(), |(message, _)| message);
            Problem::new(self.offset + within, message)
        })
    }

    /// A value inside this one: `raw` is a part of our own text.
    fn child(self, raw: &'a RawValue) -> Self {
        let text = raw.get();
        Self {
            text,
            offset: self.offset + (text.as_ptr().addr() - self.text.as_ptr().addr()),
        }
    }
}

/// An object's members in order.
#[derive(Clone, Debug)]
pub(crate) struct Object<'a> {
    pub(crate) at: Node<'a>,
    pub(crate) members: Vec<(String, Node<'a>)>,
}

impl<'a> Object<'a> {
    /// The member `name`; a null is not there.
    pub(crate) fn get(&self, name: &str) -> Option<Node<'a>> {
        self.members
            .iter()
            .find(|(member, value)| member == name && !value.is_null())
            .map(|(_, value)| *value)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(member, _)| member == name)
    }

    pub(crate) fn require(&self, name: &str) -> Result<Node<'a>, Problem> {
        self.get(name)
            .ok_or_else(|| self.at.problem(format!("`{name}` is missing")))
    }
}

struct RawMembers<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for RawMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = RawMembers<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(RawMembers(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_knows_its_place_at_any_depth() {
        let line = r#" { "a": [1, {"b" : 12345678901234567890.10}] }"#;
        let inner = Node::parse(line)
            .unwrap()
            .object()
            .unwrap()
            .get("a")
            .unwrap();
        let b = inner.array().unwrap()[1]
            .object()
            .unwrap()
            .get("b")
            .unwrap();
        assert_eq!(b.text(), "12345678901234567890.10");
        assert_eq!(&line[b.offset..][..b.text().len()], b.text());
    }

    #[test]
    fn a_syntax_error_names_the_byte_and_not_the_line() {
        let problem = Node::parse(r#"{"a": nul}"#).unwrap_err();
        assert_eq!(problem.message, "expected ident");
        assert!((6..=9).contains(&problem.offset), "{problem:?}");
        assert!(Node::parse("").is_err());
        assert!(Node::parse(r#"{"a":1} x"#).is_err());
    }
}
