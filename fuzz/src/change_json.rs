//! Lines of change JSON, as a capture holds them.

use super::changes;

/// See [`changes::check`].
pub fn one(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        changes::check(text);
    }
}
