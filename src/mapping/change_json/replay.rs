//! Evaluates batches item by item, as cases and dry runs do: without a sink, a checkpoint or a restart.

use std::sync::Arc;

use rowbridge_api::{Batch, Change, Item, Shape, ShapeId, TableName, Transaction};

use crate::event::EncodedBatch;
use crate::mapping::coverage::Seen;
use crate::mapping::{Arrival, Evaluator, Mapping, RuleOutcome, Stamp, Stop};

/// An evaluator and the transaction it is in.
pub struct Replay {
    evaluator: Evaluator,
    transaction: Option<Transaction>,
    unbound: Vec<Arc<Shape>>,
    /// By shape; the last one counts.
    tables: Vec<(ShapeId, TableName)>,
}

impl Replay {
    /// Evaluates `mapping`; `stamp` is what its events carry.
    #[must_use]
    pub fn new(mapping: Arc<Mapping>, stamp: Stamp) -> Self {
        Self {
            evaluator: Evaluator::new(mapping, stamp),
            transaction: None,
            unbound: Vec::new(),
            tables: Vec::new(),
        }
    }

    /// Takes rows that were there before anything else: rules look them up, and they give no events.
    ///
    /// # Errors
    /// As [`Replay::item`].
    pub fn seed(&mut self, rows: &Batch) -> Result<(), Stop> {
        for item in &rows.items {
            match item {
                Item::Change(row) => {
                    let transaction = self.bound()?;
                    self.evaluator.seed(rows, &transaction, row)?;
                }
                other => self.item(rows, other, &mut EncodedBatch::default())?,
            }
        }
        Ok(())
    }

    /// Takes the next item of `batch`, appending to `out` the events of a change or, where the mapping gathers, of
    /// the transaction that ends.
    ///
    /// # Errors
    /// A bad record under `on_error = "stop"`, or a shape that the rules do not fit.
    pub fn item(&mut self, batch: &Batch, item: &Item, out: &mut EncodedBatch) -> Result<(), Stop> {
        match item {
            Item::Shape(shape) => {
                self.tables.push((shape.id, shape.table.clone()));
                self.unbound.push(Arc::clone(shape));
            }
            Item::Begin(transaction) => self.transaction = Some(transaction.clone()),
            Item::Change(change) => {
                let transaction = self.bound()?;
                let evaluator = &mut self.evaluator;
                if evaluator.mapping().gathers() {
                    let arrival = Arrival::New { witness: 0 };
                    evaluator.gather(batch, &transaction, change, arrival)?;
                } else {
                    evaluator.change(batch, &transaction, change, out)?;
                }
            }
            Item::Commit(_) | Item::SnapshotEnd(_) => {
                self.transaction = None;
                self.evaluator.settle(usize::MAX, &mut None, out)?;
            }
        }
        Ok(())
    }

    /// The transaction that is open, with every shape that arrived bound.
    fn bound(&mut self) -> Result<Transaction, Stop> {
        let transaction = self.transaction.clone();
        let transaction = transaction.expect("a source sends changes inside transactions");
        for shape in self.unbound.drain(..) {
            self.evaluator.bind(&shape, &transaction.position)?;
        }
        Ok(transaction)
    }

    /// What every rule of a change's table does with it: of the change that was taken last, or, where the mapping
    /// gathers, of each change of the transaction that is about to end.
    ///
    /// # Errors
    /// The change does not fit the shape it names.
    pub fn explain(
        &mut self,
        batch: &Batch,
        item: &Item,
    ) -> Result<Vec<(Change, Vec<RuleOutcome>)>, Stop> {
        let Some(transaction) = &self.transaction else {
            return Ok(Vec::new());
        };
        match item {
            Item::Change(change) if !self.evaluator.mapping().gathers() => {
                let outcomes = self.evaluator.explain(batch, transaction, change)?;
                Ok(vec![(*change, outcomes)])
            }
            Item::Commit(_) | Item::SnapshotEnd(_) => self.evaluator.explain_gathered(),
            _ => Ok(Vec::new()),
        }
    }

    /// Takes the next item of `batch` for what it comes by in the mapping, and not for its events.
    ///
    /// # Errors
    /// As [`Replay::item`].
    pub fn take_and_cover(
        &mut self,
        batch: &Batch,
        item: &Item,
        seen: &mut Seen,
    ) -> Result<(), Stop> {
        let gathers = self.evaluator.mapping().gathers();
        let ends = matches!(item, Item::Commit(_) | Item::SnapshotEnd(_));
        if gathers && ends && self.transaction.is_some() {
            self.cover_gathered(&mut |_, _, of_change| seen.merge(of_change))?;
        }
        self.item(batch, item, &mut EncodedBatch::default())?;
        match (item, &self.transaction) {
            (Item::Change(change), Some(transaction)) if gathers => {
                self.evaluator
                    .cover_columns(batch, transaction, change, seen)
            }
            (Item::Change(change), _) => self.cover(batch, change, seen),
            _ => Ok(()),
        }
    }

    /// Hands over what each change of the transaction comes by that is about to end, where the mapping gathers.
    ///
    /// # Errors
    /// As [`Replay::item`].
    pub fn cover_gathered(
        &mut self,
        each: &mut dyn FnMut(&Batch, &Change, Seen),
    ) -> Result<(), Stop> {
        self.evaluator.cover_gathered(each)
    }

    /// Notes what the change comes by in the mapping that was taken last, where the mapping does not gather.
    ///
    /// # Errors
    /// The change does not fit the shape it names.
    pub fn cover(&mut self, batch: &Batch, change: &Change, seen: &mut Seen) -> Result<(), Stop> {
        match &self.transaction {
            Some(transaction) => self.evaluator.cover(batch, transaction, change, seen),
            None => Ok(()),
        }
    }

    /// The table of a change.
    #[must_use]
    pub fn table(&self, change: &Change) -> Option<&TableName> {
        let mut known = self.tables.iter().rev();
        known
            .find(|(shape, _)| *shape == change.shape)
            .map(|(_, table)| table)
    }

    #[must_use]
    pub fn mapping(&self) -> &Mapping {
        self.evaluator.mapping()
    }

    /// The transaction that is open.
    #[must_use]
    pub fn transaction(&self) -> Option<&Transaction> {
        self.transaction.as_ref()
    }
}
