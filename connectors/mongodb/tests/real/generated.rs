//! Values of every BSON type by the dice, and what their published JSON says of them.
//!
//! The pure test of `text` uses this file too. What converts how is written here a second time, in the other direction
//! and by other means, so that both have to be right.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{
    Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp,
};

/// A generator: no dependency, the same on every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        let at = self.roll(of.len() as u64);
        of[usize::try_from(at).expect("an index")].clone()
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        [(); N].map(|()| u8::try_from(self.roll(256)).expect("a byte"))
    }

    fn text(&mut self) -> String {
        let parts = [
            "a",
            "B",
            "7",
            "\"",
            "\\",
            "/",
            ".",
            "$",
            "\u{1}",
            "\n",
            "\t",
            "\u{7f}",
            "é",
            "\u{2028}",
            "\u{1F600}",
            " ",
            "{",
            "}",
            "'",
        ];
        (0..self.roll(6)).map(|_| self.one(&parts)).collect()
    }

    fn int(&mut self) -> i64 {
        let random = i64::from_le_bytes(self.bytes());
        self.one(&[0, -1, i64::MIN, i64::MAX, 1 << 53, (1 << 53) + 1, random])
    }

    fn double(&mut self) -> f64 {
        let random = f64::from_le_bytes(self.bytes());
        let special = [
            0.0,
            -0.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            f64::MIN_POSITIVE,
            5e-324,
            0.1,
            1e21,
            9_007_199_254_740_993.0,
        ];
        if self.roll(2) == 0 {
            random
        } else {
            self.one(&special)
        }
    }

    fn decimal(&mut self) -> Decimal128 {
        let random = format!(
            "{}E{}",
            self.int(),
            i64::try_from(self.roll(80)).expect("small") - 40
        );
        let special = [
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "-0",
            "0E+6111",
            "1E-6176",
            "9.999999999999999999999999999999999E+6144",
            "-9.999999999999999999999999999999999E+6144",
            "1.50",
        ];
        let text = self.one(&special).to_owned();
        let text = if self.roll(2) == 0 { random } else { text };
        text.parse().expect("a decimal")
    }

    /// Within the years that a published moment can have.
    fn moment(&mut self) -> DateTime {
        let random = self.int() % 9_000_000_000_000_000;
        DateTime::from_millis(self.one(&[
            0,
            -1,
            -62_135_596_800_001,
            253_402_300_799_999,
            253_402_300_800_000,
            -9_000_000_000_000_000,
            9_000_000_000_000_000,
            random,
        ]))
    }

    fn scalar(&mut self) -> Bson {
        let number = |dice: &mut Self| u32::try_from(dice.roll(1 << 32)).expect("a word");
        match self.roll(20) {
            0 => Bson::Int32(self.one(&[0, -1, i32::MIN, i32::MAX])),
            1 | 2 => Bson::Int64(self.int()),
            3 | 4 => Bson::Double(self.double()),
            5 | 6 => Bson::Decimal128(self.decimal()),
            7 => Bson::DateTime(self.moment()),
            8 => {
                let subtype = self.one(&[0_u8, 1, 3, 4, 5, 6, 8, 128, 255]);
                Bson::Binary(Binary {
                    subtype: BinarySubtype::from(subtype),
                    // A UUID has 16 bytes.
                    bytes: self.bytes::<16>().to_vec(),
                })
            }
            9 => Bson::ObjectId(ObjectId::from_bytes(self.bytes())),
            10 => Bson::RegularExpression(Regex {
                pattern: self.text().try_into().expect("no zero bytes"),
                options: self
                    .one(&["", "i", "imsx"])
                    .try_into()
                    .expect("no zero bytes"),
            }),
            // As a field of its own a zero timestamp is replaced by the server with its clock.
            11 => Bson::Timestamp(Timestamp {
                time: number(self).max(1),
                increment: number(self),
            }),
            12 => self.one(&[Bson::MinKey, Bson::MaxKey]),
            13 => Bson::JavaScriptCode(self.text()),
            14 => Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
                code: self.text(),
                scope: self.document(0),
            }),
            15 => Bson::Symbol(self.text()),
            16 => Bson::Undefined,
            17 => Bson::Null,
            18 => Bson::Boolean(self.roll(2) == 0),
            _ => Bson::String(self.text()),
        }
    }

    /// A value nested at most this deep.
    pub(crate) fn any(&mut self, depth: u32) -> Bson {
        match self.roll(if depth == 0 { 6 } else { 9 }) {
            6 => Bson::Array((0..self.roll(4)).map(|_| self.any(depth - 1)).collect()),
            7 | 8 => Bson::Document(self.document(depth)),
            _ => self.scalar(),
        }
    }

    fn document(&mut self, depth: u32) -> Document {
        (0..self.roll(4))
            .map(|_| (self.text(), self.any(depth.saturating_sub(1))))
            .collect()
    }
}

/// Whether `published`, converted back, is what is stored. What is lost: the width of integers, the exponent of a
/// decimal, the subtype of binary data, and the difference between types that are published as the same text.
pub(crate) fn says(published: &serde_json::Value, stored: &Bson) -> bool {
    use serde_json::Value as Json;
    let text = published.as_str();
    match (stored, published) {
        (Bson::Null | Bson::Undefined, published) => published.is_null(),
        (Bson::Boolean(value), published) => published.as_bool() == Some(*value),
        (Bson::Int32(value), published) => published.as_i64() == Some((*value).into()),
        (Bson::Int64(value), published) => published.as_i64() == Some(*value),
        (Bson::Double(value), published) => says_double(published, *value),
        (Bson::Decimal128(value), Json::String(text)) => {
            !text.contains(['E', 'e']) && normal(text) == normal(&value.to_string())
        }
        (Bson::DateTime(value), Json::String(text)) => {
            millis(text) == Some(value.timestamp_millis())
        }
        (Bson::Binary(binary), Json::String(text)) => {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            bytes.is_ok_and(|bytes| bytes == binary.bytes)
        }
        (Bson::ObjectId(id), _) => {
            text.and_then(|text| ObjectId::parse_str(text).ok()) == Some(*id)
        }
        (Bson::RegularExpression(regex), Json::String(text)) => {
            let body = text
                .strip_prefix('/')
                .and_then(|rest| rest.rsplit_once('/'));
            body == Some((regex.pattern.as_str(), regex.options.as_str()))
        }
        (Bson::Timestamp(value), Json::String(text)) => {
            let parts = text.split_once(':');
            parts.is_some_and(|(time, increment)| {
                time.parse() == Ok(value.time) && increment.parse() == Ok(value.increment)
            })
        }
        (Bson::MinKey, _) => text == Some("MinKey"),
        (Bson::MaxKey, _) => text == Some("MaxKey"),
        (Bson::JavaScriptCode(value) | Bson::Symbol(value) | Bson::String(value), _) => {
            text == Some(value)
        }
        (Bson::JavaScriptCodeWithScope(value), Json::Object(fields)) => {
            fields.len() == 2
                && fields.get("code").and_then(Json::as_str) == Some(&value.code)
                && fields
                    .get("scope")
                    .is_some_and(|scope| says(scope, &Bson::Document(value.scope.clone())))
        }
        (Bson::Array(values), Json::Array(items)) => {
            items.len() == values.len()
                && items
                    .iter()
                    .zip(values)
                    .all(|(item, value)| says(item, value))
        }
        (Bson::Document(document), Json::Object(fields)) => {
            // In their order, too.
            fields.len() == document.len()
                && fields
                    .iter()
                    .zip(document)
                    .all(|((name, field), (key, value))| name == key && says(field, value))
        }
        _ => false,
    }
}

fn says_double(published: &serde_json::Value, stored: f64) -> bool {
    match (published.as_str(), published) {
        (Some("NaN"), _) => stored.is_nan(),
        (Some("Infinity"), _) => stored == f64::INFINITY,
        (Some("-Infinity"), _) => stored == f64::NEG_INFINITY,
        (_, serde_json::Value::Number(number)) => number
            .to_string()
            .parse::<f64>()
            .is_ok_and(|number| number.to_bits() == stored.to_bits()),
        _ => false,
    }
}

/// A decimal number's sign, its digits without zeros around them, and the exponent of the last.
fn normal(text: &str) -> (bool, String, i64) {
    let (sign, number) = match text.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, text),
    };
    if number.starts_with(['N', 'I']) {
        return (sign, number.to_owned(), 0);
    }
    let (digits, exponent) = number.split_once(['E', 'e']).unwrap_or((number, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let kept = all.trim_end_matches('0');
    let zeros = i64::try_from(all.len() - kept.len()).expect("short");
    let exponent: i64 = exponent.parse().expect("an exponent");
    let exponent = exponent - i64::try_from(fraction.len()).expect("short") + zeros;
    match kept.trim_start_matches('0') {
        "" => (sign, String::new(), 0),
        digits => (sign, digits.to_owned(), exponent),
    }
}

/// Milliseconds since 1970 of `[+-]YYYY-MM-DDThh:mm:ss[.fff]Z`, in any year (H. Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn millis(text: &str) -> Option<i64> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("-", rest) => (-1, rest),
        ("+", rest) => (1, rest),
        _ => (1, text),
    };
    let (date, time) = rest.strip_suffix('Z')?.split_once('T')?;
    let parts: Vec<i64> = date
        .split('-')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let [year, month, day] = parts.try_into().ok()?;
    let year = sign * year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let seconds = clock
        .split(':')
        .try_fold(0, |sum, part| Some(sum * 60 + part.parse::<i64>().ok()?))?;
    let thousandths: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some((days * 86_400 + seconds) * 1_000 + thousandths)
}
