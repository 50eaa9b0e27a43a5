//! What the logs of one log directory share: the disk below them, and whether it can be relied on.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use ottla_runtime::World;
use ottla_runtime::disk::FileSystem;
use parking_lot::Mutex;
use tracing::{error, info, warn};

use crate::flusher::Queue;

/// One log directory as its logs see it.
pub struct Volume {
    pub(crate) world: World,
    path: PathBuf,
    /// Held from the start, for it tells of errors since it was opened.
    file_system: Box<dyn FileSystem>,
    syncing: Mutex<()>,
    pub(crate) queue: Queue,
    /// Why the directory is offline. Once set, it stays so until the node starts again.
    failure: OnceLock<String>,
    is_full: AtomicBool,
}

/// The least free space of a directory of which none is set: so many bytes …
const MIN_FREE_BYTES: u64 = 1 << 30;

/// … or this part of the disk, if that is more.
const MIN_FREE_PART: u64 = 50;

impl Volume {
    /// The log directory at `path`, which must be there.
    pub fn open(world: &World, path: &Path) -> io::Result<Arc<Self>> {
        Ok(Self::on(world.disk.file_system(path)?, world, path))
    }

    /// A log directory that cannot be reached. The caller fails it with the reason.
    pub(crate) fn offline(world: &World, path: &Path) -> Arc<Self> {
        Self::on(Box::new(Unreachable), world, path)
    }

    fn on(file_system: Box<dyn FileSystem>, world: &World, path: &Path) -> Arc<Self> {
        let (world, path) = (world.clone(), path.to_owned());
        let (queue, failure) = (Queue::default(), OnceLock::new());
        let is_full = AtomicBool::new(false);
        let syncing = Mutex::new(());
        Arc::new(Self { world, path, file_system, syncing, queue, failure, is_full })
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

    /// Makes durable all that was written to the file system that the directory is on, names
    /// included. If the disk refuses, the directory goes offline.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        // One at a time: the system tells only one of an error, and all of them rely on it.
        let _syncing = self.syncing.lock();
        self.check_online()?;
        self.file_system.sync().inspect_err(|error| self.fail(error))
    }

    /// Looks how much room there is. Below `min_free` bytes (`log.dir.min.free.bytes`; negative: the
    /// larger of 1 GiB and 2 % of the disk) clients should not be let write: what is left is for
    /// deletions, offsets and a clean stop.
    pub fn check_space(&self, min_free: i64) {
        let Ok(space) = self.world.disk.space(&self.path) else { return };
        let default = || MIN_FREE_BYTES.max(space.total_bytes / MIN_FREE_PART);
        let min_free = u64::try_from(min_free).unwrap_or_else(|_| default());
        let (dir, free) = (self.path.display(), space.usable_bytes);
        let is_full = free < min_free;
        match (self.is_full.swap(is_full, Ordering::Relaxed), is_full) {
            (false, true) => warn!(
                %dir, free, min_free,
                "log directory is nearly full: produce is refused until there is more room \
                 (log.dir.min.free.bytes); reads, deletions and offset commits go on"
            ),
            (true, false) => info!(%dir, free, min_free, "log directory has room again"),
            _ => {}
        }
    }

    /// There was too little room at the last look.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
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

/// The file system of a directory that could not be opened.
struct Unreachable;

impl FileSystem for Unreachable {
    fn sync(&self) -> io::Result<()> {
        Err(io::Error::other("the directory could not be opened"))
    }
}
