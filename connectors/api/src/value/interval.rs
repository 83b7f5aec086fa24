//! Intervals: ISO 8601 durations as the server prints them under `IntervalStyle iso_8601`.

use super::Problem;

const MICROS_PER_SECOND: i128 = 1_000_000;
const MICROS_PER_DAY: i128 = 86_400 * MICROS_PER_SECOND;
/// As the server compares: a month is 30 days, a day is 24 hours.
const MICROS_PER_MONTH: i128 = 30 * MICROS_PER_DAY;

/// More digits than any interval of the server has; keeps the arithmetic far from overflow.
const MAX_DIGITS: usize = 18;

const NOT_A_DURATION: Problem = "not an ISO 8601 duration";

/// How long `text` is in microseconds, for comparisons; the infinities are the ends of the range.
/// `P1Y2M-3DT4H-5M6.789S`: every number may carry a sign of its own.
pub(super) fn span_micros(text: &str) -> Result<i128, Problem> {
    match text {
        "infinity" => return Ok(i128::MAX),
        "-infinity" => return Ok(i128::MIN),
        _ => {}
    }
    let fields = text.strip_prefix('P').ok_or(NOT_A_DURATION)?;
    let (days, clock) = match fields.split_once('T') {
        Some((_, "")) => return Err(NOT_A_DURATION),
        Some((days, clock)) => (days, clock),
        None if fields.is_empty() => return Err(NOT_A_DURATION),
        None => (fields, ""),
    };
    let date_units = [
        ('Y', 12 * MICROS_PER_MONTH),
        ('M', MICROS_PER_MONTH),
        ('W', 7 * MICROS_PER_DAY),
        ('D', MICROS_PER_DAY),
    ];
    let clock_units = [
        ('H', 3_600 * MICROS_PER_SECOND),
        ('M', 60 * MICROS_PER_SECOND),
        ('S', MICROS_PER_SECOND),
    ];
    Ok(sum(days, &date_units)? + sum(clock, &clock_units)?)
}

/// Adds up fields such as `4H-5M`, whose units come in the order of `units`, each at most once.
fn sum(mut fields: &str, mut units: &[(char, i128)]) -> Result<i128, Problem> {
    let mut total = 0;
    while !fields.is_empty() {
        let end = fields
            .find(|c: char| c.is_ascii_uppercase())
            .ok_or(NOT_A_DURATION)?;
        let (number, rest) = fields.split_at(end);
        let unit = rest.chars().next().ok_or(NOT_A_DURATION)?;
        let at = units
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or(NOT_A_DURATION)?;
        total += scaled(number, units[at].1)?;
        units = &units[at + 1..];
        fields = &rest[1..];
    }
    Ok(total)
}

/// `number` times `unit`, exact to the microsecond.
fn scaled(number: &str, unit: i128) -> Result<i128, Problem> {
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let mut value = digits_of(whole)? * unit;
    let decimals = u32::try_from(fraction.len()).map_err(|_| NOT_A_DURATION)?;
    value += digits_of(fraction)? * unit / 10_i128.pow(decimals);
    Ok(if negative { -value } else { value })
}

fn digits_of(text: &str) -> Result<i128, Problem> {
    let ok =
        (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    ok.then(|| text.parse().ok())
        .flatten()
        .ok_or(NOT_A_DURATION)
}
