//! Rules made of tapes: every tape gives a mapping that compiles.

use rowbridge_api::Op;

use super::condition::{Condition, Operand, Place, Relation, Side, Thing};
use super::rules::{
    Body, Changed, Event, Field, Key, Lifecycle, Lookup, Of, OfRow, OfRows, Part, Rules, TOPICS,
    Transition,
};
use super::table::{COLUMNS, Col, GRP, Kind, PRICE, REF, STATE, TAGS, Table, values};
use super::tape::Tape;

const STATES: [&str; 3] = ["a", "b", "c"];

/// What a mapping is made of.
pub(super) struct Tapes<'a> {
    pub(super) tables: &'a [Vec<u8>],
    pub(super) lifecycles: &'a [Vec<u8>],
    pub(super) events: &'a [Vec<u8>],
}

pub(super) fn rules(tapes: &Tapes<'_>) -> Rules {
    let tables = tapes.tables.iter().enumerate();
    let tables: Vec<Table> = tables
        .map(|(number, tape)| Table::read(number, &mut Tape::new(tape)))
        .collect();
    let mut drafting = Drafting {
        rules: Rules {
            tables,
            lifecycles: Vec::new(),
            events: Vec::new(),
        },
        silent: Vec::new(),
    };
    for tape in tapes.lifecycles {
        drafting.lifecycle(&mut Tape::new(tape));
    }
    for tape in tapes.events {
        drafting.event(&mut Tape::new(tape));
    }
    drafting.finish()
}

struct Drafting {
    rules: Rules,
    /// Transitions of each lifecycle that are silent, if no event declares them.
    silent: Vec<Vec<(&'static str, &'static str)>>,
}

impl Drafting {
    fn lifecycle(&mut self, tape: &mut Tape<'_>) {
        let table = tape.pick(self.rules.tables.len());
        if self.rules.lifecycle_of(table).is_some() {
            return;
        }
        let start = tape.one_of(&[&["a"][..], &["a", "b"][..]]);
        let silent = (0..tape.pick(4)).map(|_| (tape.one_of(&STATES), tape.one_of(&STATES)));
        let mut silent: Vec<_> = silent.filter(|(from, to)| from != to).collect();
        silent.sort_unstable();
        silent.dedup();
        self.silent.push(silent);
        self.rules.lifecycles.push(Lifecycle {
            table,
            start: start.to_vec(),
            silent: Vec::new(),
            ignores: tape.once_in(3),
        });
    }

    fn event(&mut self, tape: &mut Tape<'_>) {
        let of = match tape.once_in(3) {
            false => Of::Row(self.of_row(tape)),
            true => Of::Rows(self.of_rows(tape)),
        };
        let number = self.rules.events.len();
        // Now and then two rules give the same type.
        let name = match (tape.once_in(6), &of) {
            (true, Of::Row(_)) if number > 0 => "E0".to_owned(),
            _ => format!("E{number}"),
        };
        let mut scope = Scope::of(&self.rules.tables, &of);
        let mut lookups = Vec::new();
        let is_truncate = matches!(&of, Of::Row(row) if row.ops == [Op::Truncate]);
        for _ in 0..tape.pick(3) {
            if let Some(lookup) = scope.lookup(tape).filter(|_| !is_truncate) {
                scope.looked_up.push(lookup.table);
                lookups.push(lookup);
            }
        }
        let when = scope.maybe(tape, 2);
        let check = scope.maybe(tape, 5);
        let body = match tape.once_in(8) {
            true => Body::Tombstone,
            false => Body::Data((0..=tape.pick(3)).map(|_| scope.field(tape)).collect()),
        };
        let key = scope.key(tape, is_truncate);
        let topic = tape.one_of(&TOPICS);
        self.rules.events.push(Event {
            name,
            topic,
            of,
            lookups,
            when,
            check,
            key,
            body,
        });
    }

    fn of_row(&self, tape: &mut Tape<'_>) -> OfRow {
        let table = tape.pick(self.rules.tables.len());
        let columns = &self.rules.tables[table].columns;
        let mut row = OfRow {
            table,
            ops: vec![Op::Insert, Op::Update, Op::Delete],
            image_before: false,
            changed: None,
            transition: None,
            reverts: None,
            each: None,
        };
        match tape.pick(10) {
            0 => {}
            1 => row.ops = vec![Op::Update],
            2 => row.ops = vec![Op::Delete],
            3 => row.ops = vec![Op::Read, Op::Insert],
            4 => row.ops = vec![Op::Update, Op::Delete],
            5 => {
                row.ops = vec![Op::Update];
                row.changed = Some(Changed {
                    all: tape.once_in(2),
                    columns: (0..=tape.pick(2)).map(|_| tape.one_of(columns)).collect(),
                });
            }
            6..=8 => match self.rules.lifecycle_of(table) {
                Some(lifecycle) => {
                    let transition = transition(lifecycle, tape);
                    row.ops = match transition.from {
                        Some(_) => vec![Op::Update],
                        None => vec![Op::Insert, Op::Update],
                    };
                    row.transition = Some(transition);
                }
                None => row.ops = vec![Op::Insert],
            },
            _ => row.ops = vec![Op::Truncate],
        }
        if row.ops == [Op::Truncate] {
            return row;
        }
        let has_old = row
            .ops
            .iter()
            .all(|op| matches!(op, Op::Update | Op::Delete));
        row.image_before = tape.once_in(4) && has_old;
        row.each = Some(TAGS).filter(|tags| tape.once_in(4) && columns.contains(tags));
        row.reverts = self.reverts(table, tape);
        row
    }

    /// The type of an earlier event of the same table, to be taken back.
    fn reverts(&self, table: usize, tape: &mut Tape<'_>) -> Option<String> {
        let mut of_table = self.rules.events.iter().filter(|event| match &event.of {
            Of::Row(row) => row.table == table && row.ops != [Op::Truncate],
            Of::Rows(_) => false,
        });
        let found = of_table.next().map(|event| event.name.clone());
        found.filter(|_| tape.once_in(2))
    }

    fn of_rows(&self, tape: &mut Tape<'_>) -> OfRows {
        let mut parts: Vec<Part> = Vec::new();
        for number in 0..=(1 + tape.pick(2)) {
            let table = tape.pick(self.rules.tables.len());
            let ops = match tape.pick(4) {
                0 => vec![Op::Insert],
                1 => vec![Op::Delete],
                2 => vec![Op::Update],
                _ => vec![Op::Insert, Op::Update],
            };
            let mut own = Scope::of_change(&self.rules.tables, table, &ops);
            parts.push(Part {
                table,
                ops,
                when: own.maybe(tape, 4),
                optional: number > 0 && tape.once_in(3),
            });
        }
        let by = tape.one_of(&[GRP, STATE, REF]);
        OfRows {
            by,
            consume: tape.once_in(2),
            parts,
        }
    }

    /// The rules, with what is silent of each lifecycle.
    fn finish(mut self) -> Rules {
        for number in 0..self.silent.len() {
            let table = self.rules.lifecycles[number].table;
            let mut silent = std::mem::take(&mut self.silent[number]);
            silent.retain(|(from, to)| !self.rules.declares(table, from, to));
            self.rules.lifecycles[number].silent = silent;
        }
        self.rules
    }
}

fn transition(lifecycle: &Lifecycle, tape: &mut Tape<'_>) -> Transition {
    if tape.once_in(3) {
        return Transition {
            from: None,
            to: vec![tape.one_of(&lifecycle.start)],
        };
    }
    let from = tape.pick(STATES.len());
    let to = (from + 1 + tape.pick(2)) % STATES.len();
    let both = tape.once_in(3);
    let others = STATES
        .iter()
        .copied()
        .filter(|state| *state != STATES[from]);
    Transition {
        from: Some(vec![STATES[from]]),
        to: match both {
            true => others.collect(),
            false => vec![STATES[to]],
        },
    }
}

/// What an expression may read.
struct Scope<'a> {
    tables: &'a [Table],
    /// The change's own table and the images that it has.
    own: Option<(usize, Vec<Side>)>,
    /// The tables of what is looked up so far.
    looked_up: Vec<usize>,
    /// The tables of the parts, and the images that they have.
    parts: Vec<(usize, Vec<Side>)>,
    item: bool,
}

fn sides(ops: &[Op]) -> Vec<Side> {
    let has_old = |op: &Op| matches!(op, Op::Update | Op::Delete);
    let mut sides = vec![Side::Row];
    if ops.iter().any(has_old) {
        sides.push(Side::Before);
    }
    if ops.iter().any(|op| *op != Op::Delete) {
        sides.push(Side::After);
    }
    sides
}

impl<'a> Scope<'a> {
    fn of(tables: &'a [Table], of: &Of) -> Self {
        match of {
            Of::Row(row) => Self {
                item: row.each.is_some(),
                ..Self::of_change(tables, row.table, &row.ops)
            },
            Of::Rows(rows) => Self {
                tables,
                own: None,
                looked_up: Vec::new(),
                parts: rows
                    .parts
                    .iter()
                    .map(|part| (part.table, sides(&part.ops)))
                    .collect(),
                item: false,
            },
        }
    }

    fn of_change(tables: &'a [Table], table: usize, ops: &[Op]) -> Self {
        Self {
            tables,
            own: Some((table, sides(ops))),
            looked_up: Vec::new(),
            parts: Vec::new(),
            item: false,
        }
    }

    /// Every place of a kind.
    fn places(&self, wanted: impl Fn(Kind) -> bool) -> Vec<Place> {
        let mut places = Vec::new();
        let columns = |table: usize| self.tables[table].columns.iter().copied();
        for side in self.own.iter().flat_map(|(_, sides)| sides) {
            let table = self.own.as_ref().map_or(0, |(table, _)| *table);
            places.extend(columns(table).map(|column| Place::Own(*side, column)));
        }
        for (number, (table, sides)) in self.parts.iter().enumerate() {
            for side in sides {
                places.extend(columns(*table).map(|column| Place::Part(number, *side, column)));
            }
        }
        for (number, table) in self.looked_up.iter().enumerate() {
            places.extend(columns(*table).map(|column| Place::LookedUp(number, column)));
        }
        if self.item {
            places.push(Place::Item);
        }
        // What was added last is what is asked for most.
        places.reverse();
        places.retain(|place| wanted(place.kind()));
        places
    }

    fn place(&self, tape: &mut Tape<'_>, wanted: impl Fn(Kind) -> bool) -> Option<Place> {
        let places = self.places(wanted);
        let number = tape.pick(places.len());
        places.get(number).copied()
    }

    fn lookup(&self, tape: &mut Tape<'_>) -> Option<Lookup> {
        let table = tape.pick(self.tables.len());
        let known = &self.tables[table];
        let columns: &[Col] = match (&known.index, tape.once_in(2)) {
            (Some(index), true) => index,
            _ => &known.key,
        };
        let by = columns.iter().map(|column| {
            let kind = COLUMNS[*column].2;
            Some((*column, self.place(tape, |found| found.is_like(kind))?))
        });
        Some(Lookup {
            table,
            by: by.collect::<Option<_>>()?,
            may_miss: tape.once_in(2),
        })
    }

    /// A condition, once in so many times.
    fn maybe(&mut self, tape: &mut Tape<'_>, count: usize) -> Option<Condition> {
        tape.once_in(count)
            .then(|| self.condition(tape, 0))
            .flatten()
    }

    fn condition(&self, tape: &mut Tape<'_>, depth: usize) -> Option<Condition> {
        let one = |tape: &mut Tape<'_>| self.condition(tape, depth + 1).map(Box::new);
        let choice = tape.pick(if depth < 2 { 8 } else { 4 });
        Some(match choice {
            0..=2 => self.comparison(tape)?,
            3 => match self.thing(tape) {
                Some(thing) => Condition::Exists(thing),
                None => self.comparison(tape)?,
            },
            4 => Condition::Not(one(tape)?),
            5 => Condition::Or(one(tape)?, one(tape)?),
            _ => Condition::And(one(tape)?, one(tape)?),
        })
    }

    fn comparison(&self, tape: &mut Tape<'_>) -> Option<Condition> {
        let place = self.place(tape, |kind| kind != Kind::Texts)?;
        let kind = place.kind();
        let relation = tape.one_of(&[Relation::Equal, Relation::NotEqual, Relation::Less]);
        let operand = match tape.pick(4) {
            0 => Operand::Null,
            1 | 2 => Operand::Literal(kind, tape.one_of(values(kind))),
            _ => Operand::Place(self.place(tape, |found| found.is_like(kind))?),
        };
        // Null has no order, and a literal after a place with one is what people write.
        let relation = match (relation, &operand) {
            (Relation::Less, Operand::Null) => Relation::NotEqual,
            (relation, _) => relation,
        };
        Some(Condition::Compare(place, relation, operand))
    }

    fn thing(&self, tape: &mut Tape<'_>) -> Option<Thing> {
        let mut things: Vec<Thing> = Vec::new();
        things.extend((0..self.looked_up.len()).map(Thing::LookedUp));
        things.extend((0..self.parts.len()).map(Thing::Part));
        if self.own.is_some() {
            things.push(Thing::Image(Side::Before));
        }
        let number = tape.pick(things.len());
        things.get(number).copied()
    }

    fn field(&self, tape: &mut Tape<'_>) -> Field {
        let path = |tape: &mut Tape<'_>| self.place(tape, |_| true).expect("every table has a key");
        let plain = |kind: Kind| kind != Kind::Texts;
        match tape.pick(8) {
            5 => Field::Path {
                place: path(tape),
                required: true,
            },
            6 => match self.place(tape, plain) {
                Some(place) => Field::Template(place),
                None => Field::Path {
                    place: path(tape),
                    required: false,
                },
            },
            7 if self.own.as_ref().is_some_and(|(_, sides)| sides.len() == 3) => {
                let own = self.own.as_ref().map_or(0, |(table, _)| *table);
                let has_price = self.tables[own].columns.contains(&PRICE);
                Field::Delta(if has_price {
                    tape.one_of(&[REF, PRICE])
                } else {
                    REF
                })
            }
            4 => Field::Coalesce(vec![path(tape), path(tape)]),
            _ => Field::Path {
                place: path(tape),
                required: false,
            },
        }
    }

    fn key(&self, tape: &mut Tape<'_>, is_truncate: bool) -> Key {
        if is_truncate {
            return Key::Template("all", Vec::new());
        }
        if self.own.is_some() && !tape.once_in(3) {
            return Key::OfTable;
        }
        let plain = |kind: Kind| kind != Kind::Texts;
        let count = 1 + tape.pick(2);
        let places = (0..count).filter_map(|_| self.place(tape, plain));
        Key::Template("k", places.collect())
    }
}
