//! What an event's key is made from: nothing (a broadcast), a template, or the key of its table.

use rowbridge_api::Op;

use super::privacy;
use crate::mapping::diagnostic::{At, Diagnostic};
use crate::mapping::expression::leaving::{name, undecided};
use crate::mapping::expression::template;
use crate::mapping::expression::{Rows, Scope};
use crate::mapping::file::event::{Clauses, EventDecl};
use crate::mapping::file::reader::{Flag, Text};
use crate::mapping::privacy::Class;
use crate::mapping::rule::{Key, Side};
use crate::mapping::{Cleanup, Topic};

pub(super) fn compile(
    scope: &Scope<'_>,
    event: &EventDecl,
    clauses: &Clauses,
    topic: Option<&Topic>,
) -> Option<Key> {
    if let Some(flag) = clauses.broadcast.filter(|flag| flag.on) {
        return broadcast(scope, event, flag, topic);
    }
    let truncates = scope.ops.contains(Op::Truncate);
    match &clauses.key {
        Some(text) if truncates => of_truncate(scope, text),
        Some(text) => of_row(scope, text),
        None if truncates => {
            scope.error(no_row_to_make_a_key_from(event.at));
            None
        }
        None if scope.rows == Rows::OnlyParts => {
            scope.error(
                Diagnostic::error(event.at, "an event of several rows names its key itself")
                    .hint("key = \"{$.new.row.pnr}\""),
            );
            None
        }
        None => of_table(scope, event),
    }
}

fn broadcast(
    scope: &Scope<'_>,
    event: &EventDecl,
    flag: Flag,
    topic: Option<&Topic>,
) -> Option<Key> {
    let cleanup = topic.and_then(|topic| topic.cleanup);
    if let Some(Cleanup::Compact | Cleanup::CompactDelete) = cleanup {
        scope.error(
            Diagnostic::error(flag.at, "a broadcast to a compacted topic")
                .label("Kafka refuses records without a key there")
                .hint("a constant key, or another topic"),
        );
        return None;
    }
    if let Some(own) = &event.clauses.key {
        scope.error(
            Diagnostic::error(own.at, "a broadcast has no key")
                .label("goes to every partition")
                .hint("leave out `key` or `broadcast`"),
        );
        return None;
    }
    Some(Key::Broadcast)
}

/// A truncate has no row: its key is the same text always.
fn of_truncate(scope: &Scope<'_>, text: &Text) -> Option<Key> {
    let template = template::compile(scope, text)?;
    if !template.is_constant() {
        scope.error(no_row_to_make_a_key_from(text.at));
        return None;
    }
    Some(Key::Template(template))
}

fn of_row(scope: &Scope<'_>, text: &Text) -> Option<Key> {
    let template = template::compile(scope, text)?;
    if template.is_constant() {
        scope.error(
            Diagnostic::warning(text.at, "every event of this rule has the same key")
                .label("all of them go to one partition")
                .hint("key = \"{id}\""),
        );
    }
    for place in template.places() {
        if let Some(class @ (Class::Mask | Class::Truncate(_))) =
            place.shield().and_then(|shield| shield.whole)
        {
            let name = name(scope, place).unwrap_or_default();
            scope.error(privacy::blurred_key(text.at, &name, class));
        }
    }
    Some(Key::Template(template))
}

fn of_table(scope: &Scope<'_>, event: &EventDecl) -> Option<Key> {
    if scope.table.key.is_empty() {
        scope.error(
            Diagnostic::error(
                event.at,
                "this event has no key, and its table declares none",
            )
            .hint(format!(
                "key = \"{{id}}\" here, or key = [\"id\"] in [{}] of schema.toml",
                scope.table.short
            )),
        );
        return None;
    }
    privacy::check_key(scope.report, scope.table, event.at)?;
    for (slot, place) in scope.table.key.iter().zip(&scope.table.key_places) {
        scope.reads(*slot, Side::Row);
        undecided(scope, place, event.at);
    }
    Some(Key::OfTable)
}

fn no_row_to_make_a_key_from(at: At) -> Diagnostic {
    Diagnostic::error(at, "a truncate has no row to make a key from")
        .hint("broadcast = true, or a constant key such as key = \"all\"")
}
