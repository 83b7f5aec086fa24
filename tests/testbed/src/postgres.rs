//! A real PostgreSQL, private or shared by the tests of one process, and the faults it can be given.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tokio::sync::{Mutex, OnceCell};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::docker::{self, Container};
use crate::ledger;
use crate::packages::{self, unprivileged};
use crate::pg_version::PgVersion;
use crate::process::{LastSignal, POLL, Server, log_tail};

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const SQL_DEADLINE: Duration = Duration::from_secs(120);
/// Attempts to start when somebody else takes the port between choosing and using it.
const PORT_ATTEMPTS: u32 = 5;

/// How a server is asked to stop (`pg_ctl stop -m`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Disconnects clients, writes a shutdown checkpoint (SIGINT).
    Fast,
    /// Aborts; the next start recovers from WAL (SIGQUIT).
    Immediate,
}

/// How a copy of a server's files begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyBegins {
    /// As if the machine had been cloned: the same system, the same timeline.
    AsItWas,
    /// As a standby that is then promoted: the same system, a new timeline from where the files end.
    Promoted,
}

/// Settings of a server before its first start.
#[derive(Clone, Debug)]
pub struct PostgresBuilder {
    version: PgVersion,
    settings: Vec<(String, String)>,
}

impl PostgresBuilder {
    /// Adds or overrides one line of `postgresql.conf`; the value is quoted for you.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// When no server can be had (the message says what to install), or with the end of the server's log.
    pub async fn start(self) -> Result<Postgres> {
        for attempt in 1.. {
            let port = ledger::free_port()?;
            match self.start_on(port).await {
                Err(error)
                    if attempt < PORT_ATTEMPTS
                        && format!("{error:#}").contains("Address already in use") => {}
                outcome => {
                    return outcome
                        .with_context(|| format!("starting PostgreSQL {}", self.version.major()));
                }
            }
        }
        bail!("no port")
    }

    async fn start_on(&self, port: u16) -> Result<Postgres> {
        let dir = ledger::folder(&format!("pg{}", self.version.major()))?;
        packages::hand_over(&dir)?;
        let settings = self.all_settings();
        let host = if docker::wanted().await? {
            Host::Docker(Box::new(
                docker::postgres(self.version, port, &settings).await?,
            ))
        } else {
            let bin = packages::postgres_bin(self.version).await?;
            let template = packages::postgres_template(self.version, &bin).await?;
            packages::copy(&template, &dir.join("data")).await?;
            Host::Local { bin, server: None }
        };
        let mut postgres = Postgres {
            version: self.version,
            port,
            dir,
            settings,
            host,
            serial: Mutex::new(0),
        };
        postgres.start_again().await?;
        Ok(postgres)
    }

    fn all_settings(&self) -> Vec<(String, String)> {
        let defaults = [
            ("wal_level", "logical"),
            ("max_wal_senders", "40"),
            ("max_replication_slots", "200"),
            ("max_connections", "200"),
            ("shared_buffers", "64MB"),
            ("fsync", "off"),
            // Files in the data folder: they vanish with it, also after SIGKILL.
            ("dynamic_shared_memory_type", "mmap"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
        ];
        let mut all: Vec<(String, String)> = defaults
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        all.extend(self.settings.iter().cloned());
        all
    }
}

enum Host {
    Local {
        bin: PathBuf,
        server: Option<Server>,
    },
    Docker(Box<Container>),
}

/// A running PostgreSQL. Dropping it ends the server and removes its data.
pub struct Postgres {
    version: PgVersion,
    port: u16,
    dir: PathBuf,
    settings: Vec<(String, String)>,
    host: Host,
    serial: Mutex<u32>,
}

impl Postgres {
    /// A server of a version with the usual settings.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub async fn start(version: PgVersion) -> Result<Self> {
        Self::builder(version).start().await
    }

    /// Settings first, then [`PostgresBuilder::start`].
    #[must_use]
    pub fn builder(version: PgVersion) -> PostgresBuilder {
        PostgresBuilder {
            version,
            settings: Vec::new(),
        }
    }

    /// One server for all tests of this process; use [`Postgres::database`] for a database of your own, and
    /// give it no faults.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub async fn shared(version: PgVersion) -> Result<&'static Self> {
        static SERVERS: [OnceCell<Postgres>; PgVersion::ALL.len()] =
            [const { OnceCell::const_new() }; PgVersion::ALL.len()];
        SERVERS[version as usize]
            .get_or_try_init(|| Self::start(version))
            .await
    }

    /// The superuser's URL of database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The superuser's URL of a database.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The TCP port on 127.0.0.1; it stays the same over restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`, as a proxy wants it.
    #[must_use]
    pub fn addr(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The version it was started with.
    #[must_use]
    pub fn version(&self) -> PgVersion {
        self.version
    }

    /// The folder of the Unix socket `.s.PGSQL.PORT`. A server in a container has none that we reach.
    #[must_use]
    pub fn socket_dir(&self) -> Option<&Path> {
        matches!(self.host, Host::Local { .. }).then_some(&*self.dir)
    }

    /// The data folder, where it is on this machine.
    #[must_use]
    pub fn data_dir(&self) -> Option<PathBuf> {
        matches!(self.host, Host::Local { .. }).then(|| self.dir.join("data"))
    }

    /// The process id of the postmaster, `None` while stopped or in a container.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.host {
            Host::Local { server, .. } => server.as_ref().map(Server::pid),
            Host::Docker(_) => None,
        }
    }

    /// A program of PostgreSQL: the server's own where it has it, else the one of Debian's packages or of `PATH`.
    ///
    /// # Errors
    /// When it is nowhere.
    pub fn bin(&self, program: &str) -> Result<PathBuf> {
        let own = match &self.host {
            Host::Local { bin, .. } => Some(bin.clone()),
            Host::Docker(_) => None,
        };
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let debian = (13..=18)
            .rev()
            .map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
        own.into_iter().chain(debian).chain(std::env::split_paths(&paths)).map(|dir| dir.join(program)).find(|path| path.is_file()).with_context(|| {
            format!("`{program}` was not found: install the Debian package postgresql-15 (contrib programs: postgresql-contrib)")
        })
    }

    /// Makes a new database whose name begins with `name`, and returns its URL.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn database(&self, name: &str) -> Result<String> {
        let serial = {
            let mut serial = self.serial.lock().await;
            *serial += 1;
            *serial
        };
        let name = format!("{name}_{serial}");
        // template0 is never connected to, so that databases can be made side by side.
        self.sql(&format!("CREATE DATABASE \"{name}\" TEMPLATE template0"))
            .await?;
        Ok(self.url_of(&name))
    }

    /// Runs a batch as superuser in database `postgres`; see [`Postgres::sql_at`].
    ///
    /// # Errors
    /// Those of the server.
    pub async fn sql(&self, batch: &str) -> Result<Vec<Vec<Option<String>>>> {
        Self::sql_at(&self.url(), batch).await
    }

    /// Runs a batch of statements at a URL on a connection of its own; returns all rows as text.
    ///
    /// # Errors
    /// Those of the server, and a batch that takes longer than two minutes.
    pub async fn sql_at(url: &str, batch: &str) -> Result<Vec<Vec<Option<String>>>> {
        let work = async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
            let query = async move {
                let answer = client.simple_query(batch).await;
                drop(client);
                answer
            };
            let (answer, ended) = tokio::join!(query, connection);
            let answer = answer?;
            ended?;
            Ok::<_, tokio_postgres::Error>(answer)
        };
        let answer = tokio::time::timeout(SQL_DEADLINE, work)
            .await
            .with_context(|| format!("a batch took longer than {SQL_DEADLINE:?}: {batch}"))?;
        let answer = answer.with_context(|| format!("running {batch}"))?;
        let rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|column| row.get(column).map(str::to_owned))
                    .collect(),
            ),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Stops the server in the given mode and waits until it is gone.
    ///
    /// # Errors
    /// When it is not running, or does not stop in time.
    pub async fn stop(&mut self, mode: StopMode) -> Result<()> {
        match &mut self.host {
            Host::Docker(container) => {
                container
                    .signal(match mode {
                        StopMode::Fast => "INT",
                        StopMode::Immediate => "QUIT",
                    })
                    .await
            }
            Host::Local { server, .. } => {
                let running = server.as_mut().context("PostgreSQL is not running")?;
                running.signal(match mode {
                    StopMode::Fast => Signal::SIGINT,
                    StopMode::Immediate => Signal::SIGQUIT,
                })?;
                running.wait(STOP_DEADLINE).await?;
                *server = None;
                Ok(())
            }
        }
    }

    /// SIGKILL for the postmaster and every backend at once; returns when they are gone.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill9(&mut self) -> Result<()> {
        match &mut self.host {
            Host::Docker(container) => container.signal("KILL").await,
            Host::Local { server, .. } => {
                server
                    .as_mut()
                    .context("PostgreSQL is not running")?
                    .kill9(STOP_DEADLINE)
                    .await?;
                *server = None;
                Ok(())
            }
        }
    }

    /// SIGSTOP for the postmaster and every backend: connections stay open and silent.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn freeze(&self) -> Result<()> {
        match &self.host {
            Host::Docker(container) => container.freeze().await,
            Host::Local { server, .. } => server
                .as_ref()
                .context("PostgreSQL is not running")?
                .freeze(),
        }
    }

    /// Ends [`Postgres::freeze`].
    ///
    /// # Errors
    /// When it is not running.
    pub async fn thaw(&self) -> Result<()> {
        match &self.host {
            Host::Docker(container) => container.thaw().await,
            Host::Local { server, .. } => {
                server.as_ref().context("PostgreSQL is not running")?.thaw()
            }
        }
    }

    /// Starts a stopped or killed server on its old port and data, and waits until it answers.
    ///
    /// # Errors
    /// With the end of the server's log.
    pub async fn start_again(&mut self) -> Result<()> {
        if let Host::Docker(container) = &mut self.host {
            container.start().await?;
        } else {
            self.spawn()?;
        }
        self.wait_until_it_answers().await
    }

    /// Copies the files of this stopped server and starts the copy on a port of its own, with the same settings.
    ///
    /// # Errors
    /// The server runs or is in a container, or the copy does not start.
    pub async fn start_copy(&self, begins: CopyBegins) -> Result<Self> {
        let Host::Local { bin, server: None } = &self.host else {
            bail!(
                "only a stopped server outside of a container can be copied: stop it, and set ROWBRIDGE_TESTBED=local"
            );
        };
        let dir = ledger::folder(&format!("pg{}", self.version.major()))?;
        packages::hand_over(&dir)?;
        let data = dir.join("data");
        packages::copy(&self.dir.join("data"), &data).await?;
        if begins == CopyBegins::Promoted {
            packages::touch(&data.join("standby.signal")).await?;
        }
        let mut copy = Self {
            version: self.version,
            port: ledger::free_port()?,
            dir,
            settings: self.settings.clone(),
            host: Host::Local {
                bin: bin.clone(),
                server: None,
            },
            serial: Mutex::new(*self.serial.lock().await),
        };
        copy.start_again().await?;
        if begins == CopyBegins::Promoted {
            copy.sql("SELECT pg_promote()").await?;
        }
        Ok(copy)
    }

    fn spawn(&mut self) -> Result<()> {
        let Host::Local { bin, server } = &mut self.host else {
            return Ok(());
        };
        if server.is_some() {
            bail!("PostgreSQL is running already");
        }
        let (data, postgres) = (self.dir.join("data"), bin.join("postgres"));
        let mut argv = unprivileged(&[postgres.as_os_str(), OsStr::new("-D"), data.as_os_str()]);
        let own = [
            ("port", self.port.to_string()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", self.dir.display().to_string()),
        ];
        for (name, value) in own.iter().map(|(name, value)| (*name, value)).chain(
            self.settings
                .iter()
                .map(|(name, value)| (name.as_str(), value)),
        ) {
            argv.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        *server = Some(Server::spawn(
            "PostgreSQL",
            &argv,
            &self.dir,
            &self.dir.join("server.log"),
            LastSignal::Quit,
        )?);
        Ok(())
    }

    async fn wait_until_it_answers(&mut self) -> Result<()> {
        let until = Instant::now() + START_DEADLINE;
        loop {
            if let Host::Local {
                server: Some(server),
                ..
            } = &mut self.host
            {
                server.check_running()?;
            }
            let Err(error) = Self::sql_at(&self.url(), "SELECT 1").await else {
                return Ok(());
            };
            if Instant::now() >= until {
                bail!(
                    "PostgreSQL did not answer within {START_DEADLINE:?}: {error:#}; the end of its log:\n{}",
                    log_tail(&self.dir.join("server.log"))
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Host::Local { server, .. } = &mut self.host {
            *server = None;
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, "a PostgreSQL data folder stays until the process ends");
        }
    }
}
