//! Where the paths and literals of an expression are, in the order they are written.
//!
//! jsonpath-rust's tree has no positions, and its order is the text's: walking both together gives every
//! node its place for the caret.

use std::collections::VecDeque;
use std::ops::Range;

/// A path in the text: all of it, and each of its names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PathPlace {
    pub(super) whole: Range<usize>,
    pub(super) names: Vec<Range<usize>>,
}

/// Paths and literals, each in the text's order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    paths: VecDeque<PathPlace>,
    literals: VecDeque<Range<usize>>,
    functions: VecDeque<Range<usize>>,
    len: usize,
}

impl Tokens {
    pub(super) fn scan(text: &str) -> Self {
        let mut tokens = Self {
            len: text.len(),
            ..Self::default()
        };
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            at = match bytes[at] {
                b'\'' | b'"' => {
                    let end = string_end(bytes, at);
                    tokens.literals.push_back(at..end);
                    end
                }
                b'$' | b'@' => {
                    let path = scan_path(text, at);
                    let end = path.whole.end;
                    tokens.paths.push_back(path);
                    end
                }
                b'-' | b'0'..=b'9' => {
                    let end = run_end(bytes, at + 1, |byte| {
                        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-')
                    });
                    tokens.literals.push_back(at..end);
                    end
                }
                byte if is_name(byte) => {
                    let end = run_end(bytes, at, is_name);
                    match bytes.get(end) {
                        Some(b'(') => tokens.functions.push_back(at..end),
                        _ => tokens.literals.push_back(at..end),
                    }
                    end
                }
                _ => at + 1,
            };
        }
        tokens
    }

    pub(super) fn next_path(&mut self) -> PathPlace {
        self.paths.pop_front().unwrap_or_else(|| PathPlace {
            whole: 0..self.len,
            names: Vec::new(),
        })
    }

    pub(super) fn next_literal(&mut self) -> Range<usize> {
        self.literals.pop_front().unwrap_or(0..self.len)
    }

    pub(super) fn next_function(&mut self) -> Range<usize> {
        self.functions.pop_front().unwrap_or(0..self.len)
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn run_end(bytes: &[u8], from: usize, within: impl Fn(u8) -> bool) -> usize {
    bytes[from..]
        .iter()
        .position(|byte| !within(*byte))
        .map_or(bytes.len(), |length| from + length)
}

/// The end of the string that starts with the quote at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == bytes[start] => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The path whose `$` or `@` is at `start`.
pub(super) fn scan_path(text: &str, start: usize) -> PathPlace {
    let bytes = text.as_bytes();
    let mut place = PathPlace {
        whole: start..start + 1,
        names: Vec::new(),
    };
    let mut at = start + 1;
    loop {
        let next = run_end(bytes, at, |byte| byte.is_ascii_whitespace());
        match bytes.get(next) {
            Some(b'.') => {
                let name = run_end(bytes, next, |byte| byte == b'.');
                let end = match bytes.get(name) {
                    Some(b'*') => name + 1,
                    _ => run_end(bytes, name, is_name),
                };
                if end > name {
                    place.names.push(name..end);
                }
                at = end;
            }
            Some(b'[') => {
                at = bracket_end(bytes, next);
                let inner = next + 1..at.saturating_sub(1).max(next + 1);
                place.names.push(inner);
            }
            _ => break,
        }
        place.whole.end = at;
    }
    place
}

/// Just past the bracket that closes the one at `start`.
fn bracket_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'[' => depth += 1,
            b']' => depth -= 1,
            b'\'' | b'"' => {
                at = string_end(bytes, at);
                continue;
            }
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_paths_and_literals_in_the_order_of_the_text() {
        let text = "$.a.b == 'it''s $.c' && (length($['x y'].z[0]) > -1.5 || @.n != null)";
        let mut tokens = Tokens::scan(text);
        let mut paths = Vec::new();
        while let Some(path) = tokens.paths.pop_front() {
            paths.push(&text[path.whole]);
        }
        assert_eq!(paths, ["$.a.b", "$['x y'].z[0]", "@.n"]);
        let literals: Vec<&str> = tokens.literals.iter().map(|at| &text[at.clone()]).collect();
        assert_eq!(literals, ["'it'", "'s $.c'", "-1.5", "null"]);
        assert_eq!(&text[tokens.next_function()], "length");
    }

    proptest! {
        #[test]
        fn never_panics_and_stays_inside_the_text(text in r#"[a$@.\[\]'"\\ ()é0-9-]{0,40}"#) {
            let mut tokens = Tokens::scan(&text);
            while let Some(path) = tokens.paths.pop_front() {
                prop_assert!(text.get(path.whole).is_some());
            }
            for literal in tokens.literals {
                prop_assert!(text.get(literal).is_some());
            }
        }
    }
}
