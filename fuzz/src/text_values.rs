//! A cell's text form: the first line names the type, all else is the value.

use std::cmp::Ordering;

use rowbridge_api::{Kind, Type};

/// Both ways to JSON agree, what is written reads back, and a value equals itself.
pub fn one(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let Ok(name) = str::from_utf8(&bytes[..end]) else {
        return;
    };
    let (ty, raw) = (Type::parse(name), &bytes[end + 1..]);
    assert_eq!(
        Type::parse(&ty.name).kind,
        ty.kind,
        "the name names the type"
    );
    let (mut json, mut text) = (Vec::new(), Vec::new());
    let written = ty.write_json(raw, &mut json);
    assert_eq!(ty.write_text(raw, &mut text), written);
    if written.is_err() {
        assert!(
            json.is_empty() && text.is_empty(),
            "an error leaves nothing"
        );
        assert!(ty.decode(raw).is_err(), "what decodes can be published");
        return;
    }
    serde_json::from_slice::<serde::de::IgnoredAny>(&json).expect("the JSON form is JSON");
    if reads_back(&ty.kind) {
        let mut again = Vec::new();
        ty.write_text(&text, &mut again)
            .expect("what is written reads");
        assert_eq!(again, text, "what is written reads back the same");
    }
    if let Ok(value) = ty.decode(raw) {
        let (mut of_value, mut text_of_value) = (Vec::new(), Vec::new());
        value.write_json(&mut of_value);
        value.write_text(&mut text_of_value);
        assert_eq!(of_value, json, "the same with a value in between");
        assert_eq!(text_of_value, text, "the same with a value in between");
        assert!(matches!(
            value.compare(&value),
            None | Some(Ordering::Equal)
        ));
    }
}

/// Whether the text that is published is a text form too: base64 and JSON of composites and arrays are not.
const fn reads_back(kind: &Kind) -> bool {
    !matches!(
        kind,
        Kind::Bytes | Kind::Array(_) | Kind::Composite(_) | Kind::Hstore
    )
}
