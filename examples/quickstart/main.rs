//! Watch a booking become events: real PostgreSQL, real Kafka, a real daemon, and a kill in the middle.
//!
//! Starts both servers, runs `rowbridge run` as a process of its own with the README's configuration,
//! executes the statements of `story.toml` one by one and prints the events that a `read_committed`
//! consumer got for each. In the middle it kills the daemon with SIGKILL while a Kafka transaction is
//! open. At the end a fresh consumer reads everything and counts what is lost and what is there twice.
//!
//! `--keep` leaves everything running and prints where it is.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the story is told on the terminal"
)]

mod daemon;
mod kill;
mod ledger;
mod story;

use std::process::ExitCode;

use anyhow::{Context, Result};
use rowbridge_testbed::{Kafka, PgVersion, Postgres};

use daemon::Daemon;
use ledger::Ledger;
use story::{Statement, Story};

/// The statements that run before the kill; the story goes on after it.
const STATEMENTS_BEFORE_THE_KILL: usize = 8;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == "run") {
        return rowbridge::cli::main(); // The daemon that this example started: the same code as the binary.
    }
    let keep = arguments.iter().any(|argument| argument == "--keep");
    match tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(tell(keep)))
    {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

/// Tells the story; whether nothing was lost and nothing came twice.
async fn tell(keep: bool) -> Result<bool> {
    let story = Story::load()?;
    say("starting PostgreSQL and Kafka (the first time they are fetched, which takes a minute)");
    let (postgres, kafka) = tokio::try_join!(Postgres::start(PgVersion::V15), Kafka::start())?;
    let url = postgres.database("reservations").await?;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client
        .batch_execute(include_str!("../../mappings/airline/schema.sql"))
        .await
        .context("mappings/airline/schema.sql")?;

    say("starting `rowbridge run` with the configuration of README.md");
    let mut daemon = Daemon::start(&url, &kafka.brokers())?;
    daemon.ready().await?;

    let mut ledger = Ledger::new(&kafka.brokers(), "airline");
    ledger.first_start(&story.first_start)?;
    let mut number = 0;
    for (at, statement) in story.statements.iter().enumerate() {
        if at == STATEMENTS_BEFORE_THE_KILL {
            number += 1;
            let bulk = kill::with_an_open_transaction(number, &client, &kafka, &mut daemon).await?;
            settle(&client, &mut ledger, &bulk).await?;
        }
        number += 1;
        println!(
            "\n{number:>3}  {}\n     {}",
            statement.say,
            story::on_one_line(&statement.sql)
        );
        client
            .batch_execute(&statement.sql)
            .await
            .with_context(|| format!("the statement {:?}", statement.sql))?;
        settle(&client, &mut ledger, statement).await?;
    }

    let count = ledger.count()?;
    if keep {
        println!(
            "\nkafka={} postgres={url} http=http://{}",
            kafka.brokers(),
            daemon.http()
        );
        println!("statements {number} {count}");
        tokio::signal::ctrl_c().await?;
    }
    daemon.stop().await?;
    drop((postgres, kafka));
    if !keep {
        println!("\nstatements {number} {count}");
    }
    Ok(count.is_clean())
}

/// Waits until the daemon acknowledged everything written so far, then prints what came of it.
async fn settle(
    client: &tokio_postgres::Client,
    ledger: &mut Ledger,
    statement: &Statement,
) -> Result<()> {
    daemon::acknowledged(client).await?;
    ledger.tell(statement)
}

fn say(what: &str) {
    println!("     {what}");
}
