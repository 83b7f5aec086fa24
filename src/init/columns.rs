//! What each column of a table is to a business: a state, an amount, a code, or nobody's concern.

use rowbridge_api::survey::{KnownValues, Length, Nullability, Origin, Survey, SurveyedColumn};
use rowbridge_api::{Kind, Type};

use super::names::{self, Taken};
use super::paths;
use crate::personal::{self, has};

/// A column as the mapping sees it.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Its place in the survey, and in each of its samples.
    pub(super) index: usize,
    pub(super) name: String,
    /// The words of its name.
    pub(super) words: Vec<String>,
    pub(super) ty: Type,
    pub(super) note: Option<String>,
    pub(super) nullability: Nullability,
    pub(super) length: Length,
    pub(super) values: Option<KnownValues>,
    /// What it is called in `data`.
    pub(super) field: String,
    pub(super) role: Role,
    /// Why it does not go into `data`.
    pub(super) withheld: Option<Withheld>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Part of what names the row.
    Key,
    /// Where the row is in its life.
    State,
    /// Something that is counted or paid.
    Amount,
    /// One of few values.
    Code,
    /// Kept by the application or the database for itself: when the row was touched, its version.
    Technical,
    Other,
}

/// Why a column is left out of `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Withheld {
    Personal,
    FreeText,
    Document,
    Untyped,
    Unwritable,
}

impl Withheld {
    pub(super) const fn why(self) -> &'static str {
        match self {
            Self::Personal => "looks personal",
            Self::FreeText => "free text: may hold personal data",
            Self::Document => "a document: see what it holds first",
            Self::Untyped => "no one type: see what it holds first",
            Self::Unwritable => "its name cannot be written in a path",
        }
    }

    /// Whether it may hold anything, of any length: no case shows it.
    pub(super) const fn is_in_no_case(self) -> bool {
        matches!(self, Self::Document | Self::Untyped)
    }

    /// Whether cases show a made-up value for it.
    pub(super) const fn is_made_up(self) -> bool {
        matches!(self, Self::Personal | Self::FreeText)
    }
}

const FREE_TEXT: &[&str] = &[
    "note", "notes", "comment", "comments", "remark", "remarks", "message", "feedback", "reason",
];
const STATE: &[&str] = &["status", "state", "stage", "phase", "lifecycle"];
/// Beside a `state`: that of a country.
const PLACES: &[&str] = &["city", "zip", "postcode", "country", "street"];
const AMOUNT: &[&str] = &[
    "amount",
    "price",
    "fare",
    "total",
    "cost",
    "fee",
    "balance",
    "quantity",
    "qty",
    "count",
    "sold",
    "capacity",
    "stock",
    "seats",
    "points",
    "paid",
    "available",
    "booked",
    "reserved",
    "discount",
    "refund",
    "refunded",
    "credit",
    "debit",
    "limit",
    "allotment",
];
const NO_AMOUNT: &[&str] = &[
    "lat",
    "lon",
    "lng",
    "latitude",
    "longitude",
    "rate",
    "ratio",
    "percent",
    "version",
    "no",
    "number",
];
const TECHNICAL: &[&str] = &[
    "updated",
    "modified",
    "changed",
    "touched",
    "created",
    "inserted",
    "synced",
    "version",
    "revision",
    "etl",
    "checksum",
    "hash",
    "rowversion",
    "modtime",
    "mtime",
    "ctime",
    "lastupdate",
    "lastupdated",
];
/// Types whose values are documents or bytes.
const DOCUMENTS: &[&str] = &["xml", "tsvector", "hstore"];

/// Most values of a code.
const MOST_CODES: usize = 12;
/// So many rows say something about how many values there are.
const TELLING_ROWS: usize = 20;

/// The columns that the source sends, judged. `key` names the row.
pub(super) fn judge(survey: &Survey, key: &[String]) -> Vec<Column> {
    let table = Table::of(survey);
    let mut fields = Taken::default();
    survey
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.hidden.is_none())
        .map(|(index, column)| {
            let mut column = table.column(index, column, key, &mut fields);
            if column.withheld.is_none() && holds_personal(survey, index) {
                column.withheld = Some(Withheld::Personal);
                column.values = None;
                if column.role != Role::Key {
                    column.role = Role::Other;
                }
            }
            column
        })
        .collect()
}

/// What the other columns and the table's name say about one.
struct Table {
    is_of_people: bool,
    has_place: bool,
}

impl Table {
    fn of(survey: &Survey) -> Self {
        let words: Vec<String> = survey
            .columns
            .iter()
            .flat_map(|column| names::words(&column.name))
            .collect();
        Self {
            is_of_people: personal::is_of_people(&survey.table.name),
            has_place: has(&words, PLACES),
        }
    }

    fn column(
        &self,
        index: usize,
        column: &SurveyedColumn,
        key: &[String],
        fields: &mut Taken,
    ) -> Column {
        let words = names::words(&column.name);
        let is_key = key.contains(&column.name);
        // Without what names the row there is no case, whatever it is.
        let withheld = self
            .withheld(column, &words)
            .filter(|withheld| !(is_key && withheld.is_in_no_case()));
        let role = match withheld {
            _ if is_key => Role::Key,
            Some(_) => Role::Other,
            None => self.role(column, &words),
        };
        let snake = words.join("_");
        let is_plain = paths::template(std::slice::from_ref(&column.name)).is_some();
        let choices = match is_plain || snake.is_empty() {
            true => vec![column.name.clone()],
            false => vec![snake, column.name.clone()],
        };
        Column {
            index,
            field: fields.take(&choices),
            name: column.name.clone(),
            words,
            ty: column.ty.clone(),
            note: column.note.clone(),
            nullability: column.nullability,
            length: column.length,
            values: column.values.clone().filter(|_| withheld.is_none()),
            role,
            withheld,
        }
    }

    fn withheld(&self, column: &SurveyedColumn, words: &[String]) -> Option<Withheld> {
        let is_text = matches!(column.ty.kind, Kind::Text | Kind::Char);
        if paths::path("row", &column.name).is_none() || paths::column(&column.name).is_none() {
            Some(Withheld::Unwritable)
        } else if personal::is_name(words, self.is_of_people)
            || personal::is_personal(words, &column.ty.kind)
        {
            Some(Withheld::Personal)
        } else if is_text && !has_codes(column) && has(words, FREE_TEXT) {
            Some(Withheld::FreeText)
        } else if column.ty.name == "bson" {
            Some(Withheld::Untyped)
        } else if is_document(&column.ty) {
            Some(Withheld::Document)
        } else {
            None
        }
    }

    fn role(&self, column: &SurveyedColumn, words: &[String]) -> Role {
        let kind = &column.ty.kind;
        let is_time = matches!(kind, Kind::Timestamp | Kind::TimestampTz);
        let is_number = matches!(kind, Kind::Int | Kind::Decimal | Kind::Float);
        let is_text = matches!(kind, Kind::Text | Kind::Char);
        let is_states = has(words, STATE) && !(self.has_place && words == ["state"]);
        if has(words, TECHNICAL) && (is_time || is_number || is_text && !has_codes(column)) {
            Role::Technical
        } else if is_text && is_states {
            Role::State
        } else if is_number
            && !has(words, NO_AMOUNT)
            && (*kind == Kind::Decimal || has(words, AMOUNT))
        {
            Role::Amount
        } else if *kind == Kind::Bool || is_text && has_codes(column) {
            Role::Code
        } else {
            Role::Other
        }
    }
}

/// Whether a value that was seen is an e-mail address or a card's number, whatever its column is called.
fn holds_personal(survey: &Survey, index: usize) -> bool {
    let column = &survey.columns[index];
    let seen = survey
        .samples
        .iter()
        .filter_map(|row| row.get(index)?.as_deref());
    let known = column.values.iter().flat_map(|known| &known.values);
    matches!(column.ty.kind, Kind::Text | Kind::Char)
        && seen
            .chain(known.map(String::as_str))
            .any(|value| is_address(value) || is_card(value))
}

fn is_address(value: &str) -> bool {
    value.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty() && host.contains('.') && !value.contains(char::is_whitespace)
    })
}

/// 13 to 19 digits whose last one is the check digit (Luhn, ISO/IEC 7812-1).
fn is_card(value: &str) -> bool {
    let digits: Option<Vec<u32>> = value
        .chars()
        .filter(|c| !matches!(c, ' ' | '-'))
        .map(|c| c.to_digit(10))
        .collect();
    let digits = digits.filter(|digits| (13..=19).contains(&digits.len()));
    let sum = |digits: Vec<u32>| -> u32 {
        let doubled = |digit: u32| digit * 2 - if digit > 4 { 9 } else { 0 };
        let places = digits.iter().rev().enumerate();
        places
            .map(|(place, digit)| match place % 2 {
                0 => *digit,
                _ => doubled(*digit),
            })
            .sum()
    };
    digits.is_some_and(|digits| sum(digits).is_multiple_of(10))
}

fn is_document(ty: &Type) -> bool {
    let element = match &ty.kind {
        Kind::Array(element) => &element.kind,
        kind => kind,
    };
    let base = ty.name.rsplit('.').next().unwrap_or_default();
    matches!(element, Kind::Json | Kind::Bytes) || DOCUMENTS.contains(&base.trim_end_matches("[]"))
}

fn has_codes(column: &SurveyedColumn) -> bool {
    column.values.as_ref().is_some_and(are_few)
}

/// Whether the values are few because there are few, not because few rows were seen.
fn are_few(known: &KnownValues) -> bool {
    let count = known.values.len();
    count <= MOST_CODES
        && match known.origin {
            Origin::Declared(_) => true,
            Origin::Statistics => count > 1,
            Origin::Sample { rows } => count > 1 && rows >= TELLING_ROWS && count * 5 <= rows,
        }
}

impl Column {
    /// Its path in an image.
    pub(super) fn path(&self, image: &str) -> String {
        paths::path(image, &self.name).unwrap_or_default()
    }

    /// Its values, if they are all there can be.
    pub(super) fn declared(&self) -> Option<&KnownValues> {
        self.values
            .as_ref()
            .filter(|known| matches!(known.origin, Origin::Declared(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_cards_are_known_by_their_look() {
        assert!(is_address("real.person@corp.test") && is_card("4111 1111 1111 1111"));
        for value in [
            "@",
            "a@b",
            "at home @ 5.30",
            "",
            "4111111111111112",
            "12",
            "2026-01-01",
        ] {
            assert!(!is_address(value) && !is_card(value), "{value}");
        }
    }
}
