//! Topics that the broker creates by itself.

use std::sync::Arc;

use ottla_metadata::{Config, Topic};

use crate::cluster::{ChangeError, Placement};
use crate::config::BrokerConfig;
use crate::dispatch::Services;

/// The topic of consumer groups' offsets.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Creates a topic that a client named (`auto.create.topics.enable`): an internal one as it must
/// be, any other with the broker's defaults.
pub(crate) async fn create_automatically(
    services: &Services,
    name: &str,
) -> Result<Arc<Topic>, ChangeError> {
    let (placement, config) = if name == OFFSETS_TOPIC {
        offsets_topic(services)
    } else {
        let topics = &services.config.topics;
        let placement = Placement::Automatic {
            partitions: topics.num_partitions as usize,
            replication_factor: topics.default_replication_factor as usize,
        };
        (placement, Config::new())
    };
    services.cluster.create_topic(name, &placement, config).await
}

fn offsets_topic(services: &Services) -> (Placement, Config) {
    let group = &services.config.group;
    let placement = Placement::Automatic {
        partitions: group.offsets_topic_num_partitions as usize,
        replication_factor: group.offsets_topic_replication_factor as usize,
    };
    (placement, offsets_topic_config(&services.config))
}

/// How the topic of consumer groups' offsets must be set.
pub(crate) fn offsets_topic_config(config: &BrokerConfig) -> Config {
    let config = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", config.group.offsets_topic_segment_bytes.to_string()),
    ];
    config.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
