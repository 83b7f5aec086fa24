//! Coverage: what of a mapping its cases exercise.
//!
//! Every rule, branch, declared transition and column is a point with a place in its file ([`points`]). While a
//! case is evaluated, a cold twin of the evaluator notes the points it comes by ([`watch`]); it asks the same
//! judgements that decide what is published, so there is no second meaning of a rule. A point that several rules
//! share, as those of `[defaults]`, is one point.
//!
//! Not here: printing, and which changes of a capture no rule explains.

mod points;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
mod watch;

use std::collections::HashSet;

use super::{Mapping, Pack};

/// What kind of point it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rule,
    Branch,
    Transition,
    /// A column that has no value, or that some `changed` waits for and that never changes. Told, and not counted.
    Column,
}

/// One thing that cases should come by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    pub kind: Kind,
    /// The file, as diagnostics show it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What it is, and that it is missing: `SeatSold: \`when\` is never false`.
    pub missing: String,
    /// What a case would have to do.
    pub wanted: String,
    site: Site,
}

/// What a point is known by: its place in mapping.toml, as the offset of its first byte, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Site {
    /// Number of the rule.
    Rule(usize),
    /// Number of a rule that fired, or that the row was a part of, whether or not its event could be made.
    Tried(u16),
    When(usize, Held),
    Only(usize, Held),
    Check(usize, Held),
    /// With the number of the watched place.
    Changed(usize, u16),
    /// With the number of the map's arm.
    Arm(usize, usize),
    Else(usize),
    /// With the number of the path that gave the value.
    Coalesced(usize, usize),
    /// A path with a default that had a value.
    Valued(usize),
    Default(usize),
    /// Number of the lifecycle among rules, from (`None`: creation) and to.
    Step(u16, Option<u16>, u16),
    /// Number of the lifecycle among rules.
    Illegal(u16),
    /// Numbers of table and column.
    Column(usize, u16),
}

/// How a condition ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Held {
    Yes,
    No,
}

/// The points that were come by so far.
#[derive(Clone, Debug, Default)]
pub struct Seen(HashSet<Site>);

impl Seen {
    /// Whether a transition was seen that is declared, or that is illegal.
    #[must_use]
    pub fn has_transition(&self) -> bool {
        let is_made = |site: &Site| matches!(site, Site::Step(_, Some(_), _) | Site::Illegal(_));
        self.0.iter().any(is_made)
    }

    /// Whether a rule fired, or made the row part of an event.
    #[must_use]
    pub fn has_event(&self) -> bool {
        self.0.iter().any(|site| matches!(site, Site::Tried(_)))
    }

    /// Adds what was come by elsewhere.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether an `only` left the row out.
    #[must_use]
    pub fn has_left_out(&self) -> bool {
        self.0
            .iter()
            .any(|site| matches!(site, Site::Only(_, Held::No)))
    }
}

/// How many of something were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub seen: usize,
    pub all: usize,
}

/// The points of a mapping, and which of them were seen.
#[derive(Clone, Debug)]
pub struct Coverage {
    points: Vec<Point>,
    seen: Seen,
}

impl Coverage {
    /// What of `mapping`, compiled from `pack`, was `seen`.
    #[must_use]
    pub fn of(mapping: &Mapping, pack: &Pack, seen: Seen) -> Self {
        Self {
            points: points::of(mapping, pack),
            seen,
        }
    }

    /// The points that were not seen, by file and line.
    pub fn missing(&self) -> impl Iterator<Item = &Point> {
        let seen = &self.seen.0;
        self.points
            .iter()
            .filter(|point| !seen.contains(&point.site))
    }

    /// How many points of a kind were seen.
    #[must_use]
    pub fn share(&self, kind: Kind) -> Share {
        let of_kind = || self.points.iter().filter(|point| point.kind == kind);
        let all = of_kind().count();
        Share {
            seen: all - self.missing().filter(|point| point.kind == kind).count(),
            all,
        }
    }
}

impl std::ops::Add for Share {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            seen: self.seen + other.seen,
            all: self.all + other.all,
        }
    }
}

impl std::iter::Sum for Share {
    fn sum<I: Iterator<Item = Self>>(shares: I) -> Self {
        shares.fold(Self::default(), std::ops::Add::add)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.seen, self.all)
    }
}
