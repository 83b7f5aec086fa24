//! `rowbridge run` as a process of its own: this executable again, with the stage's configuration.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rowbridge_testbed::http;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::stage::Stage;

const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Daemon {
    child: Child,
    dir: TempDir,
    http: String,
    environment: Vec<(String, String)>,
}

impl Daemon {
    pub(crate) fn start<S: Stage>(stage: &S, brokers: &str) -> Result<Self> {
        let dir = TempDir::new()?;
        std::fs::write(dir.path().join("rowbridge.toml"), S::config()?)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let http = format!("127.0.0.1:{port}");
        let pack = format!("{}/mappings/{}", env!("CARGO_MANIFEST_DIR"), S::NAME);
        let url = format!("ROWBRIDGE_SOURCE__{}__URL", S::SERVER.to_uppercase());
        let environment = [
            ("ROWBRIDGE__PIPELINE", S::NAME.to_owned()),
            ("ROWBRIDGE__MAPPING", pack),
            (&url, stage.url().to_owned()),
            ("ROWBRIDGE_SINK__KAFKA__BROKERS", brokers.to_owned()),
            ("ROWBRIDGE_HTTP__LISTEN", http.clone()),
        ];
        let environment = environment
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec();
        let child = spawn(&dir, &environment)?;
        Ok(Self {
            child,
            dir,
            http,
            environment,
        })
    }

    pub(crate) fn http(&self) -> &str {
        &self.http
    }

    /// Waits until `/readyz` answers 200.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let started = Instant::now();
        while !http::is_ready(&self.http).await {
            if let Some(status) = self.child.try_wait()? {
                bail!("the daemon ended with {status}:\n{}", self.log());
            }
            if started.elapsed() > DEADLINE {
                bail!(
                    "the daemon was not ready within {DEADLINE:?}:\n{}",
                    self.log()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self
            .child
            .id()
            .with_context(|| format!("the daemon already ended:\n{}", self.log()))?;
        Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
    }

    /// SIGKILL, then a new process; the time from its start until it streams.
    pub(crate) async fn kill_and_start_again(&mut self) -> Result<Duration> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait().await?;
        let started = Instant::now();
        self.child = spawn(&self.dir, &self.environment)?;
        self.ready().await?;
        Ok(started.elapsed())
    }

    /// SIGTERM; it drains and exits 0.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = tokio::time::timeout(DEADLINE, self.child.wait())
            .await
            .context("the daemon did not stop")??;
        if !status.success() {
            bail!("the daemon ended with {status}:\n{}", self.log());
        }
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(log_path(&self.dir)).unwrap_or_default()
    }
}

fn spawn(dir: &TempDir, environment: &[(String, String)]) -> Result<Child> {
    let log = File::options()
        .append(true)
        .create(true)
        .open(log_path(dir))?;
    Command::new(std::env::current_exe()?)
        .args(["run", "-c"])
        .arg(dir.path().join("rowbridge.toml"))
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("starting the daemon")
}

fn log_path(dir: &TempDir) -> PathBuf {
    dir.path().join("rowbridge.log")
}
