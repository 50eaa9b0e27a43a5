//! Groups of consumers: membership, rebalances and committed offsets, as Kafka's classic protocol
//! has them.
//!
//! Owns: the rules of groups, their timers as data, and the records of `__consumer_offsets`. Must
//! not know: logs, tasks, clocks, random.
//!
//! One [`GroupMachine`] holds the groups of one partition of `__consumer_offsets`. Events go in
//! with the moment at which they happen; what comes out are records to append and answers to give
//! once those are committed ([`Output`]). A request without an answer is parked, and its answer
//! comes out of a later event.

mod admin;
mod config;
mod group;
mod join;
mod machine;
mod members;
mod membership;
mod offsets;
mod rebalance;
mod records;
mod response;
mod timers;

pub use config::GroupConfig;
pub use machine::{Caller, FetchTopic, GroupMachine, Now, Output, Request, Token};
pub use offsets::nothing_committed;
pub use records::Record;
pub use response::{Failure, Response, join_error, sync_error};
