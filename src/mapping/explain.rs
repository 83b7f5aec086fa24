//! Why each rule of a change's table fired or did not. The cold twin of [`super::evaluate`]: the same
//! judgements, with reasons in words. Names columns and expressions, never a row's values.

use rowbridge_api::{Batch, Change, Op, OpSet, Transaction};

use super::context::Context;
use super::evaluate::{Evaluator, Scratch, Verdict, context};
use super::file::event::Quantifier;
use super::rule::{Changed, Rule};
use super::{Mapping, Stop};
use crate::event::{EncodedBatch, TopicId};

/// What became of one rule for one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleOutcome {
    /// Number of the rule in [`Mapping::rules`].
    pub rule: usize,
    pub event_type: String,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It fired this many events.
    Fired(usize),
    /// What kept it, in words.
    NotFired(String),
    /// It should have fired and its event could not be made: why.
    Quarantined(String),
}

impl Evaluator {
    /// What every rule of the change's table does with it, in file order.
    ///
    /// # Errors
    /// The change does not fit the shape it names.
    pub fn explain(
        &self,
        batch: &Batch,
        tx: &Transaction,
        change: &Change,
    ) -> Result<Vec<RuleOutcome>, Stop> {
        let Some((table, bound)) = self.bound_table(change, tx)? else {
            return Ok(Vec::new());
        };
        let mapping = &**self.mapping();
        let change_context = context(mapping, table, bound, self.stamp(), batch, tx, change);
        let rules = (0_u16..)
            .zip(&mapping.rules)
            .filter(|(_, rule)| rule.table == table);
        Ok(rules
            .map(|(number, rule)| RuleOutcome {
                rule: usize::from(number),
                event_type: rule.event_type.clone(),
                outcome: if self.candidates(table, change.op).contains(&number) {
                    self.outcome(
                        mapping,
                        &change_context.with_image(rule.image),
                        rule,
                        number,
                    )
                } else {
                    Outcome::NotFired(format!(
                        "op is {}, rule wants {}",
                        change.op.as_str(),
                        words(rule.ops)
                    ))
                },
            })
            .collect())
    }

    fn outcome(
        &self,
        mapping: &Mapping,
        context: &Context<'_>,
        rule: &Rule,
        number: u16,
    ) -> Outcome {
        let mut scratch = Scratch::default();
        scratch.start(context.table.watched.len());
        let fired = match context.verdict(rule, &mut scratch) {
            Ok(Verdict::Fires) => {
                let event = self.occurrence(mapping, rule, number);
                let mut out = EncodedBatch::default();
                context
                    .checked(rule)
                    .and_then(|()| context.encode(&event, &mut out))
                    .map(|()| {
                        out.records
                            .iter()
                            .filter(|record| record.topic != TopicId::QUARANTINE)
                            .count()
                    })
            }
            Ok(Verdict::Unchanged) => {
                let reason = rule
                    .changed
                    .as_ref()
                    .map(|changed| context.same(changed, &mut scratch));
                return Outcome::NotFired(reason.unwrap_or_default());
            }
            Ok(Verdict::NotIn(only)) => {
                let only = &rule.only[only];
                return Outcome::NotFired(format!(
                    "only: {} is not in {}",
                    only.column, only.param
                ));
            }
            Ok(Verdict::WhenFalse(guard)) => {
                return Outcome::NotFired(format!("when is false: {}", rule.when[guard].text));
            }
            Err(fault) => Err(fault),
        };
        match fired {
            Ok(events) => Outcome::Fired(events),
            Err(fault) => Outcome::Quarantined(fault.problem),
        }
    }
}

impl Context<'_> {
    /// The watched columns that are the same, in words.
    fn same(&self, changed: &Changed, scratch: &mut Scratch) -> String {
        let same: Vec<&str> = changed
            .watched
            .iter()
            .filter(|watched| matches!(self.watched_changed(**watched, scratch), Ok(false)))
            .map(|watched| {
                let slot = self.table.watched[usize::from(*watched)].slot;
                self.table.columns[usize::from(slot)].name.as_str()
            })
            .collect();
        let verb = if same.len() == 1 { "is" } else { "are" };
        let wants = match changed.quantifier {
            Quantifier::Any => "",
            Quantifier::All => " (all must change)",
        };
        format!("changed: {} {verb} the same{wants}", same.join(", "))
    }
}

fn words(ops: OpSet) -> String {
    let all = [Op::Insert, Op::Update, Op::Delete, Op::Read, Op::Truncate];
    let names: Vec<&str> = all
        .into_iter()
        .filter(|op| ops.contains(*op))
        .map(Op::as_str)
        .collect();
    names.join(" or ")
}
