//! One envelope of Debezium: the value of its record, which may spread over lines.

use super::changes;

/// See [`changes::check`].
pub fn one(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        changes::check(&text.replace('\n', " "));
    }
}
