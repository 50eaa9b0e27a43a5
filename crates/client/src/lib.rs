//! The client library: [`Producer`], [`Consumer`] and [`Admin`].
//!
//! Owns: metadata of topics, batching, partitioning, retries, group membership. Must not know:
//! the server.
//!
//! A [`Client`] is a handle on one cluster: cheap to clone, connecting when first needed. All of
//! it runs on the runtime that it is called on.

mod admin;
mod client;
mod cluster;
mod consumer;
mod error;
mod offsets;
mod partitioner;
mod producer;

pub use admin::{
    Admin, ClusterDescription, ConfigEntry, ConfigResource, GroupDescription, GroupListing, LogDir,
    MemberDescription, NewTopic, PartitionDescription, TopicDescription, TopicListing,
};
pub use client::{Client, ClientConfig, IsolationLevel, TopicPartition};
pub use cluster::Broker;
pub use consumer::{Consumer, ConsumerConfig, ConsumerRecord, GroupConfig, Position};
pub use error::{ConsumeError, Refusal, RequestError, SendError};
pub use offsets::{ListedOffset, OffsetSpec};
pub use partitioner::{murmur2, partition_for_key};
pub use producer::{Acks, Delivery, Producer, ProducerConfig, ProducerRecord, RecordMetadata};

pub use ottla_connection::{CallError, ConnectError};
pub use ottla_protocol::ErrorCode;
pub use ottla_record::{BrokerId, Codec, Offset, PartitionId, Timestamp, Uuid};
