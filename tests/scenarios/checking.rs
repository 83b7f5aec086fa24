//! `check` finds everything at once, and the statements it prints make the pipeline run.

use anyhow::{Context, Result};
use rowbridge_testbed::{Kafka, PgVersion, Postgres};
use serde_json::Value;

use crate::kills::settled;
use crate::oracle::Reads;
use crate::rig::Rig;
use crate::workload::open_accounts;

/// What `check --json` says, and its exit code.
struct Checked {
    findings: Vec<Value>,
    code: Option<i32>,
}

impl Checked {
    async fn of(rig: &Rig) -> Result<Self> {
        let output = rig.command(&["check", "--json"]).await?;
        let said = String::from_utf8(output.stdout)?;
        let findings = said
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<Vec<Value>, _>>()
            .with_context(|| format!("one JSON object per line, not:\n{said}"))?;
        Ok(Self {
            findings,
            code: output.status.code(),
        })
    }

    /// One text of every finding of an area.
    fn texts(&self, area: &str, field: &str) -> Vec<&str> {
        self.findings
            .iter()
            .filter(|finding| finding["area"] == area)
            .filter_map(|finding| finding[field].as_str())
            .collect()
    }

    fn names(&self, area: &str, part: &str) {
        let problems = self.texts(area, "problem");
        assert!(
            problems.iter().any(|problem| problem.contains(part)),
            "nothing about {part:?} in {problems:#?}"
        );
    }
}

/// The superuser's URL as another role's.
fn as_role(url: &str, role: &str) -> String {
    url.replace("postgres@", &format!("{role}@"))
}

#[tokio::test]
async fn everything_that_is_missing_is_found_at_once() -> Result<()> {
    let postgres = Postgres::builder(PgVersion::V15)
        .setting("wal_level", "replica")
        .start()
        .await?;
    let kafka = Kafka::shared().await?;
    let superuser = postgres.database("check_all").await?;
    let mut rig = Rig::on("check_all", &superuser, &kafka.brokers()).await?;
    rig.sql(
        "ALTER TABLE account REPLICA IDENTITY DEFAULT; ALTER TABLE account ALTER COLUMN owner TYPE int8 USING 0;
         CREATE ROLE bridge_all LOGIN",
    )
    .await?;
    rig.database_url = as_role(&superuser, "bridge_all");
    rig.write_config_sink("create_topics = false")?;
    let checked = Checked::of(&rig).await?;
    assert_eq!(checked.code, Some(2), "{:#?}", checked.findings);
    for part in [
        "wal_level",
        "may not replicate",
        "may not read table",
        "old values of",
        "public.account.owner is",
        "publication",
    ] {
        checked.names("source", part);
    }
    for topic in [
        "check_all.accounts",
        "rowbridge.check_all.position",
        "rowbridge.check_all.quarantine",
    ] {
        checked.names("sink", topic);
    }
    assert!(
        checked
            .findings
            .iter()
            .filter(|finding| finding["severity"] != "information")
            .all(|finding| finding["fix"].as_str().is_some_and(|fix| !fix.is_empty())),
        "a finding without a fix: {:#?}",
        checked.findings
    );
    Ok(())
}

#[tokio::test]
async fn the_printed_statements_let_a_least_privileged_role_run() -> Result<()> {
    let mut rig = Rig::shared("least_privilege").await?;
    open_accounts(&rig, 5).await?;
    rig.sql("ALTER TABLE account REPLICA IDENTITY DEFAULT; CREATE ROLE bridge_least LOGIN")
        .await?;
    let superuser = rig.database_url.clone();
    rig.database_url = as_role(&superuser, "bridge_least");
    rig.write_config("")?;
    let checked = Checked::of(&rig).await?;
    assert_eq!(checked.code, Some(2), "{:#?}", checked.findings);
    rig.database_url = superuser;
    for fix in checked.texts("source", "fix") {
        rig.sql(fix).await.with_context(|| fix.to_owned())?;
    }
    let mended = Checked::of(&rig).await?;
    assert_eq!(mended.code, Some(0), "{:#?}", mended.findings);

    // The configuration still names the role, which is neither owner nor superuser.
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    rig.sql("UPDATE public.account SET ver = ver + 1").await?;
    settled(&rig, Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

#[tokio::test]
async fn the_demo_database_of_every_pack_is_what_its_mapping_needs() -> Result<()> {
    for pack in ["airline", "bus"] {
        let rig = Rig::shipped(&format!("check_{pack}"), pack).await?;
        let checked = Checked::of(&rig).await?;
        assert_eq!(checked.code, Some(0), "{pack}: {:#?}", checked.findings);
        assert_eq!(checked.texts("source", "problem"), Vec::<&str>::new());
    }
    Ok(())
}

#[tokio::test]
async fn the_grants_of_the_compose_example_are_all_that_its_daemon_needs() -> Result<()> {
    let mut rig = Rig::shipped("tickets", "bus").await?;
    rig.sql(include_str!("../../examples/compose/bridge.sql"))
        .await?;
    rig.database_url = as_role(&rig.database_url, "rowbridge");
    rig.write_config_source("create_publication = false")?;
    let checked = Checked::of(&rig).await?;
    assert_eq!(checked.code, Some(0), "{:#?}", checked.findings);
    assert_eq!(checked.texts("source", "problem"), Vec::<&str>::new());
    Ok(())
}
