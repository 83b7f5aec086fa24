//! Names of types, as people and the catalogue spell them, to [`Type`].
//!
//! Two spellings of one type give one name (`bigint` and `int8`, `character varying(9)` and `varchar(9)`),
//! so that schema.toml and the database can be compared by it.

use super::{Kind, Type};

impl Type {
    /// Reads a type's name as schema.toml or the catalogue writes it (`int8` and `bigint` alike).
    /// A name that is not known is [`Kind::Text`]: its text form is published.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        let (element, is_array) = strip_array(name.trim());
        let mut ty = parse_scalar(element);
        if is_array {
            ty.name.push_str("[]");
            ty.kind = Kind::Array(Box::new(ty.kind));
        }
        ty
    }
}

/// The element's name and whether there was an array around it. The server does not tell `int4[3][]` from
/// `int4[]`; `_int4` is the catalogue's internal name of it.
fn strip_array(name: &str) -> (&str, bool) {
    let mut element = name;
    while let Some(inner) = element.strip_suffix(']') {
        let Some((before, size)) = inner.rsplit_once('[') else {
            break;
        };
        if !size.bytes().all(|byte| byte.is_ascii_digit()) {
            break;
        }
        element = before.trim_end();
    }
    if element.len() != name.len() {
        return (element, true);
    }
    match name.strip_prefix('_') {
        Some(inner) if known(&inner.to_ascii_lowercase(), None).is_some() => (inner, true),
        _ => (name, false),
    }
}

fn parse_scalar(name: &str) -> Type {
    let unqualified = name.strip_prefix("pg_catalog.").unwrap_or(name);
    let (base, modifier) = split_modifier(unqualified);
    known(&base, modifier.as_deref()).unwrap_or_else(|| Type {
        name: unqualified.to_owned(),
        kind: Kind::Text,
    })
}

/// `timestamp (3) with time zone` to `timestamp with time zone` and `3`, in lower case and without
/// superfluous blanks.
fn split_modifier(name: &str) -> (String, Option<String>) {
    let words = |text: &str| {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        words.join(" ").to_ascii_lowercase()
    };
    let parts = name
        .split_once('(')
        .and_then(|(before, rest)| Some((before, rest.split_once(')')?)));
    match parts {
        Some((before, (modifier, after))) => (
            words(&format!("{before} {after}")),
            Some(modifier.split_ascii_whitespace().collect()),
        ),
        None => (words(name), None),
    }
}

/// The type called `base`, if it has a form of its own or an alias.
fn known(base: &str, modifier: Option<&str>) -> Option<Type> {
    let plain = |name: &str, kind| Some((name.to_owned(), kind));
    let modified = |name: &str, kind| {
        let name = match modifier {
            Some(modifier) => format!("{name}({modifier})"),
            None => name.to_owned(),
        };
        Some((name, kind))
    };
    let found = match base {
        "bool" | "boolean" => plain("bool", Kind::Bool),
        "int2" | "smallint" | "smallserial" | "serial2" => plain("int2", Kind::Int),
        "int4" | "int" | "integer" | "serial" | "serial4" => plain("int4", Kind::Int),
        "int8" | "bigint" | "bigserial" | "serial8" => plain("int8", Kind::Int),
        "oid" => plain("oid", Kind::Int),
        "numeric" | "decimal" | "dec" => {
            let name = modifier.map(|modifier| match modifier.split_once(',') {
                Some(_) => format!("numeric({modifier})"),
                None => format!("numeric({modifier},0)"),
            });
            plain(name.as_deref().unwrap_or("numeric"), Kind::Decimal)
        }
        "money" => plain("money", Kind::Decimal),
        "float4" | "real" => plain("float4", Kind::Float),
        "float8" | "double precision" => plain("float8", Kind::Float),
        // float(1) to float(24) is float4: PostgreSQL, "Numeric Types".
        "float" => match modifier.and_then(|digits| digits.parse::<u8>().ok()) {
            Some(0..=24) => plain("float4", Kind::Float),
            _ => plain("float8", Kind::Float),
        },
        "varchar" | "character varying" | "char varying" | "nchar varying" => {
            modified("varchar", Kind::Text)
        }
        "char" | "character" | "nchar" | "national character" => {
            plain(&format!("char({})", modifier.unwrap_or("1")), Kind::Char)
        }
        "bpchar" if modifier.is_some() => modified("char", Kind::Char),
        "bpchar" => plain("bpchar", Kind::Char),
        "bit" => plain(&format!("bit({})", modifier.unwrap_or("1")), Kind::Text),
        "varbit" | "bit varying" => modified("varbit", Kind::Text),
        "bytea" => plain("bytea", Kind::Bytes),
        "json" | "jsonb" => plain(base, Kind::Json),
        "date" => plain("date", Kind::Date),
        "time" | "time without time zone" => modified("time", Kind::Time),
        "timetz" | "time with time zone" => modified("timetz", Kind::TimeTz),
        "timestamp" | "timestamp without time zone" => modified("timestamp", Kind::Timestamp),
        "timestamptz" | "timestamp with time zone" => modified("timestamptz", Kind::TimestampTz),
        "interval" => modified("interval", Kind::Interval),
        fields if fields.starts_with("interval ") => modified(fields, Kind::Interval),
        "text" | "name" | "citext" | "uuid" | "inet" | "cidr" | "macaddr" | "macaddr8" | "xml"
        | "box" => plain(base, Kind::Text),
        _ => None,
    };
    found.map(|(name, kind)| Type { name, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_type_are_one_type() {
        for (name, spellings) in [
            (
                "int8",
                &["bigint", "BIGINT", " int8 ", "pg_catalog.int8", "bigserial"] as &[&str],
            ),
            (
                "numeric(10,2)",
                &["decimal(10, 2)", "numeric( 10,2 )", "DEC (10,2)"],
            ),
            ("numeric(10,0)", &["numeric(10)"]),
            ("varchar(9)", &["character varying(9)", "VARCHAR (9)"]),
            (
                "char(1)",
                &["char", "character", "character(1)", "bpchar(1)"],
            ),
            ("timestamptz", &["timestamp with time zone"]),
            (
                "timestamptz(3)",
                &["timestamp(3) with time zone", "timestamptz (3)"],
            ),
            ("timestamp(3)", &["timestamp (3) without time zone"]),
            ("time(0)", &["time(0) without time zone"]),
            ("timetz", &["time with time zone"]),
            ("float8", &["double  precision", "float", "float(53)"]),
            ("float4", &["real", "float(24)"]),
            ("bool", &["boolean"]),
            ("varbit(5)", &["bit varying(5)"]),
            ("interval day to second(3)", &["interval day to second(3)"]),
            ("text[]", &["text[]", "text [3][3]", "_text", "TEXT[]"]),
            ("varchar(9)[]", &["character varying(9)[]"]),
            ("timestamptz(3)[]", &["timestamp(3) with time zone[]"]),
        ] {
            for spelling in spellings {
                assert_eq!(Type::parse(spelling), Type::parse(name), "{spelling}");
                assert_eq!(Type::parse(spelling).name, name, "{spelling}");
            }
        }
    }

    #[test]
    fn a_name_nobody_knows_is_text_and_keeps_its_spelling() {
        for name in [
            "fare_class",
            "\"char\"",
            "public.\"Fare Class\"",
            "vector(3)",
            "_seat",
            "int4range",
            "",
            "(",
            "]",
            "[",
            "é",
        ] {
            assert_eq!(
                Type::parse(name),
                Type {
                    name: name.to_owned(),
                    kind: Kind::Text
                }
            );
        }
    }

    #[test]
    fn arrays_keep_their_elements_kind() {
        assert_eq!(
            Type::parse("numeric(10,2)[]").kind,
            Kind::Array(Box::new(Kind::Decimal))
        );
        assert_eq!(
            Type::parse("mood[]").kind,
            Kind::Array(Box::new(Kind::Text))
        );
    }
}
