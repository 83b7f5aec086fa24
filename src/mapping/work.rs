//! What evaluation works with from rule to rule: the rows that are looked up, and the events that are taken back.

use rowbridge_api::{Batch, Cell, Change, Op};
use uuid::Uuid;

use super::Stop;
use super::context::{Context, Written};
use super::fault::Fault;
use super::kept::{self, Keeper};
use super::memory::Memory;
use super::others::Others;
use super::rule::{BeforeFrom, By, Judges, Lookup, Missing, RowImage, Rule, Side, Table};
use super::verdict::{Scratch, Verdict};

/// What evaluation works with.
pub(super) struct Work {
    pub(super) scratch: Scratch,
    /// The other rows that the rule at hand reads.
    pub(super) others: Others,
    pub(super) keeper: Keeper,
    /// Values that a row is looked up by.
    values: Vec<Vec<u8>>,
    /// The key of the entity at hand, as text.
    pub(super) entity: Vec<u8>,
    /// The change at hand with what its source left out.
    pub(super) whole: Batch,
}

impl Work {
    /// `gathers` says whether transactions are evaluated when all of them is there.
    pub(super) fn new(memory: Box<dyn Memory>, gathers: bool) -> Self {
        Self {
            scratch: Scratch::default(),
            others: Others::default(),
            keeper: Keeper::new(memory, gathers),
            values: Vec::new(),
            entity: Vec::new(),
            whole: Batch::default(),
        }
    }

    /// Keeps a change of a table whose rows are kept. Where the row before comes from there, the change is copied into
    /// `whole`, with what its source left out.
    ///
    /// # Errors
    /// The change does not say which row it is about, or the memory cannot be read.
    pub(super) fn keep(
        &mut self,
        place: kept::Place<'_>,
        batch: &Batch,
        change: &Change,
        whole: &mut Batch,
    ) -> Result<Option<Change>, Stop> {
        let completed = match place.table.before {
            BeforeFrom::State => Some(self.keeper.complete(place, batch, change, whole)?),
            BeforeFrom::Source => None,
        };
        self.keeper.follow(place, batch, change)?;
        Ok(completed)
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
        let verdict = match rule.judges {
            Judges::TheChange => context.verdict(rule, &mut self.scratch),
            Judges::LookedUp => context.of_the_change(rule, &mut self.scratch),
        };
        let is_decided = rule.lookups.is_empty() && rule.judges == Judges::TheChange;
        if verdict != Ok(Verdict::Fires) || is_decided {
            return Ok(verdict);
        }
        for lookup in &rule.lookups {
            self.look_up(context, lookup)?;
        }
        let verdict = match rule.judges {
            Judges::TheChange => verdict,
            Judges::LookedUp => context.beside(&self.others).guarded(rule),
        };
        // A row that is not there matters only to a rule that fires, or to a condition that reads it.
        Ok(match (&verdict, self.others.missing()) {
            (Ok(Verdict::Fires), Some(fault)) => Err(fault.clone()),
            _ => verdict,
        })
    }

    /// Adds the row of a lookup to those at hand.
    fn look_up(&mut self, context: &Context<'_>, lookup: &Lookup) -> Result<(), Stop> {
        let Self {
            others,
            keeper,
            values,
            ..
        } = self;
        let table = &context.mapping.tables[lookup.table];
        others.add(&lookup.name, lookup.table, |others, row| {
            let found = match context.beside(others).values_of(lookup, values) {
                Ok(Written::Nothing) => None,
                Ok(Written::Value) => keeper.find(table, lookup, values, row)?,
                Err(unreadable) => return Ok(Err(Some(unreadable))),
            };
            Ok::<_, Stop>(match (found, lookup.missing) {
                (Some(bound), _) => Ok(bound),
                (None, Missing::Null) => Err(None),
                (None, Missing::Error) => Err(Some(no_row(table, lookup))),
            })
        })
    }

    /// The event that a rule takes back, if it takes one back and that is known.
    pub(super) fn reverted(
        &mut self,
        context: &Context<'_>,
        rule: &Rule,
    ) -> Result<Result<Option<Uuid>, Fault>, Stop> {
        // A truncate is about no entity: it ends all of them.
        let is_truncate = context.change.op == Op::Truncate;
        if is_truncate || (rule.reverts.is_none() && !rule.is_reverted) {
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

    /// The entities that end with a change have ended: that of a deleted row, that of a row under the key that it had,
    /// all of a table that is truncated.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(super) fn forget_events(&mut self, context: &Context<'_>) -> Result<(), Stop> {
        let has_ended = match context.change.op {
            Op::Truncate => return self.keeper.forget_events(context.table),
            Op::Insert | Op::Read => false,
            Op::Delete => true,
            Op::Update => context.has_another_key(),
        };
        if !has_ended {
            return Ok(());
        }
        self.entity.clear();
        let before = context.with_image(RowImage::Before);
        if before.write_table_key(&mut self.entity).is_ok() {
            for event_type in &context.table.reverted {
                self.keeper
                    .forget_event(context.table, event_type, &self.entity);
            }
        }
        Ok(())
    }
}

#[cold]
fn no_row(table: &Table, lookup: &Lookup) -> Fault {
    let slots: &[u16] = match lookup.by {
        By::Key => &table.key,
        By::Index(number) => &table.indexes[number],
    };
    Fault::new(format!(
        "lookup `{}` found no row of {} by {}",
        lookup.name,
        table.short,
        table.names_of(slots)
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

    /// Whether an update says that its row had another key before.
    fn has_another_key(&self) -> bool {
        let mut slots = self.table.key.iter();
        slots.any(|slot| {
            let cell = |side| {
                let (_, index) = self.bound.column(*slot)?;
                match self.image(side)?.cell(index) {
                    Cell::Value(value) => Some(value),
                    Cell::Null | Cell::Unavailable => None,
                }
            };
            matches!((cell(Side::Before), cell(Side::After)), (Some(old), Some(new)) if old != new)
        })
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
            if let Some(ty) = self.type_of(place) {
                kept::canonical(ty, value);
            }
            kept::canonical(&table.columns[usize::from(*slot)].ty, value);
        }
        Ok(Written::Value)
    }
}
