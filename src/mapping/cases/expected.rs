//! `[[expect]]`: an event that a case expects.

use serde_json::Value;
use toml::Spanned;
use toml::de::DeValue;

use super::document::{CaseProblem, Fields, to_json};

/// How the expected data is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Exact,
    /// What is expected is there; more may be.
    Contains,
}

/// What the event carries.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ExpectedBody {
    /// Data; `None` where the case does not say which.
    Data(Option<Value>),
    Tombstone,
    /// A quarantine record whose error contains this text.
    Quarantined {
        error: Option<String>,
    },
}

/// An event that a case expects. What it leaves out is not compared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ExpectedEvent {
    pub(super) event_type: String,
    /// `topic`, `key`, `subject`, `correlation`, `time` and headers by name, in this order.
    pub(super) attributes: Vec<(String, String)>,
    pub(super) matching: Match,
    pub(super) body: ExpectedBody,
}

/// The attributes a case may name, in the order they are shown.
const ATTRIBUTES: [&str; 5] = ["topic", "key", "subject", "correlation", "time"];

impl ExpectedEvent {
    pub(super) fn parse(mut fields: Fields<'_>, problems: &mut Vec<CaseProblem>) -> Option<Self> {
        let span = fields.span.clone();
        let event_type = fields.text("type", problems);
        if event_type.is_none() {
            problems.push(CaseProblem::new(
                span.clone(),
                "an expected event has a `type`",
            ));
        }
        let mut attributes: Vec<(String, String)> = ATTRIBUTES
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), fields.text(name, problems)?)))
            .collect();
        attributes.extend(headers(&mut fields, problems));
        let matching = matching(&mut fields, problems);
        let data = data(&mut fields, problems);
        let tombstone = fields.flag("tombstone", problems);
        let quarantined = fields.flag("quarantined", problems);
        let error = fields.text("error", problems);
        fields.finish(problems);
        let body = match (tombstone, quarantined, data, error) {
            (false, false, data, None) => ExpectedBody::Data(data),
            (true, false, None, None) => ExpectedBody::Tombstone,
            (false, true, None, error) => ExpectedBody::Quarantined { error },
            _ => {
                let problem = CaseProblem::new(span, "these keys exclude each other");
                problems.push(problem.hint(
                    "an event has `data`, or `tombstone = true`, or `quarantined = true` with `error`",
                ));
                return None;
            }
        };
        Some(Self {
            event_type: event_type?,
            attributes,
            matching,
            body,
        })
    }
}

fn matching(fields: &mut Fields<'_>, problems: &mut Vec<CaseProblem>) -> Match {
    let span = fields.take("match").map(Spanned::span);
    match (fields.text("match", problems).as_deref(), span) {
        (None | Some("exact"), _) | (_, None) => Match::Exact,
        (Some("contains"), _) => Match::Contains,
        (Some(_), Some(span)) => {
            problems.push(CaseProblem::new(
                span,
                "`match` is \"exact\" or \"contains\"",
            ));
            Match::Exact
        }
    }
}

fn data(fields: &mut Fields<'_>, problems: &mut Vec<CaseProblem>) -> Option<Value> {
    let value = fields.take("data")?;
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        problems.push(CaseProblem::new(value.span(), "`data` is a table"));
        return None;
    }
    to_json(value)
        .map_err(|problem| problems.push(problem))
        .ok()
}

fn headers(fields: &mut Fields<'_>, problems: &mut Vec<CaseProblem>) -> Vec<(String, String)> {
    let Some(table) = fields.table("headers", problems) else {
        return Vec::new();
    };
    let mut headers = Vec::new();
    for (name, value) in table.iter() {
        match to_json(value) {
            Ok(Value::String(text)) => headers.push((format!("header {}", name.get_ref()), text)),
            Ok(_) => problems.push(CaseProblem::new(value.span(), "a header is a string")),
            Err(problem) => problems.push(problem),
        }
    }
    headers
}
