//! What one change comes by. The cold twin of [`crate::mapping::evaluate`], beside
//! [`crate::mapping::explain`]: it asks the verdict, the checks and the writers that make the event.

use rowbridge_api::{Batch, Cell, Change, Op, Transaction};

use super::{Held, Seen, Site};
use crate::event::EncodedBatch;
use crate::mapping::Stop;
use crate::mapping::body::Listed;
use crate::mapping::context::{Context, Written};
use crate::mapping::evaluate::Evaluator;
use crate::mapping::fault::Fault;
use crate::mapping::joins::Joins;
use crate::mapping::lifecycle::{Judgement, Lifecycle, Named, Step};
use crate::mapping::rule::Body;
use crate::mapping::rule::{Field, FieldValue, Otherwise, Rule};
use crate::mapping::rules::{Rules, context};
use crate::mapping::verdict::{Scratch, Verdict};
use crate::mapping::work::Work;

impl Evaluator {
    /// Notes every point that a change comes by, of a mapping that does not gather.
    ///
    /// # Errors
    /// The change does not fit the shape it names, or what rules remember cannot be read.
    pub fn cover(
        &mut self,
        batch: &Batch,
        tx: &Transaction,
        change: &Change,
        seen: &mut Seen,
    ) -> Result<(), Stop> {
        let (rules, work, _) = self.parts();
        rules.cover(batch, tx, change, work, seen)
    }

    /// Notes the columns of a change of a mapping that gathers: also of a row that is only looked up, which gives no
    /// event and is not gathered.
    ///
    /// # Errors
    /// The change does not fit the shape it names.
    pub fn cover_columns(
        &mut self,
        batch: &Batch,
        tx: &Transaction,
        change: &Change,
        seen: &mut Seen,
    ) -> Result<(), Stop> {
        let (rules, ..) = self.parts();
        let Some((table, bound)) = rules.bound_table(change, tx)? else {
            return Ok(());
        };
        let (mapping, stamp) = (rules.mapping(), rules.stamp());
        context(mapping, table, bound, stamp, batch, tx, change).watch_columns(table, seen);
        Ok(())
    }

    /// Hands over what each of the gathered changes comes by.
    ///
    /// # Errors
    /// As [`Evaluator::cover`].
    pub fn cover_gathered(
        &mut self,
        each: &mut dyn FnMut(&Batch, &Change, Seen),
    ) -> Result<(), Stop> {
        let (rules, work, gathered) = self.parts();
        gathered.close()?;
        let joins = Joins::of(rules, gathered, work)?;
        for at in 0..gathered.len() {
            let mut seen = Seen::default();
            let row = gathered.row(at)?;
            let tx = gathered.transaction(&row).clone();
            match joins.consumes(at) {
                true => seen.note(Site::Tried(u16::MAX)),
                false => rules.cover(row.batch(), &tx, row.change(), work, &mut seen)?,
            }
            for event in joins.events_at(at) {
                rules.have_parts(gathered, event, work)?;
                let (batch, change) = (row.batch(), row.change());
                rules.cover_joined(batch, &tx, change, event.rule, work, &mut seen)?;
            }
            each(row.batch(), row.change(), seen);
        }
        Ok(())
    }
}

impl Rules {
    fn cover(
        &self,
        batch: &Batch,
        tx: &Transaction,
        change: &Change,
        work: &mut Work,
        seen: &mut Seen,
    ) -> Result<(), Stop> {
        let Some((table, bound)) = self.bound_table(change, tx)? else {
            return Ok(());
        };
        let mapping = self.mapping();
        let context = context(mapping, table, bound, self.stamp(), batch, tx, change);
        work.scratch.start(context.table);
        context.watch_columns(table, seen);
        for (number, lifecycle) in (0_u16..).zip(&context.table.lifecycles) {
            context.watch_step(number, lifecycle, &mut work.scratch, seen);
        }
        for &number in self.candidates(table, change.op) {
            work.others.clear();
            let rule = &mapping.rules[usize::from(number)];
            self.cover_rule(&context.with_image(rule.image), number, work, seen)?;
        }
        Ok(())
    }

    fn cover_joined(
        &self,
        batch: &Batch,
        tx: &Transaction,
        change: &Change,
        number: u16,
        work: &mut Work,
        seen: &mut Seen,
    ) -> Result<(), Stop> {
        let Some((table, bound)) = self.bound_table(change, tx)? else {
            return Ok(());
        };
        let mapping = self.mapping();
        let context = context(mapping, table, bound, self.stamp(), batch, tx, change);
        self.cover_rule(&context, number, work, seen)
    }

    /// Notes how far a rule gets; what is in the way of its event is not what is asked here.
    fn cover_rule(
        &self,
        context: &Context<'_>,
        number: u16,
        work: &mut Work,
        seen: &mut Seen,
    ) -> Result<(), Stop> {
        let rule = &self.mapping().rules[usize::from(number)];
        if context.watch_changed(rule, work, seen).is_err() {
            return Ok(());
        }
        let Ok(verdict) = work.verdict(context, rule)? else {
            return Ok(());
        };
        watch_verdict(rule, verdict, seen);
        if verdict != Verdict::Fires {
            return Ok(());
        }
        seen.note(Site::Tried(number));
        let context = context.beside(&work.others);
        let event = self.occurrence(rule, number);
        let made = context
            .watch_event(rule, seen)
            .and_then(|()| context.encode(&event, &mut EncodedBatch::default()));
        if made.is_ok() {
            seen.note(Site::Rule(usize::from(number)));
        }
        Ok(())
    }
}

/// Notes the conditions that a rule came by.
fn watch_verdict(rule: &Rule, verdict: Verdict, seen: &mut Seen) {
    let (only, when) = match verdict {
        Verdict::Unchanged | Verdict::NoTransition => return,
        Verdict::NotIn(kept) => {
            seen.note(Site::Only(rule.only[kept].at.start, Held::No));
            (&rule.only[..kept], &rule.when[..0])
        }
        Verdict::WhenFalse(kept) => {
            seen.note(Site::When(rule.when[kept].at.start, Held::No));
            (&rule.only[..], &rule.when[..kept])
        }
        Verdict::Fires => (&rule.only[..], &rule.when[..]),
    };
    for only in only {
        seen.note(Site::Only(only.at.start, Held::Yes));
    }
    for guard in when {
        seen.note(Site::When(guard.at.start, Held::Yes));
    }
}

impl Seen {
    fn note(&mut self, site: Site) {
        self.0.insert(site);
    }
}

impl<'a> Context<'a> {
    /// The columns that have a value.
    fn watch_columns(&self, table: usize, seen: &mut Seen) {
        for slot in (0_u16..).take(self.table.columns.len()) {
            let Some((_, index)) = self.bound.column(slot) else {
                continue;
            };
            let images = [self.before, self.after];
            let mut cells = images.iter().flatten().map(|row| row.cell(index));
            if cells.any(|cell| matches!(cell, Cell::Value(_))) {
                seen.note(Site::Column(table, slot));
            }
        }
    }

    fn watch_step(
        &self,
        number: u16,
        lifecycle: &'a Lifecycle,
        scratch: &mut Scratch,
        seen: &mut Seen,
    ) {
        let Ok(judgement) = self.judge(number, lifecycle, scratch) else {
            return;
        };
        match judgement {
            // Rows of the first start are not created.
            Judgement::Legal(Step::Enters(Named::Known(to))) if self.change.op != Op::Read => {
                seen.note(Site::Step(lifecycle.number, None, to));
            }
            Judgement::Legal(Step::Moves {
                from: Named::Known(from),
                to: Named::Known(to),
            }) => seen.note(Site::Step(lifecycle.number, Some(from), to)),
            Judgement::Legal(_) => {}
            Judgement::NotIn(kept) => {
                for only in &lifecycle.only[..kept] {
                    seen.note(Site::Only(only.at.start, Held::Yes));
                }
                seen.note(Site::Only(lifecycle.only[kept].at.start, Held::No));
            }
            Judgement::Illegal(_) => {
                for only in &lifecycle.only {
                    seen.note(Site::Only(only.at.start, Held::Yes));
                }
                seen.note(Site::Illegal(lifecycle.number));
            }
        }
    }

    /// Notes the columns that a rule waits for and that changed.
    fn watch_changed(&self, rule: &'a Rule, work: &mut Work, seen: &mut Seen) -> Result<(), Fault> {
        if let Some(changed) = &rule.changed {
            for &watched in &changed.watched {
                if self.watched_changed(watched, &mut work.scratch)? {
                    seen.note(Site::Changed(changed.at.start, watched));
                }
            }
        }
        Ok(())
    }

    /// Notes how far an event gets that a rule fires: its checks, then its data.
    fn watch_event(&self, rule: &'a Rule, seen: &mut Seen) -> Result<(), Fault> {
        self.watch_checks(rule, seen)?;
        match &rule.body {
            Body::Data(fields) => self.watch_fields(fields, seen),
            Body::Tombstone => Ok(()),
        }
    }

    /// The checks as the evaluator makes them: up to the first that fails.
    fn watch_checks(&self, rule: &'a Rule, seen: &mut Seen) -> Result<(), Fault> {
        for check in &rule.checks {
            if !self.holds(&check.condition)? {
                seen.note(Site::Check(check.at.start, Held::No));
                return Err(Fault::check(&check.message));
            }
            seen.note(Site::Check(check.at.start, Held::Yes));
        }
        Ok(())
    }

    /// The fields in order, up to the first that cannot be made.
    fn watch_fields(&self, fields: &'a [Field], seen: &mut Seen) -> Result<(), Fault> {
        for field in fields {
            self.watch_value(&field.value, field.at.start, seen)?;
            self.write_object(std::slice::from_ref(field), &mut Vec::new())?;
        }
        Ok(())
    }

    fn watch_value(&self, value: &'a FieldValue, at: usize, seen: &mut Seen) -> Result<(), Fault> {
        let mut scratch = Vec::new();
        match value {
            FieldValue::Map {
                place,
                with,
                otherwise,
            } => match (self.listed(place, with)?, otherwise) {
                (Listed::As(arm), _) => seen.note(Site::Arm(at, arm)),
                (Listed::Not, Otherwise::Json(_) | Otherwise::Error) => seen.note(Site::Else(at)),
                (Listed::Not, Otherwise::Unsaid) | (Listed::NoValue, _) => {}
            },
            FieldValue::Place { place, convert, .. } => {
                let written = self.write_place(place, *convert, &mut scratch)?;
                seen.note(match written {
                    Written::Value => Site::Valued(at),
                    Written::Nothing => Site::Default(at),
                });
            }
            FieldValue::Coalesce {
                places, convert, ..
            } => {
                for (number, place) in places.iter().enumerate() {
                    if self.write_place(place, *convert, &mut scratch)? == Written::Value {
                        seen.note(Site::Coalesced(at, number));
                        return Ok(());
                    }
                }
                seen.note(Site::Default(at));
            }
            FieldValue::Object(fields) => self.watch_fields(fields, seen)?,
            FieldValue::Protected { value, .. } => self.watch_value(value, at, seen)?,
            FieldValue::Const(_) | FieldValue::Delta { .. } | FieldValue::Template(_) => {}
        }
        Ok(())
    }
}
