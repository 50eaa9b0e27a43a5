//! Opening the logs of all directories, several at a time.
//!
//! What keeps one log from being opened keeps no other from it:
//!
//! - a log that is damaged, or missing, is offline, and its files and checkpoints stay as they are;
//! - a directory that the disk refuses is offline, with the logs in it.
//!
//! A log is missing if it should be there: a checkpoint knows of records in it. A log that nothing
//! knows of was never made, or had nothing in it, and is made when it is asked for; but not while it
//! may lie on a disk that does not answer, or that is not mounted, so that a new, empty directory is
//! in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ottla_record::Offset;
use ottla_runtime::{World, task};
use parking_lot::Mutex;
use tracing::{error, info};

use crate::LogConfig;
use crate::checkpoint::TopicPartition;
use crate::damage::OpenError;
use crate::directory::{Checkpoints, DirectoryError, Listing, LogDirectory, Noted, read_topic_id};
use crate::log::{Log, Opening};
use crate::manager::{Offline, Placed};
use crate::moving;

/// How often a directory that takes long says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(3);

/// How logs are opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions<'a> {
    /// The logs of one directory that are opened at a time (`num.recovery.threads.per.data.dir`).
    pub threads: usize,
    /// The partitions of this broker: those that should have a log.
    pub expected: &'a BTreeSet<TopicPartition>,
}

/// What was found.
#[derive(Default)]
pub(crate) struct Opened {
    pub(crate) placed: BTreeMap<TopicPartition, Placed>,
    pub(crate) offline: BTreeMap<TopicPartition, Offline>,
    /// The logs that were on their way to another directory, with that directory's index.
    pub(crate) moving: Vec<(TopicPartition, usize)>,
    /// Directories of deleted logs and of copies.
    pub(crate) leftovers: Vec<PathBuf>,
    /// Logs that were moved, with the directory that the move left behind.
    pub(crate) twins: Vec<(TopicPartition, PathBuf)>,
}

/// Opens all logs. New directories are claimed if no log is missed that might belong there.
pub(crate) fn open_all(
    world: &World,
    directories: &mut [LogDirectory],
    options: OpenOptions<'_>,
    config_of: &(impl Fn(&str) -> Arc<LogConfig> + Sync),
) -> Result<Opened, DirectoryError> {
    // What a process that was killed left in memory is on the disk first, so that it can be read there.
    // A directory that refuses is offline by that.
    for directory in directories.iter().filter(|d| d.is_online() && !d.was_clean()) {
        let _ = directory.volume().sync_all();
    }
    let mut opened = Opened::default();
    let mut loaders = Vec::new();
    for (index, directory) in directories.iter().enumerate().filter(|(_, d)| d.is_online()) {
        let listed = directory.list().and_then(|l| Ok((l, directory.read_checkpoints()?)));
        match listed {
            Ok((Listing { logs, deleted, futures }, checkpoints)) => {
                opened.leftovers.extend(deleted);
                for (partition, path) in futures {
                    opened.moving.push((partition, index));
                    opened.leftovers.push(path);
                }
                loaders.push(Loader::new(world, directory, index, logs, checkpoints, config_of));
            }
            Err(error @ DirectoryError::Io { .. }) => directory.volume().fail(&error),
            Err(error) => return Err(error),
        }
    }
    let jobs = loaders.iter().flat_map(|loader| {
        (0..options.threads.clamp(1, loader.partitions.len().max(1))).map(|_| || loader.run())
    });
    task::run_all("open-logs", jobs.collect())
        .map_err(|error| DirectoryError::Io { path: PathBuf::from("open-logs"), error })?;
    let loaded = loaders.into_iter().map(Loader::finish).collect();
    merge(world, directories, &mut opened, loaded)?;
    refuse_missing(&mut opened, directories, options.expected);
    Ok(opened)
}

/// The logs of one directory on their way to being opened.
struct Loader<'a, C> {
    world: &'a World,
    directory: &'a LogDirectory,
    index: usize,
    checkpoints: Checkpoints,
    config_of: &'a C,
    partitions: Vec<TopicPartition>,
    next: AtomicUsize,
    opened: Mutex<Vec<(TopicPartition, Result<Placed, Offline>)>>,
    begun: Duration,
    /// When it was last said how far it is.
    said: Mutex<Duration>,
}

/// The logs of one directory.
struct Loaded {
    directory: usize,
    checkpoints: Checkpoints,
    logs: Vec<(TopicPartition, Result<Placed, Offline>)>,
}

impl<'a, C: Fn(&str) -> Arc<LogConfig> + Sync> Loader<'a, C> {
    fn new(
        world: &'a World,
        directory: &'a LogDirectory,
        index: usize,
        partitions: Vec<TopicPartition>,
        checkpoints: Checkpoints,
        config_of: &'a C,
    ) -> Self {
        let begun = world.clock.elapsed();
        Self {
            world,
            directory,
            index,
            checkpoints,
            config_of,
            partitions,
            next: AtomicUsize::new(0),
            opened: Mutex::default(),
            begun,
            said: Mutex::new(begun),
        }
    }

    /// Opens logs until none is left.
    fn run(&self) {
        while let Some(partition) = self.partitions.get(self.next.fetch_add(1, Ordering::Relaxed))
            && self.directory.is_online()
        {
            let opened = match self.open(partition) {
                Ok(placed) => Ok(placed),
                Err(OpenError::Damaged(damage)) => {
                    let dir = self.directory.path().display();
                    error!(%partition, %dir, %damage, "a log is offline");
                    Err(self.offline(partition, &damage))
                }
                Err(OpenError::Io(error)) if is_damage(&error) => {
                    let dir = self.directory.path().display();
                    error!(%partition, %dir, %error, "a log is offline");
                    Err(self.offline(partition, &error))
                }
                Err(OpenError::Io(error)) => {
                    let path = self.directory.path().join(partition.to_string());
                    self.directory.volume().fail(&DirectoryError::Io { path, error });
                    return;
                }
            };
            self.opened.lock().push((partition.clone(), opened));
            self.tell_progress();
        }
    }

    fn open(&self, partition: &TopicPartition) -> Result<Placed, OpenError> {
        let dir = self.directory.path().join(partition.to_string());
        let topic_id = read_topic_id(self.world, &dir)?;
        let noted = self.checkpoints.of(partition);
        let opening = Opening {
            clean: self.directory.was_clean(),
            recovery_point: noted.recovery_point.unwrap_or_default(),
            log_start_offset: noted.log_start_offset.unwrap_or_default(),
            high_watermark: noted.high_watermark.unwrap_or_default(),
        };
        let config = (self.config_of)(&partition.topic);
        let log = Log::open(self.directory.volume(), &dir, config, opening)?;
        // One beyond the end is of records that were lost: those that follow are not clean.
        if let Some(offset) = noted.cleaner_offset.filter(|&offset| offset <= log.end().offset) {
            log.set_cleaner_checkpoint(offset);
        }
        Ok(Placed { log, topic_id, directory: self.index })
    }

    fn offline(&self, partition: &TopicPartition, reason: &dyn std::fmt::Display) -> Offline {
        Offline {
            directory: self.index,
            path: Some(self.directory.path().join(partition.to_string())),
            reason: reason.to_string().into(),
            noted: self.checkpoints.of(partition),
        }
    }

    fn tell_progress(&self) {
        let now = self.world.clock.elapsed();
        let mut said = self.said.lock();
        if now.saturating_sub(*said) >= PROGRESS_INTERVAL {
            *said = now;
            let (done, all) = (self.opened.lock().len(), self.partitions.len());
            let dir = self.directory.path().display();
            info!(%dir, "recovering {done} of {all} logs…");
        }
    }

    fn finish(self) -> Loaded {
        let dir = self.directory.path().display();
        let mut logs = std::mem::take(&mut *self.opened.lock());
        match self.directory.failure() {
            // What was opened cannot be relied on any more than what was not.
            Some(reason) => {
                let offline = |p: &TopicPartition| (p.clone(), Err(self.offline(p, &reason)));
                logs = self.partitions.iter().map(offline).collect();
            }
            None => {
                let took = self.world.clock.elapsed().saturating_sub(self.begun);
                let clean = self.directory.was_clean();
                info!(%dir, logs = logs.len(), clean, ?took, "loaded log directory");
            }
        }
        Loaded { directory: self.index, checkpoints: self.checkpoints, logs }
    }
}

/// Whether a small file of the log is at fault, and not the disk below it.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// Puts the logs of all directories together. What a checkpoint has of a log that lies nowhere is
/// kept: it says that one should be there.
fn merge(
    world: &World,
    directories: &[LogDirectory],
    opened: &mut Opened,
    loaded: Vec<Loaded>,
) -> Result<(), DirectoryError> {
    let (mut offline, mut noted) = (Vec::new(), Vec::new());
    for Loaded { directory, checkpoints, logs } in loaded {
        for (partition, log) in logs {
            match log {
                Ok(placed) => place(world, opened, partition, placed)?,
                Err(log) => offline.push((partition, log)),
            }
        }
        noted.push((directory, checkpoints));
    }
    for (partition, log) in offline {
        let twin = opened.placed.get(&partition).map(|placed| placed.log.dir());
        let twin = twin.or_else(|| opened.offline.get(&partition)?.path.as_deref());
        match (twin, &log.path) {
            // The one that can be reached is served.
            (Some(_), _) if !directories[log.directory].is_online() => {}
            (Some(twin), Some(path)) => return Err(twins(path, twin, &partition)),
            _ => drop(opened.offline.insert(partition, log)),
        }
    }
    for (directory, checkpoints) in noted {
        for partition in checkpoints.partitions() {
            let noted = checkpoints.of(partition);
            let is_there =
                opened.placed.contains_key(partition) || opened.offline.contains_key(partition);
            if !is_there && noted.reached() > Offset::ZERO {
                let dir = directories[directory].path();
                let reason = missing(&dir.join(partition.to_string()), noted.reached());
                let log = Offline { directory, path: None, reason: reason.into(), noted };
                opened.offline.insert(partition.clone(), log);
            }
        }
    }
    Ok(())
}

/// Adds a log. The same log in two directories is not for a broker to choose from, unless it was
/// moved and the move was cut off at its end.
fn place(
    world: &World,
    opened: &mut Opened,
    partition: TopicPartition,
    placed: Placed,
) -> Result<(), DirectoryError> {
    let Some(twin) = opened.placed.remove(&partition) else {
        opened.placed.insert(partition, placed);
        return Ok(());
    };
    let (kept, left) = moving::choose_twin(world, twin, placed)
        .map_err(|(twin, placed)| twins(placed.log.dir(), twin.log.dir(), &partition))?;
    opened.twins.push((partition.clone(), left.log.dir().to_owned()));
    opened.placed.insert(partition, kept);
    Ok(())
}

fn twins(path: &Path, twin: &Path, partition: &TopicPartition) -> DirectoryError {
    let message = format!("{partition} lies in {} too", twin.display());
    DirectoryError::Io { path: path.to_owned(), error: io::Error::other(message) }
}

fn missing(path: &Path, reached: Offset) -> String {
    let path = path.display();
    format!(
        "{path} is missing, and it had records up to offset {reached}: bring the directory back, or \
         delete the topic"
    )
}

/// Takes note of the partitions whose log lies in no directory that works, though it may lie
/// elsewhere. New directories among which it is not sought are claimed.
fn refuse_missing(
    opened: &mut Opened,
    directories: &mut [LogDirectory],
    expected: &BTreeSet<TopicPartition>,
) {
    // What no topic has any more need not be there.
    opened.offline.retain(|partition, log| log.path.is_some() || expected.contains(partition));
    let is_found =
        |p: &&TopicPartition| !opened.placed.contains_key(*p) && !opened.offline.contains_key(*p);
    let sought: Vec<_> = expected.iter().filter(is_found).cloned().collect();
    // Where all are new, so is the broker.
    let is_first_start = directories.iter().all(LogDirectory::is_new);
    let new = directories.iter().filter(|d| d.is_new() && !is_first_start);
    for directory in new.filter(|_| !sought.is_empty()) {
        let (count, first) = (sought.len(), &sought[0]);
        let meta = directory.path().join("meta.properties");
        let reason = format!(
            "it is new, and {count} log(s) of this broker ({first}…) lie nowhere: mount the disk \
             that they are on; to go on without them, make an empty file {}",
            meta.display()
        );
        directory.volume().fail(&reason);
    }
    for directory in directories.iter_mut().filter(|directory| directory.is_online()) {
        directory.claim();
    }
    let Some((index, failed)) = directories.iter().enumerate().find(|(_, d)| !d.is_online()) else {
        return;
    };
    let dir = failed.path().display();
    let reason: Arc<str> = format!("its log may lie in {dir}, which is offline").into();
    for partition in sought {
        let (reason, noted) = (reason.clone(), Noted::default());
        opened.offline.insert(partition, Offline { directory: index, path: None, reason, noted });
    }
}
