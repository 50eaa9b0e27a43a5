//! The built-in coordination service: ZooKeeper's data model over a Raft log.
//!
//! Owns: the tree of znodes with its versions, zxids and sessions and the voter that orders its
//! changes ([`machine`], pure), the directory that keeps both ([`shell`]): Raft's log, hard state
//! and snapshot, and the protocol that clients speak ([`wire`]). Must not know: Kafka.
//!
//! A node alone is a quorum of one. Its files are those of any Raft voter: it votes for itself when
//! it opens them, and an entry is committed as soon as its own disk holds it.

pub mod machine;
pub mod shell;
pub mod wire;

pub use machine::quorum::{
    Change, DirectoryId, Membership, Peer, QuorumId, Standing, Timing, Voter, VoterId,
};
pub use machine::{
    ANY_VERSION, Caller, Command, CreateMode, Error, Failure, Node, Op, Outcome, Password, Reply,
    Request, SessionId, Stat, Tree, Written, Zxid, is_valid_path,
};
pub use shell::{Keeper, Limits, OpenError, Options, ProposeError, Proposed, Role, Status};
