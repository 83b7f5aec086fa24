//! A consumer that writes down what a source sends, and acknowledges when told to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rowbridge_api::{
    Batch, Cell, Change, Claim, Identity, Item, Op, OpSet, Position, Row, Shape, ShapeId, Source,
    SourceError, SourceIo, SourceStatus, Start, TableName, TableNeeds, batch_channel,
};
use rowbridge_postgres::{PostgresConfig, PostgresSource, TlsMode};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// No step of a test takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// What a source sent, as text: easy to compare and to read in a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Begin(Position),
    Change(String),
    Commit(Position),
    SnapshotEnd(Position),
}

/// The settings of a test: no TLS to a server on loopback.
pub(crate) fn settings(url: &str) -> PostgresConfig {
    let mut config = PostgresConfig::from_url(url).unwrap();
    config.tls = TlsMode::Disable;
    config
}

/// A mapped table with rules on every operation.
pub(crate) fn needs(table: &str) -> TableNeeds {
    TableNeeds {
        table: TableName::new("public", table),
        key: vec!["id".to_owned()],
        columns: Vec::new(),
        ops: [Op::Insert, Op::Update, Op::Delete, Op::Read, Op::Truncate]
            .into_iter()
            .collect::<OpSet>(),
    }
}

/// A running source and its consumer.
pub(crate) struct Follower {
    pub(crate) identity: Identity,
    batches: mpsc::Receiver<Batch>,
    recycle: mpsc::Sender<Batch>,
    acked: watch::Sender<Option<Position>>,
    _status: watch::Receiver<SourceStatus>,
    pub(crate) shutdown: CancellationToken,
    running: JoinHandle<Result<(), SourceError>>,
    shapes: HashMap<ShapeId, Arc<Shape>>,
    pending: std::collections::VecDeque<Seen>,
    last_commit: Position,
    /// Of the last change received.
    pub(crate) last_ordinal: u64,
    /// Of the last batch's buffer.
    pub(crate) last_capacity: usize,
}

/// Owns the source, whether it remembers us or not; waits for a reader that was just killed.
pub(crate) async fn own(source: &mut impl Source) -> Identity {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        match source.own().await.unwrap() {
            Claim::Owned(ownership) => return ownership.identity,
            Claim::Standby { holder } => {
                let waited = tokio::time::Instant::now() < deadline;
                assert!(waited, "waited for the slot, which is held by {holder}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

impl Follower {
    pub(crate) async fn start(
        config: PostgresConfig,
        pipeline: &str,
        start: Start,
        tables: Vec<TableNeeds>,
    ) -> Self {
        Self::with(PostgresSource::new(config, pipeline), start, tables).await
    }

    /// Any source of this connector.
    pub(crate) async fn with(
        mut source: impl Source + 'static,
        start: Start,
        tables: Vec<TableNeeds>,
    ) -> Self {
        let identity = own(&mut source).await;
        let (out, batches, recycle) = batch_channel(2);
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
            identity,
            batches,
            recycle,
            acked,
            _status: status,
            shutdown,
            running: tokio::spawn(async move { source.run(io).await }),
            shapes: HashMap::new(),
            pending: std::collections::VecDeque::new(),
            last_commit: Position::new(0),
            last_ordinal: 0,
            last_capacity: 0,
        }
    }

    /// From the first start on.
    pub(crate) async fn first(config: PostgresConfig, pipeline: &str, table: &str) -> Self {
        Self::start(config, pipeline, Start::FIRST, vec![needs(table)]).await
    }

    /// The next thing the source sends.
    pub(crate) async fn next(&mut self) -> Seen {
        loop {
            if let Some(seen) = self.pending.pop_front() {
                return seen;
            }
            let batch = tokio::time::timeout(DEADLINE, self.batches.recv()).await;
            match batch.expect("waited for a batch") {
                Some(batch) => {
                    self.write_down(&batch);
                    let _ = self.recycle.try_send(batch);
                }
                None => panic!("the source ended: {:?}", (&mut self.running).await),
            }
        }
    }

    /// The next thing that is not an idle position.
    pub(crate) async fn next_news(&mut self) -> Seen {
        let mut seen = self.next().await;
        loop {
            match &seen {
                Seen::Commit(_) => seen = self.next().await,
                _ => return seen,
            }
        }
    }

    /// All up to and including the next commit that ends a transaction: its changes and its position.
    pub(crate) async fn transaction(&mut self) -> (Vec<String>, Position) {
        assert!(
            matches!(self.next_news().await, Seen::Begin(_)),
            "a transaction begins"
        );
        let mut changes = Vec::new();
        loop {
            match self.next().await {
                Seen::Change(change) => changes.push(change),
                Seen::Commit(position) => return (changes, position),
                other => panic!("{other:?} inside a transaction"),
            }
        }
    }

    /// All rows of the snapshot and its end.
    pub(crate) async fn snapshot(&mut self) -> (Vec<String>, Position) {
        let mut rows = Vec::new();
        loop {
            match self.next().await {
                Seen::Begin(_) => {}
                Seen::Change(change) => rows.push(change),
                Seen::SnapshotEnd(position) => return (rows, position),
                other => panic!("{other:?} inside the snapshot"),
            }
        }
    }

    pub(crate) fn ack(&self, position: &Position) {
        self.acked.send_replace(Some(position.clone()));
    }

    /// Stops it in good order; everything received is acknowledged.
    pub(crate) async fn stop(mut self) -> Position {
        self.shutdown.cancel();
        let mut last = self.last_commit.clone();
        self.ack(&last);
        let drained = async {
            loop {
                tokio::select! {
                    batch = self.batches.recv() => match batch {
                        Some(batch) => {
                            for item in &batch.items {
                                if let Item::Commit(commit) = item {
                                    last = commit.position.clone();
                                    self.acked.send_replace(Some(last.clone()));
                                }
                            }
                        }
                        None => return (&mut self.running).await.unwrap(),
                    },
                    ended = &mut self.running => return ended.unwrap(),
                }
            }
        };
        tokio::time::timeout(DEADLINE, drained)
            .await
            .expect("waited for the source to stop")
            .unwrap();
        last
    }

    /// Kills it without a word; returns which history it followed.
    pub(crate) async fn kill(self) -> Identity {
        self.running.abort();
        let _ = self.running.await;
        self.identity
    }

    /// Acknowledges whatever comes, at once, until the source ends.
    pub(crate) async fn acknowledge_until_it_ends(mut self) -> Result<(), SourceError> {
        while let Some(batch) = self.batches.recv().await {
            self.write_down(&batch);
            self.ack(&self.last_commit);
        }
        self.running.await.unwrap()
    }

    /// Waits until it ends by itself, and why.
    pub(crate) async fn error(mut self) -> SourceError {
        let ended = async {
            loop {
                tokio::select! {
                    ended = &mut self.running => return ended.unwrap(),
                    batch = self.batches.recv() => drop(batch),
                }
            }
        };
        let ended = tokio::time::timeout(DEADLINE, ended).await;
        ended.expect("waited for the source to refuse").unwrap_err()
    }

    fn write_down(&mut self, batch: &Batch) {
        self.last_capacity = batch.bytes.capacity();
        for item in &batch.items {
            let seen = match item {
                Item::Shape(shape) => {
                    self.shapes.insert(shape.id, Arc::clone(shape));
                    continue;
                }
                Item::Begin(transaction) => Seen::Begin(transaction.position.clone()),
                Item::Change(change) => {
                    self.last_ordinal = change.ordinal;
                    Seen::Change(self.show(batch, change))
                }
                Item::Commit(commit) => {
                    self.last_commit = commit.position.clone();
                    Seen::Commit(commit.position.clone())
                }
                Item::SnapshotEnd(position) => Seen::SnapshotEnd(position.clone()),
            };
            self.pending.push_back(seen);
        }
    }

    fn show(&self, batch: &Batch, change: &Change) -> String {
        let shape = &self.shapes[&change.shape];
        let mut text = format!("{} {}", change.op.as_str(), shape.table.name);
        if let Some(row) = batch.before(change) {
            text.push_str(&format!(" ({})", show_row(shape, row)));
        }
        if let Some(row) = batch.after(change) {
            text.push_str(&format!(" [{}]", show_row(shape, row)));
        }
        text
    }
}

/// Cells in order: text, `null`, or `?` for unavailable; long ones by their length.
fn show_row(shape: &Shape, row: Row<'_>) -> String {
    let cells = shape.columns.iter().enumerate().map(|(index, column)| {
        let key = if column.key { "*" } else { "" };
        let value = match row.cell(index) {
            Cell::Value(bytes) if bytes.len() > 40 => format!("<{}>", bytes.len()),
            Cell::Value(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Cell::Null => "null".to_owned(),
            Cell::Unavailable => "?".to_owned(),
        };
        format!("{key}{}={value}", column.name)
    });
    cells.collect::<Vec<_>>().join(" ")
}
