//! Coach tickets are sold, moved, cancelled and refunded at the same time; the topics tell the seats of every departure.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rowbridge_testbed::consumer::{Event, read_all};
use tokio_postgres::error::SqlState;

use crate::oracle::{Reads, no_duplicates};
use crate::rig::{Rig, SOON};
use crate::workload::Random;

const DEPARTURES: u32 = 6;
/// Of each of the four clerks on a shift.
const TRANSACTIONS: u32 = 80;

/// Departures of 20 seats, and tickets sold before the first start.
const OPENING: &str = "
    INSERT INTO departures (id, route_id, departs_at, arrives_at, capacity, seats_available, status)
    SELECT n, '507', '2026-12-24', '2026-12-25', 20, 20, 'SCHEDULED' FROM generate_series(1, 6) n;
    INSERT INTO tickets (booking_ref, departure_id, seats, from_stop, to_stop, status, sales_channel)
    SELECT 'OPEN' || n, n, n % 3 + 1, 'LDN-VIC', 'BHX-DIG', 'BOOKED', 'agent' FROM generate_series(1, 6) n;
    INSERT INTO payments (ticket_id, booking_ref, method, paid, currency)
    SELECT id, booking_ref, 'cash', 36, 'GBP' FROM tickets WHERE booking_ref LIKE 'OPEN%'";

/// What clerks do all day. Everybody locks tickets before departures and lower departures before higher ones.
fn transaction(random: &mut Random) -> String {
    let departure = random.below(DEPARTURES) + 1;
    let seats = random.below(3) + 1;
    let any = |what: &str, salt: u32| {
        format!("(SELECT id FROM {what} ORDER BY md5(id::text || '{salt}') LIMIT 1)")
    };
    let ticket = any("tickets", random.below(1_000_000));
    let payment = any("payments", random.below(1_000_000));
    let refund = random.below(30) + 1;
    match random.below(24) {
        0..=6 => format!(
            "WITH free AS (
                 SELECT id FROM departures
                 WHERE id = {departure} AND seats_available >= {seats} AND status <> 'CANCELLED' FOR NO KEY UPDATE),
             ticket AS (
                 INSERT INTO tickets (booking_ref, departure_id, seats, from_stop, to_stop, status, sales_channel)
                 SELECT 'T' || {refund}, id, {seats}, 'LDN-VIC', 'BHX-DIG', 'BOOKED', 'web' FROM free
                 RETURNING id, booking_ref)
             INSERT INTO payments (ticket_id, booking_ref, method, paid, currency)
             SELECT id, booking_ref, 'card', 36, 'GBP' FROM ticket"
        ),
        7 => format!(
            "INSERT INTO tickets (booking_ref, departure_id, seats, from_stop, to_stop, status, sales_channel)
             VALUES ('BASKET', {departure}, {seats}, 'LDN-VIC', 'OXF-GLO', 'HELD', 'app')"
        ),
        8 => "UPDATE tickets SET status = 'BOOKED' WHERE id = (SELECT min(id) FROM tickets WHERE status = 'HELD')"
            .to_owned(),
        9..=11 => format!(
            "UPDATE tickets SET status = 'CANCELLED', cancel_reason = 'CUSTOMER' WHERE id = {ticket}"
        ),
        12 => format!("UPDATE tickets SET status = 'BOOKED', cancel_reason = NULL WHERE id = {ticket}"),
        13 | 14 => format!(
            "UPDATE tickets SET departure_id = departure_id + 1 WHERE id = {ticket} AND departure_id < {DEPARTURES}"
        ),
        15 => format!("UPDATE tickets SET seats = {seats} WHERE id = {ticket}"),
        16 => format!(
            "UPDATE tickets SET departure_id = departure_id + 1, seats = {seats}, status = 'CANCELLED'
             WHERE id = {ticket} AND departure_id < {DEPARTURES}"
        ),
        17 => format!("DELETE FROM tickets WHERE id = {ticket} AND status IN ('BOOKED', 'CANCELLED', 'HELD')"),
        18 | 19 => format!("INSERT INTO refunds (payment_id, amount, currency) VALUES ({payment}, {refund}, 'GBP')"),
        20 => format!("INSERT INTO refunds (payment_id, amount, currency) VALUES ({payment}, {refund}, 'EUR')"),
        21 => format!(
            "UPDATE departures SET capacity = 20 + {seats}, departs_at = departs_at + interval '1 minute' WHERE id = {departure}"
        ),
        22 => format!(
            "BEGIN; UPDATE tickets SET status = 'CANCELLED', cancel_reason = 'OPERATOR' WHERE departure_id = {departure};
             UPDATE departures SET status = 'CANCELLED' WHERE id = {departure};
             UPDATE departures SET status = 'SCHEDULED' WHERE id = {departure}; COMMIT"
        ),
        _ => format!("BEGIN; UPDATE tickets SET status = 'CANCELLED' WHERE departure_id = {departure}; ROLLBACK"),
    }
}

/// Four clerks at once.
async fn shift(rig: &Rig, number: u64) -> Result<()> {
    let clerk = |clerk: u64| work(rig, Random(number * 7919 + clerk));
    tokio::try_join!(clerk(1), clerk(2), clerk(3), clerk(4)).map(drop)
}

async fn work(rig: &Rig, mut random: Random) -> Result<()> {
    let client = rig.client().await?;
    for _ in 0..TRANSACTIONS {
        match client.batch_execute(&transaction(&mut random)).await {
            // A deleted ticket takes its payments with it, under the hands of whoever refunds one.
            Err(error)
                if matches!(
                    error.code(),
                    Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::FOREIGN_KEY_VIOLATION)
                ) =>
            {
                client.batch_execute("ROLLBACK").await?;
            }
            ended => ended.context("a clerk's transaction")?,
        }
    }
    Ok(())
}

/// Everything published, topic by topic.
struct Published {
    booked: Vec<Event>,
    cancelled: Vec<Event>,
    refunded: Vec<Event>,
    schedule: Vec<Event>,
    quarantined: Vec<Event>,
}

/// A number that must be there.
fn number(event: &Event, field: &str) -> Result<i64> {
    let text = event.field(field);
    text.parse()
        .with_context(|| format!("{} {field} = {text:?}", event.kind()))
}

impl Published {
    fn read(rig: &Rig) -> Result<Self> {
        let read = |topic: &str| read_all(&rig.brokers, topic);
        Ok(Self {
            booked: read("bus.tickets.booked")?,
            cancelled: read("bus.tickets.cancelled")?,
            refunded: read("bus.tickets.refunded")?,
            schedule: read("bus.schedule.updated")?,
            quarantined: read(&format!("rowbridge.{}.quarantine", rig.pipeline))?,
        })
    }

    /// Seats available per departure: its last capacity, less what was booked, and what was cancelled on top.
    fn available(&self) -> Result<BTreeMap<i64, i64>> {
        let mut seats = BTreeMap::new();
        for event in &self.schedule {
            seats.insert(event.key.parse()?, number(event, "capacity")?);
        }
        for (events, sign) in [(&self.booked, -1), (&self.cancelled, 1)] {
            for event in events {
                ensure!(event.key == event.field("departure_id"), "{event:?}");
                let departure = seats.get_mut(&event.key.parse()?);
                *departure.context("an unknown departure")? += sign * number(event, "seats")?;
            }
        }
        Ok(seats)
    }

    /// The tickets that hold seats, as (departure, seats): of each its last event decides.
    fn holding(&self) -> Result<BTreeMap<i64, (i64, i64)>> {
        let mut last: BTreeMap<i64, &Event> = BTreeMap::new();
        for event in self.booked.iter().chain(&self.cancelled) {
            let kept = last.entry(number(event, "ticket_id")?).or_insert(event);
            if kept.header("ce_sequence") < event.header("ce_sequence") {
                *kept = event;
            }
        }
        last.retain(|_, event| event.kind() == "TicketBooked");
        let claim =
            |event: &Event| anyhow::Ok((number(event, "departure_id")?, number(event, "seats")?));
        last.into_iter()
            .map(|(ticket, event)| Ok((ticket, claim(event)?)))
            .collect()
    }

    /// The last total of each payment that something was refunded of; a payment's events are in order.
    fn refunds(&self) -> Result<BTreeMap<i64, String>> {
        let total = |event: &Event| Ok((event.key.parse()?, event.field("refunded_total")));
        self.refunded.iter().map(total).collect()
    }

    fn booked_because(&self, reason: &str) -> usize {
        let because = |event: &&Event| event.field("reason") == reason;
        self.booked.iter().filter(because).count()
    }
}

/// The same as the source has it.
async fn verify(rig: &Rig) -> Result<Published> {
    let published = Published::read(rig)?;
    let client = rig.client().await?;
    let rows = client
        .query("SELECT id, seats_available::int8 FROM departures", &[])
        .await?;
    let stored: BTreeMap<i64, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let available = published.available()?;
    ensure!(
        available == stored,
        "seats available: {available:?} published, {stored:?} stored"
    );

    let holding = "SELECT id, departure_id, seats::int8 FROM tickets WHERE status = 'BOOKED'";
    let rows = client.query(holding, &[]).await?;
    let stored = rows
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2))));
    ensure!(
        published.holding()? == stored.collect(),
        "tickets holding seats differ"
    );

    let right = "refunded <= paid AND refund_currency = currency";
    let query = format!(
        "SELECT id, refunded::text FROM payments WHERE refunded > 0 AND {right} ORDER BY id"
    );
    let refunds = published.refunds()?;
    for row in client.query(&query, &[]).await? {
        let (payment, total): (i64, String) = (row.get(0), row.get(1));
        ensure!(
            refunds.get(&payment) == Some(&total),
            "payment {payment}: {total} refunded, published {:?}",
            refunds.get(&payment)
        );
    }
    let query =
        format!("SELECT id, refunded::text FROM payments WHERE refunded > 0 AND NOT ({right})");
    for row in client.query(&query, &[]).await? {
        let (payment, total): (i64, String) = (row.get(0), row.get(1));
        let caught = published.quarantined.iter().any(|event| {
            let cell = |name: &str| event.value.as_ref()?.pointer(name).map(ToString::to_string);
            cell("/after/id") == Some(payment.to_string())
                && cell("/after/refunded") == Some(format!("\"{total}\""))
        });
        ensure!(
            caught,
            "payment {payment}: {total} refunded and not quarantined"
        );
        ensure!(
            refunds.get(&payment) != Some(&total),
            "payment {payment}: {total} is published"
        );
    }
    Ok(published)
}

/// Waits until the events say what the source holds at rest.
async fn settled(rig: &Rig) -> Result<Published> {
    let started = Instant::now();
    loop {
        match verify(rig).await {
            Ok(published) => return Ok(published),
            Err(error) if started.elapsed() > SOON => {
                bail!(error.context("the topics never told the source's seats"))
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
        }
    }
}

#[tokio::test]
async fn the_seats_of_every_departure_follow_from_the_topics_of_its_tickets() -> Result<()> {
    let rig = Rig::shipped("bus_seats", "bus").await?;
    rig.sql(OPENING).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    shift(&rig, 1).await?;
    tokio::try_join!(daemon.kill9(), shift(&rig, 2))?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;

    let published = settled(&rig).await?;
    for events in [
        &published.booked,
        &published.cancelled,
        &published.refunded,
        &published.schedule,
    ] {
        no_duplicates(events, Reads::Once)?;
    }
    for reason in ["opening", "sale", "change", "reinstatement"] {
        assert!(published.booked_because(reason) > 0, "no {reason}");
    }
    println!(
        "{} booked, {} cancelled, {} refunded, {} quarantined",
        published.booked.len(),
        published.cancelled.len(),
        published.refunded.len(),
        published.quarantined.len()
    );
    assert!(
        published
            .quarantined
            .iter()
            .all(|event| event.field("error").contains("refund")),
        "something but refunds was quarantined"
    );
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}
