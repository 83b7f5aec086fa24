//! A real Apache Kafka (one KRaft node), private or shared by the tests of one process, and its faults.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::docker::{self, Container};
use crate::guarded::KafkaGuard;
use crate::process::{LastSignal, POLL, Server, log_tail};
use crate::proxy::Proxy;
use crate::{ledger, packages};

const START_DEADLINE: Duration = Duration::from_secs(90);
const STOP_DEADLINE: Duration = Duration::from_secs(60);
const PORT_ATTEMPTS: u32 = 5;
/// KafkaRaftServer logs this once the broker is registered and unfenced.
const STARTED: &str = "Kafka Server started";
const LOGGING: &str = include_str!("kafka-log4j2.properties");

pub(crate) struct Ports {
    pub(crate) client: u16,
    pub(crate) controller: u16,
    /// The listener behind the proxy.
    pub(crate) proxied: Option<u16>,
    /// The listeners SASL_SSL and SSL.
    pub(crate) guarded: Option<[u16; 2]>,
}

/// The text of `server.properties`. `advertised` is the proxy's address.
pub(crate) fn properties(ports: &Ports, data: &Path, advertised: Option<SocketAddr>) -> String {
    properties_on("127.0.0.1", ports, data, advertised)
}

fn properties_on(bind: &str, ports: &Ports, data: &Path, advertised: Option<SocketAddr>) -> String {
    let Ports {
        client,
        controller,
        proxied,
        guarded,
    } = ports;
    let mut listeners = format!("PLAINTEXT://{bind}:{client},CONTROLLER://127.0.0.1:{controller}");
    let mut seen = format!("PLAINTEXT://127.0.0.1:{client}");
    if let (Some(port), Some(addr)) = (proxied, advertised) {
        listeners += &format!(",PROXIED://{bind}:{port}");
        seen += &format!(",PROXIED://{addr}");
    }
    if let Some([sasl_ssl, ssl]) = guarded {
        listeners += &format!(",SASL_SSL://{bind}:{sasl_ssl},SSL://{bind}:{ssl}");
        seen += &format!(",SASL_SSL://localhost:{sasl_ssl},SSL://localhost:{ssl}");
    }
    format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners={listeners}\nadvertised.listeners={seen}\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL\n\
         inter.broker.listener.name=PLAINTEXT\nlog.dirs={}\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=4\n\
         group.initial.rebalance.delay.ms=0\ntransaction.abort.timed.out.transaction.cleanup.interval.ms=1000\nlog.cleaner.backoff.ms=500\n\
         # A killed broker may register again only when its old session is over.\n\
         broker.session.timeout.ms=2000\nbroker.heartbeat.interval.ms=400\n",
        data.display()
    )
}

/// Settings of a broker before its first start.
#[derive(Default)]
pub struct KafkaBuilder {
    extra: Vec<String>,
    proxied: bool,
    guard: Option<KafkaGuard>,
    full_jit: bool,
}

impl KafkaBuilder {
    /// Adds or overrides one line of `server.properties`.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.extra.push(format!("{name}={value}"));
        self
    }

    /// Adds a listener that is advertised at a proxy of its own: see [`Kafka::proxy`].
    #[must_use]
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Adds two listeners that want to know who comes, by SCRAM and by certificate: see [`Kafka::sasl_ssl`] and [`Kafka::ssl`].
    #[must_use]
    pub fn guarded(mut self, guard: KafkaGuard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Lets Java optimise fully: for benches. Tests start faster without.
    #[must_use]
    pub fn full_speed(mut self) -> Self {
        self.full_jit = true;
        self
    }

    /// Starts the broker and waits until it serves.
    ///
    /// # Errors
    /// When no broker can be had (the message says what to install), or with the end of the broker's log.
    pub async fn start(self) -> Result<Kafka> {
        for attempt in 1.. {
            match self.start_once().await {
                Err(error)
                    if attempt < PORT_ATTEMPTS
                        && format!("{error:#}").contains("Address already in use") => {}
                outcome => return outcome.context("starting Apache Kafka"),
            }
        }
        bail!("no port")
    }

    async fn start_once(&self) -> Result<Kafka> {
        let dir = ledger::folder("kafka")?;
        let mut ports = Ports {
            client: ledger::free_port()?,
            controller: ledger::free_port()?,
            proxied: None,
            guarded: None,
        };
        if self.guard.is_some() {
            ports.guarded = Some([ledger::free_port()?, ledger::free_port()?]);
        }
        let mut proxy = None;
        if self.proxied {
            let port = ledger::free_port()?;
            ports.proxied = Some(port);
            proxy = Some(Proxy::kafka((Ipv4Addr::LOCALHOST, port).into()).await?);
        }
        let advertised = proxy.as_ref().map(Proxy::addr);
        let extra = |stores: &Path| {
            let guard = self.guard.as_ref().map(|guard| guard.properties(stores));
            guard.unwrap_or_default() + &self.extra.join("\n") + "\n"
        };
        let host = if docker::wanted().await? {
            let data = Path::new("/tmp/kafka-data");
            let text = properties_on("0.0.0.0", &ports, data, advertised)
                + &extra(Path::new(docker::STORES));
            Host::Docker(Box::new(
                docker::kafka(&ports, text, self.guard.as_ref()).await?,
            ))
        } else {
            let libs = packages::kafka_libs().await?;
            let data = dir.join("data");
            fs::write(
                dir.join("server.properties"),
                properties(&ports, &data, advertised) + &extra(&dir),
            )?;
            fs::write(dir.join("log4j2.properties"), LOGGING)?;
            match &self.guard {
                None => prepare(&packages::kafka_template(&libs).await?, &data)?,
                Some(guard) => {
                    guard.write_files(&dir)?;
                    packages::kafka_format(&libs, &dir, &guard.format_arguments()).await?;
                    own_cluster_id(&data)?;
                }
            }
            Host::Local { libs, server: None }
        };
        let mut kafka = Kafka {
            port: ports.client,
            guarded: ports.guarded,
            dir,
            host,
            proxy,
            full_jit: self.full_jit,
        };
        kafka.start_again().await?;
        Ok(kafka)
    }
}

/// Copies the formatted folder and gives it a cluster id of its own.
fn prepare(template: &Path, data: &Path) -> Result<()> {
    fs::create_dir(data)?;
    for entry in
        fs::read_dir(template).with_context(|| format!("reading {}", template.display()))?
    {
        let entry = entry?;
        fs::copy(entry.path(), data.join(entry.file_name()))?;
    }
    own_cluster_id(data)
}

fn own_cluster_id(data: &Path) -> Result<()> {
    let path = data.join("meta.properties");
    let id = uuid::Uuid::new_v4().simple().to_string()[..22].to_owned();
    let lines = fs::read_to_string(&path)?;
    let lines: Vec<String> = lines
        .lines()
        .map(|line| {
            if line.starts_with("cluster.id=") {
                format!("cluster.id={id}")
            } else {
                line.to_owned()
            }
        })
        .collect();
    fs::write(&path, lines.join("\n") + "\n").with_context(|| format!("writing {}", path.display()))
}

enum Host {
    Local {
        libs: PathBuf,
        server: Option<Server>,
    },
    Docker(Box<Container>),
}

/// A running broker. Dropping it ends the broker and removes its data.
pub struct Kafka {
    port: u16,
    guarded: Option<[u16; 2]>,
    dir: PathBuf,
    host: Host,
    proxy: Option<Proxy>,
    full_jit: bool,
}

impl Kafka {
    /// A broker with the usual settings.
    ///
    /// # Errors
    /// As [`KafkaBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Settings first, then [`KafkaBuilder::start`].
    #[must_use]
    pub fn builder() -> KafkaBuilder {
        KafkaBuilder::default()
    }

    /// One broker for all tests of this process; use topic names of your own and give it no faults.
    ///
    /// # Errors
    /// As [`KafkaBuilder::start`].
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Kafka> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// `bootstrap.servers`, without the proxy; it stays the same over restarts.
    #[must_use]
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `bootstrap.servers` of a client that must always go through the proxy.
    #[must_use]
    pub fn proxied_brokers(&self) -> Option<String> {
        self.proxy.as_ref().map(|proxy| proxy.addr().to_string())
    }

    /// `bootstrap.servers` of the listener that wants a user and a password inside TLS, of [`KafkaBuilder::guarded`].
    #[must_use]
    pub fn sasl_ssl(&self) -> Option<String> {
        self.guarded.map(|[port, _]| format!("localhost:{port}"))
    }

    /// `bootstrap.servers` of the listener that wants a client certificate, of [`KafkaBuilder::guarded`].
    #[must_use]
    pub fn ssl(&self) -> Option<String> {
        self.guarded.map(|[_, port]| format!("localhost:{port}"))
    }

    /// The proxy of [`KafkaBuilder::proxied`]. It lives in the runtime that started the broker.
    #[must_use]
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// The process id of the broker, `None` while stopped or in a container.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.host {
            Host::Local { server, .. } => server.as_ref().map(Server::pid),
            Host::Docker(_) => None,
        }
    }

    /// A controlled shutdown (SIGTERM); returns when the broker is gone.
    ///
    /// # Errors
    /// When it is not running, or does not stop in time.
    pub async fn stop(&mut self) -> Result<()> {
        match &mut self.host {
            Host::Docker(container) => container.signal("TERM").await,
            Host::Local { server, .. } => {
                let running = server.as_mut().context("Kafka is not running")?;
                running.signal(Signal::SIGTERM)?;
                running.wait(STOP_DEADLINE).await?;
                *server = None;
                Ok(())
            }
        }
    }

    /// SIGKILL; returns when the broker is gone.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill9(&mut self) -> Result<()> {
        match &mut self.host {
            Host::Docker(container) => container.signal("KILL").await,
            Host::Local { server, .. } => {
                server
                    .as_mut()
                    .context("Kafka is not running")?
                    .kill9(STOP_DEADLINE)
                    .await?;
                *server = None;
                Ok(())
            }
        }
    }

    /// SIGSTOP: connections stay open and silent.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn freeze(&self) -> Result<()> {
        match &self.host {
            Host::Docker(container) => container.freeze().await,
            Host::Local { server, .. } => server.as_ref().context("Kafka is not running")?.freeze(),
        }
    }

    /// Ends [`Kafka::freeze`].
    ///
    /// # Errors
    /// When it is not running.
    pub async fn thaw(&self) -> Result<()> {
        match &self.host {
            Host::Docker(container) => container.thaw().await,
            Host::Local { server, .. } => server.as_ref().context("Kafka is not running")?.thaw(),
        }
    }

    /// Starts a stopped or killed broker on its old ports and data, and waits until it serves.
    ///
    /// # Errors
    /// With the end of the broker's log.
    pub async fn start_again(&mut self) -> Result<()> {
        let from = fs::metadata(self.log()).map_or(0, |meta| meta.len());
        if let Host::Docker(container) = &mut self.host {
            container.start().await?;
        } else {
            self.spawn()?;
        }
        self.wait_until_it_serves(from).await
    }

    fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    fn spawn(&mut self) -> Result<()> {
        let log = self.log();
        let Host::Local { libs, server } = &mut self.host else {
            return Ok(());
        };
        if server.is_some() {
            bail!("Kafka is running already");
        }
        let mut argv: Vec<String> = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-Xshare:auto"]
            .map(str::to_owned)
            .into();
        if !self.full_jit {
            argv.push("-XX:TieredStopAtLevel=1".to_owned());
        }
        argv.push(format!(
            "-Dlog4j2.configurationFile=file:{}",
            self.dir.join("log4j2.properties").display()
        ));
        argv.extend([
            "-cp".to_owned(),
            libs.join("*").display().to_string(),
            "kafka.Kafka".to_owned(),
        ]);
        argv.push(self.dir.join("server.properties").display().to_string());
        *server = Some(Server::spawn(
            "Kafka",
            &argv,
            &self.dir,
            &log,
            LastSignal::Kill,
        )?);
        Ok(())
    }

    async fn wait_until_it_serves(&mut self, log_from: u64) -> Result<()> {
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
            if ready
                && TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
                    .await
                    .is_ok()
            {
                return Ok(());
            }
            if Instant::now() >= until {
                bail!(
                    "Kafka did not serve within {START_DEADLINE:?}; the end of its log:\n{}",
                    log_tail(&log)
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Host::Local { server, .. } = &mut self.host {
            *server = None;
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, "a Kafka data folder stays until the process ends");
        }
    }
}
