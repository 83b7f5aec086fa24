//! Rowbridge end to end beside the floor: one command, one run, one machine.
//!
//! `cargo bench --bench end_to_end -- [--json] [--scale PERCENT] [--mongodb] [--state] [WORKLOAD..]`
//!
//! A drain alternates `pg_recvlogical` to /dev/null (the floor: the same publication, plugin and protocol
//! version) with Rowbridge draining the same backlog through `benches/airline` into Kafka with
//! transactions, three times each after one drain that warms the broker up, and reports medians. In
//! `drain_fanout` every update changes fare, seat and class of a segment and gives three events. A latency
//! run writes single-row commits at a fixed rate, open loop, and reports the time from the commit's answer
//! to a `read_committed` consumer, beside a bare replication client on a second slot. Everything published
//! is read back and counted.
//!
//! `--mongodb` does the same with documents of MongoDB beside a bare loop of its driver, which reads the same raw events
//! from a change stream with the same options.
//!
//! `--state` is about what rules remember: `drain_state` drains through rules that look rows up, with a lifecycle and an
//! event of several rows, beside the drain without state (its floor); `restore_1m` and `restore_5m` read as many rows back
//! from the topic into an empty folder, and then look them up at random; `replay` and `replay_state` map a capture
//! without servers.

#![expect(clippy::print_stderr, reason = "progress is told beside the results")]

mod backlog;
mod documents;
mod drain;
mod latency;
mod measure;
mod pipeline;
mod replay;
mod report;
mod reservations;
mod restore;
mod source;
mod stateful;
mod tally;

use anyhow::{Context, Result, bail};
use rowbridge_testbed::Kafka;

use backlog::{Backlog, FARE_SEAT_AND_CLASS, SEAT};
use documents::Documents;
use replay::Rules;
use report::Report;
use reservations::{Reservations, Way};
use source::Source;

/// The servers of one run.
pub(crate) struct Servers {
    pub(crate) source: Source,
    pub(crate) kafka: Kafka,
}

const WORKLOADS: [&str; 7] = [
    "drain_10k",
    "drain_single",
    "drain_unix",
    "drain_one",
    "drain_fanout",
    "latency_1000",
    "latency_5000",
];
/// Those that `--mongodb` stands for.
const OF_MONGODB: [&str; 2] = ["mongo_drain", "mongo_latency_1000"];

/// Those that `--state` stands for.
const OF_STATE: [&str; 5] = [
    "replay",
    "replay_state",
    "drain_state",
    "restore_1m",
    "restore_5m",
];

struct Arguments {
    json: bool,
    /// Percent of each workload's full size; below 100 only to try the bench itself.
    scale: u64,
    workloads: Vec<String>,
}

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("run") {
        // The daemon that this bench started: the same code as the binary, in this profile.
        std::process::exit(i32::from(
            rowbridge::cli::main() != std::process::ExitCode::SUCCESS,
        ));
    }
    let arguments = arguments()?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run(&arguments))
}

fn arguments() -> Result<Arguments> {
    let mut parsed = Arguments {
        json: false,
        scale: 100,
        workloads: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => parsed.json = true,
            "--bench" => {} // Cargo passes it.
            "--scale" => {
                parsed.scale = words
                    .next()
                    .context("--scale wants a percentage")?
                    .parse()?;
            }
            "--state" => parsed.workloads.extend(OF_STATE.map(str::to_owned)),
            "--mongodb" => parsed.workloads.extend(OF_MONGODB.map(str::to_owned)),
            name if [&WORKLOADS[..], &OF_MONGODB, &OF_STATE]
                .concat()
                .contains(&name) =>
            {
                parsed.workloads.push(name.to_owned());
            }
            other => {
                bail!(
                    "unknown argument {other}; workloads are {WORKLOADS:?}, {OF_MONGODB:?} and {OF_STATE:?}"
                )
            }
        }
    }
    if parsed.workloads.is_empty() {
        parsed.workloads = WORKLOADS.map(str::to_owned).to_vec();
    }
    Ok(parsed)
}

async fn run(arguments: &Arguments) -> Result<()> {
    for workload in &arguments.workloads {
        let rules = match workload.as_str() {
            "replay" => Some(Rules::Plain),
            "replay_state" => Some(Rules::Full),
            _ => None,
        };
        if let Some(rules) = rules {
            let report = replay::run(workload, rules, arguments.scale)?;
            show(&report, arguments.json);
            continue;
        }
        // Fresh servers for each, so that none inherits another's WAL, cache or topics.
        let servers = start(workload).await?;
        let backlog = |rows, rows_per_transaction, update| Backlog {
            name: workload,
            rows,
            rows_per_transaction,
            update,
        };
        let rows = |full: u64| (full * arguments.scale / 100).max(1_000);
        let report = match workload.as_str() {
            "drain_10k" => drain::run(&servers, &backlog(rows(1_000_000), 10_000, SEAT)).await?,
            "drain_single" | "drain_unix" => {
                drain::run(&servers, &backlog(rows(500_000), 1, SEAT)).await?
            }
            "drain_one" => drain::run(&servers, &backlog(rows(1_000_000), u64::MAX, SEAT)).await?,
            "drain_fanout" => {
                let backlog = backlog(rows(1_000_000), 10_000, FARE_SEAT_AND_CLASS);
                drain::run(&servers, &backlog).await?
            }
            "drain_state" => {
                stateful::run(&servers, &backlog(rows(1_000_000), 10_000, SEAT)).await?
            }
            "restore_1m" => restore::run(&servers, workload, rows(1_000_000)).await?,
            "restore_5m" => restore::run(&servers, workload, rows(5_000_000)).await?,
            "mongo_drain" => drain::run(&servers, &backlog(rows(200_000), 1, SEAT)).await?,
            "mongo_latency_1000" => latency::run(&servers, workload, 1_000, rows(30_000)).await?,
            "latency_1000" => latency::run(&servers, workload, 1_000, rows(30_000)).await?,
            _ => latency::run(&servers, workload, 5_000, rows(150_000)).await?,
        };
        show(&report, arguments.json);
    }
    Ok(())
}

async fn start(workload: &str) -> Result<Servers> {
    let source = async {
        anyhow::Ok(match OF_MONGODB.contains(&workload) {
            true => Source::MongoDb(Documents::start().await?),
            false => Source::Postgres(Reservations::start(way(workload)).await?),
        })
    };
    eprintln!("{workload}: starting its source and Kafka");
    let (source, kafka) = tokio::try_join!(source, Kafka::builder().full_speed().start())?;
    Ok(Servers { source, kafka })
}

fn way(workload: &str) -> Way {
    if workload == "drain_unix" {
        Way::Unix
    } else {
        Way::Tcp
    }
}

#[expect(clippy::print_stdout, reason = "the report is this program's output")]
fn show(report: &Report, json: bool) {
    if json {
        println!("{}", report.json());
    } else {
        println!("{report}");
    }
}
