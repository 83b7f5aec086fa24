//! A mapping pack's files, read from its folder; compiling them is [`crate::mapping`]'s.

use std::path::{Path, PathBuf};

use crate::mapping::{Pack, SourceFile};

/// A file of the pack cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct PackError {
    path: PathBuf,
    #[source]
    cause: std::io::Error,
}

/// Reads `mapping.toml` and `schema.toml` of `folder`. `params` override the mapping's `[params]`.
///
/// # Errors
/// The first file that cannot be read.
pub fn read(folder: &Path, params: toml::Table) -> Result<Pack, PackError> {
    let file = |name: &str| {
        let path = folder.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(SourceFile {
                name: path.display().to_string(),
                text,
            }),
            Err(cause) => Err(PackError { path, cause }),
        }
    };
    Ok(Pack {
        mapping: file("mapping.toml")?,
        schema: file("schema.toml")?,
        params,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mapping.toml"), "").unwrap();
        let error = read(folder.path(), toml::Table::new()).unwrap_err();
        assert!(error.to_string().ends_with("schema.toml"), "{error}");
    }
}
