//! The floor: `pg_recvlogical` with the same publication, plugin and protocol version.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::Servers;

/// Drains `slot` up to `end` to /dev/null; how long that took from the start of the process.
pub(crate) async fn drain(
    servers: &Servers,
    slot: &str,
    publication: &str,
    end: &str,
) -> Result<Duration> {
    let started = Instant::now();
    let output = command(servers, slot, publication)?
        .args(["--endpos", end, "-f", "/dev/null"])
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "pg_recvlogical: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(started.elapsed())
}

/// `pg_recvlogical --start` on `slot`; the caller says where to and until when.
pub(crate) fn command(servers: &Servers, slot: &str, publication: &str) -> Result<Command> {
    let mut command = Command::new(servers.postgres.bin("pg_recvlogical")?);
    command
        .args(["--start", "--slot", slot, "-d", &servers.url])
        .args([
            "-o",
            "proto_version=1",
            "-o",
            &format!("publication_names={publication}"),
        ])
        .args(["--no-loop", "--fsync-interval=0"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}
