//! Dates, times, intervals, and ranges of these and others.

use crate::corpus::{Scalar, scalar};
use crate::form::{Form, quoted};
use crate::generate::{self as any_of, Texts};

pub(crate) fn all() -> Vec<Scalar> {
    let mut all = dates_and_times();
    all.extend(timestamps_and_intervals());
    all.extend(ranges());
    all.extend(multiranges());
    all
}

fn dates_and_times() -> Vec<Scalar> {
    use Form::{Instant, Text};
    vec![
        scalar(
            "date",
            Instant,
            &[
                "infinity",
                "-infinity",
                "4714-11-24 BC",
                "0001-12-31 BC",
                "0001-01-01",
                "2024-02-29",
                "9999-12-31",
                "10000-01-01",
                "5874897-12-31",
            ],
            any_of::date(),
        ),
        scalar(
            "time",
            Text,
            &["00:00:00", "24:00:00", "23:59:59.999999", "10:00:00.5"],
            any_of::time(),
        ),
        scalar(
            "time(3)",
            Text,
            &["24:00:00", "23:59:59.999"],
            any_of::time(),
        ),
        scalar(
            "timetz",
            Text,
            &[
                "24:00:00-05:30",
                "10:00:00+00:19:32",
                "00:00:00-15:59:59",
                "00:00:00+15:59:59",
            ],
            any_of::timetz(),
        ),
    ]
}

fn timestamps_and_intervals() -> Vec<Scalar> {
    use Form::{Instant, Text};
    vec![
        scalar(
            "timestamp",
            Instant,
            &[
                "infinity",
                "-infinity",
                "4714-11-24 00:00:00 BC",
                "0044-03-15 10:00:00 BC",
                "294276-12-31 23:59:59.999999",
                "2026-12-01 10:00:00.5",
                "10000-01-01 00:00:00",
            ],
            any_of::timestamp(""),
        ),
        scalar(
            "timestamptz",
            Instant,
            &[
                "infinity",
                "-infinity",
                "4714-11-24 00:00:00+00 BC",
                "0044-03-15 10:00:00+00 BC",
                "294276-12-31 23:59:59.999999+00",
                "2026-12-01 10:00:00.000001+05:30",
                "0001-01-01 00:00:00+00",
            ],
            any_of::timestamp("+00"),
        ),
        scalar(
            "timestamptz(0)",
            Instant,
            &["infinity", "2026-12-01 10:00:00+00"],
            any_of::timestamp("+00"),
        ),
        scalar(
            "interval",
            Text,
            &[
                "0",
                "1 year 2 mons -3 days 04:05:06.789",
                "-1 year 2 mons",
                "-1 mons 1 day -00:00:00.5",
                "00:00:00.000001",
                "-00:00:01",
                "178000000 years",
                "-178000000 years",
                "2147483647 days",
                "-2147483648 days",
            ],
            any_of::interval(),
        ),
        scalar(
            "interval day to second(3)",
            Text,
            &["1 day 00:00:00.123"],
            any_of::interval(),
        ),
    ]
}

pub(crate) fn whole_ranges() -> Texts {
    any_of::range(-1_000..1_000_i32, i32::to_string)
}

fn day_ranges() -> Texts {
    any_of::range(1_000_000..2_500_000_u32, |day| format!("J{day}"))
}

fn moments() -> Texts {
    any_of::range(1_000_000..2_500_000_u32, |day| {
        format!("\"J{day} 10:00:00.5\"")
    })
}

fn zoned() -> Texts {
    any_of::range(1_000_000..2_500_000_u32, |day| {
        format!("\"J{day} 10:00:00+00\"")
    })
}

fn text_ranges() -> Texts {
    any_of::range("[a-c \"\\\\,)(é]{0,4}", |word| quoted(word))
}

fn ranges() -> Vec<Scalar> {
    use Form::Text;
    const RANGES: &[&str] = &["empty", "(,)"];
    let numerics = any_of::range(-99_999..99_999_i32, |cents| {
        let (sign, cents) = (if *cents < 0 { "-" } else { "" }, cents.unsigned_abs());
        format!("{sign}{}.{:02}", cents / 100, cents % 100)
    });
    vec![
        scalar("int4range", Text, RANGES, whole_ranges()),
        scalar(
            "int8range",
            Text,
            &["empty", "[-9223372036854775808,9223372036854775807)"],
            whole_ranges(),
        ),
        scalar(
            "numrange",
            Text,
            &["empty", "[-Infinity,NaN]", "(1.50,2.00]"],
            numerics,
        ),
        scalar(
            "daterange",
            Text,
            &[
                "empty",
                "[-infinity,infinity]",
                "[0044-03-15 BC,10000-01-01)",
            ],
            day_ranges(),
        ),
        scalar(
            "tsrange",
            Text,
            &["empty", "[-infinity,\"2026-12-01 10:00:00\"]"],
            moments(),
        ),
        scalar("tstzrange", Text, &["empty", "(,infinity)"], zoned()),
        scalar(
            "textrange",
            Text,
            &["empty", "[\"\",\"a \\\"b\\\" \\\\\"]", "[a,\"b,)\")"],
            text_ranges(),
        ),
    ]
}

fn multiranges() -> Vec<Scalar> {
    use Form::Text;
    const MULTIRANGES: &[&str] = &["{}", "{(,)}", "{empty}"];
    vec![
        scalar(
            "int4multirange",
            Text,
            MULTIRANGES,
            any_of::multirange(whole_ranges()),
        ),
        scalar(
            "datemultirange",
            Text,
            MULTIRANGES,
            any_of::multirange(day_ranges()),
        ),
        scalar(
            "tsmultirange",
            Text,
            MULTIRANGES,
            any_of::multirange(moments()),
        ),
        scalar(
            "tstzmultirange",
            Text,
            MULTIRANGES,
            any_of::multirange(zoned()),
        ),
        scalar(
            "textmultirange",
            Text,
            MULTIRANGES,
            any_of::multirange(text_ranges()),
        ),
    ]
}
