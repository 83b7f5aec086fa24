//! SIGKILL while a Kafka transaction is open, and the proof that it was.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use rowbridge_testbed::Kafka;
use rowbridge_testbed::consumer::{EndOffsets, open_transaction};

use crate::daemon::Daemon;
use crate::story::{Expected, Statement};

/// Passengers of the group whose aircraft changes; enough that their events take a while to publish.
const PASSENGERS: usize = 20_000;

const DEADLINE: Duration = Duration::from_secs(60);

/// One UPDATE that moves a whole group, and the daemon killed while it publishes that.
pub(crate) async fn with_an_open_transaction(
    number: usize,
    client: &tokio_postgres::Client,
    kafka: &Kafka,
    daemon: &mut Daemon,
) -> Result<Statement> {
    prepare(client).await?;
    crate::daemon::acknowledged(client).await?;
    let statement = statement();
    println!("\n{number:>3}  {}\n     {}", statement.say, statement.sql);
    let stable = EndOffsets::committed(&kafka.brokers(), "travel.inventory")?;
    let high = EndOffsets::uncommitted(&kafka.brokers(), "travel.inventory")?;
    client.batch_execute(&statement.sql).await?;
    let started = Instant::now();
    loop {
        if let Some(open) = open_transaction(&stable, &high)? {
            // Stopped, it cannot end the transaction while we look again.
            daemon.signal(Signal::SIGSTOP)?;
            let still = open_transaction(&stable, &high)?;
            if let Some(still) = still {
                let took = daemon.kill_and_start_again().await?;
                println!(
                    "     SIGKILL with a Kafka transaction open ({still}; first seen: {open})"
                );
                println!(
                    "     a new process streamed {} ms after its start",
                    took.as_millis()
                );
                return Ok(statement);
            }
            daemon.signal(Signal::SIGCONT)?;
        }
        if started.elapsed() > DEADLINE {
            bail!("no Kafka transaction was seen open within {DEADLINE:?}");
        }
    }
}

/// The group's rows, sold through a channel that publishes nothing, then handed to one that does.
async fn prepare(client: &tokio_postgres::Client) -> Result<()> {
    let insert = format!(
        "INSERT INTO bookings (pnr, status, sales_channel, contact_email, currency, total_amount)
             VALUES ('GROUP1', 'HELD', 'test', 'group@example.com', 'EUR', 0);
         INSERT INTO segments (id, pnr, flight_no, departure_date, cabin, fare_class, seat_no, fare, status, sales_channel)
             SELECT n, 'GROUP1', 'BA117', '2026-12-01', 'Y', 'G', 'G' || n, 99, 'OPEN', 'test' FROM generate_series(1, {PASSENGERS}) n;
         UPDATE segments SET sales_channel = 'agent' WHERE pnr = 'GROUP1';"
    );
    Ok(client.batch_execute(&insert).await?)
}

fn statement() -> Statement {
    let event = Expected {
        topic: "travel.inventory".to_owned(),
        event_type: "SeatReassigned".to_owned(),
        key: "BA117/2026-12-01/Y".to_owned(),
        quarantined: false,
        tombstone: false,
    };
    Statement {
        say: format!(
            "A larger aircraft: {PASSENGERS} passengers of a group change seats in one UPDATE. Rowbridge is killed in the middle."
        ),
        sql:
            "UPDATE segments SET seat_no = 'A' || seat_no, updated_at = now() WHERE pnr = 'GROUP1'"
                .to_owned(),
        events: vec![event; PASSENGERS],
    }
}
