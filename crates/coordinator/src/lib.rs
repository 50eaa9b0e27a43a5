//! Replicated machines and their runners: one runner per partition of an internal topic.
//!
//! Owns: what a replicated machine is ([`Machine`]), how one is run ([`Runner`]: load, append,
//! replay, answer after commit, timers, unload), which partition coordinates a group, and the face
//! that request handlers call ([`Groups`]). Must not know: the rules of groups, connections, how
//! partitions are replicated.
//!
//! # Threads
//!
//! A machine stands behind a short lock of its partition; handlers call in from any worker thread,
//! and nothing of the coordinator is a task. An OffsetCommit is thus appended, replayed and
//! answered on the thread that read it, without a hand-over, as long as what is appended is
//! committed at once. What has to wait gets a oneshot channel; wakers run after the lock is
//! released. The lock is held across the append of one batch, since records must reach the log in
//! the order in which the machine made them. It is never held across an await.
//!
//! The server drives what nobody calls in for: a timer and `advance` for commits, and a thread
//! for loading ([`Groups::drive`], [`Groups::advance`], [`Groups::load`]).

mod groups;
mod log;
mod machine;
mod runner;

pub use groups::{Groups, GroupsConfig, Later, Reply, partition_for};
pub use log::{AppendError, ReadError, StateLog};
pub use machine::{Failure, Machine, Now, Output};
pub use ottla_group::{Caller, GroupConfig};
pub use runner::{Answer, LoadError, Runner, RunnerConfig, Unavailable, Wake};
