//! The only door to the world: clock, random, disk, sockets, threads and tasks.
//!
//! Owns: every call that leaves the process, each behind a small trait, so that a simulator can
//! stand on the other side of the same doors; and every `unsafe` block of the project. Must not
//! know: Kafka.
//!
//! A server is handed one [`World`] and reaches for nothing else. There are no statics and no
//! ambient context: several servers share one process in a simulation.

mod buffer;
mod clock;
pub mod disk;
pub mod net;
mod open_files;
pub mod process;
mod random;
pub mod signal;
pub mod task;
pub mod time;

use std::sync::Arc;

pub use buffer::{Buffer, BufferPool};
pub use clock::{Clock, SystemClock};
pub use disk::{Disk, File};
pub use net::Network;
pub use open_files::OpenFiles;
pub use random::{Random, SystemRandom};
pub use task::{Spawner, Task};

/// The doors that a node was given.
#[derive(Clone)]
pub struct World {
    /// Wall time and elapsed time.
    pub clock: Arc<dyn Clock>,
    /// Files and directories.
    pub disk: Arc<dyn Disk>,
    /// Listening and connecting.
    pub network: Arc<dyn Network>,
    /// Bytes that nobody can guess; in a simulation, bytes of the seed.
    pub random: Arc<dyn Random>,
}

impl World {
    /// The operating system's own clock, disk, network and random. Files take no more than half of
    /// the descriptors that the process may have: the rest is for sockets.
    #[must_use]
    pub fn system() -> Self {
        let files = usize::try_from(process::file_limit()).unwrap_or(usize::MAX) / 2;
        Self {
            clock: Arc::new(SystemClock::new()),
            disk: Arc::new(OpenFiles::new(Arc::new(disk::SystemDisk), files)),
            network: Arc::new(net::SystemNetwork),
            random: Arc::new(SystemRandom),
        }
    }
}
