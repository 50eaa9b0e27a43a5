//! What the logs of one log directory share: the disk below them, and whether it can be relied on.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ottla_runtime::World;
use ottla_runtime::disk::FileSystem;
use tracing::error;

use crate::flusher::Queue;

/// One log directory as its logs see it.
pub struct Volume {
    pub(crate) world: World,
    path: PathBuf,
    /// Held from the start, for it tells of errors since it was opened.
    pub(crate) file_system: Box<dyn FileSystem>,
    pub(crate) queue: Queue,
    /// Why the directory is offline. Once set, it stays so until the node starts again.
    failure: OnceLock<String>,
}

impl Volume {
    /// The log directory at `path`, which must be there.
    pub fn open(world: &World, path: &Path) -> io::Result<Arc<Self>> {
        let file_system = world.disk.file_system(path)?;
        let (world, path) = (world.clone(), path.to_owned());
        let (queue, failure) = (Queue::default(), OnceLock::new());
        Ok(Arc::new(Self { world, path, file_system, queue, failure }))
    }

    /// The log directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the directory offline, with all logs in it: what an fsync could not write, no later
    /// one would tell of. Only the first reason counts.
    pub fn fail(&self, reason: &dyn fmt::Display) {
        let dir = self.path.display();
        if self.failure.set(reason.to_string()).is_ok() {
            error!(%dir, %reason, "log directory is offline; its partitions are not served");
        }
    }

    /// Why the directory is offline, if it is.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// # Errors
    /// The directory is offline.
    pub(crate) fn check_online(&self) -> io::Result<()> {
        match self.failure() {
            None => Ok(()),
            Some(reason) => {
                let dir = self.path.display();
                Err(io::Error::other(format!("log directory {dir} is offline: {reason}")))
            }
        }
    }
}
