//! The case files of a pack's folder.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::mapping::SourceFile;

/// Reads `cases/*.toml` of the pack in `folder`, by name. A pack without the folder has no cases.
///
/// # Errors
/// The folder or a file cannot be read.
pub(super) fn read(folder: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let cases = folder.join("cases");
    if !cases.exists() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(&cases).with_context(|| format!("cannot list {}", cases.display()))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| file(path)).collect()
}

fn file(path: &Path) -> anyhow::Result<SourceFile> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(SourceFile {
        name: path.display().to_string(),
        text,
    })
}
