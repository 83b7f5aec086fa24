//! Why each rule of a change's table fired or did not, for people. Never a row value.

use rowbridge_api::{Change, TableName, Transaction};

use crate::mapping::{Mapping, Outcome, RuleOutcome};
use crate::paint::{Look, Tone};

/// Where a reason goes on below its rule.
const INDENT: &str = "                 ";

/// What is explained.
pub(super) struct Explained<'a> {
    pub(super) transaction: Option<&'a Transaction>,
    pub(super) table: Option<&'a TableName>,
    pub(super) change: &'a Change,
    pub(super) outcomes: &'a [RuleOutcome],
}

impl Explained<'_> {
    /// One line for the change, one per rule.
    pub(super) fn text(&self, mapping: &Mapping, look: Look) -> String {
        let table = self.table.map(|table| format!(" of {table}"));
        let position = self.transaction.map(|begun| begun.position.to_string());
        let heading = format!(
            "{}{}, number {} in the transaction at {}",
            self.change.op.as_str(),
            table.unwrap_or_default(),
            self.change.ordinal,
            position.unwrap_or_default()
        );
        let mut lines = vec![look.paint.tone(Tone::Strong, heading).to_string()];
        if self.outcomes.is_empty() {
            lines.push("    no rule reads this table".to_owned());
        }
        lines.extend(self.outcomes.iter().map(|outcome| {
            let place = mapping.line(outcome.rule).unwrap_or_default();
            let name = format!("{} (line {place})", outcome.event_type);
            let (tone, verdict, rest) = match &outcome.outcome {
                Outcome::Fired(1) => (Tone::Good, "fired      ", name),
                Outcome::Fired(events) => (
                    Tone::Good,
                    "fired      ",
                    format!("{name}: {events} events"),
                ),
                Outcome::NotFired(reason) => (
                    Tone::Faint,
                    "not fired  ",
                    format!("{name}: {}", one_line(reason)),
                ),
                Outcome::Passed(reason) => (Tone::Good, "passed     ", format!("{name}: {reason}")),
                Outcome::Quarantined(reason) => (
                    Tone::Bad,
                    "quarantined",
                    format!("{name}: {}", one_line(reason)),
                ),
            };
            let line = format!("    {}  {rest}", look.paint.tone(tone, verdict));
            look.wrapped(&line, INDENT)
        }));
        lines.join("\n") + "\n\n"
    }
}

/// Conditions may be written over several lines.
fn one_line(reason: &str) -> String {
    reason.split_whitespace().collect::<Vec<_>>().join(" ")
}
