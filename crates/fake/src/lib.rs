//! The doors of `runtime` from a seed, for tests and the simulator.
//!
//! Owns: a disk in memory that loses what was not synced, a clock that stands still or runs with
//! tokio's, a network that delays and is cut, processes that are stopped and killed, random bytes of a
//! seed, and the judge of what clients saw. Must not know: Kafka. It is a dev-dependency of the crates
//! that it tests, never a dependency.

mod clock;
mod disk;
mod file;
mod inode;
mod judge;
mod names;
mod network;
mod process;
mod random;

pub use clock::{FakeClock, RunningClock};
pub use disk::{Crash, FakeDisk};
pub use judge::{Answered, Asked, Judge, Seen};
pub use network::{FakeNetwork, HostId, Sent};
pub use process::FakeProcess;
pub use random::{Dice, FakeRandom};
