//! The contract: own, hold, run, check.

use std::convert::Infallible;
use std::time::Duration;

use bson::doc;
use mongodb::Client;
use rowbridge_api::{
    Claim, Finding, Frozen, Identity, Ownership, Position, Remembers, Source, SourceError,
    SourceIo, Start, State, TableNeeds,
};

use crate::assembler::Assembler;
use crate::changes::Changes;
use crate::check;
use crate::client::{self, Deployment, DeploymentKind};
use crate::config::MongoConfig;
use crate::error::failed;
use crate::oplog::{self, Reach};
use crate::snapshot::{self, Snapshot};
use crate::stream::Stream;

/// How often a source that is only held looks whether the servers are still there.
const HOLD_EVERY: Duration = Duration::from_secs(1);

/// Follows the mapped collections of a replica set or sharded cluster.
///
/// The servers remember nothing of a pipeline, so nobody is kept out here: see [`Ownership::exclusive`].
pub struct MongoSource {
    config: MongoConfig,
    existing: Existing,
    owned: Option<Owned>,
    /// The moment that was fixed last.
    frozen: Option<Position>,
}

/// What becomes of existing documents at a first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existing {
    Read,
    PassedOver,
}

struct Owned {
    client: Client,
    deployment: Deployment,
    identity: Identity,
}

impl MongoSource {
    #[must_use]
    pub const fn new(config: MongoConfig) -> Self {
        Self {
            config,
            existing: Existing::Read,
            owned: None,
            frozen: None,
        }
    }

    /// A source that shows what changes from now on, for a live dry-run. As any source it writes nothing.
    #[must_use]
    pub const fn preview(config: MongoConfig) -> Self {
        Self {
            config,
            existing: Existing::PassedOver,
            owned: None,
            frozen: None,
        }
    }

    /// Reads the existing documents; returns the assembler for what follows and from where it follows.
    async fn first_start(
        &self,
        owned: &Owned,
        since: Option<Position>,
        io: &mut SourceIo,
    ) -> Result<(Assembler, Position), SourceError> {
        if self.existing == Existing::PassedOver {
            let from = snapshot::present(&owned.client).await?;
            let assembler = Assembler::new(&io.tables, self.config.on_drop, from.clone(), 0);
            return Ok((assembler, from));
        }
        let snapshot = Snapshot::begin(&owned.client, &self.config.limits).await?;
        let done = snapshot.send(since.clone(), io).await?;
        let from = since.unwrap_or(done.at);
        let assembler = Assembler::new(
            &io.tables,
            self.config.on_drop,
            from.clone(),
            done.next_shape,
        );
        Ok((assembler, from))
    }
}

/// A position of another deployment says nothing of this one.
fn compare(recorded: &Identity, identity: &Identity) -> Result<(), SourceError> {
    if recorded.source == identity.source {
        return Ok(());
    }
    Err(SourceError::refused(
        State::WrongSource,
        format!(
            "the position belongs to {}, and this is {}: another deployment, or a copy of it",
            recorded.source, identity.source
        ),
        "correct source.mongodb.url; if this deployment took the other's place, start over: \
         `rowbridge position set --snapshot`",
    ))
}

impl Source for MongoSource {
    async fn check(&mut self, needs: &[TableNeeds]) -> Result<Vec<Finding>, SourceError> {
        let client = client::connect(&self.config).await?;
        check::findings(&client, needs).await
    }

    async fn own(&mut self) -> Result<Claim, SourceError> {
        self.owned = None;
        let client = client::connect(&self.config).await?;
        let deployment = client::deployment(&client)
            .await
            .map_err(|error| failed("cannot reach MongoDB", error))?;
        deployment.refuse()?;
        let identity = client::identity(&client, &deployment).await?;
        self.owned = Some(Owned {
            client,
            deployment,
            identity: identity.clone(),
        });
        Ok(Claim::Owned(Ownership {
            identity,
            remembers: Remembers::Nothing,
            exclusive: false,
        }))
    }

    async fn hold(&mut self) -> Result<Infallible, SourceError> {
        let owned = self.owned.as_ref();
        let owned = owned.ok_or_else(|| SourceError::transient("nothing is owned"))?;
        loop {
            tokio::time::sleep(HOLD_EVERY).await;
            let admin = owned.client.database("admin");
            let answer = admin.run_command(doc! { "ping": 1 }).await;
            answer.map_err(|error| failed("MongoDB was lost", error))?;
        }
    }

    /// A moment is fixed by its time alone: the servers keep the past for a while. Whatever collection the stream is
    /// asked for, it has what changed in it.
    async fn freeze(&mut self, _tables: &[TableNeeds]) -> Result<Frozen, SourceError> {
        self.frozen = None;
        let owned = self.owned.as_ref();
        let owned = owned.ok_or_else(|| SourceError::transient("nothing is owned"))?;
        let position = snapshot::present(&owned.client).await?;
        self.frozen = Some(position.clone());
        Ok(Frozen {
            next: Position::new(position.order() + 1),
            position,
        })
    }

    async fn run(&mut self, mut io: SourceIo) -> Result<(), SourceError> {
        let owned = self.owned.take();
        let owned = owned.ok_or_else(|| SourceError::transient("nothing is owned"))?;
        let shutdown = io.shutdown.clone();
        check::refuse(&owned.client, &io.tables, self.config.on_drop).await?;
        let _looking = oplog::watch(owned.client.clone(), io.status.clone());
        let (assembler, from) = match io.start.clone() {
            Start::First { since } => {
                let started = tokio::select! {
                    started = self.first_start(&owned, since, &mut io) => started,
                    () = shutdown.cancelled() => return Ok(()),
                };
                started?
            }
            Start::Resume { position, recorded } => {
                compare(&recorded, &owned.identity)?;
                let assembler =
                    Assembler::new(&io.tables, self.config.on_drop, position.clone(), 0);
                (assembler, position)
            }
            Start::Frozen => {
                let moment = self.frozen.take();
                let moment = moment.ok_or_else(|| SourceError::transient("no moment is fixed"))?;
                let limits = &self.config.limits;
                let snapshot = Snapshot::at(&owned.client, limits, &moment).await?;
                return tokio::select! {
                    sent = snapshot.send(Some(moment), &mut io) => sent.map(drop),
                    () = shutdown.cancelled() => Ok(()),
                };
            }
        };
        let is_replica_set = matches!(owned.deployment.kind, DeploymentKind::ReplicaSet { .. });
        let assembler = assembler.of_one_replica_set(is_replica_set);
        let limits = &self.config.limits;
        let primary = owned.deployment.primary.clone();
        let changes = Changes::of(&owned.client, &owned.deployment, &io.tables, limits);
        let opened = tokio::select! {
            opened = changes.open(from) => opened?,
            () = shutdown.cancelled() => return Ok(()),
        };
        Stream::new(&owned.client, primary, &mut io, limits, assembler, opened)
            .run()
            .await
    }
}

/// What the servers can still tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The oldest moment that the oplog has; nothing where this user may not look.
    pub oldest: Option<Position>,
    pub present: Position,
}

/// Asks the servers how far their history reaches.
///
/// # Errors
/// They cannot be reached, or refuse.
pub async fn history(config: &MongoConfig) -> Result<History, SourceError> {
    let client = client::connect(config).await?;
    Ok(History {
        present: snapshot::present(&client).await?,
        oldest: oplog::reach(&client).await.map(Reach::oldest),
    })
}
