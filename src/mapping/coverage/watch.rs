//! What one change comes by. The cold twin of [`crate::mapping::evaluate`], beside
//! [`crate::mapping::explain`]: it asks the verdict, the checks and the writers that make the event.

use rowbridge_api::{Batch, Cell, Change, Op, Transaction};

use super::{Held, Seen, Site};
use crate::event::EncodedBatch;
use crate::mapping::Stop;
use crate::mapping::body::Listed;
use crate::mapping::context::{Context, Written};
use crate::mapping::evaluate::{Evaluator, Scratch, Verdict, context};
use crate::mapping::fault::Fault;
use crate::mapping::lifecycle::{Judgement, Lifecycle, Named, Step};
use crate::mapping::rule::Body;
use crate::mapping::rule::{Field, FieldValue, Otherwise, Rule};

impl Evaluator {
    /// Notes every point that the change comes by.
    ///
    /// # Errors
    /// The change does not fit the shape it names.
    pub fn cover(
        &self,
        batch: &Batch,
        tx: &Transaction,
        change: &Change,
        seen: &mut Seen,
    ) -> Result<(), Stop> {
        let Some((table, bound)) = self.bound_table(change, tx)? else {
            return Ok(());
        };
        let mapping = &**self.mapping();
        let context = context(mapping, table, bound, self.stamp(), batch, tx, change);
        let mut scratch = Scratch::default();
        scratch.start(context.table);
        context.watch_columns(table, seen);
        for (number, lifecycle) in (0_u16..).zip(&context.table.lifecycles) {
            context.watch_step(number, lifecycle, &mut scratch, seen);
        }
        for &number in self.candidates(table, change.op) {
            let rule = &mapping.rules[usize::from(number)];
            let context = context.with_image(rule.image);
            // What is in the way of the event is not what is asked here.
            if context
                .watch_rule(rule, &mut scratch, seen)
                .is_ok_and(|verdict| verdict == Verdict::Fires)
            {
                let event = self.occurrence(mapping, rule, number);
                if context.encode(&event, &mut EncodedBatch::default()).is_ok() {
                    seen.note(Site::Rule(usize::from(number)));
                }
            }
        }
        Ok(())
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

    /// Notes how far a rule gets: up to its event's data, if it fires and passes its checks.
    fn watch_rule(
        &self,
        rule: &'a Rule,
        scratch: &mut Scratch,
        seen: &mut Seen,
    ) -> Result<Verdict, Fault> {
        if let Some(changed) = &rule.changed {
            for &watched in &changed.watched {
                if self.watched_changed(watched, scratch)? {
                    seen.note(Site::Changed(changed.at.start, watched));
                }
            }
        }
        let verdict = self.verdict(rule, scratch)?;
        let (only, when) = match verdict {
            Verdict::Unchanged | Verdict::NoTransition => return Ok(verdict),
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
        if verdict == Verdict::Fires {
            self.watch_checks(rule, seen)?;
            if let Body::Data(fields) = &rule.body {
                self.watch_fields(fields, seen)?;
            }
        }
        Ok(verdict)
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
            self.watch_value(field, seen)?;
            self.write_object(std::slice::from_ref(field), &mut Vec::new())?;
        }
        Ok(())
    }

    fn watch_value(&self, field: &'a Field, seen: &mut Seen) -> Result<(), Fault> {
        let at = field.at.start;
        let mut scratch = Vec::new();
        match &field.value {
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
            FieldValue::Const(_) | FieldValue::Delta { .. } | FieldValue::Template(_) => {}
        }
        Ok(())
    }
}
