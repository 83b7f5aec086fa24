//! Follows the changelog: what is committed there is written to the tree, in its order and never before.
//!
//! The committer hands over what each commit recorded ([`Recorder`]); a thread of its own writes it, so that no commit
//! waits for a disk, and another one merges files. Nothing here is atomic but a flush, and nothing else needs to be:
//! every entry says all there is of its key, so that going on from an older mark to the end of the changelog gives the
//! same.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::entries::Entries;
use super::fault::{Fault, Kind};
use super::folder::Folder;
use super::tree::{Mark, Tree};

/// What is written and not flushed, at most: this much is read again from the changelog after a kill.
const WAITING_BYTES: u64 = 8 << 20;
/// Entries of commits that wait to be written; then the next commit waits.
const QUEUE_BYTES: usize = 2 << 20;
/// So much is written at once; less waits for [`LINGER`], so that what changes again and again is written once.
const WRITE_BYTES: usize = 512 << 10;
const LINGER: Duration = Duration::from_millis(100);
/// Entries of a commit that is not made yet; more wait in a file.
const AT_HAND_BYTES: usize = 1 << 20;
/// Flushes that are not merged; then writing waits for the merging.
const MOST_UNMERGED: usize = 12;
const MERGE_PAUSE: Duration = Duration::from_millis(2);
/// The mark is flushed at least so often, so that a quiet pipeline's copy does not grow too old.
const MARK_AGE: Duration = Duration::from_secs(600);
/// How often a thread that waits looks whether there is a fault.
const LOOK: Duration = Duration::from_millis(100);

/// What the threads, the committer and the mapper share.
pub(super) struct Shared {
    pub(super) tree: Tree,
    queue: Mutex<Queue>,
    /// The queue has more, or less.
    turned: Condvar,
    merging: Mutex<Merging>,
    flushed: Condvar,
    /// Entries of this session that are in the tree, in the order in which they were recorded.
    pub(super) written: AtomicU64,
    entries: AtomicUsize,
    disk_bytes: AtomicU64,
    fault: OnceLock<Fault>,
    // Last, so that it is given back after the tree is closed.
    pub(super) folder: Folder,
}

#[derive(Default)]
struct Queue {
    entries: Entries,
    /// Entries of this session up to the last one in `entries`.
    recorded: u64,
    mark: Option<Mark>,
    /// The follower writes what it took.
    busy: bool,
    /// Something was written since the last flush.
    unflushed: bool,
    /// Somebody waits until all is flushed.
    urgent: bool,
    closed: bool,
}

#[derive(Default)]
struct Merging {
    due: bool,
    closed: bool,
}

impl Shared {
    pub(super) fn new(folder: Folder, tree: Tree) -> Self {
        let shared = Self {
            tree,
            queue: Mutex::default(),
            turned: Condvar::new(),
            merging: Mutex::default(),
            flushed: Condvar::new(),
            written: AtomicU64::new(0),
            entries: AtomicUsize::new(0),
            disk_bytes: AtomicU64::new(0),
            fault: OnceLock::new(),
            folder,
        };
        shared.measure();
        shared
    }

    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    /// Ends the session. The first fault counts.
    pub(super) fn fail(&self, fault: Fault) {
        if fault.kind == Kind::Damaged
            && let Err(also) = self.folder.distrust()
        {
            tracing::warn!(%also, "the damaged state could not be marked");
        }
        let _ = self.fault.set(fault);
        self.turned.notify_all();
    }

    fn check(&self) -> Result<(), Fault> {
        self.fault().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>, longest: Duration) -> MutexGuard<'a, Queue> {
        let waited = self.turned.wait_timeout(queue, longest);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn measure(&self) {
        self.entries.store(self.tree.entries(), Ordering::Relaxed);
        self.disk_bytes
            .store(self.tree.disk_bytes(), Ordering::Relaxed);
    }

    /// About how many entries there are on disk, and their bytes.
    pub(super) fn measured(&self) -> (usize, u64) {
        let entries = self.entries.load(Ordering::Relaxed);
        (entries, self.disk_bytes.load(Ordering::Relaxed))
    }

    /// Hands entries over, waiting while too many wait already.
    fn hand_over(&self, entries: &mut Entries, mark: Option<Mark>) -> Result<(), Fault> {
        let mut queue = self.queue();
        while queue.entries.len() >= QUEUE_BYTES {
            self.check()?;
            queue = self.wait(queue, LOOK);
        }
        self.check()?;
        queue.recorded += entries.count();
        queue.mark = mark.or_else(|| queue.mark.take());
        if entries.is_empty() {
            return Ok(());
        }
        match queue.entries.is_empty() {
            true => std::mem::swap(&mut queue.entries, entries),
            false => queue.entries.append(entries),
        }
        entries.clear(AT_HAND_BYTES);
        drop(queue);
        self.turned.notify_all();
        Ok(())
    }

    /// Waits until all that was handed over is flushed.
    fn settle(&self) -> Result<(), Fault> {
        let mut queue = self.queue();
        queue.urgent = true;
        self.turned.notify_all();
        while queue.busy || queue.unflushed || !queue.entries.is_empty() || queue.mark.is_some() {
            self.check()?;
            queue = self.wait(queue, LOOK);
        }
        queue.urgent = false;
        self.check()
    }
}

/// The committer's side: takes what a commit records, and hands it over once the commit is made.
pub struct Recorder {
    shared: Arc<Shared>,
    beginning: String,
    at_hand: Entries,
    /// What is too much for memory, and its bytes.
    put_away: Option<(File, u64)>,
    follower: Option<JoinHandle<()>>,
    merger: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Recorder {
    /// Without entries: they are made of rows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("beginning", &self.beginning)
            .finish_non_exhaustive()
    }
}

impl Recorder {
    pub(super) fn start(shared: &Arc<Shared>, mark: &Mark) -> Result<Self, Fault> {
        let path = shared.folder.path().to_owned();
        let spawn = |name: &str, work: Box<dyn FnOnce(&Shared) + Send>| {
            let shared = Arc::clone(shared);
            let thread = thread::Builder::new().name(name.to_owned());
            let failed = |error| Fault::io("starting a thread for", &path, &error);
            thread.spawn(move || work(&shared)).map_err(failed)
        };
        let follower = Follower {
            mark: mark.clone(),
            flushed: None,
            flushed_at: Instant::now(),
        };
        Ok(Self {
            follower: Some(spawn("state", Box::new(|shared| follower.run(shared)))?),
            merger: Some(spawn("state-merge", Box::new(merge))?),
            shared: Arc::clone(shared),
            beginning: mark.beginning.clone(),
            at_hand: Entries::default(),
            put_away: None,
        })
    }

    /// Takes an entry of the commit at hand.
    ///
    /// # Errors
    /// There is no room to put it away.
    pub fn take(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Fault> {
        self.at_hand.push(key, value);
        match self.at_hand.len() >= AT_HAND_BYTES {
            true => self.put_away(),
            false => Ok(()),
        }
    }

    fn put_away(&mut self) -> Result<(), Fault> {
        let path = self.shared.folder.path();
        let failed = |error| Fault::io("writing in", path, &error);
        let (file, length) = match &mut self.put_away {
            Some(known) => known,
            None => self
                .put_away
                .insert((tempfile::tempfile_in(path).map_err(failed)?, 0)),
        };
        let bytes = self.at_hand.as_bytes();
        file.write_all(&(bytes.len() as u64).to_le_bytes())
            .and_then(|()| file.write_all(bytes))
            .map_err(failed)?;
        *length += 8 + bytes.len() as u64;
        self.at_hand.clear(AT_HAND_BYTES);
        Ok(())
    }

    /// The commit is made: its entries may be written. `offset` is one up to which the changelog is written, at
    /// `at_ms`, in milliseconds since 1970.
    ///
    /// # Errors
    /// The copy has a fault; see [`Recorder::check`].
    pub fn committed(&mut self, offset: i64, at_ms: i64) -> Result<(), Fault> {
        if let Some((mut file, length)) = self.put_away.take() {
            self.read_back(&mut file, length)?;
        }
        let mark = Mark {
            beginning: self.beginning.clone(),
            offset,
            at_ms,
        };
        self.shared.hand_over(&mut self.at_hand, Some(mark))
    }

    fn read_back(&mut self, file: &mut File, length: u64) -> Result<(), Fault> {
        let path = self.shared.folder.path();
        let failed = |error| Fault::io("reading in", path, &error);
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut done = 0;
        while done < length {
            let mut size = [0; 8];
            file.read_exact(&mut size).map_err(failed)?;
            let size = u64::from_le_bytes(size);
            let mut bytes = Vec::new();
            file.take(size).read_to_end(&mut bytes).map_err(failed)?;
            let damaged = || Fault::damaged(path, "a file of this process has changed");
            let mut entries = Entries::from_bytes(bytes).ok_or_else(damaged)?;
            self.shared.hand_over(&mut entries, None)?;
            done += 8 + size;
        }
        Ok(())
    }

    /// Waits until everything committed so far is on the disk, so that a kill costs no more than this session's, and
    /// counts entries from here on.
    pub(super) fn begin_session(&mut self) -> Result<(), Fault> {
        self.shared.settle()?;
        self.shared.queue().recorded = 0;
        self.shared.written.store(0, Ordering::Release);
        Ok(())
    }

    /// Whether the copy is well. If it is not the session is over, and nothing more may be committed: what the
    /// mapper recorded last may be half of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), Fault> {
        self.shared.check()
    }
}

impl Drop for Recorder {
    /// Writes and flushes what is committed, so that the next session has less to read.
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.turned.notify_all();
        join(self.follower.take());
        let merging = self.shared.merging.lock();
        merging.unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.flushed.notify_all();
        join(self.merger.take());
    }
}

fn join(thread: Option<JoinHandle<()>>) {
    if let Some(Err(panic)) = thread.map(JoinHandle::join)
        && !thread::panicking()
    {
        std::panic::resume_unwind(panic);
    }
}

/// What the follower does next.
struct Turn {
    /// Everything before it is written then.
    mark: Option<Mark>,
    /// As many entries of this session are written then.
    recorded: u64,
    /// It is flushed too.
    at_once: bool,
}

/// The thread that writes.
struct Follower {
    /// Everything before it is written.
    mark: Mark,
    /// The mark of the last flush.
    flushed: Option<Mark>,
    flushed_at: Instant,
}

impl Follower {
    fn run(mut self, shared: &Shared) {
        let mut taken = Entries::default();
        while let Some(turn) = self.next(shared, &mut taken) {
            let done = self.write(shared, &taken).and_then(|()| {
                self.mark = turn.mark.unwrap_or_else(|| self.mark.clone());
                shared.written.store(turn.recorded, Ordering::Release);
                let flushes = turn.at_once || self.flushed_at.elapsed() >= MARK_AGE;
                match flushes {
                    true => self.flush(shared).map(|()| flushes),
                    false => Ok(flushes),
                }
            });
            taken.clear(QUEUE_BYTES);
            let mut queue = shared.queue();
            queue.busy = false;
            queue.unflushed &= !matches!(done, Ok(true));
            drop(queue);
            shared.turned.notify_all();
            if let Err(fault) = done {
                return shared.fail(fault);
            }
        }
        if shared.fault().is_none()
            && self.flushed.as_ref() != Some(&self.mark)
            && let Err(fault) = self.flush(shared)
        {
            // Nothing is lost: the next session reads it again.
            tracing::warn!(%fault, "the state was not written at the end");
        }
    }

    /// Takes what there is to write; nothing once the session is over.
    fn next(&self, shared: &Shared, taken: &mut Entries) -> Option<Turn> {
        let mut queue = shared.queue();
        let mut since = None;
        loop {
            if shared.fault().is_some() {
                return None;
            }
            let at_once = queue.urgent || queue.closed;
            let marked = queue.mark.is_some();
            let longest = if queue.entries.is_empty() {
                let age = self.flushed_at.elapsed();
                if at_once && queue.unflushed || marked && (at_once || age >= MARK_AGE) {
                    break;
                }
                MARK_AGE.saturating_sub(age).max(LOOK)
            } else {
                let waited = since.get_or_insert_with(Instant::now).elapsed();
                if at_once || queue.entries.len() >= WRITE_BYTES || waited >= LINGER {
                    break;
                }
                LINGER.saturating_sub(waited)
            };
            if queue.closed {
                return None;
            }
            queue = shared.wait(queue, longest);
        }
        std::mem::swap(&mut queue.entries, taken);
        queue.busy = true;
        queue.unflushed = true;
        let turn = Turn {
            mark: queue.mark.take(),
            recorded: queue.recorded,
            at_once: queue.urgent || queue.closed,
        };
        drop(queue);
        shared.turned.notify_all();
        Some(turn)
    }

    /// Writes the last entry of each key.
    fn write(&mut self, shared: &Shared, entries: &Entries) -> Result<(), Fault> {
        let count = usize::try_from(entries.count()).unwrap_or_default();
        let mut last = HashMap::with_capacity(count);
        last.extend(entries.iter());
        let number = shared.tree.number();
        for (key, value) in last {
            let waiting = shared.tree.write(key, value, number);
            if waiting >= WAITING_BYTES {
                self.flush(shared)?;
            }
        }
        Ok(())
    }

    /// Puts what is written on the disk, with a mark that everything before is there.
    fn flush(&mut self, shared: &Shared) -> Result<(), Fault> {
        while shared.tree.unmerged() >= MOST_UNMERGED {
            shared.check()?;
            thread::sleep(MERGE_PAUSE);
        }
        shared.folder.is_still_there()?;
        shared.tree.set_mark(&self.mark);
        shared.tree.flush()?;
        self.flushed = Some(self.mark.clone());
        self.flushed_at = Instant::now();
        shared.measure();
        let merging = shared.merging.lock();
        merging.unwrap_or_else(PoisonError::into_inner).due = true;
        shared.flushed.notify_all();
        Ok(())
    }
}

/// The thread that merges files.
fn merge(shared: &Shared) {
    loop {
        let mut merging = shared
            .merging
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while !merging.due && !merging.closed {
            let waited = shared.flushed.wait(merging);
            merging = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if merging.closed {
            return;
        }
        merging.due = false;
        drop(merging);
        loop {
            match shared.tree.merge() {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) => return shared.fail(fault),
            }
            let merging = shared.merging.lock();
            if merging.unwrap_or_else(PoisonError::into_inner).closed {
                return;
            }
        }
        shared.measure();
    }
}
