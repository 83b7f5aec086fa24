//! Load on the ledger: transfers that keep the total, rollbacks, openings and closings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::rig::{Rig, SOON, eventually};

/// Writers that run until stopped; a writer whose connection breaks connects again.
pub(crate) struct Workload {
    stop: CancellationToken,
    writers: JoinSet<()>,
    commits: Arc<AtomicU64>,
}

/// Opens `accounts` accounts with 1000.00 each.
pub(crate) async fn open_accounts(rig: &Rig, accounts: u32) -> Result<()> {
    rig.sql(&format!(
        "INSERT INTO public.account SELECT n, 1, 'owner ' || n, 1000, NULL FROM generate_series(1, {accounts}) n"
    ))
    .await
}

impl Workload {
    /// Starts `writers` writers over accounts `1..=accounts`, each pausing `pause` between transactions.
    pub(crate) fn start(rig: &Rig, writers: u32, accounts: u32, pause: Duration) -> Self {
        let stop = CancellationToken::new();
        let commits = Arc::new(AtomicU64::new(0));
        let mut set = JoinSet::new();
        for writer in 0..writers {
            let url = rig.database_url.clone();
            let stop = stop.clone();
            let commits = Arc::clone(&commits);
            set.spawn(async move {
                let mut random = Random(u64::from(writer) * 7919 + 17);
                while !stop.is_cancelled() {
                    // A broken connection is the scenario's doing; the writer simply goes on.
                    let _ = write(&url, &stop, &commits, &mut random, accounts, pause).await;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        }
        Self {
            stop,
            writers: set,
            commits,
        }
    }

    /// Transactions committed so far.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Waits until more than `transactions` were committed from now on.
    pub(crate) async fn more(&self, transactions: u64) -> Result<()> {
        let written = self.commits();
        eventually("load on the source", SOON, || {
            let enough = self.commits() > written + transactions;
            async move { Ok(enough) }
        })
        .await
    }

    /// Stops and waits for the writers.
    pub(crate) async fn stop(mut self) -> u64 {
        self.stop.cancel();
        while self.writers.join_next().await.is_some() {}
        self.commits.load(Ordering::Relaxed)
    }
}

async fn write(
    url: &str,
    stop: &CancellationToken,
    commits: &AtomicU64,
    random: &mut Random,
    accounts: u32,
    pause: Duration,
) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    while !stop.is_cancelled() {
        client.batch_execute(&transaction(random, accounts)).await?;
        commits.fetch_add(1, Ordering::Relaxed);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    drop(client);
    connection.await??;
    Ok(())
}

/// One transaction: mostly a transfer; sometimes with a savepoint rolled back, sometimes rolled back whole.
fn transaction(random: &mut Random, accounts: u32) -> String {
    let (from, to) = random.pair(accounts);
    let amount = format!("{}.{:02}", random.below(50), random.below(100));
    // In key order, so that writers never deadlock.
    let (first, second) = (from.min(to), from.max(to));
    let sign = |id| if id == from { '-' } else { '+' };
    let transfer = format!(
        "UPDATE public.account SET ver = ver + 1, balance = balance {} {amount} WHERE id = {first};\
         UPDATE public.account SET ver = ver + 1, balance = balance {} {amount} WHERE id = {second};",
        sign(first),
        sign(second)
    );
    match random.below(20) {
        0 => format!("BEGIN; {transfer} ROLLBACK;"),
        1 => format!("BEGIN; SAVEPOINT s; {transfer} ROLLBACK TO s; {transfer} COMMIT;"),
        _ => format!("BEGIN; {transfer} COMMIT;"),
    }
}

/// A small deterministic generator (xorshift), so that a run can be repeated.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(limit)).expect("below a u32")
    }

    pub(crate) fn pair(&mut self, accounts: u32) -> (u32, u32) {
        let from = self.below(accounts) + 1;
        let to = self.below(accounts - 1) + 1;
        (from, if to >= from { to + 1 } else { to })
    }
}
