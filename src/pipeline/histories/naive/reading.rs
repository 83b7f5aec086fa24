//! What a rule sees of a change or of the parts of a transaction, and what its conditions come to.

use std::cmp::Ordering;

use rowbridge_api::Op;

use super::super::condition::{Condition, Operand, Place, Relation, Side, Thing};
use super::super::rules::{Lookup, OfRow};
use super::super::story::{Cell, Change, Image, Row, Values, of_row};
use super::super::table::{COLUMNS, Col, Value};
use super::value::{compare, elements};
use super::{Unreadable, World};

/// What a place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is no such place: an image that a change does not have, a row that is not there.
    Nothing,
    Is(Value),
}

/// What a rule is about.
#[derive(Clone)]
pub(super) enum Subject<'a> {
    Change(&'a Change),
    /// The changes that are the parts of an event, if they are there.
    Parts(Vec<Option<&'a Change>>),
}

/// A subject as one rule sees it.
#[derive(Clone)]
pub(super) struct View<'a> {
    pub(super) world: World<'a>,
    pub(super) transaction: usize,
    pub(super) subject: Subject<'a>,
    pub(super) image_before: bool,
    /// The element of `each`.
    pub(super) item: Option<Value>,
    /// The lookups of the rule.
    pub(super) lookups: &'a [Lookup],
}

impl<'a> World<'a> {
    pub(super) fn of_change(
        self,
        transaction: usize,
        change: &'a Change,
        image_before: bool,
    ) -> View<'a> {
        View {
            world: self,
            transaction,
            subject: Subject::Change(change),
            image_before,
            item: None,
            lookups: &[],
        }
    }

    pub(super) fn of_parts(self, transaction: usize, parts: &[Option<usize>]) -> View<'a> {
        let changes = &self.story.transactions[transaction].changes;
        let parts = parts
            .iter()
            .map(|part| part.map(|ordinal| &changes[ordinal]));
        View {
            world: self,
            transaction,
            subject: Subject::Parts(parts.collect()),
            image_before: false,
            item: None,
            lookups: &[],
        }
    }

    /// An image of a change: as it was sent, and what was left out from the history where the state knows it.
    fn image(self, change: &Change, side: Side) -> Option<Image> {
        let (sent, was) = match side {
            Side::Before => (change.sent_before?, change.before?),
            Side::After | Side::Row => (change.sent_after?, change.after?),
        };
        match self.rules.tables[change.table].before_from_state {
            true => Some(was.map(Cell::Sent)),
            false => Some(sent),
        }
    }

    fn cell(self, change: &Change, side: Side, column: Col) -> Result<Found, Unreadable> {
        match self.image(change, side).map(|image| image[column]) {
            None => Ok(Found::Nothing),
            Some(Cell::Sent(value)) => Ok(Found::Is(value)),
            Some(Cell::LeftOut) => Err(Unreadable),
        }
    }

    /// Whether an update changed a column; null equals null, and what was not sent again did not change.
    pub(super) fn changed(self, change: &Change, column: Col) -> Result<bool, Unreadable> {
        if self.cell(change, Side::After, column).is_err() {
            return Ok(false);
        }
        let before = self.cell(change, Side::Before, column)?;
        let after = self.cell(change, Side::After, column)?;
        Ok(order(column, before, after) != Some(Ordering::Equal))
    }
}

/// Two places that are not there are equal, so are two nulls; what is there and what is not do not compare.
fn order(column: Col, left: Found, right: Found) -> Option<Ordering> {
    match (left, right) {
        (Found::Nothing, Found::Nothing) | (Found::Is(None), Found::Is(None)) => {
            Some(Ordering::Equal)
        }
        (Found::Is(Some(left)), Found::Is(Some(right))) => {
            Some(compare(COLUMNS[column].2, left, right))
        }
        _ => None,
    }
}

impl<'a> View<'a> {
    pub(super) fn with_lookups(&self, lookups: &'a [Lookup]) -> Self {
        Self {
            lookups,
            ..self.clone()
        }
    }

    pub(super) fn at_item(&self, item: Value) -> Self {
        Self {
            item: Some(item),
            ..self.clone()
        }
    }

    /// The image that `$.row` is.
    fn side(&self, change: &Change, side: Side) -> Side {
        match side {
            Side::Row if self.image_before || change.op == Op::Delete => Side::Before,
            Side::Row => Side::After,
            side => side,
        }
    }

    pub(super) fn read(&self, place: Place) -> Result<Found, Unreadable> {
        match (place, &self.subject) {
            (Place::Own(side, column), Subject::Change(change)) => {
                self.world.cell(change, self.side(change, side), column)
            }
            (Place::Part(part, side, column), Subject::Parts(parts)) => match parts[part] {
                Some(change) => self.world.cell(change, self.side(change, side), column),
                None => Ok(Found::Nothing),
            },
            (Place::LookedUp(lookup, column), _) => Ok(self
                .look_up(lookup)?
                .map_or(Found::Nothing, |row| Found::Is(row[column]))),
            (Place::Item, _) => Ok(self.item.map_or(Found::Nothing, Found::Is)),
            (Place::Own(..), Subject::Parts(_)) | (Place::Part(..), Subject::Change(_)) => {
                panic!("no such place in this rule")
            }
        }
    }

    pub(super) fn holds(&self, condition: &Condition) -> Result<bool, Unreadable> {
        Ok(match condition {
            Condition::And(left, right) => self.holds(left)? && self.holds(right)?,
            Condition::Or(left, right) => self.holds(left)? || self.holds(right)?,
            Condition::Not(part) => !self.holds(part)?,
            Condition::Exists(thing) => self.exists(*thing)?,
            Condition::Compare(place, relation, operand) => {
                let left = self.read(*place)?;
                let right = match operand {
                    Operand::Null => Found::Is(None),
                    Operand::Literal(_, text) => Found::Is(Some(text)),
                    Operand::Place(place) => self.read(*place)?,
                };
                let order = order(column_like(*place), left, right);
                match relation {
                    Relation::Equal => order == Some(Ordering::Equal),
                    Relation::NotEqual => order != Some(Ordering::Equal),
                    Relation::Less => order == Some(Ordering::Less),
                }
            }
        })
    }

    fn exists(&self, thing: Thing) -> Result<bool, Unreadable> {
        Ok(match (thing, &self.subject) {
            (Thing::Image(side), Subject::Change(change)) => {
                self.world.image(change, self.side(change, side)).is_some()
            }
            (Thing::Part(part), Subject::Parts(parts)) => parts[part].is_some(),
            (Thing::LookedUp(lookup), _) => self.look_up(lookup)?.is_some(),
            (Thing::Image(_), Subject::Parts(_)) | (Thing::Part(_), Subject::Change(_)) => {
                panic!("no such thing in this rule")
            }
        })
    }

    /// What the change alone says: `changed` and `transition`.
    pub(super) fn is_about(&self, row: &OfRow) -> Result<bool, Unreadable> {
        let Subject::Change(change) = self.subject else {
            panic!("a rule of one row")
        };
        if let Some(changed) = &row.changed {
            let mut is_about = changed.all;
            for column in &changed.columns {
                if self.world.changed(change, *column)? != changed.all {
                    is_about = !changed.all;
                    break;
                }
            }
            if !is_about {
                return Ok(false);
            }
        }
        match &row.transition {
            Some(transition) => Ok(super::lifecycle::step(self.world, change)?.is(transition)),
            None => Ok(true),
        }
    }

    /// The elements of the array in a column; none where there is no array.
    pub(super) fn elements(&self, column: Col) -> Result<Vec<Value>, Unreadable> {
        Ok(match self.read(Place::Own(Side::Row, column))? {
            Found::Is(Some(text)) => elements(text),
            Found::Is(None) | Found::Nothing => Vec::new(),
        })
    }

    /// The key of the row that the rule speaks of.
    pub(super) fn entity(&self, table: usize) -> Option<Values> {
        let Subject::Change(change) = self.subject else {
            return None;
        };
        let row: Option<Row> = match self.side(change, Side::Row) {
            Side::Before => change.before,
            Side::After | Side::Row => change.after,
        };
        Some(of_row(&row?, &self.world.rules.tables[table].key))
    }
}

/// A column whose values compare as those of a place do.
fn column_like(place: Place) -> Col {
    match place {
        Place::Own(_, column) | Place::LookedUp(_, column) | Place::Part(_, _, column) => column,
        Place::Item => super::super::table::NOTE,
    }
}
