//! Privacy: which values are protected, and what becomes of them where they leave.
//!
//! A class protects the *text form* of a value, the one that templates show, and gives text; null stays null. Only what
//! leaves is protected: conditions, `changed`, checks and lifecycles read what the source sent.
//!
//! Not here: what `[privacy]` may say ([`super::compile`]) and where values leave ([`super::expression::leaving`]).

mod key;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
mod write;

use std::cmp::Reverse;
use std::fmt;

use super::expression::path::{Inner, Step};
pub use key::{HashKey, HashKeyError};
pub(super) use write::Form;

/// What becomes of a value where it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It leaves as it is: somebody decided so, and `check` need not warn.
    Clear,
    /// Its first characters, as many.
    Truncate(u32),
    /// A `*` for every character.
    Mask,
    /// `<key id>:` and its HMAC-SHA-256 in base64url: equal values have equal hashes under one key.
    Hash,
    /// It does not leave.
    Drop,
}

impl Class {
    /// The words that name one.
    pub(super) const WORDS: [&'static str; 5] = ["drop", "hash", "mask", "truncate(4)", "clear"];

    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "clear" => Self::Clear,
            "mask" => Self::Mask,
            "hash" => Self::Hash,
            "drop" => Self::Drop,
            _ => {
                let characters = text.strip_prefix("truncate(")?.strip_suffix(')')?;
                let characters = characters.trim().parse().ok()?;
                return (characters > 0).then_some(Self::Truncate(characters));
            }
        })
    }

    /// More is stricter; of two truncations, the one that leaves less.
    const fn strictness(self) -> (u8, Reverse<u32>) {
        match self {
            Self::Clear => (0, Reverse(0)),
            Self::Truncate(characters) => (1, Reverse(characters)),
            Self::Mask => (2, Reverse(0)),
            Self::Hash => (3, Reverse(0)),
            Self::Drop => (4, Reverse(0)),
        }
    }

    pub(super) fn is_looser_than(self, other: Self) -> bool {
        self.strictness() < other.strictness()
    }

    pub(super) fn or_stricter(self, other: Self) -> Self {
        std::cmp::max_by_key(self, other, |class| class.strictness())
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear => f.write_str("clear"),
            Self::Truncate(characters) => write!(f, "truncate({characters})"),
            Self::Mask => f.write_str("mask"),
            Self::Hash => f.write_str("hash"),
            Self::Drop => f.write_str("drop"),
        }
    }
}

/// A column, or a place in a document column, with its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Classed {
    pub(super) slot: u16,
    /// Names from the column on; empty for the column itself. A name goes into every element of an array.
    pub(super) inside: Box<[String]>,
    pub(super) class: Class,
}

/// What protects a value on its way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shield {
    /// For all of it; `None`: it leaves as it is, but for `inside`.
    pub(super) whole: Option<Class>,
    /// For places in the column's document, from its root on: protected before anything is read out of it.
    pub(super) inside: Box<[(Box<[String]>, Class)]>,
}

impl Shield {
    /// The same for what lies behind so many names.
    pub(super) fn behind(self, names: usize) -> Self {
        let inside = self.inside.into_iter();
        Self {
            whole: self.whole,
            inside: inside
                .map(|(path, class)| (path[names..].into(), class))
                .collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.whole.is_none() && self.inside.is_empty()
    }
}

/// What is protected of one table.
#[derive(Clone, Debug, Default)]
pub(super) struct TablePrivacy {
    /// As `[privacy]` says.
    pub(super) classes: Vec<Classed>,
    /// As single events say: they bind a row that is set aside, too.
    pub(super) of_events: Vec<Classed>,
    /// What of a row that is set aside is shown.
    pub(super) shown: ShownColumns,
}

/// The columns that a quarantine record shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ShownColumns {
    /// All that the source sent.
    #[default]
    All,
    /// These slots: what some rule reads, and the key.
    Only(Box<[u16]>),
}

impl TablePrivacy {
    /// What protects a place that leaves by a rule. The strictest of the classes that contain it protects all of
    /// it, `drop` included; those of places further inside are kept apart.
    pub(super) fn shield(&self, slot: u16, inner: &Inner) -> Shield {
        self.shield_at(slot, &names(inner))
    }

    /// What protects what is read at these names of a column.
    pub(super) fn shield_at(&self, slot: u16, read: &[String]) -> Shield {
        shield(self.classes.iter(), slot, read)
    }

    /// Whether a class says something of all of a place, be it that it may leave.
    pub(super) fn is_decided(&self, slot: u16, read: &[String]) -> bool {
        let mut classes = self.classes.iter();
        classes.any(|classed| classed.slot == slot && read.starts_with(&classed.inside))
    }

    /// Whether `[privacy]` or an event protects a column, or anything in it.
    pub(super) fn is_protected(&self, slot: u16) -> bool {
        let mut classes = self.classes.iter().chain(&self.of_events);
        classes.any(|classed| classed.slot == slot && classed.class != Class::Clear)
    }

    /// What protects a column of a row that is set aside; `None` if it is left out.
    pub(super) fn shown(&self, slot: Option<u16>) -> Option<Shield> {
        let Some(slot) = slot else {
            // No rule can read a column that schema.toml does not know.
            return (self.shown == ShownColumns::All).then(Shield::default);
        };
        if let ShownColumns::Only(slots) = &self.shown
            && !slots.contains(&slot)
        {
            return None;
        }
        let classes = self.classes.iter().chain(&self.of_events);
        Some(shield(classes, slot, &[])).filter(|shield| shield.whole != Some(Class::Drop))
    }
}

fn shield<'a>(classes: impl Iterator<Item = &'a Classed>, slot: u16, read: &[String]) -> Shield {
    let mut whole = Class::Clear;
    let mut inside: Vec<(Box<[String]>, Class)> = Vec::new();
    let of_column = classes.filter(|classed| classed.slot == slot && classed.class != Class::Clear);
    for classed in of_column {
        if read.starts_with(&classed.inside) {
            whole = whole.or_stricter(classed.class);
        } else if classed.inside.starts_with(read) {
            match inside.iter_mut().find(|(path, _)| *path == classed.inside) {
                Some((_, class)) => *class = class.or_stricter(classed.class),
                None => inside.push((classed.inside.clone(), classed.class)),
            }
        }
    }
    // From the inside out: what a protected document is made from is protected itself.
    inside.sort_by_key(|(path, _)| Reverse(path.len()));
    Shield {
        whole: Some(whole).filter(|class| *class != Class::Clear),
        inside: inside.into(),
    }
}

/// The names that a place goes through. A query may read anything: it counts as read from the whole column.
pub(super) fn names(inner: &Inner) -> Vec<String> {
    let steps: &[Step] = match inner {
        Inner::Steps(steps) => steps,
        Inner::Whole | Inner::Query(_) => &[],
    };
    let names = steps.iter().filter_map(|step| match step {
        Step::Name(name) => Some(name.clone()),
        Step::Index(_) => None,
    });
    names.collect()
}
