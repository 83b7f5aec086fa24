//! A dry run on the live source shows the events and leaves the source as it was.

use anyhow::Result;
use rowbridge_testbed::consumer::read_all;

use crate::rig::Rig;
use crate::workload::{Workload, open_accounts};

const SLOTS: &str = "SELECT count(*)::text || coalesce(string_agg(slot_name, ','), '') FROM pg_replication_slots \
                     WHERE database = current_database()";
const PUBLICATIONS: &str =
    "SELECT count(*)::text || coalesce(string_agg(pubname, ','), '') FROM pg_publication";

#[tokio::test]
async fn a_live_dry_run_leaves_slots_and_publications_as_they_were() -> Result<()> {
    let rig = Rig::shared("live_dry_run").await?;
    open_accounts(&rig, 10).await?;
    rig.sql("CREATE PUBLICATION somebody_elses FOR TABLE public.account")
        .await?;
    let before = (
        rig.query_text(SLOTS).await?,
        rig.query_text(PUBLICATIONS).await?,
    );

    // Without the pipeline's publication it refuses, and says what would make it.
    let refused = rig.command(&["dry-run", "--limit", "1"]).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("CREATE PUBLICATION"), "{said}");

    let load = Workload::start(&rig, 1, 10, std::time::Duration::from_millis(10));
    let shown = rig
        .command(&["dry-run", "--create-publication", "--limit", "5", "--json"])
        .await?;
    load.stop().await;
    let out = String::from_utf8_lossy(&shown.stdout).into_owned();
    let said = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert_eq!(shown.status.code(), Some(0), "{out}\n{said}");
    assert_eq!(out.lines().count(), 5, "{out}");
    assert!(
        out.lines().all(|line| line.contains("AccountChanged")),
        "{out}"
    );

    let after = (
        rig.query_text(SLOTS).await?,
        rig.query_text(PUBLICATIONS).await?,
    );
    assert_eq!(after, before, "slots and publications");
    assert!(
        read_all(&rig.brokers, &rig.topic)?.is_empty(),
        "a dry run published"
    );
    Ok(())
}
