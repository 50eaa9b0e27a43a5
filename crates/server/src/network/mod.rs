//! Connections of clients: frames in, responses out.
//!
//! Owns: accepting, one task per connection, framing, the bound on request bytes, the order of
//! responses. Must not know: what a request means.

mod budget;
mod connection;
mod idle;
mod listener;
mod response;

pub(crate) use budget::FrameBudget;
pub(crate) use connection::ConnectionSettings;
pub(crate) use listener::{Acceptor, Admission};
pub(crate) use response::{Reply, Response};
