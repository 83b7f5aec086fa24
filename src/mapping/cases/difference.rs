//! Expected against published events, aligned and compared field by field.

use bigdecimal::BigDecimal;
use serde_json::Value;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::expected::{ExpectedBody, ExpectedEvent, Match};
use super::published::{Body, Published};

/// How one event fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    /// Both are there and differ.
    Differs,
    /// Expected and not published.
    Missing,
    /// Published and not expected.
    Unexpected,
}

/// Which side a line is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Both,
    Expected,
    Published,
}

/// One field of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub side: Side,
    /// `key`, `seat`, `header channel`.
    pub field: String,
    /// Data as JSON, everything else as text.
    pub value: String,
}

/// One event: expected, published, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub verdict: Verdict,
    pub event_type: String,
    /// What is compared; for events of one side what they are.
    pub lines: Vec<Line>,
}

/// Aligns the events by type and compares those that meet.
pub(super) fn compare(expected: &[ExpectedEvent], published: &[Published]) -> Vec<Difference> {
    let wanted: Vec<_> = expected.iter().map(expected_name).collect();
    let found: Vec<_> = published.iter().map(published_name).collect();
    let mut differences = Vec::new();
    for op in capture_diff_slices(Algorithm::Myers, &wanted, &found) {
        let (old, new) = (op.old_range(), op.new_range());
        if let DiffOp::Equal { .. } = op {
            let pairs = expected[old].iter().zip(&published[new]);
            differences.extend(pairs.map(|(expected, published)| both(expected, published)));
        } else {
            differences.extend(expected[old].iter().map(missing));
            differences.extend(published[new].iter().map(unexpected));
        }
    }
    differences
}

fn expected_name(event: &ExpectedEvent) -> (&str, bool) {
    let quarantined = matches!(event.body, ExpectedBody::Quarantined { .. });
    (&event.event_type, quarantined)
}

fn published_name(event: &Published) -> (&str, bool) {
    (
        &event.event_type,
        matches!(event.body, Body::Quarantined { .. }),
    )
}

fn both(expected: &ExpectedEvent, published: &Published) -> Difference {
    let mut lines = Vec::new();
    for (name, wanted) in &expected.attributes {
        let found = published.attribute(name);
        if found == Some(wanted) {
            push(&mut lines, Side::Both, name, wanted);
        } else {
            push(&mut lines, Side::Expected, name, wanted);
            push(&mut lines, Side::Published, name, found.unwrap_or("(none)"));
        }
    }
    bodies(expected, &published.body, &mut lines);
    let same = lines.iter().all(|line| line.side == Side::Both);
    Difference {
        verdict: if same {
            Verdict::Same
        } else {
            Verdict::Differs
        },
        event_type: expected.event_type.clone(),
        lines,
    }
}

fn bodies(expected: &ExpectedEvent, published: &Body, lines: &mut Vec<Line>) {
    match (&expected.body, published) {
        (ExpectedBody::Data(None), Body::Data(_)) => {}
        (ExpectedBody::Data(Some(wanted)), Body::Data(found)) => {
            data("", Some(wanted), Some(found), expected.matching, lines);
        }
        (ExpectedBody::Tombstone, Body::Tombstone) => {
            push(lines, Side::Both, "data", "tombstone");
        }
        (ExpectedBody::Quarantined { error: None }, Body::Quarantined { .. }) => {}
        (ExpectedBody::Quarantined { error: Some(part) }, Body::Quarantined { error }) => {
            if error.contains(part) {
                push(lines, Side::Both, "error", error);
            } else {
                push(lines, Side::Expected, "error", part);
                push(lines, Side::Published, "error", error);
            }
        }
        (wanted, found) => {
            expected_body(wanted, lines);
            published_body(found, lines);
        }
    }
}

fn missing(expected: &ExpectedEvent) -> Difference {
    let mut lines = Vec::new();
    for (name, value) in &expected.attributes {
        push(&mut lines, Side::Expected, name, value);
    }
    expected_body(&expected.body, &mut lines);
    Difference {
        verdict: Verdict::Missing,
        event_type: expected.event_type.clone(),
        lines,
    }
}

fn unexpected(published: &Published) -> Difference {
    let mut lines = Vec::new();
    for name in ["topic", "key"] {
        if let Some(value) = published.attribute(name) {
            push(&mut lines, Side::Published, name, value);
        }
    }
    published_body(&published.body, &mut lines);
    Difference {
        verdict: Verdict::Unexpected,
        event_type: published.event_type.clone(),
        lines,
    }
}

fn expected_body(body: &ExpectedBody, lines: &mut Vec<Line>) {
    match body {
        ExpectedBody::Data(None) => {}
        ExpectedBody::Data(Some(wanted)) => data("", Some(wanted), None, Match::Exact, lines),
        ExpectedBody::Tombstone => push(lines, Side::Expected, "data", "tombstone"),
        ExpectedBody::Quarantined { error } => {
            push(
                lines,
                Side::Expected,
                "quarantined",
                error.as_deref().unwrap_or("true"),
            );
        }
    }
}

fn published_body(body: &Body, lines: &mut Vec<Line>) {
    match body {
        Body::Data(found) => data("", None, Some(found), Match::Exact, lines),
        Body::Tombstone => push(lines, Side::Published, "data", "tombstone"),
        Body::Quarantined { error } => push(lines, Side::Published, "quarantined", error),
    }
}

/// Compares data member by member; members of objects in it get dotted names.
fn data(
    name: &str,
    wanted: Option<&Value>,
    found: Option<&Value>,
    matching: Match,
    lines: &mut Vec<Line>,
) {
    if let Some((wanted_members, found_members)) = members(wanted, found) {
        let inner = |member: &str| match name {
            "" => member.to_owned(),
            outer => format!("{outer}.{member}"),
        };
        for (member, value) in wanted_members.into_iter().flatten() {
            let found = found_members.and_then(|found| found.get(member));
            data(&inner(member), Some(value), found, matching, lines);
        }
        for (member, value) in found_members.into_iter().flatten() {
            let is_known = wanted_members.is_some_and(|wanted| wanted.contains_key(member));
            if !is_known && matching == Match::Exact {
                data(&inner(member), None, Some(value), matching, lines);
            }
        }
        return;
    }
    match (wanted, found) {
        (Some(wanted), Some(found)) if same(wanted, found) => {
            push(lines, Side::Both, name, &found.to_string());
        }
        (wanted, found) => {
            if let Some(wanted) = wanted {
                push(lines, Side::Expected, name, &wanted.to_string());
            }
            if let Some(found) = found {
                push(lines, Side::Published, name, &found.to_string());
            }
        }
    }
}

type Members = serde_json::Map<String, Value>;

/// The members of both sides, where no side is anything but an object with members (or not there).
fn members<'v>(
    wanted: Option<&'v Value>,
    found: Option<&'v Value>,
) -> Option<(Option<&'v Members>, Option<&'v Members>)> {
    let object = |side: Option<&'v Value>| match side {
        None => Some(None),
        Some(Value::Object(members)) if !members.is_empty() => Some(Some(members)),
        Some(_) => None,
    };
    match (object(wanted)?, object(found)?) {
        (None, None) => None,
        both => Some(both),
    }
}

/// Equality with numbers by value, at any depth.
fn same(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Number(wanted), Value::Number(found)) => {
            let value = |number: &serde_json::Number| number.to_string().parse::<BigDecimal>().ok();
            wanted == found || value(wanted).is_some_and(|wanted| Some(wanted) == value(found))
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len()
                && wanted
                    .iter()
                    .zip(found)
                    .all(|(wanted, found)| same(wanted, found))
        }
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.len() == found.len()
                && wanted
                    .iter()
                    .all(|(name, wanted)| found.get(name).is_some_and(|found| same(wanted, found)))
        }
        (wanted, found) => wanted == found,
    }
}

fn push(lines: &mut Vec<Line>, side: Side, field: &str, value: &str) {
    lines.push(Line {
        side,
        field: field.to_owned(),
        value: value.to_owned(),
    });
}
