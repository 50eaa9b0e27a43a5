//! All logs of a broker, over its log directories.
//!
//! Owns: which log lies in which directory, opening and closing them all, checkpoints, retention.
//! Must not know: replicas, who leads.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_record::{Offset, Uuid};
use ottla_runtime::World;
use ottla_runtime::disk::Space;
use parking_lot::Mutex;
use tracing::{error, info, warn};

use crate::LogConfig;
use crate::checkpoint::TopicPartition;
use crate::directory::{Checkpoints, DirectoryError, LogDirectory, read_topic_id, write_topic_id};
use crate::log::{Log, Opening};
use crate::volume::Volume;

/// The logs of one broker.
pub struct LogManager {
    world: World,
    directories: Vec<LogDirectory>,
    logs: Mutex<BTreeMap<TopicPartition, Placed>>,
    /// Held while checkpoints are gathered and written, so that none replaces a newer one.
    checkpointing: Mutex<()>,
}

#[derive(Clone)]
struct Placed {
    log: Arc<Log>,
    topic_id: Option<Uuid>,
    /// Index into `directories`.
    directory: usize,
}

/// What a log directory holds, for `DescribeLogDirs`.
#[derive(Clone, Debug)]
pub struct DirectoryUsage {
    /// The directory.
    pub path: PathBuf,
    /// Its logs with their sizes in bytes.
    pub logs: Vec<(TopicPartition, u64)>,
    /// The room on its file system; `None` if the system does not tell.
    pub space: Option<Space>,
}

impl LogManager {
    /// Opens all logs in the directories and writes the checkpoints anew, without logs that are no
    /// more. `config_of` gives the settings of a topic.
    pub fn open(
        world: &World,
        directories: Vec<LogDirectory>,
        config_of: impl Fn(&str) -> Arc<LogConfig>,
    ) -> Result<Self, DirectoryError> {
        let mut logs = BTreeMap::new();
        for (index, directory) in directories.iter().enumerate() {
            let started = world.clock.elapsed();
            for (partition, placed) in load(world, directory, index, &config_of)? {
                if let Some(twin) = logs.get(&partition).map(|p: &Placed| p.log.dir().to_owned()) {
                    let path = placed.log.dir().to_owned();
                    let message = format!("{partition} lies in {} too", twin.display());
                    return Err(DirectoryError::Io { path, error: io::Error::other(message) });
                }
                logs.insert(partition, placed);
            }
            let (dir, clean) = (directory.path().display(), directory.was_clean());
            let took = world.clock.elapsed().saturating_sub(started);
            info!(%dir, logs = logs.len(), clean, ?took, "loaded log directory");
        }
        let (logs, checkpointing) = (Mutex::new(logs), Mutex::new(()));
        let manager = Self { world: world.clone(), directories, logs, checkpointing };
        manager.write_checkpoints()?;
        Ok(manager)
    }

    /// The log of a partition.
    #[must_use]
    pub fn get(&self, partition: &TopicPartition) -> Option<Arc<Log>> {
        self.logs.lock().get(partition).map(|placed| placed.log.clone())
    }

    /// All partitions that have a log, with the topic id that their directory bears.
    #[must_use]
    pub fn partitions(&self) -> Vec<(TopicPartition, Option<Uuid>)> {
        self.logs.lock().iter().map(|(p, placed)| (p.clone(), placed.topic_id)).collect()
    }

    /// The log of a partition, made in the directory with the fewest logs if there is none.
    pub fn get_or_create(
        &self,
        partition: &TopicPartition,
        topic_id: Uuid,
        config: Arc<LogConfig>,
    ) -> io::Result<Arc<Log>> {
        let mut logs = self.logs.lock();
        if let Some(placed) = logs.get_mut(partition) {
            if placed.topic_id.is_none() {
                write_topic_id(&self.world, placed.log.dir(), topic_id)?;
                placed.topic_id = Some(topic_id);
            }
            return Ok(placed.log.clone());
        }
        let load = |index: &usize| logs.values().filter(|p| p.directory == *index).count();
        let directory = (0..self.directories.len()).min_by_key(load).unwrap_or(0);
        let dir = self.directories[directory].path().join(partition.to_string());
        let opening = Opening {
            clean: false,
            recovery_point: Offset::ZERO,
            log_start_offset: Offset::ZERO,
            high_watermark: Offset::ZERO,
        };
        let log = Log::open(self.directories[directory].volume(), &dir, config, opening)?;
        write_topic_id(&self.world, &dir, topic_id)?;
        let placed = Placed { log: log.clone(), topic_id: Some(topic_id), directory };
        logs.insert(partition.clone(), placed);
        Ok(log)
    }

    /// Deletes a partition's log. It is gone at once; readers that hold it go on reading.
    pub fn delete(&self, partition: &TopicPartition) -> io::Result<()> {
        let Some(renamed) = self.take_out(partition, "delete")? else { return Ok(()) };
        self.world.disk.remove_dir_all(&renamed)
    }

    /// Takes a log out of service without deleting it: its directory gets the suffix `-stray`.
    pub fn set_aside(&self, partition: &TopicPartition) -> io::Result<()> {
        if let Some(renamed) = self.take_out(partition, "stray")? {
            let dir = renamed.display();
            warn!(%partition, %dir, "set aside a log that belongs to no topic of this cluster");
        }
        Ok(())
    }

    /// Takes a log off the list, its directory out of the way and its offsets from the checkpoints:
    /// they would be believed of another log of that name. Returns the new path.
    fn take_out(&self, partition: &TopicPartition, suffix: &str) -> io::Result<Option<PathBuf>> {
        let renamed = {
            let mut logs = self.logs.lock();
            let Some(placed) = logs.get(partition) else { return Ok(None) };
            placed.log.retire();
            let directory = self.directories[placed.directory].path();
            let renamed = directory.join(self.unique_name(partition, suffix));
            self.world.disk.rename(placed.log.dir(), &renamed)?;
            self.world.disk.sync_dir(directory)?;
            logs.remove(partition);
            renamed
        };
        self.write_checkpoints().map_err(io::Error::other)?;
        Ok(Some(renamed))
    }

    /// `<topic>-<partition>.<32 hex digits>-<suffix>`, with as much of the topic as fits.
    fn unique_name(&self, partition: &TopicPartition, suffix: &str) -> String {
        let id: String =
            self.world.random.bytes16().iter().map(|byte| format!("{byte:02x}")).collect();
        let tail = format!("-{}.{id}-{suffix}", partition.partition);
        // A file name has at most 255 bytes, and topic names are ASCII.
        let topic = &partition.topic[..partition.topic.len().min(255 - tail.len())];
        format!("{topic}{tail}")
    }

    /// Puts other settings in force for all logs of a topic.
    pub fn set_config(&self, topic: &str, config: &Arc<LogConfig>) {
        for (partition, placed) in self.logs.lock().iter() {
            if partition.topic == topic {
                placed.log.set_config(config.clone());
            }
        }
    }

    /// Removes what retention allows to go. A log whose disk refuses is reported and left for the
    /// next time.
    pub fn delete_old_segments(&self) {
        for (partition, placed) in self.snapshot() {
            let log = &placed.log;
            if let Err(error) = log.delete_old_segments(log.flushed().offset) {
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

    /// Makes all logs durable up to now and writes the checkpoints, so that little is scanned after
    /// a crash. A log whose disk refuses does not keep the others from it; its error is returned.
    pub fn checkpoint(&self) -> Result<(), DirectoryError> {
        self.checkpoint_after(Log::flush)
    }

    fn checkpoint_after(&self, step: fn(&Log) -> io::Result<()>) -> Result<(), DirectoryError> {
        let mut stepped = Ok(());
        for (_, Placed { log, .. }) in self.snapshot() {
            if let Err(error) = step(&log) {
                stepped = stepped.and(Err(io_error(log.dir(), error)));
            }
        }
        self.write_checkpoints().and(stepped)
    }

    /// Writes the checkpoints up to what is durable already.
    pub fn checkpoint_flushed(&self) -> Result<(), DirectoryError> {
        self.checkpoint_after(|log| match log.recovery_point() < log.flushed().offset {
            true => log.checkpoint(),
            false => Ok(()),
        })
    }

    /// What the logs of each directory share.
    #[must_use]
    pub fn volumes(&self) -> Vec<Arc<Volume>> {
        self.directories.iter().map(|directory| directory.volume().clone()).collect()
    }

    /// Writes the checkpoints as things stand: log start offsets, recovery points, high watermarks.
    pub fn write_checkpoints(&self) -> Result<(), DirectoryError> {
        let _checkpointing = self.checkpointing.lock();
        let logs = self.snapshot();
        for (index, directory) in self.directories.iter().enumerate() {
            let mut offsets = Checkpoints::default();
            for (partition, Placed { log, .. }) in logs.iter().filter(|(_, p)| p.directory == index)
            {
                offsets.recovery_points.insert(partition.clone(), log.recovery_point());
                // A log that ends below its high watermark is damaged: so it is what no crash takes.
                offsets.high_watermarks.insert(partition.clone(), log.flushed().offset);
                let start = log.log_start_offset();
                if start > log.first_base_offset() {
                    offsets.log_start_offsets.insert(partition.clone(), start);
                }
            }
            directory.write_checkpoints(&offsets)?;
        }
        Ok(())
    }

    /// Closes all logs and says so on the disk. Nothing may be appended afterwards.
    pub fn close(&self) -> Result<(), DirectoryError> {
        for (_, Placed { log, .. }) in self.snapshot() {
            log.close().map_err(|error| io_error(log.dir(), error))?;
        }
        self.write_checkpoints()?;
        self.directories.iter().try_for_each(LogDirectory::mark_clean)
    }

    /// What lies where.
    #[must_use]
    pub fn usage(&self) -> Vec<DirectoryUsage> {
        let logs = self.snapshot();
        let usage = |(index, directory): (usize, &LogDirectory)| DirectoryUsage {
            path: directory.path().to_owned(),
            space: self.world.disk.space(directory.path()).ok(),
            logs: logs
                .iter()
                .filter(|(_, placed)| placed.directory == index)
                .map(|(partition, placed)| (partition.clone(), placed.log.size_in_bytes()))
                .collect(),
        };
        self.directories.iter().enumerate().map(usage).collect()
    }

    fn snapshot(&self) -> Vec<(TopicPartition, Placed)> {
        self.logs.lock().iter().map(|(p, placed)| (p.clone(), placed.clone())).collect()
    }
}

fn load(
    world: &World,
    directory: &LogDirectory,
    index: usize,
    config_of: &impl Fn(&str) -> Arc<LogConfig>,
) -> Result<Vec<(TopicPartition, Placed)>, DirectoryError> {
    let recovery_points = directory.read_recovery_points();
    let log_start_offsets = directory.read_log_start_offsets()?;
    let high_watermarks = directory.read_high_watermarks();
    let mut loaded = Vec::new();
    for partition in directory.logs()? {
        let dir = directory.path().join(partition.to_string());
        let failed = |error| io_error(&dir, error);
        let topic_id = read_topic_id(world, &dir).map_err(failed)?;
        let opening = Opening {
            clean: directory.was_clean(),
            recovery_point: recovery_points.get(&partition).copied().unwrap_or_default(),
            log_start_offset: log_start_offsets.get(&partition).copied().unwrap_or_default(),
            high_watermark: high_watermarks.get(&partition).copied().unwrap_or_default(),
        };
        let failed = |error| io_error(&dir, error);
        let config = config_of(&partition.topic);
        let log = Log::open(directory.volume(), &dir, config, opening)
            .map_err(|error| failed(error.into()))?;
        loaded.push((partition, Placed { log, topic_id, directory: index }));
    }
    Ok(loaded)
}

fn io_error(path: &Path, error: io::Error) -> DirectoryError {
    DirectoryError::Io { path: path.to_owned(), error }
}
