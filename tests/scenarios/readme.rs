//! README.md's six steps, done on somebody else's database as they are written there.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rowbridge_testbed::consumer::read_all;
use rowbridge_testbed::{Kafka, PgVersion, Postgres};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::rig::{SOON, eventually};

const README: &str = include_str!("../../README.md");
/// What the shop's application does all day.
const AT_WORK: &str = "\
    INSERT INTO orders (customer_id, total) VALUES (7, 19.90); \
    UPDATE orders SET state = 'shipped', total = total + 1 WHERE id = (SELECT max(id) FROM orders); \
    UPDATE customers SET is_active = NOT is_active WHERE id = 7; \
    DELETE FROM orders WHERE id = (SELECT max(id) FROM orders);";

/// The blocks of the six steps in order, with their languages.
fn steps() -> Vec<(&'static str, String)> {
    let section = README
        .split_once("## Your own database, in six steps\n")
        .and_then(|(_, rest)| rest.split("\n## ").next());
    let fenced = section.unwrap_or_default().split("```").skip(1).step_by(2);
    let blocks: Vec<_> = fenced
        .filter_map(|block| block.split_once('\n'))
        .map(|(language, text)| {
            let lines = text.lines().map(str::trim_start);
            (language, lines.collect::<Vec<_>>().join("\n"))
        })
        .collect();
    assert_eq!(
        blocks
            .iter()
            .map(|(language, _)| *language)
            .collect::<Vec<_>>(),
        ["sql", "toml", "sh", "sh", "sh", "sh", "sh"]
    );
    blocks
}

/// A stranger at a shell beside a database.
struct Stranger {
    dir: TempDir,
    database: String,
    environment: Vec<(String, String)>,
}

impl Stranger {
    fn command(&self, words: &[&str]) -> Result<Child> {
        let child = Command::new(env!("CARGO_BIN_EXE_rowbridge"))
            .args(words)
            .current_dir(self.dir.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        Ok(child)
    }

    /// Runs a command to its end: its exit code and everything it said.
    async fn ran(&self, words: &[&str]) -> Result<(Option<i32>, String)> {
        let output = self.command(words)?.wait_with_output();
        let output = tokio::time::timeout(SOON, output).await??;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8(said)?))
    }

    /// As the owner of the database.
    async fn sql(&self, statements: &str) -> Result<()> {
        Postgres::sql_at(&self.database, statements)
            .await
            .map(drop)
            .with_context(|| statements.to_owned())
    }

    /// Runs what `check` prints until it prints nothing; how many statements that took.
    async fn mend(&self) -> Result<usize> {
        let (_, said) = self.ran(&["check", "--json"]).await?;
        let mut count = 0;
        for finding in said.lines() {
            let finding: Value = serde_json::from_str(finding).with_context(|| said.clone())?;
            self.sql(finding["fix"].as_str().context("a fix")?).await?;
            count += 1;
        }
        let (code, said) = self.ran(&["check"]).await?;
        ensure!(code == Some(0), "{said}");
        Ok(count)
    }

    /// The commands of a block, without their comments.
    fn commands(&mut self, block: &str) -> Vec<Vec<String>> {
        let mut commands = Vec::new();
        for line in block.lines() {
            if let Some((name, value)) = line
                .strip_prefix("export ")
                .and_then(|line| line.split_once('='))
            {
                let value = value.trim_matches('\'').to_owned();
                self.environment.push((name.to_owned(), value));
            } else if let Some(words) = line.strip_prefix("rowbridge ") {
                commands.push(words.split_whitespace().map(str::to_owned).collect());
            }
        }
        commands
    }
}

#[tokio::test]
async fn a_stranger_follows_the_six_steps() -> Result<()> {
    let postgres = Postgres::start(PgVersion::V17).await?;
    let kafka = Kafka::shared().await?;
    let mut stranger = Stranger {
        dir: TempDir::new()?,
        database: postgres.database("shop").await?,
        environment: vec![(
            "ROWBRIDGE_HTTP__LISTEN".to_owned(),
            "127.0.0.1:0".to_owned(),
        )],
    };
    stranger.sql(include_str!("packs/shop.sql")).await?;
    let steps = steps();
    let [role, config, check, init, test, look, run] = &steps[..] else {
        bail!("seven blocks");
    };
    stranger.sql(&role.1).await?;
    let (_, database) = stranger.database.rsplit_once('/').context("a database")?;
    let here = config
        .1
        .replace(
            "localhost:5432/shop",
            &format!("{}/{database}", postgres.addr()),
        )
        .replace("localhost:9092", &kafka.brokers());
    std::fs::write(stranger.dir.path().join("rowbridge.toml"), here)?;
    stranger.checks_without_a_mapping(&check.1).await?;
    for block in [init, test] {
        for words in stranger.commands(&block.1) {
            let (code, said) = stranger.ran(&borrowed(&words)).await?;
            ensure!(code == Some(0), "{words:?}: {said}");
        }
    }
    stranger.looks(&look.1).await?;
    stranger.runs(&run.1, &kafka.brokers()).await
}

fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

impl Stranger {
    async fn checks_without_a_mapping(&mut self, block: &str) -> Result<()> {
        for words in self.commands(block) {
            let (code, said) = self.ran(&borrowed(&words)).await?;
            ensure!(
                code == Some(2) && said.contains("shop/mapping.toml"),
                "{said}"
            );
            ensure!(
                said.contains("rowbridge init --table TABLE --out shop"),
                "{said}"
            );
            ensure!(said.contains("1 error, 0 warnings"), "{said}");
        }
        Ok(())
    }

    async fn looks(&mut self, block: &str) -> Result<()> {
        let commands = self.commands(block);
        let [_, dry_run] = &commands[..] else {
            bail!("check, then dry-run");
        };
        ensure!(
            self.mend().await? > 0,
            "a role that owns nothing needs a publication"
        );
        let watching = self.command(&borrowed(dry_run))?.wait_with_output();
        let working = async {
            loop {
                self.sql(AT_WORK).await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let output = tokio::select! {
            output = tokio::time::timeout(SOON, watching) => output??,
            stopped = working => return stopped,
        };
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        ensure!(
            said.contains("shop.orders") && said.contains("10 events, 0 quarantined"),
            "{said}"
        );
        Ok(())
    }

    async fn runs(&mut self, block: &str, brokers: &str) -> Result<()> {
        let commands = self.commands(block);
        let daemon = self.command(&borrowed(&commands[0]))?;
        let published = self.publishes(brokers).await;
        let pid = daemon.id().context("it runs")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        let output = tokio::time::timeout(SOON, daemon.wait_with_output()).await??;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        published.with_context(|| said.clone())?;
        ensure!(output.status.success(), "{said}");
        Ok(())
    }

    async fn publishes(&self, brokers: &str) -> Result<()> {
        let of = |topic: &'static str| read_all(brokers, topic);
        eventually("the changes", SOON, || async {
            self.sql(AT_WORK).await?;
            // The topics come with the start.
            let orders = of("shop.orders").unwrap_or_default();
            Ok(orders.iter().any(|event| event.kind() == "OrderDeleted"))
        })
        .await
    }
}
