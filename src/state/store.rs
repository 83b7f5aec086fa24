//! The mapper's side: a memory whose entries are on disk, behind those at hand.
//!
//! What is put stays at hand until the follower has written it, which it does once it is committed. So what is on disk is
//! never ahead of Kafka, and what is read is never behind what was put. A transaction that puts more than may be at hand
//! spills into a second tree, `pending`, that no other session reads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rowbridge_api::State;

use super::fault::Fault;
use super::follower::Shared;
use super::hot::{Hot, Stand};
use super::tree::Tree;
use crate::mapping::Stop;
use crate::mapping::memory::{EachEntry, Memory, Size};

/// Blocks of `pending` that are kept in memory.
const PENDING_CACHE_BYTES: u64 = 2 << 20;
/// What waits in `pending` for a flush.
const PENDING_WAITING_BYTES: u64 = 4 << 20;
/// The first byte of a value in `pending`.
const FORGOTTEN: u8 = 0;
const REMEMBERED: u8 = 1;

/// A working copy of the changelog, and what is not in it yet.
pub struct Store {
    shared: Arc<Shared>,
    hot: Hot,
    limit_bytes: usize,
    /// How many entries were handed over.
    drained: u64,
    pending: Option<Pending>,
    value: Vec<u8>,
}

/// What was put and had no room.
struct Pending {
    tree: Tree,
    /// With this entry in the store all of it is; nothing while some was not handed over.
    until: Option<u64>,
}

impl std::fmt::Debug for Store {
    /// Without what it remembers: that is made of rows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.shared.folder.path())
            .finish_non_exhaustive()
    }
}

impl Store {
    pub(super) fn new(shared: Arc<Shared>, limit_bytes: usize) -> Self {
        Self {
            shared,
            hot: Hot::default(),
            limit_bytes,
            drained: 0,
            pending: None,
            value: Vec::new(),
        }
    }

    /// Ends the session, which starts again by what kind of fault it is.
    fn failed(&self, fault: &Fault) -> Stop {
        self.shared.fail(fault.clone());
        Stop {
            state: State::StateStale,
            problem: fault.problem.clone(),
            hint: fault.hint.clone(),
        }
    }

    /// What is below those at hand, into `value`; whether there is anything.
    fn look_up(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool, Fault> {
        value.clear();
        if let Some(pending) = &self.pending
            && let Some(found) = pending.tree.get(key)?
        {
            value.extend_from_slice(found.get(1..).unwrap_or_default());
            return Ok(found.first() == Some(&REMEMBERED));
        }
        let found = self.shared.tree.get(key)?;
        value.extend_from_slice(found.as_deref().unwrap_or_default());
        Ok(found.is_some())
    }

    /// Keeps those at hand within their limit.
    fn make_room(&mut self) -> Result<(), Fault> {
        if self.hot.bytes() <= self.limit_bytes {
            return Ok(());
        }
        self.settle_pending()?;
        // A little more than needed, so that it is not looked for again at once.
        let target = self.limit_bytes - self.limit_bytes / 16;
        let may_go = self.may_go();
        if self.hot.shrink(target, may_go) || self.hot.bytes() <= self.limit_bytes {
            return Ok(());
        }
        self.spill()
    }

    /// Whether an entry at hand is also below.
    fn may_go(&self) -> impl Fn(Stand) -> bool + use<> {
        let written = self.shared.written.load(Ordering::Acquire);
        let spilled = self.pending.is_some();
        move |stand| match stand {
            Stand::Read => true,
            Stand::Changed => false,
            // `pending` may have an older one of the same key, which would be found first.
            Stand::Recorded(number) => number <= written && !spilled,
        }
    }

    /// Puts what is at hand and nowhere else into `pending`.
    fn spill(&mut self) -> Result<(), Fault> {
        let until = (!self.hot.has_changes()).then_some(self.drained);
        if self.pending.is_none() {
            self.shared.folder.empty_pending()?;
            let path = self.shared.folder.pending();
            let tree = Tree::open(&path, PENDING_CACHE_BYTES)?;
            self.pending = Some(Pending { tree, until });
        }
        let may_go = self.may_go();
        let Some(pending) = &mut self.pending else {
            return Ok(());
        };
        pending.until = match (pending.until, until) {
            (Some(_), Some(until)) => Some(until),
            _ => None,
        };
        let number = pending.tree.number();
        let (tree, tagged) = (&pending.tree, &mut self.value);
        self.hot.give_up(may_go, |key, value| {
            tagged.clear();
            tagged.push(value.map_or(FORGOTTEN, |_| REMEMBERED));
            tagged.extend_from_slice(value.unwrap_or_default());
            if tree.write(key, Some(tagged), number) >= PENDING_WAITING_BYTES {
                tree.flush()?;
                while tree.merge()? {}
            }
            Ok::<_, Fault>(())
        })
    }

    /// Drops `pending` once all of it is in the store.
    fn settle_pending(&mut self) -> Result<(), Fault> {
        let written = self.shared.written.load(Ordering::Acquire);
        let until = self.pending.as_ref().and_then(|pending| pending.until);
        if until.is_some_and(|until| until <= written) {
            self.pending = None;
            self.shared.folder.empty_pending()?;
        }
        Ok(())
    }

    /// Forgets what is below and begins with `prefix`, as a change of each key.
    fn forget_below(&mut self, prefix: &[u8]) -> Result<(), Fault> {
        for entry in self.shared.tree.with_prefix(prefix) {
            let (key, _) = entry?;
            self.hot.put(&key, None);
            self.make_room()?;
        }
        let Some(pending) = &self.pending else {
            return Ok(());
        };
        for entry in pending.tree.clone().with_prefix(prefix) {
            let (key, value) = entry?;
            if value.first() == Some(&REMEMBERED) {
                self.hot.put(&key, None);
                self.make_room()?;
            }
        }
        Ok(())
    }

    fn drain_pending(&mut self, each: &mut EachEntry<'_>) -> Result<(), Fault> {
        let Some(pending) = &mut self.pending else {
            return Ok(());
        };
        if pending.until.is_none() {
            for entry in pending.tree.with_prefix(b"") {
                let (key, value) = entry?;
                if self.hot.is_changed(&key) {
                    continue; // Its last value is at hand.
                }
                let is_there = value.first() == Some(&REMEMBERED);
                self.drained += 1;
                each(&key, is_there.then(|| value.get(1..).unwrap_or_default()));
            }
            pending.until = Some(self.drained);
        }
        Ok(())
    }
}

impl Memory for Store {
    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool, Stop> {
        if let Some(known) = self.hot.get(key) {
            value.clear();
            value.extend_from_slice(known.unwrap_or_default());
            return Ok(known.is_some());
        }
        let found = self.look_up(key, value);
        let found = found.map_err(|fault| self.failed(&fault))?;
        self.hot.keep(key, found.then_some(value.as_slice()));
        let room = self.make_room();
        room.map_err(|fault| self.failed(&fault))?;
        Ok(found)
    }

    fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.hot.put(key, value);
        // The next one to ask or to drain is told.
        if let Err(fault) = self.make_room() {
            self.shared.fail(fault);
        }
    }

    fn forget_all(&mut self, prefix: &[u8]) -> Result<(), Stop> {
        for key in self.hot.with_prefix(prefix) {
            self.hot.put(&key, None);
        }
        let done = self.make_room().and_then(|()| self.forget_below(prefix));
        done.map_err(|fault| self.failed(&fault))
    }

    fn size(&self) -> Size {
        let (entries, disk_bytes) = self.shared.measured();
        Size {
            entries,
            memory_bytes: self.hot.bytes() as u64 + self.shared.tree.waiting_bytes(),
            disk_bytes,
        }
    }

    fn drain(&mut self, each: &mut EachEntry<'_>) -> Result<(), Stop> {
        if let Some(fault) = self.shared.fault() {
            return Err(self.failed(&fault.clone()));
        }
        let pending = self.drain_pending(each);
        pending.map_err(|fault| self.failed(&fault))?;
        self.hot.drain(&mut self.drained, each);
        let settled = self.settle_pending();
        settled.map_err(|fault| self.failed(&fault))
    }
}
