//! `rowbridge record`: keeps what changes in the source as a capture, and publishes nothing.
//!
//! Follows the source as a live dry run does. The capture is written as it comes, compressed; what happened, in the
//! end a count, goes to standard error. The lines are [`crate::mapping::capture`]'s.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rowbridge_api::{Batch, Position};
use rowbridge_postgres::PreviewPublication;
use zstd::stream::write::Encoder;

use super::args::RecordArgs;
use super::follow::{Flow, Live, Taker, follow};
use super::quantity::{bytes, whole};
use super::{REFUSED, dry_run, hash_key, load};
use crate::mapping::Mapping;
use crate::mapping::capture::{Counts, Header, Writer};
use crate::pack;
use crate::paint::columns_of;
use crate::refusal::Refusal;
use crate::screen;

/// Speed before size: a stream of rows shrinks to a tenth at any level.
const COMPRESSION_LEVEL: i32 = 3;

/// Lines are compressed from this length on.
const LINES_BYTES: usize = 256 * 1024;

/// So much of a recording may be lost with the machine.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// It holds rows of the database.
const OWNER_ONLY: u32 = 0o600;

/// Where the terminal does not say how wide it is.
const DEFAULT_COLUMNS: usize = 80;

/// Runs the command.
///
/// # Errors
/// The configuration is invalid, the file exists, the source refuses or breaks, or output fails.
pub(super) async fn run(config: Option<&Path>, args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let config = load(config)?;
    let Some(mapping) = dry_run::compile(&pack::read(&config.mapping, config.params.clone())?)?
    else {
        return Ok(ExitCode::from(REFUSED));
    };
    let mapping = Arc::new(hash_key::keyed(mapping, Some(&config.privacy))?);
    let existing = match args.force {
        true => Existing::Replaced,
        false => Existing::Kept,
    };
    let file = Output::new(&args.out, existing)?;
    let publication = match args.create_publication {
        true => PreviewPublication::Temporary,
        false => PreviewPublication::OfPipeline,
    };
    let mut live = Live::open(&config, &mapping, publication).await?;
    let now = jiff::Timestamp::now().round(jiff::Unit::Second)?;
    let header = Header::new(&mapping, &live.stamp, now.to_string());
    let mut recorder = Recorder::new(&mapping, header, file, args.limit);
    let followed = follow(&mut live, &config, &mapping, &mut recorder, args.duration).await;
    match followed {
        Ok(()) => recorder.finish()?,
        Err(error) => {
            recorder.break_off()?;
            return Err(error);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes what comes.
struct Recorder {
    writer: Writer,
    output: Output,
    limit: u64,
    lines: Vec<u8>,
    start: Option<Position>,
    flushed: Instant,
    is_shown: bool,
}

impl Recorder {
    fn new(mapping: &Arc<Mapping>, header: Header, output: Output, limit: Option<u64>) -> Self {
        Self {
            writer: Writer::new(mapping, header),
            output,
            limit: limit.unwrap_or(u64::MAX),
            lines: Vec::new(),
            start: None,
            flushed: Instant::now(),
            is_shown: screen::can_redraw(),
        }
    }

    /// Ends after an error: what came before it is worth keeping, and a capture of nothing is not.
    fn break_off(mut self) -> anyhow::Result<()> {
        if self.writer.counts().changes > 0 {
            return self.finish();
        }
        screen::clear()?;
        self.output.discard()
    }

    /// Closes the capture and says what is in it.
    fn finish(mut self) -> anyhow::Result<()> {
        screen::clear()?;
        self.writer.end(&mut self.lines);
        self.output.write(&mut self.lines)?;
        let Counts {
            changes,
            transactions,
        } = self.writer.counts();
        let size = self.output.close()?;
        let path = self.output.path.display();
        let part = match (&self.start, self.writer.position()) {
            (Some(from), Some(to)) => format!(", from {} to {}", place(from), place(to)),
            _ => String::new(),
        };
        let changes = count(changes, "change");
        let transactions = count(transactions, "transaction");
        writeln!(
            io::stderr(),
            "recorded {changes} in {transactions} to {path} ({}){part}",
            bytes(size)
        )?;
        Ok(())
    }

    fn draw(&self) -> io::Result<()> {
        if !self.is_shown {
            return Ok(());
        }
        if screen::is_in_background() {
            return screen::clear();
        }
        let counts = self.writer.counts();
        let mut line = format!(
            "recording  {}  {}",
            count(counts.changes, "change"),
            count(counts.transactions, "transaction")
        );
        if let Some(position) = self.writer.position() {
            line.push_str(&format!("  at {}", place(position)));
        }
        // The last column stays free: a terminal may wrap once it is written.
        let columns = columns_of(&io::stderr()).unwrap_or(DEFAULT_COLUMNS) - 1;
        screen::draw(line.chars().take(columns).collect())
    }
}

impl Taker for Recorder {
    fn batch(&mut self, batch: &Batch) -> anyhow::Result<Flow> {
        let mut flow = Flow::More;
        for item in &batch.items {
            self.writer.item(batch, item, &mut self.lines);
            if self.lines.len() >= LINES_BYTES {
                self.output.write(&mut self.lines)?;
            }
            // A transaction is recorded to its end.
            if self.writer.counts().changes >= self.limit && !self.writer.is_inside() {
                flow = Flow::Enough;
                break;
            }
        }
        self.output.write(&mut self.lines)?;
        if self.start.is_none()
            && let Some(start) = self.writer.start()
        {
            let path = self.output.path.display();
            let begun = format!("recording from {} to {path}\n", place(start));
            screen::Above.write_all(begun.as_bytes())?;
            self.start = Some(start.clone());
        }
        Ok(flow)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn tick(&mut self) -> io::Result<()> {
        if self.flushed.elapsed() >= FLUSH_EVERY {
            self.output.flush()?;
            self.flushed = Instant::now();
        }
        self.draw()
    }
}

/// What becomes of a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existing {
    Kept,
    Replaced,
}

/// The file, from its first line on.
struct Output {
    path: PathBuf,
    existing: Existing,
    encoder: Option<Encoder<'static, File>>,
}

impl Output {
    /// Sees that nothing is in the way, before anybody is asked anything.
    fn new(path: &Path, existing: Existing) -> anyhow::Result<Self> {
        if existing == Existing::Kept && path.symlink_metadata().is_ok() {
            let problem = format!("{} exists, and nothing is overwritten", path.display());
            let hint = "name another file with --out, or say --force";
            return Err(Refusal::invalid(problem, hint).into());
        }
        Ok(Self {
            path: path.to_owned(),
            existing,
            encoder: None,
        })
    }

    /// Takes `lines`, if there are any.
    fn write(&mut self, lines: &mut Vec<u8>) -> anyhow::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let cannot = format!("cannot write {}", self.path.display());
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(create(&self.path, self.existing).context(cannot.clone())?),
        };
        encoder.write_all(lines).context(cannot)?;
        lines.clear();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.as_mut().map_or(Ok(()), Encoder::flush)
    }

    /// Ends the file; its size in bytes.
    fn close(&mut self) -> anyhow::Result<u64> {
        let closed = self.encoder.take().map_or(Ok(0), |encoder| {
            let file = encoder.finish()?;
            file.sync_all()?;
            file.metadata().map(|metadata| metadata.len())
        });
        closed.with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Leaves no file that holds nothing.
    fn discard(&mut self) -> anyhow::Result<()> {
        if self.encoder.take().is_some() {
            let path = self.path.display();
            std::fs::remove_file(&self.path).with_context(|| format!("cannot remove {path}"))?;
        }
        Ok(())
    }
}

fn create(path: &Path, existing: Existing) -> io::Result<Encoder<'static, File>> {
    let mut options = OpenOptions::new();
    options.write(true).mode(OWNER_ONLY);
    match existing {
        Existing::Replaced => options.create(true).truncate(true),
        Existing::Kept => options.create_new(true),
    };
    let mut encoder = Encoder::new(options.open(path)?, COMPRESSION_LEVEL)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

/// A position without its token, which tells people nothing.
fn place(position: &Position) -> Position {
    Position::new(position.order())
}

/// `1,234 changes`
fn count(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", whole(count))
}
