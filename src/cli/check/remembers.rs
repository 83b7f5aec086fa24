//! What the mapping has to know of rows beside the change at hand: where that comes from, what it costs, and the
//! statement that would avoid it. No finding: nothing is wrong with it.

use std::io::{self, Write};

use rowbridge_api::survey::{BeforeImage, Extent};

use super::INDENT;
use crate::cli::quantity;
use crate::mapping::Mapping;
use crate::mapping::remembers::{Before, Remembers};
use crate::paint::{Look, Tone};

/// Bytes that an entry has beside its cells: what it is, of which table, and the lengths.
const ENTRY_BYTES: u64 = 32;
/// Bytes of a key: most are numbers and short texts.
const KEY_BYTES: u64 = 16;
/// What a working copy in memory takes beside the bytes of an entry.
const IN_MEMORY_BYTES: u64 = 64;

/// One table, and what its source said of it.
#[derive(Debug)]
pub(super) struct Known {
    remembers: Remembers,
    extent: Asked,
}

/// What the source said of a table.
#[derive(Debug)]
#[cfg_attr(
    not(all(feature = "postgres", feature = "mongodb", feature = "kafka")),
    allow(dead_code, reason = "nobody is there to be asked")
)]
enum Asked {
    /// It was not asked, or could not be.
    Not,
    NoSuchTable,
    Told(Extent),
}

impl Known {
    /// What a mapping remembers, before its source is asked.
    pub(super) fn of(mapping: &Mapping) -> Vec<Self> {
        let remembers = mapping.remembers().into_iter();
        let unasked = remembers.map(|remembers| Self {
            remembers,
            extent: Asked::Not,
        });
        unasked.collect()
    }
}

/// The tables of a mapping, and the columns of each that are kept or would be.
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
pub(super) fn wanted(known: &[Known]) -> Vec<(rowbridge_api::TableName, Vec<String>)> {
    let wanted = known.iter().map(|known| {
        let remembers = &known.remembers;
        let columns = match (&remembers.before, remembers.kept.is_empty()) {
            (Before::Source(columns), true) => columns.clone(),
            _ => remembers.kept.clone(),
        };
        (remembers.table.clone(), columns)
    });
    wanted.collect()
}

/// Notes what the source said, in the same order.
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
pub(super) fn told(known: &mut [Known], extents: Vec<Option<Extent>>) {
    for (known, extent) in known.iter_mut().zip(extents) {
        known.extent = extent.map_or(Asked::NoSuchTable, Asked::Told);
    }
}

/// Prints every table; nothing if there is none.
pub(super) fn print(known: &[Known], look: Look, out: &mut dyn Write) -> io::Result<()> {
    if known.is_empty() {
        return Ok(());
    }
    let heading = "what rules know of rows beside the change at hand:";
    writeln!(out, "{}", look.paint.tone(Tone::Strong, heading))?;
    for known in known {
        writeln!(out, "{}", known.remembers.table)?;
        for (word, text) in known.lines() {
            let text = format!("{INDENT}{} {text}", look.paint.tone(Tone::Faint, word));
            writeln!(out, "{}", look.wrapped(&text, &format!("{INDENT}{INDENT}")))?;
        }
        if let Some((statement, cost)) = known.avoided_by() {
            let word = "to keep nothing:";
            writeln!(out, "{INDENT}{}", look.paint.tone(Tone::Faint, word))?;
            // At the margin, so that it can be copied as it stands.
            writeln!(out, "{statement}")?;
            let text = format!("{INDENT}{} {cost}", look.paint.tone(Tone::Faint, "cost:"));
            writeln!(out, "{}", look.wrapped(&text, &format!("{INDENT}{INDENT}")))?;
        }
    }
    writeln!(out)
}

/// The same as objects, one a line.
pub(super) fn print_json(known: &[Known], out: &mut dyn Write) -> io::Result<()> {
    for known in known {
        let lines = known.lines().into_iter();
        let lines: Vec<String> = lines.map(|(word, text)| format!("{word} {text}")).collect();
        let (fix, cost) = known.avoided_by().unzip();
        let object = serde_json::json!({
            "severity": "information",
            "area": "state",
            "problem": format!("{}: {}", known.remembers.table, lines.join("; ")),
            "fix": fix,
            "cost": cost,
        });
        writeln!(out, "{object}")?;
    }
    Ok(())
}

impl Known {
    /// A word and what it says, line by line.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let remembers = &self.remembers;
        let mut lines = Vec::new();
        if let Asked::NoSuchTable = self.extent {
            lines.push((
                "not there:",
                "the source does not show such a table".to_owned(),
            ));
        }
        if !remembers.looked_up_by.is_empty() {
            lines.push(("looked up by:", remembers.looked_up_by.join(", ")));
        }
        match &remembers.before {
            Before::NotRead => lines.push(("row before:", "not read".to_owned())),
            Before::Source(columns) => lines.push(("row before:", self.words_of_source(columns))),
            Before::State => lines.push(("row before:", self.words_of_state())),
        }
        if !remembers.kept.is_empty() {
            let (kept, all) = (&remembers.kept, remembers.columns);
            let text = format!("{} ({} of {all} columns)", kept.join(", "), kept.len());
            lines.push(("kept of every row:", text));
            lines.push(("costs:", self.costs()));
        }
        if !remembers.taken_back.is_empty() {
            let types = remembers.taken_back.join(", ");
            let text = format!("the id of the last {types} of each row that had one");
            lines.push(("kept, too:", text));
        }
        lines
    }

    fn words_of_source(&self, columns: &[String]) -> String {
        let columns = columns.join(", ");
        let instead = "`before = \"state\"` in [tables] keeps that here instead";
        match &self.extent {
            Asked::Told(extent) if extent.before == BeforeImage::Whole => format!(
                "from the source, which logs the whole old row of every update and delete; rules read {columns}: \
                 {instead}{}",
                self.about()
            ),
            Asked::Told(_) => format!(
                "from the source, which does not send it yet; rules read {columns}: {instead}{}",
                self.about()
            ),
            Asked::Not | Asked::NoSuchTable => {
                format!("from the source; rules read {columns}: {instead}")
            }
        }
    }

    fn words_of_state(&self) -> String {
        let from_state = "from what is kept (`before = \"state\"`)";
        match &self.extent {
            Asked::Told(extent) if extent.before == BeforeImage::Whole => format!(
                "{from_state}, though the source sends all of it: without `before = \"state\"` {}",
                match self.remembers.looked_up_by.is_empty() {
                    true => "nothing need be kept",
                    false => "it is kept for lookups alone",
                }
            ),
            _ => from_state.to_owned(),
        }
    }

    /// How much that is, in parentheses, where it is known.
    fn about(&self) -> String {
        match self.bytes() {
            Some((rows, bytes)) => {
                format!(
                    " ({} rows, {})",
                    quantity::short(rows),
                    quantity::bytes(bytes)
                )
            }
            None => String::new(),
        }
    }

    fn costs(&self) -> String {
        let rows = match &self.extent {
            Asked::Told(extent) => extent.rows,
            Asked::Not | Asked::NoSuchTable => None,
        };
        let at_first =
            "all rows are read at the first start, and again after `position set --snapshot`";
        match (self.bytes(), rows) {
            (Some((rows, bytes)), _) => {
                let entries = rows.saturating_mul(self.remembers.finders as u64);
                let in_memory = bytes.saturating_add(entries.saturating_mul(IN_MEMORY_BYTES));
                format!(
                    "about {} rows: {} in the state topic, {} in the working copy; {at_first}",
                    quantity::whole(rows),
                    quantity::bytes(bytes),
                    quantity::bytes(in_memory)
                )
            }
            (None, Some(rows)) => format!(
                "about {} rows, and how long they are the source has not counted; {at_first}",
                quantity::whole(rows)
            ),
            (None, None) => format!("how many rows there are is not known here; {at_first}"),
        }
    }

    /// Rows, and the bytes of what is kept of them, or would be.
    fn bytes(&self) -> Option<(u64, u64)> {
        let Asked::Told(extent) = &self.extent else {
            return None;
        };
        let (rows, row_bytes) = (extent.rows?, extent.row_bytes?);
        let further = self.remembers.finders.saturating_sub(1) as u64;
        let row = ENTRY_BYTES + KEY_BYTES + row_bytes;
        let indexes = further * (ENTRY_BYTES + 2 * KEY_BYTES);
        Some((rows, rows.saturating_mul(row + indexes)))
    }

    /// The statement after which nothing need be kept, and what it costs the source.
    fn avoided_by(&self) -> Option<(String, String)> {
        let Asked::Told(extent) = &self.extent else {
            return None;
        };
        let is_for_before = self.remembers.before == Before::State;
        let enabling = extent.enabling.as_ref()?;
        (is_for_before && self.remembers.looked_up_by.is_empty()).then(|| {
            let cost = format!("{}; then leave out `before = \"state\"`", enabling.cost);
            (enabling.statement.clone(), cost)
        })
    }
}

#[cfg(test)]
mod tests {
    use rowbridge_api::TableName;
    use rowbridge_api::survey::Enabling;

    use super::*;
    use crate::paint::Paint;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn remembers(table: &str, before: Before, looked_up_by: &[&str], kept: &[&str]) -> Remembers {
        Remembers {
            table: TableName::new("public", table),
            looked_up_by: names(looked_up_by),
            before,
            kept: names(kept),
            columns: 12,
            finders: 2,
            taken_back: Vec::new(),
        }
    }

    fn extent(table: &str, before: BeforeImage) -> Asked {
        let enabling = (before != BeforeImage::Whole).then(|| Enabling {
            statement: format!("ALTER TABLE public.{table} REPLICA IDENTITY FULL;"),
            cost: "every UPDATE and DELETE then writes the whole old row to the WAL".to_owned(),
        });
        Asked::Told(Extent {
            table: TableName::new("public", table),
            rows: Some(1_234_567),
            row_bytes: Some(40),
            before,
            enabling,
        })
    }

    fn known() -> Vec<Known> {
        let key = || BeforeImage::Columns(names(&["id"]));
        let looked_up = remembers("flights", Before::NotRead, &["SeatTaken"], &["id", "gate"]);
        let from_state = remembers("bookings", Before::State, &[], &["id", "status"]);
        let from_source = remembers("seats", Before::Source(names(&["seat_no"])), &[], &[]);
        let mut taken_back = from_source.clone();
        taken_back.taken_back = names(&["SeatTaken"]);
        let known = [
            (looked_up.clone(), extent("flights", key())),
            (looked_up, Asked::Not),
            (from_state.clone(), extent("bookings", key())),
            (from_state, extent("bookings", BeforeImage::Whole)),
            (from_source.clone(), extent("seats", BeforeImage::Whole)),
            (from_source, extent("seats", key())),
            (taken_back, Asked::NoSuchTable),
        ];
        let known = known.into_iter();
        known
            .map(|(remembers, extent)| Known { remembers, extent })
            .collect()
    }

    fn printed(columns: usize) -> String {
        let look = Look {
            paint: Paint::Plain,
            columns,
        };
        let mut out = Vec::new();
        print(&known(), look, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_table_says_where_it_is_from_what_it_costs_and_what_would_avoid_it() {
        insta::assert_snapshot!("80_columns", printed(80));
        insta::assert_snapshot!("160_columns", printed(160));
        // But for a statement, no line is longer than the terminal.
        for columns in [80, 160] {
            let printed = printed(columns);
            let mut lines = printed.lines().filter(|line| !line.starts_with("ALTER"));
            assert!(
                lines.all(|line| line.chars().count() <= columns),
                "{printed}"
            );
        }
    }

    #[test]
    fn json_has_the_statement_apart() {
        let mut out = Vec::new();
        print_json(&known(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let third: serde_json::Value = serde_json::from_str(text.lines().nth(2).unwrap()).unwrap();
        assert_eq!(third["severity"], "information");
        assert_eq!(
            third["fix"],
            "ALTER TABLE public.bookings REPLICA IDENTITY FULL;"
        );
    }
}
