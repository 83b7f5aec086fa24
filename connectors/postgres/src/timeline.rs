//! Which server this is and whether its history continues ours.

use rowbridge_api::{Identity, Position, SourceError, State};

use crate::wire::Link;

/// What IDENTIFY_SYSTEM and TIMELINE_HISTORY tell (PostgreSQL documentation, 55.4).
pub(crate) struct Timeline {
    pub(crate) identity: Identity,
    /// Where each earlier timeline of this history ended.
    forks: Vec<(u32, Position)>,
}

/// Asks a replication session that streams nothing yet.
pub(crate) async fn read(link: &mut Link, database: &str) -> Result<Timeline, SourceError> {
    let rows = link.query("IDENTIFY_SYSTEM").await;
    let rows = rows.map_err(|error| error.while_doing("cannot identify the server"))?;
    let cell = |index: usize| rows.first()?.get(index)?.clone();
    let (Some(system), Some(history)) = (cell(0), cell(1)) else {
        return Err(SourceError::transient("the server does not say who it is"));
    };
    let mut forks = Vec::new();
    if history != "1" {
        // The file may be gone on a server restored without it; then nothing continues on trust.
        if let Ok(rows) = link.query(&format!("TIMELINE_HISTORY {history}")).await {
            let content = rows.first().and_then(|row| row.get(1)?.clone());
            forks = parse_history(&content.unwrap_or_default());
        }
    }
    Ok(Timeline {
        identity: Identity {
            source: format!("postgres/{system}/{database}"),
            history,
        },
        forks,
    })
}

/// One line per earlier timeline: its number, where it ended, why.
fn parse_history(content: &str) -> Vec<(u32, Position)> {
    content
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        })
        .collect()
}

impl Timeline {
    /// Refuses a server on which `position` of `recorded` means something else.
    pub(crate) fn continues(
        &self,
        recorded: &Identity,
        position: &Position,
    ) -> Result<(), SourceError> {
        let here = &self.identity;
        if here.source != recorded.source {
            return Err(SourceError::refused(
                State::WrongSource,
                format!(
                    "this pipeline has published {} up to {position}, but the server is {}",
                    recorded.source, here.source
                ),
                "correct the url; for another database choose another `pipeline`. After pg_upgrade or a restore into \
                 a new cluster: `rowbridge drop` and then `rowbridge run` reads all rows again",
            ));
        }
        if here.history != recorded.history && !self.shares(recorded, position) {
            return Err(SourceError::refused(
                State::TimelineDiverged,
                format!(
                    "the server is on timeline {}, and {position} of timeline {} is not part of its history: changes \
                     published from where the timelines parted may not exist on this server",
                    here.history, recorded.history
                ),
                crate::slot::START_OVER,
            ));
        }
        Ok(())
    }

    /// Whether `position` lies before the point where this server's history left the recorded timeline, as
    /// after a promotion whose slot was carried over.
    fn shares(&self, recorded: &Identity, position: &Position) -> bool {
        self.forks
            .iter()
            .any(|(timeline, end)| timeline.to_string() == recorded.history && position <= end)
    }
}

/// Refuses a server whose history, up to `wal_end`, does not contain `position`.
pub(crate) fn reaches(wal_end: &Position, position: &Position) -> Result<(), SourceError> {
    if position <= wal_end {
        return Ok(());
    }
    Err(SourceError::refused(
        State::TimelineDiverged,
        format!(
            "this pipeline has published up to {position}, but the server's history ends at {wal_end}: it was restored to an earlier point, and what was published from {wal_end} to {position} does not exist on it"
        ),
        crate::slot::START_OVER,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promoted() -> Timeline {
        Timeline {
            identity: Identity {
                source: "postgres/7/sales".to_owned(),
                history: "2".to_owned(),
            },
            forks: parse_history("1\t0/64\tno recovery target specified\n"),
        }
    }

    fn verdict(source: &str, history: &str, position: u64) -> Option<State> {
        let recorded = Identity {
            source: source.to_owned(),
            history: history.to_owned(),
        };
        match promoted().continues(&recorded, &Position::new(position)) {
            Err(SourceError::Refused { state, .. }) => Some(state),
            _ => None,
        }
    }

    #[test]
    fn a_history_continues_only_where_it_is_shared() {
        assert_eq!(verdict("postgres/7/sales", "2", 500), None);
        assert_eq!(verdict("postgres/7/sales", "1", 100), None);
        assert_eq!(
            verdict("postgres/7/sales", "1", 101),
            Some(State::TimelineDiverged)
        );
        assert_eq!(
            verdict("postgres/7/sales", "3", 100),
            Some(State::TimelineDiverged)
        );
        assert_eq!(
            verdict("postgres/8/sales", "2", 100),
            Some(State::WrongSource)
        );
    }
}
