//! TOML as people lay it out: basic strings, bare keys where they can be, aligned entries, comments.

use serde_json::Value;

/// Columns that a comment fills.
const COLUMNS: usize = 110;

/// A basic string on one line.
pub(super) fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            control if control.is_control() => {
                out.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// A list of strings.
pub(super) fn strings<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts: Vec<String> = texts.into_iter().map(string).collect();
    format!("[{}]", texts.join(", "))
}

/// A key, bare where TOML allows it.
pub(super) fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(is_bare) {
        name.to_owned()
    } else {
        string(name)
    }
}

/// JSON as a TOML value on one line; TOML has no null, for which cases write `{ null = true }`.
pub(super) fn value(json: &Value) -> String {
    match json {
        Value::Null => "{ null = true }".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => string(text),
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(value).collect();
            format!("[{}]", elements.join(", "))
        }
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(name, member)| (name.as_str(), value(member)));
            inline(members)
        }
    }
}

/// An inline table of values that are TOML already.
pub(super) fn inline<'a>(members: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let members: Vec<String> = members
        .into_iter()
        .map(|(name, value)| format!("{} = {value}", key(name)))
        .collect();
    if members.is_empty() {
        "{}".to_owned()
    } else {
        format!("{{ {} }}", members.join(", "))
    }
}

/// One line of a table.
pub(super) struct Entry {
    /// Written as TOML.
    pub(super) key: String,
    /// Written as TOML.
    pub(super) value: String,
    /// What follows it on its line.
    pub(super) comment: Option<String>,
    pub(super) state: EntryState,
}

/// Whether an entry counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryState {
    Active,
    /// Commented out, to be taken in.
    Offered,
}

impl Entry {
    pub(super) fn new(name: &str, value: String) -> Self {
        Self {
            key: key(name),
            value,
            comment: None,
            state: EntryState::Active,
        }
    }

    pub(super) fn commented(self, comment: impl Into<String>) -> Self {
        Self {
            comment: Some(comment.into()),
            ..self
        }
    }

    pub(super) fn offered(self) -> Self {
        Self {
            state: EntryState::Offered,
            ..self
        }
    }
}

/// Entries with their equals signs one below the other.
pub(super) fn entries(entries: &[Entry]) -> String {
    let width = |entry: &Entry| {
        let marker = usize::from(entry.state == EntryState::Offered);
        entry.key.chars().count() + marker
    };
    let keys = entries.iter().map(width).max().unwrap_or_default();
    let values = entries
        .iter()
        .filter(|entry| entry.comment.is_some())
        .map(|entry| entry.value.chars().count())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for entry in entries {
        let marker = match entry.state {
            EntryState::Active => "",
            EntryState::Offered => "#",
        };
        let name = format!("{marker}{}", entry.key);
        text.push_str(&pad(&name, keys));
        text.push_str(" = ");
        match &entry.comment {
            Some(comment) => {
                text.push_str(&pad(&entry.value, values));
                text.push_str(&format!("  # {}", one_line(comment)));
            }
            None => text.push_str(&entry.value),
        }
        text.push('\n');
    }
    text
}

/// Pads by characters, not bytes.
fn pad(text: &str, width: usize) -> String {
    let blanks = width.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(blanks))
}

/// What may stand in a comment: TOML refuses control characters there.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Prose as comment lines.
pub(super) fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in one_line(text).split_whitespace() {
        let width = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && width > COLUMNS {
            lines.push_str(&format!("# {line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        lines.push_str(&format!("# {line}\n"));
    }
    lines
}

/// TOML that is not in force: a `#` without a blank before each line, so that prose beside it stays prose.
pub(super) fn switched_off(toml: &str) -> String {
    toml.lines()
        .map(|line| match line {
            "" => "#\n".to_owned(),
            prose if prose.starts_with("# ") => format!("{prose}\n"),
            code => format!("#{code}\n"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_and_any_key_are_read_back_as_they_were(text in any::<String>(), name in any::<String>()) {
            let line = format!("{} = {}\n", key(&name), string(&text));
            let table: toml::Table = line.parse().unwrap();
            prop_assert_eq!(table[&name].as_str(), Some(text.as_str()));
        }

        #[test]
        fn any_text_makes_a_comment(text in any::<String>()) {
            let entry = Entry::new("a", "1".to_owned()).commented(text.clone());
            let all = comment(&text) + &entries(&[entry]);
            let table: toml::Table = all.parse().unwrap();
            prop_assert_eq!(table.len(), 1);
        }
    }

    #[test]
    fn entries_are_aligned_and_offers_are_comments() {
        let text = entries(&[
            Entry::new("id", "1".to_owned()),
            Entry::new("Fare Class", "\"Y\"".to_owned()).commented("a letter"),
            Entry::new("email", "2".to_owned())
                .commented("looks personal")
                .offered(),
        ]);
        insta::assert_snapshot!(text, @r#"
        id           = 1
        "Fare Class" = "Y"  # a letter
        #email       = 2    # looks personal
        "#);
    }
}
