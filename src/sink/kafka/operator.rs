//! What people do by hand: show the position, set it, delete the pipeline's topics.
//!
//! Nothing here looks at the source. Whether an instance runs is seen from the slot, so the caller asks
//! there first.

use std::sync::Arc;

use jiff::Timestamp;
use rdkafka::error::RDKafkaErrorCode;
use rowbridge_api::Identity;

use super::position::{self, PositionRecord, Reader, Recorded};
use super::topics::{self, Admin};
use super::turns::Turns;
use super::verdict::{self, Right};
use super::{KafkaConfig, Published, RecordedTime};
use crate::sink::{Checkpoint, Progress, SinkError};

/// The last committed position of the pipeline; `None` if there is none. Fences nobody.
///
/// # Errors
/// The brokers cannot be reached, or the record cannot be read.
pub fn show_position(config: &KafkaConfig) -> Result<Option<Recorded>, SinkError> {
    let reader = Reader::connect(config)?;
    reader.cluster_id()?;
    reader.position()
}

/// Makes `progress` the committed position, whatever was there, and accepts the cluster and the partition
/// counts as they are now. Returns what was there.
///
/// Fences a running instance, which then stops or starts over from this position.
///
/// # Errors
/// As [`super::KafkaSink`] when it opens and commits, but for what this overrides. A record that cannot be
/// read counts as none.
pub fn set_position(
    config: &KafkaConfig,
    published: &Published,
    source: &Identity,
    progress: &Progress,
) -> Result<Option<Recorded>, SinkError> {
    let reader = Reader::connect(config)?;
    let kafka_cluster = reader.cluster_id()?;
    let partitions_of_topics = topics::ensure(&reader, config, published)?;
    let names = Arc::new(published.names(config));
    let mut transactions = Turns::fence(&Arc::new(config.clone()), &names)?;
    let before = match reader.position() {
        Err(SinkError::Refused { .. }) => None,
        read => read?,
    };
    let checkpoint = Checkpoint {
        progress: progress.clone(),
        source: source.clone(),
        mapping_hash: published.mapping_hash.clone(),
        partitions_of_topics,
    };
    let now = Timestamp::now();
    let record = PositionRecord::new(
        &checkpoint,
        // What rules remember belongs to the position that was.
        None,
        &kafka_cluster,
        RecordedTime(now).to_string(),
        // No process goes on from here.
        None,
    );
    transactions.commit(position::KEY, &record.encode(), now)?;
    Ok(before)
}

/// Deletes the position, quarantine and state topics, after which the pipeline is unknown to Kafka. The topics of
/// its events stay. Returns the names of those that existed.
///
/// # Errors
/// The brokers cannot be reached or refuse.
pub fn delete_topics(config: &KafkaConfig) -> Result<Vec<String>, SinkError> {
    Reader::connect(config)?.cluster_id()?;
    let names = config.topics_of_its_own();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut deleted = Vec::new();
    for result in Admin::connect(config)?.delete(&names)? {
        match result {
            Ok(name) => deleted.push(name),
            Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((name, code)) => return Err(verdict::of_topic(config, Right::Delete, code, &name)),
        }
    }
    Ok(deleted)
}
