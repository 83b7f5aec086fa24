//! The working copy of what rules remember: a folder on this machine that is as far as the changelog was, and can be
//! lost at any time.
//!
//! - `folder`: whose it is and in which form; its lock
//! - `tree`: the store on disk
//! - `follower`: writes what is committed, behind the committer ([`Recorder`])
//! - `store`: what the mapper reads and puts ([`Store`]); `hot`: the part of it that is in memory
//! - `fault`: what can go wrong, and what helps
//!
//! The truth is the changelog. What is here is used only if it is certain to be an earlier state of it, from which the
//! rest of the changelog leads on; anything else is removed and made anew.

mod entries;
mod fault;
mod folder;
mod follower;
mod hot;
mod store;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
mod tree;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::fault::{Fault, Kind};
pub use self::folder::{could_be_made, default_directory, distrust_open_folders, forget};
pub use self::follower::Recorder;
pub use self::store::Store;

use self::folder::Folder;
use self::follower::Shared;
use self::tree::{Mark, Tree};
use crate::mapping::Generations;

/// Blocks of files that are kept in memory; the rest is up to the system's own cache.
const BLOCK_CACHE_BYTES: u64 = 8 << 20;

/// Where working copies are, and how much of one is in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The folder that holds one folder for each pipeline.
    pub directory: PathBuf,
    /// What is kept of the entries at hand.
    pub cache_bytes: usize,
}

impl Settings {
    /// The place of a pipeline's copy.
    #[must_use]
    pub fn of(&self, pipeline: &str) -> Place {
        Place {
            folder: self.directory.join(pipeline),
            cache_bytes: self.cache_bytes,
        }
    }
}

/// Where one working copy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub folder: PathBuf,
    pub cache_bytes: usize,
}

/// The changelog of what a pipeline's rules remember, as it is when nobody writes to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changelog {
    /// Names it and its beginning; no other has the same name.
    pub beginning: String,
    /// The first offset that counts.
    pub since: i64,
    /// Behind the last entry.
    pub end: i64,
    /// Which of the rows that it holds count.
    pub generations: Generations,
}

/// Why what was there could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    Missing,
    Distrusted,
    Form(String),
    Damaged(String),
    HalfMade,
    Other(String),
    PastTheEnd { offset: i64, end: i64 },
    TooOld { age: Duration, most: Duration },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is none"),
            Self::Distrusted => f.write_str("the process crashed while it was open"),
            Self::Form(form) => write!(f, "this version does not read its form, `{form}`"),
            Self::Damaged(how) => f.write_str(how),
            Self::HalfMade => f.write_str("it was never whole"),
            Self::Other(beginning) => write!(f, "it is of another beginning: {beginning}"),
            Self::PastTheEnd { offset, end } => {
                write!(f, "it is at offset {offset}, and the topic ends at {end}")
            }
            Self::TooOld { age, most } => write!(
                f,
                "it is {} s old, and after {} s what was forgotten may be gone from the topic",
                age.as_secs(),
                most.as_secs()
            ),
        }
    }
}

/// A working copy that is open and not yet as far as its changelog.
pub struct Copy {
    folder: Folder,
    tree: Tree,
    mark: Mark,
    /// Whether it was there.
    is_old: bool,
    cache_bytes: usize,
}

impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copy")
            .field("path", &self.folder.path())
            .field("mark", &self.mark)
            .finish_non_exhaustive()
    }
}

impl Copy {
    /// Opens the copy in `place`, or begins a new one if what is there is not an earlier state of `changelog`.
    /// `now_ms` is in milliseconds since 1970.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(place: &Place, changelog: &Changelog, now_ms: i64) -> Result<Self, Fault> {
        let folder = Folder::take(&place.folder)?;
        let cache_bytes = place.cache_bytes;
        match found(&folder, changelog)? {
            Ok((tree, mark)) => Ok(Self {
                folder,
                tree,
                mark,
                is_old: true,
                cache_bytes,
            }),
            Err(reason) => Self::anew(folder, changelog, &reason, cache_bytes, now_ms),
        }
    }

    fn anew(
        folder: Folder,
        changelog: &Changelog,
        reason: &Reason,
        cache_bytes: usize,
        now_ms: i64,
    ) -> Result<Self, Fault> {
        let path = folder.path().display();
        if changelog.since < changelog.end {
            tracing::info!(%reason, folder = %path, "the state is made anew from its topic");
        } else {
            tracing::debug!(%reason, folder = %path, "the state begins");
        }
        folder.distrust()?;
        folder.empty()?;
        let tree = Tree::open(&folder.entries(), BLOCK_CACHE_BYTES)?;
        folder.trust()?;
        let mark = Mark {
            beginning: changelog.beginning.clone(),
            offset: changelog.since,
            at_ms: now_ms,
        };
        Ok(Self {
            folder,
            tree,
            mark,
            is_old: false,
            cache_bytes,
        })
    }

    /// Whether it was there, and is now to be judged by its age.
    #[must_use]
    pub const fn is_old(&self) -> bool {
        self.is_old
    }

    /// Begins a new copy instead of one that is older than `most`.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn if_younger_than(
        self,
        most: Duration,
        changelog: &Changelog,
        now_ms: i64,
    ) -> Result<Self, Fault> {
        // A clock that was set back makes it no older, and one second of doubt no younger.
        let age = now_ms.abs_diff(self.mark.at_ms);
        let age = Duration::from_millis(age);
        if age <= most {
            return Ok(self);
        }
        let Self {
            folder,
            tree,
            cache_bytes,
            ..
        } = self;
        drop(tree);
        let reason = Reason::TooOld { age, most };
        Self::anew(folder, changelog, &reason, cache_bytes, now_ms)
    }

    /// From which offset on the changelog has to be read.
    #[must_use]
    pub const fn offset(&self) -> i64 {
        self.mark.offset
    }

    /// Starts to follow: what is read is to be taken and committed, up to the changelog's end.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn follow(self) -> Result<Restoring, Fault> {
        let shared = Arc::new(Shared::new(self.folder, self.tree));
        Ok(Restoring {
            recorder: Recorder::start(&shared, &self.mark)?,
            shared,
            taken: 0,
            // Entries that were forgotten since the reading began are still in the topic for a while, and no longer.
            at_ms: self.mark.at_ms,
            cache_bytes: self.cache_bytes,
        })
    }
}

/// A working copy that reads its changelog.
pub struct Restoring {
    recorder: Recorder,
    shared: Arc<Shared>,
    taken: usize,
    at_ms: i64,
    cache_bytes: usize,
}

impl fmt::Debug for Restoring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restoring")
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

/// Entries that are handed over together while a changelog is read.
const RESTORED_AT_ONCE: usize = 1_000;

impl Restoring {
    /// Takes the entry at `offset`.
    ///
    /// # Errors
    /// The copy has a fault.
    pub fn take(&mut self, offset: i64, key: &[u8], value: Option<&[u8]>) -> Result<(), Fault> {
        self.recorder.take(key, value)?;
        self.taken += 1;
        if self.taken.is_multiple_of(RESTORED_AT_ONCE) {
            self.recorder.committed(offset + 1, self.at_ms)?;
        }
        Ok(())
    }

    /// How many entries were taken.
    #[must_use]
    pub const fn taken(&self) -> usize {
        self.taken
    }

    /// It is as far as the changelog, which ends at `end` and ended there at `at_ms`.
    ///
    /// # Errors
    /// The copy has a fault.
    pub fn finish(mut self, end: i64, at_ms: i64) -> Result<(Recorder, Store), Fault> {
        self.recorder.committed(end, at_ms)?;
        self.recorder.begin_session()?;
        Ok((self.recorder, Store::new(self.shared, self.cache_bytes)))
    }
}

/// The tree that is there and up to where it goes, or why it cannot be used.
fn found(folder: &Folder, changelog: &Changelog) -> Result<Result<(Tree, Mark), Reason>, Fault> {
    if !folder.has_entries() {
        return Ok(Err(Reason::Missing));
    }
    if let Some(form) = folder.foreign_form() {
        return Ok(Err(Reason::Form(form)));
    }
    if folder.is_distrusted() {
        return Ok(Err(Reason::Distrusted));
    }
    // Whoever dies while it opens, dies of it the next time too.
    folder.distrust()?;
    folder.empty_pending()?;
    let opened = Tree::open(&folder.entries(), BLOCK_CACHE_BYTES);
    let judged = match opened.and_then(|tree| Ok((tree.mark()?, tree))) {
        Err(fault) if fault.kind == Kind::Damaged => Err(Reason::Damaged(fault.problem)),
        Err(fault) => {
            folder.trust()?;
            return Err(fault);
        }
        Ok((None, _)) => Err(Reason::HalfMade),
        Ok((Some(mark), tree)) => usable(&mark, changelog).map(|()| (tree, mark)),
    };
    folder.trust()?;
    Ok(judged)
}

fn usable(mark: &Mark, changelog: &Changelog) -> Result<(), Reason> {
    let offset = mark.offset;
    let end = changelog.end;
    if mark.beginning != changelog.beginning {
        return Err(Reason::Other(mark.beginning.clone()));
    }
    if offset > end {
        return Err(Reason::PastTheEnd { offset, end });
    }
    Ok(())
}
