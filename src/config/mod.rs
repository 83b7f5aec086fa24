//! The configuration: defaults, then the file, then the environment.
//!
//! figment does the layering and the extraction into [`Config`]. It forgets lines and columns, so before it
//! runs the file is parsed with spans and everything is checked against one description of all keys
//! ([`schema`]), from which the defaults, the variables and docs/configuration.md are made too. What is wrong
//! is reported all at once.
//!
//! Not here: whether database and broker agree with it; that is `check`.

#[cfg(test)]
mod docs;
mod given;
mod render;
mod rules;
mod schema;
mod secret;
mod settings;
mod size;

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::Serialized;
use toml::de::DeTable;

use given::{Given, Origin, Problem};
use schema::{KEYS, Presence};

pub use render::ConfigProblems;
pub use secret::{Secret, Url};
pub use settings::{
    Config, Http, KafkaSettings, Limits, Log, LogFormat, MongoDbSettings, OnDrop, PostgresSettings,
    PrivacySettings, SinkConfig, SourceConfig, Tls,
};

/// Where the file is looked for when none is named.
pub const DEFAULT_FILES: [&str; 2] = ["rowbridge.toml", "/etc/rowbridge/rowbridge.toml"];

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// None was named, and there is none where it is looked for.
    #[error("no configuration file: neither ./{} nor {} exists", DEFAULT_FILES[0], DEFAULT_FILES[1])]
    NoFile,
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    /// It, or a variable, is wrong.
    #[error("{0}")]
    Invalid(ConfigProblems),
}

impl Config {
    /// Reads the file `named`, or else the first of [`DEFAULT_FILES`], and the environment.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        let variables: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let path = match named {
            Some(path) => path.to_owned(),
            None => DEFAULT_FILES
                .iter()
                .map(PathBuf::from)
                .find(|path| path.exists())
                .ok_or(ConfigError::NoFile)?,
        };
        let text = std::fs::read_to_string(&path).map_err(|cause| ConfigError::Unreadable {
            path: path.clone(),
            cause,
        })?;
        Self::from_text(&path, &text, &variables)
    }

    /// The configuration that `text`, read from `path`, and `variables` make.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn from_text(
        path: &Path,
        text: &str,
        variables: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let (root, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let problems = errors.iter().map(not_toml).collect();
            return Err(invalid(&name, &render::mask_lines(text), problems));
        }
        let masked = render::mask(text, root.get_ref());
        let mut given = Given::default();
        given.take_file(root.get_ref());
        let mut from_variables = Given::default();
        from_variables.take_environment(variables);

        let (file_tree, variable_tree) = (given.tree(), from_variables.tree());
        given.overlay(from_variables);
        rules::check(&mut given);
        if !given.problems.is_empty() {
            return Err(invalid(&name, &masked, given.problems));
        }

        let figment = Figment::from(Serialized::defaults(defaults(&given)))
            .merge(Serialized::defaults(file_tree))
            .merge(Serialized::defaults(variable_tree));
        let config: Self = figment.extract().map_err(|error| {
            let problem = |error: figment::Error| Problem {
                title: error.to_string(),
                origin: Origin::Nowhere,
                label: String::new(),
                help: None,
            };
            invalid(&name, &masked, error.into_iter().map(problem).collect())
        })?;
        Ok(config.resolved(path.parent().unwrap_or(Path::new(""))))
    }

    /// Paths relative to the folder of the file.
    fn resolved(mut self, folder: &Path) -> Self {
        let resolve = |path: &mut PathBuf| *path = folder.join(&path);
        resolve(&mut self.mapping);
        self.privacy.hash_key_file.iter_mut().for_each(resolve);
        self.state.directory.iter_mut().for_each(resolve);
        match &mut self.source {
            SourceConfig::Postgres(postgres) => [
                &mut postgres.password_file,
                &mut postgres.ca_file,
                &mut postgres.client_cert_file,
                &mut postgres.client_key_file,
            ]
            .into_iter()
            .flatten()
            .for_each(resolve),
            SourceConfig::MongoDb(mongodb) => [
                &mut mongodb.password_file,
                &mut mongodb.ca_file,
                &mut mongodb.certificate_key_file,
            ]
            .into_iter()
            .flatten()
            .for_each(resolve),
        }
        #[cfg(feature = "kafka")]
        if let SinkConfig::Kafka(kafka) = &mut self.sink {
            for (name, value) in &mut kafka.properties {
                // A folder or file may also be `probe`, which librdkafka takes as a word.
                if crate::sink::kafka::properties::names_a_file(name) && value != "probe" {
                    *value = folder.join(&value).display().to_string();
                }
            }
        }
        self
    }
}

/// The defaults of all tables that are in use: the choice of source and sink is which table is given.
fn defaults(given: &Given) -> toml::Table {
    let mut root = toml::Table::new();
    for key in KEYS {
        let is_choice = key.path.starts_with("source.") || key.path.starts_with("sink.");
        let Presence::Default(text) = key.presence else {
            continue;
        };
        if is_choice && !given.has(key.table()) {
            continue;
        }
        let value = text
            .parse()
            .expect("the schema's defaults are TOML, as a test holds");
        given::insert(&mut root, key.path, value);
    }
    root
}

fn not_toml(error: &toml::de::Error) -> Problem {
    Problem {
        title: "not TOML".to_owned(),
        origin: error.span().map_or(Origin::Nowhere, Origin::File),
        label: error.message().to_owned(),
        help: None,
    }
}

fn invalid(name: &str, masked: &str, problems: Vec<Problem>) -> ConfigError {
    ConfigError::Invalid(ConfigProblems::new(name, masked, problems))
}

#[cfg(test)]
mod tests;
