//! The production servers on one seed: in one process and one thread, while machines, disks and
//! networks fail.
//!
//! Owns: the plan of what goes wrong, the machines, the clients, and what must hold of what they are
//! told. Must not know: how a server does anything. Nothing here replaces a part of a server: they
//! run as they are shipped, on the doors of `fake`, where time jumps to whatever is next.

mod cluster;
mod event;
mod invariant;
mod plan;
mod records;
mod run;
mod server;
mod shrink;
mod stage;
mod trace;
mod workload;

pub use plan::Plan;
pub use run::{Outcome, run};
pub use shrink::shrink;
pub use stage::Violation;
