//! `[privacy]`, and `privacy` on a value.

use super::reader::{Node, Table, Text};
use crate::mapping::diagnostic::{Diagnostic, one_of};
use crate::mapping::privacy::Class;

/// Whether what nobody reads may leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::mapping) enum Unread {
    #[default]
    Deny,
    Allow,
}

/// `[privacy]`.
#[derive(Debug)]
pub(in crate::mapping) struct PrivacyDecl {
    pub(in crate::mapping) unread: Unread,
    /// `table.column`, or a place inside, and its class.
    pub(in crate::mapping) columns: Vec<(Text, Class)>,
}

/// `privacy` on a value.
#[derive(Clone, Debug)]
pub(in crate::mapping) struct OwnClass {
    pub(in crate::mapping) class: Class,
    pub(in crate::mapping) text: Text,
}

pub(super) fn read(table: &Table<'_>) -> PrivacyDecl {
    table.only_keys("[privacy]", &["default", "columns"], &[]);
    let unread = match table.text("default") {
        None => Unread::Deny,
        Some(text) => match text.value.as_str() {
            "deny" => Unread::Deny,
            "allow" => Unread::Allow,
            other => {
                table.report().push(
                    Diagnostic::error(text.at, format!("unknown `default`: `{other}`"))
                        .maybe_hint(one_of(other, &["deny", "allow"])),
                );
                Unread::Deny
            }
        },
    };
    let mut columns = Vec::new();
    if let Some(table) = table.table("columns") {
        read_columns(None, &table, &mut columns);
    }
    PrivacyDecl { unread, columns }
}

/// `"booking.email" = "hash"`, and the same without quotes, which TOML reads as tables.
fn read_columns(prefix: Option<&str>, table: &Table<'_>, columns: &mut Vec<(Text, Class)>) {
    for (key, node) in table.entries() {
        let name = match prefix {
            Some(prefix) => Text {
                value: format!("{prefix}.{}", key.value),
                at: key.at,
                content: None,
            },
            None => key,
        };
        if let Some(table) = node.as_table() {
            read_columns(Some(&name.value), &table, columns);
        } else if let Some(text) = node.text()
            && let Some(class) = read_class(&node, &text)
        {
            columns.push((name, class));
        }
    }
}

impl OwnClass {
    pub(super) fn read(table: &Table<'_>) -> Option<Self> {
        let node = table.get("privacy")?;
        let text = node.text()?;
        let class = read_class(&node, &text)?;
        Some(Self { class, text })
    }
}

fn read_class(node: &Node<'_>, text: &Text) -> Option<Class> {
    let class = Class::parse(&text.value);
    if class.is_none() {
        let error = Diagnostic::error(text.at, format!("unknown class `{}`", text.value));
        node.report().push(if text.value.starts_with("truncate") {
            error
                .label("says how many characters stay, from 1 on")
                .hint("\"truncate(4)\"")
        } else {
            error.maybe_hint(one_of(&text.value, &Class::WORDS))
        });
    }
    class
}
