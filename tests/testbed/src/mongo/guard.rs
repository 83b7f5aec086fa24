//! How a node knows its clients: the key that nodes share and that turns users on, and TLS.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::certificates::{Authority, Issued};

const KEY: &str = "cluster.key";
const CERTIFICATE: &str = "server.pem";
const TRUSTED: &str = "trusted.pem";

#[derive(Clone, Default)]
pub(crate) struct Guard {
    key: Option<String>,
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Tls {
    server: Issued,
    trusted: String,
}

impl Guard {
    pub(super) fn use_key(&mut self) {
        self.key = Some(uuid::Uuid::new_v4().simple().to_string());
    }

    pub(super) fn use_tls(&mut self, server: Issued, trusted: &Authority) {
        self.tls = Some(Tls {
            server,
            trusted: trusted.pem().to_owned(),
        });
    }

    pub(super) fn knows_users(&self) -> bool {
        self.key.is_some()
    }

    /// The files that [`Guard::arguments`] name.
    pub(crate) fn files(&self) -> Vec<(&'static str, String)> {
        let mut files = Vec::new();
        if let Some(key) = &self.key {
            files.push((KEY, key.clone()));
        }
        if let Some(Tls { server, trusted }) = &self.tls {
            files.push((CERTIFICATE, format!("{}{}", server.key, server.certificate)));
            files.push((TRUSTED, trusted.clone()));
        }
        files
    }

    pub(super) fn write_files(&self, dir: &Path) -> Result<()> {
        for (name, text) in self.files() {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("writing {name}"))?;
            // A key that others may read is refused.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        Ok(())
    }

    /// The command line for files that lie in `dir`.
    pub(super) fn arguments(&self, dir: &Path) -> Vec<String> {
        let at = |name: &str| dir.join(name).display().to_string();
        let mut arguments = Vec::new();
        if self.key.is_some() {
            arguments.extend(["--keyFile".to_owned(), at(KEY)]);
        }
        if self.tls.is_some() {
            // Clients may come with or without; nodes talk to each other without.
            arguments.extend(["--tlsMode".to_owned(), "allowTLS".to_owned()]);
            arguments.extend(["--tlsCertificateKeyFile".to_owned(), at(CERTIFICATE)]);
            arguments.extend(["--tlsCAFile".to_owned(), at(TRUSTED)]);
            arguments.push("--tlsAllowConnectionsWithoutCertificates".to_owned());
        }
        arguments
    }
}
