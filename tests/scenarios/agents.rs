//! Agents of the airline sell at the same time; the flight's partition shows the order of their commits.

use anyhow::{Context, Result};
use rowbridge_testbed::consumer::{Event, read_all};

use crate::rig::{Rig, SOON, eventually};

const SEATS: usize = 40;
const AGENTS: usize = 4;
const FLIGHT: &str = "BA900/2026-12-24/Y";

/// Sells one seat, if one is left: the row of the inventory is the lock that orders the agents.
fn sale(agent: usize) -> String {
    format!(
        "WITH seat AS (
             SELECT capacity - available + 1 AS number FROM inventory
             WHERE flight_no = 'BA900' AND departure_date = '2026-12-24' AND cabin = 'Y' AND available > 0
             FOR UPDATE)
         INSERT INTO segments (pnr, flight_no, departure_date, cabin, fare_class, fare, status, sales_channel, seat_no)
         SELECT 'AGENT{agent}', 'BA900', '2026-12-24', 'Y', 'M', 100, 'OPEN', 'agent', number || 'A' FROM seat
         RETURNING seat_no"
    )
}

/// Sells until nothing is left; how many it sold.
async fn sell_out(rig: &Rig, agent: usize) -> Result<usize> {
    let client = rig.client().await?;
    let statement = sale(agent);
    let mut sold = 0;
    while client.query_opt(&statement, &[]).await?.is_some() {
        sold += 1;
    }
    Ok(sold)
}

#[tokio::test]
async fn two_agents_and_more_sell_the_last_seat_and_the_partition_shows_the_commit_order()
-> Result<()> {
    let rig = Rig::shipped("last_seat", "airline").await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql(&format!(
        "INSERT INTO inventory VALUES ('BA900', '2026-12-24', 'Y', {SEATS}, {SEATS});
         INSERT INTO bookings SELECT 'AGENT' || n, 'CONFIRMED', 'agent', 'a@example.com', 'GBP', 100
         FROM generate_series(0, {AGENTS} - 1) n"
    ))
    .await?;
    let sold = tokio::try_join!(
        sell_out(&rig, 0),
        sell_out(&rig, 1),
        sell_out(&rig, 2),
        sell_out(&rig, 3)
    )?;
    println!("sold by agent: {sold:?}");
    assert_eq!(sold.0 + sold.1 + sold.2 + sold.3, SEATS);

    let of_flight = || -> Result<Vec<Event>> {
        let mut events = read_all(&rig.brokers, "travel.inventory")?;
        events.retain(|event| event.key == FLIGHT && event.kind() == "SeatSold");
        Ok(events)
    };
    eventually("every sale", SOON, || {
        let events = of_flight();
        async move { Ok(events?.len() >= SEATS) }
    })
    .await?;
    let events = of_flight()?;
    // The seat number is the count in the inventory, so it is the order in which the agents committed.
    let seats: Vec<String> = events.iter().map(|event| event.field("seat")).collect();
    let wanted: Vec<String> = (1..=SEATS).map(|seat| format!("{seat}A")).collect();
    assert_eq!(seats, wanted);
    let partition = events.first().context("a sale")?.partition;
    assert!(events.iter().all(|event| event.partition == partition));
    assert!(
        events
            .windows(2)
            .all(|pair| pair[0].header("ce_sequence") < pair[1].header("ce_sequence")),
        "ce_sequence does not rise with the commits"
    );
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}
