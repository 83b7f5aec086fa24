//! The key that a mapping hashes with, from the configuration.

use std::path::Path;

use anyhow::Context as _;

use crate::config::{Config, ConfigError, PrivacySettings};
use crate::mapping::{HashKey, Mapping};
use crate::refusal::Refusal;

/// What to write where there is no key yet.
const LINES: &str = "\
# in rowbridge.toml, and make the key: (umask 077; openssl rand -base64 32 > hash.key)
[privacy]
hash_key_id = \"k1\"
hash_key_file = \"hash.key\"";

/// The mapping with its key, where it hashes.
///
/// # Errors
/// As [`of`].
pub(super) fn keyed(
    mapping: Mapping,
    settings: Option<&PrivacySettings>,
) -> anyhow::Result<Mapping> {
    Ok(match of(&mapping, settings)? {
        Some(key) => mapping.with_hash_key(key),
        None => mapping,
    })
}

/// The mapping with its key, read from the configuration `named` or the one that lies here; for commands that do
/// without one otherwise.
///
/// # Errors
/// As [`of`], or the configuration is wrong.
pub(super) fn keyed_by(mapping: Mapping, named: Option<&Path>) -> anyhow::Result<Mapping> {
    if mapping.hashed().is_empty() {
        return Ok(mapping);
    }
    let config = match Config::load(named) {
        Ok(config) => Some(config),
        Err(ConfigError::NoFile) => None,
        Err(error) => return Err(error.into()),
    };
    keyed(mapping, config.as_ref().map(|config| &config.privacy))
}

/// The key that a mapping needs; none where it does not hash.
///
/// # Errors
/// It hashes and no key is configured, or the key cannot be read or is none.
pub(super) fn of(
    mapping: &Mapping,
    settings: Option<&PrivacySettings>,
) -> anyhow::Result<Option<HashKey>> {
    let Some(first) = mapping.hashed().first() else {
        return Ok(None);
    };
    let key = match settings {
        Some(settings) => configured(settings)?,
        None => None,
    };
    if key.is_none() {
        let more = match mapping.hashed().len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let problem = format!("the mapping hashes {first}{more}, and no key is configured");
        return Err(Refusal::invalid(problem, LINES).into());
    }
    Ok(key)
}

fn configured(settings: &PrivacySettings) -> anyhow::Result<Option<HashKey>> {
    let Some(id) = &settings.hash_key_id else {
        return Ok(None);
    };
    let text = match (&settings.hash_key, &settings.hash_key_file) {
        (Some(key), _) => key.expose().to_owned(),
        (None, Some(file)) => std::fs::read_to_string(file)
            .with_context(|| format!("cannot read privacy.hash_key_file {}", file.display()))?,
        (None, None) => return Ok(None),
    };
    let secret = text.trim_end_matches(['\r', '\n']);
    let key = HashKey::new(id, secret.as_bytes()).map_err(|error| {
        let hint = "see privacy in docs/configuration.md; `openssl rand -base64 32` prints a key";
        Refusal::invalid(format!("privacy.hash_key: {error}"), hint)
    })?;
    Ok(Some(key))
}
