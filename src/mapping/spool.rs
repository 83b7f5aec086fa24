//! Where the rows of a transaction wait that is too large to be kept in memory until its end.

use std::io;

/// Bytes that are put away and read again, until all of them are forgotten.
pub trait Spool: Send {
    /// Puts bytes away; where they are.
    ///
    /// # Errors
    /// There is no room for them.
    fn put(&mut self, bytes: &[u8]) -> io::Result<u64>;

    /// Replaces `into` by the `length` bytes at `place`.
    ///
    /// # Errors
    /// They cannot be read.
    fn get(&mut self, place: u64, length: usize, into: &mut Vec<u8>) -> io::Result<()>;

    /// Forgets everything.
    ///
    /// # Errors
    /// The room cannot be given back.
    fn clear(&mut self) -> io::Result<()>;
}
