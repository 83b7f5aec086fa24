//! What one change costs in the mapper: a seat change of `mappings/airline`, and one that fires nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use rowbridge::event::EncodedBatch;
use rowbridge::mapping::{Evaluator, Mapping, Pack, SourceFile, Stamp};
use rowbridge_api::{Batch, Change, Identity, Image, Op, Position, ShapeId, Transaction};

/// Changes per measurement.
const CHANGES: u32 = 300_000;
/// Changes after which the output is emptied, as a full batch would be.
const BATCH: u32 = 1_000;

/// The columns of `segments`, in the order of `schema.toml`.
const BEFORE: [&str; 12] = [
    "7",
    "QX4RTZ",
    "9000002",
    "BA117",
    "2026-12-01",
    "Y",
    "M",
    "12A",
    "310.00",
    "OPEN",
    "web",
    "2026-11-20 09:00:00+00",
];

#[expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
fn main() -> anyhow::Result<()> {
    let pack = Pack {
        mapping: read("mapping.toml")?,
        schema: read("schema.toml")?,
        params: toml::Table::new(),
    };
    let (mapping, _) = Mapping::compile(&pack)?;
    let mapping = Arc::new(mapping);
    for (name, seat) in [("seat change", "14C"), ("nothing fires", "12A")] {
        let (nanos, events) = measure(&mapping, seat)?;
        println!("{name}: {nanos} ns per change, {events} events");
    }
    Ok(())
}

fn read(name: &str) -> anyhow::Result<SourceFile> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("mappings/airline")
        .join(name);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(SourceFile {
        name: name.to_owned(),
        text,
    })
}

fn measure(mapping: &Arc<Mapping>, seat: &str) -> anyhow::Result<(u128, usize)> {
    let shape = Arc::new(mapping.shape("segment").context("no table `segment`")?);
    let stamp = Stamp {
        pipeline: "airline".to_owned(),
        identity: Identity {
            source: "postgres/1/db".to_owned(),
            history: "1".to_owned(),
        },
        max_record_bytes: 1_000_000,
    };
    let mut evaluator = Evaluator::new(Arc::clone(mapping), stamp);
    evaluator.bind(&shape, &Position::new(1))?;
    let mut batch = Batch::default();
    for value in BEFORE {
        batch.push_value(value.as_bytes());
    }
    for value in BEFORE {
        batch.push_value(if value == "12A" { seat } else { value }.as_bytes());
    }
    let tx = Transaction {
        id: 7,
        position: Position::new(0x16_B374_D848),
        commit_micros: 1_763_633_700_000_000,
    };
    let mut change = Change {
        shape: ShapeId(shape.id.0),
        op: Op::Update,
        before: Image::Row { first_cell: 0 },
        after: Image::Row { first_cell: 12 },
        width: 12,
        ordinal: 0,
    };
    let mut out = EncodedBatch::default();
    let mut events = 0;
    let start = Instant::now();
    for ordinal in 0..CHANGES {
        change.ordinal = u64::from(ordinal);
        evaluator.change(&batch, &tx, &change, &mut out)?;
        if ordinal % BATCH == BATCH - 1 {
            events += out.records.len();
            out.clear();
        }
    }
    Ok((start.elapsed().as_nanos() / u128::from(CHANGES), events))
}
