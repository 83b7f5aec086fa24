//! Why each rule of a change's table fired or did not. The cold twin of [`super::evaluate`]: the same
//! judgements, with reasons in words. Names columns and expressions, never a row's values.

use rowbridge_api::{Batch, Change, Op, OpSet, Transaction};

use super::context::Context;
use super::evaluate::{Evaluator, Scratch, Verdict, context};
use super::file::event::Quantifier;
use super::lifecycle::{Illegal, Judgement, Lifecycle};
use super::rule::{Changed, Only, Rule};
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
    /// It should have fired and its event could not be made, or a lifecycle forbids the change: why.
    Quarantined(String),
    /// A lifecycle that lets the change pass: why.
    Passed(String),
}

impl Evaluator {
    /// What every lifecycle and every rule of the change's table does with it, each in file order.
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
        let lifecycles = (0_u16..).zip(&mapping.tables[table].lifecycles);
        let lifecycles = lifecycles.map(|(number, lifecycle)| RuleOutcome {
            rule: usize::from(lifecycle.number),
            event_type: lifecycle.rule.clone(),
            outcome: change_context.passed(number, lifecycle),
        });
        let rules = (0_u16..)
            .zip(&mapping.rules)
            .filter(|(_, rule)| rule.table == table);
        Ok(lifecycles
            .chain(rules.map(|(number, rule)| RuleOutcome {
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
            }))
            .collect())
    }

    /// What becomes of a rule: of every element, where it has an `each`.
    fn outcome(
        &self,
        mapping: &Mapping,
        context: &Context<'_>,
        rule: &Rule,
        number: u16,
    ) -> Outcome {
        let Some(each) = &rule.each else {
            return self.outcome_of_one(mapping, context, rule, number);
        };
        let mut scratch = Scratch::default();
        scratch.start(context.table);
        let elements = match context.elements_if(rule, each, &mut scratch) {
            Ok(Some(elements)) => elements,
            // Asked again, for what keeps it from firing.
            Ok(None) => return self.outcome_of_one(mapping, context, rule, number),
            Err(fault) => return Outcome::Quarantined(fault.problem),
        };
        let mut events = 0;
        let mut silent = "each: there are no elements".to_owned();
        for item in elements.iter() {
            match self.outcome_of_one(mapping, &context.at_item(item), rule, number) {
                Outcome::Fired(fired) => events += fired,
                Outcome::NotFired(why) => silent = why,
                other => return other,
            }
        }
        match events {
            0 => Outcome::NotFired(silent),
            _ => Outcome::Fired(events),
        }
    }

    fn outcome_of_one(
        &self,
        mapping: &Mapping,
        context: &Context<'_>,
        rule: &Rule,
        number: u16,
    ) -> Outcome {
        let mut scratch = Scratch::default();
        scratch.start(context.table);
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
            Ok(Verdict::NoTransition) => {
                return Outcome::NotFired(context.other_transition(rule, &mut scratch));
            }
            Ok(Verdict::NotIn(only)) => {
                return Outcome::NotFired(rule.only[only].words());
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

impl Only {
    fn words(&self) -> String {
        format!("only: {} is not in {}", self.column, self.param)
    }
}

impl<'a> Context<'a> {
    /// What a lifecycle makes of the change.
    fn passed(&self, number: u16, lifecycle: &'a Lifecycle) -> Outcome {
        let mut scratch = Scratch::default();
        scratch.start(self.table);
        match self.judge(number, lifecycle, &mut scratch) {
            Ok(Judgement::Legal(step)) => Outcome::Passed(lifecycle.words(step, self.table)),
            Ok(Judgement::NotIn(only)) => Outcome::Passed(lifecycle.only[only].words()),
            Ok(Judgement::Illegal(step)) => {
                let why = lifecycle.illegal_words(step, self.table);
                match lifecycle.illegal {
                    Illegal::Quarantine | Illegal::Stop => Outcome::Quarantined(why),
                    Illegal::Ignore => Outcome::Passed(format!("{why}, and is ignored")),
                }
            }
            Err(fault) => Outcome::Quarantined(fault.problem),
        }
    }

    /// Why a rule's transition is not the change's, in words.
    fn other_transition(&self, rule: &Rule, scratch: &mut Scratch) -> String {
        let Some(transition) = &rule.transition else {
            return String::new();
        };
        let lifecycle = &self.table.lifecycles[usize::from(transition.lifecycle)];
        // The verdict has read it.
        let found = match self.step(transition.lifecycle, scratch) {
            Ok(step) => lifecycle.words(step, self.table),
            Err(fault) => fault.problem,
        };
        format!(
            "transition: {found}, rule wants {}",
            lifecycle.wanted(transition)
        )
    }

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
