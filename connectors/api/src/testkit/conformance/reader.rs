//! A consumer that reads a source message by message, stops where it is told to, and never waits for ever.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::model::{Message, Seen};
use super::{Acknowledged, Subject, Violation};
use crate::batch::{Batch, Item, Op, Transaction};
use crate::position::Position;
use crate::shape::{Shape, ShapeId};
use crate::source::{
    Claim, ColumnNeed, Identity, OpSet, Source, SourceError, SourceIo, SourceStatus, Start,
    TableNeeds, batch_channel,
};
use crate::value::Type;

/// How long the suite waits for anything before it says what it waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How often it looks again where there is nothing to wait on.
const POLL: Duration = Duration::from_millis(20);
/// Batches in the channel: few, so that a consumer that stops is soon felt.
const CHANNEL_BATCHES: usize = 1;

/// Claims a source for the subject, once an earlier owner is gone.
pub(super) async fn own<S: Subject>(subject: &S) -> Result<(S::Source, Identity), Violation> {
    let mut source = subject.source();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match source.own().await {
            Ok(Claim::Owned(ownership)) => return Ok((source, ownership.identity)),
            Ok(Claim::Standby { holder }) if Instant::now() > deadline => {
                return Err(Violation::new(format!(
                    "waited {PATIENCE:?} to own the source, which {holder} still has"
                )));
            }
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Ok(Claim::Standby { .. }) | Err(SourceError::Transient { .. }) => sleep(POLL).await,
            Err(refused) => return Err(refused.into()),
        }
    }
}

/// A running source and what came of it so far. Dropping it is a crash of the consumer.
pub(super) struct Reader {
    task: JoinHandle<Result<(), SourceError>>,
    batches: mpsc::Receiver<Batch>,
    emptied: mpsc::Sender<Batch>,
    acked: Option<watch::Sender<Option<Position>>>,
    shutdown: CancellationToken,
    shapes: HashMap<ShapeId, Arc<Shape>>,
    open: Option<Transaction>,
    queue: VecDeque<Message>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reader {
    /// Starts the subject's source for the first time.
    pub(super) async fn first<S: Subject>(subject: &S) -> Result<Self, Violation> {
        let (source, _) = own(subject).await?;
        Ok(Self::start(subject, source, Start::FIRST))
    }

    /// Starts it at `position`.
    pub(super) async fn resume<S: Subject>(
        subject: &S,
        position: &Position,
    ) -> Result<Self, Violation> {
        let (source, identity) = own(subject).await?;
        let start = Start::Resume {
            position: position.clone(),
            recorded: identity,
        };
        Ok(Self::start(subject, source, start))
    }

    pub(super) fn start<S: Subject>(subject: &S, mut source: S::Source, start: Start) -> Self {
        let (out, batches, emptied) = batch_channel(CHANNEL_BATCHES);
        let (acked, acked_by_consumer) = watch::channel(None);
        let shutdown = CancellationToken::new();
        let io = SourceIo {
            start,
            tables: vec![needs(subject)],
            out,
            acked: acked_by_consumer,
            status: watch::Sender::new(SourceStatus::default()),
            shutdown: shutdown.clone(),
        };
        Self {
            task: tokio::spawn(async move { source.run(io).await }),
            batches,
            emptied,
            acked: Some(acked),
            shutdown,
            shapes: HashMap::new(),
            open: None,
            queue: VecDeque::new(),
        }
    }

    /// The next message; `what` is expected.
    pub(super) async fn next(&mut self, what: &str) -> Result<Message, Violation> {
        loop {
            if let Some(message) = self.queue.pop_front() {
                return Ok(message);
            }
            match timeout(PATIENCE, self.batches.recv()).await {
                Err(_) => return Err(Violation::new(format!("waited {PATIENCE:?} for {what}"))),
                Ok(Some(batch)) => self.unpack(batch)?,
                Ok(None) => {
                    let end = self.ended().await?;
                    return Err(Violation::new(format!(
                        "the run ended before {what}: {end:?}"
                    )));
                }
            }
        }
    }

    /// Reads to the commit of the transaction that inserts row `id`.
    pub(super) async fn read_to_insert_of(&mut self, id: i64) -> Result<Vec<Message>, Violation> {
        let what = format!("the commit of row {id}");
        let mut messages = Vec::new();
        let mut seen = false;
        loop {
            let message = self.next(&what).await?;
            seen |= matches!(&message, Message::Change(change)
                if change.op == Op::Insert && change.after.as_ref().and_then(|after| after.key()) == Some(id));
            let done = seen && matches!(message, Message::Commit(_));
            messages.push(message);
            if done {
                return Ok(messages);
            }
        }
    }

    /// Reads to the end of the first snapshot: what came, and from where the stream follows.
    pub(super) async fn read_to_snapshot_end(
        &mut self,
    ) -> Result<(Vec<Message>, Position), Violation> {
        let mut messages = Vec::new();
        loop {
            let message = self.next("the end of the snapshot").await?;
            messages.push(message.clone());
            if let Message::SnapshotEnd(position) = message {
                return Ok((messages, position));
            }
        }
    }

    /// Tells the source that everything up to `position` is committed.
    pub(super) fn acknowledge(&self, position: &Position) {
        if let Some(acked) = &self.acked {
            acked.send_replace(Some(position.clone()));
        }
    }

    /// As a pipeline that ends without committing anything more.
    pub(super) fn stop_acknowledging(&mut self) {
        self.acked = None;
    }

    pub(super) fn shut_down(&self) {
        self.shutdown.cancel();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits for the run to end, taking what it still sends; gives its result.
    pub(super) async fn ended(&mut self) -> Result<Result<(), SourceError>, Violation> {
        let end = async {
            while self.batches.recv().await.is_some() {}
            (&mut self.task).await
        };
        match timeout(PATIENCE, end).await {
            Err(_) => Err(Violation::new(format!(
                "waited {PATIENCE:?} for the run to end"
            ))),
            Ok(Err(panic)) => Err(Violation::new(format!("the source panicked: {panic}"))),
            Ok(Ok(result)) => Ok(result),
        }
    }

    fn unpack(&mut self, mut batch: Batch) -> Result<(), Violation> {
        for item in &batch.items {
            let message = match item {
                Item::Shape(shape) => {
                    if shape.id.0 as usize != self.shapes.len() {
                        return Err(Violation::new("shapes are not numbered in order from 0"));
                    }
                    self.shapes.insert(shape.id, Arc::clone(shape));
                    continue;
                }
                Item::Begin(transaction) => {
                    self.open = Some(transaction.clone());
                    Message::Begin(transaction.clone())
                }
                Item::Change(change) => {
                    let transaction = self.open.as_ref();
                    let transaction = transaction
                        .ok_or_else(|| Violation::new("a change outside a transaction"))?;
                    let shape = self.shapes.get(&change.shape);
                    let shape = shape.ok_or_else(|| Violation::new("a change before its shape"))?;
                    Message::Change(Seen::read(transaction, shape, &batch, change)?)
                }
                Item::Commit(commit) => match self.open.take() {
                    Some(_) => Message::Commit(commit.position.clone()),
                    None => Message::Idle(commit.position.clone()),
                },
                Item::SnapshotEnd(position) => {
                    self.open = None;
                    Message::SnapshotEnd(position.clone())
                }
            };
            self.queue.push_back(message);
        }
        batch.clear();
        // A source that ended takes no buffers back.
        let _ = self.emptied.try_send(batch);
        Ok(())
    }
}

pub(super) fn needs<S: Subject>(subject: &S) -> TableNeeds {
    let column = |(name, ty): (&str, &str)| ColumnNeed {
        name: name.to_owned(),
        ty: Type::parse(ty),
        labels: Vec::new(),
        before: false,
        rules: vec!["conformance".to_owned()],
    };
    TableNeeds {
        table: subject.table(),
        key: vec!["id".to_owned()],
        columns: [("id", "int8"), ("name", "text"), ("notes", "text")]
            .map(column)
            .to_vec(),
        ops: [Op::Insert, Op::Update, Op::Delete, Op::Read]
            .into_iter()
            .collect::<OpSet>(),
    }
}

/// Looks at what the database was told until it is at least `position`, and never more than that.
pub(super) async fn wait_for_acknowledgement<S: Subject>(
    subject: &S,
    position: &Position,
) -> Result<(), Violation> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match subject.acknowledged().await? {
            Acknowledged::Never => return Ok(()),
            Acknowledged::UpTo(told) if told > position.order() => {
                let told = Position::new(told);
                return Err(Violation::new(format!(
                    "the database was told {told}, committed was {position}"
                )));
            }
            Acknowledged::UpTo(told) if told == position.order() => return Ok(()),
            _ if Instant::now() > deadline => {
                return Err(Violation::new(format!(
                    "waited {PATIENCE:?} for the acknowledgement of {position}"
                )));
            }
            _ => sleep(POLL).await,
        }
    }
}
