//! `init` on real tables: what it writes compiles and passes, and a live dry-run of it publishes what its
//! cases say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rowbridge_testbed::{PgVersion, Postgres};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::rig::{SOON, eventually};

/// More segments than the demo has, so that statistics tell their states.
const MORE_SEGMENTS: &str = "\
    INSERT INTO segments (id, pnr, flight_no, departure_date, cabin, fare_class, seat_no, fare, status, sales_channel) \
    SELECT n, 'K7WMPD', 'BA117', date '2026-12-01' + n % 5, (ARRAY['Y', 'J', 'W'])[n % 3 + 1], 'M', n || 'A', 100 + n, \
        (ARRAY['OPEN', 'CHECKED_IN', 'BOARDED', 'FLOWN', 'CANCELLED'])[n % 5 + 1], 'web' FROM generate_series(1, 500) n; \
    ANALYZE segments;";

#[tokio::test]
async fn init_of_the_airline_publishes_what_its_cases_say() -> Result<()> {
    let stage = Stage::new("init_airline").await?;
    stage
        .sql(include_str!("../../mappings/airline/schema.sql"))
        .await?;
    stage.sql(MORE_SEGMENTS).await?;
    let said = stage.init(&["--all"]).await?;
    assert!(
        said.contains("rows of the database, and some values of others: check before committing"),
        "{said}"
    );

    let mapping = stage.read("mapping.toml")?;
    for event in [
        "SegmentCheckedIn",
        "SegmentFareChanged",
        "SegmentCreated",
        "SegmentDeleted",
    ] {
        assert!(
            mapping.contains(&format!("type  = \"{event}\""))
                || mapping.contains(&format!("\"{event}\"")),
            "{event} is missing:\n{mapping}"
        );
    }
    stage.publishes_what_cases_say().await?;
    // Who is in the demo data is in none of the files.
    stage.holds_none_of(&["jonas.lind", "Jonas", "Lind", "SE8841027", "1979-03-30"])
}

#[tokio::test]
async fn init_of_odd_tables_publishes_what_its_cases_say() -> Result<()> {
    let stage = Stage::new("init_odd").await?;
    stage.sql(include_str!("packs/nasty/schema.sql")).await?;
    // What publishing would break is only taken where it is named.
    let only = Stage {
        dir: TempDir::new()?,
        url: stage.url.clone(),
    };
    let said = only.init(&["--all"]).await?;
    assert!(said.contains("left out: public.keyless"), "{said}");
    assert!(!only.read("mapping.toml")?.contains("public.keyless\""));

    let said = stage.init(&["--all", "--table", "public.keyless"]).await?;
    assert!(
        said.contains("public.keyless has no replica identity"),
        "{said}"
    );
    // What it says to run first: nothing is published that would break the source.
    stage
        .sql("ALTER TABLE public.keyless REPLICA IDENTITY FULL")
        .await?;
    stage.publishes_what_cases_say().await?;
    stage.holds_none_of(&[
        "real.person",
        "Real Person",
        "555 0100",
        "1970-07-07",
        "4111",
        "likes tea",
    ])
}

/// A role that may read one table and not the other, with a password that nobody should see again.
const READER: &str = "\
    CREATE ROLE init_reader LOGIN PASSWORD 'canary-secret'; \
    CREATE TABLE big (id int8 PRIMARY KEY, status text, amount numeric(10,2)); \
    INSERT INTO big SELECT n, (ARRAY['NEW', 'DONE'])[n % 2 + 1], n FROM generate_series(1, 300000) n; \
    CREATE TABLE closed (id int8 PRIMARY KEY, status text); INSERT INTO closed VALUES (1, 'canary-row'); \
    GRANT SELECT ON big TO init_reader;";

#[tokio::test]
async fn init_reads_little_of_a_big_table_and_nothing_where_it_may_not() -> Result<()> {
    let stage = Stage::new("init_reader").await?;
    stage.sql(READER).await?;
    let (scheme, rest) = stage.url.split_once("://").context("a url")?;
    let (_, address) = rest.split_once('@').context("a user")?;
    let url = format!("{scheme}://init_reader:canary-secret@{address}");
    let pack = stage.pack().display().to_string();

    let listed = rowbridge(&["init", "--url", &url, "--tls", "disable"]).await?;
    let told = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(
        listed.status.success() && told.contains("public.big"),
        "{told}"
    );
    ensure!(
        told.contains("rowbridge init --url postgres://init_reader@"),
        "{told}"
    );

    let all = [
        "init", "--url", &url, "--tls", "disable", "--all", "--out", &pack,
    ];
    let written = rowbridge(&all).await?;
    let said = String::from_utf8_lossy(&written.stderr).into_owned();
    ensure!(written.status.success(), "{said}");
    ensure!(
        said.contains("public.closed: role \"init_reader\" may not read its rows"),
        "{said}"
    );
    let again = rowbridge(&all).await?;
    ensure!(
        again.status.code() == Some(2),
        "a second init did not refuse"
    );
    ensure!(String::from_utf8_lossy(&again.stderr).contains("nothing is overwritten"));

    let mut everything = told + &said + &String::from_utf8_lossy(&written.stdout);
    for file in stage.files()? {
        everything.push_str(&fs::read_to_string(file)?);
    }
    for secret in ["canary-secret", "canary-row"] {
        ensure!(!everything.contains(secret), "{secret} was written or said");
    }
    let big = "SELECT seq_tup_read, pg_relation_size(relid) / 8192 FROM pg_stat_user_tables WHERE relname = 'big'";
    let client = stage.client().await?;
    eventually(
        "the reads of both rounds to be counted",
        Duration::from_secs(20),
        || async { Ok(client.query_one(big, &[]).await?.get::<_, i64>(0) > 0) },
    )
    .await?;
    let row = client.query_one(big, &[]).await?;
    let (read, pages): (i64, i64) = (row.get(0), row.get(1));
    ensure!(pages > 1_000, "the big table is not big: {pages} pages");
    ensure!(read < 50_000, "{read} of 300,000 rows were read");
    Ok(())
}

#[tokio::test]
async fn init_takes_the_database_of_a_configuration_and_copies_no_secret() -> Result<()> {
    let stage = Stage::new("init_configured").await?;
    stage
        .sql("CREATE TABLE jobs (id int8 PRIMARY KEY, status text)")
        .await?;
    let folder = stage.dir.path().display().to_string();
    let config = format!("{folder}/given.toml");
    fs::write(
        &config,
        format!(
            "pipeline = \"given\"\nmapping = \"pack\"\n[source.postgres]\nurl = \"{}\"\npassword = \"canary-secret\"\n\
             tls = \"disable\"\n[sink.kafka]\nbrokers = \"kafka.example:9092\"\n\
             properties = {{ \"sasl.password\" = \"canary-sasl\" }}\n",
            stage.url
        ),
    )?;
    // The folder that the configuration names needs no other one.
    let pack = stage.pack().display().to_string();
    let init = ["init", "-c", &config, "--table", "jobs", "--out", &pack];
    let written = rowbridge(&init).await?;
    let told = String::from_utf8_lossy(&written.stdout).into_owned();
    ensure!(written.status.success(), "{written:?}");
    ensure!(
        told.contains(&format!("rowbridge check -c {config}")),
        "{told}"
    );
    ensure!(!stage.pack().join("rowbridge.toml").exists());
    ensure!(stage.read("mapping.toml")?.contains("\"given.jobs\""));

    // Any other folder is another pipeline.
    let other = format!("{folder}/other");
    let init = ["init", "-c", &config, "--table", "jobs", "--out", &other];
    let written = rowbridge(&init).await?;
    ensure!(written.status.success(), "{written:?}");
    let text = fs::read_to_string(format!("{other}/rowbridge.toml"))?;
    ensure!(text.contains("pipeline = \"other\""), "{text}");
    ensure!(
        text.contains("kafka.example:9092") && text.contains("sasl.password"),
        "{text}"
    );
    ensure!(!text.contains("canary"), "{text}");
    Ok(())
}

/// A database and a folder to write to.
struct Stage {
    url: String,
    dir: TempDir,
}

/// One case, as its file has it.
pub(crate) struct Case {
    pub(crate) file: String,
    pub(crate) table: String,
    pub(crate) op: String,
    pub(crate) before: Option<toml::Table>,
    pub(crate) after: Option<toml::Table>,
    pub(crate) expected: Vec<toml::Table>,
}

impl Stage {
    async fn new(name: &str) -> Result<Self> {
        let postgres = Postgres::shared(PgVersion::V15).await?;
        Ok(Self {
            url: postgres.database(name).await?,
            dir: TempDir::new()?,
        })
    }

    fn pack(&self) -> PathBuf {
        self.dir.path().join("pack")
    }

    fn read(&self, name: &str) -> Result<String> {
        Ok(fs::read_to_string(self.pack().join(name))?)
    }

    fn holds_none_of(&self, personal: &[&str]) -> Result<()> {
        for file in self.files()? {
            let text = fs::read_to_string(&file)?;
            for personal in personal {
                ensure!(
                    !text.contains(personal),
                    "{personal} is in {}",
                    file.display()
                );
            }
        }
        Ok(())
    }

    /// Every file of the pack.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = files_of(&self.pack())?;
        files.extend(files_of(&self.pack().join("cases"))?);
        Ok(files)
    }

    async fn sql(&self, batch: &str) -> Result<()> {
        let client = self.client().await?;
        client
            .batch_execute(batch)
            .await
            .with_context(|| batch.to_owned())
    }

    async fn client(&self) -> Result<tokio_postgres::Client> {
        let (client, connection) =
            tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Runs `init`; what it said on standard error.
    async fn init(&self, arguments: &[&str]) -> Result<String> {
        let out = self.pack();
        let mut all = vec!["init", "--url", &self.url, "--tls", "disable"];
        all.extend(arguments);
        let folder = out.display().to_string();
        all.extend(["--out", &folder]);
        let output = rowbridge(&all).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "init failed: {said}");
        ensure!(!said.contains("no case was found"), "{said}");
        Ok(said)
    }

    /// Runs the cases, and then the changes of each on the live tables under a dry-run.
    async fn publishes_what_cases_say(&self) -> Result<()> {
        let pack = self.pack().display().to_string();
        let tested = rowbridge(&["test", &pack, "--coverage", "--fail-under", "100"]).await?;
        let told = String::from_utf8_lossy(&tested.stdout).into_owned();
        let said = String::from_utf8_lossy(&tested.stderr).into_owned();
        ensure!(tested.status.success(), "{told}\n{said}");
        // What looks personal is left out but for the key, and there a human has to decide.
        let mut warnings = said
            .split("\n\n")
            .filter(|warning| !warning.trim().is_empty());
        ensure!(
            warnings.all(|warning| warning.contains("looks personal")),
            "the mapping has warnings: {said}"
        );

        let tables = source_tables(&self.read("mapping.toml")?)?;
        let mut cases: BTreeMap<String, Vec<Case>> = BTreeMap::new();
        for file in self
            .files()?
            .iter()
            .filter(|file| file.parent() != Some(&self.pack()))
        {
            let case = read_case(file)?;
            cases.entry(case.table.clone()).or_default().push(case);
        }
        ensure!(cases.len() == tables.len(), "a table has no case");
        let rounds = cases.values().map(Vec::len).max().unwrap_or_default();
        for round in 0..rounds {
            let of_round: Vec<(&Case, &toml::Table)> = cases
                .values()
                .filter_map(|of_table| {
                    let inserts = of_table.iter().find(|case| case.op == "insert")?;
                    Some((of_table.get(round)?, inserts.after.as_ref()?))
                })
                .collect();
            self.live(&tables, &of_round).await?;
        }
        Ok(())
    }

    /// Makes the rows that the cases start from, then their changes while a dry-run looks.
    async fn live(
        &self,
        tables: &BTreeMap<String, String>,
        cases: &[(&Case, &toml::Table)],
    ) -> Result<()> {
        let mut setup = String::new();
        let mut changes = Vec::new();
        for (case, row) in cases {
            let table = &tables[&case.table];
            setup.push_str(&format!("DELETE FROM {table};"));
            let mut old = (*row).clone();
            old.extend(case.after.clone().unwrap_or_default());
            old.extend(case.before.clone().unwrap_or_default());
            if case.op != "insert" {
                setup.push_str(&insert(table, &old));
            }
            let after = case.after.clone().unwrap_or_default();
            changes.push(match case.op.as_str() {
                "insert" => insert(table, &after),
                "update" => format!("UPDATE {table} SET {};", assignments(&after)),
                _ => format!("DELETE FROM {table};"),
            });
        }
        let unchecked = "SET session_replication_role = replica;";
        self.sql(&format!("{unchecked} {setup}")).await?;

        let expected: Vec<(&str, &toml::Table)> = cases
            .iter()
            .flat_map(|(case, _)| {
                case.expected
                    .iter()
                    .map(|event| (case.file.as_str(), event))
            })
            .collect();
        let dry_run = self.dry_run(expected.len()).await?;
        let client = self.client().await?;
        client.batch_execute(unchecked).await?;
        for change in changes {
            client
                .batch_execute(&change)
                .await
                .with_context(|| change.clone())?;
        }
        let output = tokio::time::timeout(SOON, dry_run.wait_with_output())
            .await
            .context("the dry-run did not end")??;
        let out = String::from_utf8(output.stdout)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{out}\n{said}");
        let published: Vec<Value> = out
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        ensure!(
            published.len() == expected.len(),
            "expected {} events, got:\n{out}",
            expected.len()
        );
        for ((file, expected), published) in expected.iter().zip(&published) {
            compare(expected, published).with_context(|| format!("{file}: {published}"))?;
        }
        Ok(())
    }

    /// A dry-run that is looking; one for no events ends by time.
    async fn dry_run(&self, events: usize) -> Result<Child> {
        let limit = events.to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rowbridge"));
        command
            .args(["dry-run", "--create-publication", "--json", "-c"])
            .arg(self.pack().join("rowbridge.toml"))
            .args(match events {
                0 => ["--for", "3s"],
                _ => ["--limit", &limit],
            });
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let client = self.client().await?;
        let looking = "SELECT count(*) FROM pg_replication_slots \
                       WHERE database = current_database() AND active AND confirmed_flush_lsn IS NOT NULL";
        eventually("the dry-run to look", Duration::from_secs(30), || async {
            Ok(client.query_one(looking, &[]).await?.get::<_, i64>(0) > 0)
        })
        .await?;
        Ok(child)
    }
}

/// The files that lie in a folder.
pub(crate) fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

pub(crate) async fn rowbridge(arguments: &[&str]) -> Result<Output> {
    let output = Command::new(env!("CARGO_BIN_EXE_rowbridge"))
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    Ok(tokio::time::timeout(SOON, output).await??)
}

/// Short name to the table as SQL names it.
fn source_tables(mapping: &str) -> Result<BTreeMap<String, String>> {
    let mapping: toml::Table = mapping.parse()?;
    let tables = mapping["tables"].as_table().context("[tables]")?;
    tables
        .iter()
        .map(|(short, declared)| {
            let name = declared.as_str().or_else(|| declared.get("name")?.as_str());
            let (schema, table) = name
                .and_then(|name| name.split_once('.'))
                .context("a name")?;
            Ok((short.clone(), format!("{}.{}", quote(schema), quote(table))))
        })
        .collect()
}

pub(crate) fn read_case(path: &Path) -> Result<Case> {
    let file: toml::Table = fs::read_to_string(path)?.parse()?;
    let given = file["given"].as_array().context("given")?;
    ensure!(given.len() == 1, "one change a case");
    let given = given[0].as_table().context("a change")?;
    let text = |key: &str| given[key].as_str().unwrap_or_default().to_owned();
    let image = |key: &str| given.get(key).and_then(toml::Value::as_table).cloned();
    let expected = file.get("expect").and_then(toml::Value::as_array);
    let expected = expected
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_table);
    Ok(Case {
        file: path.display().to_string(),
        table: text("table"),
        op: text("op"),
        before: image("before"),
        after: image("after"),
        expected: expected.cloned().collect(),
    })
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(cell: &toml::Value) -> String {
    match cell {
        toml::Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        toml::Value::Table(_) => "NULL".to_owned(),
        other => other.to_string(),
    }
}

fn insert(table: &str, row: &toml::Table) -> String {
    let names: Vec<String> = row.keys().map(|name| quote(name)).collect();
    let cells: Vec<String> = row.values().map(literal).collect();
    format!(
        "INSERT INTO {table} ({}) OVERRIDING SYSTEM VALUE VALUES ({});",
        names.join(", "),
        cells.join(", ")
    )
}

fn assignments(row: &toml::Table) -> String {
    let cells: Vec<String> = row
        .iter()
        .map(|(name, cell)| format!("{} = {}", quote(name), literal(cell)))
        .collect();
    cells.join(", ")
}

/// An event as a case expects it against one that a dry-run printed.
pub(crate) fn compare(expected: &toml::Table, published: &Value) -> Result<()> {
    for attribute in ["type", "topic", "key"] {
        if let Some(value) = expected.get(attribute) {
            ensure!(
                value.as_str() == published[attribute].as_str(),
                "{attribute}"
            );
        }
    }
    let data = expected["data"].as_table().context("data")?;
    let found = published["data"].as_object().context("published data")?;
    let contains = expected.get("match").is_some();
    ensure!(contains || found.len() == data.len(), "fields");
    for (name, value) in data {
        let Some(found) = found.get(name) else {
            bail!("no {name}");
        };
        ensure!(
            same(value, found),
            "{name}: expected {value}, found {found}"
        );
    }
    Ok(())
}

fn same(expected: &toml::Value, found: &Value) -> bool {
    match (expected, found) {
        (toml::Value::Table(table), Value::Null) => table.get("null").is_some(),
        (toml::Value::Table(table), Value::Object(members)) => {
            table.len() == members.len()
                && table
                    .iter()
                    .all(|(name, value)| members.get(name).is_some_and(|found| same(value, found)))
        }
        (toml::Value::Array(values), Value::Array(found)) => {
            values.len() == found.len()
                && values
                    .iter()
                    .zip(found)
                    .all(|(value, found)| same(value, found))
        }
        (toml::Value::Float(number), found) => found.as_f64() == Some(*number),
        (toml::Value::Integer(number), found) => found.as_i64() == Some(*number),
        (toml::Value::Boolean(flag), found) => found.as_bool() == Some(*flag),
        (toml::Value::String(text), found) => found.as_str() == Some(text),
        _ => false,
    }
}
