use bson::{Bson, RawDocumentBuf, doc, rawdoc};
use rowbridge_api::Type;

use super::*;

#[path = "../../tests/real/generated.rs"]
mod generated;

use generated::{Dice, says};

fn written(value: impl Into<Bson>, ty: &str) -> Option<String> {
    let document = RawDocumentBuf::try_from(&doc! { "v": value.into() }).unwrap();
    let value = document.get("v").unwrap().unwrap();
    let mut out = Vec::new();
    match write(value, &Type::parse(ty).kind, &mut out) {
        Written::Null => None,
        Written::Value if out == UNREADABLE => Some("unreadable".to_owned()),
        Written::Value => Some(String::from_utf8(out).unwrap()),
    }
}

#[test]
fn values_of_a_columns_type_have_its_text_form() {
    let date = bson::DateTime::from_millis(1_796_119_200_123);
    let id = bson::oid::ObjectId::from_bytes([0xAB; 12]);
    let decimal = |text: &str| text.parse::<Decimal128>().unwrap();
    for (value, ty, text) in [
        (Bson::Int32(-5), "int4", "-5"),
        (Bson::Int64(i64::MAX), "int8", "9223372036854775807"),
        (Bson::Double(5.0), "int8", "5"),
        (Bson::Double(5.5), "int8", "unreadable"),
        (Bson::String("5".into()), "int8", "unreadable"),
        (Bson::Double(0.1), "float8", "0.1"),
        (Bson::Double(f64::NAN), "float8", "NaN"),
        (Bson::Int32(7), "float8", "7"),
        (Bson::Int64(i64::MAX), "float8", "unreadable"),
        (Bson::Boolean(true), "bool", "t"),
        (Bson::String("é".into()), "text", "é"),
        (Bson::Int32(1), "text", "unreadable"),
        (Bson::ObjectId(id), "text", "abababababababababababab"),
        (
            Bson::DateTime(date),
            "timestamptz",
            "2026-12-01 10:00:00.123+00",
        ),
        (
            Bson::DateTime(bson::DateTime::MAX),
            "timestamptz",
            "unreadable",
        ),
        (Bson::Decimal128(decimal("1.50")), "numeric", "1.50"),
        (Bson::Decimal128(decimal("-1.5E+3")), "numeric", "-1500"),
        (Bson::Decimal128(decimal("1E-9")), "numeric", "0.000000001"),
        (Bson::Decimal128(decimal("0E+3")), "numeric", "0"),
        (Bson::Decimal128(decimal("NaN")), "numeric", "NaN"),
        (Bson::Int32(3), "numeric", "3"),
        (Bson::Double(3.0), "numeric", "unreadable"),
    ] {
        assert_eq!(
            written(value.clone(), ty).as_deref(),
            Some(text),
            "{value:?} as {ty}"
        );
    }
    assert_eq!(written(Bson::Null, "int8"), None);
    assert_eq!(written(Bson::Undefined, "json"), None);
}

#[test]
fn what_is_written_reads_as_the_columns_type() {
    let date = bson::DateTime::from_millis(-62_135_596_800_001);
    for (value, ty, json) in [
        (
            Bson::DateTime(date),
            "timestamptz",
            "\"0000-12-31T23:59:59.999Z\"",
        ),
        (
            Bson::Binary(bson::Binary {
                subtype: bson::spec::BinarySubtype::Generic,
                bytes: vec![0, 255],
            }),
            "bytea",
            "\"AP8=\"",
        ),
    ] {
        let document = RawDocumentBuf::try_from(&doc! { "v": value }).unwrap();
        let mut out = Vec::new();
        write(
            document.get("v").unwrap().unwrap(),
            &Type::parse(ty).kind,
            &mut out,
        );
        let mut read = Vec::new();
        Type::parse(ty).write_json(&out, &mut read).unwrap();
        assert_eq!(String::from_utf8(read).unwrap(), json);
    }
}

#[test]
fn documents_are_json() {
    let document = rawdoc! {
        "a": { "b": [1_i32, 2_i64, null, "x\"y", { "c": 1.5 }], "d": true },
        "id": bson::oid::ObjectId::from_bytes([1; 12]),
        "at": bson::DateTime::from_millis(0),
        "n": "1.10".parse::<Decimal128>().unwrap(),
        "ts": Timestamp { time: 7, increment: 2 },
    };
    let mut out = Vec::new();
    write(RawBsonRef::Document(&document), &Kind::Json, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"a":{"b":[1,2,null,"x\"y",{"c":1.5}],"d":true},"id":"010101010101010101010101","at":"1970-01-01T00:00:00Z","n":"1.10","ts":"7:2"}"#
    );
}

#[test]
fn nothing_reads_what_is_unreadable() {
    for ty in [
        "bool",
        "int8",
        "numeric",
        "float8",
        "text",
        "bytea",
        "json",
        "timestamptz",
    ] {
        assert!(Type::parse(ty).decode(UNREADABLE).is_err(), "{ty}");
    }
}

#[test]
fn any_value_comes_back_from_its_json() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for _ in 0..20_000 {
        let value = dice.any(5);
        let json = written(value.clone(), "json").unwrap_or_else(|| "null".to_owned());
        let parsed = serde_json::from_str(&json).unwrap_or_else(|_| panic!("{json} of {value:?}"));
        assert!(says(&parsed, &value), "{json} is not {value:?}");
    }
}

#[test]
fn a_pointer_is_its_collection_and_id() {
    // Length, the value with its name, the end.
    let mut bytes = vec![0, 0, 0, 0, 0x0C, b'v', 0, 4, 0, 0, 0, b'a', b'.', b'b', 0];
    bytes.extend([0xCD; 12]);
    bytes.push(0);
    bytes[0] = u8::try_from(bytes.len()).unwrap();
    let document = RawDocumentBuf::from_bytes(bytes).unwrap();
    let mut out = Vec::new();
    write(document.get("v").unwrap().unwrap(), &Kind::Json, &mut out);
    let json = r#"{"collection":"a.b","id":"cdcdcdcdcdcdcdcdcdcdcdcd"}"#;
    assert_eq!(String::from_utf8(out).unwrap(), json);
}

#[test]
fn what_is_out_of_bounds_is_unreadable_and_not_another_value() {
    let nested =
        |depth: usize| (0..depth).fold(Bson::Int32(1), |inner, _| Bson::Array(vec![inner]));
    assert!(
        written(nested(MAX_DEPTH), "json")
            .unwrap()
            .starts_with("[[[")
    );
    assert_eq!(
        written(nested(MAX_DEPTH + 2), "json").as_deref(),
        Some("unreadable")
    );
    // The years -290308 to 294247 have microseconds that fit 64 bits.
    for millis in [
        i64::MIN,
        -9_223_372_036_854_776,
        9_223_372_036_854_776,
        i64::MAX,
    ] {
        let moment = Bson::Array(vec![Bson::DateTime(bson::DateTime::from_millis(millis))]);
        assert_eq!(written(moment, "json").as_deref(), Some("unreadable"));
    }
}
