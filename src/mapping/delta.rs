//! `delta`: after - before, exact.

use std::str::FromStr as _;

use bigdecimal::BigDecimal;
use rowbridge_api::Value;

use super::judge::plain_digits;

/// The difference of two numbers; none if one of them is no number.
pub(super) fn delta(before: &Value<'_>, after: &Value<'_>) -> Option<Value<'static>> {
    match (before, after) {
        (Value::Int(before), Value::Int(after)) => Some(match after.checked_sub(*before) {
            Some(difference) => Value::Int(difference),
            None => {
                let difference = i128::from(*after) - i128::from(*before);
                Value::Decimal(difference.to_string().into())
            }
        }),
        (Value::Float(before), Value::Float(after)) => Some(Value::Float(after - before)),
        _ => {
            let difference = decimal(&digits(before)?, &digits(after)?)?;
            Some(Value::Decimal(difference.into()))
        }
    }
}

fn digits(value: &Value<'_>) -> Option<String> {
    match value {
        Value::Decimal(digits) => Some(digits.clone().into_owned()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(plain_digits(&number.to_string())),
        _ => None,
    }
}

/// As PostgreSQL subtracts: the scale is the larger of the two.
fn decimal(before: &str, after: &str) -> Option<String> {
    if let (Some(before), Some(after)) = (Scaled::parse(before), Scaled::parse(after)) {
        let scale = before.scale.max(after.scale);
        if let Some(units) = after
            .at(scale)
            .zip(before.at(scale))
            .and_then(|(after, before)| after.checked_sub(before))
        {
            return Some(print(units, scale));
        }
    }
    match (before, after) {
        ("NaN", _) | (_, "NaN") | ("Infinity", "Infinity") | ("-Infinity", "-Infinity") => {
            Some("NaN".to_owned())
        }
        (_, "Infinity") | ("-Infinity", _) => Some("Infinity".to_owned()),
        (_, "-Infinity") | ("Infinity", _) => Some("-Infinity".to_owned()),
        _ => {
            let before = BigDecimal::from_str(before).ok()?;
            let after = BigDecimal::from_str(after).ok()?;
            Some((after - before).to_plain_string())
        }
    }
}

/// A decimal of few digits as a whole number of its last place.
struct Scaled {
    units: i128,
    scale: u32,
}

impl Scaled {
    /// Digits that two numbers of different scale may have together in an `i128`.
    const DIGITS: usize = 18;

    fn parse(text: &str) -> Option<Self> {
        if text.len() > Self::DIGITS {
            return None;
        }
        let (negative, unsigned) = text
            .strip_prefix('-')
            .map_or((false, text), |unsigned| (true, unsigned));
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let mut units: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            units = units * 10 + i128::from(char::from(digit).to_digit(10)?);
        }
        Some(Self {
            units: if negative { -units } else { units },
            scale: u32::try_from(fraction.len()).ok()?,
        })
    }

    fn at(&self, scale: u32) -> Option<i128> {
        self.units
            .checked_mul(10_i128.checked_pow(scale - self.scale)?)
    }
}

fn print(units: i128, scale: u32) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let digits = units.unsigned_abs().to_string();
    let scale = scale as usize;
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keeps_the_larger_scale() {
        assert_eq!(decimal("120.00", "99.5").as_deref(), Some("-20.50"));
        assert_eq!(decimal("0.05", "0.05").as_deref(), Some("0.00"));
        assert_eq!(decimal("1", "3").as_deref(), Some("2"));
        assert_eq!(decimal("0.10", "-0.05").as_deref(), Some("-0.15"));
    }

    #[test]
    fn follows_the_server_at_the_ends() {
        assert_eq!(decimal("NaN", "1").as_deref(), Some("NaN"));
        assert_eq!(decimal("Infinity", "Infinity").as_deref(), Some("NaN"));
        assert_eq!(decimal("1", "-Infinity").as_deref(), Some("-Infinity"));
        assert_eq!(decimal("-Infinity", "1").as_deref(), Some("Infinity"));
        let huge = delta(&Value::Int(i64::MIN), &Value::Int(i64::MAX));
        assert_eq!(huge, Some(Value::Decimal("18446744073709551615".into())));
    }

    proptest! {
        /// The fast path and the big numbers agree.
        #[test]
        fn agrees_with_bigdecimal(before in r"-?[0-9]{1,9}(\.[0-9]{1,6})?", after in r"-?[0-9]{1,9}(\.[0-9]{1,6})?") {
            let exact = BigDecimal::from_str(&after).unwrap() - BigDecimal::from_str(&before).unwrap();
            let found = BigDecimal::from_str(&decimal(&before, &after).unwrap()).unwrap();
            prop_assert_eq!(found, exact);
        }
    }
}
