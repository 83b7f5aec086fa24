//! The files of the mapping that publishes, beside the position: what goes on for a moment when another mapping takes over
//! (`run --reseed`).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::mapping::{Mapping, Pack, SourceFile};

/// The record's key, in the position topic.
pub(super) const KEY: &[u8] = b"mapping";
/// A longer record is not written: brokers take one of 1 MiB unless told otherwise.
const LONGEST_BYTES: usize = 768 << 10;

/// A mapping's files as they are recorded: JSON, as everything in that topic.
#[derive(Clone, PartialEq, Eq)]
pub struct PublishedMapping(Arc<[u8]>);

impl fmt::Debug for PublishedMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublishedMapping({} bytes)", self.0.len())
    }
}

#[derive(Serialize, Deserialize)]
struct Files {
    /// [`Mapping::hash`].
    hash: String,
    mapping: String,
    schema: String,
    params: toml::Table,
}

impl PublishedMapping {
    /// The record of a mapping and the files that it was compiled from; nothing if it is too long for one.
    pub(super) fn new(mapping: &Mapping, pack: &Pack) -> Option<Self> {
        let files = Files {
            hash: mapping.hash().to_owned(),
            mapping: pack.mapping.text.clone(),
            schema: pack.schema.text.clone(),
            params: pack.params.clone(),
        };
        let json = serde_json::to_vec(&files).ok()?;
        (json.len() <= LONGEST_BYTES).then(|| Self(json.into()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The files in a record, if they are those of the mapping with this hash.
pub(super) fn files(record: &[u8], hash: &str) -> Option<Pack> {
    let files: Files = serde_json::from_slice(record).ok()?;
    let file = |name: &str, text| SourceFile {
        name: format!("{name} that published last"),
        text,
    };
    (files.hash == hash).then(|| Pack {
        mapping: file("mapping.toml", files.mapping),
        schema: file("schema.toml", files.schema),
        params: files.params,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_compiles_to_the_same_mapping_and_to_no_other() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("mappings/hotel");
        let params = toml::toml! { properties = ["GRAND"] };
        let pack = crate::pack::read(&folder, params).unwrap();
        let (mapping, _) = Mapping::compile(&pack).unwrap();
        let record = PublishedMapping::new(&mapping, &pack).unwrap();
        let read = files(record.bytes(), mapping.hash()).unwrap();
        assert_eq!(Mapping::compile(&read).unwrap().0.hash(), mapping.hash());
        assert!(files(record.bytes(), "another").is_none());
        assert!(files(b"no record", mapping.hash()).is_none());
    }
}
