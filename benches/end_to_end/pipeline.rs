//! Rowbridge as a process of its own, on a copy of a pack whose topics are its own.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rowbridge_api::Position;
use rowbridge_testbed::http;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::Servers;

const DEADLINE: Duration = Duration::from_secs(600);

/// What a pipeline reads and makes of it.
pub(crate) struct Pack {
    /// Its topics are called `travel.*`.
    pub(crate) mapping: String,
    pub(crate) schema: String,
    /// The configuration's table.
    pub(crate) source: String,
}

/// One pipeline; its process comes and goes.
pub(crate) struct Pipeline {
    pub(crate) name: String,
    dir: TempDir,
}

impl Pipeline {
    pub(crate) fn new(servers: &Servers, name: &str) -> Result<Self> {
        Self::with_pack(servers, name, &servers.source.pack()?)
    }

    /// One with rules of its own.
    pub(crate) fn with_pack(servers: &Servers, name: &str, pack: &Pack) -> Result<Self> {
        let dir = TempDir::new()?;
        for (file, text) in [
            ("mapping.toml", &pack.mapping),
            ("schema.toml", &pack.schema),
        ] {
            let text = text.replace("\"travel.", &format!("\"{name}."));
            fs::write(dir.path().join(file), text)?;
        }
        let config = format!(
            "pipeline = \"{name}\"\nmapping = \".\"\n{}[sink.kafka]\nbrokers = \"{}\"\n[state]\ndirectory = \"state\"\n",
            pack.source,
            servers.kafka.brokers()
        );
        fs::write(dir.path().join("rowbridge.toml"), config)?;
        Ok(Self {
            name: name.to_owned(),
            dir,
        })
    }

    /// Where its working copy is.
    pub(crate) fn state_directory(&self) -> std::path::PathBuf {
        self.dir.path().join("state")
    }

    /// The topic that seat changes go to.
    pub(crate) fn topic(&self) -> String {
        self.topic_named("inventory")
    }

    /// A topic of the pack.
    pub(crate) fn topic_named(&self, topic: &str) -> String {
        format!("{}.{topic}", self.name)
    }

    pub(crate) fn start(&self) -> Result<Process> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let http = format!("127.0.0.1:{port}");
        let log = self.dir.path().join("rowbridge.log");
        let child = Command::new(std::env::current_exe()?)
            .args(["run", "-c"])
            .arg(self.dir.path().join("rowbridge.toml"))
            .env("ROWBRIDGE_HTTP__LISTEN", &http)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Process { child, http, log })
    }
}

/// A running `rowbridge run`.
pub(crate) struct Process {
    child: Child,
    http: String,
    log: std::path::PathBuf,
}

impl Process {
    pub(crate) fn pid(&self) -> Result<u32> {
        self.child
            .id()
            .with_context(|| format!("rowbridge ended:\n{}", self.log()))
    }

    pub(crate) async fn ready(&mut self) -> Result<()> {
        let started = Instant::now();
        while !http::is_ready(&self.http).await {
            if self.child.try_wait()?.is_some() || started.elapsed() > DEADLINE {
                bail!("rowbridge did not become ready:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Returns when it has found its committed position, before it reads anything.
    pub(crate) async fn goes_on(&self) -> Result<()> {
        let started = Instant::now();
        while !self.log().contains("going on from the committed position") {
            if started.elapsed() > DEADLINE {
                bail!("rowbridge did not go on:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// The committed position, once there is one.
    pub(crate) async fn position(&self) -> Option<Position> {
        let (_, metrics) = http::get(&self.http, "/metrics").await.ok()?;
        let (_, rest) = metrics.split_once("rowbridge_position_info{")?;
        let (_, rest) = rest.split_once("position=\"")?;
        rest.split('"').next()?.parse().ok()
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid()?)?), Signal::SIGTERM)?;
        tokio::time::timeout(DEADLINE, self.child.wait())
            .await
            .context("rowbridge did not stop")??;
        Ok(())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}
