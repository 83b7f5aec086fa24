//! The source of a live dry-run: a temporary slot that vanishes with its session, from now on.
//!
//! Nothing of it stays behind: the slot is the session's, and a publication of its own is dropped when the
//! run ends. It reads existing rows only of tables that rules look into, and competes with no running instance.

use std::convert::Infallible;

use rowbridge_api::{
    Claim, Finding, Ownership, Position, Remembers, Source, SourceError, SourceIo, State,
    TableName, TableNeeds,
};

use crate::assembler::Assembler;
use crate::catalogue::TypeNames;
use crate::check;
use crate::config::PostgresConfig;
use crate::publication;
use crate::slot::{PLUGIN, start_statement};
use crate::snapshot::Snapshot;
use crate::source::{mapped_tables, object_name};
use crate::sql::{Sql, quote};
use crate::stream::Stream;
use crate::synchronous;
use crate::timeline;
use crate::wire::{Link, Purpose};

/// Through which publication a preview looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreviewPublication {
    /// The pipeline's, which must exist.
    OfPipeline,
    /// One made for the run and dropped after it.
    Temporary,
}

/// See the module's documentation.
pub struct PreviewSource {
    config: PostgresConfig,
    /// Name of slot and publication of the pipeline.
    name: String,
    publication: PreviewPublication,
    /// Tables whose existing rows are read, as of the moment from which it streams.
    looked_into: Vec<TableName>,
    session: Option<Session>,
}

struct Session {
    sql: Sql,
    link: Link,
}

impl PreviewSource {
    /// A preview of `pipeline`.
    #[must_use]
    pub fn new(config: PostgresConfig, pipeline: &str, publication: PreviewPublication) -> Self {
        Self {
            config,
            name: object_name(pipeline),
            publication,
            looked_into: Vec::new(),
            session: None,
        }
    }

    /// Reads the existing rows of these tables first.
    #[must_use]
    pub fn looking_into(self, looked_into: Vec<TableName>) -> Self {
        Self {
            looked_into,
            ..self
        }
    }

    async fn stream(
        &self,
        session: &mut Session,
        publication: &str,
        io: &mut SourceIo,
    ) -> Result<(), SourceError> {
        let Session { sql, link } = session;
        let types = TypeNames::read(sql).await?;
        let (tables, keys) = mapped_tables(sql, &io.tables).await?;
        let slot = format!("rowbridge_preview_{}", link.backend_pid());
        let create = format!(
            "CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL {PLUGIN} EXPORT_SNAPSHOT",
            quote(&slot)
        );
        let doing = "cannot create a temporary slot";
        let snapshot = match self.looked_into.is_empty() {
            true => None,
            false => {
                let opened = Snapshot::open(&self.config).await;
                Some(opened.map_err(|error| error.while_doing("cannot open a session"))?)
            }
        };
        let rows = link.query(&create).await;
        let rows = rows.map_err(|error| error.while_doing(doing))?;
        let column = |number: usize| rows.first().and_then(|row| row.get(number)?.as_ref());
        let point = column(1).and_then(|text| text.parse::<Position>().ok());
        let point = point.ok_or_else(|| SourceError::transient(doing))?.order();
        let exported = column(2).ok_or_else(|| SourceError::transient(doing))?;
        let mut next_shape = 0;
        if let Some(mut snapshot) = snapshot {
            snapshot.import(exported, point).await?;
            let found = publication::read(sql, publication).await?;
            let found = found.ok_or_else(|| publication::gone(publication, &io.tables))?;
            let wanted = io.tables.iter().zip(&tables);
            let wanted = wanted.filter(|(need, _)| self.looked_into.contains(&need.table));
            let plan =
                wanted.map(|(need, table)| snapshot.plan(need, table, &found, &types, &keys));
            let plan = plan.collect();
            next_shape = snapshot.send(plan, io, &self.config, point).await?;
        }
        let started = link.start_copy(&start_statement(&slot, publication)).await;
        started.map_err(|error| error.while_doing("cannot start streaming"))?;
        let assembler = Assembler::new(keys, types, point, next_shape);
        Stream::new(link, io, &self.config.limits, assembler, point)
            .run()
            .await
    }

    /// The publication to look through.
    async fn prepare(&self, session: &Session, io: &SourceIo) -> Result<String, SourceError> {
        let sql = &session.sql;
        match self.publication {
            PreviewPublication::OfPipeline => match publication::read(sql, &self.name).await? {
                Some(found) => {
                    publication::unchanged(&found, &self.name, &io.tables)?;
                    Ok(self.name.clone())
                }
                None => Err(SourceError::refused(
                    State::Invalid,
                    format!("publication {} does not exist", self.name),
                    format!(
                        "create it: {} or let the dry-run make and drop its own: --create-publication",
                        publication::create_statement(&self.name, &io.tables)
                    ),
                )),
            },
            PreviewPublication::Temporary => {
                let name = format!("rowbridge_preview_{}", session.link.backend_pid());
                let create = publication::create_statement(&name, &io.tables);
                let tables: Vec<_> = io.tables.iter().map(|need| &need.table).collect();
                publication::refuse_to_break(sql, &tables).await?;
                sql.execute("create a publication for the dry-run", &create)
                    .await?;
                Ok(name)
            }
        }
    }
}

impl Source for PreviewSource {
    async fn check(&mut self, needs: &[TableNeeds]) -> Result<Vec<Finding>, SourceError> {
        let sql = Sql::connect(&self.config).await?;
        check::findings(&sql, &self.config, &self.name, needs).await
    }

    /// Always the only reader: the slot will be this session's.
    async fn own(&mut self) -> Result<Claim, SourceError> {
        let sql = Sql::connect(&self.config).await?;
        synchronous::read(&sql).await?.refuse()?;
        let link = Link::connect(&self.config, Purpose::Replication).await;
        let mut link =
            link.map_err(|error| error.while_doing("cannot open a replication session"))?;
        let timeline = timeline::read(&mut link, &self.config.database).await?;
        self.session = Some(Session { sql, link });
        Ok(Claim::Owned(Ownership {
            identity: timeline.identity,
            remembers: Remembers::Nothing,
            exclusive: true,
        }))
    }

    async fn hold(&mut self) -> Result<Infallible, SourceError> {
        std::future::pending().await
    }

    /// Streams from now on, whatever `io.start` says.
    async fn run(&mut self, mut io: SourceIo) -> Result<(), SourceError> {
        let session = self.session.take();
        let mut session = session.ok_or_else(|| SourceError::transient("nothing is owned"))?;
        let publication = self.prepare(&session, &io).await?;
        let ended = self.stream(&mut session, &publication, &mut io).await;
        if self.publication == PreviewPublication::Temporary {
            let drop = format!("DROP PUBLICATION IF EXISTS {};", quote(&publication));
            let dropped = session
                .sql
                .execute("drop the dry-run's publication", &drop)
                .await;
            return ended.and(dropped);
        }
        ended
    }
}
