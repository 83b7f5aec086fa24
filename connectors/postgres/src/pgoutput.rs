//! Decoder of `pgoutput`, protocol version 1 (PostgreSQL documentation, 55.9), for servers 13 to 18.
//!
//! Pure: bytes in, a [`Message`] out, cells pushed as ranges of the same bytes. It copies nothing, never
//! panics, and allocates nothing for a length it has not checked against the bytes at hand. What a message
//! means for a change is [`crate::assembler`]'s business.

use std::ops::Range;

use rowbridge_api::CellRange;

/// The bytes are not a message of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the message ends early")]
    Truncated,
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    #[error("unknown message kind {0:#04x}")]
    UnknownMessage(u8),
    #[error("unknown tuple kind {0:#04x}")]
    UnknownTuple(u8),
    #[error("unknown cell kind {0:#04x}; only text is asked for")]
    UnknownCell(u8),
    #[error("a name is not UTF-8")]
    NotUtf8,
    #[error("a message past 4 GiB of one batch")]
    TooFar,
}

/// A row in the cells that [`decode`] pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Index of its first cell.
    pub first_cell: u32,
    pub width: u16,
}

/// What an old tuple holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// `K`: only the replica identity's columns are values; the others say null and mean nothing.
    Key(Tuple),
    /// `O`: the whole old row (REPLICA IDENTITY FULL).
    Row(Tuple),
}

/// One message. Times are microseconds since 2000-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Begin {
        /// Start of the commit record of this transaction.
        final_lsn: u64,
        commit_time: i64,
        xid: u32,
    },
    Commit {
        commit_lsn: u64,
        /// End of the commit record: from here the next transaction is sent.
        end_lsn: u64,
        commit_time: i64,
    },
    Origin {
        name: &'a str,
    },
    Relation(Relation<'a>),
    /// The next relation uses this type. For a domain, `name` is already its base type's.
    Type {
        oid: u32,
        /// Empty for `pg_catalog`.
        namespace: &'a str,
        name: &'a str,
    },
    Insert {
        relation: u32,
        new: Tuple,
    },
    Update {
        relation: u32,
        old: Option<Old>,
        new: Tuple,
    },
    Delete {
        relation: u32,
        old: Old,
    },
    Truncate(Truncate<'a>),
    /// `pg_logical_emit_message`; only with the option `messages`.
    LogicalMessage {
        prefix: &'a str,
    },
}

/// A table's columns from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    pub oid: u32,
    /// Empty for `pg_catalog`.
    pub namespace: &'a str,
    pub name: &'a str,
    /// `d`, `n`, `f` or `i` as in `pg_class.relreplident`.
    pub replica_identity: u8,
    width: u16,
    columns: &'a [u8],
}

/// One column of a [`Relation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationColumn<'a> {
    /// Part of the replica identity; under FULL every column is.
    pub identity: bool,
    pub name: &'a str,
    pub type_oid: u32,
    pub type_modifier: i32,
}

impl<'a> Relation<'a> {
    #[must_use]
    pub const fn width(&self) -> u16 {
        self.width
    }

    /// The columns, already known to be well formed.
    pub fn columns(&self) -> impl Iterator<Item = RelationColumn<'a>> + use<'a> {
        let mut reader = Reader {
            bytes: self.columns,
            at: 0,
        };
        (0..self.width).map_while(move |_| reader.column().ok())
    }
}

/// The tables that one TRUNCATE emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncate<'a> {
    oids: &'a [u8],
}

impl<'a> Truncate<'a> {
    pub fn relations(&self) -> impl Iterator<Item = u32> + use<'a> {
        let oids = self.oids.chunks_exact(4);
        oids.map(|oid| u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]]))
    }
}

/// Decodes the message in `bytes[range]`; cells are pushed as ranges of `bytes`.
///
/// # Errors
/// The bytes are not one message; `cells` is as it was.
pub fn decode<'a>(
    bytes: &'a [u8],
    range: Range<usize>,
    cells: &mut Vec<CellRange>,
) -> Result<Message<'a>, DecodeError> {
    let before = cells.len();
    let mut reader = Reader {
        bytes: bytes.get(..range.end).ok_or(DecodeError::Truncated)?,
        at: range.start,
    };
    let decoded = reader.message(cells).and_then(|message| {
        let rest = reader.bytes.len().saturating_sub(reader.at);
        if rest == 0 {
            Ok(message)
        } else {
            Err(DecodeError::Trailing(rest))
        }
    });
    if decoded.is_err() {
        cells.truncate(before);
    }
    decoded
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn message(&mut self, cells: &mut Vec<CellRange>) -> Result<Message<'a>, DecodeError> {
        match self.u8()? {
            b'U' => self.update(cells),
            b'I' => {
                let relation = self.u32()?;
                self.expect_tuple(b'N')?;
                let new = self.tuple(cells)?;
                Ok(Message::Insert { relation, new })
            }
            b'D' => {
                let relation = self.u32()?;
                let old = match self.u8()? {
                    b'K' => Old::Key(self.tuple(cells)?),
                    b'O' => Old::Row(self.tuple(cells)?),
                    other => return Err(DecodeError::UnknownTuple(other)),
                };
                Ok(Message::Delete { relation, old })
            }
            b'B' => Ok(Message::Begin {
                final_lsn: self.u64()?,
                commit_time: self.i64()?,
                xid: self.u32()?,
            }),
            b'C' => {
                self.u8()?;
                Ok(Message::Commit {
                    commit_lsn: self.u64()?,
                    end_lsn: self.u64()?,
                    commit_time: self.i64()?,
                })
            }
            b'R' => self.relation(),
            b'Y' => Ok(Message::Type {
                oid: self.u32()?,
                namespace: self.text()?,
                name: self.text()?,
            }),
            b'T' => self.truncate(),
            b'O' => {
                self.u64()?;
                Ok(Message::Origin { name: self.text()? })
            }
            b'M' => {
                self.u8()?;
                self.u64()?;
                let prefix = self.text()?;
                let length = self.u32()? as usize;
                self.take(length)?;
                Ok(Message::LogicalMessage { prefix })
            }
            other => Err(DecodeError::UnknownMessage(other)),
        }
    }

    fn update(&mut self, cells: &mut Vec<CellRange>) -> Result<Message<'a>, DecodeError> {
        let relation = self.u32()?;
        let old = match self.u8()? {
            b'N' => None,
            kind @ (b'K' | b'O') => {
                let tuple = self.tuple(cells)?;
                self.expect_tuple(b'N')?;
                Some(if kind == b'K' {
                    Old::Key(tuple)
                } else {
                    Old::Row(tuple)
                })
            }
            other => return Err(DecodeError::UnknownTuple(other)),
        };
        let new = self.tuple(cells)?;
        Ok(Message::Update { relation, old, new })
    }

    fn expect_tuple(&mut self, kind: u8) -> Result<(), DecodeError> {
        match self.u8()? {
            found if found == kind => Ok(()),
            other => Err(DecodeError::UnknownTuple(other)),
        }
    }

    fn tuple(&mut self, cells: &mut Vec<CellRange>) -> Result<Tuple, DecodeError> {
        let width = self.u16()?;
        let first_cell = u32::try_from(cells.len()).map_err(|_| DecodeError::TooFar)?;
        // Each cell takes at least one byte, so a width that lies ends the loop and allocates little.
        for _ in 0..width {
            let cell = match self.u8()? {
                b't' => {
                    let length = self.u32()?;
                    let start = u32::try_from(self.at).map_err(|_| DecodeError::TooFar)?;
                    self.take(length as usize)?;
                    if length >= u32::MAX - 1 {
                        return Err(DecodeError::TooFar);
                    }
                    CellRange::value(start, length)
                }
                b'n' => CellRange::NULL,
                b'u' => CellRange::UNAVAILABLE,
                other => return Err(DecodeError::UnknownCell(other)),
            };
            cells.push(cell);
        }
        Ok(Tuple { first_cell, width })
    }

    fn relation(&mut self) -> Result<Message<'a>, DecodeError> {
        let oid = self.u32()?;
        let namespace = self.text()?;
        let name = self.text()?;
        let replica_identity = self.u8()?;
        let width = self.u16()?;
        let start = self.at;
        for _ in 0..width {
            self.column()?;
        }
        Ok(Message::Relation(Relation {
            oid,
            namespace,
            name,
            replica_identity,
            width,
            columns: &self.bytes[start..self.at],
        }))
    }

    fn column(&mut self) -> Result<RelationColumn<'a>, DecodeError> {
        Ok(RelationColumn {
            identity: self.u8()? & 1 != 0,
            name: self.text()?,
            type_oid: self.u32()?,
            type_modifier: self.u32()?.cast_signed(),
        })
    }

    fn truncate(&mut self) -> Result<Message<'a>, DecodeError> {
        let count = self.u32()? as usize;
        self.u8()?;
        let length = count.checked_mul(4).ok_or(DecodeError::Truncated)?;
        let oids = self.take(length)?;
        Ok(Message::Truncate(Truncate { oids }))
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(length).ok_or(DecodeError::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(DecodeError::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let taken = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk);
        let taken = *taken.ok_or(DecodeError::Truncated)?;
        self.at += N;
        Ok(taken)
    }

    #[inline]
    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// A string that ends with a zero byte.
    fn text(&mut self) -> Result<&'a str, DecodeError> {
        let rest = self.bytes.get(self.at..).ok_or(DecodeError::Truncated)?;
        let length = memchr::memchr(0, rest).ok_or(DecodeError::Truncated)?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| DecodeError::NotUtf8)
    }
}

/// Decodes `bytes` and walks all that comes out of it; panics if anything points outside of them. For the
/// fuzz target and the test over its corpus.
#[doc(hidden)]
pub fn exercise(bytes: &[u8]) {
    let mut cells = vec![CellRange::NULL];
    match decode(bytes, 0..bytes.len(), &mut cells) {
        Ok(Message::Relation(relation)) => {
            assert_eq!(relation.columns().count(), usize::from(relation.width()));
        }
        Ok(Message::Truncate(truncate)) => {
            assert!(truncate.relations().count() <= bytes.len() / 4);
        }
        Ok(_) => {
            let mut batch = rowbridge_api::Batch {
                bytes: bytes.to_vec(),
                cells,
                items: Vec::new(),
            };
            batch.cells.remove(0);
            let width = u16::try_from(batch.cells.len().min(usize::from(u16::MAX))).unwrap_or(0);
            let change = rowbridge_api::Change {
                shape: rowbridge_api::ShapeId(0),
                op: rowbridge_api::Op::Insert,
                before: rowbridge_api::Image::Absent,
                after: rowbridge_api::Image::Row { first_cell: 0 },
                width,
                ordinal: 0,
            };
            if let Some(row) = batch.after(&change) {
                for index in 0..row.width() {
                    let _ = row.cell(index);
                }
            }
        }
        Err(_) => assert_eq!(
            cells.len(),
            1,
            "a failed decode leaves the cells as they were"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(bytes: &[u8]) -> (Result<Message<'_>, DecodeError>, Vec<CellRange>) {
        let mut cells = Vec::new();
        let message = decode(bytes, 0..bytes.len(), &mut cells);
        (message, cells)
    }

    /// Single messages of real servers; not the streams of several, nor what fuzzing found.
    fn corpus() -> Vec<(String, Vec<u8>)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/pgoutput");
        let files = std::fs::read_dir(folder).unwrap();
        let read = files.map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        });
        read.filter(|(name, _)| !name.starts_with("stream-") && !name.starts_with("found-"))
            .collect()
    }

    #[test]
    fn every_kind_of_message_a_server_sent_decodes() {
        let mut kinds = std::collections::BTreeSet::new();
        for (name, bytes) in corpus() {
            exercise(&bytes);
            let (message, _) = decoded(&bytes);
            assert!(message.is_ok(), "{name}: {message:?}");
            kinds.insert(bytes[0]);
        }
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), b"BCDIMORTUY");
    }

    #[test]
    fn every_truncation_of_a_message_is_an_error() {
        for (name, bytes) in corpus() {
            for end in 0..bytes.len() {
                exercise(&bytes[..end]);
                assert!(decoded(&bytes[..end]).0.is_err(), "{name} cut at {end}");
            }
        }
    }

    #[test]
    fn an_update_points_at_its_cells() {
        let bytes = b"U\0\0\0\x07K\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x019u";
        let (message, cells) = decoded(bytes);
        assert_eq!(
            message.unwrap(),
            Message::Update {
                relation: 7,
                old: Some(Old::Key(Tuple {
                    first_cell: 0,
                    width: 2
                })),
                new: Tuple {
                    first_cell: 2,
                    width: 2
                },
            }
        );
        let expected = [
            CellRange::value(13, 1),
            CellRange::NULL,
            CellRange::value(23, 1),
            CellRange::UNAVAILABLE,
        ];
        assert_eq!(cells, expected);
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        for bytes in [
            &b"I\0\0\0\x01N\xff\xff"[..],
            b"I\0\0\0\x01N\0\x01t\xff\xff\xff\xff",
            b"T\xff\xff\xff\xff\0",
            b"R\0\0\0\x01\0t\0f\xff\xff",
        ] {
            assert_eq!(decoded(bytes).0, Err(DecodeError::Truncated), "{bytes:?}");
        }
        assert_eq!(decoded(b"Z").0, Err(DecodeError::UnknownMessage(b'Z')));
        assert_eq!(
            decoded(b"I\0\0\0\x01N\0\x01b").0,
            Err(DecodeError::UnknownCell(b'b'))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            exercise(&bytes);
        }

        #[test]
        fn no_change_to_a_real_message_makes_it_panic(
            pick: prop::sample::Index,
            at: prop::sample::Index,
            byte: u8,
        ) {
            let corpus = corpus();
            let mut bytes = corpus[pick.index(corpus.len())].1.clone();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            exercise(&bytes);
        }
    }
}
