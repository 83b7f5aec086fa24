//! Change JSON and captures as lines: from a file or from standard input, waited for beside signals and deadlines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read as _};
use std::path::Path;
use std::thread;

use anyhow::Context as _;
use tokio::sync::mpsc;

use crate::mapping::Stop;
use crate::mapping::capture::Header;
use crate::refusal::Refusal;
use rowbridge_api::State;

/// Longest line in bytes: a change with documents in it, not a file without line ends.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;

/// Lines read ahead.
const LINES_AHEAD: usize = 64;

/// How a frame of Zstandard begins (RFC 8878, 3.1.1).
const ZSTANDARD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// The largest window, as a power of two, that a frame may ask memory for: 128 MiB, what its decoders grant without
/// being asked.
const WINDOW_LOG_MAX: u32 = 27;

/// Lines, and what they are if they begin with a capture's header.
pub(super) struct Input {
    /// What messages call it.
    pub(super) name: String,
    pub(super) header: Option<Header>,
    lines: Box<dyn BufRead + Send>,
}

impl Input {
    /// Standard input.
    ///
    /// # Errors
    /// It cannot be read, or is a capture of another version.
    pub(super) fn standard() -> anyhow::Result<Self> {
        Self::begun(
            "standard input".to_owned(),
            Box::new(BufReader::new(io::stdin())),
        )
    }

    /// A capture, or change JSON, compressed or not.
    ///
    /// # Errors
    /// It cannot be read, is something else, or is a capture of another version.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let cannot = || format!("cannot read {name}");
        let mut file = BufReader::new(File::open(path).with_context(cannot)?);
        let begin = file.fill_buf().with_context(cannot)?;
        if begin.starts_with(&ZSTANDARD) {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(file).with_context(cannot)?;
            decoder
                .window_log_max(WINDOW_LOG_MAX)
                .with_context(cannot)?;
            return Self::begun(name, Box::new(BufReader::new(decoder)));
        }
        let is_text = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'{' || *byte == b'n';
        if !begin.first().is_none_or(is_text) {
            let problem = format!("{name} is no capture: it is neither Zstandard nor change JSON");
            return Err(
                Refusal::invalid(problem, "`rowbridge record --out FILE` makes one").into(),
            );
        }
        Self::begun(name, Box::new(file))
    }

    fn begun(name: String, mut lines: Box<dyn BufRead + Send>) -> anyhow::Result<Self> {
        let first = next_line(&mut lines).map_err(|error| broken(&name, error))?;
        let header = first.as_deref().and_then(Header::parse).transpose();
        let header = header.map_err(|problem| {
            let hint = "use the Rowbridge that wrote it, or record again";
            Refusal::invalid(format!("{name}: {problem}"), hint)
        })?;
        let first = first.map(|line| line + "\n").unwrap_or_default();
        Ok(Self {
            name,
            header,
            lines: Box::new(Cursor::new(first).chain(lines)),
        })
    }

    /// The next line without its end; `None` at the end.
    ///
    /// # Errors
    /// It cannot be read, or was cut off.
    pub(super) fn next_line(&mut self) -> anyhow::Result<Option<String>> {
        next_line(&mut self.lines).map_err(|error| broken(&self.name, error))
    }

    /// Reads the lines on a thread.
    pub(super) fn lines(self) -> Lines {
        Lines::read(self.name, self.lines)
    }
}

/// Why the evaluation of an input stopped: a capture has only what its mapping read.
pub(super) fn refused(stop: Stop, header: Option<&Header>) -> Refusal {
    let mut refusal = Refusal::from(stop);
    if let Some(header) = header.filter(|_| refusal.state == State::Invalid) {
        let (name, version) = (&header.mapping.name, header.mapping.version);
        refusal.hint = format!(
            "the capture has the columns that {name}@{version} read: record again with a mapping that reads this one"
        );
    }
    refusal
}

/// What is wrong with an input that cannot be read.
fn broken(name: &str, error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            let problem = format!("{name} is cut off: its compressed data has no end");
            let hint = "record again; a capture is whole once `rowbridge record` has ended";
            Refusal::invalid(problem, hint).into()
        }
        _ => anyhow::Error::from(error).context(format!("cannot read {name}")),
    }
}

/// Lines read by a thread of their own, since reading standard input cannot be cancelled. The thread ends
/// with its input, with this receiver after the next line, or with the process.
pub(super) struct Lines {
    name: String,
    received: mpsc::Receiver<io::Result<String>>,
}

impl Lines {
    fn read(name: String, mut input: Box<dyn BufRead + Send>) -> Self {
        let (sent, received) = mpsc::channel(LINES_AHEAD);
        thread::spawn(move || {
            while let Some(line) = next_line(&mut input).transpose() {
                let is_over = line.is_err();
                if sent.blocking_send(line).is_err() || is_over {
                    break;
                }
            }
        });
        Self { name, received }
    }

    /// The next line without its end; `None` at the end of the input. Cancel safe.
    ///
    /// # Errors
    /// As [`Input::next_line`].
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<String>> {
        let line = self.received.recv().await.transpose();
        line.map_err(|error| broken(&self.name, error))
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
