//! What an event says: whether it is made, its key and its data.

use super::super::condition::{Place, Side};
use super::super::rules::{Body, Event, Field, Key};
use super::super::table::COLUMNS;
use super::reading::{Found, Subject, View};
use super::value::{delta, json};
use super::{Outcome, Unreadable};

impl<'a> View<'a> {
    /// Whether the event's condition holds.
    pub(super) fn is_wanted(&self, event: &'a Event) -> Result<bool, Unreadable> {
        let view = self.with_lookups(&event.lookups);
        event
            .when
            .as_ref()
            .map_or(Ok(true), |when| view.holds(when))
    }

    pub(super) fn outcome(&self, event: &Event) -> Outcome {
        let view = View {
            lookups: &event.lookups,
            ..self.clone()
        };
        match view.made(event) {
            Ok(outcome) => outcome,
            Err(Unreadable) => Outcome::Aside,
        }
    }

    fn made(&self, event: &Event) -> Result<Outcome, Unreadable> {
        if let Some(when) = &event.when
            && !self.holds(when)?
        {
            return Ok(Outcome::Nothing);
        }
        for number in 0..event.lookups.len() {
            self.look_up(number)?;
        }
        if let Some(check) = &event.check
            && !self.holds(check)?
        {
            return Err(Unreadable);
        }
        let key = self.key(&event.key)?;
        let value = match &event.body {
            Body::Tombstone => None,
            Body::Data(fields) => {
                let fields = fields.iter().enumerate();
                let fields: Result<Vec<String>, Unreadable> = fields
                    .map(|(number, field)| Ok(format!("\"f{number}\":{}", self.field(field)?)))
                    .collect();
                Some(format!("{{{}}}", fields?.join(",")))
            }
        };
        Ok(Outcome::Published { key, value })
    }

    fn key(&self, key: &Key) -> Result<String, Unreadable> {
        let (start, places, end) = match key {
            Key::Template(start, places) => (*start, places.clone(), "/"),
            Key::OfTable => ("", self.table_key(), ""),
        };
        let texts: Result<Vec<String>, Unreadable> =
            places.iter().map(|place| self.text(*place)).collect();
        let texts = texts?;
        let end = if texts.is_empty() { "" } else { end };
        Ok(format!("{start}{}{end}", texts.join("/")))
    }

    fn table_key(&self) -> Vec<Place> {
        let Subject::Change(change) = self.subject else {
            panic!("several rows have no key")
        };
        let key = &self.world.rules.tables[change.table].key;
        key.iter()
            .map(|column| Place::Own(Side::Row, *column))
            .collect()
    }

    /// A value's text, which has to be there.
    fn text(&self, place: Place) -> Result<String, Unreadable> {
        match self.read(place)? {
            Found::Is(Some(text)) => Ok(text.to_owned()),
            Found::Is(None) | Found::Nothing => Err(Unreadable),
        }
    }

    /// A value's JSON, if there is a value.
    fn json(&self, place: Place) -> Result<Option<String>, Unreadable> {
        Ok(match self.read(place)? {
            Found::Is(Some(text)) => Some(json(place.kind(), text)),
            Found::Is(None) | Found::Nothing => None,
        })
    }

    fn field(&self, field: &Field) -> Result<String, Unreadable> {
        let null = || "null".to_owned();
        match field {
            Field::Path { place, required } => match (self.json(*place)?, required) {
                (None, true) => Err(Unreadable),
                (found, _) => Ok(found.unwrap_or_else(null)),
            },
            Field::Coalesce(places) => {
                for place in places {
                    if let Some(json) = self.json(*place)? {
                        return Ok(json);
                    }
                }
                Ok("\"none\"".to_owned())
            }
            Field::Template(place) => Ok(format!("\"<{}>\"", self.text(*place)?)),
            Field::Delta(column) => {
                let before = self.read(Place::Own(Side::Before, *column))?;
                let after = self.read(Place::Own(Side::After, *column))?;
                Ok(match (before, after) {
                    (Found::Is(Some(before)), Found::Is(Some(after))) => {
                        delta(COLUMNS[*column].2, before, after)
                    }
                    _ => null(),
                })
            }
        }
    }
}
