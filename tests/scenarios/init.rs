//! `init` on real tables: what it writes compiles and passes, and a pipeline of it publishes what its cases say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rowbridge_testbed::{Kafka, PgVersion, Postgres};
use tempfile::TempDir;
use tokio::process::Command;

use crate::rig::{Rig, SOON, eventually};
use crate::statements::{Tables, publish_what_cases_say, staged};

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

    /// Runs the cases, and then the changes of each as statements.
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

        let (_, database) = self.url.rsplit_once('/').context("a database")?;
        let brokers = Kafka::shared().await?.brokers();
        let rig = Rig::of_tables(database, &self.url, &brokers)?;
        staged(&self.pack(), database, None, &rig.pack())?;
        let ran = publish_what_cases_say(&rig, &Tables::at(&self.url).await?, &[]).await?;
        ensure!(ran.events > 0, "{ran:?}");
        Ok(())
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
