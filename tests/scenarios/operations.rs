//! The blocks of docs/operations.md that change something, run as they stand there.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rowbridge_testbed::{CopyBegins, Kafka, PgVersion, Postgres, StopMode};
use serde_json::Value;
use tokio_postgres::SimpleQueryMessage;

use crate::kills::{settled, settled_across};
use crate::oracle::Reads;
use crate::rig::{Daemon, Rig, SOON, eventually};
use crate::workload::{Workload, open_accounts};

const DOCUMENT: &str = include_str!("../../docs/operations.md");

/// The blocks of `language` in the section with this heading and those below it.
fn blocks(heading: &str, language: &str) -> Vec<&'static str> {
    let level = heading.split(' ').next().unwrap_or_default();
    let (_, section) = DOCUMENT
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("docs/operations.md has no {heading}"));
    let section = section
        .split(&format!("\n{level} "))
        .next()
        .unwrap_or_default();
    let fence = format!("```{language}\n");
    let fenced = section.split(&fence).skip(1);
    fenced.filter_map(|rest| rest.split("```").next()).collect()
}

/// One of the two ends of a move: a configuration, and the daemon on it.
struct Place {
    rig: Rig,
    daemon: Option<Daemon>,
}

impl Place {
    fn new(rig: Rig) -> Self {
        Self { rig, daemon: None }
    }

    async fn running(rig: Rig) -> Result<Self> {
        let mut place = Self::new(rig);
        place.systemctl("start").await?;
        place.daemon.as_mut().context("started")?.ready().await?;
        Ok(place)
    }

    async fn systemctl(&mut self, verb: &str) -> Result<()> {
        if matches!(verb, "stop" | "restart")
            && let Some(mut daemon) = self.daemon.take()
        {
            let code = daemon.terminate().await?;
            ensure!(code == 0, "exit code {code}:\n{}", daemon.log());
        }
        if matches!(verb, "start" | "restart") {
            self.daemon = Some(self.rig.daemon().await?);
        }
        Ok(())
    }

    /// What a command says, if it ends well.
    async fn rowbridge(&self, arguments: &str) -> Result<String> {
        let listen = self.daemon.as_ref().map(|daemon| daemon.http.as_str());
        let environment: Vec<_> = listen
            .map(|at| ("ROWBRIDGE_HTTP__LISTEN", at))
            .into_iter()
            .collect();
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let output = self.rig.command_with(&words, &environment).await?;
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        ensure!(output.status.success(), "rowbridge {arguments}: {said}");
        Ok(said)
    }

    /// Runs the statements that `check` prints, until it has none.
    async fn as_check_says(&self) -> Result<()> {
        let output = self.rig.command(&["check", "--json"]).await?;
        for finding in String::from_utf8(output.stdout)?.lines() {
            let finding: Value = serde_json::from_str(finding)?;
            // What is only good to know has none.
            let Some(fix) = finding["fix"].as_str() else {
                continue;
            };
            self.rig.sql(fix).await.with_context(|| fix.to_owned())?;
        }
        self.rowbridge("check").await.map(drop)
    }
}

/// Who runs a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Old,
    New,
}

impl End {
    /// As the comment above the line says.
    fn of(comment: &str) -> Option<Self> {
        match (comment.contains("new "), comment.contains("old ")) {
            (true, _) => Some(Self::New),
            (false, true) => Some(Self::Old),
            (false, false) => None,
        }
    }
}

/// A move in progress: who runs a line is said by the comment above it.
struct Move {
    old: Place,
    new: Place,
    /// As `position show` printed it last.
    shown: Option<String>,
}

impl Move {
    fn new(old: Place, new: Place) -> Self {
        Self {
            old,
            new,
            shown: None,
        }
    }

    async fn run(&mut self, block: &str) -> Result<()> {
        let mut end = None;
        for line in block.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                end = End::of(comment);
                continue;
            }
            let end = end.with_context(|| format!("who runs {line:?}?"))?;
            let done = self.line(end, line).await;
            done.with_context(|| line.to_owned())?;
        }
        Ok(())
    }

    async fn line(&mut self, end: End, line: &str) -> Result<()> {
        let (command, comment) = line.split_once("  #").unwrap_or((line, ""));
        let shown = self.shown.as_deref();
        let lsn = shown.unwrap_or("0/0");
        let command = command
            .replace(
                "rowbridge_airline",
                &format!("rowbridge_{}", self.old.rig.pipeline),
            )
            .replace(
                "rowbridge_airways",
                &format!("rowbridge_{}", self.new.rig.pipeline),
            )
            .replace("LSN", lsn);
        let place = match end {
            End::Old => &mut self.old,
            End::New => &mut self.new,
        };
        let (program, rest) = command.trim().split_once(' ').context("a command")?;
        match program {
            "systemctl" => {
                let verb = rest.strip_suffix(" rowbridge").context("our unit")?;
                place.systemctl(verb).await
            }
            "psql" => {
                let quoted = rest
                    .strip_prefix("-c \"")
                    .and_then(|rest| rest.strip_suffix('"'));
                let sql = quoted.context("psql -c \"…\"")?;
                if comment.contains("until it is true") {
                    let is_true =
                        || async { Ok(place.rig.query_text(sql).await?.as_deref() == Some("t")) };
                    eventually(sql, SOON, is_true).await
                } else {
                    place.rig.sql(sql).await
                }
            }
            "rowbridge" if comment.contains("run it") => place.as_check_says().await,
            "rowbridge" if comment.contains("until") => {
                eventually(rest, SOON, || async {
                    Ok(place.rowbridge(rest).await.is_ok())
                })
                .await
            }
            "rowbridge" => {
                let said = place.rowbridge(rest).await?;
                if let Some(position) = said.strip_prefix("position:  ") {
                    self.shown = position.lines().next().map(str::to_owned);
                }
                Ok(())
            }
            other => bail!("nobody runs {other:?} here"),
        }
    }
}

#[tokio::test]
async fn upgrading_in_place_and_by_take_over_under_load() -> Result<()> {
    let rig = Rig::shared("upgrading").await?;
    open_accounts(&rig, 50).await?;
    let load = Workload::start(&rig, 2, 50, Duration::from_millis(2));
    let [in_place, take_over] = blocks("## Upgrading", "sh")[..] else {
        bail!("two ways to upgrade");
    };
    let same = rig.moved("upgrading", &rig.database_url, &rig.brokers)?;
    let mut upgrade = Move::new(Place::new(same), Place::running(rig).await?);
    upgrade.run(in_place).await?;
    std::mem::swap(&mut upgrade.old, &mut upgrade.new);
    upgrade.run(take_over).await?;
    load.stop().await;
    settled(&upgrade.new.rig, Reads::Once).await?;
    upgrade.new.systemctl("stop").await
}

#[tokio::test]
async fn moving_to_another_kafka_cluster_goes_on_where_the_old_one_ended() -> Result<()> {
    let rig = Rig::shared("other_kafka").await?;
    open_accounts(&rig, 50).await?;
    let kafka = Kafka::start().await?;
    let there = rig.moved("other_kafka", &rig.database_url, &kafka.brokers())?;
    let old = Place::running(rig).await?;
    let load = Workload::start(&old.rig, 2, 50, Duration::from_millis(2));
    load.more(100).await?;
    let mut moved = Move::new(old, Place::new(there));
    for block in blocks("### To another Kafka cluster", "sh") {
        moved.run(block).await?;
    }
    load.more(100).await?;
    load.stop().await;
    let clusters = [&*moved.old.rig.brokers, &*moved.new.rig.brokers];
    settled_across(&moved.new.rig, &clusters, Reads::Once).await?;
    moved.new.systemctl("stop").await?;
    // By mistake.
    let mut old = moved.old.rig.daemon().await?;
    assert_eq!(old.exit_code().await?, 2, "{}", old.log());
    assert!(old.log().contains("error: GAP"), "{}", old.log());
    Ok(())
}

#[tokio::test]
async fn moving_to_a_promoted_server_that_has_the_slot() -> Result<()> {
    let mut postgres = Postgres::start(PgVersion::V15).await?;
    let kafka = Kafka::shared().await?;
    let url = postgres.database("promoted").await?;
    let rig = Rig::on("promoted", &url, &kafka.brokers()).await?;
    open_accounts(&rig, 10).await?;
    let old = Place::running(rig).await?;
    old.rig
        .sql("UPDATE public.account SET ver = ver + 1")
        .await?;
    settled(&old.rig, Reads::Once).await?;
    postgres.stop(StopMode::Fast).await?;
    let promoted = postgres.start_copy(CopyBegins::Promoted).await?;
    let (_, database) = url.rsplit_once('/').context("a database")?;
    let there = old
        .rig
        .moved("promoted", &promoted.url_of(database), &kafka.brokers())?;
    let mut moved = Move::new(old, Place::new(there));
    let [same_data, _] = blocks("### To another database server", "sh")[..] else {
        bail!("two ways to another server");
    };
    moved.run(same_data).await?;
    moved
        .new
        .rig
        .sql("UPDATE public.account SET ver = ver + 1")
        .await?;
    settled(&moved.new.rig, Reads::Once).await?;
    moved.new.systemctl("stop").await
}

#[tokio::test]
async fn moving_to_a_new_database_reads_no_row_again() -> Result<()> {
    let postgres = Postgres::start(PgVersion::V15).await?;
    let kafka = Kafka::shared().await?;
    let url = postgres.database("new_database").await?;
    let rig = Rig::on("new_database", &url, &kafka.brokers()).await?;
    open_accounts(&rig, 10).await?;
    let old = Place::running(rig).await?;
    old.rig
        .sql("UPDATE public.account SET ver = ver + 1")
        .await?;
    // What an upgrade or a restore would bring.
    let newer = Postgres::shared(PgVersion::V17).await?;
    let there = old
        .rig
        .sibling_on(&newer.database("new_database").await?)
        .await?;
    open_accounts(&there, 10).await?;
    there.sql("UPDATE public.account SET ver = ver + 1").await?;
    let mut moved = Move::new(old, Place::new(there));
    let [_, new_data] = blocks("### To another database server", "sh")[..] else {
        bail!("two ways to another server");
    };
    moved.run(new_data).await?;
    moved
        .new
        .rig
        .sql("UPDATE public.account SET ver = ver + 1")
        .await?;
    settled(&moved.new.rig, Reads::Once).await?;
    moved.new.systemctl("stop").await
}

#[tokio::test]
async fn another_name_takes_over_under_load() -> Result<()> {
    let rig = Rig::shared("old_name").await?;
    open_accounts(&rig, 50).await?;
    let there = rig.moved("new_name", &rig.database_url, &rig.brokers)?;
    there.write_config_source("create_publication = false")?;
    let old = Place::running(rig).await?;
    let load = Workload::start(&old.rig, 2, 50, Duration::from_millis(2));
    let mut renamed = Move::new(old, Place::new(there));
    for block in blocks("### To another name", "sh") {
        renamed.run(block).await?;
    }
    load.more(100).await?;
    load.stop().await;
    settled(&renamed.new.rig, Reads::Once).await?;
    renamed.new.systemctl("stop").await?;
    let slots =
        "SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = 'rowbridge_old_name'";
    assert_eq!(
        renamed.new.rig.query_text(slots).await?.as_deref(),
        Some("0")
    );
    Ok(())
}

#[tokio::test]
async fn the_queries_that_size_the_wal_answer() -> Result<()> {
    let postgres = Postgres::start(PgVersion::V15).await?;
    let kafka = Kafka::shared().await?;
    let url = postgres.database("sizing").await?;
    let rig = Rig::on("sizing", &url, &kafka.brokers()).await?;
    let mut daemon = rig.daemon().await?;
    daemon.ready().await?;
    let client = rig.client().await?;
    let open = rig.client().await?;
    open.batch_execute("BEGIN; INSERT INTO public.account VALUES (1, 1, 'open', 0, NULL)")
        .await?;
    let statements = blocks("## Sizing the WAL", "sql").concat();
    let statements: Vec<_> = statements
        .split(";\n")
        .filter(|sql| !sql.trim().is_empty())
        .collect();
    assert_eq!(statements.len(), 5, "{statements:#?}");
    for sql in statements {
        let sql = sql.replace("pg_sleep(60)", "pg_sleep(0.1)");
        let answer = client
            .simple_query(&sql)
            .await
            .with_context(|| sql.clone())?;
        let rows = answer
            .iter()
            .filter(|message| matches!(message, SimpleQueryMessage::Row(_)));
        ensure!(
            rows.count() == usize::from(!sql.starts_with("ALTER")),
            "{sql}: {answer:?}"
        );
    }
    drop(open);
    // The limit reaches the metric that the alerts watch, at the next look at the slot.
    assert_eq!(
        rig.query_text("SHOW max_slot_wal_keep_size")
            .await?
            .as_deref(),
        Some("86GB")
    );
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    let mut again = rig.daemon().await?;
    again.ready().await?;
    let left = || async { Ok(again.metric("rowbridge_slot_safe_wal_bytes").await? > 80e9) };
    eventually("the limit in the metric", SOON, left).await?;
    assert_eq!(again.terminate().await?, 0, "{}", again.log());
    Ok(())
}
