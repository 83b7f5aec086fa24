//! What the server prints, and what is published of it; and laws that hold for any bytes.

use std::cmp::Ordering;

use bigdecimal::BigDecimal;
use proptest::prelude::*;

use super::{Type, Value};

/// Type, the server's text, the JSON.
const FORMS: &[(&str, &str, &str)] = &[
    ("bool", "t", "true"),
    ("bool", "f", "false"),
    ("int2", "-32768", "-32768"),
    ("int8", "9223372036854775807", "9223372036854775807"),
    ("oid", "4294967295", "4294967295"),
    ("numeric", "120.00", r#""120.00""#),
    (
        "numeric",
        "-0.000000000000000000000000000000000000001",
        r#""-0.000000000000000000000000000000000000001""#,
    ),
    ("numeric", "NaN", r#""NaN""#),
    ("numeric", "-Infinity", r#""-Infinity""#),
    ("money", "-$1,234,567.89", r#""-1234567.89""#),
    ("float8", "0.1", "0.1"),
    ("float8", "100", "100"),
    ("float8", "-0", "-0"),
    ("float8", "1e+300", "1e+300"),
    ("float8", "5e-324", "5e-324"),
    ("float4", "3.4028235e+38", "3.4028235e+38"),
    ("float8", "NaN", r#""NaN""#),
    ("float8", "-Infinity", r#""-Infinity""#),
    ("text", "", r#""""#),
    (
        "text",
        "a \"b\" \\ \n\r\t\u{8}\u{c}\u{1}\u{1f}\u{7f} é 😀",
        "\"a \\\"b\\\" \\\\ \\n\\r\\t\\b\\f\\u0001\\u001f\u{7f} é 😀\"",
    ),
    ("char(4)", "ab  ", r#""ab  ""#),
    (
        "uuid",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#,
    ),
    ("bytea", "\\x", r#""""#),
    ("bytea", "\\x00ff10", r#""AP8Q""#),
    ("bytea", "\\xDEADBEEF", r#""3q2+7w==""#),
    (
        "json",
        "{ \"a\" : 1.10,\n \"a\": 12345678901234567890 }",
        "{ \"a\" : 1.10,\n \"a\": 12345678901234567890 }",
    ),
    ("jsonb", "null", "null"),
    ("date", "2026-12-01", r#""2026-12-01""#),
    ("date", "2024-02-29", r#""2024-02-29""#),
    ("date", "0044-03-15 BC", r#""-0043-03-15""#),
    ("date", "0001-12-31 BC", r#""0000-12-31""#),
    ("date", "4714-11-24 BC", r#""-4713-11-24""#),
    ("date", "5874897-12-31", r#""+5874897-12-31""#),
    ("date", "infinity", r#""infinity""#),
    ("date", "-infinity", r#""-infinity""#),
    ("time", "24:00:00", r#""24:00:00""#),
    ("time", "10:00:00.000001", r#""10:00:00.000001""#),
    ("timetz", "10:00:00.5+02", r#""10:00:00.5+02:00""#),
    ("timetz", "24:00:00-05:30", r#""24:00:00-05:30""#),
    ("timetz", "10:00:00+00:19:32", r#""10:00:00+00:19:32""#),
    (
        "timestamp",
        "2026-12-01 10:00:00.5",
        r#""2026-12-01T10:00:00.5""#,
    ),
    (
        "timestamp",
        "0044-03-15 10:00:00 BC",
        r#""-0043-03-15T10:00:00""#,
    ),
    ("timestamp", "infinity", r#""infinity""#),
    (
        "timestamptz",
        "2026-12-01 10:00:00.5+00",
        r#""2026-12-01T10:00:00.5Z""#,
    ),
    (
        "timestamptz",
        "2026-12-01T10:00:00.500Z",
        r#""2026-12-01T10:00:00.5Z""#,
    ),
    (
        "timestamptz",
        "2026-12-01 01:15:00+05:30",
        r#""2026-11-30T19:45:00Z""#,
    ),
    (
        "timestamptz",
        "1969-12-31 23:59:59.999999+00",
        r#""1969-12-31T23:59:59.999999Z""#,
    ),
    (
        "timestamptz",
        "0044-03-15 10:00:00+00 BC",
        r#""-0043-03-15T10:00:00Z""#,
    ),
    (
        "timestamptz",
        "12026-12-01 10:00:00+00",
        r#""+12026-12-01T10:00:00Z""#,
    ),
    ("timestamptz", "-infinity", r#""-infinity""#),
    (
        "interval",
        "P1Y2M-3DT4H-5M6.789S",
        r#""P1Y2M-3DT4H-5M6.789S""#,
    ),
    ("interval", "PT0S", r#""PT0S""#),
    ("interval", "PT-0.5S", r#""PT-0.5S""#),
    ("interval", "infinity", r#""infinity""#),
    ("int4[]", "{}", "[]"),
    ("int4[]", "{1,NULL,3}", "[1,null,3]"),
    ("int4[]", "{{1,2},{3,4}}", "[[1,2],[3,4]]"),
    ("int4[]", "[0:1]={1,2}", r#""[0:1]={1,2}""#),
    (
        "text[]",
        r#"{a,"NULL",NULL,"b,\"c\"\\ {}","",é}"#,
        r#"["a","NULL",null,"b,\"c\"\\ {}","","é"]"#,
    ),
    ("numeric(10,2)[]", "{1.50,NaN}", r#"["1.50","NaN"]"#),
    (
        "timestamptz[]",
        r#"{"2026-12-01 10:00:00+00"}"#,
        r#"["2026-12-01T10:00:00Z"]"#,
    ),
    ("jsonb[]", r#"{"{\"a\": [1, 2]}"}"#, r#"[{"a": [1, 2]}]"#),
    ("bytea[]", r#"{"\\x00ff10"}"#, r#"["AP8Q"]"#),
    (
        "box[]",
        "{(1,1),(0,0);(3,3),(2,2)}",
        r#"["(1,1),(0,0)","(3,3),(2,2)"]"#,
    ),
];

fn json(ty: &Type, raw: &[u8]) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    let result = ty.write_json(raw, &mut out);
    let written = out.strip_prefix(b"before").unwrap();
    match result {
        Ok(()) => Some(written.to_vec()),
        Err(_) => {
            assert_eq!(written, b"", "an error leaves the buffer as it was");
            None
        }
    }
}

fn json_of_decoded(ty: &Type, raw: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    ty.decode(raw).ok()?.write_json(&mut out);
    Some(out)
}

#[test]
fn every_form_of_the_server_has_its_json() {
    for (name, raw, expected) in FORMS {
        let ty = Type::parse(name);
        let written = json(&ty, raw.as_bytes()).map(|json| String::from_utf8(json).unwrap());
        assert_eq!(written.as_deref(), Some(*expected), "{name} {raw}");
        assert_eq!(
            json_of_decoded(&ty, raw.as_bytes()),
            Some(expected.as_bytes().to_vec()),
            "{name} {raw}"
        );
        serde_json::from_str::<serde::de::IgnoredAny>(expected).unwrap();
    }
}

#[test]
fn what_is_not_of_the_type_is_an_error_that_keeps_the_value_to_itself() {
    for (name, raw) in [
        ("bool", "maybe" as &str),
        ("int4", "1.5"),
        ("int8", "9223372036854775808"),
        ("numeric", "1e5"),
        ("numeric", ".5"),
        ("money", "$1.2.3"),
        ("float8", "inf"),
        ("float8", "1e999"),
        ("bytea", "\\x0"),
        ("bytea", "\\x0g"),
        ("bytea", "raw"),
        ("json", "{"),
        ("date", "2026-02-29"),
        ("date", "0000-01-01 BC"),
        ("date", "2026-13-01"),
        ("date", "2026-12-01 "),
        ("time", "24:00:00.1"),
        ("time", "10:60:00"),
        ("time", "10:00:00."),
        ("timestamp", "2026-12-01 10:00:00+00"),
        ("timestamptz", "2026-12-01 10:00:00"),
        ("timestamptz", "2026-12-01 10:00:00.1234567+00"),
        ("interval", "P"),
        ("interval", "P1"),
        ("interval", "1 day"),
        ("interval", "P1D2Y"),
        ("int4[]", "{1,}"),
        ("int4[]", "{1"),
        ("int4[]", "{1}}"),
        ("int4[]", "1"),
        ("int4[]", "{,1}"),
        ("text[]", "{\"a"),
        ("text[]", "{\"a\\"),
        ("text[]", "{{{{{{{1}}}}}}}"),
    ] {
        let ty = Type::parse(name);
        assert_eq!(json(&ty, raw.as_bytes()), None, "{name} {raw}");
        let error = ty.decode(raw.as_bytes()).unwrap_err().to_string();
        assert!(raw.len() < 4 || !error.contains(raw), "{error}");
    }
    for name in ["text", "char(3)", "jsonb", "numeric", "interval", "text[]"] {
        assert_eq!(json(&Type::parse(name), b"{\xff}"), None, "{name}");
    }
}

#[test]
fn the_servers_last_timestamp_is_published_though_no_rule_can_compute_with_it() {
    let ty = Type::parse("timestamptz");
    let last = b"294276-12-31 23:59:59.999999+00";
    assert_eq!(
        json(&ty, last).unwrap(),
        br#""+294276-12-31T23:59:59.999999Z""#
    );
    assert!(ty.decode(last).is_err());
}

#[test]
fn a_template_shows_text_unescaped() {
    for (name, raw, expected) in [
        ("text", "a \"b\"\n", "a \"b\"\n"),
        ("numeric", "1.50", "1.50"),
        (
            "timestamptz",
            "2026-12-01 10:00:00+00",
            "2026-12-01T10:00:00Z",
        ),
        ("bool", "t", "true"),
        ("text[]", "{a,NULL}", r#"["a",null]"#),
        ("float8", "Infinity", "Infinity"),
    ] {
        let mut out = Vec::new();
        Type::parse(name)
            .decode(raw.as_bytes())
            .unwrap()
            .write_text(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn compares_as_the_source() {
    use Ordering::{Equal, Greater, Less};
    let compare = |(left_type, left): (&str, &str), (right_type, right): (&str, &str)| {
        let left = Type::parse(left_type)
            .decode(left.as_bytes())
            .unwrap()
            .into_owned();
        let right = Type::parse(right_type)
            .decode(right.as_bytes())
            .unwrap()
            .into_owned();
        assert_eq!(
            right.compare(&left),
            left.compare(&right).map(Ordering::reverse)
        );
        left.compare(&right)
    };
    for (left, order, right) in [
        (("numeric", "1.50"), Some(Equal), ("numeric", "1.5")),
        (("numeric", "-10"), Some(Less), ("numeric", "-9")),
        (("numeric", "-0.0"), Some(Equal), ("int4", "0")),
        (
            ("numeric", "9007199254740993"),
            Some(Greater),
            ("float8", "9007199254740992"),
        ),
        (
            ("int8", "9007199254740993"),
            Some(Greater),
            ("float8", "9007199254740992"),
        ),
        (("numeric", "0.1"), Some(Less), ("float8", "0.1")),
        (("float8", "NaN"), Some(Equal), ("numeric", "NaN")),
        (("float8", "NaN"), Some(Greater), ("float8", "Infinity")),
        (("numeric", "Infinity"), Some(Less), ("numeric", "NaN")),
        (("float8", "-0"), Some(Equal), ("float8", "0")),
        (("text", "b"), Some(Greater), ("text", "B")),
        (("char(4)", "ab  "), Some(Equal), ("char(9)", "ab       ")),
        (("char(4)", "ab  "), Some(Equal), ("text", "ab")),
        (("char(4)", "ab  "), Some(Less), ("text", "ab  ")),
        (
            ("date", "2026-12-01"),
            Some(Less),
            ("timestamp", "2026-12-01 00:00:01"),
        ),
        (
            ("date", "infinity"),
            Some(Equal),
            ("timestamptz", "infinity"),
        ),
        (("date", "5874897-12-31"), Some(Less), ("date", "infinity")),
        (
            ("timetz", "10:00:00+02"),
            Some(Less),
            ("timetz", "09:00:00+00"),
        ),
        (
            ("timetz", "10:00:00+02"),
            Some(Less),
            ("timetz", "08:00:00+00"),
        ),
        (("interval", "P1M"), Some(Equal), ("interval", "P30D")),
        (("interval", "PT-0.5S"), Some(Less), ("interval", "PT0S")),
        (
            ("interval", "infinity"),
            Some(Greater),
            ("interval", "P178000000Y"),
        ),
        (("int4[]", "{1,2}"), Some(Less), ("int4[]", "{1,2,0}")),
        (("int4[]", "{1,NULL}"), Some(Greater), ("int4[]", "{1,2,0}")),
        (("bytea", "\\x00"), Some(Less), ("bytea", "\\x0000")),
        (("text", "1"), None, ("int4", "1")),
        (("bool", "t"), None, ("int4", "1")),
        (("date", "2026-12-01"), None, ("text", "2026-12-01")),
    ] {
        assert_eq!(compare(left, right), order, "{left:?} {right:?}");
    }
}

const NAMES: [&str; 17] = [
    "bool",
    "int8",
    "numeric",
    "float8",
    "text",
    "char(3)",
    "bytea",
    "json",
    "date",
    "time",
    "timetz",
    "timestamp",
    "timestamptz",
    "interval",
    "text[]",
    "int4[]",
    "box[]",
];

/// Bytes that come near some type's grammar.
fn near_miss() -> impl Strategy<Value = Vec<u8>> {
    let alphabet =
        prop::sample::select(b"0123456789-+.:TZ PYMDHSeE{}[]=,;\"\\xntfaNul BC$\xff".to_vec());
    prop_oneof![
        prop::collection::vec(alphabet, 0..30),
        prop::collection::vec(any::<u8>(), 0..30),
        (
            prop::sample::select(FORMS),
            any::<prop::sample::Index>(),
            any::<u8>()
        )
            .prop_map(|((_, raw, _), index, byte)| {
                let mut raw = raw.as_bytes().to_vec();
                raw.push(b' ');
                let at = index.index(raw.len());
                raw[at] = byte;
                raw
            }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_give_the_same_both_ways(name in prop::sample::select(&NAMES[..]), raw in near_miss()) {
        let ty = Type::parse(name);
        let direct = json(&ty, &raw);
        let decoded = json_of_decoded(&ty, &raw);
        if decoded.is_some() || !name.starts_with("timestamp") {
            prop_assert_eq!(&direct, &decoded);
        }
        if let Some(json) = direct {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok());
        }
    }

    #[test]
    fn any_name_is_a_type(name in ".{0,20}") {
        let ty = Type::parse(&name);
        prop_assert_eq!(Type::parse(&ty.name).kind, ty.kind);
    }

    #[test]
    fn strings_read_back(text in any::<String>()) {
        let mut out = Vec::new();
        Value::Text((&text).into()).write_json(&mut out);
        prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
    }

    #[test]
    fn microseconds_read_back(micros in any::<i64>().prop_filter("PostgreSQL's range", |micros| *micros > -210_866_803_200_000_000)) {
        prop_assume!(micros != i64::MAX);
        let ty = Type::parse("timestamptz");
        let mut out = Vec::new();
        Value::TimestampTz(micros).write_text(&mut out);
        prop_assert_eq!(ty.decode(&out).unwrap(), Value::TimestampTz(micros));
    }

    #[test]
    fn days_read_back(days in -2_440_588_i32..=2_145_042_905) {
        let mut out = Vec::new();
        Value::Date(days).write_text(&mut out);
        prop_assert_eq!(Type::parse("date").decode(&out).unwrap(), Value::Date(days));
    }
}

/// Values of one kind, or of kinds that compare with each other, their extremes among them.
fn comparable() -> impl Strategy<Value = Vec<Value<'static>>> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::Int),
        (-3_i64..4).prop_map(Value::Int),
        any::<f64>().prop_map(Value::Float),
        (-6_i8..6).prop_map(|half| Value::Float(f64::from(half) / 2.0)),
        "-?[0-9]{1,3}(\\.[0-9]{1,3})?".prop_map(|digits| Value::Decimal(digits.into())),
        prop::sample::select(vec!["NaN", "Infinity", "-Infinity"])
            .prop_map(|name| Value::Decimal(name.into())),
    ];
    let text = prop_oneof![
        "[ab ]{0,3}".prop_map(|text| Value::Text(text.into())),
        "[ab ]{0,3}".prop_map(|text| Value::Char(text.into())),
    ];
    let instant = prop_oneof![
        any::<i32>().prop_map(Value::Date),
        prop::sample::select(vec![i64::MIN, -1, 0, 1, i64::MAX]).prop_map(Value::Timestamp),
        any::<i64>().prop_map(Value::TimestampTz),
    ];
    let timetz = (0_i64..5, -2_i32..3).prop_map(|(hour, offset)| Value::TimeTz {
        micros: hour * 3_600_000_000,
        offset_seconds: offset * 3_600,
    });
    let interval = "P-?[0-9]{1,2}M-?[0-9]{1,3}D".prop_map(|text| Value::Interval(text.into()));
    let array = prop::collection::vec(prop::option::of((0_i64..3).prop_map(Value::Int)), 0..3)
        .prop_map(Value::Array);
    prop_oneof![
        prop::collection::vec(number, 3),
        prop::collection::vec(text, 3),
        prop::collection::vec(instant, 3),
        prop::collection::vec(timetz, 3),
        prop::collection::vec(interval, 3),
        prop::collection::vec(array, 3),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn comparison_is_a_total_order(mut values in comparable()) {
        for left in &values {
            prop_assert_eq!(left.compare(left), Some(Ordering::Equal));
            for right in &values {
                let order = left.compare(right);
                prop_assert!(order.is_some());
                prop_assert_eq!(right.compare(left), order.map(Ordering::reverse));
            }
        }
        values.sort_by(|left, right| left.compare(right).unwrap());
        prop_assert_ne!(values[0].compare(&values[2]), Some(Ordering::Greater));
    }

    #[test]
    fn numbers_compare_as_exact_decimals(
        left in "-?[0-9]{1,25}(\\.[0-9]{1,25})?",
        right in "-?[0-9]{1,25}(\\.[0-9]{1,25})?",
        float in prop::num::f64::NORMAL,
        integer: i64,
    ) {
        let exact: BigDecimal = left.parse().unwrap();
        let value = Value::Decimal(left.into());
        let other = Value::Decimal(right.as_str().into());
        prop_assert_eq!(value.compare(&other), Some(exact.cmp(&right.parse().unwrap())));
        prop_assert_eq!(value.compare(&Value::Int(integer)), Some(exact.cmp(&integer.into())));
        let exact_float = BigDecimal::try_from(float).unwrap();
        prop_assert_eq!(value.compare(&Value::Float(float)), Some(exact.cmp(&exact_float)));
    }
}
