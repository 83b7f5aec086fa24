//! The evaluator: changes in, events or quarantine records out; row by row, or a transaction at a time.

use std::sync::Arc;

use rowbridge_api::{Batch, Change, Op, Position, Shape, TableNeeds, Transaction};

use super::bind;
use super::encode;
pub use super::gathered::Arrival;
use super::gathered::Gathered;
use super::joins::Joins;
use super::kept;
use super::memory::{InMemory, Memory};
use super::rules::{Mark, Own, Rows, Rules};
use super::spool::Spool;
use super::work::Work;
use super::{Mapping, Stamp, Stop};
use crate::event::EncodedBatch;

/// Evaluates the changes of one run: rules bound to the shapes that arrived so far.
pub struct Evaluator {
    rules: Rules,
    work: Work,
    gathered: Gathered,
    /// What makes events together, once the transaction is there.
    joins: Option<Joins>,
}

/// How far a gathered transaction is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The output is full; the rest comes with the next call.
    Partly,
    Wholly,
}

/// The last change of a gathered transaction that was evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluated {
    pub ordinal: u64,
    pub witness: u64,
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evaluator")
            .field("mapping", &self.rules.mapping.tag)
            .field("shapes", &self.rules.bound.len())
            .finish_non_exhaustive()
    }
}

impl Evaluator {
    /// Evaluates `mapping`, remembering nothing that was before.
    #[must_use]
    pub fn new(mapping: Arc<Mapping>, stamp: Stamp) -> Self {
        Self::with_memory(mapping, stamp, Box::new(InMemory::default()))
    }

    /// Evaluates `mapping` with what an earlier evaluation left in `memory`.
    #[must_use]
    pub fn with_memory(mapping: Arc<Mapping>, stamp: Stamp, memory: Box<dyn Memory>) -> Self {
        let candidates = (0..mapping.tables.len())
            .map(|table| {
                [Op::Insert, Op::Update, Op::Delete, Op::Read, Op::Truncate].map(|op| {
                    (0_u16..)
                        .zip(&mapping.rules)
                        .filter(|(_, rule)| rule.table == table && rule.ops.contains(op))
                        .map(|(number, _)| number)
                        .collect()
                })
            })
            .collect();
        let work = Work::new(memory, mapping.gathers);
        Self {
            rules: Rules {
                namespace: encode::namespace(&stamp.identity.source),
                bound: Vec::new(),
                candidates,
                mapping,
                stamp,
            },
            work,
            gathered: Gathered::default(),
            joins: None,
        }
    }

    /// Puts the rows of transactions away in `spool` that have more than so many changes and are gathered.
    #[must_use]
    pub fn spooling(mut self, spool: Box<dyn Spool>, changes: usize) -> Self {
        self.gathered.spool(spool, changes);
        self
    }

    /// The mapping it evaluates.
    #[must_use]
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.rules.mapping
    }

    /// What it remembers.
    pub fn memory(&mut self) -> &mut dyn Memory {
        self.work.keeper.memory()
    }

    /// Binds the rules to a shape that arrived; `at` is the position of the transaction it arrived in.
    ///
    /// # Errors
    /// A column that a rule reads is not in the shape, or has a type that the rule cannot read.
    pub fn bind(&mut self, shape: &Arc<Shape>, at: &Position) -> Result<(), Stop> {
        let Rules {
            mapping,
            stamp,
            bound,
            ..
        } = &mut self.rules;
        let new = bind::bind(mapping, stamp, shape, at)?;
        if let Some(number) = new.table {
            let place = kept::Place {
                number,
                table: &mapping.tables[number],
                bound: &new,
            };
            self.work.keeper.bind(place, at)?;
        }
        match bound.binary_search_by_key(&shape.id.0, |(id, _)| *id) {
            Ok(index) => bound[index].1 = Arc::new(new),
            Err(index) => bound.insert(index, (shape.id.0, Arc::new(new))),
        }
        Ok(())
    }

    /// Appends the events of one change, of a mapping that does not gather. A bad record becomes a quarantine
    /// record where the mapping says so; the other events of the change go out.
    ///
    /// # Errors
    /// A bad record under `on_error = "stop"`: names rule, column and position, never a row value.
    pub fn change(
        &mut self,
        batch: &Batch,
        tx: &Transaction,
        change: &Change,
        out: &mut EncodedBatch,
    ) -> Result<(), Stop> {
        let mark = Mark::of(out);
        let (rules, work) = (&self.rules, &mut self.work);
        let evaluated = match rules.keeps(change, tx)? {
            None => rules.evaluate(Rows { batch, tx, change }, Own::Fires, work, out),
            Some(place) => {
                let mut whole = std::mem::take(&mut work.whole);
                let kept = work.keep(place, batch, change, &mut whole)?;
                let rows = match &kept {
                    Some(change) => Rows {
                        batch: &whole,
                        tx,
                        change,
                    },
                    None => Rows { batch, tx, change },
                };
                let evaluated = rules.evaluate(rows, Own::Fires, work, out);
                work.whole = whole;
                evaluated
            }
        };
        if evaluated.is_err() {
            // They come again when the change is read again.
            mark.roll_back(out);
        }
        evaluated
    }

    /// Takes a change of a mapping that gathers; its events come with [`Evaluator::settle`].
    ///
    /// # Errors
    /// The change does not fit its shape, or does not say which row it is about.
    pub fn gather(
        &mut self,
        batch: &Batch,
        tx: &Transaction,
        change: &Change,
        arrival: Arrival,
    ) -> Result<(), Stop> {
        let mut whole = std::mem::take(&mut self.work.whole);
        let kept = match self.rules.keeps(change, tx)? {
            Some(place) => self.work.keep(place, batch, change, &mut whole)?,
            None => None,
        };
        // Most rows that are looked up give no event themselves.
        let number = self
            .rules
            .bound_table(change, tx)?
            .map(|(number, _)| number);
        let may_matter = |number| {
            self.rules.follows(number, change.op) || self.rules.may_join(number, change.op)
        };
        if number.is_some_and(may_matter) {
            match &kept {
                Some(kept) => self.gathered.push(&whole, tx, kept, arrival)?,
                None => self.gathered.push(batch, tx, change, arrival)?,
            }
        }
        self.work.whole = whole;
        Ok(())
    }

    /// Forgets what was kept of rows before they were read anew.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub fn retire(&mut self) -> Result<(), Stop> {
        let mut kept = self.rules.mapping.tables.iter();
        kept.try_for_each(|table| self.work.keeper.retire(table))
    }

    /// Forgets what an interrupted reading left of the rows of these tables, which are about to be read.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub fn begin_anew(&mut self, tables: &[TableNeeds]) -> Result<(), Stop> {
        let all = self.rules.mapping.tables.iter();
        let mut read = all.filter(|table| tables.iter().any(|needs| needs.table == table.source));
        read.try_for_each(|table| self.work.keeper.begin_anew(table))
    }

    /// Takes a row that was there before the stream began: it is kept where others look it up, and gives no event.
    ///
    /// # Errors
    /// As [`Evaluator::gather`].
    pub fn seed(&mut self, batch: &Batch, tx: &Transaction, row: &Change) -> Result<(), Stop> {
        let Some((number, bound)) = self.rules.bound_table(row, tx)? else {
            return Ok(());
        };
        let place = kept::Place {
            number,
            table: &self.rules.mapping.tables[number],
            bound,
        };
        self.work.keeper.follow(place, batch, row)
    }

    /// Appends the events of the transaction that was gathered, as of its commit, until `out` has `full` bytes or
    /// everything is evaluated; `last` is the last change whose events are in `out`.
    ///
    /// # Errors
    /// As [`Evaluator::change`]; the events of the changes before are in `out`.
    pub fn settle(
        &mut self,
        full: usize,
        last: &mut Option<Evaluated>,
        out: &mut EncodedBatch,
    ) -> Result<Settled, Stop> {
        self.gathered.close()?;
        let joins = match self.joins.take() {
            Some(joins) => joins,
            None => Joins::of(&self.rules, &mut self.gathered, &mut self.work)?,
        };
        let joins = self.joins.insert(joins);
        while let Some(number) = self.gathered.next() {
            let row = self.gathered.row(number)?;
            let mark = Mark::of(out);
            let (rules, work) = (&self.rules, &mut self.work);
            let evaluated =
                rules.evaluate_gathered(number, &row, &mut self.gathered, joins, work, out);
            if evaluated.is_err() || row.arrival() == Arrival::Published {
                mark.roll_back(out);
            }
            evaluated?;
            self.gathered.advance();
            if let Arrival::New { witness } = row.arrival() {
                let ordinal = row.change().ordinal;
                *last = Some(Evaluated { ordinal, witness });
                if out.buf.len() >= full {
                    return Ok(Settled::Partly);
                }
            }
        }
        self.joins = None;
        self.gathered.clear()?;
        self.work.keeper.settled();
        Ok(Settled::Wholly)
    }

    /// The rules, what they work with, and what waits for them.
    pub(super) fn parts(&mut self) -> (&Rules, &mut Work, &mut Gathered) {
        (&self.rules, &mut self.work, &mut self.gathered)
    }
}
