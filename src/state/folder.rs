//! The folder of a pipeline's working copy: whose it is, in which form, and whether it can be trusted.
//!
//! Nothing but what stands here is ever removed from it.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::fault::{Fault, Kind};

/// The form of what is in the folder. Another program's is made anew.
const FORM: &str = "rowbridge state 1\n";
/// Only this user reads rows.
const OWNER_ONLY: u32 = 0o700;

/// Who has the folder.
const LOCK: &str = "lock";
/// Holds [`FORM`].
const FORM_FILE: &str = "form";
/// There while nobody can tell whether what is beside it is whole.
const DISTRUSTED: &str = "distrusted";
/// The entries as of a commit.
const ENTRIES: &str = "entries";
/// Entries of a transaction that is not committed and too large for memory.
const PENDING: &str = "pending";

/// Folders that this process has.
static TAKEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// For whoever reports a crash: what the crashed thread made of an open folder, nobody knows.
pub fn distrust_open_folders() {
    distrust_open(Path::new("/"));
}

/// Those below `root`.
pub(super) fn distrust_open(root: &Path) {
    // The thread that crashed may hold the lock.
    if let Ok(taken) = TAKEN.try_lock() {
        for path in taken.iter().filter(|path| path.starts_with(root)) {
            let _ = File::create(path.join(DISTRUSTED));
        }
    }
}

/// A folder that no other process uses, until it is dropped.
pub(super) struct Folder {
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// Makes it if it is missing, readable for its owner alone, and locks it.
    pub(super) fn take(path: &Path) -> Result<Self, Fault> {
        let failed = |error: io::Error| Fault::io("the state needs the folder", path, &error);
        DirBuilder::new()
            .recursive(true)
            .mode(OWNER_ONLY)
            .create(path)
            .map_err(failed)?;
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
        if mode & 0o777 != OWNER_ONLY {
            fs::set_permissions(path, fs::Permissions::from_mode(OWNER_ONLY)).map_err(failed)?;
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => in_use(path),
            TryLockError::Error(error) => failed(error),
        })?;
        taken().push(path.to_owned());
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn entries(&self) -> PathBuf {
        self.path.join(ENTRIES)
    }

    pub(super) fn pending(&self) -> PathBuf {
        self.path.join(PENDING)
    }

    /// Whether there is anything to go on from.
    pub(super) fn has_entries(&self) -> bool {
        self.entries().exists()
    }

    /// The form that is written there, if it is not ours.
    pub(super) fn foreign_form(&self) -> Option<String> {
        let form = fs::read(self.path.join(FORM_FILE)).unwrap_or_default();
        (form != FORM.as_bytes()).then(|| {
            let line = form.split(|byte| *byte == b'\n').next().unwrap_or_default();
            String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned()
        })
    }

    pub(super) fn is_distrusted(&self) -> bool {
        self.path.join(DISTRUSTED).exists()
    }

    /// Whoever finds it so makes it anew: until [`Folder::trust`].
    pub(super) fn distrust(&self) -> Result<(), Fault> {
        let path = self.path.join(DISTRUSTED);
        match File::create(&path) {
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::io("writing", &path, &error)),
        }
    }

    pub(super) fn trust(&self) -> Result<(), Fault> {
        remove(&self.path.join(DISTRUSTED), |path| fs::remove_file(path))
    }

    /// Removes everything but the lock, and writes down the form of what comes.
    pub(super) fn empty(&self) -> Result<(), Fault> {
        remove(&self.entries(), |path| fs::remove_dir_all(path))?;
        self.empty_pending()?;
        let form = self.path.join(FORM_FILE);
        fs::write(&form, FORM).map_err(|error| Fault::io("writing", &form, &error))
    }

    pub(super) fn empty_pending(&self) -> Result<(), Fault> {
        remove(&self.pending(), |path| fs::remove_dir_all(path))
    }

    /// Whether the folder is the one that was taken: somebody may have removed it.
    pub(super) fn is_still_there(&self) -> Result<(), Fault> {
        let path = self.path.join(LOCK);
        let same = |of: &fs::Metadata, other: &fs::Metadata| {
            (of.dev(), of.ino()) == (other.dev(), other.ino())
        };
        let found = fs::metadata(&path).and_then(|found| Ok(same(&found, &self.lock.metadata()?)));
        match found {
            Ok(true) => Ok(()),
            Ok(false) => Err(Fault::io("using", &path, &ErrorKind::NotFound.into())),
            Err(error) => Err(Fault::io("using", &path, &error)),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let mut taken = taken();
        if let Some(number) = taken.iter().position(|path| *path == self.path) {
            taken.swap_remove(number);
        }
    }
}

fn taken() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn in_use(path: &Path) -> Fault {
    Fault {
        kind: Kind::Passing,
        problem: format!("another process uses the state in {}", path.display()),
        hint: "an instance that ends gives it back; two pipelines of one name need a state.directory each"
            .to_owned(),
    }
}

fn remove(path: &Path, how: impl Fn(&Path) -> io::Result<()>) -> Result<(), Fault> {
    match how(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Fault::io("removing", path, &error))
        }
        _ => Ok(()),
    }
}

/// Removes a pipeline's folder; whether there was one.
///
/// # Errors
/// Somebody uses it, or may not be removed.
pub fn forget(path: &Path) -> Result<bool, Fault> {
    if !path.exists() {
        return Ok(false);
    }
    let folder = Folder::take(path)?;
    folder.empty()?;
    for ours in [FORM_FILE, DISTRUSTED, LOCK] {
        remove(&path.join(ours), |path| fs::remove_file(path))?;
    }
    // What else is there is not ours, and stays.
    let _ = fs::remove_dir(path);
    Ok(true)
}

/// Whether this user could make a pipeline's folder, or use the one that is there; if not, which folder is in the way.
/// Makes nothing.
///
/// # Errors
/// The nearest folder that exists, which this user may not write to, or which is none.
pub fn could_be_made(path: &Path) -> Result<(), PathBuf> {
    use rustix::fs::{Access, access};
    let nearest = path.ancestors().find(|folder| folder.exists());
    let nearest = nearest.unwrap_or(Path::new("/"));
    let may = access(nearest, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    (nearest.is_dir() && may)
        .then_some(())
        .ok_or_else(|| nearest.to_owned())
}

/// Where the working copies of a user's pipelines are, without a configuration that says so: where systemd puts the
/// state of a service, else where it would.
#[must_use]
pub fn default_directory() -> PathBuf {
    of_service(std::env::var_os("STATE_DIRECTORY").as_deref())
}

/// systemd lists several folders with colons between them.
fn of_service(listed: Option<&OsStr>) -> PathBuf {
    let first = listed.and_then(|listed| std::env::split_paths(listed).next());
    first
        .filter(|first| !first.as_os_str().is_empty())
        .unwrap_or_else(|| PathBuf::from("/var/lib/rowbridge"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_for_its_owner_alone_and_belongs_to_one_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("deep/p");
        let folder = Folder::take(&path).unwrap();
        for made in [&path, path.parent().unwrap()] {
            let mode = fs::metadata(made).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", made.display());
        }
        let second = Folder::take(&path).err().unwrap();
        assert_eq!(second.kind, Kind::Passing, "{second}");
        drop(folder);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Folder::take(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn what_is_in_the_way_is_said_and_not_touched() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        fs::write(&path, "mine").unwrap();
        let fault = Folder::take(&path).err().unwrap();
        assert_eq!(fault.kind, Kind::Lasting, "{fault}");
        assert!(fault.to_string().contains("state.directory"), "{fault}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn emptying_leaves_what_is_not_ours() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::take(place.path()).unwrap();
        assert_eq!(folder.foreign_form().as_deref(), Some(""));
        fs::write(place.path().join("letter"), "mine").unwrap();
        for ours in [folder.entries(), folder.pending()] {
            fs::create_dir_all(ours.join("tables")).unwrap();
        }
        folder.empty().unwrap();
        assert!(!folder.has_entries() && !folder.pending().exists());
        assert_eq!(folder.foreign_form(), None);
        assert_eq!(fs::read(place.path().join("letter")).unwrap(), b"mine");
        fs::write(place.path().join(FORM_FILE), "rowbridge state 2\n").unwrap();
        assert_eq!(folder.foreign_form().as_deref(), Some("rowbridge state 2"));
    }

    #[test]
    fn a_crash_leaves_a_mark_in_what_is_open_and_nowhere_else() {
        let place = tempfile::tempdir().unwrap();
        let (open, closed) = (place.path().join("open"), place.path().join("closed"));
        let folder = Folder::take(&open).unwrap();
        drop(Folder::take(&closed).unwrap());
        distrust_open(place.path());
        assert!(folder.is_distrusted());
        assert!(!Folder::take(&closed).unwrap().is_distrusted());
        folder.trust().unwrap();
        folder.trust().unwrap();
        assert!(!folder.is_distrusted());
    }

    #[test]
    fn a_folder_that_was_removed_or_replaced_is_noticed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("p");
        let folder = Folder::take(&path).unwrap();
        folder.is_still_there().unwrap();
        fs::remove_dir_all(&path).unwrap();
        assert!(folder.is_still_there().is_err());
        let _new = Folder::take(&path).unwrap();
        let fault = folder.is_still_there().unwrap_err();
        assert!(fault.hint.contains("removed"), "{fault}");
    }

    #[test]
    fn a_folder_is_forgotten_but_for_what_is_not_ours() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("p");
        assert!(!forget(&path).unwrap());
        let folder = Folder::take(&path).unwrap();
        folder.empty().unwrap();
        folder.distrust().unwrap();
        fs::create_dir_all(folder.entries()).unwrap();
        assert!(forget(&path).is_err(), "it is in use");
        drop(folder);
        assert!(forget(&path).unwrap());
        assert!(!path.exists());
        drop(Folder::take(&path).unwrap());
        fs::write(path.join("letter"), "mine").unwrap();
        assert!(forget(&path).unwrap());
        assert_eq!(fs::read(path.join("letter")).unwrap(), b"mine");
    }

    #[test]
    fn what_keeps_a_folder_from_being_made_is_named() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(could_be_made(&place.path().join("deep/p")), Ok(()));
        assert!(!place.path().join("deep").exists());
        let file = place.path().join("file");
        fs::write(&file, "mine").unwrap();
        assert_eq!(could_be_made(&file.join("p")), Err(file));
    }

    #[test]
    fn a_service_has_the_first_of_its_folders() {
        for (listed, expected) in [
            (None, "/var/lib/rowbridge"),
            (Some(""), "/var/lib/rowbridge"),
            (Some("/var/lib/one"), "/var/lib/one"),
            (Some("/var/lib/one:/var/lib/two"), "/var/lib/one"),
        ] {
            assert_eq!(of_service(listed.map(OsStr::new)), Path::new(expected));
        }
    }
}
