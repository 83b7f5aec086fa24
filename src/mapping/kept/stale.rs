//! What rules remember is not what is true any more: what happened, what is lost, and what to choose from.

use rowbridge_api::{Op, Position, State};

use super::description::Lost;
use crate::mapping::Stop;
use crate::mapping::rule::Table;

/// How the state is made anew.
const AGAIN: &str = "`rowbridge position set --snapshot` reads the tables again and makes the state anew: `read` rules see \
                     every row once more, and what changed since the position gives no events";

/// The rows of a table that were kept cannot be found any more.
#[cold]
pub(super) fn lost(table: &Table, why: &Lost, at: &Position) -> Stop {
    let what = match why {
        Lost::TableMadeAgain => format!(
            "{} was dropped and made again before {at}: what is remembered is of the rows of the table that was",
            table.source
        ),
        Lost::Finder { column, was, is } => format!(
            "column `{column}` of {}, by which its rows are found, became {is} before {at} and was {was}: the rows that are \
             remembered are not found by it any more",
            table.source
        ),
    };
    Stop {
        state: State::StateStale,
        problem: format!(
            "{what}. Nothing is published past {at}; lost is what rules remember of this table"
        ),
        hint: format!(
            "{AGAIN}; or start with a mapping that looks nothing up there and keeps no row before of it"
        ),
    }
}

/// A change does not say which of the kept rows it is about.
#[cold]
pub(super) fn no_key(table: &Table, op: Op) -> Stop {
    let key = table.names_of(&table.key);
    let (source, doing) = (&table.source, op.as_str());
    match op {
        // The source has no such row in its own key: it is the mapping's that does not fit.
        Op::Insert | Op::Read => Stop {
            state: State::Invalid,
            problem: format!(
                "a row of {source} has no value in its key ({key}), by which its rows are remembered"
            ),
            hint: format!(
                "name another key in schema.toml, or in [tables]: columns that are never null; then {AGAIN}"
            ),
        },
        Op::Update | Op::Delete | Op::Truncate => Stop {
            state: State::StateStale,
            problem: format!(
                "one {doing} of {source} does not say the key ({key}) that its row had: the key or the replica identity of \
                 the table was changed, and which of the remembered rows it is, nobody knows. Nothing is published past it; \
                 lost is what rules remember of this table"
            ),
            hint: format!(
                "let the table's replica identity hold these columns (`rowbridge check` prints the statement), then {AGAIN}"
            ),
        },
    }
}

#[cold]
pub(super) fn damaged() -> Stop {
    Stop {
        state: State::StateStale,
        problem: "an entry of the pipeline's state is not what this program wrote".to_owned(),
        hint: format!("was something else written to its state topic? {AGAIN}"),
    }
}
