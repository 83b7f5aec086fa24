//! The tables of a test: which columns they have, what finds their rows, and what their source says of a change.

use std::fmt::Write as _;

use super::tape::Tape;

/// A column by its number in [`COLUMNS`].
pub(super) type Col = usize;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Text,
    /// Blanks at its end do not count.
    Char,
    Decimal,
    Texts,
}

impl Kind {
    /// Whether values of both compare.
    pub(super) fn is_like(self, other: Self) -> bool {
        let is_text = |kind| matches!(kind, Self::Text | Self::Char);
        self == other || (is_text(self) && is_text(other))
    }
}

/// Every column that a table may have: its name, its type in schema.toml and its kind.
pub(super) const COLUMNS: [(&str, &str, Kind); 9] = [
    ("id", "int8", Kind::Int),
    ("part", "char(3)", Kind::Char),
    ("ref", "int8", Kind::Int),
    ("code", "text", Kind::Text),
    ("state", "text", Kind::Text),
    ("grp", "text", Kind::Text),
    ("price", "numeric", Kind::Decimal),
    ("note", "text", Kind::Text),
    ("tags", "text[]", Kind::Texts),
];
pub(super) const ID: Col = 0;
pub(super) const PART: Col = 1;
pub(super) const REF: Col = 2;
pub(super) const CODE: Col = 3;
pub(super) const STATE: Col = 4;
pub(super) const GRP: Col = 5;
pub(super) const PRICE: Col = 6;
pub(super) const NOTE: Col = 7;
pub(super) const TAGS: Col = 8;

/// What a cell holds, as its source prints it; `None` is null.
pub(super) type Value = Option<&'static str>;

/// What cells of a kind may hold. Numbers that are equal are written in more than one way.
pub(super) const fn values(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Int => &["1", "2", "3", "4"],
        Kind::Text => &["a", "b", "c"],
        Kind::Char => &["a  ", "b  ", "c  "],
        Kind::Decimal => &["1.50", "1.5", "2", "2.00"],
        Kind::Texts => &["{}", "{a}", "{a,NULL}", "{b,b}"],
    }
}

/// How much of the old row the source sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// All of it.
    Full,
    /// The key, of a delete and of an update that changes it.
    Key,
}

/// One table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: String,
    /// In the order in which the source has them.
    pub(super) columns: Vec<Col>,
    pub(super) key: Vec<Col>,
    /// Columns that find one row together, if there is an index.
    pub(super) index: Option<Vec<Col>>,
    pub(super) identity: Identity,
    /// `before = "state"`.
    pub(super) before_from_state: bool,
}

impl Table {
    pub(super) fn read(number: usize, tape: &mut Tape<'_>) -> Self {
        let key = match tape.once_in(3) {
            false => vec![ID],
            true => vec![ID, PART],
        };
        let index = match tape.pick(3) {
            0 => None,
            1 => Some(vec![CODE]),
            _ => Some(vec![REF, CODE]),
        };
        let identity = tape.one_of(&[Identity::Full, Identity::Key]);
        let before_from_state = tape.once_in(3);
        let mut columns: Vec<Col> = (0..COLUMNS.len()).collect();
        columns.rotate_left(tape.pick(COLUMNS.len()));
        for optional in [PRICE, NOTE, TAGS] {
            if tape.once_in(4) {
                columns.retain(|column| *column != optional);
            }
        }
        Self {
            name: format!("t{number}"),
            columns,
            key,
            index,
            identity,
            before_from_state,
        }
    }

    /// The lines of schema.toml.
    pub(super) fn schema(&self) -> String {
        let key: Vec<String> = self.key.iter().map(|column| quoted(*column)).collect();
        let mut text = format!(
            "[{0}]\nkey = [{1}]\n[{0}.columns]\n",
            self.name,
            key.join(", ")
        );
        for column in &self.columns {
            let (name, ty, _) = COLUMNS[*column];
            writeln!(text, "{name} = \"{ty}\"").unwrap();
        }
        text
    }

    /// The line of `[tables]`.
    pub(super) fn declared(&self) -> String {
        let mut line = format!("{0} = {{ name = \"public.{0}\"", self.name);
        if let Some(index) = &self.index {
            let columns: Vec<String> = index.iter().map(|column| quoted(*column)).collect();
            write!(line, ", index = [[{}]]", columns.join(", ")).unwrap();
        }
        if self.before_from_state {
            line.push_str(", before = \"state\"");
        }
        line.push_str(" }\n");
        line
    }
}

fn quoted(column: Col) -> String {
    format!("\"{}\"", COLUMNS[column].0)
}
