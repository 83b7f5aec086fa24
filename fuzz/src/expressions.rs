//! An expression of the mapping language: a condition behind `?`, a path with its `$` and one to a time behind `@`, a
//! column behind `#` and one with a delta behind `-`, and all else a template.

use std::cell::OnceCell;
use std::sync::Arc;

use rowbridge::mapping::change_json::{ChangeReader, Tables};
use rowbridge_api::Batch;

use super::{changes, pack};

/// What is said points into the file, and what compiles gives JSON for any change.
pub fn one(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let quote = |text: &str| toml::Value::from(text).to_string();
    let clause = match text.split_at_checked(1) {
        Some(("?", condition)) => {
            let condition = quote(condition);
            format!("when = {condition}\n[[event.check]]\nassert = {condition}\nmessage = \"no\"")
        }
        Some(("$", _)) => format!(
            "headers = {{ h = {0} }}\n[event.data]\na = {0}\nb = {{ path = {0}, as = \"string\" }}",
            quote(text)
        ),
        Some(("@", path)) => format!("time = {}", quote(path)),
        Some(("#", column)) => format!("changed = [{}]", quote(column)),
        Some(("-", column)) => format!("[event.data]\na = {{ delta = {} }}", quote(column)),
        _ => format!(
            "key = {0}\nsubject = {0}\n[event.data]\na = {{ template = {0} }}",
            quote(text)
        ),
    };
    let event = format!("[[event]]\ntype = \"E\"\ntable = \"note\"\ntopic = \"notes\"\n{clause}\n");
    let Some(mapping) = pack::compile(&pack::with_events(&event), pack::SCHEMA) else {
        return;
    };
    let mapping = Arc::new(mapping);
    CHANGES.with(|changes| {
        let batch = changes.get_or_init(|| read(&Tables::of(&mapping)));
        changes::publish(&mapping, batch);
    });
}

thread_local! {
    static CHANGES: OnceCell<Batch> = const { OnceCell::new() };
}

fn read(tables: &Tables) -> Batch {
    let mut reader = ChangeReader::new(Arc::new(tables.clone()));
    let mut batch = Batch::default();
    for line in include_str!("changes.jsonl").lines() {
        reader
            .line(line, &mut batch)
            .expect("the changes are whole");
    }
    reader.end(&mut batch);
    batch
}
