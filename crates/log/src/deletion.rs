//! Deleting logs: out of the way at once, off the disk later.
//!
//! A deleted log's directory is renamed to `-delete`, and unlinked after `file.delete.delay.ms`: to
//! unlink gigabytes takes the disk a while, and an operator may still change his mind. What a stop
//! leaves is found by its name.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{error, info};

use crate::checkpoint::TopicPartition;
use crate::manager::LogManager;

/// What is to be unlinked, and when, as elapsed time.
#[derive(Default)]
pub(crate) struct Deletions(Mutex<Vec<(Duration, PathBuf)>>);

impl LogManager {
    /// Deletes the logs of partitions of one topic. They are gone at once; readers that hold one go
    /// on reading.
    pub fn delete(&self, partitions: &[TopicPartition]) -> io::Result<()> {
        partitions.iter().try_for_each(|partition| self.cancel_move(partition))?;
        let log = partitions.iter().find_map(|partition| self.get(partition));
        let delay_ms = log.map_or(0, |log| log.config().file_delete_delay_ms.unsigned_abs());
        for renamed in self.take_out(partitions, "delete")? {
            self.unlink_later(renamed, Duration::from_millis(delay_ms));
        }
        Ok(())
    }

    /// Clears away what an earlier process left: directories to unlink, and those whose log was moved
    /// away.
    pub(crate) fn clear_leftovers(
        &self,
        leftovers: Vec<PathBuf>,
        twins: Vec<(TopicPartition, PathBuf)>,
    ) {
        leftovers.into_iter().for_each(|path| self.unlink_later(path, Duration::ZERO));
        for (partition, path) in twins {
            match self.rename_away(&path, &partition, "delete") {
                Ok(renamed) => self.unlink_later(renamed, Duration::ZERO),
                // The next start finds the two again, and chooses again.
                Err(error) => error!(dir = %path.display(), %error, "could not remove a moved log"),
            }
        }
    }

    pub(crate) fn unlink_later(&self, path: PathBuf, delay: Duration) {
        let due = self.world.clock.elapsed().saturating_add(delay);
        self.deletions.0.lock().push((due, path));
    }

    /// Whether something is to be unlinked by now.
    #[must_use]
    pub fn has_due_deletions(&self) -> bool {
        let now = self.world.clock.elapsed();
        self.deletions.0.lock().iter().any(|(due, _)| *due <= now)
    }

    /// Unlinks the directories whose time has come. What the disk refuses is left for the next
    /// start.
    pub fn unlink_deleted(&self) {
        let now = self.world.clock.elapsed();
        let due: Vec<_> = self.deletions.0.lock().extract_if(.., |(due, _)| *due <= now).collect();
        for (_, path) in due {
            if self.is_offline(&path) {
                continue;
            }
            let dir = path.display();
            match self.world.disk.remove_dir_all(&path) {
                Ok(()) => info!(%dir, "unlinked a deleted log"),
                Err(error) => error!(%dir, %error, "could not unlink a deleted log"),
            }
        }
    }

    fn is_offline(&self, path: &Path) -> bool {
        self.directories.iter().any(|d| !d.is_online() && path.starts_with(d.path()))
    }
}
