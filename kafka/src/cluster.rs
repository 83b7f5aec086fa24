//! The cluster as far as a producer needs it: where its brokers are, and who leads which partition.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    BrokerId, ListOffsetsRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::error::check;
use crate::link::{Link, unanswered};
use crate::settings::Settings;
use crate::{Code, Error};

/// Newest version that names topics and needs no ids for them.
const METADATA_VERSION: i16 = 9;
/// Pause before the cluster is asked again about a partition without a leader.
const ELECTION_PAUSE: Duration = Duration::from_millis(20);
/// Newest version that takes one log per partition for granted.
const OFFSETS_VERSION: i16 = 6;
/// Asks for the end of a partition.
const LATEST: i64 = -1;
const WHAT: &str = "asking who leads the partitions";

/// Where a broker listens for us.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    host: String,
    port: u16,
}

/// Brokers by number, and for each topic asked for the leaders of its partitions.
#[derive(Debug)]
pub(crate) struct Cluster {
    brokers: BTreeMap<i32, Address>,
    /// By number of the topic, then of the partition.
    pub(crate) leaders: Vec<Vec<i32>>,
}

/// Asks whether one of the configured brokers lets us in. Nothing comes of it.
///
/// # Errors
/// Why the brokers do not, see [`crate::Barrier`], or why none could be asked.
pub fn greet(settings: &Settings, timeout: Duration) -> Result<(), Error> {
    const WHAT: &str = "asking for the brokers";
    let deadline = Instant::now() + timeout;
    let mut link = bootstrap(settings, deadline)?;
    // A listener that wants a login hangs up on whoever asks for more than versions without one.
    let brokers = MetadataRequest::default().with_topics(Some(Vec::new()));
    link.call(WHAT, &brokers, METADATA_VERSION, deadline)
        .map(drop)
        .map_err(unanswered)
}

/// A link to the first of the configured brokers that takes us.
///
/// A broker that answers knows better than one that does not, so its error counts.
pub(crate) fn bootstrap(settings: &Settings, deadline: Instant) -> Result<Link, Error> {
    let mut failed = None;
    let brokers = (1..=u32::try_from(settings.brokers.len()).unwrap_or(u32::MAX)).rev();
    for (broker, still_to_ask) in settings.brokers.iter().zip(brokers) {
        // One that is silent must leave time for the others.
        let patience = deadline.saturating_duration_since(Instant::now()) / still_to_ask;
        let connected = address(broker)
            .ok_or_else(|| Error::Link {
                peer: broker.clone(),
                problem: "this is not host:port".to_owned(),
            })
            .and_then(|address| address.connect(settings, Instant::now() + patience));
        match (connected, &failed) {
            (Ok(link), _) => return Ok(link),
            (Err(_), Some(Error::Login { .. })) => {}
            (Err(error), _) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| Error::Link {
        peer: "Kafka".to_owned(),
        problem: "no broker is configured".to_owned(),
    }))
}

/// `host:port` or `[v6]:port`; the port is Kafka's where none is given.
fn address(broker: &str) -> Option<Address> {
    const PORT: u16 = 9092;
    // librdkafka takes a protocol in front.
    let broker = broker.split_once("://").map_or(broker, |(_, rest)| rest);
    let (host, port) = match broker.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().ok()?)
        }
        _ => (broker, PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| Address {
        host: host.to_owned(),
        port,
    })
}

impl Address {
    pub(crate) fn new(host: &StrBytes, port: i32) -> Self {
        Self {
            host: host.to_string(),
            port: u16::try_from(port).unwrap_or_default(),
        }
    }

    pub(crate) fn connect(&self, settings: &Settings, deadline: Instant) -> Result<Link, Error> {
        Link::connect(settings, &self.host, self.port, deadline)
    }
}

impl Cluster {
    /// Asks until every partition of `topics` has a leader that knows it, and connects to all of them.
    ///
    /// A broker learns of a topic that was just created a little after the cluster tells of it.
    pub(crate) fn learn(
        any: &mut Link,
        topics: &[String],
        settings: &Settings,
        deadline: Instant,
    ) -> Result<(Self, BTreeMap<i32, Link>), Error> {
        loop {
            let learnt = Self::ask(any, topics, deadline).and_then(|cluster| {
                let links = cluster.connect_leaders(topics, settings, deadline)?;
                Ok((cluster, links))
            });
            match learnt {
                Err(error)
                    if error.code().is_some_and(|code| code.is_retriable())
                        && Instant::now() + ELECTION_PAUSE < deadline =>
                {
                    thread::sleep(ELECTION_PAUSE);
                }
                done => return done,
            }
        }
    }

    fn ask(link: &mut Link, topics: &[String], deadline: Instant) -> Result<Self, Error> {
        let named = |name: &String| {
            MetadataRequestTopic::default()
                .with_name(Some(TopicName(StrBytes::from_string(name.clone()))))
        };
        let request = MetadataRequest::default()
            .with_topics(Some(topics.iter().map(named).collect()))
            .with_allow_auto_topic_creation(false);
        let answer = link.call(WHAT, &request, METADATA_VERSION, deadline)?;
        Self::of(&answer, topics)
    }

    fn of(answer: &MetadataResponse, topics: &[String]) -> Result<Self, Error> {
        let brokers = answer
            .brokers
            .iter()
            .map(|broker| (*broker.node_id, Address::new(&broker.host, broker.port)))
            .collect();
        let leaders = topics
            .iter()
            .map(|name| {
                let found = answer.topics.iter().find(|topic| {
                    topic
                        .name
                        .as_ref()
                        .is_some_and(|found| found.as_str() == name)
                });
                found
                    .ok_or(Error::refused(WHAT, Code::UnknownTopicOrPartition))
                    .and_then(leaders)
                    .map_err(|error| about(error, name))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { brokers, leaders })
    }

    /// Links to all leaders, if each of them knows that it leads.
    fn connect_leaders(
        &self,
        topics: &[String],
        settings: &Settings,
        deadline: Instant,
    ) -> Result<BTreeMap<i32, Link>, Error> {
        let mut of_leaders: BTreeMap<i32, Vec<ListOffsetsTopic>> = BTreeMap::new();
        for (name, leaders) in topics.iter().zip(&self.leaders) {
            for (number, leader) in (0..).zip(leaders) {
                let partition = ListOffsetsPartition::default()
                    .with_partition_index(number)
                    .with_timestamp(LATEST);
                let asked = of_leaders.entry(*leader).or_default();
                match asked.last_mut() {
                    Some(last) if last.name.as_str() == name => last.partitions.push(partition),
                    _ => asked.push(
                        ListOffsetsTopic::default()
                            .with_name(TopicName(StrBytes::from_string(name.clone())))
                            .with_partitions(vec![partition]),
                    ),
                }
            }
        }
        let mut links = BTreeMap::new();
        for (leader, asked) in of_leaders {
            let mut link = self.connect(leader, settings, deadline)?;
            let request = ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_topics(asked);
            leads(&mut link, &request, deadline)?;
            links.insert(leader, link);
        }
        Ok(links)
    }

    pub(crate) fn connect(
        &self,
        broker: i32,
        settings: &Settings,
        deadline: Instant,
    ) -> Result<Link, Error> {
        let address = self.brokers.get(&broker);
        let address = address.ok_or(Error::refused(WHAT, Code::LeaderNotAvailable))?;
        address.connect(settings, deadline)
    }
}

/// The leaders of a topic's partitions, in their order.
fn leaders(topic: &MetadataResponseTopic) -> Result<Vec<i32>, Error> {
    check(WHAT, topic.error_code)?;
    let mut leaders = BTreeMap::new();
    for partition in &topic.partitions {
        // A partition whose replicas are partly away has a leader all the same.
        if *partition.leader_id < 0 {
            check(WHAT, partition.error_code)?;
            return Err(Error::refused(WHAT, Code::LeaderNotAvailable));
        }
        leaders.insert(partition.partition_index, *partition.leader_id);
    }
    let complete = leaders
        .keys()
        .copied()
        .eq(0..i32::try_from(leaders.len()).unwrap_or(i32::MAX));
    match complete && !leaders.is_empty() {
        true => Ok(leaders.into_values().collect()),
        false => Err(Error::refused(WHAT, Code::LeaderNotAvailable)),
    }
}

/// The error with the topic it is about.
pub(crate) fn about(error: Error, name: &str) -> Error {
    match error {
        Error::Refused { what, code, .. } => Error::Refused {
            what,
            code,
            topic: Some(name.to_owned()),
        },
        other => other,
    }
}

/// Whether a broker leads all the partitions it is asked about.
fn leads(link: &mut Link, request: &ListOffsetsRequest, deadline: Instant) -> Result<(), Error> {
    let answer = link.call(WHAT, request, OFFSETS_VERSION, deadline)?;
    for topic in &answer.topics {
        for partition in &topic.partitions {
            check(WHAT, partition.error_code).map_err(|error| about(error, topic.name.as_str()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_librdkafka_reads_them() {
        for (text, host, port) in [
            ("kafka:9093", "kafka", 9093),
            ("kafka", "kafka", 9092),
            ("[::1]:9093", "::1", 9093),
            ("::1", "::1", 9092),
            ("ssl://kafka:9094", "kafka", 9094),
        ] {
            let address = address(text).unwrap();
            assert_eq!(
                (address.host.as_str(), address.port),
                (host, port),
                "{text}"
            );
        }
        assert!(address("kafka:http").is_none());
        assert!(address(":9092").is_none());
    }
}
