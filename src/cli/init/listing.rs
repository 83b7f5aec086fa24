//! The tables that could be captured, for people to choose from.

use std::io::{self, Write};

use rowbridge_api::survey::{BeforeImage, Candidate};

use super::database::Database;
use crate::paint::{Paint, Tone};

/// Longest key that is shown.
const KEY_COLUMNS: usize = 40;

/// Prints a line for each table, and how to go on.
pub(super) fn print(
    candidates: &[Candidate],
    database: &Database,
    paint: Paint,
    out: &mut dyn Write,
) -> io::Result<()> {
    let url = shell(&database.connection.url);
    let how = match (&database.given, database.connection.tls.as_deref()) {
        (Some(given), _) => format!("-c {}", shell(&given.file.display().to_string())),
        (None, Some("verify-full") | None) => format!("--url {url}"),
        (None, Some(tls)) => format!("--url {url} --tls {tls}"),
    };
    print_to(candidates, &how, paint, out)
}

fn print_to(
    candidates: &[Candidate],
    how: &str,
    paint: Paint,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (good, bad): (Vec<&Candidate>, Vec<&Candidate>) = candidates
        .iter()
        .partition(|known| known.obstacle.is_none());
    if good.is_empty() {
        writeln!(out, "no table here could be captured")?;
    }
    let mut lines = vec![["TABLE", "ROWS", "KEY", "OLD ROWS"].map(str::to_owned)];
    lines.extend(good.iter().map(|known| line(known)));
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths = [0, 1, 2].map(width);
    for (number, [table, rows, key, old]) in lines.iter().enumerate().filter(|_| !good.is_empty()) {
        let text = format!(
            "{table:0$}  {rows:>1$}  {key:2$}  {old}",
            widths[0], widths[1], widths[2]
        );
        match number {
            0 => writeln!(out, "{}", paint.tone(Tone::Strong, text))?,
            _ => writeln!(out, "{text}")?,
        }
    }
    for known in bad {
        let why = known.obstacle.as_deref().unwrap_or_default();
        writeln!(
            out,
            "{}",
            paint.tone(Tone::Faint, format!("not {}: {why}", known.table))
        )?;
    }
    if let Some(first) = good.first() {
        writeln!(
            out,
            "\nwrite a mapping of some, or with --all of all of them:"
        )?;
        let table = shell(&first.table.to_string());
        writeln!(
            out,
            "  rowbridge init {how} --table {table} --out mappings/NAME"
        )?;
    }
    Ok(())
}

fn line(known: &Candidate) -> [String; 4] {
    let rows = match known.rows {
        Some(rows) => format!("~{rows}"),
        None => format!("? ({})", size(known.bytes)),
    };
    let key = match known.key.join(", ") {
        key if key.is_empty() => "none".to_owned(),
        key if key.chars().count() > KEY_COLUMNS => {
            let start: String = key.chars().take(KEY_COLUMNS - 1).collect();
            format!("{start}…")
        }
        key => key,
    };
    let old = match &known.before {
        BeforeImage::Whole => "whole",
        BeforeImage::Columns(columns) if *columns == known.key => "key only",
        BeforeImage::Columns(_) => "columns of an index",
        BeforeImage::Refused => "none: updates would fail once published",
    };
    [known.table.to_string(), rows, key, old.to_owned()]
}

fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)];
    let unit = UNITS.iter().find(|(_, unit)| bytes >= *unit);
    match unit {
        Some((name, unit)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} B"),
    }
}

/// `1 row`, `2 rows`.
pub(super) fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// A word as a shell takes it.
pub(super) fn shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%,=+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use rowbridge_api::TableName;

    use super::*;

    #[test]
    fn tables_are_listed_with_what_decides() {
        let known = |name: &str, rows, key: &[&str], before| Candidate {
            table: TableName::new("public", name),
            rows,
            bytes: 24 * 1024,
            key: key.iter().map(|column| (*column).to_owned()).collect(),
            before,
            obstacle: None,
        };
        let key = BeforeImage::Columns(vec!["id".to_owned()]);
        let mut scratch = known("scratch", None, &[], BeforeImage::Refused);
        scratch.obstacle = Some("unlogged: its changes are not in the log".to_owned());
        let candidates = [
            known("Order Lines", Some(1200), &["id"], BeforeImage::Whole),
            known("flights", None, &["id"], key),
            known("log", Some(0), &[], BeforeImage::Refused),
            scratch,
        ];
        let mut out = Vec::new();
        print_to(&candidates, "-c x.toml", Paint::Plain, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
