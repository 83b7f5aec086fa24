//! A pipeline that prints its events keeps no position of its own: the slot remembers for it.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::rig::{Rig, SOON};
use crate::workload::open_accounts;

/// Waits for so many lines, and says what they are.
async fn lines(path: &Path, wanted: usize) -> Result<Vec<String>> {
    let waited = tokio::time::Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= wanted {
            return Ok(text.lines().map(str::to_owned).collect());
        }
        if waited.elapsed() > SOON {
            bail!("{wanted} lines never came:\n{text}");
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_printing_pipeline_goes_on_where_its_slot_was_acknowledged() -> Result<()> {
    let rig = Rig::shared("printing").await?;
    let dir = TempDir::new()?;
    let printed = dir.path().join("events.jsonl");
    rig.write_config_stdout()?;
    open_accounts(&rig, 10).await?;
    let mut daemon = rig.daemon_printing(&printed).await?;
    daemon.ready().await?;
    let snapshot = lines(&printed, 10).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());

    rig.sql("UPDATE public.account SET ver = ver + 1 WHERE id = 3")
        .await?;
    let mut daemon = rig.daemon_printing(&printed).await?;
    daemon.ready().await?;
    rig.sql("UPDATE public.account SET ver = ver + 1 WHERE id = 4")
        .await?;
    let all = lines(&printed, snapshot.len() + 2).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    let after = &all[snapshot.len()..];
    assert_eq!(after.len(), 2, "nothing is printed again: {after:?}");
    assert!(
        after[0].contains("\"id\":3") && after[1].contains("\"id\":4"),
        "{after:?}"
    );
    Ok(())
}
