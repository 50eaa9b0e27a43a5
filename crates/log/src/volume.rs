//! What the logs of one log directory share: the disk below them, and whether it can be relied on.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ottla_runtime::World;
use tracing::error;

/// One log directory as its logs see it.
pub struct Volume {
    pub(crate) world: World,
    path: PathBuf,
    /// Why the directory is offline. Once set, it stays so until the node starts again.
    failure: OnceLock<String>,
}

impl Volume {
    /// The log directory at `path`.
    #[must_use]
    pub fn new(world: &World, path: &Path) -> Arc<Self> {
        let (world, path) = (world.clone(), path.to_owned());
        Arc::new(Self { world, path, failure: OnceLock::new() })
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
