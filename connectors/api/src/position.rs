//! The opaque, ordered, printable place in a source's history.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A place between two transactions of a source.
///
/// Only the connector that made it interprets it; everybody else compares, prints and parses it. For
/// PostgreSQL `order` is the commit's *end* LSN and there is no token; for MongoDB `order` is the cluster
/// time and the token is the resume token. It prints as `hi/lo` in hexadecimal, which for PostgreSQL is
/// the LSN as the server prints it, followed by `:token` in hexadecimal where there is one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    order: u64,
    token: Option<Arc<[u8]>>,
}

impl Position {
    /// A position that is a number alone, such as an LSN.
    #[must_use]
    pub const fn new(order: u64) -> Self {
        Self { order, token: None }
    }

    /// A position that needs a token to be resumed from; `order` still sorts it.
    #[must_use]
    pub fn with_token(order: u64, token: &[u8]) -> Self {
        Self {
            order,
            token: Some(Arc::from(token)),
        }
    }

    /// The number that orders positions: an LSN, a cluster time.
    #[must_use]
    pub const fn order(&self) -> u64 {
        self.order
    }

    /// The connector's resume token, if it uses one.
    #[must_use]
    pub fn token(&self) -> Option<&[u8]> {
        self.token.as_deref()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.order >> 32, self.order & 0xFFFF_FFFF)?;
        if let Some(token) = &self.token {
            f.write_str(":")?;
            token.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

/// The text is not a position as [`Position`] prints it.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a position; one looks like 16/B374D848")]
pub struct ParsePositionError(String);

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParsePositionError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Position> {
    let (order, token) = match text.split_once(':') {
        Some((order, token)) => (order, Some(parse_token(token)?)),
        None => (text, None),
    };
    let (high, low) = order.split_once('/')?;
    let order = u64::from(parse_half(high)?) << 32 | u64::from(parse_half(low)?);
    Some(Position { order, token })
}

fn parse_half(text: &str) -> Option<u32> {
    let digits = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

fn parse_token(text: &str) -> Option<Arc<[u8]>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_as_the_server_prints_an_lsn() {
        assert_eq!(Position::new(0x16_B374_D848).to_string(), "16/B374D848");
        assert_eq!(Position::new(0).to_string(), "0/0");
    }

    #[test]
    fn refuses_what_it_would_not_print() {
        for text in [
            "",
            "16",
            "/",
            "16/",
            "16/123456789",
            "+1/1",
            "1/1:0",
            "1/1:zz",
            "1/1 ",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn print_and_parse_round_trip(order: u64, token: Option<Vec<u8>>) {
            let position = token.map_or(Position::new(order), |token| Position::with_token(order, &token));
            prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }
    }
}
