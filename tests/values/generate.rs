//! Seeded generators of values in the server's input syntax.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

pub(crate) type Texts = BoxedStrategy<String>;

/// Draws values; the same in every run unless `ROWBRIDGE_VALUES_SEED` names another seed.
pub(crate) struct Draw(TestRunner);

impl Draw {
    pub(crate) fn new() -> Self {
        let seed: u64 = std::env::var("ROWBRIDGE_VALUES_SEED")
            .map_or(0, |seed| seed.parse().expect("a number"));
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        Self(TestRunner::new_with_rng(Config::default(), rng))
    }

    pub(crate) fn one<S: Strategy>(&mut self, strategy: &S) -> S::Value {
        strategy.new_tree(&mut self.0).unwrap().current()
    }
}

pub(crate) fn number<T: Arbitrary + ToString + 'static>() -> Texts {
    any::<T>().prop_map(|number| number.to_string()).boxed()
}

fn float_text(text: &str) -> String {
    match text {
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        other => other.to_owned(),
    }
}

/// Any bits.
pub(crate) fn double() -> Texts {
    any::<u64>()
        .prop_map(|bits| float_text(&format!("{:e}", f64::from_bits(bits))))
        .boxed()
}

/// Any bits.
pub(crate) fn single() -> Texts {
    any::<u32>()
        .prop_map(|bits| float_text(&format!("{:e}", f32::from_bits(bits))))
        .boxed()
}

/// Finite, for geometry.
fn coordinate() -> impl Strategy<Value = String> {
    prop_oneof![
        (-1_000_i32..1_000).prop_map(|whole| (f64::from(whole) / 8.0).to_string()),
        prop::num::f64::NORMAL.prop_map(|number| format!("{number:e}")),
    ]
}

fn point() -> impl Strategy<Value = String> {
    (coordinate(), coordinate()).prop_map(|(x, y)| format!("({x},{y})"))
}

pub(crate) fn points(open: &'static str, close: &'static str, count: usize) -> Texts {
    vec(point(), count)
        .prop_map(move |points| format!("{open}{}{close}", points.join(",")))
        .boxed()
}

pub(crate) fn line() -> Texts {
    (1_i32..9, coordinate(), coordinate())
        .prop_map(|(a, b, c)| format!("{{{a},{b},{c}}}"))
        .boxed()
}

pub(crate) fn circle() -> Texts {
    (point(), 0_u32..9_999)
        .prop_map(|(center, radius)| format!("<{center},{}>", f64::from(radius) / 7.0))
        .boxed()
}

pub(crate) fn numeric() -> Texts {
    prop_oneof![
        "-?[0-9]{1,40}(\\.[0-9]{1,40})?",
        "-?[0-9]{1,3}(\\.[0-9]{1,3})?",
        "-?[0-9]\\.[0-9]{1,9}e-?[0-9]{1,3}",
    ]
    .boxed()
}

pub(crate) fn money() -> Texts {
    any::<i64>()
        .prop_map(|cents| {
            let sign = if cents < 0 { "-" } else { "" };
            let cents = cents.unsigned_abs();
            format!("{sign}{}.{:02}", cents / 100, cents % 100)
        })
        .boxed()
}

/// Characters that some grammar gives a meaning to, among all others but NUL.
fn character() -> impl Strategy<Value = char> {
    prop_oneof![
        prop::sample::select(
            "\"'\\{}()[],;:=> \t\n\r\u{8}\u{b}\u{c}\u{1}\u{1f}\u{7f}N"
                .chars()
                .collect::<Vec<_>>()
        ),
        prop::char::range(' ', 'z'),
        prop::sample::select(vec![
            'é', 'ß', '\u{80}', '\u{a0}', '漢', '😀', '\u{200b}', '\u{ffff}'
        ]),
        any::<char>().prop_filter("the server has no NUL", |c| *c != '\0'),
    ]
}

pub(crate) fn text(max: usize) -> Texts {
    vec(character(), 0..=max)
        .prop_map(|characters| characters.into_iter().collect())
        .boxed()
}

pub(crate) fn bytea() -> Texts {
    vec(any::<u8>(), 0..500)
        .prop_map(|bytes| {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            format!("\\x{}", digits.collect::<String>())
        })
        .boxed()
}

pub(crate) fn json() -> Texts {
    let leaf = prop_oneof![
        prop::sample::select(vec!["null", "true", "false", "\"\\ud83d\\ude00\""])
            .prop_map(str::to_owned),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?(e-?[0-9]{1,2})?",
        text(6).prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|all| format!("[{}]", all.join(" ,"))),
            vec((text(4), inner), 1..4).prop_map(|all| {
                let members = all.iter().map(|(name, value)| {
                    format!("{} : {value}", serde_json::to_string(name).unwrap())
                });
                format!("{{{}}}", members.collect::<Vec<_>>().join(",\n "))
            }),
        ]
    })
    // A null inside a cell is not told from a null cell.
    .prop_filter("not null", |json| json != "null")
    .boxed()
}

/// The server's last day, as a Julian day number, which is an input form of dates.
const LAST_DATE: u32 = 2_147_483_493;
const LAST_TIMESTAMP: u32 = 109_203_527;

fn julian(last: u32) -> impl Strategy<Value = String> {
    // A third before Christ, in our days, and at any time.
    prop_oneof![0..1_721_424_u32, 2_440_588..2_470_000_u32, 0..=last]
        .prop_map(|day| format!("J{day}"))
}

pub(crate) fn date() -> Texts {
    julian(LAST_DATE).boxed()
}

fn clock() -> impl Strategy<Value = String> {
    (
        0..24_u8,
        0..60_u8,
        0..60_u8,
        prop_oneof![Just(0), 0..1_000_000_u32],
    )
        .prop_map(|(hour, minute, second, micros)| {
            format!("{hour:02}:{minute:02}:{second:02}.{micros:06}")
        })
}

pub(crate) fn time() -> Texts {
    clock().boxed()
}

pub(crate) fn timetz() -> Texts {
    (clock(), -57_599..=57_599_i32)
        .prop_map(|(clock, offset)| {
            let sign = if offset < 0 { '-' } else { '+' };
            let seconds = offset.unsigned_abs();
            let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            format!("{clock}{sign}{hour:02}:{minute:02}:{second:02}")
        })
        .boxed()
}

pub(crate) fn timestamp(zone: &'static str) -> Texts {
    (julian(LAST_TIMESTAMP), clock())
        .prop_map(move |(day, clock)| format!("{day} {clock}{zone}"))
        .boxed()
}

pub(crate) fn interval() -> Texts {
    let months = -120_000..120_000_i32;
    (months, any::<i16>(), any::<bool>(), 0..9_999_u32, clock())
        .prop_map(|(months, days, negative, hours, clock)| {
            let sign = if negative { "-" } else { "" };
            format!("{months} mons {days} days {sign}{hours}{}", &clock[2..])
        })
        .boxed()
}

pub(crate) fn uuid() -> Texts {
    any::<u128>()
        .prop_map(|bits| format!("{bits:032x}"))
        .boxed()
}

pub(crate) fn inet() -> Texts {
    prop_oneof![
        (any::<std::net::Ipv4Addr>(), 0..=32_u8)
            .prop_map(|(address, bits)| format!("{address}/{bits}")),
        (any::<std::net::Ipv6Addr>(), 0..=128_u8)
            .prop_map(|(address, bits)| format!("{address}/{bits}")),
    ]
    .boxed()
}

pub(crate) fn cidr() -> Texts {
    (any::<u8>(), any::<u8>())
        .prop_map(|(a, b)| format!("{a}.{b}.0.0/16"))
        .boxed()
}

pub(crate) fn macaddr(bytes: usize) -> Texts {
    vec(any::<u8>(), bytes)
        .prop_map(|bytes| {
            let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            bytes.join(":")
        })
        .boxed()
}

pub(crate) fn matching(pattern: &'static str) -> Texts {
    proptest::string::string_regex(pattern).unwrap().boxed()
}

/// A word in the quotes of text search.
fn lexeme() -> impl Strategy<Value = String> {
    vec(
        prop::sample::select("ab'\\ é:".chars().collect::<Vec<_>>()),
        1..5,
    )
    .prop_map(|word| {
        let word: String = word.into_iter().collect();
        format!("'{}'", word.replace('\\', "\\\\").replace('\'', "''"))
    })
}

pub(crate) fn tsvector() -> Texts {
    vec(
        (
            lexeme(),
            prop::sample::select(vec!["", ":1", ":2A,3B", ":16383D"]),
        ),
        0..6,
    )
    .prop_map(|words| {
        words
            .iter()
            .map(|(word, places)| format!("{word}{places} "))
            .collect()
    })
    .boxed()
}

pub(crate) fn tsquery() -> Texts {
    (lexeme(), lexeme(), lexeme())
        .prop_map(|(a, b, c)| format!("{a} & !{b} | ({c} <-> {a}:*AB)"))
        .boxed()
}

/// A range over whole numbers, dates, or text, in order.
pub(crate) fn range<T>(bounds: T, print: fn(&T::Value) -> String) -> Texts
where
    T: Strategy + Clone + 'static,
    T::Value: PartialOrd,
{
    let brackets = (
        prop::sample::select(vec!['[', '(']),
        prop::sample::select(vec![']', ')']),
    );
    (
        prop::option::weighted(0.9, bounds.clone()),
        prop::option::weighted(0.9, bounds),
        brackets,
    )
        .prop_map(move |(a, b, (open, close))| {
            let (a, b) = match (a, b) {
                (Some(a), Some(b)) if a > b => (Some(b), Some(a)),
                other => other,
            };
            let print = |bound: Option<T::Value>| bound.as_ref().map_or(String::new(), print);
            format!("{open}{},{}{close}", print(a), print(b))
        })
        .boxed()
}

pub(crate) fn multirange(range: Texts) -> Texts {
    vec(range, 0..4)
        .prop_map(|ranges| format!("{{{}}}", ranges.join(",")))
        .boxed()
}

pub(crate) fn hstore() -> Texts {
    use crate::form::quoted;
    vec((text(5), prop::option::of(text(5))), 0..5)
        .prop_map(|pairs| {
            let pairs = pairs.iter().map(|(key, value)| {
                let value = value.as_deref().map_or("NULL".to_owned(), quoted);
                format!("{}=>{value}", quoted(key))
            });
            pairs.collect::<Vec<_>>().join(", ")
        })
        .boxed()
}

pub(crate) fn one_of(texts: &'static [&'static str]) -> Texts {
    prop::sample::select(texts).prop_map(str::to_owned).boxed()
}
