//! Lines of a file or of standard input, waited for beside signals and deadlines.

use std::io::{self, BufRead, Read as _};
use std::thread;

use tokio::sync::mpsc;

/// Longest line in bytes: a change with documents in it, not a file without line ends.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;

/// Lines read ahead.
const LINES_AHEAD: usize = 64;

/// Lines read by a thread of their own, since reading standard input cannot be cancelled. The thread ends
/// with its input, with this receiver after the next line, or with the process.
pub(super) struct Lines {
    received: mpsc::Receiver<io::Result<String>>,
}

impl Lines {
    pub(super) fn read(mut input: Box<dyn BufRead + Send>) -> Self {
        let (sent, received) = mpsc::channel(LINES_AHEAD);
        thread::spawn(move || {
            while let Some(line) = next_line(&mut input).transpose() {
                let is_over = line.is_err();
                if sent.blocking_send(line).is_err() || is_over {
                    break;
                }
            }
        });
        Self { received }
    }

    /// The next line without its end; `None` at the end of the input. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<io::Result<String>> {
        self.received.recv().await
    }

    /// No line has been read yet that was not taken.
    pub(super) fn is_waiting(&self) -> bool {
        self.received.is_empty()
    }
}

fn next_line(input: &mut dyn BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = input.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if read as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
        let problem = format!("a line of more than {MAX_LINE_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    while matches!(line.last(), Some(b'\n' | b'\r')) {
        line.pop();
    }
    String::from_utf8(line)
        .map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}
