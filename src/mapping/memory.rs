//! What is remembered beyond the change at hand: bytes under keys.
//!
//! The mapping decides what to remember and how it reads ([`super::kept`]); a memory only holds it. Everything
//! that is put is also an entry of the changelog, so that a memory can be made again from nothing else.

use std::collections::HashMap;

use super::Stop;

/// Takes entries: a key, and what is remembered under it from then on, if anything.
pub type EachEntry<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// Bytes under keys.
pub trait Memory: Send {
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

    /// How many entries there are.
    fn entries(&self) -> usize;

    /// Hands over what was put since the last time, the last value of each key in the order of its last change.
    fn drain(&mut self, each: &mut EachEntry<'_>);
}

/// A memory that lives as long as its process: for cases and dry runs, and the working copy of small states.
#[derive(Default)]
pub struct InMemory {
    entries: HashMap<Box<[u8]>, Box<[u8]>>,
    /// Keys that were put since the last drain, in order; one may come twice.
    changed: Vec<Box<[u8]>>,
}

impl InMemory {
    /// Takes an entry of the changelog.
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) {
        match value {
            Some(value) => self.entries.insert(key.into(), value.into()),
            None => self.entries.remove(key),
        };
    }
}

impl std::fmt::Debug for InMemory {
    /// Without what is remembered: that is made of rows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

    fn entries(&self) -> usize {
        self.entries.len()
    }

    fn drain(&mut self, each: &mut EachEntry<'_>) {
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
            memory.drain(&mut |key, value| drained.push((key.to_vec(), value.map(<[u8]>::to_vec))));
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
        assert_eq!(memory.entries(), 1);
    }
}
