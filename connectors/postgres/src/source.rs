//! The contract of a source, kept for PostgreSQL: own, hold, run, check.
//!
//! Ownership is the slot's walsender itself: the server lets one session read a slot, and forgets it when
//! the session ends. Before the slot exists an advisory lock stands in for it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use rowbridge_api::{
    Claim, Finding, Frozen, Identity, Op, Ownership, Position, Remembers, Source, SourceError,
    SourceIo, Start, State, TableNeeds,
};

use crate::assembler::{Assembler, Keys, keys_of};
use crate::catalogue::{self, Table, TypeNames};
use crate::check;
use crate::config::PostgresConfig;
use crate::error::{WireError, sqlstate};
use crate::publication::{self, Publication};
use crate::slot::{self, SlotState};
use crate::snapshot::{Snapshot, no_such_table};
use crate::sql::{OPENING, Sql};
use crate::stream::{Stream, hold};
use crate::synchronous;
use crate::timeline::{self, Timeline};
use crate::wire::{Link, Purpose};

/// How often a session that only keeps a lock is looked at.
const LOCK_WATCH: Duration = Duration::from_secs(5);

/// A pipeline's PostgreSQL source.
pub struct PostgresSource {
    config: PostgresConfig,
    /// Name of both slot and publication.
    name: String,
    sql: Option<Sql>,
    owned: Option<Owned>,
    /// A session inside the moment that was fixed last.
    frozen: Option<Box<Snapshot>>,
    let_in: LetIn,
}

/// Whether the server has let this process in. A wrong password at the start is a mistake to correct; later
/// it is being rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LetIn {
    NotYet,
    Before,
}

impl LetIn {
    /// The verdict on an error of connecting.
    fn judge(self, error: WireError, doing: &str) -> SourceError {
        match self {
            Self::NotYet => error.while_doing(doing),
            Self::Before => error.once_let_in(doing),
        }
    }
}

/// What [`Source::own`] took.
struct Owned {
    link: Link,
    timeline: Timeline,
    memory: Memory,
}

/// What the server remembers of this pipeline.
#[derive(Clone)]
enum Memory {
    /// Nothing: we hold the advisory lock of the slot's name.
    Nothing,
    /// The slot as it was just after we took it; the link streams.
    Slot(Box<SlotState>),
}

impl PostgresSource {
    /// The source of `pipeline`: slot and publication are `rowbridge_<pipeline>`.
    #[must_use]
    pub fn new(config: PostgresConfig, pipeline: &str) -> Self {
        Self {
            config,
            name: object_name(pipeline),
            sql: None,
            owned: None,
            frozen: None,
            let_in: LetIn::NotYet,
        }
    }

    async fn sql(&mut self) -> Result<&Sql, SourceError> {
        let usable = self.sql.take().filter(|sql| !sql.is_closed());
        let sql = match usable {
            Some(sql) => sql,
            None => {
                let opened = Sql::open(&self.config).await;
                opened.map_err(|error| self.let_in.judge(error, OPENING))?
            }
        };
        Ok(self.sql.insert(sql))
    }

    /// Takes the slot, or says who has it.
    async fn take_slot(
        &mut self,
        mut link: Link,
        timeline: Timeline,
        state: SlotState,
    ) -> Result<Claim, SourceError> {
        state.usable(&self.config.database)?;
        if let Some(holder) = &state.holder {
            let holder = holder.to_string();
            return Ok(Claim::Standby { holder });
        }
        match link
            .start_copy(&slot::start_statement(&self.name, &self.name))
            .await
        {
            Ok(()) => {}
            Err(error) if error.code() == Some(sqlstate::OBJECT_IN_USE) => {
                let holder = error.to_string();
                return Ok(Claim::Standby { holder });
            }
            Err(WireError::Server(error)) => return Err(crate::stream::walsender_error(&error)),
            Err(error) => return Err(error.while_doing("cannot start streaming")),
        }
        // Until a moment ago somebody else may have moved it.
        let name = self.name.clone();
        let state = slot::read(self.sql().await?, &name).await?.unwrap_or(state);
        let identity = timeline.identity.clone();
        let position = state.confirmed_flush.clone();
        self.owned = Some(Owned {
            link,
            timeline,
            memory: Memory::Slot(Box::new(state)),
        });
        Ok(Claim::Owned(Ownership {
            identity,
            remembers: Remembers::Start { position },
            exclusive: true,
        }))
    }

    /// Takes the lock that guards the first start, or says who has it.
    async fn take_lock(&mut self, link: Link, timeline: Timeline) -> Result<Claim, SourceError> {
        let name = self.name.clone();
        let sql = self.sql().await?;
        let doing = "take the lock of a first start";
        let rows = sql
            .query(
                doing,
                "SELECT pg_try_advisory_lock(hashtextextended($1, 0)), (SELECT pid FROM pg_locks \
                     WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() \
                     AND (classid::bigint << 32 | objid::bigint) = hashtextextended($1, 0) LIMIT 1)",
                &[&name],
            )
            .await?;
        let locked = rows.first().is_some_and(|row| row.get(0));
        if !locked {
            let pid: Option<i32> = rows.first().and_then(|row| row.get(1));
            let holder = pid.map_or_else(
                || "another first start".to_owned(),
                |pid| format!("pid {pid}, at its first start"),
            );
            return Ok(Claim::Standby { holder });
        }
        let identity = timeline.identity.clone();
        self.owned = Some(Owned {
            link,
            timeline,
            memory: Memory::Nothing,
        });
        Ok(Claim::Owned(Ownership {
            identity,
            remembers: Remembers::Nothing,
            exclusive: true,
        }))
    }

    /// Publication, then slot, then the existing rows; returns the assembler for what follows and from
    /// where it follows.
    async fn first_start(
        &self,
        sql: &Sql,
        owned: &mut Owned,
        io: &mut SourceIo,
    ) -> Result<(Assembler, u64), SourceError> {
        let name = &self.name;
        let publication = match &owned.memory {
            Memory::Nothing => publication::prepare(sql, &self.config, name, &io.tables).await?,
            Memory::Slot(_) => publication::compare(sql, &self.config, name, &io.tables).await?,
        };
        let types = TypeNames::read(sql).await?;
        let (tables, keys) = mapped_tables(sql, &io.tables).await?;
        let opened = Snapshot::open(&self.config).await;
        let mut snapshot = opened.map_err(|error| self.let_in.judge(error, OPENING))?;
        let confirmed = match &owned.memory {
            Memory::Slot(state) => {
                snapshot.take().await?;
                state.confirmed()
            }
            Memory::Nothing => {
                if !self.config.create_slot {
                    return Err(no_slot_wanted(name));
                }
                let walsender = owned.link.backend_pid();
                let created = tokio::select! {
                    created = slot::create(&mut owned.link, sql, name, slot::Lives::On) => created?,
                    () = io.shutdown.cancelled() => {
                        slot::give_up(sql, walsender).await?;
                        return Err(interrupted());
                    }
                };
                let point = created.consistent_point;
                snapshot.import(&created.snapshot, point).await?;
                let start = slot::start_statement(name, name);
                let started = owned.link.start_copy(&start).await;
                started.map_err(|error| error.while_doing("cannot start streaming"))?;
                tracing::info!(slot = name, position = %Position::new(point), "created the slot");
                point
            }
        };
        let next_shape = {
            let plan = plan(
                &mut snapshot,
                &io.tables,
                &tables,
                &publication,
                &types,
                &keys,
            );
            let shutdown = io.shutdown.clone();
            tokio::select! {
                sent = snapshot.send(plan, io, &self.config, confirmed) => sent?,
                error = hold(&mut owned.link, confirmed) => return Err(error),
                () = shutdown.cancelled() => return Err(interrupted()),
            }
        };
        Ok((
            Assembler::new(keys, types, confirmed, next_shape),
            confirmed,
        ))
    }

    /// Has the tables in the stream, then fixes a moment of theirs: the consistent point of a slot that lives no longer
    /// than it takes to begin a transaction at its snapshot.
    async fn fix(
        &self,
        sql: &Sql,
        owned: &mut Owned,
        tables: &[TableNeeds],
    ) -> Result<Snapshot, SourceError> {
        let Memory::Slot(state) = &owned.memory else {
            return Err(SourceError::transient("there is no slot to go on from"));
        };
        let confirmed = state.confirmed();
        publication::compare(sql, &self.config, &self.name, tables).await?;
        let opened = Snapshot::open(&self.config).await;
        let mut snapshot = opened.map_err(|error| self.let_in.judge(error, OPENING))?;
        let link = Link::connect(&self.config, Purpose::Replication).await;
        let doing = "cannot open a second replication session";
        let mut link = link.map_err(|error| self.let_in.judge(error, doing))?;
        let name = format!("{}_reseed", self.name);
        let created = tokio::select! {
            created = slot::create(&mut link, sql, &name, slot::Lives::WithItsLink) => created?,
            error = hold(&mut owned.link, confirmed) => return Err(error),
        };
        let point = created.consistent_point;
        snapshot.fix(&created.snapshot, point).await?;
        Ok(snapshot)
    }

    /// Reads the rows of the moment that was fixed.
    async fn read_frozen(
        &self,
        sql: &Sql,
        owned: &mut Owned,
        mut snapshot: Snapshot,
        io: &mut SourceIo,
    ) -> Result<(), SourceError> {
        let Memory::Slot(state) = &owned.memory else {
            return Err(SourceError::transient("there is no slot to go on from"));
        };
        let confirmed = state.confirmed();
        let publication = publication::compare(sql, &self.config, &self.name, &io.tables).await?;
        let types = TypeNames::read(sql).await?;
        let (tables, keys) = mapped_tables(sql, &io.tables).await?;
        let needs = &io.tables;
        let plan = plan(&mut snapshot, needs, &tables, &publication, &types, &keys);
        let point = snapshot.position().order();
        let shutdown = io.shutdown.clone();
        tokio::select! {
            sent = snapshot.send(plan, io, &self.config, point) => sent.map(drop),
            error = hold(&mut owned.link, confirmed) => Err(error),
            () = shutdown.cancelled() => Ok(()),
        }
    }

    /// Compares what was recorded with what is there; returns the assembler for what follows and the slot's
    /// own position.
    async fn resume(
        &self,
        sql: &Sql,
        owned: &Owned,
        io: &SourceIo,
        position: &Position,
        recorded: &Identity,
    ) -> Result<(Assembler, u64), SourceError> {
        owned.timeline.continues(recorded, position)?;
        let state = match &owned.memory {
            Memory::Slot(state) => state,
            Memory::Nothing => return Err(slot::missing(&self.name, position)),
        };
        if let Some(wal_end) = &state.wal_end {
            timeline::reaches(wal_end, position)?;
        }
        if state.confirmed() > position.order() {
            return Err(gap(&self.name, position, state.confirmed()));
        }
        publication::compare(sql, &self.config, &self.name, &io.tables).await?;
        let types = TypeNames::read(sql).await?;
        let (_, keys) = mapped_tables(sql, &io.tables).await?;
        let assembler = Assembler::new(keys, types, position.order(), 0);
        Ok((assembler, state.confirmed()))
    }
}

impl Source for PostgresSource {
    async fn check(&mut self, needs: &[TableNeeds]) -> Result<Vec<Finding>, SourceError> {
        let (config, name) = (self.config.clone(), self.name.clone());
        let sql = self.sql().await?;
        check::findings(sql, &config, &name, needs).await
    }

    async fn own(&mut self) -> Result<Claim, SourceError> {
        self.owned = None;
        let link = Link::connect(&self.config, Purpose::Replication).await;
        let doing = "cannot open a replication session";
        let mut link = link.map_err(|error| self.let_in.judge(error, doing))?;
        let timeline = timeline::read(&mut link, &self.config.database).await?;
        let name = self.name.clone();
        let sql = self.sql().await?;
        synchronous::read(sql).await?.refuse()?;
        let state = slot::read(sql, &name).await?;
        self.let_in = LetIn::Before;
        match state {
            Some(state) => self.take_slot(link, timeline, state).await,
            None => self.take_lock(link, timeline).await,
        }
    }

    async fn hold(&mut self) -> Result<Infallible, SourceError> {
        match &mut self.owned {
            None => Err(SourceError::transient("nothing is owned")),
            Some(Owned {
                link,
                memory: Memory::Slot(state),
                ..
            }) => Err(hold(link, state.confirmed()).await),
            Some(_) => loop {
                tokio::time::sleep(LOCK_WATCH).await;
                match self.sql.as_ref().filter(|sql| !sql.is_closed()) {
                    Some(sql) => drop(sql.query("keep the session", "SELECT 1", &[]).await?),
                    None => return Err(SourceError::transient("the SQL session was lost")),
                }
            },
        }
    }

    async fn freeze(&mut self, tables: &[TableNeeds]) -> Result<Frozen, SourceError> {
        self.frozen = None;
        let owned = self.owned.take();
        let mut owned = owned.ok_or_else(|| SourceError::transient("nothing is owned"))?;
        self.sql().await?;
        let sql = self.sql.as_ref();
        let sql = sql.ok_or_else(|| SourceError::transient("the SQL session was lost"))?;
        let snapshot = self.fix(sql, &mut owned, tables).await?;
        let position = snapshot.position().clone();
        self.owned = Some(owned);
        self.frozen = Some(Box::new(snapshot));
        Ok(Frozen {
            next: position.clone(),
            position,
        })
    }

    async fn run(&mut self, mut io: SourceIo) -> Result<(), SourceError> {
        let owned = self.owned.take();
        let mut owned = owned.ok_or_else(|| SourceError::transient("nothing is owned"))?;
        self.sql().await?;
        let frozen = match io.start {
            Start::Frozen => self.frozen.take(),
            Start::First { .. } | Start::Resume { .. } => None,
        };
        let sql = self.sql.as_ref();
        let sql = sql.ok_or_else(|| SourceError::transient("the SQL session was lost"))?;
        let (assembler, confirmed) = match io.start.clone() {
            Start::First { .. } => {
                let shutdown = io.shutdown.clone();
                match self.first_start(sql, &mut owned, &mut io).await {
                    Err(_) if shutdown.is_cancelled() => return Ok(()),
                    started => started?,
                }
            }
            Start::Resume { position, recorded } => {
                self.resume(sql, &owned, &io, &position, &recorded).await?
            }
            Start::Frozen => {
                let snapshot =
                    frozen.ok_or_else(|| SourceError::transient("no moment is fixed"))?;
                return self.read_frozen(sql, &mut owned, *snapshot, &mut io).await;
            }
        };
        let needs = io.tables.clone();
        let status = io.status.clone();
        let limits = &self.config.limits;
        let stream = Stream::new(&mut owned.link, &mut io, limits, assembler, confirmed);
        tokio::select! {
            ended = stream.run() => ended,
            error = watch(sql, &self.name, &needs, limits.watch_interval, &status) => Err(error),
        }
    }
}

/// Looks at slot and publication while the stream runs; returns only with an error.
async fn watch(
    sql: &Sql,
    name: &str,
    needs: &[TableNeeds],
    every: Duration,
    status: &tokio::sync::watch::Sender<rowbridge_api::SourceStatus>,
) -> SourceError {
    loop {
        if let Err(error) = look(sql, name, needs, status).await {
            return error;
        }
        tokio::time::sleep(every).await;
    }
}

async fn look(
    sql: &Sql,
    name: &str,
    needs: &[TableNeeds],
    status: &tokio::sync::watch::Sender<rowbridge_api::SourceStatus>,
) -> Result<(), SourceError> {
    let publication = publication::read(sql, name).await?;
    let publication = publication.ok_or_else(|| publication::gone(name, needs))?;
    publication::unchanged(&publication, name, needs)?;
    synchronous::read(sql).await?.refuse()?;
    if let Some(state) = slot::read(sql, name).await? {
        state.usable(&state.database)?;
        status.send_if_modified(|status| {
            let news = status.safe_wal_bytes != state.safe_wal_bytes;
            status.safe_wal_bytes = state.safe_wal_bytes;
            news
        });
    }
    Ok(())
}

fn plan(
    snapshot: &mut Snapshot,
    needs: &[TableNeeds],
    tables: &[Table],
    publication: &Publication,
    types: &TypeNames,
    keys: &Keys,
) -> Vec<crate::snapshot::Copied> {
    needs
        .iter()
        .zip(tables)
        .filter(|(need, _)| need.ops.contains(Op::Read))
        .map(|(need, table)| snapshot.plan(need, table, publication, types, keys))
        .collect()
}

/// The tables of the mapping as they are now.
pub(crate) async fn mapped_tables(
    sql: &Sql,
    needs: &[TableNeeds],
) -> Result<(Vec<Table>, Keys), SourceError> {
    let mut tables = Vec::with_capacity(needs.len());
    let mut primary_keys = HashMap::new();
    for need in needs {
        let table = catalogue::table(sql, &need.table).await?;
        let table = table.ok_or_else(|| no_such_table(need))?;
        primary_keys.insert(need.table.clone(), table.primary_key.clone());
        tables.push(table);
    }
    Ok((tables, keys_of(needs, &primary_keys)))
}

/// Slot and publication of a pipeline.
#[must_use]
pub fn object_name(pipeline: &str) -> String {
    format!("rowbridge_{pipeline}")
}

fn interrupted() -> SourceError {
    SourceError::transient("stopped while reading the existing rows")
}

pub(crate) fn no_slot_wanted(name: &str) -> SourceError {
    SourceError::refused(
        State::Invalid,
        format!("slot {name} does not exist and create_slot is false"),
        format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput');"),
    )
}

fn gap(name: &str, position: &Position, confirmed: u64) -> SourceError {
    let confirmed = Position::new(confirmed);
    SourceError::refused(
        State::Gap,
        format!(
            "slot {name} was advanced to {confirmed} by someone else, while this pipeline has published up to \
             {position}: changes committed from {position} to {confirmed} are lost to it"
        ),
        format!(
            "`rowbridge position set {confirmed} --accept-gap` goes on and leaves them out; `rowbridge drop` and then \
             `rowbridge run` reads all rows again"
        ),
    )
}
