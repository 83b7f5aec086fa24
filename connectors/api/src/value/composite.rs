//! The grammar of composite values (PostgreSQL, "Composite Type Input and Output Syntax").

use std::borrow::Cow;

use super::Problem;

const NO_END: Problem = "the composite has no end";

/// Reads the text form of a composite of `count` fields; `field` gets each one's number and text form, or
/// nothing for a null. Nothing between the delimiters is a null, two quotes are an empty text.
pub(super) fn read<'a>(
    raw: &'a [u8],
    count: usize,
    mut field: impl FnMut(usize, Option<Cow<'a, [u8]>>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let inner = raw
        .trim_ascii_start()
        .strip_prefix(b"(")
        .ok_or("not a composite literal")?;
    let mut rest = inner;
    for number in 0..count {
        if number > 0 {
            rest = rest.strip_prefix(b",").ok_or(OTHER_FIELDS)?;
        }
        let (value, after) = next(rest)?;
        field(number, value)?;
        rest = after;
    }
    match rest.strip_prefix(b")") {
        Some(after) if after.trim_ascii().is_empty() => Ok(()),
        Some(_) => Err("something follows the composite"),
        None if rest.is_empty() => Err(NO_END),
        None => Err(OTHER_FIELDS),
    }
}

/// The server does not announce that a composite type was changed: this is how it shows.
const OTHER_FIELDS: Problem =
    "it has other fields than its type (was the type changed? it is read again at the next start)";

/// A field up to its delimiter, which stays.
type Split<'a> = (Option<Cow<'a, [u8]>>, &'a [u8]);

fn next(rest: &[u8]) -> Result<Split<'_>, Problem> {
    let is_end = |byte: &u8| matches!(byte, b',' | b')');
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        let special = quoted.iter().position(|byte| matches!(byte, b'"' | b'\\'));
        if let Some(end) = special
            && quoted[end] == b'"'
            && quoted.get(end + 1).is_some_and(is_end)
        {
            return Ok((Some(Cow::Borrowed(&quoted[..end])), &quoted[end + 1..]));
        }
        return escaped(rest);
    }
    let end = rest
        .iter()
        .position(|byte| is_end(byte) || matches!(byte, b'"' | b'\\'))
        .ok_or(NO_END)?;
    if !is_end(&rest[end]) {
        return escaped(rest);
    }
    let value = (end > 0).then_some(Cow::Borrowed(&rest[..end]));
    Ok((value, &rest[end..]))
}

/// A field with quotes anywhere in it: a backslash makes the next byte stand for itself, inside quotes two
/// quotes are one.
fn escaped(raw: &[u8]) -> Result<Split<'_>, Problem> {
    let mut plain = Vec::new();
    let mut quoted = false;
    let mut at = 0;
    loop {
        match raw.get(at).ok_or(NO_END)? {
            b'\\' => {
                at += 1;
                plain.push(*raw.get(at).ok_or(NO_END)?);
            }
            b'"' if quoted && raw.get(at + 1) == Some(&b'"') => {
                at += 1;
                plain.push(b'"');
            }
            b'"' => quoted = !quoted,
            b',' | b')' if !quoted => return Ok((Some(Cow::Owned(plain)), &raw[at..])),
            other => plain.push(*other),
        }
        at += 1;
    }
}
