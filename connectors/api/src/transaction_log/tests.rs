//! A log in memory keeps every promise of the contract; what it must not hold is refused.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::*;
use crate::source::{ColumnNeed, OpSet, SourceStatus, batch_channel};
use crate::testkit::conformance::{Acknowledged, Row, Subject, Violation, Write, violations};
use crate::value::Type;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A log, and the right to read it.
#[derive(Clone, Default)]
struct Journal {
    transactions: Arc<Mutex<Vec<LoggedTransaction>>>,
    /// Alive as long as somebody reads.
    reader: Arc<Mutex<Weak<()>>>,
    lock: Option<Arc<()>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TransactionLog for Journal {
    fn tables(&self) -> Vec<LoggedTable> {
        let column = |(name, ty): (&str, &str)| Column {
            name: name.to_owned(),
            ty: Type::parse(ty),
            key: name == "id",
        };
        let columns = [("id", "int8"), ("name", "text"), ("notes", "text")].map(column);
        vec![LoggedTable {
            name: TableName::new("journal", "rows"),
            columns: columns.to_vec(),
        }]
    }

    async fn identity(&mut self) -> Result<String, SourceError> {
        Ok("journal".to_owned())
    }

    async fn lock(&mut self) -> Result<Lock, SourceError> {
        self.lock = None;
        let mut reader = locked(&self.reader);
        if reader.upgrade().is_some() {
            return Ok(Lock::Of("another one".to_owned()));
        }
        let lock = Arc::new(());
        *reader = Arc::downgrade(&lock);
        self.lock = Some(lock);
        Ok(Lock::Ours)
    }

    async fn newest(&mut self) -> Result<u64, SourceError> {
        Ok(locked(&self.transactions).len() as u64)
    }

    async fn read(&mut self, number: u64) -> Result<Option<LoggedTransaction>, SourceError> {
        let at = usize::try_from(number - 1).unwrap();
        Ok(locked(&self.transactions).get(at).cloned())
    }
}

fn row(id: i64, name: Option<&str>, notes: Option<&str>) -> Vec<Option<String>> {
    vec![
        Some(id.to_string()),
        name.map(str::to_owned),
        notes.map(str::to_owned),
    ]
}

fn insert(id: i64) -> LoggedChange {
    LoggedChange {
        table: 0,
        old_key: None,
        row: Some(row(id, Some("Ada"), None)),
    }
}

/// The journal under test with the rows that it tells of, as an update tells the whole row.
#[derive(Default)]
struct Kept {
    journal: Journal,
    rows: Mutex<BTreeMap<i64, Row>>,
}

impl Kept {
    fn change(&self, write: &Write) -> LoggedChange {
        let mut rows = locked(&self.rows);
        let (old, new) = match write.clone() {
            Write::Insert(row) => (None, Some(row)),
            Write::Delete { id } => (rows.remove(&id), None),
            Write::Rename { id, name } => {
                let old = rows.remove(&id);
                let new = old.clone().map(|old| Row { name, ..old });
                (old, new)
            }
            Write::Rekey { from, to } => {
                let old = rows.remove(&from);
                let new = old.clone().map(|old| Row { id: to, ..old });
                (old, new)
            }
        };
        if let Some(new) = &new {
            rows.insert(new.id, new.clone());
        }
        LoggedChange {
            table: 0,
            old_key: old.map(|old| vec![old.id.to_string()]),
            row: new.map(|new| row(new.id, new.name.as_deref(), new.notes.as_deref())),
        }
    }
}

impl Subject for Kept {
    type Source = LogSource<Journal>;

    async fn reset(&mut self) -> Result<(), Violation> {
        *self = Self::default();
        Ok(())
    }

    fn table(&self) -> TableName {
        TableName::new("journal", "rows")
    }

    fn source(&self) -> LogSource<Journal> {
        LogSource::new(self.journal.clone())
    }

    async fn commit(&self, writes: &[Write]) -> Result<(), Violation> {
        let changes = writes.iter().map(|write| self.change(write)).collect();
        locked(&self.journal.transactions).push(LoggedTransaction {
            commit_micros: 0,
            changes,
        });
        Ok(())
    }

    async fn acknowledged(&self) -> Result<Acknowledged, Violation> {
        Ok(Acknowledged::Never)
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(100)
    }
}

#[tokio::test]
async fn a_log_keeps_every_promise() {
    let violations = violations(&mut Kept::default()).await;
    assert!(violations.is_empty(), "{violations:#?}");
}

/// Runs the source over these changes until it ends, or has sent `batches` batches.
async fn run(
    changes: Vec<LoggedChange>,
    from: u64,
    batches: usize,
) -> Result<Vec<Batch>, SourceError> {
    let journal = Journal::default();
    locked(&journal.transactions).push(LoggedTransaction {
        commit_micros: 0,
        changes,
    });
    let (out, mut received, _emptied) = batch_channel(1);
    let (_acked, acks) = watch::channel(None);
    let io = SourceIo {
        start: Start::Resume {
            position: Position::new(from),
            recorded: Identity {
                source: "journal".to_owned(),
                history: String::new(),
            },
        },
        tables: Vec::new(),
        out,
        acked: acks,
        status: watch::Sender::new(SourceStatus::default()),
        shutdown: CancellationToken::new(),
    };
    let mut source = LogSource::new(journal);
    let collect = async {
        let mut sent = Vec::new();
        while sent.len() < batches {
            sent.extend(received.recv().await);
        }
        sent
    };
    tokio::select! {
        ended = source.run(io) => Err(ended.expect_err("nobody asked it to stop")),
        sent = collect => Ok(sent),
    }
}

#[tokio::test]
async fn a_large_transaction_goes_out_in_several_batches() {
    let changes: Vec<_> = (0..10_000).map(insert).collect();
    let sent = run(changes, 0, 3).await.unwrap();
    let ordinals = sent
        .iter()
        .flat_map(|batch| &batch.items)
        .filter_map(|item| match item {
            Item::Change(change) => Some(change.ordinal),
            _ => None,
        });
    assert!(ordinals.eq(0..10_000));
    let ends = |batch: &Batch| matches!(batch.items.last(), Some(Item::Commit(_)));
    assert_eq!(
        sent.iter().map(ends).collect::<Vec<_>>(),
        [false, false, true]
    );
}

#[tokio::test]
async fn what_is_no_change_of_the_tables_is_refused() {
    let changes = [
        LoggedChange::default(),
        LoggedChange {
            table: 1,
            ..insert(1)
        },
        LoggedChange {
            row: Some(row(1, None, None)[..2].to_vec()),
            ..insert(1)
        },
        LoggedChange {
            row: Some(vec![None, None, None]),
            ..insert(1)
        },
        LoggedChange {
            old_key: Some(Vec::new()),
            ..insert(1)
        },
    ];
    for change in changes {
        let refused = run(vec![change.clone()], 0, 1).await;
        assert!(
            matches!(
                refused,
                Err(SourceError::Refused {
                    state: State::Invalid,
                    ..
                })
            ),
            "{change:?}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_log_that_lost_what_was_published_is_refused() {
    let refused = run(vec![insert(1)], 4, 1).await;
    let lost = State::HistoryLost;
    assert!(
        matches!(&refused, Err(SourceError::Refused { state, .. }) if *state == lost),
        "{refused:?}"
    );
}

#[tokio::test]
async fn check_says_what_the_log_does_not_have() {
    let need = |name: &str, ty: &str, before| ColumnNeed {
        name: name.to_owned(),
        ty: Type::parse(ty),
        labels: Vec::new(),
        before,
        rules: vec!["Renamed".to_owned()],
    };
    let needs = |table: &str, columns| TableNeeds {
        table: TableName::new("journal", table),
        key: vec!["id".to_owned()],
        columns,
        ops: OpSet::default(),
    };
    let columns = vec![
        need("id", "int8", true),
        need("name", "text", false),
        need("notes", "text", true),
        need("email", "text", false),
        need("name", "int8", false),
    ];
    let needs = [needs("rows", columns), needs("others", Vec::new())];
    let mut source = LogSource::new(Journal::default());
    let findings = source.check(&needs).await.unwrap();
    let problems: Vec<_> = findings
        .iter()
        .map(|finding| finding.problem.as_str())
        .collect();
    assert_eq!(
        problems,
        [
            "Renamed reads what notes of journal.rows was before, and the log tells only the key",
            "the log has no column email of journal.rows",
            "name of journal.rows is text in the log and int8 in schema.toml",
            "the log has no table journal.others",
        ]
    );
}
