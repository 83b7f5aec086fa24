//! A source and a mapping in this process: what they publish, without a sink.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rowbridge::event::{EncodedBatch, TopicId};
use rowbridge::mapping::capture::{Header, Writer};
use rowbridge::mapping::change_json::{ChangeReader, Tables};
use rowbridge::mapping::{Evaluator, Mapping, Pack, SourceFile, Stamp, Stop};
use rowbridge::paint::Look;
use rowbridge_api::{
    Batch, Cell, Claim, Item, Ownership, Remembers, Shape, Source, SourceError, SourceIo,
    SourceStatus, Start, Transaction, batch_channel,
};
use rowbridge_postgres::{PostgresConfig, PostgresSource, TlsMode};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// No step takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// The members of an event's data, or of a quarantine record.
pub(crate) type Members = BTreeMap<String, Box<RawValue>>;

/// What was published of one row.
pub(crate) struct Published {
    /// The type of the rule that made it.
    pub(crate) event: String,
    /// The row's key.
    pub(crate) id: i64,
    pub(crate) quarantined: bool,
    pub(crate) members: Members,
}

/// A running source and the mapping that reads it.
pub(crate) struct Reader {
    evaluator: Evaluator,
    writer: Writer,
    capture: ChangeReader,
    /// The shapes of what was sent, and of what was read back.
    sent: Vec<Arc<Shape>>,
    kept: Vec<Arc<Shape>>,
    batches: mpsc::Receiver<Batch>,
    running: JoinHandle<Result<(), SourceError>>,
    transaction: Option<Transaction>,
    out: EncodedBatch,
    _acked: watch::Sender<Option<rowbridge_api::Position>>,
    _status: watch::Receiver<SourceStatus>,
}

impl Reader {
    /// From the first start on.
    pub(crate) async fn start(url: &str, pipeline: &str, mapping: &str, schema: &str) -> Self {
        let mapping = Arc::new(compile(mapping, schema));
        let mut config = PostgresConfig::from_url(url).unwrap();
        config.tls = TlsMode::Disable;
        let mut source = PostgresSource::new(config, pipeline);
        let Claim::Owned(Ownership {
            identity,
            remembers: Remembers::Nothing,
            ..
        }) = source.own().await.unwrap()
        else {
            panic!("{pipeline} is new");
        };
        let (out, batches, _) = batch_channel(2);
        let (acked, acked_receiver) = watch::channel(None);
        let (status_sender, status) = watch::channel(SourceStatus::default());
        let io = SourceIo {
            start: Start::FIRST,
            tables: mapping.needs().to_vec(),
            out,
            acked: acked_receiver,
            status: status_sender,
            shutdown: CancellationToken::new(),
        };
        let stamp = Stamp {
            pipeline: pipeline.to_owned(),
            identity,
            max_record_bytes: 1 << 30,
        };
        let header = Header::new(&mapping, &stamp, String::new());
        Self {
            writer: Writer::new(&mapping, header),
            capture: ChangeReader::new(Arc::new(Tables::of(&mapping))),
            sent: Vec::new(),
            kept: Vec::new(),
            evaluator: Evaluator::new(mapping, stamp),
            batches,
            running: tokio::spawn(async move { source.run(io).await }),
            transaction: None,
            out: EncodedBatch::default(),
            _acked: acked,
            _status: status,
        }
    }

    /// The next `count` records.
    ///
    /// # Errors
    /// The mapping stops at a bad record.
    pub(crate) async fn next(&mut self, count: usize) -> Result<Vec<Published>, Stop> {
        let mut found = Vec::new();
        while found.len() < count {
            let batch = tokio::time::timeout(DEADLINE, self.batches.recv()).await;
            let Some(batch) = batch.expect("waited for a batch") else {
                panic!("the source ended: {:?}", (&mut self.running).await);
            };
            self.capture(&batch);
            self.take(&batch)?;
            found.extend(self.published());
        }
        assert_eq!(found.len(), count, "as many records as rows");
        Ok(found)
    }

    /// What a capture keeps of the batches is what they hold, to the byte.
    fn capture(&mut self, batch: &Batch) {
        let mut lines = Vec::new();
        let mut read = Batch::default();
        for item in &batch.items {
            self.writer.item(batch, item, &mut lines);
        }
        for line in str::from_utf8(&lines).unwrap().lines() {
            self.capture.line(line, &mut read).unwrap();
        }
        let (sent, read) = (cells(&mut self.sent, batch), cells(&mut self.kept, &read));
        assert_eq!(sent.len(), read.len(), "changes");
        for (sent, read) in sent.iter().zip(&read) {
            assert_eq!(sent, read);
        }
    }

    fn take(&mut self, batch: &Batch) -> Result<(), Stop> {
        for item in &batch.items {
            match item {
                Item::Shape(shape) => self
                    .evaluator
                    .bind(shape, &rowbridge_api::Position::new(0))?,
                Item::Begin(transaction) => self.transaction = Some(transaction.clone()),
                Item::Change(change) => {
                    let transaction = self.transaction.as_ref().unwrap();
                    self.evaluator
                        .change(batch, transaction, change, &mut self.out)?;
                }
                Item::Commit(_) | Item::SnapshotEnd(_) => {}
            }
        }
        Ok(())
    }

    fn published(&mut self) -> Vec<Published> {
        let mapping = self.evaluator.mapping();
        let records = self.out.records.iter().map(|record| {
            let key = std::str::from_utf8(self.out.bytes(record.key.unwrap())).unwrap();
            let value = self.out.bytes(record.value.unwrap());
            Published {
                event: mapping.rules()[usize::from(record.rule)].clone(),
                id: key.parse().unwrap(),
                quarantined: record.topic == TopicId::QUARANTINE,
                members: serde_json::from_slice(value).unwrap(),
            }
        });
        let published = records.collect();
        self.out.clear();
        published
    }
}

/// Every cell of the changes in `batch` with its column; `shapes` are those that came so far.
fn cells(shapes: &mut Vec<Arc<Shape>>, batch: &Batch) -> Vec<String> {
    let mut cells = Vec::new();
    for item in &batch.items {
        match item {
            Item::Shape(shape) => shapes.push(Arc::clone(shape)),
            Item::Change(change) => {
                let shape = shapes.iter().rfind(|shape| shape.id == change.shape);
                let shape = shape.unwrap();
                for row in [batch.before(change), batch.after(change)] {
                    let Some(row) = row else { continue };
                    for (index, column) in shape.columns.iter().enumerate() {
                        let cell = match row.cell(index) {
                            Cell::Value(bytes) => bytes.escape_ascii().to_string(),
                            other => format!("{other:?}"),
                        };
                        cells.push(format!("{}.{column:?}: {cell}", shape.table));
                    }
                }
            }
            Item::Begin(_) | Item::Commit(_) | Item::SnapshotEnd(_) => {}
        }
    }
    cells
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn compile(mapping: &str, schema: &str) -> Mapping {
    let file = |name: &str, text: &str| SourceFile {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let pack = Pack {
        mapping: file("mapping.toml", mapping),
        schema: file("schema.toml", schema),
        params: toml::Table::new(),
    };
    let compiled = Mapping::compile(&pack);
    compiled
        .unwrap_or_else(|all| panic!("{}", all.render(Look::PLAIN)))
        .0
}

/// A mapping that publishes every column of every table, and its schema: table name, columns with types.
pub(crate) fn publish_all(
    on_error: &str,
    tables: &[(&str, Vec<(String, String)>)],
) -> (String, String) {
    let mut mapping = format!(
        "[mapping]\nname = \"values\"\nversion = 1\non_error = \"{on_error}\"\n\
         [topics.all]\nname = \"all\"\npartitions = 1\n[tables]\n"
    );
    let (mut events, mut schema) = (String::new(), String::new());
    for (table, columns) in tables {
        mapping.push_str(&format!("{table} = \"public.{table}\"\n"));
        events.push_str(&format!(
            "[[event]]\ntype = \"{table}\"\ntable = \"{table}\"\ntopic = \"all\"\non = [\"read\", \"insert\"]\n[event.data]\n"
        ));
        schema.push_str(&format!(
            "[{table}]\nkey = [\"id\"]\n[{table}.columns]\nid = \"int8\"\n"
        ));
        for (name, declared) in columns {
            let name_key = toml::Value::from(name.as_str());
            events.push_str(&format!("{name_key} = '$.row[\"{name}\"]'\n"));
            schema.push_str(&format!(
                "{name_key} = {}\n",
                toml::Value::from(declared.as_str())
            ));
        }
    }
    (mapping + &events, schema)
}
