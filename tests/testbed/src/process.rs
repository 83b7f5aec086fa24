//! A server process: started so that it cannot outlive us, signalled with all its children, waited for with a deadline.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ledger;

/// How often a condition is looked at while waiting for it.
pub(crate) const POLL: Duration = Duration::from_millis(10);
/// How long a dropped server may take to stop in its own way before it is killed.
const DROP_GRACE: Duration = Duration::from_secs(2);
/// How much of a log is quoted in an error.
const LOG_TAIL_LINES: usize = 25;

/// Waits for a line before it becomes the server, so that a server exists only once the watchdog knows of it.
const LAUNCH: &str = r#"read -r go && exec "$@" < /dev/null"#;

/// What ends a server fastest without leaving anything behind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastSignal {
    /// PostgreSQL's immediate shutdown: it releases shared memory.
    Quit,
    /// Nothing to release.
    Kill,
}

/// A running server process, the leader of its children.
pub(crate) struct Server {
    name: String,
    child: Child,
    log: PathBuf,
    last: LastSignal,
}

impl Server {
    /// Starts `program` with `args`, its output appended to `log`.
    pub(crate) fn spawn(
        name: &str,
        argv: &[String],
        dir: &Path,
        log: &Path,
        last: LastSignal,
    ) -> Result<Self> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        let mut child = Command::new("sh")
            .args(["-c", LAUNCH, "sh"])
            .args(argv)
            .current_dir(dir)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let mut go = child.stdin.take().context("the launcher has no stdin")?;
        ledger::register(child.id(), last)?;
        go.write_all(b"go\n")?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            last,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails with the end of the log when the process has ended.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "{} ended while starting ({status}); the end of its log:\n{}",
                self.name,
                log_tail(&self.log)
            );
        }
        Ok(())
    }

    /// Sends a signal to the leader only.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(pid_of(self.pid())?, signal)
            .with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// Stops (SIGSTOP) the leader and then its children: the leader can make no new ones meanwhile.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        signal_all(&children(self.pid()), Signal::SIGSTOP);
        Ok(())
    }

    /// Continues the children and then the leader.
    pub(crate) fn thaw(&self) -> Result<()> {
        signal_all(&children(self.pid()), Signal::SIGCONT);
        self.signal(Signal::SIGCONT)
    }

    /// SIGKILL for the leader and its children; returns when all are gone.
    pub(crate) async fn kill9(&mut self, deadline: Duration) -> Result<()> {
        let family = self.kill_family()?;
        self.wait(deadline).await?;
        let until = Instant::now() + deadline;
        while family.iter().any(|pid| is_alive(*pid)) {
            if Instant::now() >= until {
                bail!(
                    "children of {} survived SIGKILL for {deadline:?}",
                    self.name
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until the leader has ended.
    pub(crate) async fn wait(&mut self, deadline: Duration) -> Result<()> {
        let until = Instant::now() + deadline;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= until {
                bail!(
                    "{} did not stop within {deadline:?}; the end of its log:\n{}",
                    self.name,
                    log_tail(&self.log)
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn kill_family(&self) -> Result<Vec<u32>> {
        // Frozen first, so that the list of children is complete.
        self.signal(Signal::SIGSTOP)?;
        let family = children(self.pid());
        self.signal(Signal::SIGKILL)?;
        signal_all(&family, Signal::SIGKILL);
        Ok(family)
    }

    /// Looks at the leader for up to [`DROP_GRACE`].
    fn ended_in_time(&mut self) -> bool {
        let until = Instant::now() + DROP_GRACE;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(POLL);
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        if self.last == LastSignal::Quit
            && self.signal(Signal::SIGQUIT).is_ok()
            && self.thaw().is_ok()
            && self.ended_in_time()
        {
            return;
        }
        if self.kill_family().is_ok() {
            self.ended_in_time();
        }
    }
}

/// Whether the process exists and is not a zombie.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z')
}

pub(crate) struct Stat {
    state: char,
    parent: u32,
    /// Clock ticks since boot; together with the process id it names one process for good.
    pub(crate) start: u64,
}

/// Reads `/proc/PID/stat` (proc(5)); the command in parentheses may itself hold spaces and parentheses.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = line.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(Stat {
        state,
        parent,
        start,
    })
}

pub(crate) fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == parent))
        .collect()
}

/// Signals each process; one that is gone already is what was wanted.
pub(crate) fn signal_all(pids: &[u32], signal: Signal) {
    for pid in pids.iter().filter_map(|pid| pid_of(*pid).ok()) {
        if let Err(error) = kill(pid, signal) {
            tracing::debug!(%pid, %error, "a process ended before its signal");
        }
    }
}

pub(crate) fn pid_of(pid: u32) -> Result<Pid> {
    Ok(Pid::from_raw(
        i32::try_from(pid).context("process id out of range")?,
    ))
}

/// The last lines of a log, for an error message.
pub(crate) fn log_tail(log: &Path) -> String {
    match fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => "(no log was written)".to_owned(),
        Err(error) => format!("({}: {error})", log.display()),
    }
}
