//! The evaluator: which rules a change fires, and their events or quarantine records.

use std::sync::Arc;

use rowbridge_api::{Batch, Change, Op, Position, Shape, State, Transaction};
use uuid::Uuid;

use super::bind::{self, Bound};
use super::context::Context;
use super::encode::{self, Occurrence};
use super::fault::{Fault, FaultKind};
use super::file::OnError;
pub use super::gathered::Arrival;
use super::gathered::{Gathered, GatheredRow};
use super::joins::{JoinedEvent, Joins};
use super::kept;
use super::memory::{InMemory, Memory};
use super::rule::{RowImage, Rule, Side};
use super::spool::Spool;
use super::verdict::Verdict;
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

/// What does not change from change to change, but by shapes that arrive.
pub(super) struct Rules {
    mapping: Arc<Mapping>,
    stamp: Stamp,
    /// Namespace of this source's event ids.
    namespace: Uuid,
    /// By shape id, ascending.
    bound: Vec<(u32, Arc<Bound>)>,
    /// Per table and operation: the rules that may fire, in file order.
    candidates: Vec<[Box<[u16]>; OPERATIONS]>,
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

/// Number of operations.
const OPERATIONS: usize = 5;

/// Where the buffers stood before an event.
#[derive(Clone, Copy)]
struct Mark {
    bytes: usize,
    headers: usize,
    records: usize,
}

impl Mark {
    fn of(out: &EncodedBatch) -> Self {
        Self {
            bytes: out.buf.len(),
            headers: out.headers.len(),
            records: out.records.len(),
        }
    }

    fn roll_back(self, out: &mut EncodedBatch) {
        out.buf.truncate(self.bytes);
        out.headers.truncate(self.headers);
        out.records.truncate(self.records);
    }
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
        Self {
            rules: Rules {
                namespace: encode::namespace(&stamp.identity.source),
                bound: Vec::new(),
                candidates,
                mapping,
                stamp,
            },
            work: Work::new(memory),
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
            self.work.keeper.bind(kept::Place {
                number,
                table: &mapping.tables[number],
                bound: &new,
            })?;
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
        let mut whole = std::mem::take(&mut work.whole);
        let kept = match rules.keeps(change, tx)? {
            Some(place) => work.keep(place, batch, change, &mut whole)?,
            None => None,
        };
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
            None => Joins::of(&self.rules, &mut self.gathered)?,
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

/// A change with its rows and its transaction.
#[derive(Clone, Copy)]
struct Rows<'a> {
    batch: &'a Batch,
    tx: &'a Transaction,
    change: &'a Change,
}

/// Whether a row fires the rules of its table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    Fires,
    /// It became part of an event that says so.
    Consumed,
}

impl Rules {
    /// Appends the events of one change: those of its own row.
    fn evaluate(
        &self,
        rows: Rows<'_>,
        own: Own,
        work: &mut Work,
        out: &mut EncodedBatch,
    ) -> Result<(), Stop> {
        let Rows { batch, tx, change } = rows;
        let Some((table, bound)) = self.bound_table(change, tx)? else {
            return Ok(());
        };
        if !self.follows(table, change.op) {
            return Ok(());
        }
        let mapping = &*self.mapping;
        let known = &mapping.tables[table];
        let context = context(mapping, table, bound, &self.stamp, batch, tx, change);
        work.scratch.start(context.table);
        context.follow(mapping.on_error, &mut work.scratch, batch, out)?;
        let candidates = match own {
            Own::Fires => &*self.candidates[table][change.op as usize],
            Own::Consumed => &[],
        };
        for &number in candidates {
            work.others.clear();
            let rule = &mapping.rules[usize::from(number)];
            let context = context.with_image(rule.image);
            self.event_or_quarantine(&context, rule, number, batch, work, out)?;
        }
        if change.op == Op::Delete && !known.reverted.is_empty() {
            work.forget_events(&context.with_image(RowImage::Current));
        }
        Ok(())
    }

    /// Appends the events of the next gathered change: those of its own row, and those of several rows that are
    /// complete with it.
    fn evaluate_gathered(
        &self,
        at: usize,
        row: &GatheredRow,
        gathered: &mut Gathered,
        joins: &Joins,
        work: &mut Work,
        out: &mut EncodedBatch,
    ) -> Result<(), Stop> {
        let (batch, change) = (row.batch(), row.change());
        let tx = &gathered.transaction(row).clone();
        let own = match joins.consumes(at) {
            true => Own::Consumed,
            false => Own::Fires,
        };
        self.evaluate(Rows { batch, tx, change }, own, work, out)?;
        let Some((table, bound)) = self.bound_table(change, tx)? else {
            return Ok(());
        };
        let mapping = &*self.mapping;
        let context = context(mapping, table, bound, &self.stamp, batch, tx, change);
        let context = context.with_image(RowImage::Current);
        if !self.follows(table, change.op) {
            work.scratch.start(context.table);
        }
        for (number, fault) in joins.unreadable_at(at) {
            let rule = &mapping.rules[usize::from(number)];
            context.set_rule_aside(rule, number, fault, batch, out);
        }
        for event in joins.events_at(at) {
            let rule = &mapping.rules[usize::from(event.rule)];
            self.have_parts(gathered, event, work)?;
            self.event_or_quarantine(&context, rule, event.rule, batch, work, out)?;
        }
        Ok(())
    }

    /// Puts the parts of an event of several rows at hand.
    pub(super) fn have_parts(
        &self,
        gathered: &mut Gathered,
        event: &JoinedEvent,
        work: &mut Work,
    ) -> Result<(), Stop> {
        work.others.clear();
        let rule = &self.mapping.rules[usize::from(event.rule)];
        let parts = rule.joining.iter().flat_map(|joining| &joining.parts);
        for (part, row) in parts.zip(&event.parts) {
            let row = match row {
                Some(row) => Some(gathered.row(*row)?),
                None => None,
            };
            let bound = match &row {
                Some(row) => self.bound_table(row.change(), gathered.transaction(row))?,
                None => None,
            };
            let changed = row.as_ref().zip(bound);
            let changed = changed.map(|(row, (_, bound))| (bound, row.batch(), row.change()));
            work.others.add_change(&part.name, part.table, changed);
        }
        Ok(())
    }

    /// Appends the event of a rule, if it fires, or its quarantine record.
    fn event_or_quarantine(
        &self,
        context: &Context<'_>,
        rule: &Rule,
        number: u16,
        batch: &Batch,
        work: &mut Work,
        out: &mut EncodedBatch,
    ) -> Result<(), Stop> {
        let mark = Mark::of(out);
        let Err(fault) = self.event(context, rule, number, work, out)? else {
            return Ok(());
        };
        mark.roll_back(out);
        if fault.kind != FaultKind::Check && self.mapping.on_error == OnError::Stop {
            return Err(bad_record(context, rule, &fault));
        }
        let context = context.beside(&work.others);
        context.set_rule_aside(rule, number, &fault, batch, out);
        Ok(())
    }

    /// Appends the event of a rule, if it fires.
    fn event(
        &self,
        context: &Context<'_>,
        rule: &Rule,
        number: u16,
        work: &mut Work,
        out: &mut EncodedBatch,
    ) -> Result<Result<(), Fault>, Stop> {
        match work.verdict(context, rule)? {
            Ok(Verdict::Fires) => {}
            Ok(_) => return Ok(Ok(())),
            Err(fault) => return Ok(Err(fault)),
        }
        let event = Occurrence {
            index: work.scratch.events(),
            nth: work.scratch.occurrence(rule.type_number),
            ..self.occurrence(rule, number)
        };
        let reverts = match work.reverted(context, rule)? {
            Ok(reverts) => reverts,
            Err(fault) => return Ok(Err(fault)),
        };
        let event = Occurrence { reverts, ..event };
        let context = context.beside(&work.others);
        let made = context
            .checked(rule)
            .and_then(|()| context.encode(&event, out));
        if made.is_ok() && rule.is_reverted {
            let id = context.event_id(&event);
            let table = context.table;
            work.keeper
                .remember_event(table, &rule.event_type, &work.entity, id);
        }
        Ok(made)
    }

    /// Where a change is kept, if the rows of its table are.
    fn keeps(&self, change: &Change, tx: &Transaction) -> Result<Option<kept::Place<'_>>, Stop> {
        let found = self.bound_table(change, tx)?;
        let places = found.map(|(number, bound)| kept::Place {
            number,
            table: &self.mapping.tables[number],
            bound,
        });
        Ok(places.filter(|place| place.table.kept.is_some()))
    }

    /// Whether a change of a table may do anything at all.
    fn follows(&self, table: usize, op: Op) -> bool {
        let known = &self.mapping.tables[table];
        !self.candidates[table][op as usize].is_empty()
            || !known.lifecycles.is_empty()
            || !known.reverted.is_empty()
    }

    /// Whether a change of a table may be part of an event of several rows.
    fn may_join(&self, table: usize, op: Op) -> bool {
        let joining = self
            .mapping
            .rules
            .iter()
            .filter_map(|rule| rule.joining.as_ref());
        let mut parts = joining.flat_map(|joining| &joining.parts);
        parts.any(|part| part.table == table && part.ops.contains(op))
    }

    /// The table and binding of a change's shape; none if the mapping does not know the table.
    pub(super) fn bound_table(
        &self,
        change: &Change,
        tx: &Transaction,
    ) -> Result<Option<(usize, &Arc<Bound>)>, Stop> {
        let found = self
            .bound
            .binary_search_by_key(&change.shape.0, |(id, _)| *id);
        let bound = found.ok().map(|index| &self.bound[index].1);
        match bound {
            Some(bound) if bound.shape.columns.len() == usize::from(change.width) => {
                Ok(bound.table.map(|table| (table, bound)))
            }
            _ => Err(Stop {
                state: State::Invalid,
                problem: format!(
                    "a change at {} does not fit the shape it names",
                    tx.position
                ),
                hint: "this is a defect of the source connector: report it with the position"
                    .to_owned(),
            }),
        }
    }

    pub(super) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    pub(super) fn candidates(&self, table: usize, op: Op) -> &[u16] {
        &self.candidates[table][op as usize]
    }

    pub(super) const fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// A rule's first event of a change.
    pub(super) fn occurrence<'a>(&'a self, rule: &'a Rule, number: u16) -> Occurrence<'a> {
        Occurrence {
            rule,
            number,
            nth: 0,
            index: 0,
            reverts: None,
            mapping: &self.mapping.tag,
            namespace: self.namespace,
            header_names: &self.mapping.header_names,
        }
    }
}

/// The context of one change.
pub(super) fn context<'a>(
    mapping: &'a Mapping,
    table: usize,
    bound: &'a Bound,
    stamp: &'a Stamp,
    batch: &'a Batch,
    tx: &'a Transaction,
    change: &'a Change,
) -> Context<'a> {
    Context {
        mapping,
        others: None,
        table: &mapping.tables[table],
        bound,
        change,
        tx,
        stamp,
        before: batch.before(change),
        after: batch.after(change),
        row: Side::After,
    }
}

#[cold]
pub(super) fn bad_record(context: &Context<'_>, rule: &Rule, fault: &Fault) -> Stop {
    Stop {
        state: State::BadRecord,
        problem: format!(
            "rule {} (mapping.toml line {}) cannot make its event from {}: {}",
            rule.event_type,
            rule.line,
            context.place(),
            fault.problem
        ),
        hint: "correct the rule, or write on_error = \"quarantine\" in [mapping] to set bad records aside and go on".to_owned(),
    }
}
