//! Names of types, as people and the catalogue spell them, to [`Type`].
//!
//! Two spellings of one type give one name (`bigint` and `int8`, `character varying(9)` and `varchar(9)`),
//! so that schema.toml and the database can be compared by it.

use super::{Element, Field, Kind, Type};

/// Types inside types, deeper than anyone goes; it keeps readers from unbounded recursion.
pub const MAX_TYPE_DEPTH: u8 = 16;

/// The types of MongoDB's values (BSON 1.1), under names that no SQL type has: its date, a point in time, is a
/// `datetime`. Documents and arrays are JSON, and so is `bson`: a rare type, or a field of several types.
const BSON_TYPES: [(&str, Kind); 11] = [
    ("string", Kind::Text),
    ("int32", Kind::Int),
    ("int64", Kind::Int),
    ("double", Kind::Float),
    ("decimal128", Kind::Decimal),
    ("datetime", Kind::TimestampTz),
    ("objectid", Kind::Text),
    ("binary", Kind::Bytes),
    ("document", Kind::Json),
    ("array", Kind::Json),
    ("bson", Kind::Json),
];

/// What separates the elements of most arrays.
const COMMA: u8 = b',';

impl Type {
    /// Reads a type's name as schema.toml or the catalogue writes it (`int8` and `bigint` alike), a
    /// composite as `row(street text, zip text)`. A name that is not known is [`Kind::Text`]: its text form
    /// is published.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        parse(name, MAX_TYPE_DEPTH)
    }

    /// Whether this is one of the names for MongoDB's types, which a type that users made in an SQL database
    /// may have as well. There it is spelled in double quotes: `"document"` is text.
    #[must_use]
    pub fn is_bson(name: &str) -> bool {
        bson(name).is_some()
    }

    /// An array of `element`. The server does not tell `int4[3][]` from `int4[]`: the elements of an array
    /// are never arrays, but for those that are a domain over one.
    #[must_use]
    pub fn array(element: Self, delimiter: u8) -> Self {
        let name = match element.kind {
            Kind::Array(_) => format!("({})[]", element.name),
            // Else the name's own parentheses would be taken for those around an array.
            _ if enclosed(&element.name).is_some() => format!("({})[]", element.name),
            // Else a part of the name would be taken for a field's.
            _ if !is_one_field(&element.name) => format!("({})[]", element.name),
            _ => format!("{}[]", element.name),
        };
        let kind = element.kind;
        Self {
            name,
            kind: Kind::Array(Box::new(Element { kind, delimiter })),
        }
    }

    /// A composite of these fields.
    #[must_use]
    pub fn composite(fields: impl IntoIterator<Item = (String, Self)>) -> Self {
        let (mut names, mut kinds) = (Vec::new(), Vec::new());
        for (name, ty) in fields {
            names.push(format!("{} {}", quote(&name), ty.name));
            kinds.push(Field {
                name: name.into(),
                kind: ty.kind,
            });
        }
        Self {
            name: format!("row({})", names.join(", ")),
            kind: Kind::Composite(kinds.into()),
        }
    }

    /// The type of an array's elements.
    #[must_use]
    pub fn element(&self) -> Option<Self> {
        let Kind::Array(element) = &self.kind else {
            return None;
        };
        let name = self.name.strip_suffix("[]").unwrap_or(&self.name);
        Some(Self {
            name: enclosed(name).unwrap_or(name).to_owned(),
            kind: element.kind.clone(),
        })
    }
}

fn parse(name: &str, depth: u8) -> Type {
    let (element, is_array) = strip_array(name.trim());
    if !is_array {
        return parse_scalar(element, depth);
    }
    let element = match enclosed(element) {
        Some(inner) if depth > 0 => parse(inner, depth - 1),
        _ => parse_scalar(element, depth),
    };
    // The one type of the server itself with another delimiter.
    let delimiter = if element.name == "box" { b';' } else { COMMA };
    Type::array(element, delimiter)
}

/// What is in the parentheses around the whole of a name.
fn enclosed(name: &str) -> Option<&str> {
    let inner = name.strip_prefix('(')?.strip_suffix(')')?;
    let mut open = 0_u32;
    for byte in inner.bytes() {
        match byte {
            b'(' => open += 1,
            b')' => open = open.checked_sub(1)?,
            _ => {}
        }
    }
    (open == 0).then_some(inner)
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

fn parse_scalar(name: &str, depth: u8) -> Type {
    if let Some(composite) = parse_composite(name, depth) {
        return composite;
    }
    let unqualified = name.strip_prefix("pg_catalog.").unwrap_or(name);
    let (base, modifier) = split_modifier(unqualified);
    known(&base, modifier.as_deref())
        .or_else(|| bson(&base))
        .unwrap_or_else(|| Type {
            name: unqualified.to_owned(),
            kind: Kind::Text,
        })
}

fn bson(name: &str) -> Option<Type> {
    let (name, kind) = BSON_TYPES.iter().find(|(known, _)| *known == name)?;
    Some(Type {
        name: (*name).to_owned(),
        kind: kind.clone(),
    })
}

/// `row(street text, "Zip Code" varchar(9))`.
fn parse_composite(name: &str, depth: u8) -> Option<Type> {
    let (word, rest) = name.split_at_checked(3)?;
    let inner = rest.trim_start().strip_prefix('(')?.strip_suffix(')')?;
    if !word.eq_ignore_ascii_case("row") || depth == 0 {
        return None;
    }
    if inner.trim().is_empty() {
        return Some(Type::composite([]));
    }
    let fields: Option<Vec<(String, Type)>> = split_fields(inner)?
        .into_iter()
        .map(|field| {
            let (name, ty) = split_name(field.trim())?;
            Some((name, parse(ty, depth - 1)))
        })
        .collect();
    Some(Type::composite(fields?))
}

/// Splits at the commas that are in no parentheses and in no quotes.
fn split_fields(inner: &str) -> Option<Vec<&str>> {
    let (mut fields, mut start, mut open, mut quoted) = (Vec::new(), 0, 0_u32, false);
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'(' => open += 1,
            b')' => open = open.checked_sub(1)?,
            b',' if open == 0 => {
                fields.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    fields.push(&inner[start..]);
    (open == 0 && !quoted).then_some(fields)
}

/// Whether a name stays whole among the fields of a composite.
fn is_one_field(name: &str) -> bool {
    split_fields(name).is_some_and(|fields| fields.len() == 1)
}

/// A field's name, and its type's.
fn split_name(field: &str) -> Option<(String, &str)> {
    let (name, ty) = match field.strip_prefix('"') {
        None => {
            let (name, ty) = field.split_once(|c: char| c.is_ascii_whitespace())?;
            // What would mean something else once it stands in quotes.
            let is_bare = !name.contains(['"', '(', ')']);
            is_bare.then(|| (name.to_owned(), ty))?
        }
        Some(mut rest) => {
            let mut name = String::new();
            loop {
                let (part, after) = rest.split_once('"')?;
                name.push_str(part);
                rest = match after.strip_prefix('"') {
                    Some(rest) => rest,
                    None => break (name, after),
                };
                name.push('"');
            }
        }
    };
    let ty = ty.trim();
    (!ty.is_empty()).then_some((name, ty))
}

/// A field's name as [`split_name`] reads it: bare where SQL would have it bare.
fn quote(name: &str) -> String {
    let is_word = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    let is_bare = name.bytes().all(is_word) && !name.starts_with(|c: char| c.is_ascii_digit());
    if is_bare && !name.is_empty() {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// `timestamp (3) with time zone` to `timestamp with time zone` and `3`, in lower case and without
/// superfluous blanks. The modifiers of the server's own types are numbers.
fn split_modifier(name: &str) -> (String, Option<String>) {
    let words = |text: &str| {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        words.join(" ").to_ascii_lowercase()
    };
    let parts = name
        .split_once('(')
        .and_then(|(before, rest)| Some((before, rest.split_once(')')?)));
    let is_number = |byte: u8| matches!(byte, b'0'..=b'9' | b',' | b'-' | b' ');
    match parts {
        Some((before, (modifier, after))) if modifier.bytes().all(is_number) => (
            words(&format!("{before} {after}")),
            Some(modifier.split_ascii_whitespace().collect()),
        ),
        _ => (words(name), None),
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
        "hstore" => plain("hstore", Kind::Hstore),
        "date" => plain("date", Kind::Date),
        "time" | "time without time zone" => modified("time", Kind::Time),
        "timetz" | "time with time zone" => modified("timetz", Kind::TimeTz),
        "timestamp" | "timestamp without time zone" => modified("timestamp", Kind::Timestamp),
        "timestamptz" | "timestamp with time zone" => modified("timestamptz", Kind::TimestampTz),
        "interval" => modified("interval", Kind::Interval),
        fields if is_interval_fields(fields) => modified(fields, Kind::Interval),
        "text" | "name" | "citext" | "uuid" | "inet" | "cidr" | "macaddr" | "macaddr8" | "xml"
        | "box" => plain(base, Kind::Text),
        _ => None,
    };
    found.map(|(name, kind)| Type { name, kind })
}

/// `interval day to second`: PostgreSQL, "Date/Time Types".
fn is_interval_fields(base: &str) -> bool {
    const UNITS: [&str; 6] = ["year", "month", "day", "hour", "minute", "second"];
    base.strip_prefix("interval ")
        .is_some_and(|fields| fields.split(" to ").all(|unit| UNITS.contains(&unit)))
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
            ("(text[])[]", &["(text[])[]", "(text[3])[]"]),
            (
                "row(street text, \"Zip \"\"Code\" varchar(9), at row(x float8, y float8))",
                &[
                    "ROW ( street text,\"Zip \"\"Code\"  character varying(9) , at row(x float8,y float8) )",
                ],
            ),
            (
                "row(price numeric(10,2))[]",
                &["row(price decimal(10, 2)) [2]"],
            ),
            ("row()", &["row( )"]),
            ("objectid", &["objectId", " ObjectID "]),
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
            "row",
            "row(",
            "row(street)",
            "row(street text,)",
            "row(street text))",
            "row(\"street text)",
            "row(st\"reet text\" text)",
            "row(st(reet text, zip text[)])",
            "rowing(street text)",
            "\"document\"",
            "_string",
            "interval fortnight",
            "varchar(a(b)",
            "_interval # (_()..)L",
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
    fn the_types_of_mongodb_keep_their_names() {
        for (name, kind) in BSON_TYPES {
            let ty = Type::parse(name);
            assert_eq!((ty.name.as_str(), ty.kind), (name, kind));
            assert!(Type::is_bson(name));
        }
        assert!(!Type::is_bson("date") && !Type::is_bson("text"));
    }

    #[test]
    fn arrays_keep_their_elements_kind() {
        for (name, element, delimiter) in [
            ("numeric(10,2)[]", "numeric(10,2)", b','),
            ("mood[]", "mood", b','),
            ("box[]", "box", b';'),
            ("(int4[])[]", "int4[]", b','),
            ("((mood[].))[]", "(mood[].)", b','),
            ("()()[]", "()()", b','),
            ("(a b, c)[]", "a b, c", b','),
        ] {
            let ty = Type::parse(name);
            assert_eq!(ty.element(), Some(Type::parse(element)), "{name}");
            let Kind::Array(found) = ty.kind else {
                panic!("{name} is an array");
            };
            assert_eq!(found.delimiter, delimiter, "{name}");
        }
        assert_eq!(Type::parse("text").element(), None);
    }

    #[test]
    fn a_type_nested_without_end_is_text() {
        let deep = format!("{}int4{}", "row(a ".repeat(100), ")".repeat(100));
        let mut kind = Type::parse(&deep).kind;
        let mut depth = 0;
        while let Kind::Composite(fields) = kind {
            kind = fields[0].kind.clone();
            depth += 1;
        }
        assert_eq!((depth, kind), (MAX_TYPE_DEPTH, Kind::Text));
    }
}
