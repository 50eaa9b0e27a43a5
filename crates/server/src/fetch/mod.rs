//! Fetching: what a request or its session wants, and what there is of it.
//!
//! Owns: incremental fetch sessions (KIP-227) and the choice of what goes into a response. Must not
//! know: sockets.

mod plan;
mod session;

pub(crate) use plan::{Key, Outcome, Plan, Wanted};
pub(crate) use session::{Session, SessionCache, SessionError};
