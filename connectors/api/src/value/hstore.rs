//! The grammar of `hstore` (PostgreSQL, "hstore External Representation").

use std::borrow::Cow;

use super::Problem;

const NO_END: Problem = "the hstore has no end";

/// A key, and a value or null.
pub(super) type Pair<'a> = (Cow<'a, [u8]>, Option<Cow<'a, [u8]>>);

/// Reads a text form pair by pair.
pub(super) struct Pairs<'a> {
    rest: &'a [u8],
    is_first: bool,
}

impl<'a> Pairs<'a> {
    pub(super) const fn new(raw: &'a [u8]) -> Self {
        Self {
            rest: raw,
            is_first: true,
        }
    }

    /// The next pair, or nothing at the end.
    pub(super) fn next(&mut self) -> Result<Option<Pair<'a>>, Problem> {
        self.skip_blanks();
        if self.rest.is_empty() {
            return Ok(None);
        }
        if !std::mem::take(&mut self.is_first) {
            self.expect(b",", "no comma between two pairs")?;
            self.skip_blanks();
        }
        let (key, _) = self.word()?;
        self.skip_blanks();
        self.expect(b"=>", "no => after a key")?;
        self.skip_blanks();
        let (value, quoted) = self.word()?;
        let is_null = quoted == Quoted::No && value.eq_ignore_ascii_case(b"NULL");
        Ok(Some((key, (!is_null).then_some(value))))
    }

    fn word(&mut self) -> Result<(Cow<'a, [u8]>, Quoted), Problem> {
        let (word, rest, quoted) = match self.rest.strip_prefix(b"\"") {
            Some(text) => {
                let (word, rest) = quoted(text)?;
                (word, rest, Quoted::Yes)
            }
            None => {
                let (word, rest) = bare(self.rest)?;
                (Cow::Borrowed(word), rest, Quoted::No)
            }
        };
        self.rest = rest;
        Ok((word, quoted))
    }

    fn expect(&mut self, token: &[u8], problem: Problem) -> Result<(), Problem> {
        self.rest = self.rest.strip_prefix(token).ok_or(problem)?;
        Ok(())
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoted {
    Yes,
    No,
}

/// Up to the closing quote; a backslash makes the next byte stand for itself.
fn quoted(text: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), Problem> {
    let special = |byte: &u8| matches!(byte, b'"' | b'\\');
    let mut end = text.iter().position(special).ok_or(NO_END)?;
    if text[end] == b'"' {
        return Ok((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut plain = text[..end].to_vec();
    loop {
        match text.get(end).ok_or(NO_END)? {
            b'"' => return Ok((Cow::Owned(plain), &text[end + 1..])),
            b'\\' => {
                end += 1;
                plain.push(*text.get(end).ok_or(NO_END)?);
            }
            other => plain.push(*other),
        }
        end += 1;
    }
}

/// The server always quotes; people need not.
fn bare(text: &[u8]) -> Result<(&[u8], &[u8]), Problem> {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b'=' | b'"' | b'\\');
    let end = text.iter().position(ends).unwrap_or(text.len());
    if end == 0 {
        return Err("a key or value of the hstore is missing");
    }
    Ok(text.split_at(end))
}
