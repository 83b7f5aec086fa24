//! Why each rule of a change's table fired or did not, for people. Never a row value.

use std::fmt::Write as _;

use rowbridge_api::{Change, Transaction};

use crate::mapping::{Mapping, Outcome, RuleOutcome};

/// One line for the change, one per rule.
pub(super) fn text(
    mapping: &Mapping,
    transaction: Option<&Transaction>,
    change: &Change,
    outcomes: &[RuleOutcome],
) -> String {
    let position = transaction.map(|transaction| transaction.position.to_string());
    let mut text = format!(
        "{} number {} in the transaction at {}\n",
        change.op.as_str(),
        change.ordinal,
        position.unwrap_or_default()
    );
    if outcomes.is_empty() {
        text.push_str("    no rule reads this table\n");
    }
    for outcome in outcomes {
        let line = mapping.line(outcome.rule).unwrap_or_default();
        let name = format!("{} (line {line})", outcome.event_type);
        // Writing to a string cannot fail.
        let _ = match &outcome.outcome {
            Outcome::Fired(1) => writeln!(text, "    fired        {name}"),
            Outcome::Fired(events) => writeln!(text, "    fired        {name}: {events} events"),
            Outcome::NotFired(reason) => {
                writeln!(text, "    not fired    {name}: {}", one_line(reason))
            }
            Outcome::Passed(reason) => writeln!(text, "    passed       {name}: {reason}"),
            Outcome::Quarantined(reason) => {
                writeln!(text, "    quarantined  {name}: {}", one_line(reason))
            }
        };
    }
    text.push('\n');
    text
}

/// Conditions may be written over several lines.
fn one_line(reason: &str) -> String {
    reason.split_whitespace().collect::<Vec<_>>().join(" ")
}
