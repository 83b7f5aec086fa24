//! A capture through the rules alone, without servers, on one thread: what a change costs to map, without state and with.
//!
//! With state the store is behind it as in the daemon, and what it does on its own threads counts: changes per second of
//! CPU time.

use std::sync::Arc;

use anyhow::{Context, Result};
use rowbridge::event::EncodedBatch;
use rowbridge::mapping::capture::{Header, Writer};
use rowbridge::mapping::change_json::{ChangeReader, Tables};
use rowbridge::mapping::{Arrival, Evaluator, Mapping, Pack, Settled, SourceFile, Stamp};
use rowbridge::state::{Changelog, Copy, Place, Recorder};
use rowbridge_api::{Batch, Cell, Change, Commit, Identity, Item, Op, Position, Transaction};

use crate::backlog::{BOOKINGS, FLIGHTS, SEGMENTS};
use crate::measure::{cpu_seconds, rss_peak_mib};
use crate::report::{Report, median, round};

/// Changes of a transaction.
const CHANGES: u64 = 10_000;
/// Transactions of the capture.
const TRANSACTIONS: u64 = 10;
const REPEATS: usize = 3;
/// An encoded batch of so many bytes is given away.
const FULL_BYTES: usize = 64 << 10;
const CACHE_BYTES: usize = 32 << 20;

/// Which rules the capture goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// `mappings/airline`, without state.
    Plain,
    Full,
}

pub(crate) fn run(workload: &str, rules: Rules, scale: u64) -> Result<Report> {
    let mapping = Arc::new(mapping(rules)?);
    let batches = captured(&mapping)?;
    let rounds = (20 * scale / 100).max(1);
    let mut rates = Vec::new();
    let mut events = 0;
    for _ in 0..REPEATS {
        let mut replay = Replay::new(&mapping, rules)?;
        let began = cpu_seconds(std::process::id())?;
        events = 0;
        let mut changes = 0;
        for _ in 0..rounds {
            for batch in &batches {
                events += replay.batch(batch)?;
                changes += CHANGES;
            }
        }
        replay.end()?;
        let took = cpu_seconds(std::process::id())? - began;
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        rates.push(changes as f64 / took);
    }
    let rate = median(rates);
    Ok(Report {
        workload: workload.to_owned(),
        rows_per_s: Some(round(rate, 0)),
        events,
        events_per_s: round(rate, 0),
        rss_peak_mib: round(rss_peak_mib(std::process::id())?, 1),
        cpu_s_per_million_events: round(1e6 / rate, 2),
        ..Report::default()
    })
}

fn mapping(rules: Rules) -> Result<Mapping> {
    let texts = match rules {
        Rules::Plain => [
            include_str!("../../mappings/airline/mapping.toml"),
            include_str!("../../mappings/airline/schema.toml"),
        ],
        Rules::Full => [
            include_str!("full/mapping.toml"),
            include_str!("full/schema.toml"),
        ],
    };
    let [mapping, schema] = texts.map(|text| SourceFile {
        name: "pack".to_owned(),
        text: text.to_owned(),
    });
    let pack = Pack {
        mapping,
        schema,
        params: toml::Table::new(),
    };
    Ok(Mapping::compile(&pack)?.0)
}

fn stamp() -> Stamp {
    Stamp {
        pipeline: "replay".to_owned(),
        identity: Identity {
            source: "postgres/1/db".to_owned(),
            history: "1".to_owned(),
        },
        max_record_bytes: 1_000_000,
    }
}

/// The seats' changes of the drains, written as a capture and read again.
fn captured(mapping: &Arc<Mapping>) -> Result<Vec<Batch>> {
    let header = Header::new(mapping, &stamp(), "2026-11-26T08:00:00Z".to_owned());
    let mut writer = Writer::new(mapping, header);
    let mut text = Vec::new();
    let shape = Arc::new(mapping.shape("segment").context("no table `segment`")?);
    let names: Vec<String> = shape
        .columns
        .iter()
        .map(|column| column.name.clone())
        .collect();
    let mut batch = Batch::default();
    writer.item(&batch, &Item::Shape(Arc::clone(&shape)), &mut text);
    for number in 0..TRANSACTIONS {
        batch.clear();
        let position = Position::new(1_000_000 * (number + 1));
        let transaction = Transaction {
            id: 700 + number,
            position: position.clone(),
            commit_micros: 1_763_633_700_000_000,
        };
        batch.items.push(Item::Begin(transaction));
        for ordinal in 0..CHANGES {
            let n = number * CHANGES + ordinal;
            let images = [n, n + 1].map(|seat| {
                let cells: Vec<String> = names.iter().map(|name| cell(name, n, seat)).collect();
                batch.push_row(cells.iter().map(|cell| Cell::Value(cell.as_bytes())))
            });
            batch.items.push(Item::Change(Change {
                shape: shape.id,
                op: Op::Update,
                before: images[0],
                after: images[1],
                width: u16::try_from(names.len())?,
                ordinal,
            }));
        }
        batch.items.push(Item::Commit(Commit { position }));
        for item in &batch.items {
            writer.item(&batch, item, &mut text);
        }
    }
    writer.end(&mut text);
    read(mapping, std::str::from_utf8(&text)?)
}

/// A column of the segment that the change numbered `n` is of.
fn cell(name: &str, n: u64, seat: u64) -> String {
    let id = 1 + n % SEGMENTS;
    match name {
        "id" => id.to_string(),
        "pnr" => format!("BN{:04}", id % BOOKINGS),
        "passenger_id" => "7".to_owned(),
        "flight_no" => format!("BA{}", id % FLIGHTS),
        "departure_date" => "2026-12-01".to_owned(),
        "fare" => "120.50".to_owned(),
        "seat_no" => format!("S{seat}"),
        "status" => "OPEN".to_owned(),
        "sales_channel" => "web".to_owned(),
        "updated_at" => "2026-11-26 08:00:00+00".to_owned(),
        _ => "Y".to_owned(),
    }
}

fn read(mapping: &Arc<Mapping>, text: &str) -> Result<Vec<Batch>> {
    let mut reader = ChangeReader::new(Arc::new(Tables::of(mapping)));
    let mut batches = Vec::new();
    let mut batch = Batch::default();
    for line in text.lines() {
        reader.line(line, &mut batch)?;
        if matches!(batch.items.last(), Some(Item::Commit(_))) {
            batches.push(std::mem::take(&mut batch));
        }
    }
    Ok(batches)
}

/// The evaluation of one repeat.
struct Replay {
    evaluator: Evaluator,
    keeping: Option<(Recorder, tempfile::TempDir)>,
    recorded: i64,
    out: EncodedBatch,
}

impl Replay {
    fn new(mapping: &Arc<Mapping>, rules: Rules) -> Result<Self> {
        let mapping = Arc::clone(mapping);
        let mut this = match rules {
            Rules::Plain => Self {
                evaluator: Evaluator::new(mapping, stamp()),
                keeping: None,
                recorded: 0,
                out: EncodedBatch::default(),
            },
            Rules::Full => {
                let dir = tempfile::tempdir()?;
                let place = Place {
                    folder: dir.path().join("full"),
                    cache_bytes: CACHE_BYTES,
                };
                let changelog = Changelog {
                    generations: rowbridge::mapping::Generations::new(),
                    beginning: "replay".to_owned(),
                    since: 0,
                    end: 0,
                };
                let restoring = Copy::open(&place, &changelog, 0)?.follow()?;
                let (recorder, store) = restoring.finish(0, 0)?;
                Self {
                    evaluator: Evaluator::with_memory(mapping, stamp(), Box::new(store)),
                    keeping: Some((recorder, dir)),
                    recorded: 0,
                    out: EncodedBatch::default(),
                }
            }
        };
        if rules == Rules::Full {
            this.seed()?;
        }
        Ok(this)
    }

    /// The bookings that are looked up.
    fn seed(&mut self) -> Result<()> {
        let shape = self.evaluator.mapping().shape("booking");
        let shape = Arc::new(shape.context("no table `booking`")?);
        self.evaluator.bind(&shape, &Position::new(1))?;
        let transaction = Transaction {
            id: 1,
            position: Position::new(1),
            commit_micros: 0,
        };
        for booking in 0..BOOKINGS {
            let mut batch = Batch::default();
            let cells = [
                format!("BN{booking:04}"),
                "CONFIRMED".to_owned(),
                "web".to_owned(),
            ];
            let after = batch.push_row(cells.iter().map(|cell| Cell::Value(cell.as_bytes())));
            let row = Change {
                shape: shape.id,
                op: Op::Insert,
                before: rowbridge_api::Image::Absent,
                after,
                width: 3,
                ordinal: booking,
            };
            self.evaluator.seed(&batch, &transaction, &row)?;
        }
        self.commit()
    }

    /// A transaction; how many events it gave.
    fn batch(&mut self, batch: &Batch) -> Result<u64> {
        let mut events = 0;
        let mut transaction = None;
        for item in &batch.items {
            match item {
                Item::Shape(shape) => self.evaluator.bind(shape, &Position::new(1))?,
                Item::Begin(begun) => transaction = Some(begun),
                Item::Change(change) => {
                    let transaction = transaction.context("a transaction")?;
                    if self.keeping.is_some() {
                        let arrival = Arrival::New {
                            witness: change.ordinal,
                        };
                        self.evaluator.gather(batch, transaction, change, arrival)?;
                    } else {
                        let out = &mut self.out;
                        self.evaluator.change(batch, transaction, change, out)?;
                        events += self.give_away();
                    }
                }
                Item::Commit(_) if self.keeping.is_some() => loop {
                    let settled = self
                        .evaluator
                        .settle(FULL_BYTES, &mut None, &mut self.out)?;
                    events += self.give_away();
                    if matches!(settled, Settled::Wholly) {
                        self.commit()?;
                        break;
                    }
                },
                Item::Commit(_) | Item::SnapshotEnd(_) => {}
            }
        }
        Ok(events)
    }

    fn give_away(&mut self) -> u64 {
        let events = self.out.records.len() as u64;
        if self.out.buf.len() >= FULL_BYTES || self.keeping.is_some() {
            self.out.clear();
            return events;
        }
        0
    }

    /// Hands what was put to the copy, as its committer does.
    fn commit(&mut self) -> Result<()> {
        let Some((recorder, _)) = &mut self.keeping else {
            return Ok(());
        };
        let (out, recorded) = (&mut self.out, &mut self.recorded);
        let mut taken = Ok(());
        self.evaluator.memory().drain(&mut |key, value| {
            out.push_entry(key, value);
            *recorded += 1;
            if taken.is_ok() {
                taken = recorder.take(key, value);
            }
            if out.buf.len() >= FULL_BYTES {
                out.clear();
            }
        })?;
        taken?;
        recorder.committed(*recorded, 0)?;
        out.clear();
        Ok(())
    }

    fn end(self) -> Result<()> {
        if let Some((recorder, dir)) = self.keeping {
            drop(self.evaluator);
            drop(recorder);
            dir.close()?;
        }
        Ok(())
    }
}
