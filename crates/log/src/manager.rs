//! All logs of a broker, over its log directories.
//!
//! Owns: which log lies in which directory, opening and closing them all, checkpoints, retention.
//! Must not know: replicas, who leads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_record::{ProducerId, Uuid};
use ottla_runtime::World;
use ottla_runtime::disk::Space;
use parking_lot::Mutex;
use tracing::{error, warn};

use crate::LogConfig;
use crate::checkpoint::TopicPartition;
use crate::deletion::Deletions;
use crate::directory::{DirectoryError, LogDirectory, Noted};
use crate::log::Log;
use crate::moving::Moves;
use crate::opening::{self, OpenOptions};
use crate::volume::Volume;

/// The logs of one broker.
pub struct LogManager {
    pub(crate) world: World,
    pub(crate) directories: Vec<LogDirectory>,
    pub(crate) logs: Mutex<Logs>,
    pub(crate) moves: Moves,
    pub(crate) deletions: Deletions,
    /// Held while checkpoints are gathered and written, so that none replaces a newer one.
    pub(crate) checkpointing: Mutex<()>,
}

/// Where each log lies.
#[derive(Default)]
pub(crate) struct Logs {
    pub(crate) placed: BTreeMap<TopicPartition, Placed>,
    pub(crate) offline: BTreeMap<TopicPartition, Offline>,
    /// The directory that a partition is to lie in once it has a log (KIP-113), by index.
    pub(crate) preferred: BTreeMap<TopicPartition, usize>,
}

#[derive(Clone)]
pub(crate) struct Placed {
    pub(crate) log: Arc<Log>,
    pub(crate) topic_id: Option<Uuid>,
    /// Index into `directories`.
    pub(crate) directory: usize,
}

/// A log that is not served until someone has looked at it.
#[derive(Clone, Debug)]
pub(crate) struct Offline {
    /// Index of the directory that it lies in, or lay in.
    pub(crate) directory: usize,
    /// Its own directory; `None` if it is missing.
    pub(crate) path: Option<PathBuf>,
    pub(crate) reason: Arc<str>,
    /// What is known of it stays in the checkpoints.
    pub(crate) noted: Noted,
}

/// Why a partition has no log.
#[derive(Debug)]
pub enum Unavailable {
    /// Its log is damaged or missing, or its directory does not work.
    Offline(Arc<str>),
    /// It could not be made.
    Io(io::Error),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline(reason) => reason.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unavailable {}

impl From<io::Error> for Unavailable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a log directory holds, for `DescribeLogDirs`.
#[derive(Clone, Debug)]
pub struct DirectoryUsage {
    /// The directory.
    pub path: PathBuf,
    /// Why it is offline, if it is.
    pub failure: Option<String>,
    /// Its logs, by partition.
    pub logs: Vec<LogUsage>,
    /// The room on its file system; `None` if the system does not tell.
    pub space: Option<Space>,
}

/// What one log takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogUsage {
    /// Whose log it is.
    pub partition: TopicPartition,
    /// Its size in bytes.
    pub size: u64,
    /// How many offsets it is behind the log that it is to take the place of (KIP-113).
    pub lag: i64,
    /// It is a copy on its way to this directory.
    pub is_future: bool,
}

impl LogManager {
    /// Opens all logs in the directories and writes the checkpoints anew, without logs that are no
    /// more. `config_of` gives the settings of a topic.
    ///
    /// # Errors
    /// What lies in a directory is not to be understood. A log that cannot be served, or a directory
    /// that the disk refuses, is no error: they are offline.
    pub fn open(
        world: &World,
        mut directories: Vec<LogDirectory>,
        options: OpenOptions<'_>,
        config_of: impl Fn(&str) -> Arc<LogConfig> + Sync,
    ) -> Result<Self, DirectoryError> {
        let opened = opening::open_all(world, &mut directories, options, &config_of)?;
        let (placed, offline) = (opened.placed, opened.offline);
        let logs = Logs { placed, offline, preferred: BTreeMap::new() };
        let manager = Self {
            world: world.clone(),
            directories,
            logs: Mutex::new(logs),
            moves: Moves::default(),
            deletions: Deletions::default(),
            checkpointing: Mutex::new(()),
        };
        manager.settle();
        manager.clear_leftovers(opened.leftovers, opened.twins);
        manager.resume_moves(opened.moving);
        // A directory that refuses is offline by now, and says so itself.
        let _ = manager.write_checkpoints();
        Ok(manager)
    }

    /// Makes durable what a process that was killed left in memory, names that it changed included:
    /// it may have been read before, is served from here on, and must not be undone by a power cut.
    /// A directory that refuses is offline by that.
    fn settle(&self) {
        for directory in self.directories.iter().filter(|directory| directory.is_online()) {
            let volume = directory.volume();
            if directory.was_clean() || volume.sync_all().is_ok() {
                volume.flush(self.world.clock.elapsed_ms());
            }
        }
    }

    /// The directories that are offline, with the reason.
    #[must_use]
    pub fn failures(&self) -> Vec<(PathBuf, String)> {
        let failure = |d: &LogDirectory| Some((d.path().to_owned(), d.failure()?.to_owned()));
        self.directories.iter().filter_map(failure).collect()
    }

    /// The ids of the directories that are online.
    #[must_use]
    pub fn directory_ids(&self) -> Vec<Uuid> {
        let online = self.directories.iter().filter(|directory| directory.is_online());
        online.filter_map(LogDirectory::id).collect()
    }

    /// The log of a partition.
    #[must_use]
    pub fn get(&self, partition: &TopicPartition) -> Option<Arc<Log>> {
        self.logs.lock().placed.get(partition).map(|placed| placed.log.clone())
    }

    /// All logs.
    pub(crate) fn logs(&self) -> Vec<(TopicPartition, Arc<Log>)> {
        self.snapshot().into_iter().map(|(partition, placed)| (partition, placed.log)).collect()
    }

    /// All partitions that have a log, with the topic id that their directory bears.
    #[must_use]
    pub fn partitions(&self) -> Vec<(TopicPartition, Option<Uuid>)> {
        self.logs.lock().placed.iter().map(|(p, placed)| (p.clone(), placed.topic_id)).collect()
    }

    /// The partitions of a topic, also those whose log is offline.
    #[must_use]
    pub fn of_topic(&self, topic: &str) -> Vec<TopicPartition> {
        let logs = self.logs.lock();
        let all = logs.placed.keys().chain(logs.offline.keys());
        all.filter(|partition| partition.topic == topic).cloned().collect()
    }

    /// The partitions whose log is damaged or missing, with the reason.
    #[must_use]
    pub fn offline(&self) -> Vec<(TopicPartition, Arc<str>)> {
        self.logs.lock().offline.iter().map(|(p, log)| (p.clone(), log.reason.clone())).collect()
    }

    /// Takes logs out of service without deleting them: their directories get the suffix `-stray`.
    pub fn set_aside(&self, partitions: &[TopicPartition]) -> io::Result<()> {
        for renamed in self.take_out(partitions, "stray")? {
            let dir = renamed.display();
            warn!(%dir, "set aside a log that belongs to no topic of this cluster");
        }
        Ok(())
    }

    /// Takes logs off the list, their directories out of the way and their offsets from the
    /// checkpoints: they would be believed of other logs of these names. Returns the new paths. After
    /// an error, some may have been taken out.
    pub(crate) fn take_out(
        &self,
        partitions: &[TopicPartition],
        suffix: &str,
    ) -> io::Result<Vec<PathBuf>> {
        let mut renamed = Vec::new();
        let taken = partitions.iter().try_for_each(|partition| {
            renamed.extend(self.take_out_one(partition, suffix)?);
            Ok(())
        });
        let parents: BTreeSet<_> = renamed.iter().filter_map(|path| path.parent()).collect();
        let synced: io::Result<()> =
            parents.into_iter().try_for_each(|parent| self.world.disk.sync_dir(parent));
        let written = self.write_checkpoints().map_err(io::Error::other);
        taken.and(synced).and(written).map(|()| renamed)
    }

    fn take_out_one(
        &self,
        partition: &TopicPartition,
        suffix: &str,
    ) -> io::Result<Option<PathBuf>> {
        let mut logs = self.logs.lock();
        logs.preferred.remove(partition);
        let (directory, path) = match (logs.placed.get(partition), logs.offline.get(partition)) {
            (Some(placed), _) => {
                placed.log.retire();
                (placed.directory, Some(placed.log.dir().to_owned()))
            }
            (None, Some(offline)) => (offline.directory, offline.path.clone()),
            (None, None) => return Ok(None),
        };
        let directory = &self.directories[directory];
        // What lies on a disk that does not answer is found as a stray when it does.
        let path = path.filter(|_| directory.is_online());
        let rename = |path: PathBuf| {
            let renamed = directory.path().join(self.unique_name(partition, suffix));
            self.world.disk.rename(&path, &renamed).map(|()| renamed)
        };
        let renamed = path.map(rename).transpose()?;
        logs.placed.remove(partition);
        logs.offline.remove(partition);
        Ok(renamed)
    }

    /// Gives a log's directory a name under which it is not opened. Returns the new path.
    pub(crate) fn rename_away(
        &self,
        path: &Path,
        partition: &TopicPartition,
        suffix: &str,
    ) -> io::Result<PathBuf> {
        let parent = path.parent().unwrap_or(path);
        let renamed = parent.join(self.unique_name(partition, suffix));
        self.world.disk.rename(path, &renamed)?;
        self.world.disk.sync_dir(parent)?;
        Ok(renamed)
    }

    /// `<topic>-<partition>.<32 hex digits>-<suffix>`, with as much of the topic as fits.
    pub(crate) fn unique_name(&self, partition: &TopicPartition, suffix: &str) -> String {
        let id: String =
            self.world.random.bytes16().iter().map(|byte| format!("{byte:02x}")).collect();
        let tail = format!("-{}.{id}-{suffix}", partition.partition);
        // A file name has at most 255 bytes, and topic names are ASCII.
        let topic = &partition.topic[..partition.topic.len().min(255 - tail.len())];
        format!("{topic}{tail}")
    }

    /// Puts other settings in force for all logs of a topic.
    pub fn set_config(&self, topic: &str, config: &Arc<LogConfig>) {
        let logs = self.logs.lock();
        for (_, placed) in logs.placed.iter().filter(|(p, _)| p.topic == topic) {
            placed.log.set_config(config.clone());
        }
        drop(logs);
        self.moves.set_config(topic, config);
    }

    /// Removes what retention allows to go. A log whose disk refuses is reported and left for the
    /// next time.
    pub fn delete_old_segments(&self) {
        for (partition, placed) in self.snapshot() {
            let log = &placed.log;
            if self.directories[placed.directory].is_online()
                && let Err(error) = log.delete_old_segments(log.flushed().offset)
            {
                error!(%partition, %error, "could not delete old segments");
            }
        }
    }

    /// Forgets idempotent producers that wrote nothing for so long (`producer.id.expiration.ms`).
    pub fn expire_producers(&self, expiration_ms: i64) {
        for (_, placed) in self.snapshot() {
            placed.log.expire_producers(expiration_ms);
        }
    }

    /// What the logs of each directory share.
    #[must_use]
    pub fn volumes(&self) -> Vec<Arc<Volume>> {
        self.directories.iter().map(|directory| directory.volume().clone()).collect()
    }

    /// What lies where.
    #[must_use]
    pub fn usage(&self) -> Vec<DirectoryUsage> {
        let mut logs = vec![Vec::new(); self.directories.len()];
        for (partition, Placed { log, directory, .. }) in self.snapshot() {
            let size = log.size_in_bytes();
            logs[directory].push(LogUsage { partition, size, lag: 0, is_future: false });
        }
        for (directory, usage) in self.moves.usage() {
            logs[directory].push(usage);
        }
        let usage = |(directory, logs): (&LogDirectory, Vec<LogUsage>)| DirectoryUsage {
            path: directory.path().to_owned(),
            failure: directory.failure().map(str::to_owned),
            space: self.world.disk.space(directory.path()).ok(),
            logs: if directory.is_online() { logs } else { Vec::new() },
        };
        self.directories.iter().zip(logs).map(usage).collect()
    }

    /// Those of these producer ids that some log remembers.
    #[must_use]
    pub fn producer_ids_within(&self, ids: RangeInclusive<ProducerId>) -> BTreeSet<ProducerId> {
        let logs = self.snapshot().into_iter();
        logs.flat_map(|(_, placed)| placed.log.producer_ids_within(ids.clone())).collect()
    }

    pub(crate) fn snapshot(&self) -> Vec<(TopicPartition, Placed)> {
        self.logs.lock().placed.iter().map(|(p, placed)| (p.clone(), placed.clone())).collect()
    }
}
