//! Everything on the server that would keep a pipeline from running or endanger it, each with its fix.
//!
//! Reads only. Every finding stands for itself and they come in the order in which the fixes can be
//! applied: what a table needs comes before the publication that would break it without. A fix is one
//! statement to paste into psql, as a superuser or owner where the pipeline's role may not.

mod labels;
mod partitions;
mod server;
mod table;

use rowbridge_api::{Finding, Severity, SourceError, TableNeeds};

use crate::catalogue;
use crate::config::PostgresConfig;
use crate::publication::{self, Publication};
use crate::slot;
use crate::sql::{Sql, quote};

pub(crate) use self::table::FULL_COST;
use self::table::Inspected;

/// All findings at once.
pub(crate) async fn findings(
    sql: &Sql,
    config: &PostgresConfig,
    name: &str,
    needs: &[TableNeeds],
) -> Result<Vec<Finding>, SourceError> {
    let server = server::read(sql).await?;
    let publication = publication::read(sql, name).await?;
    let slot = slot::read(sql, name).await?;
    let types = catalogue::TypeNames::read(sql).await?;
    let mut findings = server.findings(slot.is_some());
    let mut owns_all = true;
    for need in needs {
        let Some(table) = catalogue::table(sql, &need.table).await? else {
            findings.push(error(format!("table {} does not exist", need.table), ""));
            continue;
        };
        let facts = table::read(sql, &table).await?;
        let inspected = Inspected {
            need,
            table: &table,
            facts: &facts,
            member: publication
                .as_ref()
                .and_then(|found| found.tables.get(&need.table)),
            publication: name,
            demands_identity: publication
                .as_ref()
                .is_none_or(Publication::demands_identity),
        };
        findings.extend(inspected.findings(&server, &types));
        if table.kind == 'p' {
            findings.extend(partitions::findings(sql, &table, need).await?);
        }
        owns_all &= facts.is_owner;
    }
    // Without a table nobody knows yet what it would have to cover.
    if !needs.is_empty() {
        let ask = PublicationCheck {
            name,
            needs,
            may_create: config.create_publication && owns_all,
        };
        findings.extend(ask.findings(publication.as_ref(), &server));
    }
    match slot {
        Some(slot) => findings.extend(slot_finding(slot.usable(&config.database))),
        None if !config.create_slot => findings.push(error(
            format!("slot {name} does not exist and create_slot is false"),
            &format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput');"),
        )),
        None => {}
    }
    Ok(findings)
}

fn slot_finding(usable: Result<(), SourceError>) -> Option<Finding> {
    match usable {
        Err(SourceError::Refused { problem, hint, .. }) => Some(error(problem, &hint)),
        _ => None,
    }
}

struct PublicationCheck<'a> {
    name: &'a str,
    needs: &'a [TableNeeds],
    /// We are told to create it and own every table; the right on the database is a finding of its own.
    may_create: bool,
}

impl PublicationCheck<'_> {
    fn findings(&self, found: Option<&Publication>, server: &server::Server) -> Vec<Finding> {
        let Some(publication) = found else {
            return self.missing(server).into_iter().collect();
        };
        let mut findings = Vec::new();
        let missing = publication.missing(self.needs);
        if !missing.is_empty() && !self.may_create {
            let tables: Vec<String> = missing.iter().map(ToString::to_string).collect();
            findings.push(error(
                format!(
                    "publication {} does not cover {}",
                    self.name,
                    tables.join(", ")
                ),
                &publication::add_statement(self.name, &missing),
            ));
        }
        let silent = publication.unpublished(self.needs);
        if !silent.is_empty() {
            findings.push(error(
                format!(
                    "publication {} does not publish {}, which rules fire on",
                    self.name,
                    silent.join(", ")
                ),
                &format!(
                    "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate');",
                    quote(self.name)
                ),
            ));
        }
        let apart = publication.apart(self.needs);
        if !apart.is_empty() {
            let tables: Vec<String> = apart.iter().map(ToString::to_string).collect();
            findings.push(error(
                format!(
                    "publication {} publishes the partitions of {} under their own names, not the mapped table's",
                    self.name,
                    tables.join(", ")
                ),
                &publication::via_root_statement(self.name),
            ));
        }
        findings
    }

    fn missing(&self, server: &server::Server) -> Option<Finding> {
        if self.may_create {
            return (!server.may_create).then(|| {
                error(
                    format!(
                        "role {} may not create the publication in database {}",
                        server.role, server.database
                    ),
                    &format!(
                        "GRANT CREATE ON DATABASE {} TO {};",
                        quote(&server.database),
                        quote(&server.role)
                    ),
                )
            });
        }
        Some(error(
            format!(
                "publication {} does not exist, and role {} cannot create it: create_publication is false, or the role \
                 does not own the tables",
                self.name, server.role
            ),
            &publication::create_statement(self.name, self.needs),
        ))
    }
}

fn error(problem: String, fix: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        problem,
        fix: fix.to_owned(),
        cost: None,
    }
}

fn warning(problem: String, fix: &str) -> Finding {
    Finding {
        severity: Severity::Warning,
        ..error(problem, fix)
    }
}

fn costing(finding: Finding, cost: &str) -> Finding {
    Finding {
        cost: Some(cost.to_owned()),
        ..finding
    }
}
