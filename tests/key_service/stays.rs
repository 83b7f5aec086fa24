//! Guests' stays as `mappings/hotel` publishes them: changes of documents in, the events that the binary makes of them out.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// What is written about a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    CheckIn,
    ChangeRoom(&'static str),
    /// To leave on another day.
    Extend(&'static str),
    CheckOut,
    TakeBack,
}

/// An event as it is published.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) data: String,
}

/// The id of a reservation by its number.
pub(crate) fn reservation(number: usize) -> String {
    format!("65f1a0c2e4b0a1b2{number:08x}")
}

/// The events of these steps, one transaction each, in their order.
pub(crate) fn events(steps: &[(usize, Step)]) -> Result<Vec<Published>> {
    let mut documents = BTreeMap::new();
    let mut lines = String::new();
    for (at, (number, step)) in steps.iter().enumerate() {
        let before = documents
            .entry(*number)
            .or_insert_with(|| arriving(*number));
        let mut after = before.clone();
        match step {
            Step::CheckIn | Step::TakeBack => after["bookingStatus"] = json!("Arrived"),
            Step::CheckOut => after["bookingStatus"] = json!("Departure"),
            Step::ChangeRoom(room) => after["roomNumber"] = json!(room),
            Step::Extend(day) => after["departureDate"] = json!(format!("{day}T00:00:00Z")),
        }
        let (id, time, position) = (
            at.to_string(),
            "2026-12-01T09:00:00Z",
            format!("0/{:X}", at + 1),
        );
        let change = json!({
            "op": "update", "table": "reservation", "key": { "_id": reservation(*number) },
            "before": before, "after": after, "tx": { "id": id, "time": time, "ordinal": 0 },
            "source": { "name": "hotel", "position": position },
        });
        let commit = json!({ "commit": { "id": id, "time": time, "position": position } });
        lines += &format!("{change}\n{commit}\n");
        *before = after;
    }
    let events = mapped(&lines)?;
    ensure!(
        events.len() == steps.len(),
        "{} events of {} steps",
        events.len(),
        steps.len()
    );
    Ok(events)
}

fn arriving(number: usize) -> Value {
    json!({
        "_id": reservation(number), "confirmationNo": format!("HB{number}"), "propertyId": "LON-KX",
        "bookingStatus": "Not Arrived", "roomNumber": "412", "roomType": "KING",
        "arrivalDate": "2026-12-01T00:00:00Z", "departureDate": "2026-12-04T00:00:00Z",
        "ratePerNight": "189.00", "currency": "GBP", "balance": "567.00", "party": { "adults": 2 },
        "guest": { "id": format!("G-{number}"), "name": { "given": "Ana", "family": "Reis" } },
        "updatedAt": "2026-12-01T09:00:00Z",
    })
}

/// What the shipped pack makes of changes, of the topic that consumers of stays read.
fn mapped(changes: &str) -> Result<Vec<Published>> {
    let mut binary = Command::new(env!("CARGO_BIN_EXE_rowbridge"))
        .args(["dry-run", "--json", "--mapping", "mappings/hotel"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = binary.stdin.take().context("a pipe")?;
    let changes = changes.to_owned();
    let writer = std::thread::spawn(move || input.write_all(changes.as_bytes()));
    let output = binary.wait_with_output()?;
    writer.join().expect("writing does not panic")?;
    ensure!(output.status.success(), "the dry-run failed");
    let events = output.stdout.split(|byte| *byte == b'\n');
    let events = events
        .filter(|line| !line.is_empty())
        .map(serde_json::from_slice::<Value>);
    let events: Vec<Value> = events.collect::<Result<_, _>>()?;
    let stays = events
        .iter()
        .filter(|event| event["topic"] == "hotel.stays");
    stays.map(published).collect()
}

fn published(event: &Value) -> Result<Published> {
    let headers = event["headers"].as_object().context("headers")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Published {
        key: text(&event["key"]),
        id: text(&headers["ce_id"]),
        headers: headers
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
        data: event["data"].to_string(),
    })
}
