//! One client connection of the Kafka protocol.
//!
//! Owns: frames, correlation ids, the bound of requests in flight, version negotiation, a deadline
//! on every call. Must not know: topics, brokers beyond one address, retrying.

mod connection;
mod error;
mod link;
mod versions;

pub use connection::{Connection, ConnectionOptions, Reply};
pub use error::{CallError, ConnectError};
pub use link::Closed;
