//! Rights and settings, found out without writing anything or fencing anybody.

use rowbridge_api::Finding;

use super::position::Reader;
use super::topics::{self, Admin};
use super::{KafkaConfig, Published};
use crate::sink::SinkError;

pub(super) fn check(
    config: &KafkaConfig,
    published: &Published,
) -> Result<Vec<Finding>, SinkError> {
    let reader = Reader::connect(config)?;
    reader.cluster_id()?;
    let admin = Admin::connect(config)?;
    topics::compare(&reader, &admin, config, published)
}
