//! Evaluates batches item by item, as cases and dry runs do: without a sink, a checkpoint or a restart.

use std::sync::Arc;

use rowbridge_api::{Batch, Change, Item, Shape, ShapeId, TableName, Transaction};

use crate::event::EncodedBatch;
use crate::mapping::coverage::Seen;
use crate::mapping::{Evaluator, Mapping, RuleOutcome, Stamp, Stop};

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

    /// Takes the next item of `batch`, appending the events of a change to `out`.
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
                let transaction = self
                    .transaction
                    .as_ref()
                    .expect("a source sends changes inside transactions");
                for shape in self.unbound.drain(..) {
                    self.evaluator.bind(&shape, &transaction.position)?;
                }
                self.evaluator.change(batch, transaction, change, out)?;
            }
            Item::Commit(_) | Item::SnapshotEnd(_) => self.transaction = None,
        }
        Ok(())
    }

    /// What every rule of the change's table does with it; for the change that was taken last.
    ///
    /// # Errors
    /// The change does not fit the shape it names.
    pub fn explain(&self, batch: &Batch, change: &Change) -> Result<Vec<RuleOutcome>, Stop> {
        match &self.transaction {
            Some(transaction) => self.evaluator.explain(batch, transaction, change),
            None => Ok(Vec::new()),
        }
    }

    /// Notes what the change comes by in the mapping; for the change that was taken last.
    ///
    /// # Errors
    /// The change does not fit the shape it names.
    pub fn cover(&self, batch: &Batch, change: &Change, seen: &mut Seen) -> Result<(), Stop> {
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

    /// The transaction that is open.
    #[must_use]
    pub fn transaction(&self) -> Option<&Transaction> {
        self.transaction.as_ref()
    }
}
