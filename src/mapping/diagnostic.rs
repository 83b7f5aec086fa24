//! What is wrong with a mapping's files, as people read it: file, line, column, a caret under the exact
//! characters, and a hint that would compile.
//!
//! Compilation never stops at the first problem: every part pushes into a [`Report`] and goes on with what
//! is left, so that one run tells everything. Rendering is here too; colour only when asked.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use annotate_snippets::Level;

use super::{Pack, SourceFile};
use crate::paint::{Excerpt, Look};

/// Which file of the pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FileId {
    Mapping,
    Schema,
}

/// A stretch of characters in one file of the pack, in bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) file: FileId,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Where something is written is no part of what it says: two rules whose `Debug` is the same are the same.
impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("At")
    }
}

impl At {
    pub(super) fn new(file: FileId, range: Range<usize>) -> Self {
        Self {
            file,
            start: range.start,
            end: range.end,
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The mapping does not compile.
    Error,
    /// It compiles, and probably does not mean what was meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Diagnostic {
    severity: Severity,
    at: At,
    message: String,
    label: String,
    hint: Option<String>,
}

impl Diagnostic {
    pub(super) fn error(at: At, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            at,
            message: message.into(),
            label: String::new(),
            hint: None,
        }
    }

    pub(super) fn warning(at: At, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(at, message)
        }
    }

    /// A feature of the language that this version knows by name only.
    pub(super) fn not_yet(at: At, feature: &str) -> Self {
        Self::error(at, format!("{feature}: not yet supported"))
            .label("the language has it, this version does not")
            .hint("remove it; a mapping never runs with a part of it ignored")
    }

    /// What is written beside the caret.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// What to write instead.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A hint if there is one to give.
    pub(super) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }
}

/// Collects diagnostics while a pack compiles.
#[derive(Debug, Default)]
pub(super) struct Report {
    list: RefCell<Vec<Diagnostic>>,
}

impl Report {
    /// Adds one, unless the same characters were already said to be wrong in the same way (a default is
    /// compiled once for every event that starts from it).
    pub(super) fn push(&self, diagnostic: Diagnostic) {
        let mut list = self.list.borrow_mut();
        if !list.contains(&diagnostic) {
            list.push(diagnostic);
        }
    }

    pub(super) fn has_errors(&self) -> bool {
        self.list
            .borrow()
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    pub(super) fn finish(self, pack: &Pack) -> Diagnostics {
        let mut list = self.list.into_inner();
        list.sort_by_key(|diagnostic| (diagnostic.at.file, diagnostic.at.start));
        Diagnostics {
            mapping: pack.mapping.clone(),
            schema: pack.schema.clone(),
            list,
        }
    }
}

/// Whether a diagnostic begins with the name of its severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Title {
    Named,
    Bare,
}

/// What is wrong with a mapping's files: all of it, each with file, line, column, caret and a hint.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    mapping: SourceFile,
    schema: SourceFile,
    list: Vec<Diagnostic>,
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.count(Severity::Error);
        let plural = if errors == 1 { "" } else { "s" };
        write!(f, "the mapping does not compile: {errors} error{plural}")
    }
}

impl Diagnostics {
    /// Nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many of one severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.list
            .iter()
            .filter(|diagnostic| diagnostic.severity == severity)
            .count()
    }

    /// Every diagnostic in one line: severity, `file:line:column`, message. For logs and machines.
    pub fn lines(&self) -> impl Iterator<Item = (Severity, String)> {
        self.list.iter().map(|diagnostic| {
            let file = self.file(diagnostic.at.file);
            let (line, column) = line_and_column(&file.text, diagnostic.at.start);
            let message = &diagnostic.message;
            (
                diagnostic.severity,
                format!("{}:{line}:{column}: {message}", file.name),
            )
        })
    }

    /// All of them as text for people, with a blank line between two.
    #[must_use]
    pub fn render(&self, look: Look) -> String {
        let all = self.list.iter();
        let rendered = all.map(|diagnostic| self.render_one(diagnostic, Title::Named, look));
        rendered.collect::<Vec<_>>().join("\n\n")
    }

    /// Each as text for people, without the word for its severity.
    pub(crate) fn render_each(&self, look: Look) -> impl Iterator<Item = (Severity, String)> {
        self.list.iter().map(move |diagnostic| {
            let text = self.render_one(diagnostic, Title::Bare, look);
            (diagnostic.severity, text)
        })
    }

    fn render_one(&self, diagnostic: &Diagnostic, title: Title, look: Look) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let level = match title {
            Title::Named => level,
            Title::Bare => level.no_name(),
        };
        let file = self.file(diagnostic.at.file);
        let excerpt = Excerpt {
            level,
            title: &diagnostic.message,
            file: &file.name,
            text: &file.text,
            span: diagnostic.at.start..diagnostic.at.end,
            label: &diagnostic.label,
            hint: diagnostic.hint.as_deref(),
        };
        excerpt.draw(look)
    }

    fn file(&self, id: FileId) -> &SourceFile {
        match id {
            FileId::Mapping => &self.mapping,
            FileId::Schema => &self.schema,
        }
    }
}

/// Line and column of a byte offset, both from 1; the column counts characters.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = String::from_utf8_lossy(&before[line_start..])
        .chars()
        .count()
        + 1;
    (line, column)
}

/// The known word that `word` was probably meant to be.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Jaro-Winkler similarity from which on a typing mistake is more likely than another word.
    const ALIKE: f64 = 0.8;
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// A hint from the words that would have been right: the closest one, or all of them.
pub(super) fn one_of(word: &str, known: &[&str]) -> Option<String> {
    match closest(word, known.iter().copied()) {
        Some(candidate) => Some(format!("did you mean `{candidate}`?")),
        None if known.is_empty() => None,
        None => Some(format!("one of: {}", known.join(", "))),
    }
}
