//! The evaluator: which rules a change fires, and their events or quarantine records.

use std::sync::Arc;

use rowbridge_api::{Batch, Change, Op, Position, Shape, State, Transaction};
use uuid::Uuid;

use super::bind::{self, Bound};
use super::context::Context;
use super::encode::{self, Occurrence};
use super::fault::{Fault, FaultKind};
use super::file::OnError;
use super::file::event::Quantifier;
use super::item::Elements;
use super::judge::order;
use super::lifecycle::Step;
use super::quarantine::Failed;
use super::rule::{Changed, Each, Only, Rule, Side, Table};
use super::{Mapping, Stamp, Stop};
use crate::event::EncodedBatch;

/// Evaluates the changes of one run: rules bound to the shapes that arrived so far.
pub struct Evaluator {
    mapping: Arc<Mapping>,
    stamp: Stamp,
    /// Namespace of this source's event ids.
    namespace: Uuid,
    /// By shape id, ascending.
    bound: Vec<(u32, Bound)>,
    /// Per table and operation: the rules that may fire, in file order.
    candidates: Vec<[Box<[u16]>; OPERATIONS]>,
    scratch: Scratch,
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
    /// Type numbers of the events that fired and how many of each, for the n-th occurrence.
    types: Vec<(u16, u16)>,
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
            .field("mapping", &self.mapping.tag)
            .field("shapes", &self.bound.len())
            .finish_non_exhaustive()
    }
}

impl Evaluator {
    #[must_use]
    pub fn new(mapping: Arc<Mapping>, stamp: Stamp) -> Self {
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
            namespace: encode::namespace(&stamp.identity.source),
            bound: Vec::new(),
            candidates,
            scratch: Scratch::default(),
            mapping,
            stamp,
        }
    }

    /// The mapping it evaluates.
    #[must_use]
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Binds the rules to a shape that arrived; `at` is the position of the transaction it arrived in.
    ///
    /// # Errors
    /// A column that a rule reads is not in the shape, or has a type that the rule cannot read.
    pub fn bind(&mut self, shape: &Arc<Shape>, at: &Position) -> Result<(), Stop> {
        let bound = bind::bind(&self.mapping, &self.stamp, shape, at)?;
        match self.bound.binary_search_by_key(&shape.id.0, |(id, _)| *id) {
            Ok(index) => self.bound[index].1 = bound,
            Err(index) => self.bound.insert(index, (shape.id.0, bound)),
        }
        Ok(())
    }

    /// Appends the events of one change. A bad record becomes a quarantine record where the mapping says
    /// so; the other events of the change go out.
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
        // Taken for the time of the change, so that the rest of the evaluator can be borrowed.
        let mut scratch = std::mem::take(&mut self.scratch);
        let evaluated = self.evaluate(batch, tx, change, &mut scratch, out);
        self.scratch = scratch;
        evaluated
    }

    fn evaluate(
        &self,
        batch: &Batch,
        tx: &Transaction,
        change: &Change,
        scratch: &mut Scratch,
        out: &mut EncodedBatch,
    ) -> Result<(), Stop> {
        let Some((table, bound)) = self.bound_table(change, tx)? else {
            return Ok(());
        };
        let candidates = &self.candidates[table][change.op as usize];
        let mapping = &*self.mapping;
        if candidates.is_empty() && mapping.tables[table].lifecycles.is_empty() {
            return Ok(());
        }
        let context = context(mapping, table, bound, &self.stamp, batch, tx, change);
        scratch.start(context.table);
        context.follow(mapping.on_error, scratch, batch, out)?;
        let mut index = 0;
        for &number in candidates {
            let rule = &mapping.rules[usize::from(number)];
            let context = context.with_image(rule.image);
            let Some(each) = &rule.each else {
                self.fire(&context, (rule, number), scratch, &mut index, batch, out)?;
                continue;
            };
            match context.elements_if(rule, each, scratch) {
                Ok(Some(elements)) if elements.len() > usize::from(u16::MAX - index) => {
                    self.set_aside(&context, (rule, number), &too_many(), batch, out)?;
                }
                Ok(Some(elements)) => {
                    for item in elements.iter() {
                        let context = context.at_item(item);
                        self.fire(&context, (rule, number), scratch, &mut index, batch, out)?;
                    }
                }
                Ok(None) => {}
                Err(fault) => self.set_aside(&context, (rule, number), &fault, batch, out)?,
            }
        }
        Ok(())
    }

    /// Appends the event of one rule, if it fires; `index` counts those of the change.
    fn fire<'a>(
        &'a self,
        context: &Context<'a>,
        (rule, number): (&'a Rule, u16),
        scratch: &mut Scratch,
        index: &mut u16,
        batch: &Batch,
        out: &mut EncodedBatch,
    ) -> Result<(), Stop> {
        let mark = Mark::of(out);
        let made = match context.verdict(rule, scratch) {
            Ok(Verdict::Fires) => {
                let event = Occurrence {
                    nth: scratch.occurrence(rule.type_number),
                    index: *index,
                    ..self.occurrence(&self.mapping, rule, number)
                };
                *index = index.saturating_add(1);
                context
                    .checked(rule)
                    .and_then(|()| context.encode(&event, out))
            }
            Ok(_) => return Ok(()),
            Err(fault) => Err(fault),
        };
        let Err(fault) = made else {
            return Ok(());
        };
        mark.roll_back(out);
        self.set_aside(context, (rule, number), &fault, batch, out)
    }

    /// Appends the quarantine record of an event that could not be made, or stops.
    #[cold]
    fn set_aside(
        &self,
        context: &Context<'_>,
        (rule, number): (&Rule, u16),
        fault: &Fault,
        batch: &Batch,
        out: &mut EncodedBatch,
    ) -> Result<(), Stop> {
        if fault.kind != FaultKind::Check && self.mapping.on_error == OnError::Stop {
            return Err(bad_record(context, rule, fault));
        }
        let failed = Failed {
            rule: &rule.event_type,
            number,
            key: Some(&rule.key),
            kind: fault.kind,
            error: &fault.problem,
        };
        context.quarantine(&failed, batch, out);
        Ok(())
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

    pub(super) fn candidates(&self, table: usize, op: Op) -> &[u16] {
        &self.candidates[table][op as usize]
    }

    pub(super) const fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// A rule's first event of a change.
    pub(super) fn occurrence<'a>(
        &self,
        mapping: &'a Mapping,
        rule: &'a Rule,
        number: u16,
    ) -> Occurrence<'a> {
        Occurrence {
            rule,
            number,
            nth: 0,
            index: 0,
            mapping: &mapping.tag,
            namespace: self.namespace,
            header_names: &mapping.header_names,
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
        table: &mapping.tables[table],
        bound,
        change,
        tx,
        stamp,
        key: mapping.hash_key.as_ref(),
        before: batch.before(change),
        after: batch.after(change),
        row: Side::After,
        item: None,
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
        let mut types = self.types.iter_mut();
        let Some((_, fired)) = types.find(|(known, _)| *known == type_number) else {
            self.types.push((type_number, 1));
            return 0;
        };
        let before = *fired;
        *fired = before.saturating_add(1);
        before
    }
}

impl<'a> Context<'a> {
    /// Whether a rule of this table and operation fires.
    ///
    /// # Errors
    /// Something it has to read is unavailable or is not a value of its type.
    pub(super) fn verdict(&self, rule: &'a Rule, scratch: &mut Scratch) -> Result<Verdict, Fault> {
        if let Some(kept) = self.kept_by_row(rule, scratch)? {
            return Ok(kept);
        }
        for (number, guard) in rule.when.iter().enumerate() {
            if !self.holds(&guard.condition)? {
                return Ok(Verdict::WhenFalse(number));
            }
        }
        Ok(Verdict::Fires)
    }

    /// The elements that a rule makes events of; none if nothing of the row lets it fire.
    ///
    /// # Errors
    /// As [`Context::verdict`], or what should be an array is none.
    pub(super) fn elements_if(
        &self,
        rule: &'a Rule,
        each: &Each,
        scratch: &mut Scratch,
    ) -> Result<Option<Elements>, Fault> {
        match self.kept_by_row(rule, scratch)? {
            Some(_) => Ok(None),
            None => self.elements(each).map(Some),
        }
    }

    /// What keeps a rule from firing, before its conditions are asked.
    fn kept_by_row(&self, rule: &'a Rule, scratch: &mut Scratch) -> Result<Option<Verdict>, Fault> {
        if let Some(changed) = &rule.changed
            && !self.any_or_all_changed(changed, scratch)?
        {
            return Ok(Some(Verdict::Unchanged));
        }
        if let Some(transition) = &rule.transition
            && !transition.is(self.step(transition.lifecycle, scratch)?)
        {
            return Ok(Some(Verdict::NoTransition));
        }
        if let Some(only) = self.not_in(&rule.only)? {
            return Ok(Some(Verdict::NotIn(only)));
        }
        Ok(None)
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

/// The events of a change are numbered in 16 bits: two with one number would have one id.
#[cold]
fn too_many() -> Fault {
    Fault::new(format!("one change makes more than {} events", u16::MAX))
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
