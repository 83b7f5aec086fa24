//! Entries of the changelog one behind the other, as bytes that are copied, put away and read again whole.

/// A length that says: forgotten.
const FORGOTTEN: u32 = u32::MAX;

/// Keys, each with what is remembered under it from then on, in the order of their changes.
#[derive(Default)]
pub(super) struct Entries {
    bytes: Vec<u8>,
    count: u64,
}

impl Entries {
    pub(super) fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("entries are records");
        self.bytes.extend(length(key).to_le_bytes());
        let value_length = value.map_or(FORGOTTEN, length);
        self.bytes.extend(value_length.to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.count += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Appends `other`.
    pub(super) fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
    }

    /// Empties it, and gives back what is more than `kept_bytes` of its memory.
    pub(super) fn clear(&mut self, kept_bytes: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(kept_bytes);
        self.count = 0;
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Replaces it by what [`Entries::as_bytes`] was; none if these are other bytes.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let mut entries = Self { bytes, count: 0 };
        let mut rest = &entries.bytes[..];
        let mut count = 0;
        while !rest.is_empty() {
            (_, rest) = split(rest)?;
            count += 1;
        }
        entries.count = count;
        Some(entries)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (entry, behind) = split(rest)?;
            rest = behind;
            Some(entry)
        })
    }
}

type Entry<'a> = (&'a [u8], Option<&'a [u8]>);

/// The first entry, and what is behind it.
fn split(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (key_length, rest) = bytes.split_first_chunk::<4>()?;
    let (value_length, rest) = rest.split_first_chunk::<4>()?;
    let value_length = u32::from_le_bytes(*value_length);
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_length) as usize)?;
    if value_length == FORGOTTEN {
        return Some(((key, None), rest));
    }
    let (value, rest) = rest.split_at_checked(value_length as usize)?;
    Some(((key, Some(value)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = Vec<(Vec<u8>, Option<Vec<u8>>)>;

    fn read(entries: &Entries) -> Owned {
        let owned =
            |(key, value): (&[u8], Option<&[u8]>)| (key.to_vec(), value.map(<[u8]>::to_vec));
        entries.iter().map(owned).collect()
    }

    proptest! {
        #[test]
        fn what_is_put_away_is_read_again(pushed: Owned, more: Owned, cut: usize) {
            let mut entries = Entries::default();
            for (key, value) in &pushed {
                entries.push(key, value.as_deref());
            }
            let mut others = Entries::default();
            for (key, value) in &more {
                others.push(key, value.as_deref());
            }
            entries.append(&others);
            let all: Owned = pushed.into_iter().chain(more).collect();
            prop_assert_eq!(&read(&entries), &all);
            prop_assert_eq!(entries.count(), all.len() as u64);
            let bytes = entries.as_bytes().to_vec();
            let again = Entries::from_bytes(bytes.clone()).unwrap();
            prop_assert_eq!(&read(&again), &all);
            prop_assert_eq!(again.count(), all.len() as u64);
            // Cut anywhere it is either fewer entries or none at all, and never a panic.
            let cut = cut % (bytes.len() + 1);
            if let Some(fewer) = Entries::from_bytes(bytes[..cut].to_vec()) {
                prop_assert!(all.starts_with(&read(&fewer)));
            }
        }
    }
}
