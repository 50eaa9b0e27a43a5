//! The cluster's metadata: where it is kept, how it is written, and the picture of it that brokers
//! answer from.
//!
//! Owns: the seam to the tree of znodes ([`tree`]) and its providers (the keeper of
//! this process, [`BuiltIn`], and an ensemble elsewhere, [`ZooKeeper`]),
//! the text of each znode ([`znodes`]), the operations on the cluster that a controller and its
//! brokers carry out on them ([`admin`]), what a directory of Kafka's tells of a cluster
//! ([`adoption`]), the way of a whole tree from one provider to another ([`copy`]), and the immutable
//! [`ClusterMetadata`]. Must not know: clients' sockets, requests, logs.

pub mod admin;
pub mod adoption;
mod builtin;
mod changes;
mod cluster;
pub mod copy;
mod session_file;
mod shared_map;
mod state;
pub mod tree;
pub mod znodes;
mod zookeeper;

pub use builtin::BuiltIn;
pub use cluster::{Broker, ClusterMetadata, Config, Partition, Topic};
pub use session_file::SessionFile;
pub use tree::{Tree, TreeError};
pub use zookeeper::{ConnectError, ConnectString, SaslLogin, ZooKeeper, ZooKeeperOptions};
