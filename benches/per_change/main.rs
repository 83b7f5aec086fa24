//! What one change costs, step by step, without a server: `cargo bench --bench per_change`.
//!
//! The change is an update of a segment of `benches/airline`: 12 columns, the old row sent too (REPLICA IDENTITY FULL).
//! Every line is the median of [`RUNS`] runs, in nanoseconds per change. What the steps cost together with servers, threads
//! and sockets is `end_to_end`'s to tell.

mod decode;
mod encode;
mod map;
mod seat;

use std::time::Instant;

use anyhow::Result;

/// Changes per batch, as a busy source would send them.
pub(crate) const BATCH: u32 = 1_000;
/// Batches per run.
const BATCHES: u32 = 200;
const RUNS: usize = 5;

fn main() -> Result<()> {
    let mapping = seat::mapping()?;
    print("decode: pgoutput message to batch", decode::run()?);
    for (name, update) in seat::UPDATES {
        let mut map = map::Step::new(&mapping, update)?;
        print(&format!("map: {name}"), measure(|| map.batch())?);
        let mut encode = encode::Step::new(map.events());
        if encode.records() > 0 {
            print(&format!("encode: {name}"), measure(|| encode.batch())?);
        }
    }
    let mut map = map::Step::new(&mapping, &seat::ONE_EVENT)?;
    map.batch()?;
    let mut with = encode::Step::new(map.events());
    let mut without = encode::Step::without_headers(map.events());
    let with_headers = measure(|| with.batch())?;
    let none = measure(|| without.batch())?;
    print("headers: a record with eleven", with_headers);
    print("headers: a record without", none);
    print("headers: what eleven cost", with_headers - none);
    Ok(())
}

/// Nanoseconds per change of a step that does [`BATCH`] changes when it is called.
pub(crate) fn measure(mut batch: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut runs = [0.0; RUNS];
    for run in &mut runs {
        let started = Instant::now();
        for _ in 0..BATCHES {
            batch()?;
        }
        *run = started.elapsed().as_secs_f64() * 1e9 / f64::from(BATCHES * BATCH);
    }
    runs.sort_by(f64::total_cmp);
    Ok(runs[RUNS / 2])
}

#[expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
fn print(name: &str, nanos: f64) {
    println!("{name:<40} {nanos:>8.0} ns");
}
