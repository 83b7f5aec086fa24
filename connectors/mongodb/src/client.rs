//! Connecting, and who the servers are.

use bson::{Document, doc};
use mongodb::Client;
use mongodb::error::Error;
use mongodb::options::{ClientOptions, Credential, Tls, TlsOptions};
use rowbridge_api::{Identity, SourceError, State};

use crate::config::MongoConfig;
use crate::error::{failed, not_a_replica_set};

/// Shown in the server's log and in `currentOp`.
const APPLICATION_NAME: &str = "rowbridge";
/// The oldest version with pre-images and a stable resume token.
pub(crate) const OLDEST: [i32; 2] = [6, 0];
/// From here on events over 16 MB can be split.
const SPLITTING: [i32; 3] = [6, 0, 9];

/// What the servers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deployment {
    pub(crate) version: Vec<i32>,
    pub(crate) kind: DeploymentKind,
    /// The member that takes writes, of a replica set.
    pub(crate) primary: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeploymentKind {
    Standalone,
    ReplicaSet { name: String },
    Sharded,
}

/// A client; it connects when it is first used.
pub(crate) async fn connect(config: &MongoConfig) -> Result<Client, SourceError> {
    let doing = "source.mongodb.url cannot be used";
    let mut options = ClientOptions::parse(&config.url)
        .await
        .map_err(|error| failed(doing, error))?;
    options.app_name = Some(APPLICATION_NAME.to_owned());
    options.connect_timeout = Some(config.limits.connect_timeout);
    options.server_selection_timeout = Some(config.limits.connect_timeout);
    let password = config.password.read().map_err(|unreadable| {
        SourceError::refused(
            State::Invalid,
            format!(
                "cannot read source.mongodb.password_file {}: {}",
                unreadable.path.display(),
                unreadable.cause
            ),
            "correct the key, or make the file readable",
        )
    })?;
    if let Some(password) = password {
        options
            .credential
            .get_or_insert_with(Credential::default)
            .password = Some(password);
    }
    if config.ca_file.is_some() || config.certificate_key_file.is_some() {
        let mut tls = match options.tls.take() {
            Some(Tls::Enabled(tls)) => tls,
            _ => TlsOptions::default(),
        };
        tls.ca_file_path = config.ca_file.clone().or(tls.ca_file_path);
        tls.cert_key_file_path = config
            .certificate_key_file
            .clone()
            .or(tls.cert_key_file_path);
        options.tls = Some(Tls::Enabled(tls));
    }
    tracing::debug!(hosts = options.hosts.len(), "connecting to MongoDB");
    Client::with_options(options).map_err(|error| failed(doing, error))
}

/// Asks the servers what they are.
pub(crate) async fn deployment(client: &Client) -> Result<Deployment, Error> {
    let admin = client.database("admin");
    let hello = hello(client).await?;
    let build = admin.run_command(doc! { "buildInfo": 1 }).await?;
    let version = build.get_array("versionArray").map_or_else(
        |_| Vec::new(),
        |parts| parts.iter().filter_map(bson::Bson::as_i32).collect(),
    );
    let kind = match (hello.get_str("setName"), hello.get_str("msg")) {
        (Ok(name), _) => DeploymentKind::ReplicaSet {
            name: name.to_owned(),
        },
        (_, Ok("isdbgrid")) => DeploymentKind::Sharded,
        _ => DeploymentKind::Standalone,
    };
    Ok(Deployment {
        version,
        kind,
        primary: primary(&hello),
    })
}

/// Which member takes writes now, as the one says that answers.
pub(crate) async fn present_primary(client: &Client) -> Result<Option<String>, Error> {
    hello(client).await.map(|hello| primary(&hello))
}

async fn hello(client: &Client) -> Result<Document, Error> {
    client
        .database("admin")
        .run_command(doc! { "hello": 1 })
        .await
}

fn primary(hello: &Document) -> Option<String> {
    hello.get_str("primary").ok().map(str::to_owned)
}

impl Deployment {
    pub(crate) fn is_too_old(&self) -> bool {
        self.version.as_slice() < OLDEST.as_slice()
    }

    pub(crate) fn splits_large_events(&self) -> bool {
        self.version.as_slice() >= SPLITTING.as_slice()
    }

    pub(crate) fn version(&self) -> String {
        let parts: Vec<_> = self
            .version
            .iter()
            .take(3)
            .map(ToString::to_string)
            .collect();
        parts.join(".")
    }

    /// Refuses what has no change streams that this program can rely on.
    pub(crate) fn refuse(&self) -> Result<(), SourceError> {
        if self.kind == DeploymentKind::Standalone {
            return Err(not_a_replica_set());
        }
        if self.is_too_old() {
            return Err(SourceError::refused(
                State::Invalid,
                format!("this is MongoDB {}", self.version()),
                "6.0 or later is needed: earlier versions keep no images of documents before a change",
            ));
        }
        Ok(())
    }
}

/// Which history positions belong to: the replica set's own id, or the sharded cluster's.
pub(crate) async fn identity(
    client: &Client,
    deployment: &Deployment,
) -> Result<Identity, SourceError> {
    let doing = "cannot tell which deployment this is";
    let id = match deployment.kind {
        DeploymentKind::Sharded => {
            let versions = client.database("config").collection::<Document>("version");
            let version = versions.find_one(doc! {}).await;
            let version = version.map_err(|error| failed(doing, error))?;
            version.and_then(|version| version.get_object_id("clusterId").ok())
        }
        _ => {
            let admin = client.database("admin");
            let config = admin.run_command(doc! { "replSetGetConfig": 1 }).await;
            let config = config.map_err(|error| failed(doing, error))?;
            config
                .get_document("config")
                .and_then(|config| config.get_document("settings"))
                .and_then(|settings| settings.get_object_id("replicaSetId"))
                .ok()
        }
    };
    let id =
        id.ok_or_else(|| SourceError::transient(format!("{doing}: the server tells no id")))?;
    Ok(Identity {
        source: format!("mongodb/{}", id.to_hex()),
        history: "oplog".to_owned(),
    })
}
