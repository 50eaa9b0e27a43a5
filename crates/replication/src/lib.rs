//! The partitions that this broker hosts, and its role in each.
//!
//! Owns: the high watermark, who waits for it to move, and the map of hosted partitions. Must not
//! know: client requests.
//!
//! A partition has one replica for now: its leader leads alone, and what is appended is committed
//! at once (HW = LEO).

mod partition;
mod partitions;
mod watch;

pub use partition::Partition;
pub use partitions::{HostedTopic, Partitions};
pub use watch::Watch;
