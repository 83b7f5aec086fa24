//! The fake behaves as the server that it stands for.

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Ack, FakeChange, FakeDatabase, FakeTable};
use crate::batch::{Batch, Item};
use crate::position::Position;
use crate::source::{
    Claim, Identity, Ownership, Remembers, Source, SourceError, SourceIo, SourceStatus, Start,
    State, batch_channel,
};

fn database() -> FakeDatabase {
    let database = FakeDatabase::default();
    database.create_table(FakeTable::new("items", &[("id", "int8"), ("name", "text")]));
    database
}

fn insert(id: &str) -> Vec<FakeChange> {
    vec![FakeChange::insert("items", &[Some(id), None])]
}

/// A consumer of one run.
struct Consumer {
    task: JoinHandle<Result<(), SourceError>>,
    batches: mpsc::Receiver<Batch>,
    acked: watch::Sender<Option<Position>>,
    shutdown: CancellationToken,
}

impl Consumer {
    async fn start(database: &FakeDatabase, start: Start) -> Self {
        let mut source = database.source();
        let claim = source.own().await.unwrap();
        assert!(
            !matches!(claim, Claim::Standby { .. }),
            "the earlier source was dropped"
        );
        let (out, batches, _) = batch_channel(4);
        let (acked, acked_by_consumer) = watch::channel(None);
        let shutdown = CancellationToken::new();
        let io = SourceIo {
            start,
            tables: Vec::new(),
            out,
            acked: acked_by_consumer,
            status: watch::Sender::new(SourceStatus::default()),
            shutdown: shutdown.clone(),
        };
        let task = tokio::spawn(async move { source.run(io).await });
        Self {
            task,
            batches,
            acked,
            shutdown,
        }
    }

    async fn resume(database: &FakeDatabase, position: &Position) -> Self {
        let start = Start::Resume {
            position: position.clone(),
            recorded: database.identity(),
        };
        Self::start(database, start).await
    }

    /// Reads to a commit, or the end of the snapshot, at `position`; gives the commits on the way.
    async fn read_to(&mut self, position: &Position) -> Vec<Position> {
        let mut commits = Vec::new();
        while commits.last() != Some(position) {
            let batch = self.batches.recv().await.expect("the position comes");
            commits.extend(batch.items.iter().filter_map(|item| match item {
                Item::Commit(commit) => Some(commit.position.clone()),
                Item::SnapshotEnd(position) => Some(position.clone()),
                _ => None,
            }));
        }
        commits
    }

    async fn error(self) -> SourceError {
        drop(self.batches);
        self.task.await.unwrap().unwrap_err()
    }

    /// Commits up to `position` and shuts down, as a pipeline does.
    async fn finish(self, position: &Position) {
        self.shutdown.cancel();
        self.acked.send_replace(Some(position.clone()));
        self.task.await.unwrap().unwrap();
    }
}

/// A database with a slot, and the slot's position.
async fn started() -> (FakeDatabase, Position) {
    let database = database();
    let start = database.end();
    let mut consumer = Consumer::start(&database, Start::FIRST).await;
    consumer.read_to(&start).await;
    consumer.finish(&start).await;
    (database, start)
}

fn fresh(database: &FakeDatabase) -> Claim {
    Claim::Owned(Ownership {
        identity: database.identity(),
        remembers: Remembers::Nothing,
        exclusive: true,
    })
}

fn refusal(error: &SourceError) -> Option<State> {
    match error {
        SourceError::Refused { state, .. } => Some(*state),
        SourceError::Transient { .. } => None,
    }
}

#[tokio::test(start_paused = true)]
async fn one_source_owns_the_others_stand_by_until_it_is_dropped() {
    let database = database();
    let mut first = database.source();
    let mut second = database.source();
    assert_eq!(first.own().await.unwrap(), fresh(&database));
    assert!(
        matches!(second.own().await.unwrap(), Claim::Standby { holder } if holder == "session 1")
    );
    drop(first);
    assert_eq!(second.own().await.unwrap(), fresh(&database));
    database.disconnect();
    assert!(second.hold().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_crashed_server_goes_back_to_its_checkpoint_and_the_source_still_resumes_where_it_was() {
    let (database, start) = started().await;
    database.checkpoint();
    let first = database.commit(insert("1"));
    let mut consumer = Consumer::resume(&database, &start).await;
    consumer.read_to(&first).await;
    consumer.finish(&first).await;
    assert_eq!(database.acked(), Some(first.clone()));

    database.crash_server();
    assert_eq!(database.acked(), Some(start));
    let second = database.commit(insert("2"));
    let mut consumer = Consumer::resume(&database, &first).await;
    assert_eq!(
        consumer.read_to(&second).await,
        [second],
        "what was done is not sent again"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_slot_has_forgotten_is_a_gap() {
    let (database, start) = started().await;
    database.commit(insert("1"));
    database.advance_slot();
    let error = Consumer::resume(&database, &start).await.error().await;
    assert_eq!(refusal(&error), Some(State::Gap));
    database.drop_slot();
    let error = Consumer::resume(&database, &start).await.error().await;
    assert_eq!(refusal(&error), Some(State::SlotLost));
}

#[tokio::test(start_paused = true)]
async fn another_history_is_refused() {
    let (database, position) = started().await;
    let recorded = Identity {
        history: "2".to_owned(),
        ..database.identity()
    };
    let error = Consumer::start(&database, Start::Resume { position, recorded })
        .await
        .error()
        .await;
    assert_eq!(refusal(&error), Some(State::TimelineDiverged));
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_are_held_against_what_the_consumer_committed() {
    let (database, start) = started().await;
    let ack = Ack {
        position: start.clone(),
        committed: None,
    };
    assert_eq!(database.ack_past_commit(), Some(ack.clone()));
    assert_eq!(database.acks(), [ack]);

    let database = self::database();
    let start = database.end();
    let mut consumer = Consumer::start(&database, Start::FIRST).await;
    consumer.read_to(&start).await;
    database.consumer_committed(start.clone());
    consumer.finish(&start).await;
    assert_eq!(database.ack_past_commit(), None);
}

#[tokio::test(start_paused = true)]
async fn the_link_breaks_after_so_many_messages_once() {
    let (database, start) = started().await;
    database.set_batch_items(1);
    let end = database.commit([insert("1"), insert("2"), insert("3")].concat());
    database.fail_after(2);
    let mut consumer = Consumer::resume(&database, &start).await;
    let mut items = 0;
    while let Some(batch) = consumer.batches.recv().await {
        items += batch
            .items
            .iter()
            .filter(|item| !matches!(item, Item::Shape(_)))
            .count();
    }
    assert_eq!(items, 2);
    assert_eq!(refusal(&consumer.error().await), None);
    Consumer::resume(&database, &start)
        .await
        .read_to(&end)
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_stretch_is_a_commit_of_its_own_and_a_stall_holds_everything_back() {
    let (database, start) = started().await;
    database.stall();
    let idle = database.idle();
    let mut consumer = Consumer::resume(&database, &start).await;
    tokio::task::yield_now().await;
    assert!(consumer.batches.try_recv().is_err());
    database.go_on();
    assert_eq!(consumer.read_to(&idle).await, [idle]);
}
