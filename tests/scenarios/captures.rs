//! What the daemon published of a stretch, a capture of it gives again: the same records.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rowbridge_testbed::consumer::{Event, read_all};
use serde_json::Value;

use crate::rig::{LEDGER, Rig, SOON, eventually};
use crate::workload::{Workload, open_accounts};

/// The ledger with every column read, so that a record that is set aside holds the whole row.
pub(crate) fn whole_rows() -> String {
    LEDGER.replace(
        "balance = \"$.row.balance\"\n",
        "balance = \"$.row.balance\"\nnote    = \"$.row.note\"\n",
    )
}

/// Evaluates the capture twice; the events, in order, after finding both runs the same.
async fn replayed(rig: &Rig, capture: &Path) -> Result<Vec<Value>> {
    let capture = capture.to_str().context("a path")?;
    let arguments = ["dry-run", "--capture", capture, "--json"];
    let first = rig.command(&arguments).await?;
    let second = rig.command(&arguments).await?;
    let said = String::from_utf8_lossy(&first.stderr).into_owned();
    ensure!(!first.stdout.is_empty(), "{said}");
    ensure!(first.stdout == second.stdout, "the two runs differ: {said}");
    let text = String::from_utf8(first.stdout)?;
    text.lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}

/// A record as text: all of it but the one header that differs between two runs.
fn text(topic: &str, key: &Value, headers: &BTreeMap<String, String>, body: &Value) -> String {
    let headers = headers
        .iter()
        .filter(|(name, _)| *name != "ce_recordedtime");
    format!("{topic} {key} {:?} {body}", headers.collect::<Vec<_>>())
}

fn published(event: &Event) -> String {
    let body = event.value.clone().unwrap_or_default();
    text(
        &event.topic,
        &Value::from(event.key.as_str()),
        &event.headers,
        &body,
    )
}

fn shown(event: &Value) -> Result<String> {
    let headers = serde_json::from_value(event["headers"].clone())?;
    let topic = event["topic"].as_str().context("a topic")?;
    Ok(text(topic, &event["key"], &headers, &event["data"]))
}

/// Waits until the daemon has published the last of what the capture gives, and compares: every record of the capture
/// is one of the daemon's, and between its first and last event the daemon published no other.
pub(crate) async fn gives_what_was_published(rig: &Rig, capture: &Path) -> Result<usize> {
    let events = replayed(rig, capture).await?;
    let given: Vec<String> = events.iter().map(shown).collect::<Result<_>>()?;
    let sequences: Vec<&str> = events
        .iter()
        .filter_map(|event| event["headers"]["ce_sequence"].as_str())
        .collect();
    let (first, last) = (
        sequences.first().context("events")?,
        sequences.last().context("events")?,
    );
    let quarantine = format!("rowbridge.{}.quarantine", rig.pipeline);
    let daemons = || -> Result<Vec<Event>> {
        let events = read_all(&rig.brokers, &rig.topic)?;
        Ok([events, read_all(&rig.brokers, &quarantine)?].concat())
    };
    eventually("the daemon at the end of the capture", SOON, || async {
        let events = daemons()?;
        Ok(events
            .iter()
            .any(|event| event.header("ce_sequence") > *last))
    })
    .await?;
    let daemons = daemons()?;
    let all: Vec<String> = daemons.iter().map(published).collect();
    for record in &given {
        ensure!(all.contains(record), "the daemon published no\n{record}");
    }
    let within = daemons.iter().filter(|event| {
        let sequence = event.header("ce_sequence");
        (*first..=*last).contains(&sequence)
    });
    let within = within.count();
    ensure!(
        within == sequences.len(),
        "{within} events of the daemon, {} of the capture",
        sequences.len()
    );
    Ok(given.len())
}

#[tokio::test]
async fn a_capture_gives_the_records_that_the_daemon_published_of_that_stretch() -> Result<()> {
    let rig = Rig::shared("captured").await?;
    rig.write_pack(&whole_rows())?;
    open_accounts(&rig, 21).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let load = Workload::start(&rig, 2, 20, Duration::from_millis(5));
    let capture = rig.path("ledger.capture");
    let path = capture.to_str().context("a path")?.to_owned();
    let words = ["record", "--out", &path, "--limit", "300"];
    let recording = rig.command(&words);
    // Balances that no rule lets through, and texts that need every character.
    let spoiling = async {
        for number in 0.. {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let spoil = format!(
                "UPDATE account SET ver = ver + 1, balance = -2000000, note = E'{number}\\n\"\\\\ é' WHERE id = 21"
            );
            rig.sql(&spoil).await?;
            rig.sql("UPDATE account SET ver = ver + 1, balance = 1.10, note = NULL WHERE id = 21")
                .await?;
        }
        Ok(())
    };
    let recorded = tokio::select! {
        recorded = recording => recorded?,
        spoilt = spoiling => return spoilt,
    };
    let said = String::from_utf8_lossy(&recorded.stderr).into_owned();
    ensure!(recorded.status.success(), "{said}");
    ensure!(
        said.contains("recording from ") && said.contains("recorded 30"),
        "whole transactions of 300 changes: {said}"
    );
    let slots = "SELECT count(*)::text FROM pg_replication_slots WHERE slot_name LIKE 'rowbridge_preview_%'";
    assert_eq!(
        rig.query_text(slots).await?.as_deref(),
        Some("0"),
        "nothing stays behind"
    );
    let given = gives_what_was_published(&rig, &capture).await?;
    println!("{given} records, each as the daemon published it");
    ensure!(given >= 300, "{given} records");
    let again = rig.command(&words).await?;
    assert_eq!(again.status.code(), Some(2), "it is not overwritten");
    load.stop().await;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// What is recorded when somebody has had enough is a whole capture.
#[tokio::test]
async fn an_interrupted_recording_is_a_whole_capture() -> Result<()> {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let rig = Rig::shared("capture_interrupted").await?;
    open_accounts(&rig, 20).await?;
    let load = Workload::start(&rig, 1, 20, Duration::from_millis(5));
    let (capture, log) = (rig.path("ledger.capture"), rig.path("record.log"));
    let mut recording = tokio::process::Command::new(env!("CARGO_BIN_EXE_rowbridge"))
        .args(["record", "--create-publication", "--for", "60s", "--out"])
        .arg(&capture)
        .arg("-c")
        .arg(rig.config())
        .stdin(std::process::Stdio::null())
        .stderr(std::fs::File::create(&log)?)
        .kill_on_drop(true)
        .spawn()?;
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    eventually("the recording", SOON, || async {
        Ok(said().contains("recording from "))
    })
    .await?;
    load.more(20).await?;
    let pid = recording.id().context("it ended by itself")?;
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGINT)?;
    let ended = tokio::time::timeout(SOON, recording.wait()).await;
    let ended = ended.context("the recording did not end")??;
    ensure!(ended.success(), "{}", said());
    ensure!(said().contains("recorded "), "{}", said());
    load.stop().await;
    let events = replayed(&rig, &capture).await?;
    ensure!(!events.is_empty(), "{}", said());
    Ok(())
}
