//! The key that hashes are made with.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// A key of HMAC-SHA-256 and its id, which stands before every hash. Prints as its id.
#[derive(Clone)]
pub struct HashKey {
    id: String,
    /// Keyed; copied for every hash.
    mac: Hmac<Sha256>,
    hashed: Hashed,
}

/// What becomes of a value that is a hash under this key already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hashed {
    /// It is a value like any other: nobody can pass one off as another's.
    Again,
    /// It stays: the input was protected when it was written.
    Once,
}

/// Why something is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashKeyError {
    #[error("the key's id is {0:?}; it has 1 to 16 letters, digits, `-`, `_` and `.`")]
    Id(String),
    #[error("the key has {0} bytes, and needs at least {SHORTEST}")]
    Short(usize),
}

/// Fewest bytes of a key: as many as the hash has (RFC 2104, section 3).
const SHORTEST: usize = 32;
/// Characters of a hash in base64url.
const DIGITS: usize = 43;

impl HashKey {
    /// A key of one's own.
    ///
    /// # Errors
    /// The id would not stand before a colon, or the secret is too short to be one.
    pub fn new(id: &str, secret: &[u8]) -> Result<Self, HashKeyError> {
        /// Longest id in bytes: it stands before every hash.
        const LONGEST_ID: usize = 16;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !(1..=LONGEST_ID).contains(&id.len()) || !id.chars().all(plain) {
            return Err(HashKeyError::Id(id.to_owned()));
        }
        if secret.len() < SHORTEST {
            return Err(HashKeyError::Short(secret.len()));
        }
        Ok(Self::keyed(id, secret))
    }

    /// The key of cases, known to everybody: it protects nothing, and makes what a case expects the same everywhere.
    #[must_use]
    pub fn published() -> Self {
        Self::keyed("test", b"rowbridge hashes its cases so 01")
    }

    fn keyed(id: &str, secret: &[u8]) -> Self {
        Self {
            id: id.to_owned(),
            mac: Hmac::new_from_slice(secret).expect("HMAC takes a key of any length"),
            hashed: Hashed::Again,
        }
    }

    /// The same key, for input that was protected with it when it was written, as quarantine records are: a hash stays.
    #[must_use]
    pub fn for_protected_input(self) -> Self {
        Self {
            hashed: Hashed::Once,
            ..self
        }
    }

    /// Puts the hash of `out[start..]` in its place.
    pub(super) fn hash_since(&self, start: usize, out: &mut Vec<u8>) {
        if self.hashed == Hashed::Once && self.is_hash(&out[start..]) {
            return;
        }
        let mut mac = self.mac.clone();
        mac.update(&out[start..]);
        let mut digits = [0_u8; DIGITS];
        URL_SAFE_NO_PAD
            .encode_slice(mac.finalize().into_bytes(), &mut digits)
            .expect("32 bytes are 43 digits");
        out.truncate(start);
        out.extend_from_slice(self.id.as_bytes());
        out.push(b':');
        out.extend_from_slice(&digits);
    }

    fn is_hash(&self, text: &[u8]) -> bool {
        let digits = text
            .strip_prefix(self.id.as_bytes())
            .and_then(|rest| rest.strip_prefix(b":"));
        digits
            .is_some_and(|digits| digits.len() == DIGITS && URL_SAFE_NO_PAD.decode(digits).is_ok())
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
