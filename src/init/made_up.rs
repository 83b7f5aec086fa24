//! Values that no row has: from a column's type, or, for what looks personal, from its name.

use rowbridge_api::{Kind, Type};

/// Which of several made-up values: a change needs two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    First,
    Second,
}

impl Pick {
    pub(super) const ALL: [Self; 2] = [Self::First, Self::Second];

    const fn of<T: Copy>(self, values: [T; 2]) -> T {
        match self {
            Self::First => values[0],
            Self::Second => values[1],
        }
    }
}

/// A value of type `ty` in its text form; nothing for a type of the database's own whose values nobody can
/// guess.
pub(super) fn value(ty: &Type, pick: Pick) -> Option<String> {
    let text = |values: [&str; 2]| Some(pick.of(values).to_owned());
    match &ty.kind {
        Kind::Bool => text(["t", "f"]),
        Kind::Int => text(["1", "2"]),
        Kind::Decimal => Some(decimal(ty, pick)),
        Kind::Float => text(["1.5", "2.5"]),
        Kind::Bytes => text(["\\x00", "\\x01"]),
        Kind::Json => text(["{}", "{\"a\": 1}"]),
        Kind::Date => text(["2026-01-15", "2026-01-16"]),
        Kind::Time => text(["10:00:00", "11:00:00"]),
        Kind::TimeTz => text(["10:00:00+00", "11:00:00+00"]),
        Kind::Timestamp => text(["2026-01-15 10:00:00", "2026-01-16 11:00:00"]),
        Kind::TimestampTz => text(["2026-01-15 10:00:00+00", "2026-01-16 11:00:00+00"]),
        Kind::Interval => text(["PT1H", "PT2H"]),
        // Nothing is known of the elements, and an empty array is one of all types.
        Kind::Array(_) => (pick == Pick::First).then(|| "{}".to_owned()),
        _ => other(ty, pick),
    }
}

/// With as many places as the type has, and inside its precision.
fn decimal(ty: &Type, pick: Pick) -> String {
    let arguments = ty
        .name
        .strip_prefix("numeric(")
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|arguments| arguments.split_once(','));
    let parsed = arguments.and_then(|(precision, scale)| {
        Some((precision.parse::<i32>().ok()?, scale.parse::<i32>().ok()?))
    });
    let whole = |digits: i32| match digits {
        i32::MIN..=0 => "0",
        1 => pick.of(["1", "2"]),
        _ => pick.of(["10", "12"]),
    };
    match (ty.name.as_str(), parsed) {
        ("money", _) => pick.of(["$10.00", "$12.00"]).to_owned(),
        (_, None) => pick.of(["10.00", "12.00"]).to_owned(),
        (_, Some((precision, scale @ 1..))) if precision > scale => {
            let places = "0".repeat(usize::try_from(scale).unwrap_or_default());
            format!("{}.{places}", whole(precision - scale))
        }
        // Only places: the last one is free whatever the precision.
        (_, Some((_, scale @ 1..))) => {
            let zeros = "0".repeat(usize::try_from(scale - 1).unwrap_or_default());
            format!("0.{zeros}{}", pick.of(["1", "2"]))
        }
        (_, Some((precision, 0))) => whole(precision).to_owned(),
        // A negative scale rounds to tens or more.
        (_, Some((_, scale))) => {
            let zeros = "0".repeat(usize::try_from(-scale).unwrap_or_default());
            format!("{}{zeros}", pick.of(["1", "2"]))
        }
    }
}

/// Types that are read as text.
fn other(ty: &Type, pick: Pick) -> Option<String> {
    let (base, length) = match ty.name.split_once('(') {
        Some((base, rest)) => (base, rest.split(')').next()?.parse::<usize>().ok()),
        None => (ty.name.as_str(), None),
    };
    let values = match base {
        "text" | "string" | "varchar" | "char" | "bpchar" | "name" | "citext" | "\"char\"" => {
            ["one", "two"]
        }
        "bit" => {
            let length = length.unwrap_or(1);
            return Some(pick.of(["0", "1"]).repeat(length));
        }
        "varbit" => ["0", "1"],
        "objectid" => ["65f1a0c2e4b0a1b2c3d4e5f6", "65f1a0c2e4b0a1b2c3d4e5f7"],
        "uuid" => [
            "00000000-0000-4000-8000-000000000001",
            "00000000-0000-4000-8000-000000000002",
        ],
        "inet" => ["192.0.2.1", "192.0.2.2"],
        "cidr" => ["192.0.2.0/24", "198.51.100.0/24"],
        "macaddr" => ["00:00:5e:00:53:01", "00:00:5e:00:53:02"],
        "macaddr8" => ["00:00:5e:ff:fe:00:53:01", "00:00:5e:ff:fe:00:53:02"],
        "xml" => ["<a/>", "<b/>"],
        "tsvector" => ["'one'", "'two'"],
        "tsquery" => ["'one'", "'two'"],
        "int4range" | "int8range" => ["[1,3)", "[1,4)"],
        "numrange" => ["[1.5,3.5)", "[1.5,4.5)"],
        "daterange" => ["[2026-01-15,2026-01-16)", "[2026-01-15,2026-01-17)"],
        "point" => ["(1,2)", "(1,3)"],
        "box" => ["(1,1),(0,0)", "(2,2),(0,0)"],
        "pg_lsn" => ["0/1", "0/2"],
        "hstore" | "public.hstore" => ["\"a\"=>\"1\"", "\"a\"=>\"2\""],
        _ => return None,
    };
    // The server's one-byte type is printed in quotes.
    let length = if base == "\"char\"" { Some(1) } else { length };
    Some(cut(pick.of(values), length))
}

fn cut(text: &str, length: Option<usize>) -> String {
    text.chars().take(length.unwrap_or(usize::MAX)).collect()
}

/// By a word of the column's name: what stands for the real thing.
const PERSONAL: [(&[&str], [&str; 2]); 12] = [
    (
        &["email", "mail"],
        ["alex@example.com", "robin@example.com"],
    ),
    (
        &["phone", "telephone", "tel", "mobile", "fax", "msisdn"],
        ["+44 20 7946 0018", "+44 20 7946 0019"],
    ),
    (&["passport"], ["X1234567", "X7654321"]),
    (
        &[
            "given",
            "first",
            "firstname",
            "forename",
            "middle",
            "nickname",
        ],
        ["Alex", "Robin"],
    ),
    (
        &["family", "last", "lastname", "surname", "maiden"],
        ["Example", "Sample"],
    ),
    (&["card", "pan"], ["4000000000000002", "4000000000000010"]),
    (
        &["iban"],
        ["GB33BUKB20201555555555", "GB94BARC10201530093459"],
    ),
    (
        &["street", "address"],
        ["1 Example Street", "2 Example Street"],
    ),
    (&["city"], ["Exampleton", "Sampleton"]),
    (&["zip", "postcode", "postal"], ["EX1 1AA", "EX1 1AB"]),
    (
        &["birth", "birthday", "birthdate", "dob"],
        ["1990-01-01", "1990-01-02"],
    ),
    (&["name", "fullname"], ["Alex Example", "Robin Sample"]),
];

/// A value for a column that looks personal.
pub(super) fn personal(words: &[String], ty: &Type, pick: Pick) -> Option<String> {
    let by_name = PERSONAL
        .iter()
        .find(|(names, _)| words.iter().any(|word| names.contains(&word.as_str())));
    let length = |ty: &Type| {
        let (base, rest) = ty.name.split_once('(')?;
        let length = rest.strip_suffix(')')?.parse::<usize>().ok()?;
        matches!(base, "varchar" | "char").then_some(length)
    };
    let is_text = matches!(
        ty.name.split('(').next(),
        Some("text" | "string" | "varchar" | "char" | "bpchar" | "citext" | "name")
    );
    match by_name {
        Some((_, values)) if is_text => Some(cut(pick.of(*values), length(ty))),
        None if is_text => Some(cut(pick.of(["made up", "also made up"]), length(ty))),
        _ => value(ty, pick),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_made_up_value_is_one_of_its_type() {
        for name in [
            "bool",
            "int2",
            "int8",
            "oid",
            "numeric",
            "numeric(10,2)",
            "numeric(2,2)",
            "numeric(5,-2)",
            "numeric(1,0)",
            "money",
            "float4",
            "float8",
            "text",
            "varchar(2)",
            "char(3)",
            "bytea",
            "json",
            "jsonb",
            "date",
            "time",
            "timetz",
            "timestamp",
            "timestamptz(3)",
            "interval",
            "text[]",
            "uuid",
            "inet",
            "bit(3)",
            "int4range",
            "string",
            "int32",
            "double",
            "decimal128",
            "datetime",
            "objectid",
            "binary",
            "bson",
        ] {
            let ty = Type::parse(name);
            for pick in Pick::ALL {
                let Some(made) = value(&ty, pick) else {
                    assert_eq!((name, pick), ("text[]", Pick::Second));
                    continue;
                };
                assert!(ty.decode(made.as_bytes()).is_ok(), "{name}: {made}");
            }
        }
        let decimals = [
            "numeric(10,2)",
            "numeric(2,2)",
            "numeric(5,-2)",
            "numeric(1,0)",
            "numeric(30,3)",
        ];
        let made = decimals.map(|name| value(&Type::parse(name), Pick::First).unwrap());
        assert_eq!(made, ["10.00", "0.01", "100", "1", "10.000"]);
        assert_eq!(value(&Type::parse("public.thing"), Pick::First), None);
    }

    #[test]
    fn personal_values_fit_their_column() {
        let words = |name: &str| super::super::names::words(name);
        let text =
            |name: &str, ty: &str| personal(&words(name), &Type::parse(ty), Pick::First).unwrap();
        assert_eq!(text("contact_email", "text"), "alex@example.com");
        assert_eq!(text("given_name", "varchar(3)"), "Ale");
        assert_eq!(text("birth_date", "date"), "2026-01-15");
        assert_eq!(text("passport_no", "int8"), "1");
    }
}
