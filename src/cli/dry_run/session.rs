//! One dry run: batches in, printed events out, and the counts at the end.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use rowbridge_api::{Batch, Item, Op, State};

use super::super::args::DryRunArgs;
use super::super::follow::{Flow, Taker};
use super::super::{FAILED, input};
use super::explanation::Explained;
use super::layout;
use crate::event::{EncodedBatch, TopicId};
use crate::event_json::EventJson;
use crate::mapping::capture::Header;
use crate::mapping::cases::Published;
use crate::mapping::change_json::Replay;
use crate::mapping::{Mapping, Stamp, Stop};
use crate::paint::{Look, Tone};
use crate::refusal::Refusal;

/// How events are printed.
#[derive(Clone, Copy, Debug)]
enum Format {
    /// One object per line.
    Json,
    People(Look),
}

/// Whether it is said why rules fired or not.
#[derive(Clone, Copy, Debug)]
enum Explain {
    Yes,
    No,
}

/// What passed through so far.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    changes: u64,
    events: u64,
    quarantined: u64,
}

pub(super) struct Session<'m, W: Write> {
    mapping: &'m Mapping,
    replay: Replay,
    format: Format,
    explain: Explain,
    quarantine: String,
    /// Where the changes come from a capture.
    header: Option<Header>,
    limit: u64,
    counts: Counts,
    /// A bad record stopped the evaluation.
    stopped: Option<Stop>,
    encoded: EncodedBatch,
    line: Vec<u8>,
    out: io::BufWriter<W>,
}

impl<'m, W: Write> Session<'m, W> {
    pub(super) fn new(
        mapping: &'m Arc<Mapping>,
        stamp: Stamp,
        args: &DryRunArgs,
        look: Look,
        out: W,
    ) -> Self {
        Self {
            mapping,
            format: if args.json {
                Format::Json
            } else {
                Format::People(look)
            },
            explain: if args.explain {
                Explain::Yes
            } else {
                Explain::No
            },
            quarantine: format!("rowbridge.{}.quarantine", stamp.pipeline),
            replay: Replay::new(Arc::clone(mapping), stamp),
            header: None,
            limit: args.limit.unwrap_or(u64::MAX),
            counts: Counts::default(),
            stopped: None,
            encoded: EncodedBatch::default(),
            line: Vec::new(),
            out: io::BufWriter::new(out),
        }
    }

    /// Says that the changes come from a capture with this header.
    pub(super) fn captured(&mut self, header: Option<Header>) {
        self.header = header;
    }

    fn evaluate(&mut self, batch: &Batch) -> anyhow::Result<Flow> {
        for item in &batch.items {
            let explained = match self.explain {
                Explain::Yes if self.replay.mapping().gathers() => self.explained(batch, item)?,
                _ => Vec::new(),
            };
            self.encoded.clear();
            if let Err(stop) = self.replay.item(batch, item, &mut self.encoded) {
                if stop.state != State::BadRecord {
                    return Err(input::refused(stop, self.header.as_ref()).into());
                }
                self.stopped = Some(stop);
                return Ok(Flow::Enough);
            }
            let explained = match (self.explain, explained.is_empty()) {
                (Explain::Yes, true) => self.explained(batch, item)?,
                _ => explained,
            };
            self.counts.changes += u64::from(self.counts_as_change(item));
            match self.print(&explained) {
                Ok(Flow::More) => {}
                Ok(Flow::Enough) => return Ok(Flow::Enough),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Flow::Enough),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Flow::More)
    }

    /// Rows that are read because rules look them up are no changes.
    fn counts_as_change(&self, item: &Item) -> bool {
        let gathers = self.replay.mapping().gathers();
        matches!(item, Item::Change(change) if !(gathers && change.op == Op::Read))
    }

    /// Prints the counts; the exit code.
    pub(super) fn finish(mut self) -> anyhow::Result<ExitCode> {
        match self.out.flush() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
        let Counts {
            changes,
            events,
            quarantined,
        } = self.counts;
        let mut err = io::stderr().lock();
        if let Some(stop) = &self.stopped {
            let look = Look::of(&err);
            let error = format!("{} {stop}", look.paint.tone(Tone::Bad, "error:"));
            let hint = format!("{} {}", look.paint.tone(Tone::Strong, "hint:"), stop.hint);
            writeln!(
                err,
                "{}\n{}",
                look.wrapped(&error, "  "),
                look.wrapped(&hint, "  ")
            )?;
        }
        writeln!(
            err,
            "{changes} change{}, {events} event{}, {quarantined} quarantined",
            plural(changes),
            plural(events)
        )?;
        let is_clean = quarantined == 0 && self.stopped.is_none();
        Ok(if is_clean {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(FAILED)
        })
    }

    /// Why the rules do what they do with a change, in words; where the mapping gathers, with each change of the
    /// transaction that is about to end.
    fn explained(&mut self, batch: &Batch, item: &Item) -> anyhow::Result<Vec<String>> {
        let explained = self.replay.explain(batch, item).map_err(Refusal::from)?;
        // Standard output stays one object per event.
        let look = match self.format {
            Format::Json => Look::of(&io::stderr()),
            Format::People(look) => look,
        };
        let texts = explained.iter().map(|(change, outcomes)| {
            let explained = Explained {
                transaction: self.replay.transaction(),
                table: self.replay.table(change),
                change,
                outcomes,
            };
            explained.text(self.mapping, look)
        });
        Ok(texts.collect())
    }

    /// Prints the events that were just made, after the reasons where they were asked for.
    fn print(&mut self, explained: &[String]) -> io::Result<Flow> {
        for text in explained {
            match self.format {
                Format::Json => io::stderr().lock().write_all(text.as_bytes())?,
                Format::People(_) => self.out.write_all(text.as_bytes())?,
            }
        }
        self.print_events()
    }

    fn print_events(&mut self) -> io::Result<Flow> {
        for record in &self.encoded.records {
            if self.counts.events + self.counts.quarantined >= self.limit {
                return Ok(Flow::Enough);
            }
            if record.topic == TopicId::QUARANTINE {
                self.counts.quarantined += 1;
            } else {
                self.counts.events += 1;
            }
            match self.format {
                Format::Json => {
                    self.line.clear();
                    EventJson::of(self.mapping, &self.quarantine).write(
                        &self.encoded,
                        record,
                        &mut self.line,
                    );
                    self.line.push(b'\n');
                    self.out.write_all(&self.line)?;
                }
                Format::People(look) => {
                    let event = Published::of(self.mapping, &self.encoded, record);
                    layout::print(&event, look.paint, &mut self.out)?;
                }
            }
        }
        if self.counts.events + self.counts.quarantined >= self.limit {
            return Ok(Flow::Enough);
        }
        Ok(Flow::More)
    }
}

impl<W: Write> Taker for Session<'_, W> {
    /// Evaluates a batch and prints its events.
    fn batch(&mut self, batch: &Batch) -> anyhow::Result<Flow> {
        self.evaluate(batch)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

const fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}
