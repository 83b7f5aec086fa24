//! Conditions and what they read, as data: written into a mapping, and judged by the model.

use super::table::{COLUMNS, Col, Kind};

/// Which image of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
    /// The current one.
    Row,
}

/// What an expression reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A column of the change's own row.
    Own(Side, Col),
    /// A column of a row that is looked up, by the number of the lookup.
    LookedUp(usize, Col),
    /// A column of a part of the transaction, by its number.
    Part(usize, Side, Col),
    /// The element of `each`.
    Item,
}

/// What may be there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    Image(Side),
    LookedUp(usize),
    Part(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    NotEqual,
    Less,
}

/// What a place is compared with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    Null,
    Literal(Kind, &'static str),
    Place(Place),
}

#[derive(Clone, Debug)]
pub(super) enum Condition {
    Compare(Place, Relation, Operand),
    Exists(Thing),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Row => "row",
        }
    }
}

impl Place {
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Own(_, column) | Self::LookedUp(_, column) | Self::Part(_, _, column) => {
                COLUMNS[column].2
            }
            Self::Item => Kind::Text,
        }
    }

    pub(super) fn text(self) -> String {
        match self {
            Self::Own(side, column) => format!("$.{}.{}", side.name(), COLUMNS[column].0),
            Self::LookedUp(lookup, column) => format!("$.l{lookup}.{}", COLUMNS[column].0),
            Self::Part(part, side, column) => {
                format!("$.p{part}.{}.{}", side.name(), COLUMNS[column].0)
            }
            Self::Item => "$.item".to_owned(),
        }
    }
}

impl Thing {
    fn text(self) -> String {
        match self {
            Self::Image(side) => format!("$.{}", side.name()),
            Self::LookedUp(lookup) => format!("$.l{lookup}"),
            Self::Part(part) => format!("$.p{part}"),
        }
    }
}

impl Condition {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Compare(place, relation, operand) => {
                let relation = match relation {
                    Relation::Equal => "==",
                    Relation::NotEqual => "!=",
                    Relation::Less => "<",
                };
                let operand = match operand {
                    Operand::Null => "null".to_owned(),
                    Operand::Literal(Kind::Text | Kind::Char | Kind::Texts, text) => {
                        format!("'{text}'")
                    }
                    Operand::Literal(Kind::Int | Kind::Decimal, number) => (*number).to_owned(),
                    Operand::Place(place) => place.text(),
                };
                format!("{} {relation} {operand}", place.text())
            }
            Self::Exists(thing) => thing.text(),
            Self::Not(part) => format!("!({})", part.text()),
            Self::And(left, right) => format!("({} && {})", left.text(), right.text()),
            Self::Or(left, right) => format!("({} || {})", left.text(), right.text()),
        }
    }
}
