//! The lines that only a capture has: its header, the shapes of its tables, its end.

use std::sync::Arc;

use serde::Deserialize as _;

use super::node::{Object, Problem};
use super::tables::Tables;
use super::{ChangeReader, Line, LineError};
use crate::mapping::capture::{End, Header, TableLine};

/// A line of a capture.
pub(super) enum CaptureLine {
    Header,
    Shape(TableLine),
    End(End),
}

/// What was read of a capture so far.
#[derive(Debug, Default)]
pub(super) struct Captured {
    changes: u64,
    is_ended: bool,
}

impl Captured {
    /// Counts a line that is about to be taken.
    pub(super) fn count(&mut self, line: &Line) -> Result<(), Problem> {
        if self.is_ended && !matches!(line, Line::Nothing) {
            return Err(Problem::new(0, "a line after the end of the capture"));
        }
        if let Line::Change(..) = line {
            self.changes += 1;
        }
        Ok(())
    }
}

/// The line of a capture that `object` is; nothing if it is another one.
pub(super) fn read(object: &Object<'_>) -> Result<Option<CaptureLine>, Problem> {
    if object.has("capture") {
        let header = Header::parse(object.at.text());
        let header = header.unwrap_or_else(|| Err("not the header of a capture".to_owned()));
        return header
            .map(|_| Some(CaptureLine::Header))
            .map_err(|message| object.at.problem(message));
    }
    if let Some(shape) = object.get("shape") {
        let line = TableLine::deserialize(&mut serde_json::Deserializer::from_str(shape.text()));
        let line =
            line.map_err(|error| shape.problem(format!("not the shape of a table: {error}")));
        return line.map(|line| Some(CaptureLine::Shape(line)));
    }
    if let Some(end) = object.get("end") {
        let line = End::deserialize(&mut serde_json::Deserializer::from_str(end.text()));
        let line = line.map_err(|error| end.problem(format!("not the end of a capture: {error}")));
        return line.map(|line| Some(CaptureLine::End(line)));
    }
    Ok(None)
}

impl ChangeReader {
    pub(super) fn captured(&mut self, line: CaptureLine) -> Result<(), Problem> {
        let outside = || {
            Problem::new(
                0,
                "this line belongs into a capture, and the first line is no header",
            )
        };
        match line {
            CaptureLine::Header if self.line != 1 => {
                return Err(Problem::new(0, "the header of a capture is its first line"));
            }
            CaptureLine::Header => {
                self.capture = Some(Captured::default());
                // The capture has its own.
                self.tables = Arc::default();
            }
            CaptureLine::Shape(shape) => {
                if self.capture.is_none() {
                    return Err(outside());
                }
                let columns = shape.columns();
                let columns = columns.map_err(|message| Problem::new(0, message))?;
                let tables: &mut Tables = Arc::make_mut(&mut self.tables);
                tables.announce(&shape.table, shape.source(), columns);
            }
            CaptureLine::End(end) => {
                let capture = self.capture.as_mut().ok_or_else(outside)?;
                if end.changes != capture.changes {
                    let message = format!(
                        "the capture had {} changes, and {} are left",
                        end.changes, capture.changes
                    );
                    return Err(Problem::new(0, message));
                }
                capture.is_ended = true;
            }
        }
        Ok(())
    }

    /// Whether the input may end here.
    ///
    /// # Errors
    /// It is a capture without its last line.
    pub fn complete(&self) -> Result<(), LineError> {
        match &self.capture {
            Some(capture) if !capture.is_ended => Err(LineError {
                line: self.line,
                column: 1,
                message: "the capture has no last line: it was cut off, or is still being written"
                    .to_owned(),
            }),
            _ => Ok(()),
        }
    }
}
