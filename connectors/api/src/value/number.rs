//! Numbers: the grammar of decimals, the shortest form of a float, exact order across kinds.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::{NOT_UTF8, Problem};

/// Whether `text` is a finite decimal without an exponent, which PostgreSQL's numeric output never has.
fn is_plain_decimal(raw: &[u8]) -> bool {
    let digits = raw.strip_prefix(b"-").unwrap_or(raw);
    let mut seen_point = false;
    let only_digits = digits.iter().all(|byte| match byte {
        b'.' => !std::mem::replace(&mut seen_point, true),
        _ => byte.is_ascii_digit(),
    });
    // `.5` and `5.` are not JSON-like, and the server prints neither.
    only_digits
        && digits.first().is_some_and(u8::is_ascii_digit)
        && digits.last().is_some_and(u8::is_ascii_digit)
}

/// The digits of a numeric as stored, or those of a money value without its ornaments.
pub(super) fn decimal(raw: &[u8]) -> Result<Cow<'_, str>, Problem> {
    let text = std::str::from_utf8(raw).map_err(|_| NOT_UTF8)?;
    if is_plain_decimal(raw) || matches!(text, "NaN" | "Infinity" | "-Infinity") {
        return Ok(Cow::Borrowed(text));
    }
    money(text).map(Cow::Owned).ok_or("not a decimal number")
}

/// `-$1,234.56`, as the server prints money with `lc_monetary C`, to `-1234.56`.
fn money(text: &str) -> Option<String> {
    let (sign, amount) = match text.strip_prefix('-') {
        Some(amount) => ("-", amount),
        None => ("", text),
    };
    let digits = amount.strip_prefix('$')?.replace(',', "");
    let number = format!("{sign}{digits}");
    is_plain_decimal(number.as_bytes()).then_some(number)
}

/// An integer of at most 64 bits.
pub(super) fn integer(raw: &[u8]) -> Result<i64, Problem> {
    std::str::from_utf8(raw)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or("not an integer of 64 bits")
}

/// Whether an integer is spelled as it would be printed: no plus, no leading zero.
pub(super) fn is_canonical_integer(raw: &[u8]) -> bool {
    let digits = raw.strip_prefix(b"-").unwrap_or(raw);
    raw == b"0"
        || digits
            .first()
            .is_some_and(|first| matches!(first, b'1'..=b'9'))
}

/// A float as the server prints it; `NaN`, `Infinity` and `-Infinity` are the only way to what is not
/// finite.
pub(super) fn float(raw: &[u8]) -> Result<f64, Problem> {
    match raw {
        b"NaN" => return Ok(f64::NAN),
        b"Infinity" => return Ok(f64::INFINITY),
        b"-Infinity" => return Ok(f64::NEG_INFINITY),
        _ => {}
    }
    std::str::from_utf8(raw)
        .ok()
        .and_then(|text| text.parse::<f64>().ok())
        .filter(|value| value.is_finite())
        .ok_or("not a floating-point number")
}

/// Appends the shortest digits that read back as `value`, without a `.0`; what is not finite by name.
pub(super) fn write_float(value: f64, out: &mut Vec<u8>) {
    let name: &[u8] = match value {
        _ if value.is_nan() => b"NaN",
        f64::INFINITY => b"Infinity",
        f64::NEG_INFINITY => b"-Infinity",
        _ => {
            serde_json::to_writer(&mut *out, &value).expect("a Vec takes all writes");
            if out.ends_with(b".0") {
                out.truncate(out.len() - 2);
            }
            return;
        }
    };
    out.extend_from_slice(name);
}

pub(super) fn write_integer(value: i64, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &value).expect("a Vec takes all writes");
}

/// The exact decimal expansion of a float, for comparisons across kinds. Every finite double has at most
/// 1074 digits after the point (IEEE 754 binary64: the smallest is 2^-1074).
pub(super) fn exact(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.1074}")
    } else {
        let mut name = Vec::new();
        write_float(value, &mut name);
        String::from_utf8(name).expect("names are ASCII")
    }
}

/// Orders floats as the server does: -0 equals 0, NaN equals NaN and is greatest.
pub(super) fn compare_floats(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right)
        .unwrap_or_else(|| left.is_nan().cmp(&right.is_nan()))
}

/// Orders decimals by value (`1.50` equals `1.5`), NaN being greatest, without computing with them.
pub(super) fn compare_decimals(left: &str, right: &str) -> Ordering {
    let (left, right) = (Decimal::of(left), Decimal::of(right));
    match left.class.cmp(&right.class) {
        Ordering::Equal if left.class == Class::Negative => {
            right.magnitude().cmp(&left.magnitude())
        }
        Ordering::Equal => left.magnitude().cmp(&right.magnitude()),
        unequal => unequal,
    }
}

/// In the server's order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    NegativeInfinity,
    Negative,
    Zero,
    Positive,
    Infinity,
    NaN,
}

struct Decimal<'a> {
    class: Class,
    /// Without leading zeros.
    whole: &'a str,
    /// Without trailing zeros.
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    fn of(text: &'a str) -> Self {
        let (digits, sign) = match text.strip_prefix('-') {
            Some(digits) => (digits, Class::Negative),
            None => (text, Class::Positive),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let (whole, fraction) = (
            whole.trim_start_matches('0'),
            fraction.trim_end_matches('0'),
        );
        let class = match text {
            "NaN" => Class::NaN,
            "Infinity" => Class::Infinity,
            "-Infinity" => Class::NegativeInfinity,
            _ if whole.is_empty() && fraction.is_empty() => Class::Zero,
            _ => sign,
        };
        Self {
            class,
            whole,
            fraction,
        }
    }

    /// More digits before the point is more; then digit by digit.
    fn magnitude(&self) -> (usize, &'a str, &'a str) {
        (self.whole.len(), self.whole, self.fraction)
    }
}
