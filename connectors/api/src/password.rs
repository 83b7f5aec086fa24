//! Where a password comes from, for connectors that log in.

use std::fmt;
use std::path::PathBuf;

/// Where a password comes from. Prints without it.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Password {
    /// There is none, or a connection string holds it.
    #[default]
    None,
    Literal(String),
    /// Read at every connect, so that a rotated one is picked up; one trailing newline does not count.
    File(PathBuf),
}

/// The file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct UnreadablePassword {
    pub path: PathBuf,
    #[source]
    pub cause: std::io::Error,
}

impl Password {
    /// The password now, if there is one.
    ///
    /// # Errors
    /// [`UnreadablePassword`].
    pub fn read(&self) -> Result<Option<String>, UnreadablePassword> {
        match self {
            Self::None => Ok(None),
            Self::Literal(password) => Ok(Some(password.clone())),
            Self::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => {
                    let text = text.strip_suffix('\n').unwrap_or(&text);
                    Ok(Some(text.strip_suffix('\r').unwrap_or(text).to_owned()))
                }
                Err(cause) => Err(UnreadablePassword {
                    path: path.clone(),
                    cause,
                }),
            },
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Literal(_) => f.write_str("Literal(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_print() {
        let literal = Password::Literal("hunter2".to_owned());
        assert_eq!(format!("{literal:?}"), "Literal(..)");
    }

    #[test]
    fn the_file_is_read_again_each_time() {
        let path = std::env::temp_dir().join(format!("password-{}", std::process::id()));
        let password = Password::File(path.clone());
        for (text, read) in [
            ("one\n", "one"),
            ("two\r\n", "two"),
            ("three\n\n", "three\n"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(password.read().unwrap().as_deref(), Some(read));
        }
        std::fs::remove_file(&path).unwrap();
        let missing = password.read().unwrap_err();
        assert_eq!(missing.path, path);
    }
}
