//! Resume tokens as positions.
//!
//! A token is `{_data: <hex>}`, whose bytes are a KeyString: tokens of one stream compare as their bytes do, and
//! begin with the cluster time (server source, `resume_token.h`). Sometimes `_typeBits` follow, which do not
//! take part in the order and without which the server does not know the token again.
//!
//! Behind the cluster time come the token's version, its kind, and the event's place among all operations of its
//! transaction, whichever collections those touch (server source, `resume_token.cpp` and `key_string.h`).

use bson::raw::{RawBsonRef, RawDocument};
use bson::spec::BinarySubtype;
use bson::{Binary, Document, Timestamp, doc};
use rowbridge_api::Position;

/// The KeyString type of a timestamp.
const TIMESTAMP_TAG: u8 = 0x82;
/// Tag and timestamp.
const CLUSTER_TIME_BYTES: usize = 9;
/// The KeyString types of zero, and of integers above it by their length: from one byte to eight.
const ZERO_TAG: u8 = 0x29;
const POSITIVE_TAGS: std::ops::RangeInclusive<u8> = 0x2B..=0x32;
/// The kind of token that no event has.
const HIGH_WATER_MARK: u64 = 0;
/// Behind the two parts, the length of the second.
const LENGTH_BYTES: usize = 2;

/// Not a resume token as this program knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent a resume token of an unknown form")]
pub(crate) struct UnknownToken;

/// The position after the event with this `_id`, or of a batch's own token.
pub(crate) fn position(token: &RawDocument) -> Result<Position, UnknownToken> {
    let data = token.get_str("_data").map_err(|_| UnknownToken)?;
    let type_bits = match token.get("_typeBits") {
        Ok(Some(RawBsonRef::Binary(binary))) => binary.bytes,
        Ok(None) => &[],
        _ => return Err(UnknownToken),
    };
    let length = u16::try_from(type_bits.len()).map_err(|_| UnknownToken)?;
    let mut bytes = unhex(data, type_bits.len() + LENGTH_BYTES).ok_or(UnknownToken)?;
    let order = cluster_time(&bytes).ok_or(UnknownToken)?;
    bytes.extend_from_slice(type_bits);
    bytes.extend_from_slice(&length.to_be_bytes());
    Ok(Position::with_token(order, &bytes))
}

/// The token that a position was made of; nothing for a position that is a cluster time alone.
pub(crate) fn token(position: &Position) -> Option<Document> {
    let bytes = position.token()?;
    let (bytes, length) = bytes.split_last_chunk::<LENGTH_BYTES>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (data, type_bits) = bytes.split_at_checked(bytes.len().checked_sub(length)?)?;
    let mut token = doc! { "_data": hex(data) };
    if !type_bits.is_empty() {
        let binary = Binary {
            subtype: BinarySubtype::Generic,
            bytes: type_bits.to_vec(),
        };
        token.insert("_typeBits", binary);
    }
    Some(token)
}

/// The place of a position's event in its transaction, from 0; nothing for tokens of a form to come.
pub(crate) fn place(position: &Position) -> Option<u64> {
    let (_kind, rest) = kind(position)?;
    number(rest).map(|(place, _)| place)
}

/// Whether a position is a high-water mark: no event's, and before all events of its own moment.
pub(crate) fn is_mark(position: &Position) -> bool {
    kind(position).is_some_and(|(kind, _)| kind == HIGH_WATER_MARK)
}

/// The kind of a position's token, and what follows it.
fn kind(position: &Position) -> Option<(u64, &[u8])> {
    let rest = position.token()?.get(CLUSTER_TIME_BYTES..)?;
    let (_version, rest) = number(rest)?;
    number(rest)
}

/// An integer that is not negative, and what follows it. Its lowest bit says whether there is a fraction.
fn number(data: &[u8]) -> Option<(u64, &[u8])> {
    let (tag, rest) = data.split_first()?;
    if *tag == ZERO_TAG {
        return Some((0, rest));
    }
    if !POSITIVE_TAGS.contains(tag) {
        return None;
    }
    let (digits, rest) = rest.split_at_checked(usize::from(tag - POSITIVE_TAGS.start()) + 1)?;
    let doubled = digits
        .iter()
        .fold(0, |number: u64, digit| number << 8 | u64::from(*digit));
    (doubled & 1 == 0).then_some((doubled >> 1, rest))
}

/// A cluster time as the order of positions.
pub(crate) fn order(time: Timestamp) -> u64 {
    u64::from(time.time) << 32 | u64::from(time.increment)
}

/// The cluster time of a position.
pub(crate) fn time(position: &Position) -> Timestamp {
    let [high, low] = halves(position.order());
    Timestamp {
        time: high,
        increment: low,
    }
}

fn halves(order: u64) -> [u32; 2] {
    let bytes = order.to_be_bytes();
    let half =
        |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [half(0), half(4)]
}

fn cluster_time(data: &[u8]) -> Option<u64> {
    let (tag, rest) = data.get(..CLUSTER_TIME_BYTES)?.split_first()?;
    (*tag == TIMESTAMP_TAG).then(|| u64::from_be_bytes(rest.try_into().unwrap_or_default()))
}

/// The bytes, with room for `more` behind them.
fn unhex(text: &str, more: usize) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let mut bytes = Vec::with_capacity(pairs.len() + more);
    for [high, low] in pairs {
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    Some(bytes)
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// Upper case, as the server writes it.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    /// As a server of version 6.0 sends it.
    const DATA: &str = "8265F0A1B2000000032B042C0100296E5A1004";

    #[test]
    fn a_token_and_its_position_are_the_same() {
        for document in [
            rawdoc! { "_data": DATA },
            rawdoc! { "_data": DATA, "_typeBits": Binary { subtype: BinarySubtype::Generic, bytes: vec![0x82, 1] } },
        ] {
            let found = position(&document).unwrap();
            assert_eq!(found.order(), 0x65F0_A1B2_0000_0003);
            let printed: Position = found.to_string().parse().unwrap();
            let token = token(&printed).unwrap();
            let token = bson::serialize_to_raw_document_buf(&token).unwrap();
            assert_eq!(token, document);
            assert_eq!(position(&token).unwrap(), found);
            assert_eq!(order(time(&found)), found.order());
        }
    }

    #[test]
    fn a_token_tells_the_place_in_the_transaction() {
        let at = |place: &str| {
            let data = format!("8265F0A1B2000000032B042C0100{place}6E5A1004");
            super::place(&position(&rawdoc! { "_data": data }).unwrap())
        };
        for (place, number) in [
            ("29", Some(0)),
            ("2B02", Some(1)),
            ("2BFE", Some(127)),
            ("2C0100", Some(128)),
            ("2CFFFE", Some(32_767)),
            ("2D010000", Some(32_768)),
            ("2E01000000", Some(1 << 23)),
            // A fraction, a negative number, text, and an end too early.
            ("2B03", None),
            ("28FE", None),
            ("3C00", None),
            ("32", None),
        ] {
            assert_eq!(at(place), number, "{place}");
        }
        assert_eq!(place(&Position::new(5)), None);
        let mark = position(&rawdoc! { "_data": "826B0814B5000000072B0229296E04" }).unwrap();
        assert!(is_mark(&mark) && !is_mark(&position(&rawdoc! { "_data": DATA }).unwrap()));
    }

    #[test]
    fn what_is_no_token_is_told() {
        for document in [
            rawdoc! {},
            rawdoc! { "_data": "8" },
            rawdoc! { "_data": "82" },
            rawdoc! { "_data": "zz65F0A1B200000003" },
            rawdoc! { "_data": 1_i32 },
            rawdoc! { "_data": DATA, "_typeBits": "text" },
        ] {
            assert_eq!(position(&document), Err(UnknownToken), "{:?}", doc! {});
        }
        assert!(token(&Position::new(5)).is_none());
    }
}
