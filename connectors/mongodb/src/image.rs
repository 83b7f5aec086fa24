//! Row images: documents as cells, and the image after an update made of the one before it.
//!
//! A document's top-level fields are columns; those that no rule reads cost nothing. An update tells what it did by
//! paths, so a column that it did not touch is the very cell of the image before. Without that image, an untouched
//! column is unavailable, which for an update also says that it did not change; a column that was changed inside
//! is then something that no rule can read.

use bson::raw::{RawBsonRef, RawDocument};
use bson::{Bson, Document};
use rowbridge_api::{Batch, CellRange, ColumnNeed, Kind, TableNeeds, Type};

use crate::event::{EventError, Update};
use crate::text::{self, UNREADABLE, Written};

/// The columns of a collection that rules read.
#[derive(Clone, Debug)]
pub(crate) struct Columns(Vec<(String, Type)>);

impl Columns {
    /// The columns that `needs` names, and its key's.
    pub(crate) fn of(needs: &TableNeeds) -> Self {
        let read = |ColumnNeed { name, ty, .. }: &ColumnNeed| (name.clone(), ty.clone());
        let mut columns: Vec<_> = needs.columns.iter().map(read).collect();
        for key in &needs.key {
            if !columns.iter().any(|(name, _)| name == key) {
                columns.push((key.clone(), Type::parse("json")));
            }
        }
        Self(columns)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Type)> {
        self.0.iter().map(|(name, ty)| (name.as_str(), ty))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(column, _)| column == name)
    }

    /// Appends the cells of a whole document; the number of the first.
    pub(crate) fn whole(
        &self,
        document: &RawDocument,
        batch: &mut Batch,
    ) -> Result<u32, EventError> {
        self.partly(document, CellRange::NULL, batch)
    }

    /// Appends cells of which only the key is known; the number of the first.
    pub(crate) fn key_only(
        &self,
        key: Option<&RawDocument>,
        batch: &mut Batch,
    ) -> Result<u32, EventError> {
        match key {
            Some(key) => self.partly(key, CellRange::UNAVAILABLE, batch),
            None => Ok(self.fill(CellRange::UNAVAILABLE, batch)),
        }
    }

    fn fill(&self, cell: CellRange, batch: &mut Batch) -> u32 {
        let first = batch.cells.len();
        batch.cells.resize(first + self.len(), cell);
        u32::try_from(first).unwrap_or(u32::MAX)
    }

    fn partly(
        &self,
        document: &RawDocument,
        others: CellRange,
        batch: &mut Batch,
    ) -> Result<u32, EventError> {
        let first = self.fill(others, batch);
        for field in document {
            let (name, value) = field.map_err(|_| EventError::Damaged)?;
            if let Some(index) = self.index(name.as_str()) {
                batch.cells[first as usize + index] = cell(value, &self.0[index].1.kind, batch);
            }
        }
        Ok(first)
    }

    /// Appends the image after `update`; `before` is the document before it and the number of its first cell.
    pub(crate) fn updated(
        &self,
        before: Option<(&RawDocument, u32)>,
        key: Option<&RawDocument>,
        update: &Update<'_>,
        batch: &mut Batch,
    ) -> Result<u32, EventError> {
        let first = match before {
            Some((_, before)) => {
                let before = before as usize;
                let first = batch.cells.len();
                batch.cells.extend_from_within(before..before + self.len());
                u32::try_from(first).unwrap_or(u32::MAX)
            }
            None => self.key_only(key, batch)?,
        };
        let mut rebuilt = Rebuilt {
            columns: self,
            before: before.map(|(document, _)| document),
            update,
            values: Vec::new(),
        };
        rebuilt.truncate()?;
        rebuilt.set(first, batch)?;
        rebuilt.remove(first, batch)?;
        for (index, value) in rebuilt.values {
            batch.cells[first as usize + index] = match value {
                Some(value) => rebuilt_cell(&value, &self.0[index].1.kind, batch),
                None => unreadable(batch),
            };
        }
        Ok(first)
    }
}

fn cell(value: RawBsonRef<'_>, kind: &Kind, batch: &mut Batch) -> CellRange {
    let start = batch.bytes.len();
    match text::write(value, kind, &mut batch.bytes) {
        Written::Null => CellRange::NULL,
        Written::Value => range(start, batch),
    }
}

fn rebuilt_cell(value: &Bson, kind: &Kind, batch: &mut Batch) -> CellRange {
    let mut holder = Document::new();
    holder.insert("v", value);
    match bson::RawDocumentBuf::try_from(&holder) {
        Ok(holder) => match holder.get("v") {
            Ok(Some(value)) => cell(value, kind, batch),
            _ => unreadable(batch),
        },
        Err(_) => unreadable(batch),
    }
}

fn unreadable(batch: &mut Batch) -> CellRange {
    let start = batch.bytes.len();
    batch.bytes.extend_from_slice(UNREADABLE);
    range(start, batch)
}

fn range(start: usize, batch: &Batch) -> CellRange {
    let length = batch.bytes.len() - start;
    match (u32::try_from(start), u32::try_from(length)) {
        (Ok(start), Ok(length)) if length < u32::MAX - 1 => CellRange::value(start, length),
        // Documents are limited to 16 MiB, so this is not reached; it must not be a lie if it is.
        _ => CellRange::UNAVAILABLE,
    }
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
    /// What the value it meets makes of it.
    Either(String),
}

/// What happens at the end of a path.
enum Change {
    Set(Bson),
    Remove,
    Truncate(usize),
}

/// Columns that an update changed inside.
struct Rebuilt<'a> {
    columns: &'a Columns,
    before: Option<&'a RawDocument>,
    update: &'a Update<'a>,
    /// By column: its new value, or nothing if it cannot be told.
    values: Vec<(usize, Option<Bson>)>,
}

impl Rebuilt<'_> {
    fn truncate(&mut self) -> Result<(), EventError> {
        let Some(truncated) = self.update.truncated else {
            return Ok(());
        };
        for entry in truncated {
            let RawBsonRef::Document(entry) = entry.map_err(|_| EventError::Damaged)? else {
                return Err(EventError::Damaged);
            };
            let path = entry.get_str("field").map_err(|_| EventError::Damaged)?;
            let size = entry.get_i32("newSize").map_err(|_| EventError::Damaged)?;
            let size = usize::try_from(size).map_err(|_| EventError::Damaged)?;
            self.inside(path, Change::Truncate(size))?;
        }
        Ok(())
    }

    fn set(&mut self, first: u32, batch: &mut Batch) -> Result<(), EventError> {
        for field in self.update.updated {
            let (path, value) = field.map_err(|_| EventError::Damaged)?;
            let path = path.as_str();
            if !path.contains('.') {
                if let Some(index) = self.columns.index(path) {
                    let kind = &self.columns.0[index].1.kind;
                    batch.cells[first as usize + index] = cell(value, kind, batch);
                }
            } else if self.concerns(path) {
                let value = Bson::try_from(value).map_err(|_| EventError::Damaged)?;
                self.inside(path, Change::Set(value))?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, first: u32, batch: &mut Batch) -> Result<(), EventError> {
        for path in self.update.removed {
            let RawBsonRef::String(path) = path.map_err(|_| EventError::Damaged)? else {
                return Err(EventError::Damaged);
            };
            if path.contains('.') {
                self.inside(path, Change::Remove)?;
            } else if let Some(index) = self.columns.index(path) {
                batch.cells[first as usize + index] = CellRange::NULL;
            }
        }
        Ok(())
    }

    /// Whether a dotted path leads into a column that is read. One that can be read in two ways may lead into two.
    fn concerns(&self, path: &str) -> bool {
        let column = path.split('.').next().unwrap_or(path);
        let dotted =
            |(name, _): &(String, Type)| name.contains('.') && path.starts_with(name.as_str());
        self.columns.index(column).is_some() || self.columns.0.iter().any(dotted)
    }

    /// Changes a column inside.
    fn inside(&mut self, path: &str, change: Change) -> Result<(), EventError> {
        let Some(steps) = self.steps(path)? else {
            // Either column it could be in.
            for index in 0..self.columns.len() {
                let name = self.columns.0[index].0.as_str();
                let rest = path.strip_prefix(name);
                if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
                    *self.value(index) = None;
                }
            }
            return Ok(());
        };
        let (column, rest) = match steps.split_first() {
            Some((Step::Field(name) | Step::Either(name), rest)) => (name.as_str(), rest),
            _ => return Err(EventError::Damaged),
        };
        if let Some(index) = self.columns.index(column) {
            let value = self.value(index);
            let changed = value.as_mut().and_then(|value| apply(value, rest, change));
            if changed.is_none() {
                *value = None;
            }
        }
        Ok(())
    }

    /// The value that is being rebuilt.
    fn value(&mut self, index: usize) -> &mut Option<Bson> {
        let at = match self.values.iter().position(|(column, _)| *column == index) {
            Some(at) => at,
            None => {
                let name = &self.columns.0[index].0;
                let value = self.before.and_then(|before| match before.get(name) {
                    Ok(Some(value)) => Bson::try_from(value).ok(),
                    // The field is new: what it holds is made on the way.
                    Ok(None) => Some(Bson::Document(Document::new())),
                    Err(_) => None,
                });
                self.values.push((index, value));
                self.values.len() - 1
            }
        };
        &mut self.values[at].1
    }

    /// The path's steps; nothing if it can be read in two ways.
    fn steps(&self, path: &str) -> Result<Option<Vec<Step>>, EventError> {
        if let Some(given) = self.update.disambiguated
            && let Some(RawBsonRef::Array(given)) =
                given.get(path).map_err(|_| EventError::Damaged)?
        {
            let steps = given.into_iter().map(|step| match step {
                Ok(RawBsonRef::String(name)) => Ok(Step::Field(name.to_owned())),
                Ok(RawBsonRef::Int32(index)) => usize::try_from(index)
                    .map(Step::Index)
                    .map_err(|_| EventError::Damaged),
                _ => Err(EventError::Damaged),
            });
            return steps.collect::<Result<_, _>>().map(Some);
        }
        if self.before.is_some_and(has_dotted_field) {
            return Ok(None);
        }
        Ok(Some(
            path.split('.')
                .map(|step| Step::Either(step.to_owned()))
                .collect(),
        ))
    }
}

/// Whether a document has a field whose name looks like a path.
fn has_dotted_field(document: &RawDocument) -> bool {
    document
        .iter()
        .any(|field| field.is_ok_and(|(name, _)| name.as_str().contains('.')))
}

/// Changes `value` at the end of `steps`; nothing if they cannot be followed with certainty.
fn apply(value: &mut Bson, steps: &[Step], change: Change) -> Option<()> {
    let Some((step, rest)) = steps.split_first() else {
        return match (change, value) {
            (Change::Set(new), value) => {
                *value = new;
                Some(())
            }
            (Change::Truncate(size), Bson::Array(array)) if size <= array.len() => {
                array.truncate(size);
                Some(())
            }
            _ => None,
        };
    };
    match (value, step) {
        (Bson::Array(array), step) => {
            let index = match step {
                Step::Index(index) => *index,
                Step::Either(digits) => digits.parse().ok()?,
                Step::Field(_) => return None,
            };
            if rest.is_empty() && matches!(change, Change::Remove) {
                // The server keeps the place of an element that is unset.
                *array.get_mut(index)? = Bson::Null;
                return Some(());
            }
            if index >= array.len() {
                array.resize(index.checked_add(1)?, Bson::Null);
                array[index] = Bson::Document(Document::new());
            }
            apply(&mut array[index], rest, change)
        }
        (Bson::Document(document), Step::Field(name) | Step::Either(name)) => {
            let is_certain =
                matches!(step, Step::Field(_)) || !document.keys().any(|key| key.contains('.'));
            if !is_certain {
                return None;
            }
            if rest.is_empty() && matches!(change, Change::Remove) {
                document.remove(name);
                return Some(());
            }
            let value = document
                .entry(name.clone())
                .or_insert_with(|| Bson::Document(Document::new()));
            apply(value, rest, change)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
