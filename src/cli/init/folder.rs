//! The folder of the new pack: where nothing is overwritten.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::database::{Database, PasswordFrom};
use super::listing::{count, shell};
use crate::init::{self, Draft, SourceKind};
use crate::refusal::Refusal;

const CONFIG: &str = "rowbridge.toml";

/// A folder with room for a pack.
pub(super) struct Folder {
    path: PathBuf,
    pub(super) pipeline: String,
    /// Whether a configuration is written: not where one exists that names this folder.
    writes_config: bool,
}

impl Folder {
    /// Sees that nothing is in the way, before anybody is asked anything.
    pub(super) fn empty(
        path: &Path,
        database: &Database,
        pipeline: Option<&str>,
    ) -> anyhow::Result<Self> {
        let same = |a: &Path, b: &Path| {
            let plain = |path: &Path| -> Option<PathBuf> {
                Some(std::path::absolute(path).ok()?.components().collect())
            };
            plain(a) == plain(b)
        };
        let given = database
            .given
            .as_ref()
            .filter(|given| same(&given.mapping, path));
        let pipeline = match (pipeline, given) {
            (Some(name), _) if init::pipeline_name(name) != name => {
                let problem = format!("--pipeline {name}: not a name of 1 to 40 of a-z, 0-9 and _");
                let hint = format!("--pipeline {}", init::pipeline_name(name));
                return Err(Refusal::invalid(problem, hint).into());
            }
            (Some(name), _) => name.to_owned(),
            (None, Some(given)) => given.pipeline.clone(),
            (None, None) => {
                let absolute = std::path::absolute(path)?;
                let name = absolute.file_name().unwrap_or_default();
                init::pipeline_name(&name.to_string_lossy())
            }
        };
        let folder = Self {
            path: path.to_owned(),
            pipeline,
            writes_config: given.is_none(),
        };
        let mut names = vec!["mapping.toml", "schema.toml", "cases"];
        names.extend(folder.writes_config.then_some(CONFIG));
        for name in names {
            let file = path.join(name);
            if file.symlink_metadata().is_ok() {
                let problem = format!("{} exists, and nothing is overwritten", file.display());
                return Err(Refusal::invalid(problem, "name another folder with --out").into());
            }
        }
        Ok(folder)
    }

    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) fn write(&self, draft: &Draft, database: &Database) -> anyhow::Result<()> {
        let cases = self.path.join("cases");
        fs::create_dir_all(&cases).with_context(|| format!("cannot create {}", cases.display()))?;
        if self.writes_config {
            let config = init::config(&self.pipeline, &database.connection);
            self.write_file(CONFIG, &config)?;
        }
        draft
            .files
            .iter()
            .try_for_each(|file| self.write_file(&file.name, &file.text))
    }

    fn write_file(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    /// What was written, and the commands to go on with.
    pub(super) fn report(
        &self,
        draft: &Draft,
        database: &Database,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let file = |name: &str| self.path.join(name).display().to_string();
        let mut lines = vec![
            (file("mapping.toml"), count(draft.events, "event")),
            (file("schema.toml"), "columns and types".to_owned()),
            (file("cases/"), count(draft.cases, "case")),
        ];
        if self.writes_config {
            let what = format!("pipeline {}; see to its brokers", self.pipeline);
            lines.insert(0, (file(CONFIG), what));
        }
        let width = lines.iter().map(|(name, _)| name.len()).max();
        writeln!(out, "wrote")?;
        for (name, what) in &lines {
            writeln!(
                out,
                "  {name:width$}  {what}",
                width = width.unwrap_or_default()
            )?;
        }
        writeln!(out, "next")?;
        for statement in &draft.first {
            writeln!(out, "  first of all, on the database: {statement}")?;
        }
        if self.writes_config && database.password == PasswordFrom::NotCopied {
            writeln!(
                out,
                "  export {}=...   # or password_file in {CONFIG}: it was not copied",
                database.connection.kind.password_variable()
            )?;
        }
        let config = match &database.given {
            Some(given) if !self.writes_config => given.file.display().to_string(),
            _ => file(CONFIG),
        };
        let config = shell(&config);
        writeln!(out, "  rowbridge test {}", shell(&self.shown()))?;
        writeln!(out, "  rowbridge check -c {config}")?;
        let publication = match database.connection.kind {
            SourceKind::Postgres => " --create-publication",
            SourceKind::MongoDb => "",
        };
        writeln!(
            out,
            "  rowbridge dry-run -c {config}{publication} --limit 10"
        )
    }
}
