//! Standard error as a screen: what is logged scrolls above one line that is drawn anew in place.
//!
//! The line belongs to the process, as standard error does, so it is kept here and not handed around. Without a
//! line everything passes unchanged. What the line says is not here.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError, TryLockError};

use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;

use crate::paint::is_dumb;

/// To the line's begin, and empty it (ECMA-48: CR, then EL 2).
const ERASE: &str = "\r\u{1b}[2K";

static LINE: Mutex<Line> = Mutex::new(Line::new());

/// Whether standard error is a terminal that can redraw a line.
pub(crate) fn can_redraw() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_some() && !is_dumb()
}

/// The shell has its prompt there, and another job has the screen.
pub(crate) fn is_in_background() -> bool {
    tcgetpgrp(io::stderr()).is_ok_and(|foreground| foreground != getpgrp())
}

/// Draws `text`, one line that fits the terminal, below everything else.
///
/// # Errors
/// Standard error cannot be written.
pub(crate) fn draw(text: String) -> io::Result<()> {
    let mut line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
    line.draw(text, &mut io::stderr())
}

/// Takes the line away.
///
/// # Errors
/// Standard error cannot be written.
pub(crate) fn clear() -> io::Result<()> {
    let mut line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
    line.clear(&mut io::stderr())
}

/// Takes the line away if nobody is drawing: in a crash that may be the thread that crashed.
pub(crate) fn clear_if_free() {
    let line = match LINE.try_lock() {
        Ok(line) => Some(line),
        Err(TryLockError::Poisoned(line)) => Some(line.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    };
    // What a crash says is more important than whether this could be written.
    let _ = line.map(|mut line| line.clear(&mut io::stderr()));
}

/// Writes whole lines above the line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Above;

impl Write for Above {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
        line.above(lines, &mut io::stderr())?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// What stands below; empty if nothing does.
#[derive(Debug)]
struct Line(String);

impl Line {
    const fn new() -> Self {
        Self(String::new())
    }

    fn draw(&mut self, text: String, out: &mut impl Write) -> io::Result<()> {
        self.0 = text;
        out.write_all(format!("{ERASE}{}", self.0).as_bytes())
    }

    fn clear(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.clear();
        out.write_all(ERASE.as_bytes())
    }

    /// In one write, so that the line does not flicker.
    fn above(&self, lines: &[u8], out: &mut impl Write) -> io::Result<()> {
        if self.0.is_empty() {
            return out.write_all(lines);
        }
        out.write_all(&[ERASE.as_bytes(), lines, self.0.as_bytes()].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_above_and_the_line_goes_away_without_a_trace() {
        let mut line = Line::new();
        let mut out = Vec::new();
        line.above(b"starting\n", &mut out).unwrap();
        line.draw("idle".to_owned(), &mut out).unwrap();
        line.above(b"stopping\n", &mut out).unwrap();
        line.clear(&mut out).unwrap();
        line.clear(&mut out).unwrap();
        line.above(b"stopped\n", &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "starting\n\r\u{1b}[2Kidle\r\u{1b}[2Kstopping\nidle\r\u{1b}[2Kstopped\n"
        );
    }
}
