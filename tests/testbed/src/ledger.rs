//! What this process started: its one temporary folder, the watchdog that ends it all, and the record for the next run.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::packages;
use crate::process::{LastSignal, children, signal_all, stat};

const WATCHDOG: &str = include_str!("watchdog.sh");
/// First letters of a port tried; below the ephemeral range, so that a restarted server finds its port free.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

struct Ledger {
    folder: PathBuf,
    /// Closing this pipe tells the watchdog that we are gone; the kernel closes it for us.
    watchdog: Mutex<ChildStdin>,
    record: Mutex<File>,
}

static LEDGER: OnceLock<Result<Ledger, String>> = OnceLock::new();
static NEXT_PORT: Mutex<Option<u16>> = Mutex::new(None);

fn ledger() -> Result<&'static Ledger> {
    LEDGER
        .get_or_init(|| open().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

fn open() -> Result<Ledger> {
    let runs = packages::root()?.join("run");
    fs::create_dir_all(&runs)?;
    let guard = File::create(runs.join("lock"))?;
    guard.lock().context("locking the record of earlier runs")?;
    sweep(&runs)?;

    let folder = tempfile::Builder::new()
        .prefix("rowbridge-testbed-")
        .tempdir()
        .context("making a temporary folder")?
        .keep();
    // A server that runs as another user has to reach its own folder below; it cannot list this one.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))?;
    let mut watchdog = Command::new("sh")
        .args(["-c", WATCHDOG, "rowbridge-watchdog"])
        .arg(&folder)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the watchdog shell")?;
    let pipe = watchdog.stdin.take().context("the watchdog has no stdin")?;

    let me = std::process::id();
    let mut record = File::create(runs.join(format!("{me}.run")))?;
    let start = stat(me)
        .context("reading our own start time from /proc")?
        .start;
    writeln!(record, "{me} {start}\n{}", folder.display())?;
    Ok(Ledger {
        folder,
        watchdog: Mutex::new(pipe),
        record: Mutex::new(record),
    })
}

/// A fresh folder for one server, inside the one folder of this process.
pub(crate) fn folder(name: &str) -> Result<PathBuf> {
    let folder = ledger()?.folder.join(format!(
        "{name}-{}",
        &uuid::Uuid::new_v4().simple().to_string()[..8]
    ));
    fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// Makes the watchdog and the next run responsible for a process.
pub(crate) fn register(pid: u32, last: LastSignal) -> Result<()> {
    let ledger = ledger()?;
    let start = stat(pid)
        .context("reading a server's start time from /proc")?
        .start;
    let signal = match last {
        LastSignal::Quit => "QUIT",
        LastSignal::Kill => "KILL",
    };
    let line = format!("{pid} {start} {signal}\n");
    ledger
        .watchdog
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .write_all(line.as_bytes())
        .context("telling the watchdog")?;
    ledger
        .record
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .write_all(line.as_bytes())?;
    Ok(())
}

/// Ends what runs whose process is gone have left: their watchdog may have been killed as well.
fn sweep(runs: &Path) -> Result<()> {
    for entry in fs::read_dir(runs)? {
        let path = entry?.path();
        if path.extension().is_none_or(|ext| ext != "run") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let mut lines = text.lines();
        if lines.next().is_some_and(lives) {
            continue;
        }
        let folder = lines.next();
        for line in lines.filter(|line| lives(line)) {
            if let Some(pid) = line.split(' ').next().and_then(|pid| pid.parse().ok()) {
                let family = children(pid);
                signal_all(&[pid], Signal::SIGKILL);
                signal_all(&family, Signal::SIGKILL);
            }
        }
        if let Some(folder) = folder.map(Path::new).filter(|folder| folder.exists()) {
            fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        fs::remove_file(&path)?;
    }
    Ok(())
}

/// Whether a recorded `PID START ...` is still the same process.
fn lives(line: &str) -> bool {
    let mut words = line.split(' ');
    let pid = words.next().and_then(|pid| pid.parse().ok());
    let start = words.next().and_then(|start| start.parse::<u64>().ok());
    pid.and_then(stat)
        .map(|stat| stat.start)
        .is_some_and(|found| Some(found) == start)
}

/// A port of 127.0.0.1 that nobody listens on and that this process has not given away yet.
pub(crate) fn free_port() -> Result<u16> {
    let mut next = NEXT_PORT.lock().unwrap_or_else(PoisonError::into_inner);
    let span = PORTS.end - PORTS.start;
    let mut port = next.unwrap_or_else(|| {
        let seed = uuid::Uuid::new_v4().as_u128() % u128::from(span);
        PORTS.start + u16::try_from(seed).unwrap_or(0)
    });
    for _ in 0..span {
        port = if port + 1 < PORTS.end {
            port + 1
        } else {
            PORTS.start
        };
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            *next = Some(port);
            return Ok(port);
        }
    }
    anyhow::bail!("no free port between {} and {}", PORTS.start, PORTS.end)
}
