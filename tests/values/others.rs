//! Networks, bits, text search, geometry, the server's own numbers, and types that people make.

use crate::corpus::{Scalar, scalar};
use crate::form::Form;
use crate::generate::{self as any_of, one_of};
use crate::times::whole_ranges;

pub(crate) fn all() -> Vec<Scalar> {
    let mut all = networks_bits_and_search();
    all.extend(geometry());
    all.extend(systems());
    all.extend(own_types());
    all
}

fn networks_bits_and_search() -> Vec<Scalar> {
    use Form::Text;
    vec![
        scalar(
            "inet",
            Text,
            &["127.0.0.1", "::1", "10.1.2.3/8", "::ffff:1.2.3.4"],
            any_of::inet(),
        ),
        scalar("cidr", Text, &["10.0.0.0/8", "::/0"], any_of::cidr()),
        scalar("macaddr", Text, &["08:00:2b:01:02:03"], any_of::macaddr(6)),
        scalar(
            "macaddr8",
            Text,
            &["08:00:2b:01:02:03:04:05"],
            any_of::macaddr(8),
        ),
        scalar(
            "bit(8)",
            Text,
            &["00000000", "11111111"],
            any_of::matching("[01]{8}"),
        ),
        scalar("bit", Text, &["0", "1"], any_of::matching("[01]")),
        scalar("varbit", Text, &["", "1"], any_of::matching("[01]{0,70}")),
        scalar(
            "tsvector",
            Text,
            &["", "'a' 'it''s':1A,2 'b\\\\c'"],
            any_of::tsvector(),
        ),
        scalar(
            "tsquery",
            Text,
            &["", "'a' & !('b' | 'c''d':*A) <-> 'e'"],
            any_of::tsquery(),
        ),
    ]
}

/// Equality is of areas or does not exist: these are compared as text.
fn geometry() -> Vec<Scalar> {
    use Form::Text;
    vec![
        scalar(
            "point",
            Text,
            &["(0,-0)", "(Infinity,NaN)", "(1e-300,0.1)"],
            any_of::points("", "", 1),
        )
        .incomparable(),
        scalar("line", Text, &["{1,-1,0.1}"], any_of::line()).incomparable(),
        scalar(
            "lseg",
            Text,
            &["[(0,0),(1,1)]"],
            any_of::points("[", "]", 2),
        )
        .incomparable(),
        scalar("box", Text, &["(1,1),(0,0)"], any_of::points("", "", 2)).incomparable(),
        scalar(
            "path",
            Text,
            &["[(0,0),(1,1)]", "((0,0),(1,1),(2,0))"],
            any_of::points("[", "]", 3),
        )
        .incomparable(),
        scalar(
            "polygon",
            Text,
            &["((0,0),(1,1),(2,0))"],
            any_of::points("(", ")", 4),
        )
        .incomparable(),
        scalar(
            "circle",
            Text,
            &["<(0,0),0>", "<(1,1),Infinity>"],
            any_of::circle(),
        )
        .incomparable(),
    ]
}

fn systems() -> Vec<Scalar> {
    use Form::Text;
    vec![
        scalar(
            "pg_lsn",
            Text,
            &["0/0", "FFFFFFFF/FFFFFFFF"],
            any_of::matching("[0-9A-F]{1,8}/[0-9A-F]{1,8}"),
        ),
        scalar("xid", Text, &["0", "4294967295"], any_of::number::<u32>()),
        scalar(
            "xid8",
            Text,
            &["18446744073709551615"],
            any_of::number::<u64>(),
        ),
        scalar(
            "tid",
            Text,
            &["(0,1)", "(4294967295,65535)"],
            any_of::matching("\\([0-9]{1,5},[1-9]\\)"),
        ),
        scalar(
            "pg_snapshot",
            Text,
            &["10:20:10,14,15"],
            one_of(&["1:1:", "10:20:11"]),
        )
        .incomparable(),
        scalar(
            "regclass",
            Text,
            &["pg_class", "\"Odd \"\"Place\""],
            one_of(&["pg_type", "pg_attribute"]),
        ),
        scalar(
            "regtype",
            Text,
            &["integer[]", "public.mood", "timestamp with time zone"],
            one_of(&["text", "home"]),
        ),
        scalar(
            "int2vector",
            Text,
            &["", "1 -2 3"],
            any_of::matching("[0-9]{1,3} [0-9]{1,3}"),
        )
        .incomparable(),
        scalar(
            "oidvector",
            Text,
            &["", "1 2"],
            any_of::matching("[0-9]{1,3} [0-9]{1,3}"),
        ),
    ]
}

fn own_types() -> Vec<Scalar> {
    use Form::{Number, Text};
    const MOODS: &[&str] = &[
        "sad",
        "o k",
        "qu'ote",
        "dou\"ble",
        "com,ma",
        "back\\slash",
        "paren)(",
        "NULL",
        "ü",
    ];
    vec![
        scalar("mood", Text, MOODS, one_of(MOODS)).declared("public.mood"),
        scalar("small", Number, &["999999", "-1"], any_of::number::<i16>()).declared("int4"),
        scalar("smaller", Number, &["999"], any_of::number::<i8>()).declared("int4"),
        scalar(
            "price",
            Text,
            &["0", "NaN"],
            any_of::matching("-?[0-9]{1,8}\\.[0-9]{2}"),
        )
        .declared("numeric(10,2)"),
        scalar("label", Text, &["", " x "], any_of::text(20)).declared("varchar(20)"),
        scalar("spans", Text, &["empty"], whole_ranges()).declared("int4range"),
        scalar(
            "colon",
            Text,
            &["", "a:b", "{", "\"", "NULL"],
            any_of::text(6),
        )
        .declared("public.colon")
        .incomparable(),
    ]
}
