//! A pack under names of its own: topics of this test alone, and the database that the server gave it.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::init::files_of;

/// Copies a pack: `prefix` and a dot stand before the name of every topic; `database`, if given, instead of that of every
/// collection.
pub(crate) fn staged(pack: &Path, prefix: &str, database: Option<&str>, to: &Path) -> Result<()> {
    fs::create_dir_all(to.join("cases"))?;
    let mapping = fs::read_to_string(pack.join("mapping.toml"))?;
    fs::write(to.join("mapping.toml"), renamed(&mapping, prefix, database))?;
    fs::copy(pack.join("schema.toml"), to.join("schema.toml"))?;
    for case in files_of(&pack.join("cases"))? {
        let name = case.file_name().unwrap_or_default();
        fs::copy(&case, to.join("cases").join(name))?;
    }
    Ok(())
}

fn renamed(mapping: &str, prefix: &str, database: Option<&str>) -> String {
    let mut table = "";
    let mut renamed = String::new();
    for line in mapping.lines() {
        if line.starts_with('[') {
            table = line.split(']').next().unwrap_or_default();
        }
        let line = match (table, database) {
            ("[tables", Some(database)) => in_database(line, database),
            _ if table.starts_with("[topics.") && line.starts_with("name ") => {
                line.replacen('"', &format!("\"{prefix}."), 1)
            }
            _ => line.to_owned(),
        };
        renamed.push_str(&line);
        renamed.push('\n');
    }
    renamed
}

fn in_database(line: &str, database: &str) -> String {
    match line.split_once('"') {
        Some((before, name)) => {
            let (_, collection) = name.split_once('.').unwrap_or(("", name));
            format!("{before}\"{database}.{collection}")
        }
        None => line.to_owned(),
    }
}
