//! A running node.
//!
//! Owns: listeners, dispatch, one handler file per api, waiting responses, fetch sessions, the
//! order of starting and stopping. Must not know: how a record lies on the disk, how the keeper
//! keeps its tree.

mod acknowledge;
mod adoption;
mod advertise;
mod authorize;
mod call;
mod cleaning;
mod cluster;
pub mod config;
mod coordination;
mod dispatch;
mod fetch;
mod flushing;
mod groups;
mod handler;
mod housekeeping;
mod membership;
mod moving;
mod network;
mod node;
mod producer_ids;
mod tls;
mod topics;

pub use adoption::AdoptionError;
pub use coordination::KEEPER_DIR;
pub use membership::ClaimError;
pub use node::{Listening, Node, StartError};
pub use tls::{TlsError, zookeeper_client};
