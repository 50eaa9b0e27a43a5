//! The partitions that this broker hosts, and its role in each.
//!
//! Owns: the high watermark, who waits for it to move, and the map of hosted partitions. Must not
//! know: client requests.
//!
//! A partition has one replica for now: its leader leads alone. What is appended is committed once
//! it is on the disk or, where the topic does not want to wait for that, at once.

mod partition;
mod partitions;
mod watch;

pub use partition::{Isolation, Partition};
pub use partitions::{HostedTopic, Partitions};
pub use watch::Watch;
