//! The grammar of array literals (PostgreSQL, "Array Input and Output Syntax").

use std::borrow::Cow;

use super::Problem;

/// The server's limit (`MAXDIM`); it keeps readers from unbounded recursion.
pub(super) const MAX_DIMENSIONS: usize = 6;

/// One token of an array literal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Open,
    Close,
    Null,
    /// An element's text form; owned where escapes had to be undone.
    Element(Cow<'a, [u8]>),
    End,
}

/// Whether the literal states lower bounds, as in `[2:3]={1,2}`: then only the text form tells all of it.
pub(super) fn has_bounds(raw: &[u8]) -> bool {
    raw.first() == Some(&b'[')
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// The array's own brace.
    Start,
    /// An element, or the closing brace of an empty array.
    First,
    /// An element after a delimiter.
    Next,
    /// A delimiter or a closing brace.
    After,
}

/// Reads an array literal token by token. Tokens are balanced: `End` comes once all braces are closed.
pub(super) struct Tokens<'a> {
    raw: &'a [u8],
    at: usize,
    depth: usize,
    expect: Expect,
    delimiter: u8,
}

impl<'a> Tokens<'a> {
    pub(super) const fn new(raw: &'a [u8], delimiter: u8) -> Self {
        Self {
            raw,
            at: 0,
            depth: 0,
            expect: Expect::Start,
            delimiter,
        }
    }

    pub(super) fn next(&mut self) -> Result<Token<'a>, Problem> {
        self.skip_blanks();
        if self.expect == Expect::After {
            if self.depth == 0 {
                return match self.peek() {
                    None => Ok(Token::End),
                    Some(_) => Err("something follows the array"),
                };
            }
            if self.peek() == Some(self.delimiter) {
                self.at += 1;
                self.expect = Expect::Next;
                self.skip_blanks();
            }
        }
        match (self.peek(), self.expect) {
            (None, _) => Err("the array has no end"),
            (Some(b'{'), Expect::Start | Expect::First | Expect::Next) => self.open(),
            (Some(b'}'), Expect::First | Expect::After) => {
                self.at += 1;
                self.depth -= 1;
                self.expect = Expect::After;
                Ok(Token::Close)
            }
            (Some(b'"'), Expect::First | Expect::Next) => self.quoted(),
            (Some(_), Expect::First | Expect::Next) => self.bare(),
            (Some(_), Expect::Start | Expect::After) => Err("not an array literal"),
        }
    }

    fn open(&mut self) -> Result<Token<'a>, Problem> {
        if self.depth == MAX_DIMENSIONS {
            return Err("more than six dimensions");
        }
        self.at += 1;
        self.depth += 1;
        self.expect = Expect::First;
        Ok(Token::Open)
    }

    fn bare(&mut self) -> Result<Token<'a>, Problem> {
        let rest = &self.raw[self.at..];
        let length = rest
            .iter()
            .position(|byte| *byte == self.delimiter || matches!(byte, b'{' | b'}' | b'"' | b'\\'))
            .ok_or("the array has no end")?;
        let element = rest[..length].trim_ascii_end();
        if element.is_empty() {
            return Err("an array element is missing");
        }
        self.at += length;
        self.expect = Expect::After;
        Ok(if element.eq_ignore_ascii_case(b"NULL") {
            Token::Null
        } else {
            Token::Element(Cow::Borrowed(element))
        })
    }

    fn quoted(&mut self) -> Result<Token<'a>, Problem> {
        let start = self.at + 1;
        let mut end = start;
        let mut escaped = false;
        loop {
            match self.raw.get(end) {
                None => return Err("a quoted array element has no end"),
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    end += 2;
                }
                Some(_) => end += 1,
            }
        }
        self.at = end + 1;
        self.expect = Expect::After;
        let inner = &self.raw[start..end];
        Ok(Token::Element(if escaped {
            Cow::Owned(unescape(inner))
        } else {
            Cow::Borrowed(inner)
        }))
    }

    fn peek(&self) -> Option<u8> {
        self.raw.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }
}

/// A backslash makes the next byte stand for itself.
fn unescape(inner: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        plain.extend(if *byte == b'\\' {
            bytes.next()
        } else {
            Some(byte)
        });
    }
    plain
}
