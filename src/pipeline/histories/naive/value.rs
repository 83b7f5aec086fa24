//! What values are equal, which is less, and how they read in JSON.

use std::cmp::Ordering;

use super::super::table::Kind;

/// A number as hundredths.
fn hundredths(text: &str) -> i64 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = format!("{fraction:0<2}");
    whole.parse::<i64>().unwrap() * 100 + fraction.parse::<i64>().unwrap()
}

pub(super) fn compare(kind: Kind, left: &str, right: &str) -> Ordering {
    match kind {
        Kind::Int | Kind::Decimal => hundredths(left).cmp(&hundredths(right)),
        Kind::Text | Kind::Char => left.trim_end().cmp(right.trim_end()),
        Kind::Texts => left.cmp(right),
    }
}

pub(super) fn json(kind: Kind, text: &'static str) -> String {
    match kind {
        Kind::Int => text.to_owned(),
        Kind::Decimal | Kind::Text | Kind::Char => format!("\"{text}\""),
        Kind::Texts => {
            let elements = elements(text).into_iter();
            let elements = elements.map(|element| match element {
                Some(element) => format!("\"{element}\""),
                None => "null".to_owned(),
            });
            format!("[{}]", elements.collect::<Vec<_>>().join(","))
        }
    }
}

/// The elements of an array as the server prints it.
pub(super) fn elements(text: &'static str) -> Vec<Option<&'static str>> {
    let inside = text.trim_matches(['{', '}']);
    let elements = inside.split(',').filter(|element| !element.is_empty());
    elements
        .map(|element| Some(element).filter(|element| *element != "NULL"))
        .collect()
}

/// The difference in JSON, with as many places as the longer of both.
pub(super) fn delta(kind: Kind, before: &str, after: &str) -> String {
    let places = |text: &str| {
        text.split_once('.')
            .map_or(0, |(_, fraction)| fraction.len())
    };
    let places = places(before).max(places(after));
    let difference = hundredths(after) - hundredths(before);
    let sign = if difference < 0 { "-" } else { "" };
    let (whole, fraction) = (
        difference.abs() / 100,
        format!("{:02}", difference.abs() % 100),
    );
    let text = match places {
        0 => format!("{sign}{whole}"),
        places => format!("{sign}{whole}.{}", &fraction[..places]),
    };
    match kind {
        Kind::Int => text,
        _ => format!("\"{text}\""),
    }
}
