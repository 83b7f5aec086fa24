//! The shape that kept rows have, as it is kept beside them, and what a later one says of them.
//!
//! A source tells of a changed table by its next shape, and never of what was done to the rows. What can be told from
//! two shapes: whether a cell that was kept is still what the source would print, and whether rows are still found.

use rowbridge_api::{Column, Kind, Shape, Type};
use serde::{Deserialize, Serialize};

use crate::mapping::rule::Table;

/// A shape and what is kept of it, in JSON.
#[derive(Serialize, Deserialize)]
pub(super) struct Description {
    /// [`Shape::table_id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table_id: Option<u64>,
    /// Names and types of the kept columns, in their order in a row.
    pub(super) columns: Vec<(String, String)>,
    /// All columns of the table in its own order, where the source says it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    order: Vec<String>,
}

/// Why kept rows cannot be found any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The table was dropped, and another one has its name.
    TableMadeAgain,
    /// A column by which rows are found has values of another kind.
    Finder {
        column: String,
        was: String,
        is: String,
    },
}

impl Description {
    pub(super) fn of<'a>(shape: &Shape, kept: impl Iterator<Item = &'a Column>) -> Self {
        let names = shape.columns.iter().map(|column| column.name.clone());
        Self {
            table_id: shape.table_id,
            columns: kept
                .map(|column| (column.name.clone(), column.ty.name.clone()))
                .collect(),
            order: match shape.table_id {
                Some(_) => names.collect(),
                None => Vec::new(),
            },
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("names and types always serialise")
    }

    /// Nothing if it is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    pub(super) fn index_of(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|(name, _)| name == column)
    }

    fn type_of(&self, column: &str) -> Option<Type> {
        let index = self.index_of(column)?;
        Some(Type::parse(&self.columns[index].1))
    }

    /// Whether the table, as this later shape has it, would still print what was kept of a column in `then`.
    ///
    /// A type that prints its values alike is no matter: integers of any width, text of any length. A column that
    /// stands elsewhere among the others was dropped and made again, or has taken the name of another one.
    pub(super) fn vouches_for(&self, index: usize, then: &Self) -> bool {
        let (name, was) = &then.columns[index];
        let Some(is) = self.index_of(name).map(|index| &self.columns[index].1) else {
            return false;
        };
        let prints_alike = || {
            let (was, is) = (Type::parse(was).kind, Type::parse(is).kind);
            was == is && matches!(was, Kind::Int | Kind::Text)
        };
        (was == is || prints_alike()) && !self.has_moved(name, then)
    }

    fn has_moved(&self, column: &str, then: &Self) -> bool {
        let place = |order: &[String], name: &str| order.iter().position(|known| known == name);
        let (Some(was), Some(is)) = (place(&then.order, column), place(&self.order, column)) else {
            return false;
        };
        let others = then.order.iter().enumerate();
        let mut others = others.filter_map(|(other_was, other)| {
            let other_is = place(&self.order, other)?;
            Some((other_was < was, other_is < is))
        });
        others.any(|(was_before, is_before)| was_before != is_before)
    }

    /// Why rows that were kept in the shape `then` cannot be found any more, if they cannot.
    pub(super) fn loses(&self, then: &Self, table: &Table) -> Option<Lost> {
        if let (Some(was), Some(is)) = (then.table_id, self.table_id)
            && was != is
        {
            return Some(Lost::TableMadeAgain);
        }
        let finders = table.key.iter().chain(table.indexes.iter().flatten());
        let names = finders.map(|slot| &table.columns[usize::from(*slot)].name);
        let mut changed = names.filter_map(|name| {
            let (was, is) = (then.type_of(name)?, self.type_of(name)?);
            (was.kind != is.kind).then(|| Lost::Finder {
                column: name.clone(),
                was: was.name,
                is: is.name,
            })
        });
        changed.next()
    }
}
