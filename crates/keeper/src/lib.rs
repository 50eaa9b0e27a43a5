//! The built-in coordination service: ZooKeeper's data model over a Raft log.
//!
//! Owns: the tree of znodes with its versions, zxids and sessions ([`machine`], pure), and the
//! directory that keeps it ([`shell`]): Raft's log, hard state and snapshot. Must not know: Kafka.
//!
//! A node alone is a quorum of one. Its files are those of any Raft voter: it votes for itself when
//! it opens them, and an entry is committed as soon as its own disk holds it.

pub mod machine;
pub mod shell;

pub use machine::{
    ANY_VERSION, Command, CreateMode, Error, Failure, Node, Op, Outcome, Reply, Request, SessionId,
    Stat, Tree, Written, Zxid,
};
pub use shell::{DirectoryId, Keeper, Limits, OpenError, ProposeError, Voter, VoterId};
