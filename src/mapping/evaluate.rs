//! The evaluator: which rules a change fires, and their events or quarantine records.

use std::sync::Arc;

use rowbridge_api::{Batch, Change, Op, Position, Shape, State, Transaction};
use uuid::Uuid;

use super::bind::{self, Bound};
use super::context::{Context, Written};
use super::encode::{self, Occurrence};
use super::fault::{Fault, FaultKind};
use super::file::OnError;
use super::file::event::Quantifier;
pub use super::gathered::Arrival;
use super::gathered::{Gathered, GatheredChange};
use super::judge::order;
use super::kept::{self, Keeper};
use super::lifecycle::Step;
use super::memory::{InMemory, Memory};
use super::others::Others;
use super::quarantine::Failed;
use super::rule::{By, Changed, Judges, Lookup, Missing, Only, RowImage, Rule, Side, Table};
use super::{Mapping, Stamp, Stop};
use crate::event::EncodedBatch;

/// Evaluates the changes of one run: rules bound to the shapes that arrived so far.
pub struct Evaluator {
    rules: Rules,
    work: Work,
    gathered: Gathered,
}

/// What does not change from change to change, but by shapes that arrive.
pub(super) struct Rules {
    mapping: Arc<Mapping>,
    stamp: Stamp,
    /// Namespace of this source's event ids.
    namespace: Uuid,
    /// By shape id, ascending.
    bound: Vec<(u32, Bound)>,
    /// Per table and operation: the rules that may fire, in file order.
    candidates: Vec<[Box<[u16]>; OPERATIONS]>,
}

/// What evaluation works with.
pub(super) struct Work {
    pub(super) scratch: Scratch,
    /// The other rows that the rule at hand reads.
    pub(super) others: Others,
    keeper: Keeper,
    /// Values that a row is looked up by.
    values: Vec<Vec<u8>>,
    /// The key of the entity at hand, as text.
    entity: Vec<u8>,
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

/// What is known of the change at hand; memory kept from change to change.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Per watched place of the table: whether it changed, if asked before.
    changed: Vec<Option<bool>>,
    /// Per lifecycle of the table: what the change does to the state, if asked before.
    pub(super) steps: Vec<Option<Step>>,
    /// Type numbers of the events that fired, for the n-th occurrence.
    types: Vec<u16>,
}

/// Whether a rule fires, or what kept it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fires,
    /// `changed`: the first column that is the same (for *any of*: all are).
    Unchanged,
    /// `transition`: the change makes another one, or none.
    NoTransition,
    /// Number of the `only`.
    NotIn(usize),
    /// Number of the `when`.
    WhenFalse(usize),
}

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
            work: Work {
                scratch: Scratch::default(),
                others: Others::default(),
                keeper: Keeper::new(memory),
                values: Vec::new(),
                entity: Vec::new(),
            },
            gathered: Gathered::default(),
        }
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
            Ok(index) => bound[index].1 = new,
            Err(index) => bound.insert(index, (shape.id.0, new)),
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
        let evaluated = self.rules.evaluate(batch, tx, change, &mut self.work, out);
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
        let Some((number, bound)) = self.rules.bound_table(change, tx)? else {
            return Ok(());
        };
        let place = kept::Place {
            number,
            table: &self.rules.mapping.tables[number],
            bound,
        };
        self.work.keeper.follow(place, batch, change)?;
        // Most rows that are looked up give no event themselves.
        if self.rules.follows(number, change.op) {
            self.gathered.push(batch, tx, change, arrival);
        }
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
        while let Some(gathered) = self.gathered.next() {
            let GatheredChange {
                change, arrival, ..
            } = gathered;
            let mark = Mark::of(out);
            let (batch, tx) = (&self.gathered.batch, self.gathered.transaction(&gathered));
            let evaluated = self.rules.evaluate(batch, tx, &change, &mut self.work, out);
            if evaluated.is_err() || arrival == Arrival::Published {
                mark.roll_back(out);
            }
            evaluated?;
            self.gathered.advance();
            if let Arrival::New { witness } = arrival {
                let ordinal = change.ordinal;
                *last = Some(Evaluated { ordinal, witness });
                if out.buf.len() >= full {
                    return Ok(Settled::Partly);
                }
            }
        }
        self.gathered.clear();
        self.work.keeper.settled();
        Ok(Settled::Wholly)
    }

    /// The rules, what they work with, and what waits for them.
    pub(super) fn parts(&mut self) -> (&Rules, &mut Work, &Gathered) {
        (&self.rules, &mut self.work, &self.gathered)
    }
}

impl Rules {
    fn evaluate(
        &self,
        batch: &Batch,
        tx: &Transaction,
        change: &Change,
        work: &mut Work,
        out: &mut EncodedBatch,
    ) -> Result<(), Stop> {
        let Some((table, bound)) = self.bound_table(change, tx)? else {
            return Ok(());
        };
        if !self.follows(table, change.op) {
            return Ok(());
        }
        let candidates = &self.candidates[table][change.op as usize];
        let mapping = &*self.mapping;
        let known = &mapping.tables[table];
        let context = context(mapping, table, bound, &self.stamp, batch, tx, change);
        work.scratch.start(context.table);
        context.follow(mapping.on_error, &mut work.scratch, batch, out)?;
        let mut index = 0;
        for &number in candidates {
            let rule = &mapping.rules[usize::from(number)];
            let context = context.with_image(rule.image);
            let mark = Mark::of(out);
            let Err(fault) = self.event(&context, rule, number, &mut index, work, out)? else {
                continue;
            };
            mark.roll_back(out);
            if fault.kind != FaultKind::Check && mapping.on_error == OnError::Stop {
                return Err(bad_record(&context, rule, &fault));
            }
            let failed = Failed {
                rule: &rule.event_type,
                number,
                key: Some(&rule.key),
                kind: fault.kind,
                error: &fault.problem,
            };
            let context = context.beside(&work.others);
            context.quarantine(&failed, batch, out);
        }
        if change.op == Op::Delete && !known.reverted.is_empty() {
            work.forget_events(&context.with_image(RowImage::Current));
        }
        Ok(())
    }

    /// Appends the event of a rule, if it fires; `index` counts those of the change.
    fn event(
        &self,
        context: &Context<'_>,
        rule: &Rule,
        number: u16,
        index: &mut u16,
        work: &mut Work,
        out: &mut EncodedBatch,
    ) -> Result<Result<(), Fault>, Stop> {
        match work.verdict(context, rule)? {
            Ok(Verdict::Fires) => {}
            Ok(_) => return Ok(Ok(())),
            Err(fault) => return Ok(Err(fault)),
        }
        let event = Occurrence {
            nth: work.scratch.occurrence(rule.type_number),
            index: *index,
            ..self.occurrence(rule, number)
        };
        *index = index.saturating_add(1);
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

    /// Whether a change of a table may do anything at all.
    fn follows(&self, table: usize, op: Op) -> bool {
        let known = &self.mapping.tables[table];
        !self.candidates[table][op as usize].is_empty()
            || !known.lifecycles.is_empty()
            || !known.reverted.is_empty()
    }

    /// The table and binding of a change's shape; none if the mapping does not know the table.
    pub(super) fn bound_table(
        &self,
        change: &Change,
        tx: &Transaction,
    ) -> Result<Option<(usize, &Bound)>, Stop> {
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

impl Scratch {
    /// Forgets the last change.
    pub(super) fn start(&mut self, table: &Table) {
        self.changed.clear();
        self.changed.resize(table.watched.len(), None);
        self.steps.clear();
        self.steps.resize(table.lifecycles.len(), None);
        self.types.clear();
    }

    /// Counts one more event of a type, and says how many there were.
    fn occurrence(&mut self, type_number: u16) -> u16 {
        let before = self
            .types
            .iter()
            .filter(|fired| **fired == type_number)
            .count();
        self.types.push(type_number);
        u16::try_from(before).unwrap_or(u16::MAX)
    }
}

impl Work {
    /// Whether a rule of the change's table and operation fires; the rows that it looks up are then at hand.
    ///
    /// # Errors
    /// The memory cannot be read; inside, something the rule has to read is unavailable or is not a value of its
    /// type.
    pub(super) fn verdict(
        &mut self,
        context: &Context<'_>,
        rule: &Rule,
    ) -> Result<Result<Verdict, Fault>, Stop> {
        self.others.clear();
        let verdict = match rule.judges {
            Judges::TheChange => context.verdict(rule, &mut self.scratch),
            Judges::LookedUp => context.of_the_change(rule, &mut self.scratch),
        };
        if verdict != Ok(Verdict::Fires) || rule.lookups.is_empty() {
            return Ok(verdict);
        }
        for lookup in &rule.lookups {
            if let Err(fault) = self.look_up(context, lookup)? {
                return Ok(Err(fault));
            }
        }
        Ok(match rule.judges {
            Judges::TheChange => verdict,
            Judges::LookedUp => context.beside(&self.others).guarded(rule),
        })
    }

    /// Adds the row of a lookup to those at hand.
    fn look_up(
        &mut self,
        context: &Context<'_>,
        lookup: &Lookup,
    ) -> Result<Result<(), Fault>, Stop> {
        let Self {
            others,
            keeper,
            values,
            ..
        } = self;
        let table = &context.mapping.tables[lookup.table];
        let mut fault = None;
        others.add(&lookup.name, lookup.table, |others, row| {
            let found = match context.beside(others).values_of(lookup, values) {
                Ok(Written::Nothing) => None,
                Ok(Written::Value) => keeper.find(table, lookup, values, row)?,
                Err(unreadable) => {
                    fault = Some(unreadable);
                    None
                }
            };
            Ok::<_, Stop>(found)
        })?;
        if let Some(fault) = fault {
            return Ok(Err(fault));
        }
        let number = u16::try_from(others.len() - 1).unwrap_or(u16::MAX);
        match lookup.missing {
            Missing::Error if others.get(number).is_none() => Ok(Err(no_row(table, lookup))),
            _ => Ok(Ok(())),
        }
    }

    /// The event that a rule takes back, if it takes one back and that is known.
    fn reverted(
        &mut self,
        context: &Context<'_>,
        rule: &Rule,
    ) -> Result<Result<Option<Uuid>, Fault>, Stop> {
        if rule.reverts.is_none() && !rule.is_reverted {
            return Ok(Ok(None));
        }
        self.entity.clear();
        if let Err(fault) = context.write_table_key(&mut self.entity) {
            return Ok(Err(fault));
        }
        let Some(reverted) = &rule.reverts else {
            return Ok(Ok(None));
        };
        let last = self
            .keeper
            .last_event(context.table, reverted, &self.entity)?;
        Ok(Ok(last))
    }

    /// The entity of a deleted row has ended.
    fn forget_events(&mut self, context: &Context<'_>) {
        self.entity.clear();
        if context.write_table_key(&mut self.entity).is_ok() {
            for event_type in &context.table.reverted {
                self.keeper
                    .forget_event(context.table, event_type, &self.entity);
            }
        }
    }
}

#[cold]
fn no_row(table: &Table, lookup: &Lookup) -> Fault {
    let slots: &[u16] = match lookup.by {
        By::Key => &table.key,
        By::Index(number) => &table.indexes[number],
    };
    let name = |slot: &u16| table.columns[usize::from(*slot)].name.as_str();
    let columns: Vec<&str> = slots.iter().map(name).collect();
    Fault::new(format!(
        "lookup `{}` found no row of {} by {}",
        lookup.name,
        table.short,
        columns.join(", ")
    ))
}

impl<'a> Context<'a> {
    /// The same change as a rule sees it with other rows at hand.
    pub(super) fn beside<'b>(self, others: &'b Others) -> Context<'b>
    where
        'a: 'b,
    {
        Context {
            others: Some(others),
            ..self
        }
    }

    /// The values that a row is looked up by, in the form of the column's; nothing if one of them is none.
    fn values_of(&self, lookup: &Lookup, values: &mut Vec<Vec<u8>>) -> Result<Written, Fault> {
        let table = &self.mapping.tables[lookup.table];
        let slots: &[u16] = match lookup.by {
            By::Key => &table.key,
            By::Index(number) => &table.indexes[number],
        };
        values.resize_with(slots.len(), Vec::new);
        for ((slot, place), value) in slots.iter().zip(&lookup.values).zip(values) {
            value.clear();
            if self.write_text(place, value)? == Written::Nothing {
                return Ok(Written::Nothing);
            }
            kept::canonical(&table.columns[usize::from(*slot)].ty, value);
        }
        Ok(Written::Value)
    }

    /// Whether a rule of this table and operation fires.
    ///
    /// # Errors
    /// Something it has to read is unavailable or is not a value of its type.
    pub(super) fn verdict(&self, rule: &'a Rule, scratch: &mut Scratch) -> Result<Verdict, Fault> {
        match self.of_the_change(rule, scratch)? {
            Verdict::Fires => self.guarded(rule),
            other => Ok(other),
        }
    }

    /// What the change alone says, before any condition.
    fn of_the_change(&self, rule: &'a Rule, scratch: &mut Scratch) -> Result<Verdict, Fault> {
        if let Some(changed) = &rule.changed
            && !self.any_or_all_changed(changed, scratch)?
        {
            return Ok(Verdict::Unchanged);
        }
        if let Some(transition) = &rule.transition
            && !transition.is(self.step(transition.lifecycle, scratch)?)
        {
            return Ok(Verdict::NoTransition);
        }
        if let Some(only) = self.not_in(&rule.only)? {
            return Ok(Verdict::NotIn(only));
        }
        Ok(Verdict::Fires)
    }

    /// What the conditions say.
    fn guarded(&self, rule: &'a Rule) -> Result<Verdict, Fault> {
        for (number, guard) in rule.when.iter().enumerate() {
            if !self.holds(&guard.condition)? {
                return Ok(Verdict::WhenFalse(number));
            }
        }
        Ok(Verdict::Fires)
    }

    /// The number of the first `only` whose column is not in its list.
    pub(super) fn not_in(&self, only: &'a [Only]) -> Result<Option<usize>, Fault> {
        for (number, only) in only.iter().enumerate() {
            let found = self.read(&only.place)?;
            let mut listed = false;
            for value in &only.values {
                listed |= order(&found, &value.found())?.is_some_and(std::cmp::Ordering::is_eq);
            }
            if !listed {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    fn any_or_all_changed(&self, changed: &Changed, scratch: &mut Scratch) -> Result<bool, Fault> {
        let wanted = changed.quantifier == Quantifier::Any;
        for &watched in &changed.watched {
            if self.watched_changed(watched, scratch)? == wanted {
                return Ok(wanted);
            }
        }
        Ok(!wanted)
    }

    /// Whether a watched place changed, asked once per change.
    pub(super) fn watched_changed(
        &self,
        watched: u16,
        scratch: &mut Scratch,
    ) -> Result<bool, Fault> {
        let watched = usize::from(watched);
        if let Some(known) = scratch.changed[watched] {
            return Ok(known);
        }
        let changed = self.changed(&self.table.watched[watched])?;
        scratch.changed[watched] = Some(changed);
        Ok(changed)
    }

    /// Every check of a rule that fires.
    pub(super) fn checked(&self, rule: &'a Rule) -> Result<(), Fault> {
        for check in &rule.checks {
            if !self.holds(&check.condition)? {
                return Err(Fault::check(&check.message));
            }
        }
        Ok(())
    }
}

#[cold]
fn bad_record(context: &Context<'_>, rule: &Rule, fault: &Fault) -> Stop {
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
