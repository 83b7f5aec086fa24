//! The rules of a mapping at work: what one change, or one transaction's rows together, append to the output.

use std::sync::Arc;

use rowbridge_api::{Batch, Change, Op, State, Transaction};
use uuid::Uuid;

use super::bind::Bound;
use super::context::Context;
use super::encode::Occurrence;
use super::fault::{Fault, FaultKind};
use super::file::OnError;
use super::gathered::{Gathered, GatheredRow};
use super::joins::{JoinedEvent, Joins};
use super::kept;
use super::rule::{Each, RowImage, Rule, Side};
use super::verdict::Verdict;
use super::work::Work;
use super::{Mapping, Stamp, Stop};
use crate::event::EncodedBatch;

/// What does not change from change to change, but by shapes that arrive.
pub(super) struct Rules {
    pub(super) mapping: Arc<Mapping>,
    pub(super) stamp: Stamp,
    /// Namespace of this source's event ids.
    pub(super) namespace: Uuid,
    /// By shape id, ascending.
    pub(super) bound: Vec<(u32, Arc<Bound>)>,
    /// Per table and operation: the rules that may fire, in file order.
    pub(super) candidates: Vec<[Box<[u16]>; OPERATIONS]>,
}

/// Number of operations.
pub(super) const OPERATIONS: usize = 5;

/// Where the buffers stood before an event.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    bytes: usize,
    headers: usize,
    records: usize,
}

impl Mark {
    pub(super) fn of(out: &EncodedBatch) -> Self {
        Self {
            bytes: out.buf.len(),
            headers: out.headers.len(),
            records: out.records.len(),
        }
    }

    pub(super) fn roll_back(self, out: &mut EncodedBatch) {
        out.buf.truncate(self.bytes);
        out.headers.truncate(self.headers);
        out.records.truncate(self.records);
    }
}

/// A change with its rows and its transaction.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) batch: &'a Batch,
    pub(super) tx: &'a Transaction,
    pub(super) change: &'a Change,
}

/// Whether a row fires the rules of its table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    Fires,
    /// It became part of an event that says so.
    Consumed,
}

impl Rules {
    /// Appends the events of one change: those of its own row.
    pub(super) fn evaluate(
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
            match &rule.each {
                None => self.event_or_quarantine(&context, rule, number, batch, work, out)?,
                Some(each) => {
                    self.event_of_each(&context, (rule, number), each, batch, work, out)?;
                }
            }
        }
        if !known.reverted.is_empty() {
            work.forget_events(&context)?;
        }
        Ok(())
    }

    /// Appends the events of the next gathered change: those of its own row, and those of several rows that are
    /// complete with it.
    pub(super) fn evaluate_gathered(
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

    /// Whether an event of several rows is made: where its condition cannot be read it is, and is set aside.
    pub(super) fn is_wanted(
        &self,
        gathered: &mut Gathered,
        event: &JoinedEvent,
        work: &mut Work,
    ) -> Result<bool, Stop> {
        let rule = &self.mapping.rules[usize::from(event.rule)];
        if rule.when.is_empty() {
            return Ok(true);
        }
        self.have_parts(gathered, event, work)?;
        let row = gathered.row(event.at)?;
        let (batch, change) = (row.batch(), row.change());
        let tx = gathered.transaction(&row);
        let Some((table, bound)) = self.bound_table(change, tx)? else {
            return Ok(false);
        };
        let context = context(&self.mapping, table, bound, &self.stamp, batch, tx, change);
        work.scratch.start(context.table);
        let verdict = work.verdict(&context, rule)?;
        Ok(!matches!(verdict, Ok(Verdict::WhenFalse(_))))
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

    /// Appends the events of a rule that makes one of every element of an array.
    fn event_of_each(
        &self,
        context: &Context<'_>,
        (rule, number): (&Rule, u16),
        each: &Each,
        batch: &Batch,
        work: &mut Work,
        out: &mut EncodedBatch,
    ) -> Result<(), Stop> {
        let room = usize::from(u16::MAX - work.scratch.events());
        let fault = match context.elements_if(rule, each, &mut work.scratch) {
            Ok(None) => return Ok(()),
            Ok(Some(elements)) if elements.len() > room => too_many(),
            Ok(Some(elements)) => {
                for item in elements.iter() {
                    work.others.clear();
                    let context = context.at_item(item);
                    self.event_or_quarantine(&context, rule, number, batch, work, out)?;
                }
                return Ok(());
            }
            Err(fault) => fault,
        };
        self.set_aside(context, rule, number, &fault, batch, out)
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
        let context = context.beside(&work.others);
        self.set_aside(&context, rule, number, &fault, batch, out)
    }

    /// Appends the quarantine record of an event that could not be made, or stops.
    #[cold]
    fn set_aside(
        &self,
        context: &Context<'_>,
        rule: &Rule,
        number: u16,
        fault: &Fault,
        batch: &Batch,
        out: &mut EncodedBatch,
    ) -> Result<(), Stop> {
        if fault.kind != FaultKind::Check && self.mapping.on_error == OnError::Stop {
            return Err(bad_record(context, rule, fault));
        }
        context.set_rule_aside(rule, number, fault, batch, out);
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
        if made.is_ok() && rule.is_reverted && context.change.op != Op::Truncate {
            let id = context.event_id(&event);
            let table = context.table;
            work.keeper
                .remember_event(table, &rule.event_type, &work.entity, id);
        }
        Ok(made)
    }

    /// Where a change is kept, if the rows of its table are.
    pub(super) fn keeps(
        &self,
        change: &Change,
        tx: &Transaction,
    ) -> Result<Option<kept::Place<'_>>, Stop> {
        let found = self.bound_table(change, tx)?;
        let places = found.map(|(number, bound)| kept::Place {
            number,
            table: &self.mapping.tables[number],
            bound,
        });
        Ok(places.filter(|place| place.table.kept.is_some()))
    }

    /// Whether a change of a table may do anything at all.
    pub(super) fn follows(&self, table: usize, op: Op) -> bool {
        let known = &self.mapping.tables[table];
        !self.candidates[table][op as usize].is_empty()
            || !known.lifecycles.is_empty()
            || !known.reverted.is_empty()
    }

    /// Whether a change of a table may be part of an event of several rows.
    pub(super) fn may_join(&self, table: usize, op: Op) -> bool {
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
        key: mapping.hash_key.as_ref(),
        item: None,
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
fn too_many() -> Fault {
    Fault::new(format!("one change makes more than {} events", u16::MAX))
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
