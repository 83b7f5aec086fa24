//! Servers that want to know who comes: PostgreSQL with TLS and lines of pg_hba.conf of a test's own, Kafka with SCRAM inside
//! TLS, client certificates and rights.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::certificates::{Authority, Issued};
use crate::postgres::Postgres;

const RELOAD_DEADLINE: Duration = Duration::from_secs(10);
const RELOAD_POLL: Duration = Duration::from_millis(20);
/// The mechanisms by which a guarded broker knows its users, beside PLAIN.
const SCRAM: [&str; 2] = ["SCRAM-SHA-512", "SCRAM-SHA-256"];

impl Postgres {
    /// Writes a file into the data folder, where settings find it by its bare name; only the server may read it.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn write_file(&self, name: &str, text: &str) -> Result<()> {
        let copy = format!(
            "COPY (SELECT unnest(string_to_array($text${}$text$, E'\\n'))) TO PROGRAM 'umask 077 && cat > {name}'",
            text.trim_end()
        );
        self.sql(&copy).await.map(drop)
    }

    /// Turns TLS on with a certificate, which replaces the one before; clients may show certificates that `trusted` signed.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn use_tls(&self, certificate: &Issued, trusted: &Authority) -> Result<()> {
        self.write_file("server.crt", &certificate.certificate)
            .await?;
        self.write_file("server.key", &certificate.key).await?;
        self.write_file("trusted.crt", trusted.pem()).await?;
        // Not in one batch: ALTER SYSTEM runs outside of transactions.
        self.sql("ALTER SYSTEM SET ssl_ca_file = 'trusted.crt'")
            .await?;
        self.sql("ALTER SYSTEM SET ssl = on").await?;
        self.reload().await
    }

    /// Replaces pg_hba.conf: the superuser comes in as always, everybody else by `lines`, of which the first that fits counts.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn let_in(&self, lines: &[&str]) -> Result<()> {
        let always = ["local all postgres trust", "host all postgres all trust"];
        let text = [&always[..], lines].concat().join("\n");
        self.write_file("pg_hba.conf", &text).await?;
        self.reload().await
    }

    /// Makes the server read its files again, and waits until it has.
    async fn reload(&self) -> Result<()> {
        let loaded = "SELECT pg_conf_load_time()";
        let before = self.sql(loaded).await?;
        self.sql("SELECT pg_reload_conf()").await?;
        let until = Instant::now() + RELOAD_DEADLINE;
        while self.sql(loaded).await? == before {
            if Instant::now() >= until {
                bail!("the server did not read its files again within {RELOAD_DEADLINE:?}");
            }
            tokio::time::sleep(RELOAD_POLL).await;
        }
        Ok(())
    }
}

/// How a broker with [`crate::KafkaBuilder::guarded`] knows its clients.
pub struct KafkaGuard {
    server: Issued,
    trusted: String,
    users: Vec<(String, String)>,
}

impl KafkaGuard {
    /// A broker that shows `server`, believes client certificates of `trusted`, and knows these users and passwords by
    /// SCRAM and PLAIN. Nobody has any right but `admin` and whoever comes by the plain listener.
    #[must_use]
    pub fn new(server: Issued, trusted: &Authority, users: &[(&str, &str)]) -> Self {
        let users = users
            .iter()
            .map(|(name, password)| ((*name).to_owned(), (*password).to_owned()));
        Self {
            server,
            trusted: trusted.pem().to_owned(),
            users: users.collect(),
        }
    }

    /// The PEM stores, as files: a key store is key and certificates in one file.
    pub(crate) fn files(&self) -> [(&'static str, String); 2] {
        let store = format!("{}{}", self.server.key, self.server.certificate);
        [("server.pem", store), ("trusted.pem", self.trusted.clone())]
    }

    pub(crate) fn write_files(&self, dir: &Path) -> Result<()> {
        for (name, text) in self.files() {
            fs::write(dir.join(name), text).with_context(|| format!("writing {name}"))?;
        }
        Ok(())
    }

    /// The lines of server.properties for the listeners SASL_SSL and SSL; the stores lie in `dir`.
    pub(crate) fn properties(&self, dir: &Path) -> String {
        let dir = dir.display();
        let modules = "org.apache.kafka.common.security";
        let mut plain = format!("{modules}.plain.PlainLoginModule required");
        for (name, password) in &self.users {
            plain += &format!(" user_{name}=\"{password}\"");
        }
        let jaas = "listener.name.sasl_ssl";
        let mut text = format!("{jaas}.plain.sasl.jaas.config={plain};\n");
        for mechanism in SCRAM {
            let mechanism = mechanism.to_lowercase();
            text += &format!(
                "{jaas}.{mechanism}.sasl.jaas.config={modules}.scram.ScramLoginModule required;\n"
            );
        }
        text + &format!(
            "ssl.keystore.type=PEM\nssl.keystore.location={dir}/server.pem\n\
             ssl.truststore.type=PEM\nssl.truststore.location={dir}/trusted.pem\n\
             listener.name.ssl.ssl.client.auth=required\n\
             sasl.enabled.mechanisms={},PLAIN\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS;User:admin;User:CN=admin\n",
            SCRAM.join(",")
        )
    }

    /// The arguments of StorageTool that make the users known before the first start (KIP-900).
    pub(crate) fn format_arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        for (name, password) in &self.users {
            for mechanism in SCRAM {
                arguments.push("--add-scram".to_owned());
                arguments.push(format!(
                    "{mechanism}=[name={name},iterations=4096,password={password}]"
                ));
            }
        }
        arguments
    }
}
