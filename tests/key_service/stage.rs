//! A broker with the topic of stays, what publishes there, and instances of the example.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rowbridge_testbed::Kafka;
use rowbridge_testbed::consumer::{Event, read_all};

use crate::stays::Published;

pub(crate) const STAYS: &str = "hotel.stays";
const SOON: Duration = Duration::from_secs(60);
/// Between two looks, each of which reads whole topics.
const PAUSE: Duration = Duration::from_millis(300);

pub(crate) struct Stage {
    kafka: Kafka,
    producer: BaseProducer,
    partitions: i32,
}

/// What becomes of what is published.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transaction {
    Commit,
    Abort,
}

impl Stage {
    pub(crate) async fn start(partitions: i32) -> Result<Self> {
        let kafka = Kafka::start().await?;
        let client = || {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", kafka.brokers());
            config
        };
        let admin: AdminClient<DefaultClientContext> = client().create()?;
        let topic = NewTopic::new(STAYS, partitions, TopicReplication::Fixed(1));
        admin.create_topics([&topic], &AdminOptions::new()).await?;
        let producer: BaseProducer = client()
            .set("transactional.id", "rowbridge.hotel")
            .create()?;
        producer.init_transactions(SOON)?;
        Ok(Self {
            kafka,
            producer,
            partitions,
        })
    }

    /// As Rowbridge does: several events in one transaction, each to the partition of its key.
    pub(crate) fn publish(&self, events: &[Published], end: Transaction) -> Result<()> {
        self.producer.begin_transaction()?;
        for event in events {
            let headers = event.headers.iter().map(|(key, value)| Header {
                key,
                value: Some(value),
            });
            let record = BaseRecord::to(STAYS)
                .key(&event.key)
                .payload(&event.data)
                .headers(headers.fold(OwnedHeaders::new(), OwnedHeaders::insert));
            self.producer.send(record).map_err(|(error, _)| error)?;
        }
        // Only what reached the broker can be aborted there.
        self.producer.flush(SOON)?;
        match end {
            Transaction::Commit => self.producer.commit_transaction(SOON)?,
            Transaction::Abort => self.producer.abort_transaction(SOON)?,
        }
        Ok(())
    }

    pub(crate) fn service(
        &self,
        group: &str,
        downstream: &str,
        instance: &str,
        delay: Duration,
    ) -> Result<Service> {
        let program = built()?;
        let child = Command::new(&program)
            .args([group, &self.kafka.brokers(), downstream])
            .args([
                "--instance",
                instance,
                "--delay-ms",
                &delay.as_millis().to_string(),
            ])
            .spawn();
        let child = child.with_context(|| format!("starting {}", program.display()))?;
        Ok(Service(child))
    }

    pub(crate) fn read(&self, topic: &str) -> Result<Vec<Event>> {
        read_all(&self.kafka.brokers(), topic)
    }

    /// Waits until a group is done with everything in `hotel.stays` and in its retry topic.
    pub(crate) fn wait_until_done(&self, group: &str) -> Result<()> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.kafka.brokers())
            .set("group.id", group)
            .create()?;
        wait_for(&format!("{group} to be done"), || {
            // The retry topic last: what lies in the other one until then may come to it.
            for topic in [STAYS.to_owned(), format!("{group}.retry")] {
                let mut asked = TopicPartitionList::new();
                asked.add_partition_range(&topic, 0, self.partitions - 1);
                // The broker first has to load what it knows of the group.
                let Ok(committed) = consumer.committed_offsets(asked, SOON) else {
                    return Ok(false);
                };
                let events = self.read(&topic)?;
                let open = |event: &Event| {
                    let element = committed.find_partition(&topic, event.partition);
                    !element.is_some_and(|element| match element.offset() {
                        Offset::Offset(next) => event.offset < next,
                        _ => false,
                    })
                };
                if events.iter().any(open) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

/// Waits until `holds`.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !holds()? {
        ensure!(started.elapsed() < SOON, "waited {SOON:?} for {what}");
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// The example, which `cargo test` builds beside its tests.
fn built() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let target = test
        .ancestors()
        .nth(2)
        .context("a test lies in target/debug/deps")?;
    let program = target.join("examples/key_service");
    ensure!(
        program.exists(),
        "first run `cargo build --example key_service`"
    );
    Ok(program)
}

/// An instance, which ends with the test.
pub(crate) struct Service(Child);

impl Service {
    /// SIGKILL, of an instance that still runs.
    pub(crate) fn kill9(&mut self) -> Result<()> {
        ensure!(self.0.try_wait()?.is_none(), "the service ended by itself");
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
