//! `rowbridge.toml`. No secret ever gets here: what it is made of has none.

use super::toml_text::{Entry, comment, entries, string};

/// What is tailed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    Postgres,
    MongoDb,
}

impl SourceKind {
    /// The variable that may hold the password.
    #[must_use]
    pub const fn password_variable(self) -> &'static str {
        match self {
            Self::Postgres => "ROWBRIDGE_SOURCE__POSTGRES__PASSWORD",
            Self::MongoDb => "ROWBRIDGE_SOURCE__MONGODB__PASSWORD",
        }
    }

    /// Its name as a key.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MongoDb => "mongodb",
        }
    }
}

/// What the configuration says; secrets are named, never given.
#[derive(Clone, Debug)]
pub struct Connection {
    pub kind: SourceKind,
    /// Without a password.
    pub url: String,
    /// `disable`, `require`, `verify-ca` or `verify-full`; nothing where the URL says it.
    pub tls: Option<String>,
    /// Files by the key that names each, such as `ca_file`.
    pub files: Vec<(String, String)>,
    pub brokers: Option<String>,
    /// librdkafka properties of another configuration, by name only.
    pub properties: Vec<String>,
}

/// The whole file; its mapping is the folder it stands in.
pub(super) fn text(pipeline: &str, connection: &Connection) -> String {
    let mut text = comment(
        "Written by `rowbridge init`. docs/configuration.md describes every key; any of them may come from the \
         environment instead.",
    );
    text.push_str(&entries(&[
        Entry::new("pipeline", string(pipeline)).commented(match connection.kind {
            SourceKind::Postgres => "for good: it names slot, publication and topics",
            SourceKind::MongoDb => "for good: it names the pipeline's own topics",
        }),
        Entry::new("mapping", string(".")),
    ]));
    let kind = connection.kind.as_str();
    let mut source = vec![Entry::new("url", string(&connection.url))];
    source.extend(connection.tls.as_ref().map(|tls| {
        Entry::new("tls", string(tls)).commented("disable | require | verify-ca | verify-full")
    }));
    let has_password = connection
        .files
        .iter()
        .any(|(key, _)| key == "password_file");
    if !has_password {
        source.push(
            Entry::new("password_file", string(&format!("/run/secrets/{kind}")))
                .commented(format!(
                    "or in the environment: {}",
                    connection.kind.password_variable()
                ))
                .offered(),
        );
    }
    source.extend(
        connection
            .files
            .iter()
            .map(|(key, path)| Entry::new(key, string(path))),
    );
    text.push_str(&format!("\n[source.{kind}]\n"));
    text.push_str(&entries(&source));
    let brokers = match &connection.brokers {
        Some(brokers) => Entry::new("brokers", string(brokers)),
        None => Entry::new("brokers", string("localhost:9092")).commented("yours"),
    };
    text.push_str("\n[sink.kafka]\n");
    text.push_str(&entries(&[brokers]));
    if !connection.properties.is_empty() {
        text.push_str(&comment(&format!(
            "[sink.kafka.properties] of the configuration that was given are not copied, since some are secrets: {}.",
            connection.properties.join(", ")
        )));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_for_a_new_pipeline() {
        let connection = Connection {
            kind: SourceKind::Postgres,
            url: "postgres://app@db:5432/sales".to_owned(),
            tls: Some("verify-full".to_owned()),
            files: Vec::new(),
            brokers: None,
            properties: Vec::new(),
        };
        holds(&connection);
        insta::assert_snapshot!(text("sales", &connection));
        let connection = Connection {
            kind: SourceKind::MongoDb,
            url: "mongodb://app@db:27017/sales?replicaSet=rs0".to_owned(),
            tls: None,
            ..connection
        };
        holds(&connection);
        insta::assert_snapshot!("of_mongodb", text("sales", &connection));
    }

    /// It is a configuration as it stands.
    fn holds(connection: &Connection) {
        let text = text("sales", connection);
        let config =
            crate::config::Config::from_text(std::path::Path::new("x/rowbridge.toml"), &text, &[]);
        assert_eq!(config.unwrap().mapping, std::path::Path::new("x/."));
    }
}
