//! Servers in containers, where a Docker engine answers.
//!
//! Host ports are fixed, so that a restarted container is found where it was. What only a local server has (Unix socket,
//! data folder, process ids) is absent here, and the accessors say so.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::guarded::KafkaGuard;
use crate::kafka::Ports;
use crate::packages::{KAFKA_CLUSTER_ID, KAFKA_VERSION, MONGO_VERSION, run};
use crate::pg_version::PgVersion;

const ENGINE_DEADLINE: Duration = Duration::from_secs(5);
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
const CONTAINER_SCRIPT: &str = "/tmp/server.properties";
/// Where a broker finds its key stores, and mongod its key and certificates.
pub(crate) const STORES: &str = "/tmp/stores";

/// Whether servers come from Docker: `ROWBRIDGE_TESTBED` decides, else whether an engine answers.
pub(crate) async fn wanted() -> Result<bool> {
    static ANSWERS: OnceCell<bool> = OnceCell::const_new();
    match std::env::var("ROWBRIDGE_TESTBED").as_deref() {
        Ok("local") => Ok(false),
        Ok("docker") => Ok(true),
        Ok(other) => bail!("ROWBRIDGE_TESTBED is {other:?}; it may be `docker` or `local`"),
        Err(_) => Ok(*ANSWERS.get_or_init(engine_answers).await),
    }
}

async fn engine_answers() -> bool {
    let mut docker = Command::new("docker");
    docker.args(["version", "--format", "{{.Server.Version}}"]);
    run(docker, ENGINE_DEADLINE).await.is_ok()
}

/// A container of ours; it is removed when dropped, and by testcontainers' own watch when we die.
pub(crate) struct Container {
    container: ContainerAsync<GenericImage>,
    started: bool,
}

impl Container {
    /// Starts a container that was stopped; a new one runs already.
    pub(crate) async fn start(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.started, true) {
            self.container.start().await?;
        }
        Ok(())
    }

    /// Sends a signal that ends the server, and waits for its end.
    pub(crate) async fn signal(&self, name: &str) -> Result<()> {
        self.docker(&["kill", "--signal", name, self.container.id()])
            .await?;
        self.docker(&["wait", self.container.id()]).await
    }

    pub(crate) async fn freeze(&self) -> Result<()> {
        Ok(self.container.pause().await?)
    }

    pub(crate) async fn thaw(&self) -> Result<()> {
        Ok(self.container.unpause().await?)
    }

    async fn docker(&self, args: &[&str]) -> Result<()> {
        let mut docker = Command::new("docker");
        docker.args(args).stdin(Stdio::null());
        run(docker, COMMAND_DEADLINE).await
    }
}

pub(crate) async fn postgres(
    version: PgVersion,
    port: u16,
    settings: &[(String, String)],
) -> Result<Container> {
    let mut command = vec!["postgres".to_owned()];
    for (name, value) in settings {
        command.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    let container = GenericImage::new("postgres", &format!("{}-bookworm", version.major()))
        .with_wait_for(WaitFor::message_on_stderr(
            "database system is ready to accept connections",
        ))
        .with_mapped_port(port, 5432.tcp())
        .with_env_var("POSTGRES_HOST_AUTH_METHOD", "trust")
        .with_cmd(command)
        .start()
        .await
        .context("starting a postgres container")?;
    Ok(Container {
        container,
        started: false,
    })
}

pub(crate) async fn kafka(
    ports: &Ports,
    properties: String,
    guard: Option<&KafkaGuard>,
) -> Result<Container> {
    let mut image = GenericImage::new("apache/kafka", KAFKA_VERSION)
        .with_wait_for(WaitFor::message_on_stdout("Kafka Server started"))
        .with_mapped_port(ports.client, ports.client.tcp());
    for port in ports
        .proxied
        .into_iter()
        .chain(ports.guarded.into_iter().flatten())
    {
        image = image.with_mapped_port(port, port.tcp());
    }
    let mut users = String::new();
    for (name, text) in guard.iter().flat_map(|guard| guard.files()) {
        image = image.with_copy_to(format!("{STORES}/{name}"), text.into_bytes());
    }
    for argument in guard.iter().flat_map(|guard| guard.format_arguments()) {
        users += &format!(" '{argument}'");
    }
    let start = format!(
        "/opt/kafka/bin/kafka-storage.sh format --ignore-formatted -t {KAFKA_CLUSTER_ID} -c {CONTAINER_SCRIPT}{users} && exec /opt/kafka/bin/kafka-server-start.sh {CONTAINER_SCRIPT}"
    );
    let container = image
        .with_copy_to(CONTAINER_SCRIPT, properties.into_bytes())
        .with_cmd(["sh", "-c", &start])
        .start()
        .await
        .context("starting a kafka container")?;
    Ok(Container {
        container,
        started: false,
    })
}

/// In the host's network: the nodes of a replica set reach each other, and clients all of them, by the same addresses.
pub(crate) async fn mongo(
    arguments: &[String],
    files: Vec<(&'static str, String)>,
) -> Result<Container> {
    let mut image = GenericImage::new("mongo", MONGO_VERSION)
        .with_wait_for(WaitFor::message_on_stdout("Waiting for connections"))
        .with_network("host");
    // Files are copied as root's and for all; mongod wants its key for itself.
    let mut start = format!("mkdir -p {STORES}");
    for (name, text) in files {
        let copied = format!("/tmp/{name}");
        start += &format!(" && install -o mongodb -m 600 {copied} {STORES}/{name}");
        image = image.with_copy_to(copied, text.into_bytes());
    }
    start += " && exec docker-entrypoint.sh mongod \"$@\"";
    let command = ["sh", "-c", start.as_str(), "sh"].map(str::to_owned);
    let container = image
        .with_cmd(command.into_iter().chain(arguments.iter().cloned()))
        .start()
        .await
        .context("starting a mongo container")?;
    Ok(Container {
        container,
        started: false,
    })
}
