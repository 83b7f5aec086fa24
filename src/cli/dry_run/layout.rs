//! An event for people: type, topic and key in one line, the data below it on 80 columns.

use std::io::{self, Write};

use serde_json::Value;

use crate::mapping::cases::{Body, Published};
use crate::paint::{Paint, Tone};

const COLUMNS: usize = 80;
const INDENT: &str = "    ";

pub(super) fn print(event: &Published, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let name = paint.tone(Tone::Strong, &event.event_type);
    let key = event.key.as_deref().unwrap_or("(no key)");
    match (&event.topic, &event.body) {
        (Some(topic), _) => writeln!(out, "{name}  {topic}  {key}")?,
        (None, _) => writeln!(out, "{name}  {}", paint.tone(Tone::Bad, "quarantined"))?,
    }
    match &event.body {
        Body::Data(data) => data_lines(data)
            .iter()
            .try_for_each(|line| writeln!(out, "{INDENT}{line}"))?,
        Body::Tombstone => writeln!(out, "{INDENT}{}", paint.tone(Tone::Faint, "tombstone"))?,
        Body::Quarantined { error } => writeln!(out, "{INDENT}{error}")?,
    }
    writeln!(out)
}

/// JSON with as many members on a line as fit.
fn data_lines(data: &Value) -> Vec<String> {
    let Value::Object(members) = data else {
        return vec![data.to_string()];
    };
    let mut lines = Vec::new();
    let mut line = String::from("{");
    for (index, (name, value)) in members.iter().enumerate() {
        let comma = if index + 1 < members.len() { "," } else { " }" };
        let member = format!(" {}: {value}{comma}", Value::from(name.as_str()));
        let width = INDENT.len() + line.chars().count() + member.chars().count();
        if width > COLUMNS && line.len() > 1 {
            lines.push(std::mem::replace(&mut line, String::from(" ")));
        }
        line.push_str(&member);
    }
    if members.is_empty() {
        line.push('}');
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(body: Body) -> String {
        let event = Published {
            event_type: "SeatReassigned".to_owned(),
            topic: Some("travel.inventory".to_owned()),
            key: Some("BA117/2026-12-01/Y".to_owned()),
            headers: Vec::new(),
            body,
        };
        let mut out = Vec::new();
        print(&event, Paint::Plain, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn data_fills_eighty_columns_and_stays_json() {
        let data = r#"{"segment_id":9000002,"pnr":"QX4RTZ","flight_no":"BA117","departure_date":"2026-12-01","cabin":"Y","seat":"14C"}"#;
        insta::assert_snapshot!(printed(Body::Data(serde_json::from_str(data).unwrap())), @r#"
        SeatReassigned  travel.inventory  BA117/2026-12-01/Y
            { "segment_id": 9000002, "pnr": "QX4RTZ", "flight_no": "BA117",
              "departure_date": "2026-12-01", "cabin": "Y", "seat": "14C" }
        "#);
    }

    #[test]
    fn a_tombstone_says_so() {
        assert!(printed(Body::Tombstone).contains("tombstone"));
    }
}
