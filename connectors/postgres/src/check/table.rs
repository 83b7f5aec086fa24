//! What one mapped table must offer: columns and types as declared, a key, old values, rights.

use rowbridge_api::{ColumnNeed, Finding, Kind, Op, SourceError, TableNeeds};

use super::labels::{self, Labels};
use super::server::Server;
use super::{costing, error, warning};
use crate::catalogue::{self, Generated, Table, TypeNames};
use crate::publication::{self, Member};
use crate::sql::{Sql, quote, quote_table};

pub(crate) const FULL_COST: &str =
    "every UPDATE and DELETE then writes the whole old row to the WAL, not only its key";
/// From here on FULL together with an unpublished generated column fails updates on the source.
const GENERATED_COLUMNS_VERSION: i32 = 180_000;

/// What only a check asks of a table.
pub(super) struct Facts {
    pub(super) is_owner: bool,
    may_select: bool,
    may_use_schema: bool,
    has_row_security: bool,
    is_logged: bool,
    /// Columns of the replica identity, unless it is FULL.
    identity: Vec<String>,
    /// Leaves of a partitioned table that are not FULL, quoted.
    leaves_without_full: Vec<String>,
    /// Inheritance children.
    children: Vec<String>,
    /// The table or its leaves, quoted, where an UPDATE or DELETE fails once published.
    without_identity: Vec<String>,
    labels: Labels,
}

pub(super) async fn read(sql: &Sql, table: &Table) -> Result<Facts, SourceError> {
    let rows = sql
        .query(
            "read the rights on a table",
            "SELECT pg_has_role(c.relowner, 'USAGE'), \
                 has_schema_privilege(c.relnamespace, 'USAGE'), \
                 has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'), \
                 c.relrowsecurity AND NOT (pg_has_role(c.relowner, 'USAGE') AND NOT c.relforcerowsecurity), \
                 c.relpersistence = 'p', \
                 ARRAY(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a \
                       ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey) \
                       WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate AND CASE c.relreplident WHEN 'd' THEN i.indisprimary \
                             WHEN 'i' THEN i.indisreplident ELSE false END), \
                 ARRAY(SELECT format('%I.%I', ln.nspname, l.relname) FROM pg_partition_tree(c.oid) p \
                       JOIN pg_class l ON l.oid = p.relid JOIN pg_namespace ln ON ln.oid = l.relnamespace \
                       WHERE l.relkind = 'r' AND l.oid <> c.oid AND l.relreplident <> 'f'), \
                 ARRAY(SELECT format('%I.%I', hn.nspname, h.relname) FROM pg_inherits i \
                       JOIN pg_class h ON h.oid = i.inhrelid JOIN pg_namespace hn ON hn.oid = h.relnamespace \
                       WHERE i.inhparent = c.oid AND c.relkind = 'r' ORDER BY 1) \
             FROM pg_class c WHERE c.oid = $1",
            &[&table.oid],
        )
        .await?;
    let row = rows
        .first()
        .ok_or_else(|| SourceError::transient("a table vanished while it was checked"))?;
    Ok(Facts {
        is_owner: row.get(0),
        may_use_schema: row.get(1),
        may_select: row.get(2),
        has_row_security: row.get(3),
        is_logged: row.get(4),
        identity: row.get(5),
        leaves_without_full: row.get(6),
        children: row.get(7),
        without_identity: catalogue::without_identity(sql, table.oid).await?,
        labels: labels::read(sql, table).await?,
    })
}

/// A table beside what the mapping needs of it.
pub(super) struct Inspected<'a> {
    pub(super) need: &'a TableNeeds,
    pub(super) table: &'a Table,
    pub(super) facts: &'a Facts,
    pub(super) member: Option<&'a Member>,
    pub(super) publication: &'a str,
    /// The publication publishes updates or deletes, or will once it is created.
    pub(super) demands_identity: bool,
}

impl Inspected<'_> {
    pub(super) fn findings(&self, server: &Server, types: &TypeNames) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !matches!(self.table.kind, 'r' | 'p') || !self.facts.is_logged {
            findings.push(error(
                format!(
                    "{} is not an ordinary logged table: its changes cannot be published",
                    self.need.table
                ),
                "",
            ));
        }
        if !self.facts.children.is_empty() {
            findings.push(warning(
                format!(
                    "rows of {}, which inherit from {}, are not its rows here, although SELECT shows them: map these \
                     tables too if they matter",
                    self.facts.children.join(", "),
                    self.need.table
                ),
                "",
            ));
        }
        self.columns(types, &mut findings);
        findings.extend(labels::findings(self.need, &self.facts.labels));
        self.key(&mut findings);
        self.rights(server, &mut findings);
        self.row_filter(&mut findings);
        self.column_list(&mut findings);
        self.replica_identity(server, &mut findings);
        findings
    }

    fn columns(&self, types: &TypeNames, findings: &mut Vec<Finding>) {
        for column in &self.need.columns {
            let rules = column.rules.join(", ");
            let name = format!("{}.{}", self.need.table, column.name);
            let found = self
                .table
                .columns
                .iter()
                .find(|found| found.name == column.name);
            let Some(found) = found else {
                findings.push(error(
                    format!("column {name} does not exist; read by {rules}"),
                    &format!(
                        "-- take {} out of schema.toml and out of the rules, or add it to the table",
                        column.name
                    ),
                ));
                continue;
            };
            let ty = types.resolve(found.type_oid, found.type_modifier);
            if ty.kind != column.ty.kind {
                findings.push(error(
                    format!(
                        "column {name} is {} in the database and {} in schema.toml; read by {rules}",
                        ty.name, column.ty.name
                    ),
                    &schema_fix(column, &ty.name),
                ));
            } else if ty.name != column.ty.name && !is_same_text(column) {
                findings.push(warning(
                    format!(
                        "column {name} is {} in the database and {} in schema.toml, which reads the same",
                        ty.name, column.ty.name
                    ),
                    &schema_fix(column, &ty.name),
                ));
            }
            if found.generated == Generated::Yes && server_hides_generated(self.member, column) {
                findings.push(error(
                    format!(
                        "column {name} is generated and not published: rules {rules} cannot read it"
                    ),
                    "",
                ));
            }
        }
    }

    fn key(&self, findings: &mut Vec<Finding>) {
        let table = &self.need.table;
        let (key, primary) = (&self.need.key, &self.table.primary_key);
        if key.is_empty() && primary.is_empty() {
            findings.push(error(
                format!("table {table} has no primary key and the mapping names no key"),
                "",
            ));
        }
        let exists = |name: &&String| {
            self.table
                .columns
                .iter()
                .any(|column| column.name == **name)
        };
        for missing in key.iter().filter(|name| !exists(name)) {
            findings.push(error(
                format!("key column {table}.{missing} does not exist"),
                "",
            ));
        }
        let same = key.len() == primary.len() && key.iter().all(|name| primary.contains(name));
        if !key.is_empty() && !same && !key.iter().any(|name| !exists(&name)) {
            let primary = match primary.len() {
                0 => "there is no primary key".to_owned(),
                _ => format!("the primary key is ({})", primary.join(", ")),
            };
            findings.push(warning(
                format!(
                    "the mapping's key of {table} is ({}), but {primary}: nothing in the database holds it unique",
                    key.join(", ")
                ),
                "",
            ));
        }
    }

    fn rights(&self, server: &Server, findings: &mut Vec<Finding>) {
        if !self.need.ops.contains(Op::Read) {
            return;
        }
        let (role, table) = (quote(&server.role), &self.need.table);
        if !self.facts.may_use_schema {
            let schema = &table.schema;
            let finding = error(
                format!("role {} may not use schema {schema}", server.role),
                &format!("GRANT USAGE ON SCHEMA {} TO {role};", quote(schema)),
            );
            findings.push(finding);
        }
        if !self.facts.may_select {
            findings.push(error(
                format!("role {} may not read table {table}", server.role),
                &format!("GRANT SELECT ON {} TO {role};", quote_table(table)),
            ));
        }
        if self.facts.has_row_security && !server.bypasses_row_security {
            findings.push(error(
                format!(
                    "row security of {table} would hide existing rows from role {}",
                    server.role
                ),
                &format!("ALTER ROLE {role} BYPASSRLS;"),
            ));
        }
    }

    fn row_filter(&self, findings: &mut Vec<Finding>) {
        if let Some(filter) = self.member.and_then(|member| member.filter.as_ref()) {
            findings.push(warning(
                format!(
                    "publication {} has a row filter for {}, {filter}: other rows are not seen, and a row that enters \
                     or leaves it comes as an insert or a delete",
                    self.publication, self.need.table
                ),
                "",
            ));
        }
    }

    /// A column list that leaves out what rules read.
    fn column_list(&self, findings: &mut Vec<Finding>) {
        let Some(listed) = self.listed() else {
            return;
        };
        let hidden: Vec<&str> = self
            .need
            .columns
            .iter()
            .filter(|column| !listed.contains(&column.name))
            .map(|column| column.name.as_str())
            .collect();
        if !hidden.is_empty() {
            findings.push(error(
                format!(
                    "publication {} leaves out columns {} of {}, which rules read",
                    self.publication,
                    hidden.join(", "),
                    self.need.table
                ),
                &self.without_column_list(),
            ));
        }
    }

    /// The publication's column list, if it has one: the view also lists all columns where it has none.
    fn listed(&self) -> Option<&Vec<String>> {
        let listed = self.member?.columns.as_ref()?;
        let plain = self.table.columns.iter();
        let mut plain = plain.filter(|column| column.generated == Generated::No);
        plain
            .any(|column| !listed.contains(&column.name))
            .then_some(listed)
    }

    fn without_column_list(&self) -> String {
        let (publication, table) = (quote(self.publication), publication::only(&self.need.table));
        format!(
            "ALTER PUBLICATION {publication} DROP TABLE {table}; ALTER PUBLICATION {publication} ADD TABLE {table};"
        )
    }

    fn replica_identity(&self, server: &Server, findings: &mut Vec<Finding>) {
        let table = &self.need.table;
        let old: Vec<&ColumnNeed> = self
            .need
            .columns
            .iter()
            .filter(|column| column.before)
            .collect();
        let is_full =
            self.table.replica_identity == 'f' && self.facts.leaves_without_full.is_empty();
        let hidden: Vec<&&ColumnNeed> = old
            .iter()
            .filter(|column| !self.facts.identity.contains(&column.name))
            .collect();
        let none = self.demands_identity && !self.facts.without_identity.is_empty();
        if !is_full && !hidden.is_empty() {
            let names: Vec<&str> = hidden.iter().map(|column| column.name.as_str()).collect();
            let mut rules: Vec<&str> = hidden
                .iter()
                .flat_map(|column| &column.rules)
                .map(String::as_str)
                .collect();
            rules.sort_unstable();
            rules.dedup();
            let problem = format!(
                "table {table} does not send the old values of {}, which {} read",
                names.join(", "),
                rules.join(", ")
            );
            findings.push(costing(error(problem, &self.full_statement()), FULL_COST));
        } else if none {
            let without = self.facts.without_identity.join(", ");
            let problem = format!(
                "table {table} has no replica identity ({without}): once published, every UPDATE and DELETE of it would \
                 fail"
            );
            let statements = self.facts.without_identity.iter();
            let statements =
                statements.map(|table| format!("ALTER TABLE {table} REPLICA IDENTITY FULL;"));
            let fix = statements.collect::<Vec<_>>().join(" ");
            findings.push(costing(error(problem, &fix), FULL_COST));
        }
        let will_be_full = is_full || !hidden.is_empty() || none;
        if will_be_full && let Some(_listed) = self.listed() {
            findings.push(error(
                format!(
                    "publication {} has a column list for {table}: with REPLICA IDENTITY FULL every UPDATE and DELETE of \
                     it would fail",
                    self.publication
                ),
                &self.without_column_list(),
            ));
        }
        let generated = self
            .table
            .columns
            .iter()
            .any(|column| column.generated == Generated::Yes && !self.publishes(&column.name));
        if will_be_full && generated && server.version >= GENERATED_COLUMNS_VERSION {
            findings.push(error(
                format!(
                    "table {table} has a generated column that is not published: with REPLICA IDENTITY FULL every UPDATE \
                     of it would fail on this version"
                ),
                &format!(
                    "ALTER PUBLICATION {} SET (publish_generated_columns = stored);",
                    quote(self.publication)
                ),
            ));
        }
    }

    fn publishes(&self, column: &String) -> bool {
        let listed = self.member.and_then(|member| member.columns.as_ref());
        listed.is_some_and(|listed| listed.contains(column))
    }

    fn full_statement(&self) -> String {
        let own = (self.table.replica_identity != 'f').then(|| quote_table(&self.need.table));
        let statements = own.iter().chain(&self.facts.leaves_without_full);
        let statements =
            statements.map(|table| format!("ALTER TABLE {table} REPLICA IDENTITY FULL;"));
        statements.collect::<Vec<_>>().join(" ")
    }
}

/// What makes schema.toml agree with the database; a comment to psql, which has nothing to do here.
fn schema_fix(column: &ColumnNeed, actual: &str) -> String {
    format!("-- schema.toml: {} = \"{actual}\"", column.name)
}

/// Every type without a form of its own is read as text: an enum may be declared so.
fn is_same_text(column: &ColumnNeed) -> bool {
    column.ty.kind == Kind::Text && column.ty.name == "text"
}

fn server_hides_generated(member: Option<&Member>, column: &ColumnNeed) -> bool {
    let listed = member.and_then(|member| member.columns.as_ref());
    !listed.is_some_and(|listed| listed.contains(&column.name))
}
