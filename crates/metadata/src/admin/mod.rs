//! The operations on the cluster, as compare-and-set writes to the tree.
//!
//! Owns: what Kafka's controller and its admin manager write, and in which order, so that a crash
//! between two writes leaves something that the next controller completes. Must not know: requests,
//! authorization, logs.
//!
//! What is decided without the tree is plain functions ([`topic_name`], [`placement`], the lists
//! of operations of [`Controller`]'s verbs); what reads and writes the tree is async.

mod configs;
mod controller;
mod leaders;
mod load;
mod membership;
pub mod placement;
pub mod topic_name;
mod topics;

use std::fmt;

pub use configs::{purge_config_changes, read_config, update_config};
pub use controller::{Controller, Election};
pub use load::{load, load_topic};
pub use membership::{
    RegisterError, allocate_producer_ids, create_top_level_paths, get_or_create_cluster_id,
    next_broker_id, register_broker,
};
pub use topics::{AddPartitionsError, CreateTopicError, NewTopic};

use crate::tree::TreeError;
use crate::znodes::Malformed;

/// Why an operation on the cluster failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminError {
    /// This broker is not the active controller any more: another one was elected since.
    ControllerMoved,
    /// A znode holds what Kafka would not write.
    Malformed {
        /// Which znode.
        path: String,
        /// What is wrong with it.
        error: Malformed,
    },
    /// All producer ids up to 2⁶³−1 were given out.
    ProducerIdsExhausted,
    /// The tree failed.
    Tree(TreeError),
}

impl AdminError {
    fn malformed(path: &str) -> impl FnOnce(Malformed) -> Self {
        move |error| Self::Malformed { path: path.to_owned(), error }
    }
}

impl From<TreeError> for AdminError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControllerMoved => f.write_str("another controller was elected"),
            Self::Malformed { path, error } => write!(f, "{path} is {error}"),
            Self::ProducerIdsExhausted => f.write_str("there are no producer ids left"),
            Self::Tree(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AdminError {}
