//! The handle on a cluster, and the words that producers, consumers and admins share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ottla_record::PartitionId;
use ottla_runtime::World;

use crate::cluster::Cluster;
use crate::{Admin, Consumer, ConsumerConfig, Producer, ProducerConfig};

/// What all users of a cluster have in common. The names are Kafka's.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `bootstrap.servers`: `host:port`, tried in this order.
    pub bootstrap: Vec<String>,
    /// `client.id`.
    pub client_id: String,
    /// `request.timeout.ms`: for one attempt to ask one broker.
    pub request_timeout: Duration,
    /// `default.api.timeout.ms`: for an operation with all its attempts.
    pub api_timeout: Duration,
    /// `socket.connection.setup.timeout.ms`.
    pub connection_setup_timeout: Duration,
    /// `metadata.max.age.ms`.
    pub metadata_max_age: Duration,
    /// `retry.backoff.ms`: the first pause between attempts.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`: the longest.
    pub retry_backoff_max: Duration,
}

impl ClientConfig {
    /// Kafka's defaults.
    #[must_use]
    pub fn new(bootstrap: Vec<String>) -> Self {
        Self {
            bootstrap,
            client_id: "ottla".to_owned(),
            request_timeout: Duration::from_secs(30),
            api_timeout: Duration::from_secs(60),
            connection_setup_timeout: Duration::from_secs(10),
            metadata_max_age: Duration::from_secs(300),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
        }
    }
}

/// A handle on one cluster. Clones share connections and metadata; each consumer has connections
/// of its own, because a broker that waits for records to fetch answers nothing else meanwhile.
#[derive(Clone, Debug)]
pub struct Client {
    cluster: Arc<Cluster>,
}

impl Client {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(world: &World, config: ClientConfig) -> Self {
        Self { cluster: Arc::new(Cluster::new(world, config)) }
    }

    /// Administers the cluster.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.cluster))
    }

    /// Writes records. Must be called on a runtime, where the producer's tasks will run.
    #[must_use]
    pub fn producer(&self, config: ProducerConfig) -> Producer {
        Producer::new(Arc::clone(&self.cluster), config)
    }

    /// Reads records. Must be called on a runtime, where the consumer's tasks will run.
    #[must_use]
    pub fn consumer(&self, config: ConsumerConfig) -> Consumer {
        Consumer::new(Arc::new(self.cluster.apart()), config)
    }
}

/// A partition of a topic. Its text is `topic-partition`, as Kafka writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: PartitionId,
}

impl TopicPartition {
    /// A partition of `topic`.
    #[must_use]
    pub fn new(topic: impl Into<String>, partition: PartitionId) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// `isolation.level`: which records a reader sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IsolationLevel {
    /// All below the high watermark.
    #[default]
    ReadUncommitted,
    /// Those below the last stable offset whose transaction, if any, was committed.
    ReadCommitted,
}

impl IsolationLevel {
    pub(crate) fn id(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}
