//! Problems as people read them: with the line of the file, or the variable. Values that may be secrets are
//! masked before any line is shown.

use std::fmt::{self, Write as _};
use std::ops::Range;

use annotate_snippets::Level;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::given::{Origin, Problem};
use super::schema;
use crate::paint::{Excerpt, Look, Tone};

/// Every problem of a configuration, with what is needed to show it; holds no secret.
#[derive(Clone, Debug)]
pub struct ConfigProblems {
    file_name: String,
    masked: String,
    /// Those of the file first and in its order.
    problems: Vec<Problem>,
}

/// Whether a problem begins with the word `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Title {
    Named,
    Bare,
}

impl ConfigProblems {
    /// `masked` is the file's text without secrets.
    pub(super) fn new(file_name: &str, masked: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| match &problem.origin {
            Origin::File(span) => (0, span.start),
            Origin::Variable(_) => (1, 0),
            Origin::Nowhere => (2, 0),
        });
        Self {
            file_name: file_name.to_owned(),
            masked: masked.to_owned(),
            problems,
        }
    }

    /// All of them as text for people, with a blank line between two.
    #[must_use]
    pub fn render(&self, look: Look) -> String {
        let all = self.problems.iter();
        let rendered = all.map(|problem| self.render_one(problem, Title::Named, look));
        rendered.collect::<Vec<_>>().join("\n\n")
    }

    /// Each as text for people, without the word `error`.
    pub(crate) fn render_each(&self, look: Look) -> impl Iterator<Item = String> {
        let all = self.problems.iter();
        all.map(move |problem| self.render_one(problem, Title::Bare, look))
    }

    fn render_one(&self, problem: &Problem, title: Title, look: Look) -> String {
        match &problem.origin {
            Origin::File(span) => self.with_line(problem, span, title, look),
            Origin::Variable(name) => {
                let place = format!("variable {name}: {}", problem.label);
                without_line(problem, &place, title, look)
            }
            Origin::Nowhere => without_line(problem, &self.file_name, title, look),
        }
    }

    fn with_line(
        &self,
        problem: &Problem,
        span: &Range<usize>,
        title: Title,
        look: Look,
    ) -> String {
        let excerpt = Excerpt {
            level: match title {
                Title::Named => Level::ERROR,
                Title::Bare => Level::ERROR.no_name(),
            },
            title: &problem.title,
            file: &self.file_name,
            text: &self.masked,
            span: span.clone(),
            label: &problem.label,
            hint: problem.help.as_deref(),
        };
        excerpt.draw(look)
    }
}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => f.write_str("1 error in the configuration"),
            errors => write!(f, "{errors} errors in the configuration"),
        }
    }
}

fn without_line(problem: &Problem, place: &str, title: Title, look: Look) -> String {
    let name = match title {
        Title::Named => format!("{}: ", look.paint.tone(Tone::Bad, "error")),
        Title::Bare => String::new(),
    };
    let mut text = format!("{name}{}\n --> {place}", problem.title);
    if let Some(help) = &problem.help {
        let help = look.hint(help).replace('\n', "\n          ");
        let _ = write!(text, "\n  = help: {help}");
    }
    text
}

/// The file's text with every value masked whose key is not known to hold no secret. Same length, so that
/// spans still hold.
pub(super) fn mask(text: &str, root: &DeTable<'_>) -> String {
    let mut hidden = Vec::new();
    hide_table("", root, &mut hidden);
    let mut masked = text.to_owned();
    for span in hidden {
        mask_range(&mut masked, span);
    }
    masked
}

fn hide_table(path: &str, table: &DeTable<'_>, hidden: &mut Vec<Range<usize>>) {
    for (name, value) in table {
        let full = match path {
            "" => name.get_ref().to_string(),
            _ => format!("{path}.{}", name.get_ref()),
        };
        match value.get_ref() {
            DeValue::Table(inner) => hide_table(&full, inner, hidden),
            _ if schema::key(&full).is_some_and(|key| key.kind.is_public()) => {}
            _ => hide_texts(value, hidden),
        }
    }
}

fn hide_texts(value: &Spanned<DeValue<'_>>, hidden: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Boolean(_) => {}
        DeValue::Array(items) => items.iter().for_each(|item| hide_texts(item, hidden)),
        DeValue::Table(table) => table.values().for_each(|value| hide_texts(value, hidden)),
        _ => hidden.push(value.span()),
    }
}

/// The same for text that is not TOML: only lines that name one public key, or a table, are shown.
pub(super) fn mask_lines(text: &str) -> String {
    let mut masked = text.to_owned();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if !is_public_line(line) {
            mask_range(&mut masked, start..start + line.len());
        }
        start += line.len();
    }
    masked
}

fn is_public_line(line: &str) -> bool {
    let line = line.trim();
    let Some((name, value)) = line.split_once('=') else {
        let is_header = |byte: u8| byte.is_ascii_alphanumeric() || b"[]._-".contains(&byte);
        return line.starts_with('[') && line.bytes().all(is_header);
    };
    let name = name.trim();
    let public =
        |key: &schema::Key| key.kind.is_public() && key.path.rsplit('.').next() == Some(name);
    !value.contains('=') && schema::KEYS.iter().any(public)
}

/// Replaces letters and digits by as many bytes of `*`.
fn mask_range(text: &mut String, range: Range<usize>) {
    let hidden: String = text[range.clone()]
        .chars()
        .map(|c| match c {
            '"' | '\'' | '\n' | '\r' | '=' | ' ' => c.to_string(),
            c => "*".repeat(c.len_utf8()),
        })
        .collect();
    text.replace_range(range, &hidden);
}
