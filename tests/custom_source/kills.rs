//! The example's program, killed while it publishes to a real Kafka.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rowbridge_testbed::Kafka;
use rowbridge_testbed::consumer::{Event, read_all};

use crate::legacy::Legacy;

const TOPIC: &str = "guests";
const SOON: Duration = Duration::from_secs(60);
/// Files that are there at first start; of their guests only the last one is not forgotten.
const BEFORE: usize = 20;
const ROUNDS: usize = 4;
const FILES_PER_ROUND: usize = 150;

/// The program, which ends with the test.
struct Program(Child);

impl Program {
    fn start(legacy: &Legacy, brokers: &str) -> Result<Self> {
        let program = built()?;
        let child = Command::new(&program)
            .arg(legacy.folder.path())
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/examples/custom_source"
            ))
            .arg(brokers)
            .spawn();
        Ok(Self(child.with_context(|| {
            format!("starting {}", program.display())
        })?))
    }

    fn kill9(&mut self) -> Result<()> {
        ensure!(self.0.try_wait()?.is_none(), "the program ended by itself");
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The example, which `cargo test` builds beside its tests.
fn built() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let program = test
        .ancestors()
        .nth(2)
        .context("a test lies in target/debug/deps")?
        .join("examples/custom_source");
    ensure!(
        program.exists(),
        "first run `cargo build --example custom_source`"
    );
    Ok(program)
}

/// File `n`: guest `n` comes and changes, and the one before is forgotten.
fn lines(n: usize) -> String {
    let mut lines = format!(",{n},Ada {n},\n{n},{n},Ada {n},\"late, quiet\"\n");
    if n > 1 {
        lines += &format!("{},,,\n", n - 1);
    }
    lines
}

/// What must be told of each guest, in this order.
fn expected(files: usize) -> BTreeMap<String, Vec<&'static str>> {
    let told = |n: usize| {
        let mut told = vec!["GuestRegistered"];
        if n > BEFORE {
            told.push("GuestChanged");
        }
        if n < files {
            told.push("GuestForgotten");
        }
        (n.to_string(), told)
    };
    (BEFORE..=files).map(told).collect()
}

fn told(events: &[Event]) -> BTreeMap<String, Vec<&str>> {
    let mut told: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for event in events {
        told.entry(event.key.clone())
            .or_default()
            .push(event.kind());
    }
    told
}

/// Waits until more than `count` events are visible.
fn visible(brokers: &str, count: usize) -> Result<Vec<Event>> {
    let started = Instant::now();
    loop {
        let events = read_all(brokers, TOPIC)?;
        if events.len() > count {
            return Ok(events);
        }
        let seen = events.len();
        ensure!(started.elapsed() < SOON, "{seen} events, not over {count}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn every_file_is_published_once_when_the_program_is_killed() -> Result<()> {
    let kafka = Kafka::start().await?;
    let brokers = kafka.brokers();
    let legacy = Legacy::start()?;
    for n in 1..=BEFORE {
        legacy.export(&lines(n))?;
    }
    let mut program = Program::start(&legacy, &brokers)?;
    let mut seen = visible(&brokers, 0)?.len();
    let mut files = BEFORE;
    for round in 1..=ROUNDS {
        let from = files + 1;
        files += FILES_PER_ROUND;
        thread::scope(|scope| {
            let export = scope.spawn(|| {
                (from..=files).try_for_each(|n| {
                    thread::sleep(Duration::from_millis(5));
                    legacy.export(&lines(n))
                })
            });
            // In the middle of what it reads.
            seen = visible(&brokers, seen)?.len();
            program.kill9()?;
            println!("round {round}: killed with {seen} events visible");
            program = Program::start(&legacy, &brokers)?;
            export.join().expect("the export does not panic")?;
            anyhow::Ok(())
        })?;
    }
    let all: usize = expected(files).values().map(Vec::len).sum();
    let events = visible(&brokers, all - 1)?;
    assert_eq!(told(&events), expected(files));
    Ok(())
}
