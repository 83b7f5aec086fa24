//! How text looks where it is read: coloured or not, and on how many columns.

mod excerpt;

use std::fmt;
use std::os::fd::AsFd;

use anstream::AutoStream;
use anstream::stream::RawStream;
use rustix::termios::tcgetwinsize;

pub(crate) use excerpt::Excerpt;

/// Whether output carries ANSI colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Ansi,
}

/// What a piece of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    Strong,
    Faint,
}

impl Paint {
    /// Colours if the stream is a terminal that has them. `NO_COLOR` refuses them, `CLICOLOR_FORCE` wants them
    /// in a pipe too (no-color.org, bixense.com/clicolors).
    pub(crate) fn of<S: RawStream>(stream: &S) -> Self {
        match AutoStream::choice(stream) {
            anstream::ColorChoice::Never => Self::Plain,
            _ if is_dumb() => Self::Plain,
            _ => Self::Ansi,
        }
    }

    /// `text` in its tone.
    pub(crate) fn tone<T: fmt::Display>(self, tone: Tone, text: T) -> Painted<T> {
        Painted {
            paint: self,
            tone,
            text,
        }
    }
}

/// Text that knows its colour.
pub(crate) struct Painted<T> {
    paint: Paint,
    tone: Tone,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = match self.tone {
            Tone::Good => 32,
            Tone::Bad => 31,
            Tone::Strong => 1,
            Tone::Faint => 2,
        };
        match self.paint {
            Paint::Plain => self.text.fmt(f),
            Paint::Ansi => {
                write!(f, "\u{1b}[{code}m")?;
                self.text.fmt(f)?;
                f.write_str("\u{1b}[0m")
            }
        }
    }
}

/// How diagnostics are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub paint: Paint,
    /// Where lines break; a file or a pipe has no end of line.
    pub columns: usize,
}

impl Look {
    /// For files, logs and other programs.
    pub const PLAIN: Self = Self {
        paint: Paint::Plain,
        columns: 10_000,
    };

    /// As the stream shows it best.
    pub(crate) fn of<S: RawStream + AsFd>(stream: &S) -> Self {
        Self {
            paint: Paint::of(stream),
            columns: columns_of(stream).unwrap_or(Self::PLAIN.columns),
        }
    }

    /// `text` broken between words, further lines behind `indent`. Its own line ends stay, and what stands in
    /// backquotes is left whole, so that a command can be copied.
    pub(crate) fn wrapped(self, text: &str, indent: &str) -> String {
        const NO_BREAK_SPACE: char = '\u{a0}';
        let mut is_quoted = false;
        let joined = text.chars().map(|char| {
            is_quoted ^= char == '`';
            if is_quoted && char == ' ' {
                NO_BREAK_SPACE
            } else {
                char
            }
        });
        let options = textwrap::Options::new(self.columns)
            .subsequent_indent(indent)
            .break_words(false)
            .word_separator(textwrap::WordSeparator::AsciiSpace)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::fill(&joined.collect::<String>(), options).replace(NO_BREAK_SPACE, " ")
    }
}

/// Whether the terminal takes nothing but text.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// How wide a terminal is; nothing if the stream is none or does not say.
pub(crate) fn columns_of<S: AsFd>(stream: &S) -> Option<usize> {
    let size = tcgetwinsize(stream).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_never_inside_a_command() {
        let look = Look {
            paint: Paint::Plain,
            columns: 30,
        };
        let text =
            "the slot is gone: `rowbridge position set --snapshot` reads all rows again\nor not";
        assert_eq!(
            look.wrapped(text, "   "),
            "the slot is gone:\n   `rowbridge position set --snapshot`\n   reads all rows again\n   or not"
        );
        assert_eq!(
            Look::PLAIN.wrapped(text, "   "),
            text.replace('\n', "\n   ")
        );
    }
}
