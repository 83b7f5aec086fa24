//! Case files and what is wrong with them; events compared, field by field.

use rowbridge_api::{Column, TableName, Type};
use serde_json::{Value, json};

use super::*;
use crate::paint::Look;

fn tables() -> Tables {
    let columns = [
        ("id", "int8"),
        ("seat", "text"),
        ("fare", "numeric(10,2)"),
        ("doc", "jsonb"),
    ];
    let columns = columns.map(|(name, ty)| Column {
        name: name.to_owned(),
        ty: Type::parse(ty),
        key: name == "id",
    });
    let name = TableName::new("public", "segments");
    Tables::new([("segment".to_owned(), name, columns.to_vec())])
}

fn parse(text: &str) -> Result<Case, String> {
    let file = SourceFile {
        name: "cases/x.toml".to_owned(),
        text: text.to_owned(),
    };
    Case::parse(&file, &tables()).map_err(|list| Problems { file, list }.render(Look::PLAIN))
}

fn expected(text: &str) -> Vec<ExpectedEvent> {
    let given =
        "name = \"x\"\n[[given]]\ntable = \"segment\"\nop = \"insert\"\nafter = { id = 1 }\n";
    parse(&format!("{given}{text}")).unwrap().expected
}

fn event(event_type: &str, data: Value) -> Published {
    Published {
        event_type: event_type.to_owned(),
        topic: Some("travel.inventory".to_owned()),
        key: Some("BA117".to_owned()),
        headers: vec![
            ("ce_time".to_owned(), "2026-12-01T10:15:00Z".to_owned()),
            ("channel".to_owned(), "web".to_owned()),
        ],
        body: Body::Data(data),
    }
}

/// One line per event and field: `=`, `-` expected, `+` published.
fn shown(expected: &[ExpectedEvent], published: &[Published]) -> String {
    let mut text = String::new();
    for difference in difference::compare(expected, published) {
        text.push_str(&format!(
            "{:?} {}\n",
            difference.verdict, difference.event_type
        ));
        for line in difference.lines {
            let sign = match line.side {
                Side::Both => '=',
                Side::Expected => '-',
                Side::Published => '+',
            };
            text.push_str(&format!("  {sign} {} {}\n", line.field, line.value));
        }
    }
    text
}

#[test]
fn everything_wrong_with_a_case_is_said_at_once() {
    insta::assert_snapshot!(
        parse(
            r#"
silent = true
note = "stray"
[[seed]]
table = "segment"
[[given]]
table = "segmnet"
op = "upsert"
[[given]]
table = "segment"
op = "update"
tx = "a"
after = { id = "seven", seats = 1, fare = true }
[[given]]
table = "segment"
op = "delete"
[[expect]]
match = "fuzzy"
data = { seat = "1A" }
tombstone = true
"#
        )
        .unwrap_err()
    );
}

#[test]
fn a_case_expects_events_or_says_that_it_does_not() {
    let given =
        "name = \"x\"\n[[given]]\ntable = \"segment\"\nop = \"insert\"\nafter = { id = 1 }\n";
    assert!(
        parse(given)
            .unwrap_err()
            .contains("the case expects nothing")
    );
    assert!(parse(&format!("silent = true\n{given}")).is_ok());
    assert!(parse(&format!("silent = true\n{given}[[expect]]\ntype = \"A\"")).is_err());
}

#[test]
fn changes_of_one_transaction_stand_together() {
    let given = |tx: &str| {
        format!(
            "[[given]]\ntx = \"{tx}\"\ntable = \"segment\"\nop = \"insert\"\nafter = {{ id = 1 }}\n"
        )
    };
    let case = |order: &[&str]| {
        let given: String = order.iter().map(|tx| given(tx)).collect();
        parse(&format!("name = \"x\"\nsilent = true\n{given}"))
    };
    assert!(case(&["a", "a", "b"]).is_ok());
    assert!(
        case(&["a", "b", "a"])
            .unwrap_err()
            .contains("transaction `a` has ended above")
    );
}

#[test]
fn cells_are_native_or_text_and_null_is_spelled_out() {
    let case = parse(
        r#"
name = "x"
silent = true
[[given]]
table = "segment"
op = "insert"
after = { id = 0x10, seat = { null = true }, fare = 120.00, doc = { tier = "gold", n = [1, { null = true }] } }
[[given]]
table = "segment"
op = "insert"
after = { id = "16", fare = "120.00", doc = '{"tier":"gold"}' }
"#,
    )
    .unwrap();
    let cells = |index: usize| {
        let after = case.given[index].change.after.as_ref().unwrap();
        after
            .iter()
            .map(|cell| format!("{}", Shown(cell)))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(cells(0), r#"16 null 120.00 {"tier":"gold","n":[1,null]}"#);
    assert_eq!(cells(1), r#"16 ? 120.00 {"tier":"gold"}"#);
}

struct Shown<'a>(&'a super::super::change_json::OwnedCell);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use super::super::change_json::OwnedCell;
        match self.0 {
            OwnedCell::Value(text) => f.write_str(&String::from_utf8_lossy(text)),
            OwnedCell::Null => f.write_str("null"),
            OwnedCell::Unavailable => f.write_str("?"),
        }
    }
}

#[test]
fn exact_compares_all_data_and_contains_a_part_of_it() {
    let published = [event(
        "A",
        json!({"seat": "1A", "fare": "1.50", "p": {"a": 1, "b": 2}}),
    )];
    let part = r#"data = { seat = "1B", p = { a = 1.0 } }"#;
    assert_eq!(
        shown(
            &expected(&format!("[[expect]]\ntype = \"A\"\n{part}")),
            &published
        ),
        "Differs A\n  - seat \"1B\"\n  + seat \"1A\"\n  = p.a 1\n  + p.b 2\n  + fare \"1.50\"\n"
    );
    assert_eq!(
        shown(
            &expected(&format!(
                "[[expect]]\ntype = \"A\"\nmatch = \"contains\"\n{part}"
            )),
            &published
        ),
        "Differs A\n  - seat \"1B\"\n  + seat \"1A\"\n  = p.a 1\n"
    );
}

#[test]
fn decimals_are_text_and_numbers_are_values() {
    let compare = |wanted: &str, found: Value| {
        let wanted = expected(&format!(
            "[[expect]]\ntype = \"A\"\ndata = {{ x = {wanted} }}"
        ));
        shown(&wanted, &[event("A", json!({ "x": found }))]).starts_with("Same")
    };
    assert!(compare("1.50", json!(1.5)));
    assert!(compare("[1, 2.0]", json!([1.0, 2])));
    assert!(compare("{ null = true }", Value::Null));
    assert!(compare("2026-12-01", json!("2026-12-01")));
    assert!(!compare("\"1.50\"", json!("1.5")));
    assert!(!compare("\"1.50\"", json!(1.5)));
    assert!(!compare("{ null = true }", json!("null")));
}

#[test]
fn attributes_that_a_case_names_are_compared() {
    let case = expected(
        "[[expect]]\ntype = \"A\"\ntopic = \"travel.inventory\"\nkey = \"BA118\"\nsubject = \"7\"\n\
         time = 2026-12-01T10:15:00Z\nheaders = { channel = \"app\" }",
    );
    assert_eq!(
        shown(&case, &[event("A", json!({"seat": "1A"}))]),
        "Differs A\n  = topic travel.inventory\n  - key BA118\n  + key BA117\n  - subject 7\n  + subject (none)\n  \
         = time 2026-12-01T10:15:00Z\n  - header channel app\n  + header channel web\n"
    );
}

#[test]
fn events_that_are_missing_or_unexpected_leave_the_others_aligned() {
    let case = expected(
        "[[expect]]\ntype = \"A\"\n[[expect]]\ntype = \"B\"\nkey = \"K\"\n[[expect]]\ntype = \"C\"",
    );
    let published = [
        event("A", json!({})),
        event("C", json!({})),
        event("D", json!({"n": 1})),
    ];
    assert_eq!(
        shown(&case, &published),
        "Same A\nMissing B\n  - key K\nSame C\nUnexpected D\n  + topic travel.inventory\n  + key BA117\n  + n 1\n"
    );
}

#[test]
fn a_tombstone_and_a_quarantined_event_are_expected_as_such() {
    let tombstone = Published {
        body: Body::Tombstone,
        ..event("A", Value::Null)
    };
    let error = "negative fare".to_owned();
    let quarantined = Published {
        topic: None,
        body: Body::Quarantined { error },
        ..event("A", Value::Null)
    };
    let plain = expected("[[expect]]\ntype = \"A\"");
    let empty = expected("[[expect]]\ntype = \"A\"\ntombstone = true");
    let failed = expected("[[expect]]\ntype = \"A\"\nquarantined = true\nerror = \"negative\"");
    let other = expected("[[expect]]\ntype = \"A\"\nquarantined = true\nerror = \"too high\"");
    let same = |wanted: &[ExpectedEvent], found: &Published| {
        shown(wanted, std::slice::from_ref(found)).starts_with("Same")
    };
    assert!(
        same(&empty, &tombstone)
            && !same(&plain, &tombstone)
            && !same(&empty, &event("A", json!({})))
    );
    assert!(
        same(&failed, &quarantined) && !same(&other, &quarantined) && !same(&plain, &quarantined)
    );
}
