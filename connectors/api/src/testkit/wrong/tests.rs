//! The suite passes the honest fake, and catches every wrong one.

use std::time::Duration;

use super::{Fault, WrongSource};
use crate::shape::TableName;
use crate::source::Source;
use crate::testkit::conformance::{Acknowledged, Check, Subject, Violation, Write, violations};
use crate::testkit::fake::{FakeChange, FakeDatabase, FakeSource, FakeTable, ReplicaIdentity};

const TABLE: &str = "items";
/// The suite runs on a paused clock: no test waits for it.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Few, so that batches end inside transactions.
const BATCH_ITEMS: usize = 3;

struct Fake<F> {
    database: FakeDatabase,
    make: F,
}

impl<F> Fake<F> {
    fn new(make: F) -> Self {
        Self {
            database: FakeDatabase::default(),
            make,
        }
    }
}

impl<S, F> Subject for Fake<F>
where
    S: Source + 'static,
    F: Fn(FakeSource) -> S + Send + Sync,
{
    type Source = S;

    async fn reset(&mut self) -> Result<(), Violation> {
        self.database = FakeDatabase::default();
        self.database.set_timeout(TIMEOUT);
        self.database.set_batch_items(BATCH_ITEMS);
        let mut table = FakeTable::new(
            TABLE,
            &[("id", "int8"), ("name", "text"), ("notes", "text")],
        );
        table.toasted = vec!["notes".to_owned()];
        table.identity = ReplicaIdentity::Default;
        self.database.create_table(table);
        Ok(())
    }

    fn table(&self) -> TableName {
        TableName::new("public", TABLE)
    }

    fn source(&self) -> S {
        (self.make)(self.database.source())
    }

    async fn commit(&self, writes: &[Write]) -> Result<(), Violation> {
        let change = |write: &Write| match write {
            Write::Insert(row) => {
                let id = row.id.to_string();
                FakeChange::insert(
                    TABLE,
                    &[Some(&id), row.name.as_deref(), row.notes.as_deref()],
                )
            }
            Write::Rename { id, name } => {
                FakeChange::update(TABLE, &id.to_string(), &[("name", name.as_deref())])
            }
            Write::Rekey { from, to } => {
                FakeChange::update(TABLE, &from.to_string(), &[("id", Some(&to.to_string()))])
            }
            Write::Delete { id } => FakeChange::delete(TABLE, &id.to_string()),
        };
        self.database.commit(writes.iter().map(change).collect());
        Ok(())
    }

    async fn acknowledged(&self) -> Result<Acknowledged, Violation> {
        let acked = self.database.acked();
        Ok(acked.map_or(Acknowledged::Nothing, |position| {
            Acknowledged::UpTo(position.order())
        }))
    }

    fn timeout(&self) -> Duration {
        TIMEOUT
    }
}

#[tokio::test(start_paused = true)]
async fn the_honest_fake_passes() {
    let violations = violations(&mut Fake::new(|source| source)).await;
    assert!(violations.is_empty(), "{violations:#?}");
}

/// Each fault, the check that is there for it, and the words in which it says so. Others may catch it, too.
const CAUGHT_BY: [(Fault, Check, &str); 11] = [
    (
        Fault::AcknowledgesWhatItSent,
        Check::NeverAcknowledgesAhead,
        "acknowledged before any commit",
    ),
    (
        Fault::LosesAChangeAtBatchEnds,
        Check::SurvivesACutAtEveryMessage,
        "written was (Insert",
    ),
    (
        Fault::ResumesOneTransactionLate,
        Check::ResumesFromEveryPosition,
        "message 0 is Some(Begin(Transaction { id: 3",
    ),
    (
        Fault::RepeatsTheLastTransaction,
        Check::ResumesFromEveryPosition,
        "message 0 is Some(Begin(Transaction { id: 2",
    ),
    (
        Fault::TakesUnavailableForNull,
        Check::UnavailableIsNeverNull,
        "image of row 1 is null",
    ),
    (
        Fault::CountsBackwards,
        Check::PositionsRiseAndRoundTrip,
        "follows one that ends at",
    ),
    (Fault::IgnoresShutdown, Check::ShutsDownInTime, "shutdown"),
    (
        Fault::IgnoresTheIdentity,
        Check::RefusesAnotherDatabase,
        "waited 20s for the run to end",
    ),
    (
        Fault::FallsSilentWhileStalled,
        Check::KeepsTheLinkWhileStalled,
        "the server closed the connection",
    ),
    (
        Fault::ForgetsTheMoment,
        Check::FixesAMoment,
        "the moment that was fixed is",
    ),
    (
        Fault::StreamsFromTheSnapshotsEnd,
        Check::HandsOverFromSnapshotToStream,
        "was rebuilt as",
    ),
];

#[tokio::test(start_paused = true)]
async fn every_wrong_source_is_caught_by_the_check_that_is_there_for_it() {
    for (fault, check, words) in CAUGHT_BY {
        let mut subject = Fake::new(|source| WrongSource::new(source, fault));
        match check.run(&mut subject).await {
            Ok(()) => panic!("{check} did not catch {fault:?}"),
            Err(violation) => assert!(
                violation.to_string().contains(words),
                "{fault:?}: {violation}"
            ),
        }
    }
}

#[test]
fn every_check_is_there_for_some_fault() {
    for check in Check::ALL {
        assert!(
            CAUGHT_BY.iter().any(|(_, by, _)| *by == check),
            "{check} has never failed"
        );
    }
}
