//! A first mapping from what a source tells of its tables: suggestions to edit, that compile and pass.
//!
//! Pure: no IO. [`draft`] takes surveys and gives files. The source looked at its tables before
//! ([`rowbridge_api::survey`]); the command line writes the files after.
//!
//! - `columns`: what each column is to a business; `table`: key and old rows
//! - `rules`: which events that suggests
//! - `mapping_file`, `schema_file`, `config_file`, `case_file`: the files as text
//! - `cases`: changes that make each rule fire, evaluated by the compiled mapping
//! - `made_up`: values that no row has
//! - `names`, `paths`, `toml_text`: what things are called, and how that is written
//!
//! Deliberately absent: any source's catalogue, any question to the user, any guess at what an event means.

mod case_file;
mod cases;
mod columns;
mod config_file;
mod made_up;
mod mapping_file;
mod names;
mod paths;
mod rules;
mod schema_file;
mod table;
#[cfg(test)]
mod tests;
mod toml_text;

use std::sync::Arc;

use rowbridge_api::survey::{BeforeImage, Survey};

use crate::mapping::{Mapping, Pack, SourceFile};
use crate::paint::Look;

pub use config_file::{Connection, SourceKind};
pub use names::pipeline as pipeline_name;

/// What cases are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Rows of the source, but for what looks personal.
    Real,
    /// Values made up from the columns' types.
    MadeUp,
}

/// One file of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Relative to the pack's folder.
    pub name: String,
    pub text: String,
}

/// A pack, and what its user should know of it.
#[derive(Debug)]
pub struct Draft {
    /// `mapping.toml`, `schema.toml` and the cases.
    pub files: Vec<File>,
    pub events: usize,
    pub cases: usize,
    /// How many rows of the source the cases start from; values of others come in where one changes.
    pub real_rows: usize,
    /// Statements without which publishing the tables would break what their application does.
    pub first: Vec<String>,
    /// What to see to, a sentence each.
    pub warnings: Vec<String>,
}

/// The draft is not usable: a defect, since it is made to be.
#[derive(Debug, thiserror::Error)]
#[error("the suggested mapping does not compile, which is a defect of `init`:\n{0}")]
pub struct DraftError(String);

/// The configuration of the pack, as text.
#[must_use]
pub fn config(pipeline: &str, connection: &Connection) -> String {
    config_file::text(pipeline, connection)
}

/// Drafts the pack of `surveys` for `pipeline`.
///
/// # Errors
/// What it suggests does not compile.
pub fn draft(pipeline: &str, surveys: &[Survey], rows: Rows) -> Result<Draft, DraftError> {
    let mut namer = names::TableNamer::default();
    let mut types = names::Taken::default();
    let tables: Vec<(table::Table<'_>, rules::Rules)> = surveys
        .iter()
        .map(|survey| {
            let names = namer.name(&survey.table.schema, &survey.table.name);
            let table = table::Table::of(survey, names);
            let rules = rules::suggest(&table, &mut types);
            (table, rules)
        })
        .collect();
    let file = |name: &str, text: String| SourceFile {
        name: name.to_owned(),
        text,
    };
    let pack = Pack {
        mapping: file("mapping.toml", mapping_file::text(pipeline, &tables)),
        schema: file(
            "schema.toml",
            schema_file::text(tables.iter().map(|(table, _)| table)),
        ),
        params: toml::Table::new(),
    };
    let (mapping, _) = Mapping::compile(&pack)
        .map_err(|diagnostics| DraftError(diagnostics.render(Look::PLAIN)))?;
    let cases = cases::write(&Arc::new(mapping), &tables, rows);
    let mut warnings = warnings(&tables);
    if !cases.without.is_empty() {
        warnings.push(format!(
            "no case was found for {}: write one",
            cases.without.join(", ")
        ));
    }
    let mut files: Vec<File> = [pack.mapping, pack.schema]
        .into_iter()
        .map(|file| File {
            name: file.name,
            text: file.text,
        })
        .collect();
    let count = cases.files.len();
    files.extend(cases.files);
    Ok(Draft {
        files,
        events: tables.iter().map(|(_, rules)| rules.active.len()).sum(),
        cases: count,
        real_rows: cases.real_rows,
        first: first(&tables),
        warnings,
    })
}

fn first(tables: &[(table::Table<'_>, rules::Rules)]) -> Vec<String> {
    let surveys = tables.iter().map(|(table, _)| table.survey);
    let refused = surveys.filter(|survey| survey.before == BeforeImage::Refused);
    refused
        .filter_map(|survey| Some(survey.enabling.as_ref()?.statement.clone()))
        .collect()
}

fn warnings(tables: &[(table::Table<'_>, rules::Rules)]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (table, _) in tables {
        let name = &table.survey.table;
        if let (BeforeImage::Refused, Some(enabling)) =
            (&table.survey.before, &table.survey.enabling)
        {
            warnings.push(format!(
                "{name} has no replica identity: once it is published, every UPDATE and DELETE of it fails in the \
                 application. First {} or take it out of the mapping",
                enabling.statement
            ));
        }
        warnings.extend(
            table
                .survey
                .remarks
                .iter()
                .map(|remark| format!("{name}: {remark}")),
        );
    }
    let looked_at: Vec<String> = tables
        .iter()
        .filter_map(|(table, _)| {
            let seen = schema_file::looked_at(table.survey)?;
            Some(format!("{} ({seen})", table.survey.table))
        })
        .collect();
    if !looked_at.is_empty() {
        warnings.push(format!(
            "fields, types and values are those of the documents that were looked at, and others may have more: {}",
            looked_at.join("; ")
        ));
    }
    let withheld: Vec<String> = tables
        .iter()
        .flat_map(|(table, _)| {
            let made_up = table
                .columns
                .iter()
                .filter(|column| column.withheld.is_some_and(columns::Withheld::is_made_up));
            made_up.map(|column| format!("{}.{}", table.survey.table, column.name))
        })
        .collect();
    if !withheld.is_empty() {
        warnings.push(format!(
            "left out of every event's data because they look personal, and made up in the cases: {}",
            withheld.join(", ")
        ));
    }
    warnings
}
