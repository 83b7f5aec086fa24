//! Laws that hold for any bytes and any values.

use std::cmp::Ordering;

use bigdecimal::BigDecimal;
use proptest::prelude::*;

use super::tests::{FORMS, json, json_of_decoded};
use super::{Type, Value};

const NAMES: [&str; 20] = [
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
    "row(a text, n int4)",
    "row(a text)[]",
    "hstore",
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
        let mut direct_text = Vec::new();
        let mut decoded_text = Vec::new();
        prop_assert_eq!(ty.write_text(&raw, &mut direct_text).is_ok(), direct.is_some());
        if let Ok(value) = ty.decode(&raw) {
            value.write_text(&mut decoded_text);
            prop_assert_eq!(direct_text, decoded_text);
        }
        if let Some(json) = direct {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok());
        }
    }

    #[test]
    fn any_name_is_a_type(name in prop_oneof![".{0,20}", "(row|ROW|[a-c \"(),\\[\\]]){0,20}"]) {
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
