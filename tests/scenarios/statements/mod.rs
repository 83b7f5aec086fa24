//! The cases of a pack as statements on a real server: what they give without one is what the daemon publishes.
//!
//! All cases of a pack run one after the other under one daemon. Before each, the tables are emptied and the rows are put
//! there that its changes find; what that gives is before the case's transactions in the source, and they are told apart by
//! their positions.
//!
//! - `case_file`: a case as what is to be done
//! - `tables`, `collections`: doing it
//! - `records`: what came of it
//! - `staged`: a pack with names that no other test has
//! - `shipped`: the packs below `mappings/`

mod case_file;
mod collections;
mod records;
mod shipped;
mod staged;
mod tables;

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rowbridge::mapping::cases::{Case, Published};
use rowbridge::mapping::change_json::Tables as DeclaredTables;
use rowbridge::mapping::{HashKey, Mapping, Pack, SourceFile};

use self::case_file::{CaseFile, ChangeOf, Declared, RowOf};
pub(crate) use self::collections::Collections;
use self::records::{Record, within};
pub(crate) use self::staged::staged;
pub(crate) use self::tables::Tables;
use crate::init::files_of;
use crate::rig::{Rig, SOON};

/// The brokers of tests are one; and hashes are those of cases.
const SETTINGS: [(&str, &str); 3] = [
    ("ROWBRIDGE_SINK__KAFKA__REPLICATION", "1"),
    ("ROWBRIDGE_PRIVACY__HASH_KEY_ID", "test"),
    (
        "ROWBRIDGE_PRIVACY__HASH_KEY",
        "rowbridge hashes its cases so 01",
    ),
];

/// The server that the legacy application writes to.
pub(crate) trait Legacy {
    /// Takes every row out of the pack's tables.
    async fn empty(&self, declared: &Declared) -> Result<()>;

    /// Has these rows there, instead of others with their keys.
    async fn put(&self, declared: &Declared, rows: &[RowOf]) -> Result<()>;

    /// Commits the changes of one transaction.
    async fn write(&self, declared: &Declared, transaction: &[ChangeOf]) -> Result<()>;

    /// A position that everything written is at or before, and everything still to come behind.
    async fn mark(&self) -> Result<u64>;
}

/// What was run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) cases: usize,
    pub(crate) left_out: usize,
    pub(crate) events: usize,
}

/// A case, and what it gives without a server.
struct Told {
    case: CaseFile,
    expected: Vec<Published>,
}

/// A pack, its pipeline and its server.
struct Run<'a, L> {
    rig: &'a Rig,
    legacy: &'a L,
    declared: Declared,
    topics: Vec<String>,
}

/// Runs every case of the pack that `rig` has, but for those that are named in `left_out` with the reason why no statement
/// gives their changes.
///
/// # Errors
/// What differs, case by case.
pub(crate) async fn publish_what_cases_say<L: Legacy>(
    rig: &Rig,
    legacy: &L,
    left_out: &[(&str, &str)],
) -> Result<Ran> {
    let mut all = told(&rig.pack())?;
    let declared = Declared::read(&rig.pack(), all.iter().map(|told| &told.case))?;
    for (name, _) in left_out {
        let known = all.iter().position(|told| told.case.name == *name);
        all.remove(known.with_context(|| format!("no case is called {name:?}"))?);
    }
    let ran = Ran {
        cases: all.len(),
        left_out: left_out.len(),
        events: all.iter().map(|told| told.expected.len()).sum(),
    };
    let run = Run {
        rig,
        legacy,
        declared,
        topics: topics(&rig.pack())?,
    };
    let (first, later): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|told| told.case.is_of_first_start());
    run.first_starts(first).await?;
    run.changes(&later).await?;
    Ok(ran)
}

/// The cases of a pack in the order of their files.
fn told(pack: &Path) -> Result<Vec<Told>> {
    let file = |path: &Path| {
        anyhow::Ok(SourceFile {
            name: path.display().to_string(),
            text: fs::read_to_string(path)?,
        })
    };
    let source = Pack {
        mapping: file(&pack.join("mapping.toml"))?,
        schema: file(&pack.join("schema.toml"))?,
        params: toml::Table::new(),
    };
    let keyed_by_transaction = records::keyed_by_transaction(&source.mapping.text)?;
    let compiled = Mapping::compile(&source);
    let (mapping, _) = compiled.map_err(|all| anyhow::anyhow!("{all:?}"))?;
    let mapping = Arc::new(mapping.with_hash_key(HashKey::published()));
    let tables = DeclaredTables::of(&mapping);
    let mut told = Vec::new();
    for path in files_of(&pack.join("cases"))? {
        let parsed = Case::parse(&file(&path)?, &tables);
        let case = parsed.map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        let published = case.published(&mapping, &tables);
        let mut expected = published.map_err(|stop| anyhow::anyhow!("{stop:?}"))?;
        let case = CaseFile::read(&path)?;
        for event in &mut expected {
            records::without_commit_time(event, |time| case.commits_at(time));
            records::without_transaction_key(event, &keyed_by_transaction);
        }
        told.push(Told { case, expected });
    }
    Ok(told)
}

fn topics(pack: &Path) -> Result<Vec<String>> {
    let mapping: toml::Table = fs::read_to_string(pack.join("mapping.toml"))?.parse()?;
    let topics = mapping["topics"].as_table().context("[topics]")?;
    let names = topics.values().map(|topic| topic["name"].as_str());
    let names = names.map(|name| name.map(str::to_owned).context("a topic's name"));
    names.collect()
}

impl<L: Legacy> Run<'_, L> {
    /// Rows that are there when a pipeline starts for the first time, in as many pipelines as it takes for no two of them to
    /// have the same key.
    async fn first_starts(&self, cases: Vec<Told>) -> Result<()> {
        let mut rounds: Vec<Vec<Told>> = Vec::new();
        for told in cases {
            let free = rounds
                .iter_mut()
                .find(|round| !round.iter().any(|other| self.collide(&told, other)));
            match free {
                Some(round) => round.push(told),
                None => rounds.push(vec![told]),
            }
        }
        for (number, round) in rounds.iter().enumerate() {
            let rig = self
                .rig
                .again(&format!("{}_first{number}", self.rig.pipeline))?;
            self.legacy.empty(&self.declared).await?;
            for told in round {
                let rows = self.rows_before(told);
                self.legacy.put(&self.declared, &rows).await?;
            }
            // What is read is as of the moment at which the pipeline begins.
            let since = self.legacy.mark().await? - 1;
            let mut daemon = rig.daemon_with(&SETTINGS).await?;
            daemon.ready().await?;
            let expected: Vec<Published> = round
                .iter()
                .flat_map(|told| told.expected.iter().cloned())
                .collect();
            let window = since..u64::MAX;
            let windows = std::slice::from_ref(&window);
            let records = self.arrived(&rig, windows, expected.len()).await?;
            records::same_in_any_order(&expected, &within(&records, windows))
                .with_context(|| format!("first start {number}"))?;
            ensure!(daemon.terminate().await? == 0, "{}", daemon.log());
        }
        Ok(())
    }

    fn rows_before(&self, told: &Told) -> Vec<RowOf> {
        let steps = told.case.steps(&self.declared).into_iter();
        steps.flat_map(|step| step.rows).collect()
    }

    fn collide(&self, one: &Told, other: &Told) -> bool {
        let ids = |told: &Told| -> Vec<String> {
            let rows = self.rows_before(told).into_iter();
            rows.map(|row| self.declared.id_of(&row.table, &row.row))
                .collect()
        };
        let others = ids(other);
        ids(one).iter().any(|id| others.contains(id))
    }

    /// Every other case.
    async fn changes(&self, cases: &[Told]) -> Result<()> {
        self.legacy.empty(&self.declared).await?;
        let mut daemon = self.rig.daemon_with(&SETTINGS).await?;
        daemon.ready().await?;
        let mut windows = Vec::new();
        for told in cases {
            windows.push(self.written(&told.case).await?);
        }
        // Once this has arrived again, so has everything before.
        let last = cases.iter().rfind(|told| !told.expected.is_empty());
        let last = last.context("a case that is not silent")?;
        let sentinel = self.written(&last.case).await?;
        self.legacy.empty(&self.declared).await?;
        let records = self.arrived(self.rig, &sentinel, last.expected.len());
        let records = records.await.with_context(|| daemon.log())?;
        let mut wrong = Vec::new();
        for (told, windows) in cases.iter().zip(&windows) {
            let published = within(&records, windows);
            if let Err(error) = records::same(&told.expected, &published) {
                wrong.push(format!("{}: {error:#}", told.case.file.display()));
            }
        }
        ensure!(
            wrong.is_empty(),
            "{} of {} cases give something else on a server:\n{}",
            wrong.len(),
            cases.len(),
            wrong.join("\n")
        );
        ensure!(daemon.terminate().await? == 0, "{}", daemon.log());
        Ok(())
    }

    /// Writes what a case says; where in the source its transactions are.
    async fn written(&self, case: &CaseFile) -> Result<Vec<Range<u64>>> {
        let of_case = || case.file.display().to_string();
        self.legacy.empty(&self.declared).await?;
        let mut windows = Vec::new();
        for step in case.steps(&self.declared) {
            let put = self.legacy.put(&self.declared, &step.rows).await;
            put.with_context(of_case)?;
            let start = self.legacy.mark().await?;
            let written = self.legacy.write(&self.declared, step.transaction).await;
            written.with_context(of_case)?;
            windows.push(start..self.legacy.mark().await?);
        }
        Ok(windows)
    }

    /// Waits for so many records of these windows; all there are.
    async fn arrived(
        &self,
        rig: &Rig,
        windows: &[Range<u64>],
        count: usize,
    ) -> Result<Vec<Record>> {
        let quarantine = format!("rowbridge.{}.quarantine", rig.pipeline);
        let started = Instant::now();
        loop {
            let records = records::read(&rig.brokers, &self.topics, &quarantine)?;
            let found = within(&records, windows).len();
            if found >= count {
                return Ok(records);
            }
            ensure!(
                started.elapsed() < SOON,
                "{found} of {count} records came within {SOON:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
