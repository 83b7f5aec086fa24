//! A source line with a caret under what is wrong in it, and what to write instead.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use unicode_width::UnicodeWidthStr as _;

use super::{Look, Paint};

/// Line numbers, bars and blanks around a source line and its label.
const MARGIN_COLUMNS: usize = 10;
/// Line numbers and `= help: ` before a hint.
const HINT_MARGIN_COLUMNS: usize = 14;

/// One place in one file, and what is to be said about it.
#[derive(Clone, Debug)]
pub(crate) struct Excerpt<'a> {
    pub(crate) level: Level<'a>,
    pub(crate) title: &'a str,
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
    /// Bytes of `text`; an empty range still gets a caret.
    pub(crate) span: Range<usize>,
    /// Stands beside the caret, or below where there is no room.
    pub(crate) label: &'a str,
    pub(crate) hint: Option<&'a str>,
}

impl Excerpt<'_> {
    /// Draws it, without a line end.
    pub(crate) fn draw(&self, look: Look) -> String {
        let end = self.span.end.min(self.text.len());
        let span = self.span.start.min(end)..end;
        let columns = self.end_column(&span) + self.label.width() + MARGIN_COLUMNS;
        let has_room = self.label.is_empty() || columns <= look.columns;
        let mut caret = AnnotationKind::Primary.span(span);
        if has_room && !self.label.is_empty() {
            caret = caret.label(self.label);
        }
        let snippet = Snippet::source(self.text).path(self.file).annotation(caret);
        let mut group = self
            .level
            .clone()
            .primary_title(self.title)
            .element(snippet);
        if !has_room {
            group = group.element(Level::NOTE.message(look.hint(self.label)));
        }
        if let Some(hint) = self.hint {
            group = group.element(Level::HELP.message(look.hint(hint)));
        }
        look.renderer().render(&[group])
    }

    /// The column after the carets.
    fn end_column(&self, span: &Range<usize>) -> usize {
        let line = self.text[..span.end].rsplit('\n').next();
        line.unwrap_or_default().width().max(1)
    }
}

impl Look {
    fn renderer(self) -> Renderer {
        let renderer = match self.paint {
            Paint::Plain => Renderer::plain(),
            Paint::Ansi => Renderer::styled(),
        };
        renderer
            .decor_style(DecorStyle::Ascii)
            .term_width(self.columns)
    }

    /// A hint as an excerpt takes it: broken where its margin leaves no room.
    pub(crate) fn hint(self, text: &str) -> String {
        let columns = self.columns.saturating_sub(HINT_MARGIN_COLUMNS).max(1);
        Self { columns, ..self }.wrapped(text, "")
    }
}
