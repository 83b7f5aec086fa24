//! What is remembered beyond the change at hand: bytes under keys.
//!
//! The mapping decides what to remember and how it reads ([`super::kept`]); a memory only holds it. Everything
//! that is put is also an entry of the changelog, so that a memory can be made again from nothing else.

use std::collections::HashMap;
use std::fmt;

use super::Stop;

/// Takes entries: a key, and what is remembered under it from then on, if anything.
pub type EachEntry<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// How much a memory holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// How many entries there are, about.
    pub entries: usize,
    /// Bytes of them in memory.
    pub memory_bytes: u64,
    /// Bytes of them on disk.
    pub disk_bytes: u64,
}

/// Bytes under keys. Prints without them: they are made of rows.
pub trait Memory: fmt::Debug + Send {
    /// Replaces `value` by what is kept under `key`; whether there is anything.
    ///
    /// # Errors
    /// The memory cannot be read.
    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool, Stop>;

    /// Keeps `value` under `key`, or forgets the key.
    fn put(&mut self, key: &[u8], value: Option<&[u8]>);

    /// Forgets every key that begins with `prefix`.
    ///
    /// # Errors
    /// The memory cannot be read.
    fn forget_all(&mut self, prefix: &[u8]) -> Result<(), Stop>;

    /// How much there is.
    fn size(&self) -> Size;

    /// Hands over what was put since the last time, the last value of each key.
    ///
    /// # Errors
    /// The memory cannot be read, or something could not be put.
    fn drain(&mut self, each: &mut EachEntry<'_>) -> Result<(), Stop>;
}

/// A memory that lives as long as its process: for cases, dry runs and programs that embed a pipeline.
#[derive(Default)]
pub struct InMemory {
    entries: HashMap<Box<[u8]>, Box<[u8]>>,
    /// Of the entries' keys and values.
    bytes: u64,
    /// Keys that were put since the last drain, in order; one may come twice.
    changed: Vec<Box<[u8]>>,
}

impl InMemory {
    /// Takes an entry of the changelog.
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) {
        let length = |key: &[u8], value: &[u8]| (key.len() + value.len()) as u64;
        let before = match value {
            Some(value) => {
                self.bytes += length(key, value);
                self.entries.insert(key.into(), value.into())
            }
            None => self.entries.remove(key),
        };
        self.bytes -= before.map_or(0, |before| length(key, &before));
    }
}

impl fmt::Debug for InMemory {
    /// Without what is remembered: that is made of rows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemory")
            .field("entries", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl Memory for InMemory {
    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool, Stop> {
        value.clear();
        let Some(found) = self.entries.get(key) else {
            return Ok(false);
        };
        value.extend_from_slice(found);
        Ok(true)
    }

    fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.restore(key, value);
        self.changed.push(key.into());
    }

    fn forget_all(&mut self, prefix: &[u8]) -> Result<(), Stop> {
        let keys = self.entries.keys().filter(|key| key.starts_with(prefix));
        let keys: Vec<_> = keys.cloned().collect();
        for key in keys {
            self.put(&key, None);
        }
        Ok(())
    }

    fn size(&self) -> Size {
        Size {
            entries: self.entries.len(),
            memory_bytes: self.bytes,
            disk_bytes: 0,
        }
    }

    fn drain(&mut self, each: &mut EachEntry<'_>) -> Result<(), Stop> {
        let mut told = std::collections::HashSet::new();
        let changed = std::mem::take(&mut self.changed);
        let mut last_changes: Vec<_> = changed
            .into_iter()
            .rev()
            .filter(|key| told.insert(key.clone()))
            .collect();
        last_changes.reverse();
        for key in last_changes {
            each(&key, self.entries.get(&key).map(AsRef::as_ref));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_drained_once_with_its_last_value() {
        let mut memory = InMemory::default();
        memory.put(b"a", Some(b"1"));
        memory.put(b"b", Some(b"1"));
        memory.put(b"a", None);
        memory.put(b"c", Some(b"2"));
        let mut drained = Vec::new();
        let mut drain = |memory: &mut InMemory| {
            let each = &mut |key: &[u8], value: Option<&[u8]>| {
                drained.push((key.to_vec(), value.map(<[u8]>::to_vec)));
            };
            memory.drain(each).unwrap();
        };
        drain(&mut memory);
        drain(&mut memory);
        let expected: [(&[u8], Option<&[u8]>); 3] =
            [(b"b", Some(b"1")), (b"a", None), (b"c", Some(b"2"))];
        let expected = expected.map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)));
        assert_eq!(drained, expected);
    }

    #[test]
    fn keys_are_forgotten_by_their_prefix_and_no_others() {
        let mut memory = InMemory::default();
        for key in ["row a", "row b", "event a"] {
            memory.put(key.as_bytes(), Some(b"1"));
        }
        memory.forget_all(b"row ").unwrap();
        let mut value = Vec::new();
        assert!(!memory.get(b"row a", &mut value).unwrap());
        assert!(!memory.get(b"row b", &mut value).unwrap());
        assert!(memory.get(b"event a", &mut value).unwrap());
        let size = memory.size();
        assert_eq!((size.entries, size.memory_bytes), (1, 8));
    }
}
