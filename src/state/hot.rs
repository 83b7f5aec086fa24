//! The entries at hand: what was put and is not yet in the store, and what was read or put last.
//!
//! Bounded in bytes. Whoever was not asked for since the hand came by goes first (the clock algorithm); what is not
//! yet in the store cannot go.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::mapping::memory::EachEntry;

/// What an entry costs beside its key and its value.
const OVERHEAD_BYTES: usize = 112;

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// As it was read.
    Read,
    /// Put, and not handed over for the changelog yet.
    Changed,
    /// Handed over as the entry with this number, counted from 1.
    Recorded(u64),
}

struct Slot {
    key: Box<[u8]>,
    value: Option<Vec<u8>>,
    stand: Stand,
    /// Asked for since the hand came by.
    used: bool,
}

impl Slot {
    fn bytes(&self) -> usize {
        let value = self.value.as_ref().map_or(0, Vec::capacity);
        self.key.len() + value + OVERHEAD_BYTES
    }
}

/// Entries by their keys.
pub(super) struct Hot {
    /// Empty places have an empty key and are in `free`.
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: HashTable<u32>,
    /// Nobody who chooses keys knows it.
    seed: u64,
    /// The places of what is [`Stand::Changed`], once each.
    changed: Vec<u32>,
    bytes: usize,
    hand: usize,
}

impl Default for Hot {
    fn default() -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            seed: RandomState::new().hash_one(0),
            changed: Vec::new(),
            bytes: 0,
            hand: 0,
        }
    }
}

impl Hot {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn place(&self, key: &[u8]) -> Option<u32> {
        let hash = xxh3_64_with_seed(key, self.seed);
        let found = self
            .index
            .find(hash, |place| *self.slot(*place).key == *key);
        found.copied()
    }

    fn slot(&self, place: u32) -> &Slot {
        &self.slots[place as usize]
    }

    /// What is known of a key: nothing, or that there is no value, or the value.
    pub(super) fn get(&mut self, key: &[u8]) -> Option<Option<&[u8]>> {
        let place = self.place(key)?;
        let slot = &mut self.slots[place as usize];
        slot.used = true;
        Some(slot.value.as_deref())
    }

    /// Remembers `value` from now on.
    pub(super) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        let place = self.write(key, value);
        let slot = &mut self.slots[place as usize];
        if slot.stand != Stand::Changed {
            slot.stand = Stand::Changed;
            self.changed.push(place);
        }
    }

    /// Remembers what was read.
    pub(super) fn keep(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.write(key, value);
    }

    fn write(&mut self, key: &[u8], value: Option<&[u8]>) -> u32 {
        let place = match self.place(key) {
            Some(place) => place,
            None => self.make(key),
        };
        let slot = &mut self.slots[place as usize];
        let before = slot.bytes();
        match (value, &mut slot.value) {
            // One that grew and shrank must not keep its room.
            (Some(value), Some(known)) if known.capacity() <= 2 * value.len() + 64 => {
                known.clear();
                known.extend_from_slice(value);
            }
            (value, known) => *known = value.map(<[u8]>::to_vec),
        }
        slot.used = true;
        self.bytes = self.bytes + slot.bytes() - before;
        place
    }

    fn make(&mut self, key: &[u8]) -> u32 {
        let slot = Slot {
            key: key.into(),
            value: None,
            stand: Stand::Read,
            used: true,
        };
        self.bytes += slot.bytes();
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("bounded in bytes")
            }
        };
        let (seed, slots) = (self.seed, &self.slots);
        let hash = |place: &u32| xxh3_64_with_seed(&slots[*place as usize].key, seed);
        self.index.insert_unique(hash(&place), place, hash);
        place
    }

    fn remove(&mut self, place: u32) {
        let slot = &mut self.slots[place as usize];
        self.bytes -= slot.bytes();
        let key = std::mem::take(&mut slot.key);
        slot.value = None;
        let hash = xxh3_64_with_seed(&key, self.seed);
        if let Ok(found) = self.index.find_entry(hash, |known| *known == place) {
            found.remove();
        }
        self.free.push(place);
    }

    /// Hands over what was changed since the last time; `number` counts what is handed over.
    pub(super) fn drain(&mut self, number: &mut u64, each: &mut EachEntry<'_>) {
        for place in self.changed.drain(..) {
            let slot = &mut self.slots[place as usize];
            *number += 1;
            slot.stand = Stand::Recorded(*number);
            each(&slot.key, slot.value.as_deref());
        }
    }

    /// Lets go of entries that may go, until no more than `limit` bytes are left; whether it got there.
    pub(super) fn shrink(&mut self, limit: usize, may_go: impl Fn(Stand) -> bool) -> bool {
        // The first time round takes away the second chance.
        let mut steps = 2 * self.slots.len();
        while self.bytes > limit && steps > 0 {
            steps -= 1;
            self.hand = if self.hand + 1 < self.slots.len() {
                self.hand + 1
            } else {
                0
            };
            let slot = &mut self.slots[self.hand];
            if slot.key.is_empty() || !may_go(slot.stand) {
                continue;
            }
            if std::mem::take(&mut slot.used) {
                continue;
            }
            self.remove(u32::try_from(self.hand).expect("bounded in bytes"));
        }
        self.bytes <= limit
    }

    /// Hands over every entry that may not go, and forgets all of them.
    pub(super) fn give_up<E>(
        &mut self,
        may_go: impl Fn(Stand) -> bool,
        mut each: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        for slot in self.slots.iter().filter(|slot| !slot.key.is_empty()) {
            if !may_go(slot.stand) {
                each(&slot.key, slot.value.as_deref())?;
            }
        }
        *self = Self {
            seed: self.seed,
            ..Self::default()
        };
        Ok(())
    }

    /// Whether `key` was changed and not handed over.
    pub(super) fn is_changed(&self, key: &[u8]) -> bool {
        self.place(key)
            .is_some_and(|place| self.slot(place).stand == Stand::Changed)
    }

    /// Whether anything was changed and not handed over.
    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The keys with a value that begin with `prefix`.
    pub(super) fn with_prefix(&self, prefix: &[u8]) -> Vec<Box<[u8]>> {
        let slots = self.slots.iter();
        slots
            .filter(|slot| slot.value.is_some() && slot.key.starts_with(prefix))
            .map(|slot| slot.key.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded_up_to(number: u64) -> impl Fn(Stand) -> bool {
        move |stand| match stand {
            Stand::Read => true,
            Stand::Changed => false,
            Stand::Recorded(at) => at <= number,
        }
    }

    #[test]
    fn who_was_not_asked_for_goes_first_and_who_is_not_stored_stays() {
        let mut hot = Hot::default();
        for n in 0..100_u8 {
            hot.keep(&[n, 1], Some(&[n; 100]));
        }
        hot.put(b"changed", Some(b"1"));
        hot.put(b"recorded", Some(b"2"));
        let mut number = 0;
        hot.drain(&mut number, &mut |_, _| {});
        hot.put(b"changed", Some(b"3"));
        let all = hot.bytes();
        assert!(hot.shrink(all - 50 * 200, recorded_up_to(1)));
        hot.get(&[99, 1]);
        assert!(hot.shrink(3 * 300, recorded_up_to(1)));
        assert_eq!(hot.get(b"changed"), Some(Some(&b"3"[..])));
        assert_eq!(hot.get(b"recorded"), Some(Some(&b"2"[..])));
        assert_eq!(hot.get(&[99, 1]).unwrap(), Some(&[99_u8; 100][..]));
        assert!(!hot.shrink(0, recorded_up_to(1)), "two may not go");
        assert!(!hot.shrink(0, recorded_up_to(2)), "one may not go");
        assert_eq!(hot.get(b"recorded"), None);
        assert_eq!(hot.get(b"changed"), Some(Some(&b"3"[..])));
        hot.drain(&mut number, &mut |_, _| {});
        assert!(hot.shrink(0, recorded_up_to(3)));
        assert_eq!(hot.bytes(), 0);
        assert_eq!(hot.get(b"changed"), None);
    }

    #[test]
    fn a_place_is_used_again_and_bytes_are_counted_as_they_are() {
        let mut hot = Hot::default();
        for round in 0..50_usize {
            for n in 0..20_u8 {
                hot.put(&[n, 1], (n % 3 != 0).then_some(&vec![n; round * 7][..]));
            }
            let expected = hot.slots.iter().map(|slot| match slot.key.is_empty() {
                true => 0,
                false => slot.bytes(),
            });
            assert_eq!(hot.bytes(), expected.sum::<usize>());
            let mut number = 0;
            hot.drain(&mut number, &mut |_, _| {});
            assert_eq!(number, 20);
            assert!(hot.shrink(0, |_| true));
            assert_eq!((hot.bytes(), hot.slots.len()), (0, 20));
        }
    }
}
