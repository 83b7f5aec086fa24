//! SIGKILL while a Kafka transaction is open, and the proof that it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use rowbridge_testbed::Kafka;
use rowbridge_testbed::consumer::{EndOffsets, open_transaction};

use crate::daemon::Daemon;
use crate::stage::{Stage, acknowledged};
use crate::story::Statement;

const DEADLINE: Duration = Duration::from_secs(60);

/// One write that changes a whole group, and the daemon killed while it publishes that.
pub(crate) async fn with_an_open_transaction<S: Stage>(
    number: usize,
    stage: &Arc<S>,
    kafka: &Kafka,
    daemon: &mut Daemon,
) -> Result<Statement<S::Write>> {
    let statement = stage.group().await?;
    acknowledged(&**stage, daemon).await?;
    println!("\n{number:>3}  {}\n     {}", statement.say, statement.write);
    let topic = &statement.events.first().context("a group of some")?.topic;
    let stable = EndOffsets::committed(&kafka.brokers(), topic)?;
    let high = EndOffsets::uncommitted(&kafka.brokers(), topic)?;
    // Not every source hides its writes until the last one.
    let written = tokio::spawn({
        let (stage, write) = (Arc::clone(stage), statement.write.clone());
        async move { stage.write(&write).await }
    });
    let started = Instant::now();
    loop {
        if let Some(open) = open_transaction(&stable, &high)? {
            // Stopped, it cannot end the transaction while we look again.
            daemon.signal(Signal::SIGSTOP)?;
            let still = open_transaction(&stable, &high)?;
            if let Some(still) = still {
                let took = daemon.kill_and_start_again().await?;
                println!(
                    "     SIGKILL with a Kafka transaction open ({still}; first seen: {open})"
                );
                println!(
                    "     a new process streamed {} ms after its start",
                    took.as_millis()
                );
                written.await??;
                return Ok(statement);
            }
            daemon.signal(Signal::SIGCONT)?;
        }
        if started.elapsed() > DEADLINE {
            bail!("no Kafka transaction was seen open within {DEADLINE:?}");
        }
    }
}
