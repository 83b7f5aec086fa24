//! Findings: what would keep a pipeline from running or endanger it, each with the command that fixes it.

use std::collections::BTreeSet;

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::Client;
use rowbridge_api::{Finding, Op, Severity, SourceError, State, TableName, TableNeeds};

use crate::client::{self, Deployment, DeploymentKind};
use crate::config::OnDrop;
use crate::error::{failed, server_code};
use crate::oplog;

const DOING: &str = "cannot look at the collections";
/// What it costs to keep images before a change.
pub(crate) const IMAGES_COST: &str = "each update and delete also writes the document before it; they are kept for \
     changeStreamOptions.preAndPostImages.expireAfterSeconds, by default as long as the oplog";

/// A collection as it is.
struct Found {
    exists: bool,
    keeps_images: bool,
    is_view: bool,
}

/// Everything at once.
pub(crate) async fn findings(
    client: &Client,
    needs: &[TableNeeds],
) -> Result<Vec<Finding>, SourceError> {
    let deployment = client::deployment(client)
        .await
        .map_err(|error| failed("cannot reach MongoDB", error))?;
    let mut findings: Vec<_> = deployment_findings(&deployment).into_iter().collect();
    findings.extend(rights(client, &deployment, needs).await?);
    for need in needs {
        match look(client, &need.table).await {
            Ok(found) => findings.extend(collection_findings(need, &found)),
            // Without the right to look, the finding about rights says so.
            Err(SourceError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if deployment.kind != DeploymentKind::Standalone {
        findings.extend(oplog::finding(client).await);
    }
    Ok(findings)
}

/// What must not be started with: a rule would never see what it reads. With [`OnDrop::Continue`] a collection may be
/// gone, and come again.
pub(crate) async fn refuse(
    client: &Client,
    needs: &[TableNeeds],
    on_drop: OnDrop,
) -> Result<(), SourceError> {
    for need in needs {
        let found = look(client, &need.table).await?;
        if !found.exists && on_drop == OnDrop::Continue {
            tracing::warn!(collection = %need.table, "does not exist (yet)");
            continue;
        }
        let errors = collection_findings(need, &found);
        if let Some(finding) = errors
            .into_iter()
            .find(|finding| finding.severity == Severity::Error)
        {
            return Err(SourceError::refused(
                State::Invalid,
                finding.problem,
                finding.fix,
            ));
        }
    }
    Ok(())
}

fn deployment_findings(deployment: &Deployment) -> Option<Finding> {
    match deployment.refuse() {
        Err(SourceError::Refused { problem, hint, .. }) => Some(Finding {
            severity: Severity::Error,
            problem,
            fix: hint,
            cost: None,
        }),
        _ => None,
    }
}

async fn look(client: &Client, table: &TableName) -> Result<Found, SourceError> {
    let database = client.database(&table.schema);
    let listed = database
        .run_cursor_command(doc! { "listCollections": 1, "filter": { "name": &table.name } })
        .await;
    let listed = listed.map_err(|error| failed(DOING, error))?;
    let listed: Vec<Document> = listed
        .try_collect()
        .await
        .map_err(|error| failed(DOING, error))?;
    let Some(info) = listed.first() else {
        return Ok(Found {
            exists: false,
            keeps_images: false,
            is_view: false,
        });
    };
    Ok(Found {
        exists: true,
        keeps_images: keeps_images(info),
        is_view: info.get_str("type").is_ok_and(|kind| kind == "view"),
    })
}

/// What `listCollections` says of images before a change.
pub(crate) fn keeps_images(info: &Document) -> bool {
    info.get_document("options")
        .and_then(|options| options.get_document("changeStreamPreAndPostImages"))
        .and_then(|images| images.get_bool("enabled"))
        .unwrap_or(false)
}

/// The command that makes an existing collection keep images before a change.
pub(crate) fn enabling_images(table: &TableName) -> String {
    images_command("collMod", table)
}

fn images_command(command: &str, table: &TableName) -> String {
    run_command(
        &table.schema,
        &format!(
            "{}: {}, \"changeStreamPreAndPostImages\": {{ \"enabled\": true }}",
            quoted(command),
            quoted(&table.name)
        ),
    )
}

fn collection_findings(need: &TableNeeds, found: &Found) -> Vec<Finding> {
    let table = &need.table;
    if found.is_view {
        return vec![Finding {
            severity: Severity::Error,
            problem: format!("{table} is a view: it has no changes of its own"),
            fix: "map the collection that it is made from".to_owned(),
            cost: None,
        }];
    }
    let command = match found.exists {
        true => enabling_images(table),
        false => images_command("create", table),
    };
    let mut findings = Vec::new();
    if !found.exists {
        findings.push(Finding {
            severity: Severity::Warning,
            problem: format!("{table} does not exist (yet)"),
            fix: command.clone(),
            cost: None,
        });
    }
    if found.keeps_images {
        return findings;
    }
    // Every event tells the id, which never changes.
    let before: Vec<_> = need
        .columns
        .iter()
        .filter(|column| column.before && column.name != "_id")
        .collect();
    let changes = need.ops.contains(Op::Update) || need.ops.contains(Op::Delete);
    if !before.is_empty() {
        let columns: Vec<_> = before.iter().map(|column| column.name.as_str()).collect();
        let rules: BTreeSet<_> = before
            .iter()
            .flat_map(|column| &column.rules)
            .map(String::as_str)
            .collect();
        let rules: Vec<_> = rules.into_iter().collect();
        findings.push(Finding {
            severity: Severity::Error,
            problem: format!(
                "{table} keeps no documents as they were before a change, and {} read {} there",
                rules.join(", "),
                columns.join(", ")
            ),
            fix: command,
            cost: Some(IMAGES_COST.to_owned()),
        });
    } else if changes {
        findings.push(Finding {
            severity: Severity::Warning,
            problem: format!(
                "{table} keeps no documents as they were before a change: of an update only the fields that it set are \
                 known, and rules that read others fail"
            ),
            fix: command,
            cost: Some(IMAGES_COST.to_owned()),
        });
    }
    findings
}

/// The role with every right that is used, and whether this user has them.
async fn rights(
    client: &Client,
    deployment: &Deployment,
    needs: &[TableNeeds],
) -> Result<Option<Finding>, SourceError> {
    let status = client
        .database("admin")
        .run_command(doc! { "connectionStatus": 1, "showPrivileges": true })
        .await;
    let status = status.map_err(|error| failed("cannot read this user's rights", error))?;
    let info = status.get_document("authInfo").cloned().unwrap_or_default();
    let users = info.get_array("authenticatedUsers").map_or(0, Vec::len);
    if users == 0 && is_open(client).await {
        return Ok(None); // No access control.
    }
    let privileges: Vec<&Document> = info
        .get_array("authenticatedUserPrivileges")
        .map(|privileges| privileges.iter().filter_map(Bson::as_document).collect())
        .unwrap_or_default();
    let user = info
        .get_array("authenticatedUsers")
        .ok()
        .and_then(|users| users.first()?.as_document().cloned())
        .unwrap_or_default();
    let mut needed = needed(deployment, needs);
    let observing = observing(deployment);
    let missing = missing(&needed, &privileges);
    if !missing.is_empty() {
        needed.extend(observing);
        return Ok(Some(Finding {
            severity: Severity::Error,
            problem: format!("this user may not {}", missing.join(", nor ")),
            fix: role("rowbridge", &needed, &user),
            cost: None,
        }));
    }
    let missing = self::missing(&observing, &privileges);
    Ok((!missing.is_empty()).then(|| Finding {
        severity: Severity::Warning,
        problem: format!(
            "how far the oplog reaches cannot be seen, nor rowbridge_source_oplog_window_seconds told: this user may not {}",
            missing.join(", nor ")
        ),
        fix: role("rowbridge_oplog", &observing, &user),
        cost: None,
    }))
}

fn missing(rights: &[Right], privileges: &[&Document]) -> Vec<String> {
    rights
        .iter()
        .filter(|right| !right.is_given(privileges))
        .map(Right::to_string)
        .collect()
}

/// The commands that make a role of these rights and give it to the user.
fn role(name: &str, rights: &[Right], user: &Document) -> String {
    let privileges: Vec<String> = rights.iter().map(Right::privilege).collect();
    let create = format!(
        "\"createRole\": {}, \"roles\": [], \"privileges\": [ {} ]",
        quoted(name),
        privileges.join(", ")
    );
    let grant = format!(
        "\"grantRolesToUser\": {}, \"roles\": [ {{ \"role\": {}, \"db\": \"admin\" }} ]",
        quoted(user.get_str("user").unwrap_or("rowbridge")),
        quoted(name)
    );
    let database = user.get_str("db").unwrap_or("admin");
    [run_command("admin", &create), run_command(database, &grant)].join("\n")
}

/// Whether somebody who is nobody may do everything.
async fn is_open(client: &Client) -> bool {
    let looked = client
        .database("local")
        .run_command(doc! { "listCollections": 1, "nameOnly": true })
        .await;
    !matches!(looked, Err(error) if server_code(&error) == Some(13))
}

/// Actions on a resource.
struct Right {
    /// Nothing: the cluster.
    database: Option<String>,
    /// Empty: every collection.
    collection: String,
    actions: Vec<&'static str>,
}

impl Right {
    fn is_given(&self, privileges: &[&Document]) -> bool {
        self.actions.iter().all(|action| {
            privileges.iter().any(|privilege| {
                let has_action = privilege.get_array("actions").is_ok_and(|actions| {
                    actions.iter().any(|given| given.as_str() == Some(action))
                });
                has_action
                    && privilege
                        .get_document("resource")
                        .is_ok_and(|resource| self.is_in(resource))
            })
        })
    }

    fn is_in(&self, resource: &Document) -> bool {
        if resource.get_bool("anyResource").unwrap_or(false) {
            return true;
        }
        let Some(database) = &self.database else {
            return resource.get_bool("cluster").unwrap_or(false);
        };
        let matches = |name: &str, wanted: &str| {
            resource
                .get_str(name)
                .is_ok_and(|given| given == wanted || given.is_empty())
        };
        matches("db", database) && matches("collection", &self.collection)
    }

    /// As a role's definition has it.
    fn privilege(&self) -> String {
        let resource = match &self.database {
            None => "{ \"cluster\": true }".to_owned(),
            Some(database) => format!(
                "{{ \"db\": {}, \"collection\": {} }}",
                quoted(database),
                quoted(&self.collection)
            ),
        };
        let actions: Vec<_> = self.actions.iter().map(|action| quoted(action)).collect();
        format!(
            "{{ \"resource\": {resource}, \"actions\": [ {} ] }}",
            actions.join(", ")
        )
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match (&self.database, self.collection.as_str()) {
            (None, _) => "the cluster".to_owned(),
            (Some(database), "") => format!("database {database}"),
            (Some(database), collection) => format!("{database}.{collection}"),
        };
        write!(f, "{} on {place}", self.actions.join(", "))
    }
}

/// What `oplog` looks with: numbers only. A router of shards has none of them.
fn observing(deployment: &Deployment) -> Vec<Right> {
    if deployment.kind == DeploymentKind::Sharded {
        return Vec::new();
    }
    vec![
        Right {
            database: None,
            collection: String::new(),
            actions: vec!["serverStatus"],
        },
        Right {
            database: Some("local".to_owned()),
            collection: "oplog.rs".to_owned(),
            actions: vec!["collStats"],
        },
    ]
}

/// What it does not run without.
fn needed(deployment: &Deployment, needs: &[TableNeeds]) -> Vec<Right> {
    let databases: BTreeSet<&str> = needs
        .iter()
        .map(|need| need.table.schema.as_str())
        .collect();
    let streams = match databases.len() {
        // One stream over several databases is one over all.
        2.. => vec![""],
        _ => databases.iter().copied().collect(),
    };
    let mut rights: Vec<Right> = streams
        .into_iter()
        .map(|database| Right {
            database: Some(database.to_owned()),
            collection: String::new(),
            actions: vec!["find", "changeStream", "listCollections"],
        })
        .collect();
    rights.push(match deployment.kind {
        DeploymentKind::Sharded => Right {
            database: Some("config".to_owned()),
            collection: "version".to_owned(),
            actions: vec!["find"],
        },
        _ => Right {
            database: None,
            collection: String::new(),
            actions: vec!["replSetGetConfig"],
        },
    });
    rights
}

/// A command for the shell, whose document is JSON.
fn run_command(database: &str, fields: &str) -> String {
    format!(
        "db.getSiblingDB({}).runCommand({{ {fields} }})",
        quoted(database)
    )
}

/// A string as JavaScript has it.
fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    rowbridge_api::value::write_json_string(text, &mut out);
    String::from_utf8(out).unwrap_or_default()
}
