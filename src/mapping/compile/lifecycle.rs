//! `[lifecycle.<name>]` and the transitions that events declare of it, to [`Lifecycle`]s.
//!
//! A lifecycle is drafted before the events are compiled, each event adds its transition, and then the whole is
//! looked at: what cannot be reached, what is said twice.

mod audit;

use std::cell::RefCell;
use std::collections::BTreeMap;

use rowbridge_api::{Kind, Op, OpSet};

use super::{Known, ResolvedParam, ResolvedTable, only, unknown_table};
use crate::mapping::diagnostic::{At, Diagnostic, Report, line_and_column, one_of};
use crate::mapping::expression::column::{self, ColumnPath};
use crate::mapping::expression::literal::{Literal, Written};
use crate::mapping::expression::path::{Place, PlaceType};
use crate::mapping::expression::{ItemScope, Reads, Rows, Scope};
use crate::mapping::file::MappingFile;
use crate::mapping::file::event::EventDecl;
use crate::mapping::file::lifecycle::{LifecycleDecl, TransitionDecl};
use crate::mapping::file::reader::Text;
use crate::mapping::lifecycle::{Lifecycle, State, Transition};
use crate::mapping::rule::{Only, RowImage, Side};

/// A lifecycle, the number of its table, and what it reads.
pub(super) struct CompiledLifecycle {
    pub(super) table: usize,
    pub(super) lifecycle: Lifecycle,
    pub(super) reads: Reads,
}

/// Every lifecycle of the mapping while events are compiled.
pub(super) struct Lifecycles<'a> {
    report: &'a Report,
    file: &'a MappingFile,
    /// As in the file; one that is broken is `None`, and nothing about it is reported twice.
    drafts: Vec<Option<Draft<'a>>>,
}

/// One lifecycle, its transitions not all known yet.
struct Draft<'a> {
    decl: &'a LifecycleDecl,
    line: usize,
    table: usize,
    /// Number among the lifecycles of its table.
    number: u16,
    state: ColumnPath,
    ty: PlaceType,
    /// What the database allows, where schema.toml knows it.
    labels: &'a [String],
    only: Box<[Only]>,
    reads: Reads,
    states: Vec<DraftState>,
    start: Vec<u16>,
    declared: Vec<Declared<'a>>,
}

/// A state, where it was first named.
struct DraftState {
    state: State,
    at: At,
}

/// One transition that somebody declares.
struct Declared<'a> {
    /// `None`: creation.
    from: Option<u16>,
    to: u16,
    at: At,
    by: By<'a>,
}

/// Who declares a transition.
#[derive(Clone, Copy)]
enum By<'a> {
    Silence,
    Event(&'a str, Extent),
}

/// Whether an event fires on every change that makes its transition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Every,
    Some,
}

impl TransitionDecl {
    /// The operations that can be this transition: a state is also created where it was null.
    pub(super) fn implied(&self) -> OpSet {
        match self.from {
            Some(_) => OpSet::default().with(Op::Update),
            None => [Op::Insert, Op::Update].into_iter().collect(),
        }
    }
}

/// Reports an operation in `on` that can never be the transition.
pub(super) fn check_op(report: &Report, transition: &TransitionDecl, op: Op) {
    let label = match (&transition.from, op) {
        (_, Op::Update) | (None, Op::Insert | Op::Read) => return,
        (_, Op::Delete | Op::Truncate) => "nothing follows the end of a row",
        (Some(_), _) => "a new row comes from no state",
    };
    let hint = match transition.from {
        Some(_) => "on = \"update\", or leave `on` out: `transition` implies it",
        None => "on = \"insert\", or leave `on` out: `transition` implies it",
    };
    report.push(
        Diagnostic::error(
            transition.at,
            format!("`transition` in a rule that runs on {}", op.as_str()),
        )
        .label(label)
        .hint(hint),
    );
}

impl<'a> Lifecycles<'a> {
    /// Drafts every lifecycle of the file.
    pub(super) fn read(
        report: &'a Report,
        text: &str,
        file: &'a MappingFile,
        tables: &'a [ResolvedTable],
        params: &BTreeMap<String, ResolvedParam>,
    ) -> Self {
        let mut lifecycles = Self {
            report,
            file,
            drafts: Vec::new(),
        };
        for decl in &file.lifecycles {
            let draft = lifecycles.draft(decl, text, tables, params);
            lifecycles.drafts.push(draft);
        }
        lifecycles
    }

    fn draft(
        &self,
        decl: &'a LifecycleDecl,
        text: &str,
        tables: &'a [ResolvedTable],
        params: &BTreeMap<String, ResolvedParam>,
    ) -> Option<Draft<'a>> {
        let short = decl.table.as_ref()?;
        let table = find_table(self.report, short, tables)?;
        let of_table =
            |draft: &&Option<Draft<'_>>| draft.as_ref().is_some_and(|draft| draft.table == table);
        let reads = RefCell::new(Reads::default());
        let scope = Scope {
            report: self.report,
            table: &tables[table].table,
            ops: [Op::Insert, Op::Update].into_iter().collect(),
            image: RowImage::Current,
            reads: &reads,
            others: &[],
            rows: Rows::Own,
            item: ItemScope::No,
        };
        let only: Option<Box<[Only]>> = only::compile(&scope, params, &decl.only)
            .into_iter()
            .collect();
        let column = decl.state.as_ref()?;
        let state = column::compile(&scope, column)?;
        scope.reads(state.slot, Side::Before);
        scope.reads(state.slot, Side::After);
        let ty = Place::Cell(state.on(Side::After)).ty(&scope);
        if let PlaceType::Column(ty) = &ty
            && !matches!(ty.kind, Kind::Text | Kind::Char | Kind::Int | Kind::Bool)
        {
            scope.error(
                Diagnostic::error(column.at, format!("a state is made from {}", ty.name))
                    .label("a state is text, a whole number or a boolean"),
            );
            return None;
        }
        let declared = &tables[table].table.columns[usize::from(state.slot)];
        let mut draft = Draft {
            decl,
            line: line_and_column(text, decl.name.at.start).0,
            table,
            number: u16::try_from(self.drafts.iter().filter(of_table).count()).ok()?,
            state,
            ty,
            labels: &declared.labels,
            only: only?,
            reads: reads.into_inner(),
            states: Vec::new(),
            start: Vec::new(),
            declared: Vec::new(),
        };
        let start: Vec<_> = decl
            .start
            .iter()
            .map(|text| draft.number_of(self.report, text))
            .collect();
        draft.start = start.into_iter().collect::<Option<_>>()?;
        draft.silent(self.report);
        Some(draft)
    }

    /// Adds the transition of an event.
    pub(super) fn transition(
        &mut self,
        scope: &Scope<'_>,
        event: &'a EventDecl,
        decl: &'a TransitionDecl,
        table: usize,
    ) -> Option<Transition> {
        let mut lifecycles = self.file.lifecycles.iter();
        let Some(number) = lifecycles.position(|known| known.name.value == decl.of.value) else {
            self.unknown(&decl.of);
            return None;
        };
        let draft = self.drafts[number].as_mut()?;
        if draft.table != table {
            let own = draft.decl.table.as_ref()?;
            scope.error(
                Diagnostic::error(
                    decl.of.at,
                    format!("lifecycle `{}` is of another table", decl.of.value),
                )
                .label(format!("of `{}`", own.value))
                .hint(format!("table = \"{}\"", own.value)),
            );
            return None;
        }
        draft.transition(self.report, event, decl)
    }

    fn unknown(&self, of: &Text) {
        let known: Vec<&str> = self
            .file
            .lifecycles
            .iter()
            .map(|known| known.name.value.as_str())
            .collect();
        self.report.push(
            Diagnostic::error(of.at, format!("unknown lifecycle `{}`", of.value))
                .label("no such [lifecycle.…]")
                .hint(format!(
                    "[lifecycle.{}]\ntable = \"reservation\"\nstate = \"status\"\nstart = [\"BOOKED\"]",
                    of.value
                ))
                .maybe_hint(one_of(&of.value, &known)),
        );
    }

    /// The lifecycles, numbered among rules from `rules` on.
    pub(super) fn finish(self, rules: usize) -> Vec<CompiledLifecycle> {
        let drafts = self.drafts.into_iter().flatten();
        let compiled = drafts.enumerate().filter_map(|(index, draft)| {
            draft.audit(self.report);
            draft.finish(u16::try_from(rules + index).ok()?)
        });
        compiled.collect()
    }
}

fn find_table(report: &Report, short: &Text, tables: &[ResolvedTable]) -> Option<usize> {
    let shorts: Vec<&str> = tables
        .iter()
        .map(|table| table.table.short.as_str())
        .collect();
    let Some(number) = shorts.iter().position(|known| *known == short.value) else {
        report.push(unknown_table(short, &shorts));
        return None;
    };
    (tables[number].known == Known::Yes).then_some(number)
}

impl<'a> Draft<'a> {
    fn silent(&mut self, report: &Report) {
        for [from, to] in &self.decl.silent {
            let numbers = (self.number_of(report, from), self.number_of(report, to));
            let (Some(from_state), Some(to_state)) = numbers else {
                continue;
            };
            if from_state == to_state {
                report.push(same_state(to.at, &to.value));
            }
            self.declared.push(Declared {
                from: Some(from_state),
                to: to_state,
                at: from.at,
                by: By::Silence,
            });
        }
    }

    fn transition(
        &mut self,
        report: &Report,
        event: &'a EventDecl,
        decl: &'a TransitionDecl,
    ) -> Option<Transition> {
        let from = decl.from.as_ref().map(|from| self.numbers(report, from));
        let to = self.numbers(report, &decl.to);
        let (from, to) = match from {
            Some(from) => (Some(from?), to?),
            None => (None, to?),
        };
        let from_states: Vec<Option<u16>> = match &from {
            Some(from) => from.iter().copied().map(Some).collect(),
            None => vec![None],
        };
        let pairs = from_states
            .iter()
            .flat_map(|from| to.iter().map(move |to| (*from, *to)));
        let pairs: Vec<_> = pairs.filter(|(from, to)| *from != Some(*to)).collect();
        if pairs.is_empty() {
            report.push(same_state(decl.at, &decl.to[0].value));
        }
        if from.is_none() {
            self.check_start(report, &decl.to, &to);
        }
        let name = event.event_type.as_ref().map_or("", |name| &name.value);
        let conditions = &event.clauses;
        let is_every = conditions.when.is_empty()
            && conditions.changed.is_none()
            && conditions.only.is_none()
            && conditions.on.is_none();
        let extent = if is_every {
            Extent::Every
        } else {
            Extent::Some
        };
        self.declared
            .extend(pairs.into_iter().map(|(from, to)| Declared {
                from,
                to,
                at: decl.at,
                by: By::Event(name, extent),
            }));
        Some(Transition {
            lifecycle: self.number,
            from: from.map(Vec::into_boxed_slice),
            to: to.into_boxed_slice(),
        })
    }

    /// An event that fires on the creation of rows in a state in which none may be created.
    fn check_start(&self, report: &Report, texts: &[Text], numbers: &[u16]) {
        for (text, number) in texts.iter().zip(numbers) {
            if !self.start.contains(number) {
                let start = self.decl.start.iter().chain([text]);
                let start: Vec<String> =
                    start.map(|state| format!("\"{}\"", state.value)).collect();
                report.push(
                    Diagnostic::error(text.at, format!("no row is created as `{}`", text.value))
                        .label(format!(
                            "not in `start` of lifecycle `{}`",
                            self.decl.name.value
                        ))
                        .hint(format!("start = [{}]", start.join(", "))),
                );
            }
        }
    }

    fn numbers(&mut self, report: &Report, states: &[Text]) -> Option<Vec<u16>> {
        let numbers: Vec<Option<u16>> = states
            .iter()
            .map(|state| self.number_of(report, state))
            .collect();
        numbers.into_iter().collect()
    }

    /// The number of a state; a new one where it is named for the first time.
    fn number_of(&mut self, report: &Report, text: &Text) -> Option<u16> {
        let literal = self.literal(report, text)?;
        let known = self
            .states
            .iter()
            .position(|known| known.state.literal == literal);
        let number = known.unwrap_or_else(|| {
            self.check_label(report, text);
            self.states.push(DraftState {
                state: State {
                    literal,
                    text: text.value.clone(),
                },
                at: text.at,
            });
            self.states.len() - 1
        });
        u16::try_from(number).ok()
    }

    fn literal(&self, report: &Report, text: &Text) -> Option<Literal> {
        let value = text.value.as_str();
        let PlaceType::Column(ty) = &self.ty else {
            return Some(Written::Text(value.to_owned()).untyped());
        };
        let written = match (&ty.kind, value) {
            (Kind::Bool, "true") => Written::Bool(true),
            (Kind::Bool, "false") => Written::Bool(false),
            _ => Written::Text(value.to_owned()),
        };
        match written.typed(ty) {
            Ok(literal) => Some(literal),
            Err(hint) => {
                report.push(
                    Diagnostic::error(text.at, format!("`{value}` is not a {}", ty.name))
                        .label(format!("the states are {}", ty.name))
                        .hint(hint),
                );
                None
            }
        }
    }

    fn check_label(&self, report: &Report, text: &Text) {
        if self.labels.is_empty() || self.labels.contains(&text.value) {
            return;
        }
        let labels: Vec<&str> = self.labels.iter().map(String::as_str).collect();
        let column = self.decl.state.as_ref().map_or("", |state| &state.value);
        report.push(
            Diagnostic::error(
                text.at,
                format!("`{}` is no label of column `{column}`", text.value),
            )
            .label("not among its labels in schema.toml")
            .maybe_hint(one_of(&text.value, &labels)),
        );
    }

    fn finish(self, number: u16) -> Option<CompiledLifecycle> {
        let moves = self
            .declared
            .iter()
            .filter_map(|declared| Some(((declared.from?, declared.to), declared.at)));
        let mut moves: Vec<((u16, u16), At)> = moves.collect();
        moves.sort_by_key(|(pair, _)| *pair);
        moves.dedup_by_key(|(pair, _)| *pair);
        let (declared, declared_at): (Vec<_>, Vec<_>) = moves.into_iter().unzip();
        let states = self.states.into_iter().map(|named| named.state);
        Some(CompiledLifecycle {
            table: self.table,
            reads: self.reads,
            lifecycle: Lifecycle {
                rule: format!("lifecycle {}", self.decl.name.value),
                number,
                line: self.line,
                state: self.state,
                states: states.collect(),
                start: self.start.into(),
                start_at: self.decl.start.iter().map(|text| text.at).collect(),
                declared: declared.into(),
                declared_at: declared_at.into(),
                only: self.only,
                illegal: self.decl.illegal,
            },
        })
    }
}

fn same_state(at: At, state: &str) -> Diagnostic {
    Diagnostic::error(at, format!("`{state}` to `{state}` is no transition"))
        .label("the state is the same")
        .hint("leave it out: what does not change the state is always legal")
}
