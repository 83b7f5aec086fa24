//! The legacy program that exports.

use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

/// A folder that gets one file for each transaction.
pub(crate) struct Legacy {
    pub(crate) folder: TempDir,
    files: AtomicU64,
}

impl Legacy {
    pub(crate) fn start() -> std::io::Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir()?,
            files: AtomicU64::new(0),
        })
    }

    /// Exports one transaction of these lines.
    pub(crate) fn export(&self, lines: &str) -> std::io::Result<()> {
        let number = self.files.fetch_add(1, Ordering::Relaxed) + 1;
        let unfinished = self.folder.path().join("unfinished");
        std::fs::write(&unfinished, lines)?;
        std::fs::rename(unfinished, self.folder.path().join(format!("{number}.csv")))
    }
}
