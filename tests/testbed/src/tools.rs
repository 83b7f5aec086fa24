//! Kafka's own command line tools, so that a printed command can be run as it is printed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::packages;

/// A tool is a Java program that talks to the broker a few times.
const DEADLINE: Duration = Duration::from_secs(60);

/// The tools that Rowbridge prints commands for, and the classes behind them.
const TOOLS: [(&str, &str); 3] = [
    ("kafka-acls.sh", "org.apache.kafka.tools.AclCommand"),
    ("kafka-configs.sh", "kafka.admin.ConfigCommand"),
    ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
];

/// A folder to run commands in: its `admin.properties` is the administrator's login.
pub struct KafkaTools {
    dir: PathBuf,
}

impl KafkaTools {
    /// Puts the tools and the administrator's client properties into `dir`.
    ///
    /// # Errors
    /// When Kafka's jars cannot be had, or `dir` cannot be written to.
    pub async fn install(dir: &Path, admin_properties: &str) -> Result<Self> {
        let libs = packages::kafka_libs().await?;
        fs::write(dir.join("admin.properties"), admin_properties)?;
        for (name, class) in TOOLS {
            let script = format!(
                "#!/bin/sh\nexec java -Xmx128m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp '{}/*' {class} \"$@\"\n",
                libs.display()
            );
            let path = dir.join(name);
            fs::write(&path, script)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// Runs a shell command as somebody would paste it.
    ///
    /// # Errors
    /// With its output when it fails or takes too long.
    pub async fn paste(&self, command: &str) -> Result<String> {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .env("PATH", format!("{}:{path}", self.dir.display()))
            .current_dir(&self.dir)
            .kill_on_drop(true);
        let output = tokio::time::timeout(DEADLINE, shell.output())
            .await
            .with_context(|| format!("`{command}` takes too long"))??;
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("`{command}` ends with {}:\n{text}", output.status);
        }
        Ok(text)
    }
}
