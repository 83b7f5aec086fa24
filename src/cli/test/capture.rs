//! The changes of a capture: what the mapping makes of them, and which of them no rule explains.
//!
//! A change is explained by an event, by what is set aside, and by a transition that is declared, silent or not.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use rowbridge_api::{Batch, Cell, Change, Item, Op, Shape, State};

use super::super::dry_run::{bad_line, made_up};
use super::super::input::{self, Input};
use crate::event::{EncodedBatch, TopicId};
use crate::mapping::change_json::{ChangeReader, Replay, Tables};
use crate::mapping::coverage::Seen;
use crate::mapping::{Mapping, Stop};
use crate::paint::{Paint, Tone};

/// More kinds of changes than anybody reads.
const KINDS_SHOWN: usize = 50;

/// What came of a capture.
pub(super) struct Replayed {
    name: String,
    changes: u64,
    events: u64,
    quarantined: u64,
    /// A bad record under `on_error = "stop"`.
    pub(super) stopped: Option<Stop>,
    unexplained: BTreeMap<Unexplained, u64>,
    /// Changes that no rule explains of rows that some `only` leaves out.
    left_out: u64,
}

/// Changes that are alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Unexplained {
    table: String,
    op: &'static str,
    /// Of an update, the columns that changed.
    changed: Vec<String>,
}

/// Evaluates the changes of `path`.
///
/// # Errors
/// It cannot be read, is no capture, or the rules do not fit it.
pub(super) fn replay(path: &Path, mapping: &Arc<Mapping>) -> anyhow::Result<Replayed> {
    let mut input = Input::open(path)?;
    let stamp = match &input.header {
        Some(header) => header.stamp(),
        None => made_up(mapping),
    };
    let mut replayer = Replayer {
        replay: Replay::new(Arc::clone(mapping), stamp),
        shapes: Vec::new(),
        out: EncodedBatch::default(),
        told: Replayed {
            name: input.name.clone(),
            changes: 0,
            events: 0,
            quarantined: 0,
            stopped: None,
            unexplained: BTreeMap::new(),
            left_out: 0,
        },
    };
    let mut reader = ChangeReader::new(Arc::new(Tables::of(mapping)));
    let mut batch = Batch::default();
    while let Some(line) = input.next_line()? {
        batch.clear();
        let read = reader.line(&line, &mut batch);
        read.map_err(|error| bad_line(&input.name, &error))?;
        match replayer.batch(&batch) {
            Err(stop) if stop.state == State::BadRecord => {
                replayer.told.stopped = Some(stop);
                return Ok(replayer.told);
            }
            taken => taken.map_err(|stop| input::refused(stop, input.header.as_ref()))?,
        }
    }
    let complete = reader.complete();
    complete.map_err(|error| bad_line(&input.name, &error))?;
    Ok(replayer.told)
}

struct Replayer {
    replay: Replay,
    shapes: Vec<Arc<Shape>>,
    out: EncodedBatch,
    told: Replayed,
}

impl Replayer {
    fn batch(&mut self, batch: &Batch) -> Result<(), Stop> {
        let gathers = self.replay.mapping().gathers();
        for item in &batch.items {
            let Self {
                replay,
                shapes,
                told,
                ..
            } = self;
            if gathers && matches!(item, Item::Commit(_) | Item::SnapshotEnd(_)) {
                replay.cover_gathered(&mut |batch, change, seen| {
                    told.change(batch, change, shapes, &seen);
                })?;
            }
            self.out.clear();
            self.replay.item(batch, item, &mut self.out)?;
            self.told.count(&self.out);
            match item {
                Item::Shape(shape) => self.shapes.push(Arc::clone(shape)),
                Item::Change(change) if !gathers => {
                    let mut seen = Seen::default();
                    self.replay.cover(batch, change, &mut seen)?;
                    self.told.change(batch, change, &self.shapes, &seen);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Replayed {
    fn count(&mut self, out: &EncodedBatch) {
        for record in &out.records {
            if record.topic == TopicId::QUARANTINE {
                self.quarantined += 1;
            } else {
                self.events += 1;
            }
        }
    }

    /// Counts a change, and what it comes by in the mapping.
    fn change(&mut self, batch: &Batch, change: &Change, shapes: &[Arc<Shape>], seen: &Seen) {
        self.changes += 1;
        if seen.has_event() || seen.has_transition() {
            return;
        }
        if seen.has_left_out() {
            self.left_out += 1;
            return;
        }
        let mut shapes = shapes.iter().rev();
        let Some(shape) = shapes.find(|shape| shape.id == change.shape) else {
            return;
        };
        let kind = Unexplained {
            table: shape.table.to_string(),
            op: change.op.as_str(),
            changed: changed(batch, change, shape),
        };
        *self.unexplained.entry(kind).or_default() += 1;
    }
}

/// The columns that an update changed, as far as both images are there.
fn changed(batch: &Batch, change: &Change, shape: &Shape) -> Vec<String> {
    let (Op::Update, Some(before), Some(after)) =
        (change.op, batch.before(change), batch.after(change))
    else {
        return Vec::new();
    };
    let differs = |index: usize| match (before.cell(index), after.cell(index)) {
        (Cell::Unavailable, _) | (_, Cell::Unavailable) => false,
        (before, after) => before != after,
    };
    let columns = shape.columns.iter().enumerate();
    columns
        .filter(|(index, _)| differs(*index))
        .map(|(_, column)| column.name.clone())
        .collect()
}

impl Replayed {
    /// What the mapping makes of the changes.
    pub(super) fn print(&self, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
        let Self {
            name,
            changes,
            events,
            quarantined,
            ..
        } = self;
        writeln!(
            out,
            "\n{}: {changes} changes, {events} events, {quarantined} quarantined",
            paint.tone(Tone::Strong, name)
        )?;
        if let Some(stop) = &self.stopped {
            writeln!(
                out,
                "  {}",
                paint.tone(Tone::Bad, format!("stopped: {stop}"))
            )?;
        }
        Ok(())
    }

    /// The changes that no rule explains, the most frequent kind first.
    pub(super) fn print_unexplained(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut kinds: Vec<_> = self.unexplained.iter().collect();
        // Stable: kinds of the same count stay in their own order.
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let all: u64 = kinds.iter().map(|(_, count)| **count).sum();
        writeln!(out, "  no rule explains {all} of {} changes", self.changes)?;
        for (kind, count) in kinds.iter().take(KINDS_SHOWN) {
            writeln!(out, "    {count:>8}  {}", kind.words())?;
        }
        if let Some(more) = kinds
            .len()
            .checked_sub(KINDS_SHOWN)
            .filter(|more| *more > 0)
        {
            writeln!(out, "              and {more} rarer kinds")?;
        }
        if self.left_out > 0 {
            writeln!(
                out,
                "    {:>8}  of rows that `only` leaves out",
                self.left_out
            )?;
        }
        Ok(())
    }
}

impl Unexplained {
    fn words(&self) -> String {
        let changed = match (self.op, &self.changed[..]) {
            ("update", []) => ": none of the columns that rules read".to_owned(),
            ("update", changed) => format!(": {}", changed.join(", ")),
            _ => String::new(),
        };
        format!("{} of {}{changed}", self.op, self.table)
    }
}
