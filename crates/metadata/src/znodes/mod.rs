//! The znodes of Kafka 3.9: where each lies and what its bytes are.
//!
//! Owns: paths, JSON and what of it is optional. Must not know: who writes a znode, and when.
//!
//! Writing gives Kafka's compact text; reading takes the keys in any order and ignores unknown
//! ones, for JSON promises no order and a later version may add to it.

mod acl;
mod broker;
mod config;
mod controller;
mod topic;
mod user;

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use acl::{AclEntry, AclResource, Acls, decode_acls, encode_acls};
pub use broker::{BrokerRegistration, Endpoint, SecurityProtocol, SupportedVersions};
pub use config::{ConfigChange, ConfigEntity, decode_config, desanitize, encode_config, sanitize};
pub use controller::{
    ControllerZnode, FeatureStatus, Features, ProducerIdBlock, decode_cluster_id,
    decode_controller_epoch, encode_cluster_id, encode_controller_epoch,
};
pub use topic::{PartitionState, TopicAssignment};
pub use user::{ScramCredential, encode_quota};

use ottla_record::{BrokerId, PartitionId};

/// The id of the cluster.
pub const CLUSTER_ID: &str = "/cluster/id";
/// Who is the active controller; ephemeral.
pub const CONTROLLER: &str = "/controller";
/// How many elections there were.
pub const CONTROLLER_EPOCH: &str = "/controller_epoch";
/// The parent of the brokers' registrations.
pub const BROKER_IDS: &str = "/brokers/ids";
/// The node whose version numbers brokers that have no id of their own.
pub const BROKER_SEQUENCE: &str = "/brokers/seqid";
/// The parent of the topics.
pub const TOPICS: &str = "/brokers/topics";
/// The parent of the topics' configs.
pub const TOPIC_CONFIGS: &str = "/config/topics";
/// The parent of the notes that a config has changed.
pub const CONFIG_CHANGES: &str = "/config/changes";
/// What the name of such a note begins with.
pub const CONFIG_CHANGE_PREFIX: &str = "/config/changes/config_change_";
/// The parent of the names of topics that are being deleted.
pub const DELETE_TOPICS: &str = "/admin/delete_topics";
/// The block of producer ids that was handed out last.
pub const PRODUCER_ID_BLOCK: &str = "/latest_producer_id_block";
/// The finalized features.
pub const FEATURE: &str = "/feature";

/// The paths that every broker makes at its start where they are missing, each with its parents
/// and without data.
pub const TOP_LEVEL: [&str; 14] = [
    "/consumers",
    BROKER_IDS,
    TOPICS,
    CONFIG_CHANGES,
    DELETE_TOPICS,
    BROKER_SEQUENCE,
    "/isr_change_notification",
    PRODUCER_ID_BLOCK,
    "/log_dir_event_notification",
    TOPIC_CONFIGS,
    "/config/clients",
    "/config/users",
    "/config/brokers",
    "/config/ips",
];

/// Where a broker registers.
#[must_use]
pub fn broker_path(broker: BrokerId) -> String {
    format!("{BROKER_IDS}/{broker}")
}

/// Where a topic's assignment lies.
#[must_use]
pub fn topic_path(topic: &str) -> String {
    format!("{TOPICS}/{topic}")
}

/// The parent of a topic's partitions.
#[must_use]
pub fn partitions_path(topic: &str) -> String {
    format!("{TOPICS}/{topic}/partitions")
}

/// The parent of a partition's state.
#[must_use]
pub fn partition_path(topic: &str, partition: PartitionId) -> String {
    format!("{TOPICS}/{topic}/partitions/{partition}")
}

/// Where a partition's leader, epoch and ISR lie.
#[must_use]
pub fn partition_state_path(topic: &str, partition: PartitionId) -> String {
    format!("{TOPICS}/{topic}/partitions/{partition}/state")
}

/// Where a topic is marked for deletion.
#[must_use]
pub fn delete_topic_path(topic: &str) -> String {
    format!("{DELETE_TOPICS}/{topic}")
}

/// A znode holds what Kafka would not write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What it should have been.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not {}: {}", self.what, self.why)
    }
}

impl std::error::Error for Malformed {}

fn malformed(what: &'static str) -> impl Fn(&str) -> Malformed {
    move |why| Malformed { what, why: why.to_owned() }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("maps with text keys and plain numbers always serialize")
}

fn from_json<T: DeserializeOwned>(what: &'static str, data: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(data).map_err(|error| Malformed { what, why: error.to_string() })
}

/// Reads a number that Kafka writes as a text, such as a timestamp.
fn number(what: &'static str, text: &str) -> Result<i64, Malformed> {
    text.parse().map_err(|_| Malformed { what, why: format!("{text:?} is no number") })
}
