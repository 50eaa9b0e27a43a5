//! One partition's log on disk, and the directories that logs live in.
//!
//! Owns: append, read, roll, recover, retain and compact; the sparse indexes, producer state, leader
//! epochs and checkpoints; the log directories. Byte for byte Kafka's files. Synchronous: no async
//! fn. Must not know: requests, replicas.

mod checkpoint;
mod checkpointing;
mod cleaner;
mod config;
mod creation;
mod damage;
mod deletion;
mod directory;
mod flush;
mod flusher;
mod follower;
mod index;
pub mod inspect;
mod leader_epochs;
mod leftovers;
mod loading;
mod log;
mod lookup;
mod manager;
mod moving;
mod opening;
mod placement;
mod producer_state;
mod read;
mod recovery;
mod retention;
mod rolling;
mod scan;
mod segment;
mod survey;
mod swap;
mod transactions;
mod truncation;
mod txn_index;
mod upkeep;
mod volume;

pub use checkpoint::TopicPartition;
pub use cleaner::{CleanerSettings, LogCleaner};
pub use config::*;
pub use damage::{Damage, OpenError};
pub use directory::{DirectoryError, LogDirectory};
pub use flusher::{FlushListener, Round};
pub use follower::FollowerAppendError;
pub use log::{
    AppendError, Appended, Log, LogPosition, Opening, ReadError, Slice, TimestampedOffset,
};
pub use manager::{DirectoryUsage, LogManager, LogUsage, Unavailable};
pub use moving::{MoveError, MoveStep};
pub use opening::OpenOptions;
pub use producer_state::{Duplicate, SequenceError};
pub use survey::{DirectoryIdentity, FoundLog, directory_identity, survey};
pub use txn_index::AbortedTransaction;
pub use volume::Volume;
