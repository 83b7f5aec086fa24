//! What the server prints, what is published of it, and how it compares.

use std::cmp::Ordering;

use super::Type;

/// Type, the server's text, the JSON.
pub(super) const FORMS: &[(&str, &str, &str)] = &[
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
    (
        "(int4[])[]",
        r#"{"{}","{1,2}",NULL,"{{3}}"}"#,
        "[[],[1,2],null,[[3]]]",
    ),
    (
        "row(street text, zip int4)",
        r#"("Main St",1234)"#,
        r#"{"street":"Main St","zip":1234}"#,
    ),
    (
        "row(a text, b text, c text)",
        r#"(,"",a)"#,
        r#"{"a":null,"b":"","c":"a"}"#,
    ),
    (
        r#"row(a text, "b ""c" text)"#,
        r#"("a ""b"" \\ (,)","{""x"":1}")"#,
        r#"{"a":"a \"b\" \\ (,)","b \"c":"{\"x\":1}"}"#,
    ),
    ("row()", "()", "{}"),
    ("row(a text)", "()", r#"{"a":null}"#),
    (
        "row(n numeric(4,2), at row(x float8, tags text[]), on date)[]",
        r#"{"(1.50,\"(0.5,\"\"{a,NULL}\"\")\",\"0044-03-15 BC\")",NULL,"(,,)"}"#,
        r#"[{"n":"1.50","at":{"x":0.5,"tags":["a",null]},"on":"-0043-03-15"},null,{"n":null,"at":null,"on":null}]"#,
    ),
    ("hstore", "", "{}"),
    (
        "hstore",
        r#""a"=>"1", "b"=>NULL, ""=>"NULL", "q\"\\ =>,"=>"x\"y\\""#,
        r#"{"a":"1","b":null,"":"NULL","q\"\\ =>,":"x\"y\\"}"#,
    ),
    ("hstore", "a=>b , c=>null", r#"{"a":"b","c":null}"#),
    ("hstore[]", r#"{"\"a\"=>\"1\"",""}"#, r#"[{"a":"1"},{}]"#),
    ("string", "Not Arrived", r#""Not Arrived""#),
    ("int32", "-5", "-5"),
    ("int64", "9223372036854775807", "9223372036854775807"),
    ("double", "1.5", "1.5"),
    ("decimal128", "120.00", r#""120.00""#),
    (
        "datetime",
        "2026-12-01T10:00:00.500Z",
        r#""2026-12-01T10:00:00.5Z""#,
    ),
    (
        "objectid",
        "65f1a0000000000000000001",
        r#""65f1a0000000000000000001""#,
    ),
    ("binary", "\\x00ff10", r#""AP8Q""#),
    (
        "document",
        r#"{"name":{"given":"Ana"}}"#,
        r#"{"name":{"given":"Ana"}}"#,
    ),
    ("array", r#"["sea view",2]"#, r#"["sea view",2]"#),
    ("bson", r#"{"$timestamp":1}"#, r#"{"$timestamp":1}"#),
];

pub(super) fn json(ty: &Type, raw: &[u8]) -> Option<Vec<u8>> {
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

pub(super) fn json_of_decoded(ty: &Type, raw: &[u8]) -> Option<Vec<u8>> {
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
        ("row(a text)", "a"),
        ("row(a text)", "(a"),
        ("row(a text)", "(\"a)"),
        ("row(a text)", "(a\\"),
        ("row(a text)", "(a,b)"),
        ("row(a text)", "(a)b"),
        ("row(a text, b text)", "(abc)"),
        ("row()", "(abc)"),
        ("row(a int4)", "(abc)"),
        ("hstore", "a"),
        ("hstore", "a=>"),
        ("hstore", "a=>b c=>d"),
        ("hstore", "a=>b,"),
        ("hstore", "\"a=>b"),
        ("hstore", "\"a\\"),
        ("hstore", "=>b"),
    ] {
        let ty = Type::parse(name);
        assert_eq!(json(&ty, raw.as_bytes()), None, "{name} {raw}");
        let error = ty.decode(raw.as_bytes()).unwrap_err().to_string();
        assert!(raw.len() < 4 || !error.contains(raw), "{error}");
    }
    for name in ["text", "char(3)", "jsonb", "numeric", "interval", "text[]"] {
        assert_eq!(json(&Type::parse(name), b"{\xff}"), None, "{name}");
    }
    for (name, raw) in [
        ("row(a text)", b"(\xff)" as &[u8]),
        ("row(a text)", b"(\"\xff\"\"\")"),
        ("hstore", b"\xff=>a"),
        ("hstore", b"\"a\"=>\"\\\xff\""),
    ] {
        assert_eq!(json(&Type::parse(name), raw), None, "{name}");
        assert!(Type::parse(name).decode(raw).is_err(), "{name}");
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
    let mut text = Vec::new();
    ty.write_text(last, &mut text).unwrap();
    assert_eq!(text, b"+294276-12-31T23:59:59.999999Z");
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
        ("jsonb", "\"a\"", "\"a\""),
        ("bytea", "\\x00ff10", "AP8Q"),
        ("int4[]", "[0:1]={1,2}", "[0:1]={1,2}"),
        ("text[]", "[2:2]={\"a b\"}", "[2:2]={\"a b\"}"),
        ("row(a text)", "(b)", r#"{"a":"b"}"#),
    ] {
        let ty = Type::parse(name);
        let (mut direct, mut decoded) = (Vec::new(), Vec::new());
        ty.write_text(raw.as_bytes(), &mut direct).unwrap();
        ty.decode(raw.as_bytes()).unwrap().write_text(&mut decoded);
        assert_eq!(String::from_utf8(direct).unwrap(), expected);
        assert_eq!(String::from_utf8(decoded).unwrap(), expected);
    }
}

/// Type and text of two values, and their order.
#[expect(clippy::type_complexity, reason = "it is read row by row")]
const ORDERS: &[((&str, &str), Option<Ordering>, (&str, &str))] = &[
    (
        ("numeric", "1.50"),
        Some(Ordering::Equal),
        ("numeric", "1.5"),
    ),
    (("numeric", "-10"), Some(Ordering::Less), ("numeric", "-9")),
    (("numeric", "-0.0"), Some(Ordering::Equal), ("int4", "0")),
    (
        ("numeric", "9007199254740993"),
        Some(Ordering::Greater),
        ("float8", "9007199254740992"),
    ),
    (
        ("int8", "9007199254740993"),
        Some(Ordering::Greater),
        ("float8", "9007199254740992"),
    ),
    (("numeric", "0.1"), Some(Ordering::Less), ("float8", "0.1")),
    (("float8", "NaN"), Some(Ordering::Equal), ("numeric", "NaN")),
    (
        ("float8", "NaN"),
        Some(Ordering::Greater),
        ("float8", "Infinity"),
    ),
    (
        ("numeric", "Infinity"),
        Some(Ordering::Less),
        ("numeric", "NaN"),
    ),
    (("float8", "-0"), Some(Ordering::Equal), ("float8", "0")),
    (("text", "b"), Some(Ordering::Greater), ("text", "B")),
    (
        ("char(4)", "ab  "),
        Some(Ordering::Equal),
        ("char(9)", "ab       "),
    ),
    (("char(4)", "ab  "), Some(Ordering::Equal), ("text", "ab")),
    (("char(4)", "ab  "), Some(Ordering::Less), ("text", "ab  ")),
    (
        ("date", "2026-12-01"),
        Some(Ordering::Less),
        ("timestamp", "2026-12-01 00:00:01"),
    ),
    (
        ("date", "infinity"),
        Some(Ordering::Equal),
        ("timestamptz", "infinity"),
    ),
    (
        ("date", "5874897-12-31"),
        Some(Ordering::Less),
        ("date", "infinity"),
    ),
    (
        ("timetz", "10:00:00+02"),
        Some(Ordering::Less),
        ("timetz", "09:00:00+00"),
    ),
    (
        ("timetz", "10:00:00+02"),
        Some(Ordering::Less),
        ("timetz", "08:00:00+00"),
    ),
    (
        ("interval", "P1M"),
        Some(Ordering::Equal),
        ("interval", "P30D"),
    ),
    (
        ("interval", "PT-0.5S"),
        Some(Ordering::Less),
        ("interval", "PT0S"),
    ),
    (
        ("interval", "infinity"),
        Some(Ordering::Greater),
        ("interval", "P178000000Y"),
    ),
    (
        ("int4[]", "{1,2}"),
        Some(Ordering::Less),
        ("int4[]", "{1,2,0}"),
    ),
    (
        ("int4[]", "{1,NULL}"),
        Some(Ordering::Greater),
        ("int4[]", "{1,2,0}"),
    ),
    (
        ("bytea", "\\x00"),
        Some(Ordering::Less),
        ("bytea", "\\x0000"),
    ),
    (
        ("row(a int4, b numeric)", "(1,1.50)"),
        Some(Ordering::Equal),
        ("row(a int4, b numeric)", "(1,1.5)"),
    ),
    (
        ("row(a int4, b numeric)", "(1,)"),
        Some(Ordering::Greater),
        ("row(a int4, b numeric)", "(1,7)"),
    ),
    (
        ("row(a int4)", "(1)"),
        None,
        ("row(a int4, b int4)", "(1,2)"),
    ),
    (
        ("hstore", "a=>1,b=>NULL"),
        Some(Ordering::Equal),
        ("hstore", "b=>NULL,a=>1"),
    ),
    (("text", "1"), None, ("int4", "1")),
    (("bool", "t"), None, ("int4", "1")),
    (("date", "2026-12-01"), None, ("text", "2026-12-01")),
];

#[test]
fn compares_as_the_source() {
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
    for (left, order, right) in ORDERS {
        assert_eq!(compare(*left, *right), *order, "{left:?} {right:?}");
    }
}
