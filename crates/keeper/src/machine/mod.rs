//! The state machine: a tree of znodes that changes by [`Command`]s alone.
//!
//! Owns: ZooKeeper's rules of paths, versions, lives, sequence numbers and access lists, who watches
//! what, and the encoding of commands and of the whole tree. Must not know: clocks, files, sockets, Raft.
//!
//! The same commands in the same order give the same tree and the same outcomes on every replica
//! and at every replay. Time comes with the commands; an id is the zxid of the command that made it.

pub mod acl;
mod apply;
mod codec;
mod command;
mod copied;
mod deadlines;
mod frozen;
mod node;
mod path;
mod proposal;
pub mod quorum;
mod tree;
mod watches;

pub use acl::{AccessList, Acl, Identity};
pub use codec::{
    Corrupt, Decoder, decode_commands, decode_tree, encode_commands, encode_tree, put_u32,
};
pub use command::{
    ANY_VERSION, Caller, Command, CreateMode, Error, Failure, Op, Outcome, Reply, Request, Written,
};
pub use copied::{Copied, NoTree};
pub use deadlines::Deadlines;
pub use node::{Node, Password, SessionId, Stat, TTL_MS_MAX, Zxid};
pub use path::is_valid as is_valid_path;
pub use proposal::{Origin, Proposal, decode_proposals, encode_proposal};
pub use tree::Tree;
pub use watches::{ChangeKind, Event, EventKind, NodeChange, Told, WatchKind, Watcher, Watches};
