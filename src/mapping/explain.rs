//! Why each rule of a change's table fired or did not. The cold twin of [`super::evaluate`]: the same
//! judgements, with reasons in words. Names columns and expressions, never a row's values.

use rowbridge_api::{Batch, Change, Op, OpSet, Transaction};

use super::Stop;
use super::context::Context;
use super::evaluate::Evaluator;
use super::file::event::Quantifier;
use super::gathered::Gathered;
use super::joins::Joins;
use super::lifecycle::{Illegal, Judgement, Lifecycle};
use super::rule::{Changed, Only, Rule};
use super::rules::{Rules, context};
use super::verdict::{Scratch, Verdict};
use super::work::Work;
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
        &mut self,
        batch: &Batch,
        tx: &Transaction,
        change: &Change,
    ) -> Result<Vec<RuleOutcome>, Stop> {
        let (known, work, _) = self.parts();
        known.explain(batch, tx, change, work)
    }

    /// The same for every change that was gathered.
    ///
    /// # Errors
    /// As [`Evaluator::explain`].
    pub fn explain_gathered(&mut self) -> Result<Vec<(Change, Vec<RuleOutcome>)>, Stop> {
        let (known, work, gathered) = self.parts();
        gathered.close()?;
        let joins = Joins::of(known, gathered, work)?;
        let mut explained = Vec::with_capacity(gathered.len());
        for at in 0..gathered.len() {
            let row = gathered.row(at)?;
            let (batch, tx) = (row.batch(), gathered.transaction(&row));
            let mut outcomes = known.explain(batch, tx, row.change(), work)?;
            if joins.consumes(at) {
                for outcome in &mut outcomes {
                    if matches!(outcome.outcome, Outcome::Fired(_)) {
                        let why = "the row became part of an event of several rows";
                        outcome.outcome = Outcome::NotFired(why.to_owned());
                    }
                }
            }
            outcomes.extend(known.explain_joined(gathered, &joins, at, work)?);
            explained.push((*row.change(), outcomes));
        }
        Ok(explained)
    }
}

impl Rules {
    fn explain(
        &self,
        batch: &Batch,
        tx: &Transaction,
        change: &Change,
        work: &mut Work,
    ) -> Result<Vec<RuleOutcome>, Stop> {
        let Some((table, bound)) = self.bound_table(change, tx)? else {
            return Ok(Vec::new());
        };
        let mapping = self.mapping();
        let change_context = context(mapping, table, bound, self.stamp(), batch, tx, change);
        let lifecycles = (0_u16..).zip(&mapping.tables[table].lifecycles);
        let lifecycles = lifecycles.map(|(number, lifecycle)| RuleOutcome {
            rule: usize::from(lifecycle.number),
            event_type: lifecycle.rule.clone(),
            outcome: change_context.passed(number, lifecycle),
        });
        let rules = (0_u16..)
            .zip(&mapping.rules)
            .filter(|(_, rule)| rule.table == table && rule.joining.is_none());
        let rules = rules.map(|(number, rule)| {
            let outcome = if self.candidates(table, change.op).contains(&number) {
                let context = change_context.with_image(rule.image);
                self.outcome(&context, rule, number, work)?
            } else {
                let op = change.op.as_str();
                Outcome::NotFired(format!("op is {op}, rule wants {}", words(rule.ops)))
            };
            Ok(RuleOutcome {
                rule: usize::from(number),
                event_type: rule.event_type.clone(),
                outcome,
            })
        });
        lifecycles.map(Ok).chain(rules).collect()
    }

    /// What the rules of several rows do with a gathered change that may be a part of them.
    fn explain_joined(
        &self,
        gathered: &mut Gathered,
        joins: &Joins,
        at: usize,
        work: &mut Work,
    ) -> Result<Vec<RuleOutcome>, Stop> {
        let row = gathered.row(at)?;
        let (batch, change) = (row.batch(), row.change());
        let tx = &gathered.transaction(&row).clone();
        let mut outcomes = Vec::new();
        let Some((table, bound)) = self.bound_table(change, tx)? else {
            return Ok(outcomes);
        };
        let mapping = self.mapping();
        let context = context(mapping, table, bound, self.stamp(), batch, tx, change);
        for (number, rule) in (0_u16..).zip(&mapping.rules) {
            let parts = rule.joining.iter().flat_map(|joining| &joining.parts);
            let mut parts = parts.filter(|part| part.table == table);
            if !parts.any(|part| part.ops.contains(change.op)) {
                continue;
            }
            let made = joins
                .events_at(at)
                .iter()
                .find(|event| event.rule == number);
            let outcome = match made {
                Some(event) => {
                    self.have_parts(gathered, event, work)?;
                    self.outcome_of(&context, rule, number, work)?
                }
                None if joins.is_part(number, at) => {
                    Outcome::Passed("part of an event that a later row completes".to_owned())
                }
                None => {
                    Outcome::NotFired("its transaction has no rows that complete it".to_owned())
                }
            };
            outcomes.push(RuleOutcome {
                rule: usize::from(number),
                event_type: rule.event_type.clone(),
                outcome,
            });
        }
        Ok(outcomes)
    }

    fn outcome(
        &self,
        context: &Context<'_>,
        rule: &Rule,
        number: u16,
        work: &mut Work,
    ) -> Result<Outcome, Stop> {
        work.others.clear();
        let Some(each) = &rule.each else {
            return self.outcome_of(context, rule, number, work);
        };
        work.scratch.start(context.table);
        let elements = match context.elements_if(rule, each, &mut work.scratch) {
            Ok(Some(elements)) => elements,
            // Asked again, for what keeps it from firing.
            Ok(None) => return self.outcome_of(context, rule, number, work),
            Err(fault) => return Ok(Outcome::Quarantined(fault.problem)),
        };
        let mut events = 0;
        let mut silent = "each: there are no elements".to_owned();
        for item in elements.iter() {
            work.others.clear();
            match self.outcome_of(&context.at_item(item), rule, number, work)? {
                Outcome::Fired(fired) => events += fired,
                Outcome::NotFired(why) => silent = why,
                other => return Ok(other),
            }
        }
        Ok(match events {
            0 => Outcome::NotFired(silent),
            _ => Outcome::Fired(events),
        })
    }

    /// The same with other rows at hand.
    fn outcome_of(
        &self,
        context: &Context<'_>,
        rule: &Rule,
        number: u16,
        work: &mut Work,
    ) -> Result<Outcome, Stop> {
        work.scratch.start(context.table);
        let fired = match work.verdict(context, rule)? {
            Ok(Verdict::Fires) => {
                let event = self.occurrence(rule, number);
                let mut out = EncodedBatch::default();
                let context = context.beside(&work.others);
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
                let changed = rule.changed.as_ref();
                let reason = changed.map(|changed| context.same(changed, &mut work.scratch));
                return Ok(Outcome::NotFired(reason.unwrap_or_default()));
            }
            Ok(Verdict::NoTransition) => {
                let reason = context.other_transition(rule, &mut work.scratch);
                return Ok(Outcome::NotFired(reason));
            }
            Ok(Verdict::NotIn(only)) => {
                return Ok(Outcome::NotFired(rule.only[only].words()));
            }
            Ok(Verdict::WhenFalse(guard)) => {
                let text = &rule.when[guard].text;
                return Ok(Outcome::NotFired(format!("when is false: {text}")));
            }
            Err(fault) => Err(fault),
        };
        Ok(match fired {
            Ok(events) => Outcome::Fired(events),
            Err(fault) => Outcome::Quarantined(fault.problem),
        })
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
