//! One table's draft: its names, its key, and what the source sends of it.

use rowbridge_api::survey::{BeforeImage, Nullability, Survey};

use super::columns::{self, Column};
use super::names::TableNames;
use super::paths;

/// A table of the mapping.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub(super) survey: &'a Survey,
    pub(super) names: TableNames,
    pub(super) columns: Vec<Column>,
    pub(super) key: Key,
}

/// What names a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Primary(Vec<String>),
    /// Unique and never null, but no primary key.
    Unique(Vec<String>),
    /// Looks like a number of the row's own; nothing holds it unique.
    Guessed(Vec<String>),
    /// Nothing does: a stand-in for what needs a key, and records are keyed by transaction.
    None(Vec<String>),
}

impl Key {
    pub(super) fn columns(&self) -> &[String] {
        let (Self::Primary(columns)
        | Self::Unique(columns)
        | Self::Guessed(columns)
        | Self::None(columns)) = self;
        columns
    }

    fn of(survey: &Survey) -> Self {
        let is_sent = |names: &[String]| {
            let hidden = |name: &String| {
                let column = survey.columns.iter().find(|column| column.name == *name);
                column.is_none_or(|column| column.hidden.is_some())
            };
            !names.is_empty() && !names.iter().any(hidden)
        };
        if is_sent(&survey.key) {
            return Self::Primary(survey.key.clone());
        }
        let of_old_row = |names: &&Vec<String>| match &survey.before {
            BeforeImage::Columns(sent) => names.iter().all(|name| sent.contains(name)),
            BeforeImage::Whole | BeforeImage::Refused => true,
        };
        let mut unique = survey.unique.iter().filter(|names| is_sent(names));
        let best = unique.clone().find(of_old_row).or_else(|| unique.next());
        if let Some(best) = best {
            return Self::Unique(best.clone());
        }
        let sent = || {
            survey
                .columns
                .iter()
                .filter(|column| column.hidden.is_none())
        };
        let never_null = |column: &&rowbridge_api::survey::SurveyedColumn| {
            column.nullability == Nullability::NeverNull
        };
        let names_a_row = |name: &str| {
            let words = super::names::words(name);
            words
                .last()
                .is_some_and(|word| ["id", "uuid", "guid", "no", "number"].contains(&word.as_str()))
        };
        if let Some(column) = sent()
            .filter(never_null)
            .find(|column| names_a_row(&column.name))
        {
            return Self::Guessed(vec![column.name.clone()]);
        }
        let stand_in = sent().find(never_null).or_else(|| sent().next());
        Self::None(
            stand_in
                .map(|column| column.name.clone())
                .into_iter()
                .collect(),
        )
    }
}

impl<'a> Table<'a> {
    pub(super) fn of(survey: &'a Survey, names: TableNames) -> Self {
        let key = Key::of(survey);
        let naming: &[String] = match &key {
            Key::None(_) => &[],
            named => named.columns(),
        };
        Self {
            columns: columns::judge(survey, naming),
            survey,
            names,
            key,
        }
    }

    pub(super) fn sends_whole_rows(&self) -> bool {
        self.survey.before == BeforeImage::Whole
    }

    /// Whether the old row of a delete is named by what is sent of it.
    pub(super) fn sends_deleted_key(&self) -> bool {
        match (&self.survey.before, &self.key) {
            (BeforeImage::Whole, _) => true,
            (BeforeImage::Refused, _) | (_, Key::None(_)) => false,
            (BeforeImage::Columns(sent), key) => {
                key.columns().iter().all(|column| sent.contains(column))
            }
        }
    }

    /// The key as a template, where it says more than the default.
    pub(super) fn key_template(&self) -> Option<String> {
        match &self.key {
            Key::None(_) => Some("{$.tx.id}".to_owned()),
            key => paths::template(key.columns()),
        }
    }

    pub(super) fn key_comment(&self) -> &'static str {
        match &self.key {
            Key::Primary(_) => "the primary key: its changes stay in order",
            Key::Unique(_) => "unique in the database: its changes stay in order",
            Key::Guessed(_) => {
                "a guess: the table has no primary key, and nothing holds this unique"
            }
            Key::None(_) => "no column names a row: records are spread by transaction",
        }
    }
}
