//! Colour on a terminal, and nowhere else.

use std::env;
use std::fmt;

use crate::mapping::Colour;

/// Whether output carries ANSI colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
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
    /// Colours if the stream is a terminal and `NO_COLOR` is not set.
    pub(crate) fn for_terminal(stream_is_terminal: bool) -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if stream_is_terminal && !refused {
            Self::Ansi
        } else {
            Self::Plain
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

impl From<Paint> for Colour {
    fn from(paint: Paint) -> Self {
        match paint {
            Paint::Plain => Self::Never,
            Paint::Ansi => Self::Always,
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
