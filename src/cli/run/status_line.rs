//! The line that `run` shows on a terminal: what the pipeline does, how far behind, how fast.
//!
//! A pure function of what is known and of the columns there are. On a narrow terminal extras go first, then
//! numbers get short, then names are cut; what matters most stays longest.

use rowbridge_api::SnapshotProgress;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::super::quantity::{bytes, per_second, short, span, whole};
use crate::health::Phase;
use crate::metrics::Reading;
use crate::paint::{Paint, Tone};

const GAP: &str = "  ";
const ELLIPSIS: &str = "…";
/// A name that was cut keeps at least this, or it goes.
const LEAST_CUT_COLUMNS: usize = 8;
/// Wide enough for the states that follow each other all the time, so that nothing jumps.
const STATE_COLUMNS: usize = "streaming".len();
/// From this rank on a part goes before anything is shortened.
const EXTRA: u8 = 10;

/// Everything the line can tell.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) pipeline: String,
    pub(super) phase: Phase,
    pub(super) reading: Reading,
    pub(super) events_per_second: f64,
    pub(super) rows_per_second: f64,
}

/// The line, at most `columns` wide, without a line end.
pub(super) fn render(status: &Status, columns: usize, paint: Paint) -> String {
    let mut parts = parts(status);
    while width(&parts) > columns && parts.iter().any(|part| part.rank >= EXTRA) {
        drop_least(&mut parts);
    }
    if width(&parts) > columns {
        parts.iter_mut().for_each(Part::shorten);
    }
    while width(&parts) > columns && !cut(&mut parts, columns) && parts.len() > 1 {
        drop_least(&mut parts);
    }
    let shown = parts.iter().map(|part| match part.tone {
        Some(tone) => paint.tone(tone, &part.text).to_string(),
        None => part.text.clone(),
    });
    shown.collect::<Vec<_>>().join(GAP)
}

/// How a part gives way when even its short form is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Never,
    /// The beginning goes: the end of a table's name tells more.
    Head,
    Tail,
}

/// One piece of the line.
#[derive(Clone, Debug)]
struct Part {
    text: String,
    short: Option<String>,
    tone: Option<Tone>,
    cut: Cut,
    /// The highest goes first.
    rank: u8,
}

impl Part {
    fn new(rank: u8, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            short: None,
            tone: None,
            cut: Cut::Never,
            rank,
        }
    }

    fn or(self, short: impl Into<String>) -> Self {
        Self {
            short: Some(short.into()),
            ..self
        }
    }

    fn toned(self, tone: Tone) -> Self {
        Self {
            tone: Some(tone),
            ..self
        }
    }

    fn cut(self, cut: Cut) -> Self {
        Self { cut, ..self }
    }

    fn shorten(&mut self) {
        if let Some(short) = self.short.take() {
            self.text = short;
        }
    }
}

fn parts(status: &Status) -> Vec<Part> {
    let Status { phase, reading, .. } = status;
    let lag = format!("lag {}", span(reading.lag_seconds));
    let mut parts = vec![
        Part::new(EXTRA, &status.pipeline).cut(Cut::Tail),
        state(phase),
    ];
    match phase {
        Phase::Starting => {}
        Phase::Standby { holder } => {
            let text = one_line(&format!("{holder} has the source"));
            parts.push(Part::new(1, text).cut(Cut::Tail));
        }
        Phase::Snapshot => match &reading.snapshot {
            Some(progress) => snapshot(progress, status.rows_per_second, &mut parts),
            None => parts.push(Part::new(1, "waiting for the slot").cut(Cut::Tail)),
        },
        Phase::Retrying { peer, problem } => {
            let text = one_line(&format!("{}: {problem}", peer.as_str()));
            parts.extend([Part::new(2, text).cut(Cut::Tail), Part::new(1, lag)]);
        }
        Phase::Refused { problem, .. } => {
            parts.push(Part::new(1, one_line(problem)).cut(Cut::Tail));
        }
        Phase::Streaming | Phase::Idle | Phase::Stopping => {
            let lag = format!("{lag}, {}", bytes(reading.lag_bytes));
            let rate = per_second(status.events_per_second);
            parts.extend([
                Part::new(1, lag),
                Part::new(2, format!("{rate} events/s")).or(format!("{}/s", rate.short())),
            ]);
        }
    }
    counts(reading, &mut parts);
    parts
}

fn state(phase: &Phase) -> Part {
    let tone = match phase {
        Phase::Streaming | Phase::Idle => Tone::Good,
        Phase::Retrying { .. } | Phase::Refused { .. } => Tone::Bad,
        _ => Tone::Strong,
    };
    Part::new(0, format!("{:STATE_COLUMNS$}", phase.label()))
        .cut(Cut::Tail)
        .toned(tone)
}

/// Which table, how many rows of how many, how fast, how long still.
fn snapshot(progress: &SnapshotProgress, rows_per_second: f64, parts: &mut Vec<Part>) {
    let SnapshotProgress {
        number,
        tables,
        rows,
        rows_about,
        ..
    } = progress;
    let table = one_line(&progress.table.to_string());
    parts.push(Part::new(3, table).cut(Cut::Head));
    if *tables > 1 {
        let place = format!("table {number} of {tables}");
        parts.push(Part::new(5, place).or(format!("{number}/{tables}")));
    }
    let about = rows_about.filter(|about| about >= rows);
    parts.push(match about {
        Some(about) => {
            let percent = u128::from(*rows) * 100 / u128::from(about.max(1));
            let (rows, about) = ((whole(*rows), short(*rows)), (whole(about), short(about)));
            Part::new(
                1,
                format!("{} of about {} rows ({percent} %)", rows.0, about.0),
            )
            .or(format!("{} of ~{} rows", rows.1, about.1))
        }
        // Already past the guess, or there was none.
        None => Part::new(1, format!("{} rows", whole(*rows))).or(format!("{} rows", short(*rows))),
    });
    let rate = per_second(rows_per_second);
    parts.push(Part::new(4, format!("{rate} rows/s")).or(format!("{}/s", rate.short())));
    if let Some(about) = about.filter(|_| rows_per_second > 0.0) {
        let left = as_f64(about - rows) / rows_per_second;
        parts.push(Part::new(2, format!("{} left", span(left))));
    }
}

fn counts(reading: &Reading, parts: &mut Vec<Part>) {
    let quarantined = format!("{} quarantined", whole(reading.quarantined));
    parts.push(match reading.quarantined {
        0 => Part::new(EXTRA - 1, quarantined),
        records => Part::new(3, quarantined)
            .or(format!("{} quarantined", short(records)))
            .toned(Tone::Bad),
    });
    parts.push(Part::new(
        EXTRA + 1,
        format!("{} events", whole(reading.events)),
    ));
    if let Some(position) = &reading.position {
        parts.push(Part::new(EXTRA + 2, format!("at {position}")));
    }
}

fn width(parts: &[Part]) -> usize {
    let texts: usize = parts.iter().map(|part| part.text.width()).sum();
    texts + GAP.len() * parts.len().saturating_sub(1)
}

fn drop_least(parts: &mut Vec<Part>) {
    let ranks = parts.iter().enumerate().map(|(at, part)| (part.rank, at));
    if let Some((_, at)) = ranks.max() {
        parts.remove(at);
    }
}

/// Cuts the least important part that may be cut to the room that the others leave; whether that was enough.
fn cut(parts: &mut [Part], columns: usize) -> bool {
    let excess = width(parts).saturating_sub(columns);
    let is_alone = parts.len() == 1;
    let may_be_cut = |part: &&mut Part| part.cut != Cut::Never;
    let Some(part) = parts
        .iter_mut()
        .filter(may_be_cut)
        .max_by_key(|part| part.rank)
    else {
        return false;
    };
    let room = part.text.width().saturating_sub(excess);
    let least = if is_alone { 0 } else { LEAST_CUT_COLUMNS };
    if room < least {
        return false;
    }
    part.text = shortened(&part.text, room, part.cut);
    true
}

/// `text` in at most `room` columns, with an ellipsis where something is missing.
fn shortened(text: &str, room: usize, cut: Cut) -> String {
    let room = room.saturating_sub(1);
    let fitting = |chars: &mut dyn Iterator<Item = char>| {
        let mut used = 0;
        chars
            .take_while(|char| {
                used += char.width().unwrap_or(0);
                used <= room
            })
            .collect::<Vec<_>>()
    };
    if cut == Cut::Head {
        let end = fitting(&mut text.chars().rev());
        format!("{ELLIPSIS}{}", end.into_iter().rev().collect::<String>())
    } else {
        let begin = fitting(&mut text.chars());
        format!("{}{ELLIPSIS}", begin.into_iter().collect::<String>())
    }
}

/// Text of the source or the brokers: on one line, and without anything a terminal would obey.
fn one_line(text: &str) -> String {
    let visible = text.replace(char::is_control, " ");
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
