//! The store itself: a log-structured merge tree (`lsm-tree`, the engine of fjall), and what we ask of it.
//!
//! It has no journal of its own, and needs none: what was not flushed is read again from the changelog. Files are synced
//! and become part of the tree at once, all of them or none, so that it opens as it was at its last flush however the
//! process or the machine ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lsm_tree::compaction::Leveled;
use lsm_tree::config::{CompressionPolicy, PartitioningPolicy};
use lsm_tree::{
    AbstractTree as _, AnyTree, Cache, CompressionType, Config, DescriptorTable, Guard as _, SeqNo,
    SequenceNumberCounter, Slice,
};
use serde::{Deserialize, Serialize};

use super::fault::Fault;

/// Files that are kept open.
const OPEN_FILES: usize = 64;
/// Files are merged into files of this size.
const TABLE_BYTES: u64 = 16 << 20;
/// Levels of a tree.
const LEVELS: usize = 7;
/// The key of [`Mark`]: no entry's begins with a zero byte.
const MARK: &[u8] = b"\0mark";

/// Up to where in the changelog a tree has every entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Which changelog, and since when.
    pub(super) beginning: String,
    /// The first offset that may be missing.
    pub(super) offset: i64,
    /// When that was so, in milliseconds since 1970.
    pub(super) at_ms: i64,
}

/// Entries on disk. Clones share them.
#[derive(Clone)]
pub(super) struct Tree {
    tree: AnyTree,
    numbers: SequenceNumberCounter,
    strategy: Arc<Leveled>,
    path: Arc<PathBuf>,
}

impl Tree {
    /// Opens the tree in `path`, or makes one.
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Self, Fault> {
        if path.join("current").exists() {
            verify(path)?;
        }
        let numbers = SequenceNumberCounter::default();
        let visible = SequenceNumberCounter::default();
        // Else each key that is looked for costs reading the index of a whole file.
        let partitioned = PartitioningPolicy::all(true);
        let tree = Config::new(path, numbers.clone(), visible.clone())
            .use_cache(Arc::new(Cache::with_capacity_bytes(cache_bytes)))
            .use_descriptor_table(Some(Arc::new(DescriptorTable::new(OPEN_FILES))))
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
            .index_block_partitioning_policy(partitioned.clone())
            .filter_block_partitioning_policy(partitioned)
            .open()
            .map_err(|error| Fault::store("opening the state in", path, &error))?;
        if let Some(highest) = tree.get_highest_seqno() {
            numbers.set(highest + 1);
            visible.set(highest + 1);
        }
        Ok(Self {
            tree,
            numbers,
            strategy: Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES)),
            path: Arc::new(path.to_owned()),
        })
    }

    fn failed(&self, what: &str, error: &lsm_tree::Error) -> Fault {
        Fault::store(what, &self.path, error)
    }

    /// What is under `key`.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Slice>, Fault> {
        self.tree
            .get(key, SeqNo::MAX)
            .map_err(|error| self.failed("reading the state in", &error))
    }

    /// A number for entries that are written together; each key once.
    pub(super) fn number(&self) -> SeqNo {
        self.numbers.next()
    }

    /// Writes an entry; how many bytes wait for a flush.
    pub(super) fn write(&self, key: &[u8], value: Option<&[u8]>, number: SeqNo) -> u64 {
        let (_, waiting) = match value {
            Some(value) => self.tree.insert(key, value, number),
            None => self.tree.remove(key, number),
        };
        waiting
    }

    /// Bytes that wait for a flush.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.tree.active_memtable().size()
    }

    /// Puts what was written on the disk for good.
    pub(super) fn flush(&self) -> Result<(), Fault> {
        let lock = self.tree.get_flush_lock();
        self.tree.rotate_memtable();
        self.tree
            .flush(&lock, self.numbers.get())
            .map_err(|error| self.failed("writing the state in", &error))?;
        Ok(())
    }

    /// How many flushes are not merged yet; each is one more place to look for a key.
    pub(super) fn unmerged(&self) -> usize {
        self.tree.l0_run_count()
    }

    /// Merges files where that is due; whether it was.
    pub(super) fn merge(&self) -> Result<bool, Fault> {
        let shape =
            || std::array::from_fn::<_, LEVELS, _>(|level| self.tree.level_table_count(level));
        let before = shape();
        self.tree
            .compact(Arc::clone(&self.strategy) as _, self.numbers.get())
            .map_err(|error| self.failed("merging the state in", &error))?;
        Ok(shape() != before)
    }

    /// The entries whose keys begin with `prefix`, as of now.
    pub(super) fn with_prefix(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Slice, Slice), Fault>> + use<> {
        let this = self.clone();
        let found = self.tree.prefix(prefix, SeqNo::MAX, None);
        found.map(move |entry| {
            entry
                .into_inner()
                .map_err(|error| this.failed("reading the state in", &error))
        })
    }

    /// About how many entries there are: those that were overwritten count until they are merged.
    pub(super) fn entries(&self) -> usize {
        self.tree.approximate_len()
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.tree.disk_space()
    }

    /// Up to where the entries go; none where that was never written, or is not what we write.
    pub(super) fn mark(&self) -> Result<Option<Mark>, Fault> {
        let written = self.get(MARK)?;
        Ok(written.and_then(|written| serde_json::from_slice(&written).ok()))
    }

    /// Writes with the next flush up to where the entries go.
    pub(super) fn set_mark(&self, mark: &Mark) {
        let written = serde_json::to_vec(mark).expect("texts and numbers always serialise");
        self.write(MARK, Some(&written), self.number());
    }
}

/// Whether the list of files is what was written: the library writes its checksum beside it and does not look.
fn verify(path: &Path) -> Result<(), Fault> {
    let read = |path: &Path| fs::read(path).map_err(|error| Fault::io("reading", path, &error));
    let damaged = || Fault::damaged(path, "its list of files is not what was written");
    let current = read(&path.join("current"))?;
    let (version, rest) = current.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (checksum, _kind) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
    let version = u64::from_le_bytes(*version);
    let list = fs::read(path.join(format!("v{version}"))).map_err(|_missing| damaged())?;
    let is_whole = xxhash_rust::xxh3::xxh3_128(&list) == u128::from_le_bytes(*checksum);
    is_whole.then_some(()).ok_or_else(damaged)
}
