//! Every type without parts, with the values that are known to be difficult and a generator of others.

use crate::form::Form;
use crate::generate::{self as any_of, Draw, Texts, one_of};
use crate::{others, times};

/// A column and what is stored in it, row by row.
pub(crate) struct Column {
    /// The type in DDL.
    pub(crate) sql: String,
    /// The type in schema.toml.
    pub(crate) declared: String,
    pub(crate) form: Form,
    /// Input texts; `None` is a null.
    pub(crate) values: Vec<Option<String>>,
    /// Whether the server can compare two of them for equality.
    pub(crate) comparable: bool,
}

/// A type without parts.
pub(crate) struct Scalar {
    sql: &'static str,
    declared: &'static str,
    form: Form,
    edges: &'static [&'static str],
    generated: Texts,
    comparable: bool,
}

/// What exists before the tables: names that need quotes, a table whose rows are values and that lost a
/// column, a type that only an extension or a superuser could have made.
pub(crate) const TYPES: &str = r#"
CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION cube;
CREATE TYPE mood AS ENUM ('sad', 'o k', 'qu''ote', 'dou"ble', 'com,ma', 'back\slash', 'paren)(', 'NULL', 'ü');
CREATE DOMAIN small AS int4 CHECK (VALUE < 1000000);
CREATE DOMAIN smaller AS small CHECK (VALUE < 1000);
CREATE DOMAIN price AS numeric(10,2);
CREATE DOMAIN label AS varchar(20);
CREATE DOMAIN tags AS text[];
CREATE DOMAIN spans AS int4range;
CREATE TYPE textrange AS RANGE (subtype = text, collation = "C", multirange_type_name = textmultirange);
CREATE TABLE "Odd ""Place" (x float8, gone text, y float8);
ALTER TABLE "Odd ""Place" DROP COLUMN gone;
CREATE TYPE nothing AS ();
CREATE TYPE single AS ("only" text);
CREATE TYPE address AS (street text, "Zip, ""Code" varchar(9), price price, tags tags, at "Odd ""Place", moods mood[]);
CREATE DOMAIN home AS address CHECK ((VALUE).street <> 'nowhere');
CREATE TYPE nested AS (home home, others address[], extra hstore, doc jsonb, empty nothing, alone single, raw bytea, at timestamptz);
CREATE TYPE colon;
CREATE FUNCTION colon_in(cstring) RETURNS colon AS 'textin' LANGUAGE internal IMMUTABLE STRICT;
CREATE FUNCTION colon_out(colon) RETURNS cstring AS 'textout' LANGUAGE internal IMMUTABLE STRICT;
CREATE TYPE colon (INPUT = colon_in, OUTPUT = colon_out, LIKE = text, DELIMITER = ':');
"#;

/// Values drawn per type beside its edges.
const DRAWN: usize = 60;

/// One column per type without parts.
pub(crate) fn scalars(draw: &mut Draw, has_xml: bool) -> Vec<Column> {
    let all = numbers()
        .into_iter()
        .chain(floats_and_money())
        .chain(texts())
        .chain(documents())
        .chain(extensions())
        .chain(times::all())
        .chain(others::all());
    all.filter(|scalar| has_xml || scalar.sql != "xml")
        .map(|scalar| {
            let mut values = vec![None];
            values.extend(scalar.edges.iter().map(|edge| Some((*edge).to_owned())));
            for _ in 0..DRAWN {
                values.push(Some(draw.one(&scalar.generated)));
            }
            Column {
                sql: scalar.sql.to_owned(),
                declared: scalar.declared.to_owned(),
                form: scalar.form,
                values,
                comparable: scalar.comparable,
            }
        })
        .collect()
}

pub(crate) fn scalar(
    sql: &'static str,
    form: Form,
    edges: &'static [&'static str],
    generated: Texts,
) -> Scalar {
    Scalar {
        sql,
        declared: sql,
        form,
        edges,
        generated,
        comparable: true,
    }
}

impl Scalar {
    pub(crate) fn declared(self, declared: &'static str) -> Self {
        Self { declared, ..self }
    }

    pub(crate) fn incomparable(self) -> Self {
        Self {
            comparable: false,
            ..self
        }
    }
}

fn numbers() -> Vec<Scalar> {
    use Form::{Boolean, Number, Text};
    vec![
        scalar("bool", Boolean, &["t", "f"], one_of(&["t", "f"])),
        scalar(
            "int2",
            Number,
            &["-32768", "32767", "0"],
            any_of::number::<i16>(),
        ),
        scalar(
            "int4",
            Number,
            &["-2147483648", "2147483647"],
            any_of::number::<i32>(),
        ),
        scalar(
            "int8",
            Number,
            &[
                "-9223372036854775808",
                "9223372036854775807",
                "9007199254740993",
            ],
            any_of::number::<i64>(),
        ),
        scalar("oid", Number, &["0", "4294967295"], any_of::number::<u32>()),
        scalar(
            "numeric",
            Text,
            &[
                "NaN",
                "Infinity",
                "-Infinity",
                "0",
                "-0.0",
                "1e131071",
                "-9.9e131071",
                "1e-16383",
                "0.00",
                "123456789012345678901234567890.123456789012345678901234567890",
            ],
            any_of::numeric(),
        ),
        scalar(
            "numeric(10,2)",
            Text,
            &["NaN", "99999999.99", "-0.01", "5"],
            any_of::matching("-?[0-9]{1,8}\\.[0-9]{2}"),
        ),
    ]
}

fn floats_and_money() -> Vec<Scalar> {
    use Form::{Float, Text};
    const FLOATS: &[&str] = &[
        "NaN",
        "Infinity",
        "-Infinity",
        "0",
        "-0",
        "1",
        "-1.5",
        "0.1",
        "1e20",
        "123456789",
    ];
    vec![
        scalar(
            "float4",
            Float,
            &["3.4028235e38", "1e-45", "1.1754942e-38", "16777217"],
            any_of::single(),
        ),
        scalar("real", Float, FLOATS, any_of::single()),
        scalar(
            "float8",
            Float,
            &[
                "1.7976931348623157e308",
                "5e-324",
                "2.225073858507201e-308",
                "9007199254740993",
            ],
            any_of::double(),
        ),
        scalar("double precision", Float, FLOATS, any_of::double()),
        scalar(
            "money",
            Text,
            &[
                "-92233720368547758.08",
                "92233720368547758.07",
                "0",
                "-0.01",
                "1234567.89",
            ],
            any_of::money(),
        ),
    ]
}

fn texts() -> Vec<Scalar> {
    use Form::{Bytes, Text};
    const TEXTS: &[&str] = &[
        "",
        " ",
        "NULL",
        "null",
        "\\N",
        "\\",
        "\"",
        "\"b\" 'c' \\\n\r\t\u{8}\u{b}\u{c}\u{1}\u{7f}é😀",
    ];
    vec![
        scalar("text", Text, TEXTS, any_of::text(20)),
        scalar("varchar(20)", Text, TEXTS, any_of::text(20)),
        scalar(
            "char(3)",
            Text,
            &["", "a", "abc", "é "],
            any_of::matching("[a-c é\"\\\\]{0,3}"),
        ),
        scalar(
            "bpchar",
            Text,
            &["", "a ", "ab   "],
            any_of::matching("[a-c é\"\\\\]{0,5}"),
        ),
        scalar("name", Text, &["", "a"], any_of::text(12)),
        scalar("citext", Text, TEXTS, any_of::text(12)),
        scalar(
            "\"char\"",
            Text,
            &["", "a", "\"", "\\", ","],
            any_of::matching("[ -~]"),
        ),
        scalar(
            "bytea",
            Bytes,
            &["\\x", "\\x00ff10", "\\x5c78"],
            any_of::bytea(),
        ),
    ]
}

fn documents() -> Vec<Scalar> {
    use Form::{Document, Text};
    const JSONS: &[&str] = &[
        "{}",
        "[]",
        "\"\"",
        "12345678901234567890.10",
        "1e300",
        "-0",
        "{\"a\" : [1, {\"b\": null}], \"é\\n\" : \"\\u00e9 \\\\ \\\"\"}",
    ];
    vec![
        scalar(
            "json",
            Document,
            &[
                "{\"a\":1,\"a\":2}",
                "{\n \"a\" : 1.10 ,\t\"b\":\"\\ud800\"}",
                "[1,\n2]",
            ],
            any_of::json(),
        )
        .incomparable(),
        scalar("jsonb", Document, JSONS, any_of::json()),
        scalar(
            "xml",
            Text,
            &["", "<a/>", "<a b=\"c\">d &amp; é</a>", "<!-- x -->"],
            any_of::matching("<a b=\"[a-c é']{0,5}\">[a-c \"\n\t,{}\\\\]{0,9}</a>"),
        )
        .incomparable(),
        scalar(
            "uuid",
            Text,
            &["00000000-0000-0000-0000-000000000000"],
            any_of::uuid(),
        ),
        scalar(
            "jsonpath",
            Text,
            &["$", "$.a[*] ? (@.b > 1.5)", "strict $.\"q\\\"x\""],
            one_of(&["$[*]", "$.a.b"]),
        )
        .incomparable(),
    ]
}

fn extensions() -> Vec<Scalar> {
    use Form::{Hstore, Text};
    vec![
        scalar(
            "hstore",
            Hstore,
            &[
                "",
                "a=>1, b=>NULL",
                "\"\"=>\"NULL\", \"null\"=>\"\"",
                "\"q\\\"\\\\ =>,\"=>\"x\\\"y\\\\\"",
            ],
            any_of::hstore(),
        ),
        scalar(
            "ltree",
            Text,
            &["", "a", "Top.Science_1.x"],
            any_of::matching("[A-Za-z0-9_]{1,4}(\\.[a-z]{1,3}){0,3}"),
        ),
        scalar(
            "lquery",
            Text,
            &["*.a|b{1,2}.!c@"],
            any_of::matching("[a-z]{1,4}(\\.[a-z]{1,3}){0,3}"),
        )
        .incomparable(),
        scalar(
            "cube",
            Text,
            &["(1,2),(3,4)", "0", "()"],
            any_of::matching("[0-9]{1,3}"),
        ),
    ]
}
