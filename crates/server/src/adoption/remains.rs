//! What log directories tell of their cluster by themselves, where its ZooKeeper is gone.

use std::collections::BTreeMap;

use ottla_log::FoundLog;
use ottla_metadata::Config;
use ottla_metadata::adoption::{Image, ImagePartition, ImageTopic};
use ottla_record::{LeaderEpoch, ProducerId, Uuid};
use tracing::warn;

use super::refusal::AdoptionError;
use crate::config::BrokerConfig;
use crate::topics::{OFFSETS_TOPIC, offsets_topic_config};

/// The topic of transactions, as Kafka calls it.
const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// So many ids are passed over behind the greatest that a log remembers: a thousand of the blocks
/// that a broker takes. They may be with producers that have not written since, or not yet.
const PRODUCER_IDS_MARGIN: i64 = 1_000_000;

/// Kafka's number of topics among the kinds of resources.
const TOPIC: i8 = 2;

/// Topics, ids and partitions of the logs; a place for producer ids behind all that were seen.
pub(super) fn image(config: &BrokerConfig, logs: &[FoundLog]) -> Result<Image, AdoptionError> {
    let mut image = Image::default();
    for log in logs {
        let topic = image.topics.entry(log.partition.topic.clone()).or_default();
        match log.topic_id {
            Some(id) if topic.id.is_zero() => topic.id = id,
            Some(id) if topic.id != id => {
                let (topic, path) = (log.partition.topic.clone(), log.path.clone());
                return Err(AdoptionError::TwoIds { topic, path });
            }
            _ => {}
        }
        let partition = ImagePartition {
            replicas: vec![config.id],
            directories: Vec::new(),
            isr: vec![config.id],
            leader: config.id,
            leader_epoch: log.leader_epoch.unwrap_or(LeaderEpoch::NONE),
            partition_epoch: 0,
        };
        topic.partitions.insert(log.partition.partition, partition);
    }
    image.configs = configs(config, &image.topics);
    let last = logs.iter().filter_map(|log| log.last_producer_id).max();
    let last = last.unwrap_or(ProducerId(0)).0;
    image.next_producer_id = Some(ProducerId(last.saturating_add(PRODUCER_IDS_MARGIN)));
    Ok(image)
}

/// What topics were set to is not known. Nothing is deleted of them until somebody says what may be.
/// Of Kafka's own topics it is known.
fn configs(
    config: &BrokerConfig,
    topics: &BTreeMap<String, ImageTopic>,
) -> BTreeMap<(i8, String), Config> {
    let kept = || [("retention.ms", "-1"), ("retention.bytes", "-1")];
    let config_of = |name: &str| match name {
        OFFSETS_TOPIC => offsets_topic_config(config),
        TRANSACTIONS_TOPIC => {
            let set = [("cleanup.policy", "compact"), ("compression.type", "uncompressed")];
            set.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
        }
        _ => kept().map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    };
    topics.keys().map(|name| ((TOPIC, name.clone()), config_of(name))).collect()
}

/// Says what directories cannot tell.
pub(super) fn tell(config: &BrokerConfig) {
    warn!(
        "configs of topics are not known: retention.ms and retention.bytes are set to -1, so that \
         nothing is deleted; set what they were, cleanup.policy=compact included"
    );
    warn!(
        "access rules, credentials, quotas and dynamic configs of brokers are not known, nor are \
         partitions behind the last one of a topic that is here, nor replicas on brokers other than \
         {}",
        config.id
    );
    warn!(
        margin = PRODUCER_IDS_MARGIN,
        "which producer ids were given out is not known: the next ones are so many behind the \
         greatest that a log remembers"
    );
}

/// A topic that has no id yet gets one.
pub(super) fn give_ids(image: &mut Image, mut draw: impl FnMut() -> Uuid) {
    for topic in image.topics.values_mut().filter(|topic| topic.id.is_zero()) {
        topic.id = draw();
    }
}
