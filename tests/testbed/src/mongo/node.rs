//! One mongod: its port, its folder, its process or container.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tokio::net::TcpStream;

use super::builder::MongoBuilder;
use crate::docker::{self, Container};
use crate::process::{LastSignal, POLL, Server, log_tail};
use crate::{ledger, packages};

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// Attempts to start when somebody else takes the port between choosing and using it.
const PORT_ATTEMPTS: u32 = 5;
/// mongod logs this (id 23016) once it listens.
const STARTED: &str = "Waiting for connections";
const NOT_RUNNING: &str = "this MongoDB node is not running";

enum Host {
    Local {
        mongod: PathBuf,
        server: Option<Server>,
    },
    Docker(Box<Container>),
}

/// Dropping it ends the node and removes its data.
pub(super) struct Node {
    port: u16,
    dir: PathBuf,
    arguments: Vec<String>,
    host: Host,
}

impl Node {
    /// Starts a node with no data and waits until it listens.
    pub(super) async fn start(builder: &MongoBuilder) -> Result<Self> {
        for attempt in 1.. {
            match Self::start_once(builder).await {
                Err(error)
                    if attempt < PORT_ATTEMPTS
                        && format!("{error:#}").contains("Address already in use") => {}
                outcome => return outcome.context("starting MongoDB"),
            }
        }
        bail!("no port")
    }

    async fn start_once(builder: &MongoBuilder) -> Result<Self> {
        let port = ledger::free_port()?;
        let dir = ledger::folder("mongo")?;
        let (arguments, host) = if docker::wanted().await? {
            let arguments = builder.arguments(port, Path::new(docker::STORES));
            let container = docker::mongo(&arguments, builder.guard().files()).await?;
            (arguments, Host::Docker(Box::new(container)))
        } else {
            let mongod = packages::mongod().await?;
            fs::create_dir(dir.join("data"))?;
            builder.guard().write_files(&dir)?;
            let server = None;
            (
                builder.arguments(port, &dir),
                Host::Local { mongod, server },
            )
        };
        let mut node = Self {
            port,
            dir,
            arguments,
            host,
        };
        node.start_again().await?;
        Ok(node)
    }

    pub(super) fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match &self.host {
            Host::Local { server, .. } => server.as_ref().map(Server::pid),
            Host::Docker(_) => None,
        }
    }

    pub(super) async fn stop(&mut self) -> Result<()> {
        match &mut self.host {
            Host::Docker(container) => container.signal("TERM").await,
            Host::Local { server, .. } => {
                let running = server.as_mut().context(NOT_RUNNING)?;
                running.signal(Signal::SIGTERM)?;
                running.wait(STOP_DEADLINE).await?;
                *server = None;
                Ok(())
            }
        }
    }

    pub(super) async fn kill9(&mut self) -> Result<()> {
        match &mut self.host {
            Host::Docker(container) => container.signal("KILL").await,
            Host::Local { server, .. } => {
                let running = server.as_mut().context(NOT_RUNNING)?;
                running.kill9(STOP_DEADLINE).await?;
                *server = None;
                Ok(())
            }
        }
    }

    pub(super) async fn freeze(&self) -> Result<()> {
        match &self.host {
            Host::Docker(container) => container.freeze().await,
            Host::Local { server, .. } => server.as_ref().context(NOT_RUNNING)?.freeze(),
        }
    }

    pub(super) async fn thaw(&self) -> Result<()> {
        match &self.host {
            Host::Docker(container) => container.thaw().await,
            Host::Local { server, .. } => server.as_ref().context(NOT_RUNNING)?.thaw(),
        }
    }

    /// Starts it on its port and data, and waits until it listens.
    pub(super) async fn start_again(&mut self) -> Result<()> {
        let from = fs::metadata(self.log()).map_or(0, |meta| meta.len());
        if let Host::Docker(container) = &mut self.host {
            container.start().await?;
        } else {
            self.spawn()?;
        }
        self.wait_until_it_listens(from).await
    }

    fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    /// The last lines of its log, for an error message.
    pub(super) fn log_tail(&self) -> String {
        log_tail(&self.log())
    }

    fn spawn(&mut self) -> Result<()> {
        let (log, data) = (self.log(), self.dir.join("data"));
        let Host::Local { mongod, server } = &mut self.host else {
            return Ok(());
        };
        if server.is_some() {
            bail!("this MongoDB node is running already");
        }
        let begin = [mongod.as_os_str(), OsStr::new("--dbpath"), data.as_os_str()];
        let mut argv: Vec<String> = begin.map(|arg| arg.to_string_lossy().into_owned()).into();
        argv.extend(self.arguments.iter().cloned());
        *server = Some(Server::spawn(
            "MongoDB",
            &argv,
            &self.dir,
            &log,
            LastSignal::Kill,
        )?);
        Ok(())
    }

    async fn wait_until_it_listens(&mut self, log_from: u64) -> Result<()> {
        let until = Instant::now() + START_DEADLINE;
        let log = self.log();
        loop {
            let ready = match &mut self.host {
                Host::Local {
                    server: Some(server),
                    ..
                } => {
                    server.check_running()?;
                    let bytes = fs::read(&log).unwrap_or_default();
                    let new = usize::try_from(log_from)
                        .ok()
                        .and_then(|from| bytes.get(from..))
                        .unwrap_or_default();
                    String::from_utf8_lossy(new).contains(STARTED)
                }
                _ => true,
            };
            if ready && TcpStream::connect(self.addr()).await.is_ok() {
                return Ok(());
            }
            if Instant::now() >= until {
                bail!(
                    "MongoDB did not listen within {START_DEADLINE:?}; the end of its log:\n{}",
                    log_tail(&log)
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Host::Local { server, .. } = &mut self.host {
            *server = None;
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, "a MongoDB data folder stays until the process ends");
        }
    }
}
