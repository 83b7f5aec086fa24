//! The producer: records into batches, batches to the leaders of their partitions, transactions to their end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::cluster::{self, Cluster, about};
use crate::error::check;
use crate::link::Link;
use crate::murmur2;
use crate::records::{Batch, Fields, HeaderName, Stamp};
use crate::settings::Settings;
use crate::transaction::{Coordinator, End};
use crate::{CommitError, Error};

/// Newest version before brokers enlist partitions by themselves (KIP-890).
const PRODUCE_VERSION: i16 = 11;
/// A batch is taken once it is on all in-sync replicas.
const ALL_IN_SYNC_REPLICAS: i16 = -1;
const WHAT: &str = "sending records";

/// Where in its topic a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// By its key, as Java places it; without a key to the first partition.
    ByKey,
    /// To this partition, counted from 0.
    Partition(usize),
}

/// Publishes records in transactions, under a transactional id that it took over when it was made.
///
/// Blocking. After an error it only can be dropped.
pub struct Producer {
    settings: Arc<Settings>,
    coordinator: Coordinator,
    cluster: Cluster,
    leaders: BTreeMap<i32, Link>,
    topics: Vec<Topic>,
    /// Partitions with something to send, by number of topic and of partition.
    dirty: Vec<(usize, usize)>,
    /// Bytes written and not sent.
    buffered: usize,
    /// Whether the transaction has a partition.
    open: bool,
    scratch: Vec<u8>,
}

struct Topic {
    name: TopicName,
    partitions: Vec<Partition>,
}

struct Partition {
    leader: i32,
    batch: Batch,
    /// Number of the next record, as brokers check it.
    sequence: i32,
    /// Whether it is part of the open transaction.
    enlisted: bool,
    /// The offset of the first record of the last batch that its leader took.
    reached: Option<i64>,
}

impl Producer {
    /// Takes the transactional id over and learns who leads the partitions of `topics`.
    ///
    /// Every earlier producer of the id is fenced, and what it left open is settled before this returns.
    ///
    /// # Errors
    /// The brokers cannot be reached, or refuse the login, the id or a topic.
    pub fn fence(
        settings: Arc<Settings>,
        id: &str,
        topics: &[String],
        timeout: Duration,
    ) -> Result<Self, Error> {
        let deadline = Instant::now() + timeout;
        let mut any = cluster::bootstrap(&settings, deadline)?;
        let (cluster, leaders) = Cluster::learn(&mut any, topics, &settings, deadline)?;
        let coordinator = Coordinator::fence(&settings, id, &mut any, deadline)?;
        let topics = topics
            .iter()
            .zip(&cluster.leaders)
            .map(|(name, leaders)| Topic {
                name: TopicName(StrBytes::from_string(name.clone())),
                partitions: leaders
                    .iter()
                    .map(|leader| Partition::new(*leader))
                    .collect(),
            })
            .collect();
        Ok(Self {
            settings,
            coordinator,
            cluster,
            leaders,
            topics,
            dirty: Vec::new(),
            buffered: 0,
            open: false,
            scratch: Vec::new(),
        })
    }

    /// How many partitions a topic has, by its number in the list the producer was made with.
    #[must_use]
    pub fn partitions(&self, topic: usize) -> usize {
        self.topics[topic].partitions.len()
    }

    /// The offset at which the last batch begins that a partition took of this producer; none before the first one.
    #[must_use]
    pub fn reached(&self, topic: usize, partition: usize) -> Option<i64> {
        self.topics[topic].partitions[partition].reached
    }

    /// Takes a record into the transaction; `topic` is its number in the list the producer was made with. Sends
    /// what is buffered once that is enough, and does not wait for the brokers to take it.
    ///
    /// # Errors
    /// See [`Error`]; the transaction cannot be committed any more.
    pub fn append<'a, H>(
        &mut self,
        topic: usize,
        placement: Placement,
        fields: Fields<'_, H>,
    ) -> Result<(), Error>
    where
        H: Iterator<Item = (&'a HeaderName, &'a [u8])> + Clone,
    {
        let partitions = self.topics[topic].partitions.len();
        let partition = match (placement, fields.key) {
            (Placement::ByKey, Some(key)) => murmur2::partition(key, partitions),
            (Placement::ByKey, None) => 0,
            (Placement::Partition(partition), _) => partition,
        };
        let waiting = self.topics[topic].partitions[partition].batch.len();
        if waiting > 0 && waiting + fields.len_max() > self.settings.batch_bytes {
            self.send()?;
        }
        let batch = &mut self.topics[topic].partitions[partition].batch;
        if batch.is_empty() {
            self.dirty.push((topic, partition));
        }
        self.buffered += batch.push(fields, &mut self.scratch);
        if self.buffered >= self.settings.buffer_bytes {
            self.send()?;
        }
        Ok(())
    }

    /// Sends what is buffered, waits until the brokers have everything, and commits. `timeout` is for the answer to
    /// the commit alone.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn commit(&mut self, timeout: Duration) -> Result<(), CommitError> {
        self.send()
            .and_then(|()| self.receive_all(self.deadline()))
            .map_err(CommitError::NotAsked)?;
        if self.open {
            self.coordinator
                .end(End::Commit, Instant::now() + timeout)
                .map_err(CommitError::Open)?;
        }
        self.close();
        Ok(())
    }

    /// Drops what is not committed, and tells the coordinator, so that readers need not wait for its time-out.
    ///
    /// # Errors
    /// See [`Error`]; the coordinator then aborts by itself.
    pub fn abort(&mut self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        for (topic, partition) in self.dirty.drain(..) {
            self.topics[topic].partitions[partition].batch.clear();
        }
        self.buffered = 0;
        if self.open {
            // A record that arrives after the end would open the transaction again.
            self.receive_all(deadline)?;
            self.coordinator.end(End::Abort, deadline)?;
        }
        self.close();
        Ok(())
    }

    fn close(&mut self) {
        self.open = false;
        for topic in &mut self.topics {
            for partition in &mut topic.partitions {
                partition.enlisted = false;
            }
        }
    }

    /// For a step whose time nobody else limits.
    fn deadline(&self) -> Instant {
        let Settings {
            request_timeout,
            transaction_timeout,
            ..
        } = *self.settings;
        Instant::now() + request_timeout.min(transaction_timeout)
    }

    /// Sends everything buffered, in one request to each broker.
    fn send(&mut self) -> Result<(), Error> {
        if self.dirty.is_empty() {
            return Ok(());
        }
        let deadline = self.deadline();
        if !self.open {
            self.refresh(deadline)?;
        }
        self.dirty.sort_unstable();
        self.enlist(deadline)?;
        for (leader, topics) in self.close_batches() {
            self.produce(leader, topics, deadline)?;
        }
        self.buffered = 0;
        Ok(())
    }

    /// Connections that brokers ended while there was nothing to do are no trouble.
    fn refresh(&mut self, deadline: Instant) -> Result<(), Error> {
        self.coordinator.refresh(&self.settings, deadline)?;
        self.leaders.retain(|_, link| !link.is_stale());
        Ok(())
    }

    /// Makes the partitions with something to send part of the transaction.
    fn enlist(&mut self, deadline: Instant) -> Result<(), Error> {
        let mut joining: Vec<AddPartitionsToTxnTopic> = Vec::new();
        for &(topic, partition) in &self.dirty {
            let Topic { name, partitions } = &mut self.topics[topic];
            if std::mem::replace(&mut partitions[partition].enlisted, true) {
                continue;
            }
            let number = index(partition);
            match joining.last_mut() {
                Some(last) if last.name == *name => last.partitions.push(number),
                _ => joining.push(
                    AddPartitionsToTxnTopic::default()
                        .with_name(name.clone())
                        .with_partitions(vec![number]),
                ),
            }
        }
        if joining.is_empty() {
            return Ok(());
        }
        self.open = true;
        self.coordinator.enlist(joining, deadline)
    }

    /// The finished batches, by the broker that leads their partition.
    fn close_batches(&mut self) -> BTreeMap<i32, Vec<TopicProduceData>> {
        let (producer, epoch) = self.coordinator.producer();
        let mut of_leaders: BTreeMap<i32, Vec<TopicProduceData>> = BTreeMap::new();
        for (topic, number) in self.dirty.drain(..) {
            let Topic { name, partitions } = &mut self.topics[topic];
            let partition = &mut partitions[number];
            let stamp = Stamp {
                producer,
                epoch,
                sequence: partition.sequence,
            };
            partition.sequence = next_sequence(partition.sequence, partition.batch.count());
            let records = partition.batch.close(stamp, self.settings.compression);
            let data = PartitionProduceData::default()
                .with_index(index(number))
                .with_records(Some(records));
            let topics = of_leaders.entry(partition.leader).or_default();
            match topics.last_mut() {
                Some(last) if last.name == *name => last.partition_data.push(data),
                _ => topics.push(
                    TopicProduceData::default()
                        .with_name(name.clone())
                        .with_partition_data(vec![data]),
                ),
            }
        }
        of_leaders
    }

    fn produce(
        &mut self,
        leader: i32,
        topics: Vec<TopicProduceData>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let timeout_ms = self.settings.request_timeout.as_millis();
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.coordinator.id().clone()))
            .with_acks(ALL_IN_SYNC_REPLICAS)
            .with_timeout_ms(i32::try_from(timeout_ms).unwrap_or(i32::MAX))
            .with_topic_data(topics);
        let link = match self.leaders.entry(leader) {
            std::collections::btree_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::btree_map::Entry::Vacant(missing) => {
                missing.insert(self.cluster.connect(leader, &self.settings, deadline)?)
            }
        };
        while link.in_flight() >= self.settings.requests_in_flight {
            receive(link, &mut self.topics, deadline)?;
        }
        link.send(&request, PRODUCE_VERSION)
    }

    /// Waits until the brokers answered everything that was sent.
    fn receive_all(&mut self, deadline: Instant) -> Result<(), Error> {
        for link in self.leaders.values_mut() {
            while link.in_flight() > 0 {
                receive(link, &mut self.topics, deadline)?;
            }
        }
        Ok(())
    }
}

impl Partition {
    fn new(leader: i32) -> Self {
        Self {
            leader,
            batch: Batch::default(),
            sequence: 0,
            enlisted: false,
            reached: None,
        }
    }
}

/// The oldest answer of a leader: whether it took every batch of the request.
fn receive(link: &mut Link, topics: &mut [Topic], deadline: Instant) -> Result<(), Error> {
    let answer: ProduceResponse = link.answer::<ProduceRequest>(WHAT, deadline)?;
    for topic in &answer.responses {
        let mut known = topics.iter_mut().find(|known| known.name == topic.name);
        for partition in &topic.partition_responses {
            check(WHAT, partition.error_code).map_err(|error| about(error, topic.name.as_str()))?;
            let number = usize::try_from(partition.index).unwrap_or(usize::MAX);
            let known = known
                .as_mut()
                .and_then(|known| known.partitions.get_mut(number));
            if let Some(known) = known {
                known.reached = Some(partition.base_offset);
            }
        }
    }
    Ok(())
}

/// Sequences wrap around from 2^31 - 1 to 0.
fn next_sequence(sequence: i32, records: i32) -> i32 {
    sequence.wrapping_add(records) & i32::MAX
}

fn index(partition: usize) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_as_brokers_count_them() {
        assert_eq!(next_sequence(5, 3), 8);
        assert_eq!(next_sequence(i32::MAX, 1), 0);
        assert_eq!(next_sequence(i32::MAX - 1, 5), 3);
    }
}
