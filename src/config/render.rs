//! Problems as people read them: with the line of the file, or the variable. Values that may be secrets are
//! masked before any line is shown.

use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::given::{Origin, Problem};
use super::schema;

/// Renders all problems, those of the file first and in its order.
pub(super) fn render(file_name: &str, masked: &str, problems: &[Problem]) -> String {
    let mut problems: Vec<_> = problems.iter().collect();
    problems.sort_by_key(|problem| match &problem.origin {
        Origin::File(span) => (0, span.start),
        Origin::Variable(_) => (1, 0),
        Origin::Nowhere => (2, 0),
    });
    let rendered: Vec<_> = problems
        .into_iter()
        .map(|problem| render_one(file_name, masked, problem))
        .collect();
    rendered.join("\n\n")
}

fn render_one(file_name: &str, masked: &str, problem: &Problem) -> String {
    match &problem.origin {
        Origin::File(span) => with_line(file_name, masked, problem, span),
        Origin::Variable(name) => {
            without_line(problem, &format!("variable {name}: {}", problem.label))
        }
        Origin::Nowhere => without_line(problem, file_name),
    }
}

fn with_line(file_name: &str, masked: &str, problem: &Problem, span: &Range<usize>) -> String {
    // An empty span (end of file) still gets a caret.
    let span = span.start.min(masked.len())..span.end.min(masked.len());
    let snippet = Snippet::source(masked).path(file_name).annotation(
        AnnotationKind::Primary
            .span(span)
            .label(problem.label.as_str()),
    );
    let mut group = Level::ERROR
        .primary_title(problem.title.as_str())
        .element(snippet);
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    Renderer::plain()
        .decor_style(DecorStyle::Ascii)
        .render(&[group])
}

fn without_line(problem: &Problem, place: &str) -> String {
    let mut text = format!("error: {}\n --> {place}", problem.title);
    if let Some(help) = &problem.help {
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
