//! Secrets and rows carry a mark; everything runs as loudly as it can, and the mark is found in nothing it says.

use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rowbridge::config::Config;
use rowbridge_testbed::certificates::Authority;
use rowbridge_testbed::consumer::read_all;
use rowbridge_testbed::{Kafka, KafkaGuard, PgVersion, Postgres};

use crate::rig::{Daemon, Rig, SOON, eventually};

/// What must never be said, in any case: of secrets and of text; of numbers; and both as bytes in hexadecimal.
const MARKS: [&str; 4] = ["canary", "873133742421", "43414e415259", "383733313333"];

const POSTGRES_PASSWORD: &str = "CANARY-of-postgres";
const KAFKA_PASSWORD: &str = "CANARY-of-kafka";
const KEY_PASSWORD: &str = "CANARY-of-the-key";

const SCHEMA: &str = "\
    CREATE TABLE passenger (id text PRIMARY KEY, fare numeric(20,2) NOT NULL, level text, note text);
    ALTER TABLE passenger REPLICA IDENTITY FULL;
    INSERT INTO passenger VALUES ('CANARY-0', 873133742421.42, '5', 'CANARY, who is there already');
    CREATE ROLE app LOGIN SUPERUSER REPLICATION PASSWORD 'CANARY-of-postgres';";

const PACK_SCHEMA: &str = "\
    [passenger]\nkey = [\"id\"]\n[passenger.columns]\n\
    id = \"text\"\nfare = \"numeric(20,2)\"\nlevel = \"text\"\nnote = \"text\"\n";

const MAPPING: &str = r#"
[mapping]
name     = "discretion"
version  = 1
on_error = "@ON_ERROR@"
[tables]
passenger = "public.passenger"
[topics.passengers]
name       = "@TOPIC@"
partitions = 1
[defaults.passenger]
topic = "passengers"
key   = "{id}"
[defaults.passenger.data]
id   = "$.row.id"
fare = "$.row.fare"
note = "$.row.note"
[[event]]
type  = "PassengerRead"
table = "passenger"
on    = "read"
[[event]]
type  = "PassengerAdded"
table = "passenger"
on    = "insert"
[[event.check]]
assert  = "$.after.fare > 0"
message = "an impossible fare"
[[event]]
type    = "PassengerRated"
table   = "passenger"
on      = "update"
changed = ["level"]
[event.data]
level = { path = "$.after.level", as = "integer" }
[[event]]
type    = "PassengerNoted"
table   = "passenger"
on      = "update"
changed = ["note"]
"#;

/// A conversion that fails, and a record that is too long.
const UNREADABLE: &str =
    "UPDATE passenger SET level = 'CANARY-level-' || clock_timestamp() WHERE id = 'CANARY-0'";
const OVERSIZE: &str = "UPDATE passenger SET note = repeat('CANARY ', 200000) || clock_timestamp() WHERE id = 'CANARY-0'";

/// What becomes of a record that no event can be made of.
#[derive(Clone, Copy)]
enum OnError {
    Quarantine,
    Stop,
}

/// Where the secrets are.
#[derive(Clone, Copy)]
enum Secrets {
    InFiles,
    InTheConfiguration,
}

/// Servers that want to know who comes, and a pipeline between them whose secrets and rows are marked.
struct Stage {
    postgres: Postgres,
    kafka: Kafka,
    rig: Rig,
}

impl Stage {
    async fn set() -> Result<Self> {
        let authority = Authority::new("the authority of tests")?;
        let server = authority.server(&["localhost"])?;
        let postgres = Postgres::start(PgVersion::V15).await?;
        postgres.use_tls(&server, &authority).await?;
        postgres
            .let_in(&["hostssl all app all scram-sha-256"])
            .await?;
        let guard = KafkaGuard::new(server, &authority, &[("admin", KAFKA_PASSWORD)]);
        let kafka = Kafka::builder().guarded(guard).start().await?;
        let url = postgres.database("discretion").await?;
        let rig = Rig::on("discretion", &url, &kafka.brokers()).await?;
        let stage = Self {
            postgres,
            kafka,
            rig,
        };
        stage.rig.sql(SCHEMA).await?;
        let client = authority.client("app")?;
        let key = client.locked_key(&stage.folder(), KEY_PASSWORD).await?;
        for (name, text) in [
            ("ca.pem", authority.pem()),
            ("client.pem", &client.certificate),
            ("client.key", &key),
            ("pg.password", POSTGRES_PASSWORD),
            ("kafka.password", KAFKA_PASSWORD),
            ("key.password", KEY_PASSWORD),
        ] {
            fs::write(stage.folder().join(name), text)?;
        }
        Ok(stage)
    }

    fn folder(&self) -> PathBuf {
        let config = self.rig.config();
        config.parent().map(PathBuf::from).unwrap_or_default()
    }

    fn map(&self, on_error: OnError) -> Result<()> {
        let on_error = match on_error {
            OnError::Quarantine => "quarantine",
            OnError::Stop => "stop",
        };
        self.rig
            .write_pack(&MAPPING.replace("@ON_ERROR@", on_error))?;
        Ok(fs::write(
            self.folder().join("pack/schema.toml"),
            PACK_SCHEMA,
        )?)
    }

    /// Writes the configuration; `change` gets its text.
    fn configure(
        &self,
        secrets: Secrets,
        format: &str,
        change: impl FnOnce(String) -> String,
    ) -> Result<()> {
        let database = self.rig.database_url.rsplit('/').next().unwrap_or_default();
        let at = format!("localhost:{}/{database}", self.postgres.port());
        let (source, password, key_password) = match secrets {
            Secrets::InFiles => (
                format!("url = \"postgres://app@{at}\"\npassword_file = \"pg.password\""),
                "\"sasl.password_file\" = \"kafka.password\"".to_owned(),
                "\"ssl.key.password_file\" = \"key.password\"".to_owned(),
            ),
            Secrets::InTheConfiguration => (
                format!("url = \"postgres://app:{POSTGRES_PASSWORD}@{at}\""),
                format!("\"sasl.password\" = \"{KAFKA_PASSWORD}\""),
                format!("\"ssl.key.password\" = \"{KEY_PASSWORD}\""),
            ),
        };
        let brokers = self.kafka.sasl_ssl().context("a guarded broker")?;
        let text = format!(
            "pipeline = \"discretion\"\nmapping = \"pack\"\n\
             [source.postgres]\n{source}\nca_file = \"ca.pem\"\n\
             [sink.kafka]\nbrokers = \"{brokers}\"\n[sink.kafka.properties]\n\
             \"security.protocol\" = \"SASL_SSL\"\n\"sasl.mechanism\" = \"SCRAM-SHA-512\"\n\
             \"sasl.username\" = \"admin\"\n{password}\n\"ssl.ca.location\" = \"ca.pem\"\n\
             \"ssl.certificate.location\" = \"client.pem\"\n\"ssl.key.location\" = \"client.key\"\n\
             {key_password}\n\"debug\" = \"all\"\n[log]\nlevel = \"trace\"\nformat = \"{format}\"\n"
        );
        Ok(fs::write(self.rig.config(), change(text))?)
    }

    fn quarantined(&self) -> Result<usize> {
        let topic = "rowbridge.discretion.quarantine";
        Ok(read_all(&self.rig.brokers, topic)?.len())
    }

    async fn until_quarantined(&self, count: usize) -> Result<()> {
        let what = format!("{count} records in quarantine");
        eventually(&what, SOON, || async { Ok(self.quarantined()? >= count) }).await
    }

    /// What a daemon says on HTTP.
    async fn asked(&self, daemon: &Daemon) -> Result<()> {
        for path in ["/livez", "/readyz", "/metrics", "/nothing"] {
            let (_, body) = daemon.get(path).await?;
            discreet(path, &body)?;
        }
        Ok(())
    }

    /// A daemon that is to refuse, with this in its log.
    async fn refuses(&self, wanted: &str) -> Result<()> {
        let mut daemon = self.rig.daemon().await?;
        let code = daemon.exit_code().await?;
        let log = daemon.log();
        ensure!(
            code == 2 && log.contains(wanted),
            "{wanted} expected, {code}: {log}"
        );
        discreet(wanted, &log)
    }

    /// A command, of which nothing but what it is asked for may hold a row.
    async fn command(&self, arguments: &[&str], shows: Shows) -> Result<Output> {
        let output = self.rig.command(arguments).await?;
        let what = arguments.join(" ");
        discreet(&what, &String::from_utf8_lossy(&output.stderr))?;
        if matches!(shows, Shows::NoRows) {
            discreet(&what, &String::from_utf8_lossy(&output.stdout))?;
        }
        Ok(output)
    }
}

/// Whether a command prints rows because it is asked to.
#[derive(Clone, Copy)]
enum Shows {
    Rows,
    NoRows,
}

/// Holds `text` to have no mark in it; an error quotes where.
fn discreet(what: &str, text: &str) -> Result<()> {
    let lower = text.to_lowercase();
    for mark in MARKS {
        if let Some(line) = lower.lines().find(|line| line.contains(mark)) {
            let end = line
                .char_indices()
                .nth(600)
                .map_or(line.len(), |(end, _)| end);
            anyhow::bail!("{what} says `{mark}`: {}", &line[..end]);
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_secret_and_no_row_is_said_whatever_happens() -> Result<()> {
    assert!(discreet("a leak", "user=app password=Canary").is_err());
    let mut stage = Stage::set().await?;
    everything_is_published_or_set_aside(&mut stage).await?;
    what_stops_the_pipeline_says_no_row(&stage).await?;
    what_bars_it_says_no_secret(&stage).await?;
    commands_say_nothing_aside(&stage).await?;
    mistakes_in_the_configuration_show_no_value(&stage).await?;
    Ok(())
}

/// A daemon at trace level, over good and bad records and a restart of the brokers.
async fn everything_is_published_or_set_aside(stage: &mut Stage) -> Result<()> {
    stage.map(OnError::Quarantine)?;
    stage.configure(Secrets::InFiles, "text", |text| text)?;
    let mut daemon = stage.rig.daemon().await?;
    daemon.ready().await?;
    stage
        .rig
        .sql(
            "INSERT INTO passenger VALUES ('CANARY-1', 873133742421.42, '5', 'CANARY');
             INSERT INTO passenger VALUES ('CANARY-2', -873133742421.42, '5', 'CANARY, a failed check')",
        )
        .await?;
    stage.rig.sql(UNREADABLE).await?;
    stage.rig.sql(OVERSIZE).await?;
    stage.until_quarantined(3).await?;
    stage.asked(&daemon).await?;

    stage.kafka.kill9().await?;
    stage
        .rig
        .sql("UPDATE passenger SET note = 'CANARY, unsent' WHERE id = 'CANARY-1'")
        .await?;
    daemon.says("/readyz", "retrying").await?;
    stage.asked(&daemon).await?;
    stage.kafka.start_again().await?;
    daemon.ready().await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());

    // It had every occasion: the rows went through, and it was as loud as it can be.
    let published = read_all(&stage.rig.brokers, &stage.rig.topic)?;
    let keys: Vec<_> = published.iter().map(|event| event.key.as_str()).collect();
    assert_eq!(keys, ["CANARY-0", "CANARY-1", "CANARY-1"]);
    let log = daemon.log();
    ensure!(log.contains("TRACE"), "not at trace level:\n{log}");
    discreet("run", &log)
}

/// As JSON, with the secrets in the configuration.
async fn what_stops_the_pipeline_says_no_row(stage: &Stage) -> Result<()> {
    stage.configure(Secrets::InTheConfiguration, "json", |text| text)?;
    for (bad, count) in [(UNREADABLE, 4), (OVERSIZE, 5)] {
        stage.rig.sql(bad).await?;
        stage.map(OnError::Stop)?;
        stage.refuses("BAD_RECORD").await?;
        stage.map(OnError::Quarantine)?;
        let mut daemon = stage.rig.daemon().await?;
        daemon.ready().await?;
        stage.until_quarantined(count).await?;
        stage.asked(&daemon).await?;
        assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
        discreet("run as JSON", &daemon.log())?;
    }
    Ok(())
}

/// Wrong passwords of both sides and of the key, in files and in place.
async fn what_bars_it_says_no_secret(stage: &Stage) -> Result<()> {
    let right = [POSTGRES_PASSWORD, KAFKA_PASSWORD, KEY_PASSWORD];
    let files = ["pg.password", "kafka.password", "key.password"];
    for (file, right) in files.into_iter().zip(right) {
        stage.configure(Secrets::InFiles, "text", |text| text)?;
        fs::write(stage.folder().join(file), "CANARY-but-wrong")?;
        stage.refuses("INVALID").await?;
        stage.command(&["check"], Shows::NoRows).await?;
        fs::write(stage.folder().join(file), right)?;
        let wrong = |text: String| text.replace(right, "CANARY-but-wrong");
        stage.configure(Secrets::InTheConfiguration, "json", wrong)?;
        stage.refuses("INVALID").await?;
        stage.command(&["check", "--json"], Shows::NoRows).await?;
    }
    Ok(())
}

async fn commands_say_nothing_aside(stage: &Stage) -> Result<()> {
    for (secrets, format) in [
        (Secrets::InFiles, "text"),
        (Secrets::InTheConfiguration, "json"),
    ] {
        stage.configure(secrets, format, |text| text)?;
        let checked = stage.command(&["check"], Shows::NoRows).await?;
        ensure!(checked.status.success(), "{checked:?}");
        stage.command(&["check", "--json"], Shows::NoRows).await?;
        for arguments in [&["position", "show"][..], &["position", "show", "--json"]] {
            let shown = stage.command(arguments, Shows::NoRows).await?;
            ensure!(shown.status.success(), "{shown:?}");
        }
        let out = format!("init-{format}");
        let out = stage.folder().join(out).display().to_string();
        let init = ["init", "--table", "public.passenger", "--out", &out];
        let made = stage.command(&init, Shows::Rows).await?;
        ensure!(made.status.success(), "{made:?}");
        dry_run(stage).await?;
        let capture = stage.folder().join(format!("{format}.capture"));
        let capture = capture.display().to_string();
        let record = ["record", "--limit", "1", "--out", &capture];
        let recorded = while_changing(stage, &record, Shows::NoRows).await?;
        ensure!(recorded.status.success(), "{recorded:?}");
        let config = Config::load(Some(&stage.rig.config()))?;
        discreet("Debug of the configuration", &format!("{config:?}"))?;
    }
    Ok(())
}

async fn dry_run(stage: &Stage) -> Result<()> {
    let arguments = ["dry-run", "--explain", "--limit", "1"];
    let ran = while_changing(stage, &arguments, Shows::Rows).await?;
    ensure!(ran.status.success(), "{ran:?}");
    let shown = String::from_utf8_lossy(&ran.stdout).to_lowercase();
    ensure!(
        shown.contains("canary"),
        "the row is what it is asked for: {shown}"
    );
    Ok(())
}

/// Changes a row until the command, which waits for changes, has ended.
async fn while_changing(stage: &Stage, arguments: &[&str], shows: Shows) -> Result<Output> {
    let run = stage.command(arguments, shows);
    let change = async {
        loop {
            stage
                .rig
                .sql("UPDATE passenger SET note = 'CANARY ' || clock_timestamp() WHERE id = 'CANARY-1'")
                .await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        ran = run => ran,
        failed = change => failed,
    }
}

/// Each mistake is shown with its line, and the line has a secret in it.
async fn mistakes_in_the_configuration_show_no_value(stage: &Stage) -> Result<()> {
    for (right, wrong) in [
        ("\"sasl.password\"", "\"sasl.passwort\""),
        ("\"ssl.key.password\"", "\"acks\""),
        ("url = \"postgres://", "url = \"postgre://"),
        ("url = \"postgres://", "ulr = \"postgres://"),
        ("url = \"postgres://", "url = postgres://"),
        ("\"sasl.password\" = \"", "\"sasl.password\" = \"\\q"),
    ] {
        stage.configure(Secrets::InTheConfiguration, "text", |text| {
            text.replace(right, wrong)
        })?;
        for arguments in [
            &["check"][..],
            &["run"],
            &["health"],
            &["check", "--offline"],
        ] {
            let refused = stage.command(arguments, Shows::NoRows).await?;
            ensure!(!refused.status.success(), "{wrong}: {refused:?}");
        }
    }
    Ok(())
}
