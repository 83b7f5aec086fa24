//! Watch a booking become events: real PostgreSQL, real Kafka, a real daemon, and a kill in the middle.
//!
//! Starts both servers, runs `rowbridge run` as a process of its own with the README's configuration,
//! executes the statements of `story.toml` one by one and prints the events that a `read_committed`
//! consumer got for each. In the middle it kills the daemon with SIGKILL while a Kafka transaction is
//! open. At the end a fresh consumer reads everything and counts what is lost and what is there twice.
//!
//! `--mongodb` tells `hotel.toml` instead: a guest's stay in documents of MongoDB.
//!
//! `--keep` leaves everything running and prints where it is.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the story is told on the terminal"
)]

mod airline;
mod daemon;
mod hotel;
mod kill;
mod ledger;
mod stage;
mod story;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;

use airline::Airline;
use daemon::Daemon;
use hotel::Hotel;
use ledger::Ledger;
use stage::{Stage, acknowledged};

/// The statements that run before the kill; the story goes on after it.
const STATEMENTS_BEFORE_THE_KILL: usize = 8;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == "run") {
        return rowbridge::cli::main(); // The daemon that this example started: the same code as the binary.
    }
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let keep = given("--keep");
    let told = tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| {
            if given("--mongodb") {
                runtime.block_on(tell::<Hotel>(keep))
            } else {
                runtime.block_on(tell::<Airline>(keep))
            }
        });
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

/// Tells the story; whether nothing was lost and nothing came twice.
async fn tell<S: Stage>(keep: bool) -> Result<bool> {
    let story = S::story()?;
    say(&format!(
        "starting {} and kafka (the first time they are fetched, which takes a minute)",
        S::SERVER
    ));
    let (stage, kafka) = S::start().await?;
    let stage = Arc::new(stage);

    say(&format!(
        "starting `rowbridge run` with mappings/{}",
        S::NAME
    ));
    let mut daemon = Daemon::start(&*stage, &kafka.brokers())?;
    daemon.ready().await?;

    let mut ledger = Ledger::new(&kafka.brokers(), S::NAME, &story);
    println!("\n     {}", story.first_start.say);
    ledger.tell(&story.first_start.say, &story.first_start.events)?;
    let mut number = 0;
    for (at, statement) in story.statements.iter().enumerate() {
        if at == STATEMENTS_BEFORE_THE_KILL {
            number += 1;
            let group = kill::with_an_open_transaction(number, &stage, &kafka, &mut daemon).await?;
            acknowledged(&*stage, &daemon).await?;
            ledger.tell(&group.say, &group.events)?;
        }
        number += 1;
        println!("\n{number:>3}  {}\n     {}", statement.say, statement.write);
        stage.write(&statement.write).await?;
        acknowledged(&*stage, &daemon).await?;
        ledger.tell(&statement.say, &statement.events)?;
    }

    let count = ledger.count()?;
    if keep {
        println!(
            "\nkafka={} {}={} http=http://{}",
            kafka.brokers(),
            S::SERVER,
            stage.url(),
            daemon.http()
        );
        println!("statements {number} {count}");
        tokio::signal::ctrl_c().await?;
    }
    daemon.stop().await?;
    drop((stage, kafka));
    if !keep {
        println!("\nstatements {number} {count}");
    }
    Ok(count.is_clean())
}

fn say(what: &str) {
    println!("     {what}");
}
