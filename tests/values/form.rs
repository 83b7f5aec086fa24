//! What is published of a type, told a second time and from the consumer's side: JSON back to text that the
//! server can cast. Shares nothing with the code under test.

use std::collections::HashMap;

use serde_json::value::RawValue;

/// How a type's JSON must look.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// A JSON number.
    Number,
    /// A JSON number, or a string for what is not finite.
    Float,
    Boolean,
    /// A string, which is the text form.
    Text,
    /// A string in ISO 8601: date, timestamp.
    Instant,
    /// A string in base64.
    Bytes,
    /// Any JSON.
    Document,
    /// An array, or the server's text where it has lower bounds of its own.
    Array(Box<Form>, char),
    Composite(Vec<(String, Form)>),
    /// An object of strings and nulls.
    Hstore,
}

impl Form {
    /// The text form, `None` for null; panics where the JSON is not of this form.
    pub(crate) fn text(&self, json: &RawValue) -> Option<String> {
        let raw = json.get();
        if raw == "null" {
            return None;
        }
        Some(match self {
            Self::Number | Self::Float if is_number(raw) => raw.to_owned(),
            Self::Float => {
                let text = string(raw);
                assert!(matches!(&*text, "NaN" | "Infinity" | "-Infinity"), "{raw}");
                text
            }
            Self::Boolean if matches!(raw, "true" | "false") => raw.to_owned(),
            Self::Text => string(raw),
            Self::Instant => instant(&string(raw)),
            Self::Bytes => {
                use base64::Engine as _;
                let bytes = base64::engine::general_purpose::STANDARD.decode(string(raw));
                let digits = bytes.unwrap().into_iter().map(|byte| format!("{byte:02x}"));
                format!("\\x{}", digits.collect::<String>())
            }
            Self::Document => raw.to_owned(),
            Self::Array(..) if raw.starts_with('"') => {
                let text = string(raw);
                assert!(text.starts_with('['), "an array, or bounds: {text}");
                text
            }
            Self::Array(element, delimiter) => self.array(element, *delimiter, json),
            Self::Composite(fields) => composite(fields, raw),
            Self::Hstore => {
                let pairs: HashMap<String, Option<String>> = serde_json::from_str(raw).unwrap();
                let pairs = pairs.iter().map(|(key, value)| {
                    let value = value.as_deref().map_or("NULL".to_owned(), quoted);
                    format!("{}=>{value}", quoted(key))
                });
                pairs.collect::<Vec<_>>().join(",")
            }
            Self::Number | Self::Boolean => panic!("{raw} for a {self:?}"),
        })
    }

    fn array(&self, element: &Self, delimiter: char, json: &RawValue) -> String {
        let elements: Vec<Box<RawValue>> = serde_json::from_str(json.get()).unwrap();
        // Whether an array in an array is a dimension or an element, only the type tells.
        let is_dimension = |raw: &str| {
            raw.starts_with('[') && !matches!(element, Self::Document | Self::Array(..))
        };
        let elements = elements.iter().map(|json| match json.get() {
            raw if is_dimension(raw) => self.array(element, delimiter, json),
            _ => element
                .text(json)
                .map_or("NULL".to_owned(), |text| quoted(&text)),
        });
        let elements: Vec<String> = elements.collect();
        format!("{{{}}}", elements.join(&delimiter.to_string()))
    }
}

fn composite(fields: &[(String, Form)], raw: &str) -> String {
    let mut members: HashMap<String, Box<RawValue>> = serde_json::from_str(raw).unwrap();
    let values = fields.iter().map(|(name, form)| {
        let json = members.remove(name);
        let json = json.unwrap_or_else(|| panic!("no member {name}"));
        form.text(&json).map_or(String::new(), |text| quoted(&text))
    });
    let values: Vec<String> = values.collect();
    assert!(members.is_empty(), "more members than fields");
    format!("({})", values.join(","))
}

fn is_number(raw: &str) -> bool {
    raw.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

fn string(raw: &str) -> String {
    serde_json::from_str(raw).unwrap_or_else(|_| panic!("not a string: {raw}"))
}

/// `-0043-03-15T10:00:00Z` to `0044-03-15 10:00:00+00 BC`.
fn instant(iso: &str) -> String {
    if iso.ends_with("infinity") {
        return iso.to_owned();
    }
    let (date, time) = iso
        .split_once('T')
        .map_or((iso, ""), |(date, time)| (date, time));
    let time = match time.strip_suffix('Z') {
        Some(utc) => format!("{utc}+00"),
        None => time.to_owned(),
    };
    let (year, day) = date.split_at(date.len() - "-03-15".len());
    assert!(
        year.len() == 4 || year.starts_with(['+', '-']) || year == "0000",
        "{iso}"
    );
    let year: i64 = year.parse().unwrap();
    let (year, era) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    format!("{year:04}{day} {time}{era}")
}

/// In quotes, as arrays, composites and hstores take it.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
