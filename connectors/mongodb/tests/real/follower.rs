//! A consumer that writes down what the source sends.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rowbridge_api::{
    Batch, Cell, Change, Claim, ColumnNeed, Identity, Item, Op, OpSet, Position, Row, Shape,
    ShapeId, Source, SourceError, SourceIo, SourceStatus, Start, TableName, TableNeeds, Type,
    batch_channel,
};
use rowbridge_mongodb::{MongoConfig, MongoSource};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// No step of a test takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a source sent, as text: easy to compare and to read in a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Begin(Position),
    Change(String),
    Commit(Position),
    SnapshotEnd(Position),
}

/// The settings of a test: a server that has nothing to say says so at once.
pub(crate) fn settings(url: &str) -> MongoConfig {
    let mut config = MongoConfig::new(url);
    config.limits.await_time = Duration::from_millis(50);
    config.limits.idle_commit_interval = Duration::from_millis(100);
    config
}

/// A mapped collection whose rules read these columns on every operation.
pub(crate) fn needs(database: &str, collection: &str, columns: &[(&str, &str)]) -> TableNeeds {
    let column = |(name, ty): &(&str, &str)| ColumnNeed {
        name: (*name).to_owned(),
        ty: Type::parse(ty),
        before: false,
        labels: Vec::new(),
        rules: vec!["rule".to_owned()],
    };
    TableNeeds {
        table: TableName::new(database, collection),
        key: vec!["_id".to_owned()],
        columns: columns.iter().map(column).collect(),
        ops: [Op::Insert, Op::Update, Op::Delete, Op::Read]
            .into_iter()
            .collect::<OpSet>(),
    }
}

/// A running source and its consumer.
pub(crate) struct Follower {
    pub(crate) identity: Identity,
    batches: mpsc::Receiver<Batch>,
    acked: watch::Sender<Option<Position>>,
    pub(crate) status: watch::Receiver<SourceStatus>,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), SourceError>>,
    shapes: HashMap<ShapeId, Arc<Shape>>,
    pending: VecDeque<Seen>,
}

impl Follower {
    pub(crate) async fn start(config: MongoConfig, start: Start, tables: Vec<TableNeeds>) -> Self {
        let mut source = MongoSource::new(config);
        let Claim::Owned(ownership) = source.own().await.unwrap() else {
            panic!("nobody is kept out");
        };
        let (out, batches, _recycle) = batch_channel(2);
        let (acked, acked_receiver) = watch::channel(None);
        let (status_sender, status) = watch::channel(SourceStatus::default());
        let shutdown = CancellationToken::new();
        let io = SourceIo {
            start,
            tables,
            out,
            acked: acked_receiver,
            status: status_sender,
            shutdown: shutdown.clone(),
        };
        Self {
            identity: ownership.identity,
            batches,
            acked,
            status,
            shutdown,
            running: tokio::spawn(async move { source.run(io).await }),
            shapes: HashMap::new(),
            pending: VecDeque::new(),
        }
    }

    /// The next thing the source sends.
    pub(crate) async fn next(&mut self) -> Seen {
        loop {
            if let Some(seen) = self.pending.pop_front() {
                return seen;
            }
            let batch = tokio::time::timeout(DEADLINE, self.batches.recv()).await;
            match batch.expect("waited for a batch") {
                Some(batch) => self.write_down(&batch),
                None => panic!("the source ended: {:?}", (&mut self.running).await),
            }
        }
    }

    /// The next change.
    pub(crate) async fn change(&mut self) -> String {
        loop {
            if let Seen::Change(change) = self.next().await {
                return change;
            }
        }
    }

    /// All documents of the snapshot and its end.
    pub(crate) async fn snapshot(&mut self) -> (Vec<String>, Position) {
        let mut rows = Vec::new();
        loop {
            match self.next().await {
                Seen::Begin(_) => {}
                Seen::Change(change) => rows.push(change),
                Seen::SnapshotEnd(position) => return (rows, position),
                Seen::Commit(position) => panic!("a commit at {position} inside the snapshot"),
            }
        }
    }

    /// The next position, whatever came before it.
    pub(crate) async fn commit(&mut self) -> Position {
        loop {
            if let Seen::Commit(position) = self.next().await {
                return position;
            }
        }
    }

    /// Waits for it to end by itself; its error.
    pub(crate) async fn ended(mut self) -> SourceError {
        let end = async {
            while self.batches.recv().await.is_some() {}
            (&mut self.running).await
        };
        let ended = tokio::time::timeout(DEADLINE, end).await;
        ended
            .expect("it ends")
            .unwrap()
            .expect_err("it ends with an error")
    }

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        drop(std::mem::replace(&mut self.acked, watch::channel(None).0));
        while self.batches.recv().await.is_some() {}
        self.running.await.unwrap().unwrap();
    }

    fn write_down(&mut self, batch: &Batch) {
        for item in &batch.items {
            self.pending.push_back(match item {
                Item::Shape(shape) => {
                    self.shapes.insert(shape.id, Arc::clone(shape));
                    continue;
                }
                Item::Begin(transaction) => Seen::Begin(transaction.position.clone()),
                Item::Change(change) => Seen::Change(self.shown(batch, change)),
                Item::Commit(commit) => Seen::Commit(commit.position.clone()),
                Item::SnapshotEnd(position) => Seen::SnapshotEnd(position.clone()),
            });
        }
    }

    /// `update a=1 b=null -> a=2 b=?`
    fn shown(&self, batch: &Batch, change: &Change) -> String {
        let shape = &self.shapes[&change.shape];
        let mut text = change.op.as_str().to_owned();
        if let Some(row) = batch.before(change) {
            text.push_str(&cells(shape, &row));
        }
        if let Some(row) = batch.after(change) {
            text.push_str(" ->");
            text.push_str(&cells(shape, &row));
        }
        text
    }
}

fn cells(shape: &Shape, row: &Row<'_>) -> String {
    let cell = |index| match row.cell(index) {
        Cell::Value(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Cell::Null => "null".to_owned(),
        Cell::Unavailable => "?".to_owned(),
    };
    let named = shape.columns.iter().enumerate();
    named
        .map(|(index, column)| format!(" {}={}", column.name, cell(index)))
        .collect()
}
