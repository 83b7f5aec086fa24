//! One scenario's stage: a database, a broker, a configuration, and daemons on it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rowbridge_testbed::{Kafka, Mongo, PgVersion, Postgres, http};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// A scenario's deadline for anything that should happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The mapping that most scenarios run.
pub(crate) const LEDGER: &str = include_str!("packs/ledger/mapping.toml");

/// A database, a broker, a configuration.
pub(crate) struct Rig {
    pub(crate) database_url: String,
    pub(crate) brokers: String,
    pub(crate) pipeline: String,
    /// The topic that the ledger's events go to.
    pub(crate) topic: String,
    /// The mapping pack, as the configuration names it.
    mapping: String,
    /// The source's table in the configuration, but for its url.
    source: &'static str,
    dir: TempDir,
    daemons_started: std::sync::atomic::AtomicU32,
}

impl Rig {
    /// A stage on the servers that all scenarios share: for faults of our own process.
    pub(crate) async fn shared(name: &str) -> Result<Self> {
        let postgres = Postgres::shared(PgVersion::V15).await?;
        let kafka = Kafka::shared().await?;
        Self::on(name, &postgres.database(name).await?, &kafka.brokers()).await
    }

    /// A stage on servers of its own: for faults of theirs.
    pub(crate) async fn on(name: &str, database_url: &str, brokers: &str) -> Result<Self> {
        let rig = Self::with_pack(name, database_url, brokers, "pack")?;
        rig.write_pack(LEDGER)?;
        rig.sql(include_str!("packs/ledger/schema.sql")).await?;
        Ok(rig)
    }

    /// A stage for a shipped pack, with its demo database.
    pub(crate) async fn shipped(name: &str, pack: &str) -> Result<Self> {
        let postgres = Postgres::shared(PgVersion::V15).await?;
        let kafka = Kafka::shared().await?;
        let pack = format!("{}/mappings/{pack}", env!("CARGO_MANIFEST_DIR"));
        let url = postgres.database(name).await?;
        let rig = Self::with_pack(name, &url, &kafka.brokers(), &pack)?;
        let schema = fs::read_to_string(format!("{pack}/schema.sql"))?;
        rig.sql(&schema).await?;
        Ok(rig)
    }

    /// A stage for the mapping at [`Rig::pack`], on a database of its own.
    pub(crate) fn of_tables(name: &str, database_url: &str, brokers: &str) -> Result<Self> {
        Self::with_pack(name, database_url, brokers, "pack")
    }

    /// The same mapping and source as another pipeline.
    pub(crate) fn again(&self, pipeline: &str) -> Result<Self> {
        let pack = self.pack().display().to_string();
        let mut again = Self::with_pack(pipeline, &self.database_url, &self.brokers, &pack)?;
        again.source = self.source;
        again.write_config("")?;
        Ok(again)
    }

    fn with_pack(name: &str, database_url: &str, brokers: &str, mapping: &str) -> Result<Self> {
        let rig = Self {
            database_url: database_url.to_owned(),
            brokers: brokers.to_owned(),
            pipeline: name.to_owned(),
            topic: format!("{name}.accounts"),
            mapping: mapping.to_owned(),
            source: "[source.postgres]\ntls = \"disable\"\n",
            dir: TempDir::new()?,
            daemons_started: std::sync::atomic::AtomicU32::new(0),
        };
        rig.write_config("")?;
        Ok(rig)
    }

    /// A stage on MongoDB, for the ledger as documents of a database of its own.
    pub(crate) fn on_documents(name: &str, mongo: &Mongo, brokers: &str) -> Result<Self> {
        let mut rig = Self::with_pack(name, &mongo.url(), brokers, "pack")?;
        rig.source = "[source.mongodb]\n";
        rig.write_config("")?;
        Ok(rig)
    }

    /// Another database under the same pipeline's name.
    pub(crate) async fn sibling(&self, database: &str) -> Result<Self> {
        let postgres = Postgres::shared(PgVersion::V15).await?;
        self.sibling_on(&postgres.database(database).await?).await
    }

    /// As [`Rig::sibling`], wherever that database is.
    pub(crate) async fn sibling_on(&self, database_url: &str) -> Result<Self> {
        let mut sibling = Self::on(&self.pipeline, database_url, &self.brokers).await?;
        sibling.topic = self.topic.clone();
        Ok(sibling)
    }

    /// The ledger's events from elsewhere, to elsewhere, or under another name; its tables are there already.
    pub(crate) fn moved(&self, pipeline: &str, database_url: &str, brokers: &str) -> Result<Self> {
        let mut moved = Self::with_pack(pipeline, database_url, brokers, "pack")?;
        moved.topic.clone_from(&self.topic);
        moved.write_pack(LEDGER)?;
        Ok(moved)
    }

    /// Replaces the mapping; `@TOPIC@` in it is this scenario's topic.
    pub(crate) fn write_pack(&self, mapping: &str) -> Result<()> {
        self.write_pack_with(mapping, "")
    }

    /// As [`Rig::write_pack`]; `more_schema` is appended to the ledger's schema.toml.
    pub(crate) fn write_pack_with(&self, mapping: &str, more_schema: &str) -> Result<()> {
        let pack = self.dir.path().join("pack");
        fs::create_dir_all(&pack)?;
        fs::write(
            pack.join("mapping.toml"),
            mapping.replace("@TOPIC@", &self.topic),
        )?;
        fs::write(
            pack.join("schema.toml"),
            format!(
                "{}\n{more_schema}",
                include_str!("packs/ledger/schema.toml")
            ),
        )?;
        Ok(())
    }

    /// Writes the configuration; `more` is appended to it.
    pub(crate) fn write_config(&self, more: &str) -> Result<()> {
        let Self {
            database_url,
            source,
            brokers,
            pipeline,
            mapping,
            ..
        } = self;
        let text = format!(
            "pipeline = \"{pipeline}\"\nmapping = \"{mapping}\"\n\
             [state]\ndirectory = \"state\"\n\
             {source}url = \"{database_url}\"\n\
             [sink.kafka]\nbrokers = \"{brokers}\"\n[log]\nlevel = \"debug\"\n{more}"
        );
        Ok(fs::write(self.config(), text)?)
    }

    /// Writes the configuration with one more key of the source.
    pub(crate) fn write_config_source(&self, key: &str) -> Result<()> {
        self.write_config("")?;
        let text = fs::read_to_string(self.config())?;
        Ok(fs::write(
            self.config(),
            text.replace("[sink.kafka]", &format!("{key}\n[sink.kafka]")),
        )?)
    }

    /// Writes the configuration with one more key of the sink.
    pub(crate) fn write_config_sink(&self, key: &str) -> Result<()> {
        self.write_config("")?;
        let text = fs::read_to_string(self.config())?;
        Ok(fs::write(
            self.config(),
            text.replace("[log]", &format!("{key}\n[log]")),
        )?)
    }

    /// Writes the configuration of a pipeline that prints its events.
    pub(crate) fn write_config_stdout(&self) -> Result<()> {
        self.write_config("")?;
        let text = fs::read_to_string(self.config())?;
        let (source, _) = text.split_once("[sink.kafka]").context("a sink")?;
        Ok(fs::write(
            self.config(),
            format!("{source}[sink.stdout]\n"),
        )?)
    }

    /// A new file's path in this scenario's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The folder of the mapping.
    pub(crate) fn pack(&self) -> PathBuf {
        self.dir.path().join(&self.mapping)
    }

    /// The working copy of what this pipeline's rules remember.
    pub(crate) fn state_folder(&self) -> PathBuf {
        self.path("state").join(&self.pipeline)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("rowbridge.toml")
    }

    /// Runs a batch of statements in this scenario's database.
    pub(crate) async fn sql(&self, batch: &str) -> Result<()> {
        self.client()
            .await?
            .batch_execute(batch)
            .await
            .context("the scenario's SQL")
    }

    pub(crate) async fn client(&self) -> Result<tokio_postgres::Client> {
        let (client, connection) =
            tokio_postgres::connect(&self.database_url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// One value of one row as text.
    pub(crate) async fn query_text(&self, query: &str) -> Result<Option<String>> {
        let rows = self.client().await?.simple_query(query).await?;
        Ok(rows
            .iter()
            .find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
                _ => None,
            })
            .flatten())
    }

    /// The first column of every row as text.
    pub(crate) async fn column(&self, query: &str) -> Result<Vec<String>> {
        let rows = self.client().await?.simple_query(query).await?;
        let rows = rows.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Starts a daemon.
    pub(crate) async fn daemon(&self) -> Result<Daemon> {
        self.daemon_with(&[]).await
    }

    /// Starts a daemon with more environment.
    pub(crate) async fn daemon_with(&self, environment: &[(&str, &str)]) -> Result<Daemon> {
        self.spawn(&["run"], environment, Stdio::null())
    }

    /// Starts a daemon by these arguments.
    pub(crate) fn daemon_by(&self, arguments: &[&str]) -> Result<Daemon> {
        self.spawn(arguments, &[], Stdio::null())
    }

    /// Starts a daemon; what it prints is appended to `lines`.
    pub(crate) async fn daemon_printing(&self, lines: &Path) -> Result<Daemon> {
        let lines = File::options().append(true).create(true).open(lines)?;
        self.spawn(&["run"], &[], lines.into())
    }

    fn spawn(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
        stdout: Stdio,
    ) -> Result<Daemon> {
        let number = self
            .daemons_started
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let log = self.dir.path().join(format!("daemon-{number}.log"));
        let stderr = File::create(&log)?.into();
        self.spawn_on(arguments, stdout, stderr, log, environment)
    }

    /// Starts a daemon, or another command, whose standard error is `stderr`; `log` is where somebody keeps what it
    /// says there.
    pub(crate) fn started_on(
        &self,
        arguments: &[&str],
        stderr: Stdio,
        log: PathBuf,
        environment: &[(&str, &str)],
    ) -> Result<Daemon> {
        self.spawn_on(arguments, Stdio::null(), stderr, log, environment)
    }

    fn spawn_on(
        &self,
        arguments: &[&str],
        stdout: Stdio,
        stderr: Stdio,
        log: PathBuf,
        environment: &[(&str, &str)],
    ) -> Result<Daemon> {
        let port = free_port()?;
        let child = Command::new(env!("CARGO_BIN_EXE_rowbridge"))
            .args(arguments)
            .arg("-c")
            .arg(self.config())
            .env("ROWBRIDGE_HTTP__LISTEN", format!("127.0.0.1:{port}"))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Daemon {
            child,
            log,
            http: format!("127.0.0.1:{port}"),
        })
    }

    /// Runs a command of the binary with this scenario's configuration to its end.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Result<std::process::Output> {
        self.command_with(arguments, &[]).await
    }

    /// As [`Rig::command`], with more environment.
    pub(crate) async fn command_with(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<std::process::Output> {
        let output = Command::new(env!("CARGO_BIN_EXE_rowbridge"))
            .args(arguments)
            .envs(environment.iter().copied())
            .arg("-c")
            .arg(self.config())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        tokio::time::timeout(SOON, output)
            .await
            .with_context(|| format!("rowbridge {arguments:?} did not end"))?
            .map_err(Into::into)
    }
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

/// A running `rowbridge run`.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    pub(crate) http: String,
}

impl Daemon {
    /// Waits until `/readyz` says ready.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "the daemon ended with {status} instead of becoming ready:\n{}",
                    self.log()
                );
            }
            if self.is_ready().await {
                return Ok(());
            }
            if started.elapsed() > SOON {
                bail!("the daemon was not ready within {SOON:?}:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until `/readyz` or the metrics say what `wanted` looks for.
    pub(crate) async fn says(&mut self, path: &str, wanted: &str) -> Result<String> {
        let started = Instant::now();
        loop {
            if let Ok((_, body)) = self.get(path).await
                && body.contains(wanted)
            {
                return Ok(body);
            }
            if started.elapsed() > SOON || self.child.try_wait()?.is_some() {
                bail!("{path} never said {wanted:?}:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    pub(crate) async fn is_ready(&self) -> bool {
        http::is_ready(&self.http).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<(u16, String)> {
        http::get(&self.http, path).await
    }

    /// A metric's value by its full name with labels.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let (_, body) = self.get("/metrics").await?;
        let line = body.lines().find(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(' '))
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .with_context(|| format!("no metric {name} in:\n{body}"))
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.child.id().context("the daemon already ended")?;
        Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
    }

    /// SIGKILL, and waits for the end.
    pub(crate) async fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait().await?;
        Ok(())
    }

    /// SIGTERM; the exit code.
    pub(crate) async fn terminate(&mut self) -> Result<i32> {
        self.signal(Signal::SIGTERM)?;
        self.exit_code().await
    }

    /// Waits for the end; the exit code.
    pub(crate) async fn exit_code(&mut self) -> Result<i32> {
        let status = tokio::time::timeout(SOON, self.child.wait())
            .await
            .with_context(|| {
                format!(
                    "the daemon did not end within {SOON:?}:\n{}",
                    fs::read_to_string(&self.log).unwrap_or_default()
                )
            })??;
        status.code().context("the daemon died of a signal")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Waits until `probe` says yes.
pub(crate) async fn eventually<F, R>(what: &str, within: Duration, mut probe: F) -> Result<()>
where
    F: FnMut() -> R,
    R: Future<Output = Result<bool>>,
{
    let started = Instant::now();
    while !probe().await? {
        if started.elapsed() > within {
            bail!("waited {within:?} for: {what}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
