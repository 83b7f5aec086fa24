//! `synchronous_standby_names`: whether our walsender would count as a synchronous standby.
//!
//! A logical walsender counts as one when its application name is listed. Every commit on the server would
//! then wait until we acknowledge it, that is until Kafka has it: never start streaming under such a setting.

use rowbridge_api::{SourceError, State};

use crate::config::APPLICATION_NAME;
use crate::sql::{Sql, literal, quote};

/// The setting, and the standbys connected now that are not ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Synchronous {
    names: String,
    standbys: Vec<String>,
}

/// Reads the setting.
pub(crate) async fn read(sql: &Sql) -> Result<Synchronous, SourceError> {
    let rows = sql
        .query(
            "read synchronous_standby_names",
            "SELECT current_setting('synchronous_standby_names'), \
                 ARRAY(SELECT DISTINCT s.application_name FROM pg_stat_replication s \
                       WHERE s.pid NOT IN (SELECT active_pid FROM pg_replication_slots \
                                           WHERE slot_type = 'logical' AND active_pid IS NOT NULL) \
                       AND s.application_name <> '')",
            &[],
        )
        .await?;
    Ok(rows
        .first()
        .map_or_else(Synchronous::default, |row| Synchronous {
            names: row.get(0),
            standbys: row.get(1),
        }))
}

impl Synchronous {
    /// What is wrong with the setting, if it names us.
    pub(crate) fn problem(&self) -> Option<String> {
        lists_us(&self.names).then(|| {
            format!(
                "synchronous_standby_names is `{}`, which matches our session too: every commit on the server would \
                 wait until Kafka has it",
                self.names
            )
        })
    }

    /// The statement that leaves us out, and the other standbys in.
    pub(crate) fn fix(&self) -> String {
        let others = self.standbys.iter().filter(|name| !is_us(name));
        let others: Vec<String> = others.map(|name| quote(name)).collect();
        let instead = if others.is_empty() {
            String::new()
        } else {
            format!("FIRST 1 ({})", others.join(", "))
        };
        format!(
            "ALTER SYSTEM SET synchronous_standby_names = {};",
            literal(&instead).trim_start()
        )
    }

    /// Refuses to stream under a setting that names us.
    pub(crate) fn refuse(&self) -> Result<(), SourceError> {
        match self.problem() {
            None => Ok(()),
            Some(problem) => Err(SourceError::refused(
                State::Invalid,
                problem,
                format!("{} SELECT pg_reload_conf();", self.fix()),
            )),
        }
    }
}

/// Whether a list of standbys (PostgreSQL documentation, 20.6.1) has our application name or the wildcard.
fn lists_us(names: &str) -> bool {
    let mut rest = names;
    while let Some(first) = rest.chars().next() {
        let (word, after) = if first == '"' {
            quoted(&rest[1..])
        } else if is_separator(first) {
            (String::new(), &rest[first.len_utf8()..])
        } else {
            let end = rest
                .find(|c| is_separator(c) || c == '"')
                .unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        };
        if word == "*" || is_us(&word) {
            return true;
        }
        rest = after;
    }
    false
}

fn is_us(name: &str) -> bool {
    name.eq_ignore_ascii_case(APPLICATION_NAME)
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | '(' | ')')
}

/// The identifier whose opening quote was read, and what follows it.
fn quoted(text: &str) -> (String, &str) {
    let mut word = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '"' {
            word.push(c);
        } else if chars.next_if(|(_, next)| *next == '"').is_some() {
            word.push('"');
        } else {
            return (word, &text[at + 1..]);
        }
    }
    (word, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_name_and_the_wildcard_match() {
        for names in [
            "*",
            "FIRST 1 (*)",
            "ANY 2 (s1, s2, \"*\")",
            "s1,RowBridge",
            "1(\"rowbridge\")",
            "FIRST 2 (\"a\"\"b\", rowbridge)",
        ] {
            assert!(lists_us(names), "{names}");
        }
        for names in [
            "",
            "rowbridge_standby",
            "FIRST 1 (s1, rowbridge2)",
            "\"not rowbridge, really\"",
            "\"a, *\"",
        ] {
            assert!(!lists_us(names), "{names}");
        }
    }

    #[test]
    fn the_fix_keeps_the_other_standbys() {
        let setting = Synchronous {
            names: "*".to_owned(),
            standbys: vec!["rowbridge".to_owned(), "s1".to_owned()],
        };
        assert_eq!(
            setting.fix(),
            "ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (\"s1\")';"
        );
    }
}
