//! A broker with the topic of stays, what publishes there, and instances of the example.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    deaths: Arc<AtomicUsize>,
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
            deaths: Arc::default(),
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
        let mut command = Command::new(built()?);
        command
            .args([group, &self.kafka.brokers(), downstream])
            .args(["--instance", instance])
            .args(["--delay-ms", &delay.as_millis().to_string()]);
        Service::supervised(command, Arc::clone(&self.deaths))
    }

    /// How many instances were killed, or ended by themselves.
    pub(crate) fn deaths(&self) -> usize {
        self.deaths.load(Ordering::Relaxed)
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

/// An instance, which ends with the test. One that ends by itself, as it does on any error of Kafka, is started again.
pub(crate) struct Service {
    /// Nothing once it was killed.
    child: Arc<Mutex<Option<Child>>>,
    deaths: Arc<AtomicUsize>,
}

impl Service {
    fn supervised(mut command: Command, deaths: Arc<AtomicUsize>) -> Result<Self> {
        let child = Arc::new(Mutex::new(Some(command.spawn()?)));
        let (watched, counted) = (Arc::clone(&child), Arc::clone(&deaths));
        // Whether it was not killed.
        let mut look = move || {
            let mut child = locked(&watched);
            if let Some(running) = child.as_mut()
                && running.try_wait().is_ok_and(|ended| ended.is_some())
            {
                counted.fetch_add(1, Ordering::Relaxed);
                *running = command.spawn().expect("it was started before");
            }
            child.is_some()
        };
        thread::spawn(move || {
            while look() {
                thread::sleep(PAUSE);
            }
        });
        Ok(Self { child, deaths })
    }

    /// SIGKILL; it is not started again.
    pub(crate) fn kill9(&mut self) -> Result<()> {
        if let Some(mut child) = locked(&self.child).take() {
            self.deaths.fetch_add(1, Ordering::Relaxed);
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}

fn locked(child: &Mutex<Option<Child>>) -> MutexGuard<'_, Option<Child>> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.kill9();
    }
}
