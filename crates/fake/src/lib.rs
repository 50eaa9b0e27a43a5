//! The doors of `runtime` from a seed, for tests and the simulator.
//!
//! Owns: a disk in memory that loses what was not synced, a clock that stands still, random bytes of
//! a seed. Must not know: Kafka. It is a dev-dependency of the crates that it tests, never a
//! dependency.

mod clock;
mod disk;
mod file;
mod inode;
mod names;
mod random;

pub use clock::FakeClock;
pub use disk::{Crash, FakeDisk};
pub use random::{Dice, FakeRandom};
