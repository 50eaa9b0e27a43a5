//! Making logs, many at a time.
//!
//! A log is there once its directory and its `partition.metadata` are on the disk, which two syncs of
//! the file system see to, however many logs are made: one for what the files hold, one for their
//! names. A crash in between leaves directories without the file: logs that have nothing in them, and
//! get it when they are asked for again.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::slice;
use std::sync::Arc;

use ottla_record::{Offset, Uuid};

use crate::LogConfig;
use crate::checkpoint::TopicPartition;
use crate::directory::{LogDirectory, prepare_topic_id, put_topic_id};
use crate::log::{Log, Opening};
use crate::manager::{LogManager, Logs, Placed, Unavailable};
use crate::placement::{self, Candidate};

/// A partition that lacks its log, or its log the topic id.
struct Unmade {
    partition: TopicPartition,
    /// By index.
    directory: usize,
    dir: PathBuf,
}

impl LogManager {
    /// The log of a partition. See [`LogManager::get_or_create_all`].
    pub fn get_or_create(
        &self,
        partition: &TopicPartition,
        topic_id: Uuid,
        config: Arc<LogConfig>,
    ) -> Result<Arc<Log>, Unavailable> {
        let made = self.get_or_create_all(slice::from_ref(partition), topic_id, &config);
        made.into_iter().next().unwrap_or_else(|| Err(io::Error::other("no log was made").into()))
    }

    /// The logs of partitions of a topic, in their order. Those that were never made are made, each in
    /// its preferred directory or in that with the fewest logs; when this returns, they are on the
    /// disk.
    ///
    /// # Errors
    /// A partition's log is offline, or it could not be made.
    pub fn get_or_create_all(
        &self,
        partitions: &[TopicPartition],
        topic_id: Uuid,
        config: &Arc<LogConfig>,
    ) -> Vec<Result<Arc<Log>, Unavailable>> {
        let unmade = self.find_unmade(partitions);
        let made = unmade.and_then(|unmade| self.make(&unmade, topic_id).map(|()| unmade));
        let failure = made.and_then(|unmade| self.open_made(unmade, topic_id, config)).err();
        let logs = self.logs.lock();
        let log = |partition| match (logs.placed.get(partition), logs.offline.get(partition)) {
            (_, Some(offline)) => Err(Unavailable::Offline(offline.reason.clone())),
            (Some(placed), None) => Ok(placed.log.clone()),
            (None, None) => Err(failure.as_ref().map_or_else(
                || io::Error::other("the log was deleted again").into(),
                |error| io::Error::new(error.kind(), error.to_string()).into(),
            )),
        };
        partitions.iter().map(log).collect()
    }

    fn find_unmade(&self, partitions: &[TopicPartition]) -> io::Result<Vec<Unmade>> {
        let logs = self.logs.lock();
        let mut candidates = None;
        let mut unmade = Vec::new();
        for partition in partitions.iter().filter(|p| !logs.offline.contains_key(*p)) {
            let (directory, dir) = match logs.placed.get(partition) {
                Some(placed) if placed.topic_id.is_some() => continue,
                Some(placed) => (placed.directory, placed.log.dir().to_owned()),
                None => {
                    let candidates = candidates.get_or_insert_with(|| self.candidates(&logs));
                    let preferred = logs.preferred.get(partition).copied();
                    let directory = match self.find_begun(partition)? {
                        Some(directory) => directory,
                        None => choose_directory(candidates, preferred)?,
                    };
                    (directory, self.directories[directory].path().join(partition.to_string()))
                }
            };
            unmade.push(Unmade { partition: partition.clone(), directory, dir });
        }
        Ok(unmade)
    }

    /// The directory in which an earlier try that failed began the log: it must not come to lie in two.
    fn find_begun(&self, partition: &TopicPartition) -> io::Result<Option<usize>> {
        let name = partition.to_string();
        let is_begun = |d: &LogDirectory| self.world.disk.exists(&d.path().join(&name));
        let begun = self.directories.iter().position(is_begun);
        begun.map_or(Ok(()), |at| self.directories[at].volume().check_online())?;
        Ok(begun)
    }

    fn candidates(&self, logs: &Logs) -> Vec<Option<Candidate>> {
        let mut counts = vec![0; self.directories.len()];
        logs.placed.values().for_each(|placed| counts[placed.directory] += 1);
        self.moves.targets().into_iter().for_each(|directory| counts[directory] += 1);
        let candidate = |(directory, logs): (&LogDirectory, usize)| {
            let space = self.world.disk.space(directory.path()).ok();
            directory.is_online().then_some(Candidate { logs, space })
        };
        self.directories.iter().zip(counts).map(candidate).collect()
    }

    /// Makes the directories, with the topic's id in them.
    fn make(&self, unmade: &[Unmade], topic_id: Uuid) -> io::Result<()> {
        let disk = &*self.world.disk;
        let directories: BTreeSet<usize> = unmade.iter().map(|unmade| unmade.directory).collect();
        let sync = || {
            directories.iter().try_for_each(|&index| self.directories[index].volume().sync_all())
        };
        for Unmade { dir, .. } in unmade {
            disk.create_dir_all(dir)?;
            prepare_topic_id(disk, dir, topic_id)?;
        }
        sync()?;
        unmade.iter().try_for_each(|unmade| put_topic_id(disk, &unmade.dir))?;
        sync()
    }

    fn open_made(
        &self,
        unmade: Vec<Unmade>,
        topic_id: Uuid,
        config: &Arc<LogConfig>,
    ) -> io::Result<()> {
        let opening = Opening {
            clean: false,
            recovery_point: Offset::ZERO,
            log_start_offset: Offset::ZERO,
            high_watermark: Offset::ZERO,
        };
        for Unmade { partition, directory, dir } in unmade {
            let mut logs = self.logs.lock();
            if let Some(placed) = logs.placed.get_mut(&partition) {
                placed.topic_id = Some(topic_id);
                continue;
            }
            let volume = self.directories[directory].volume();
            let log = Log::open(volume, &dir, config.clone(), opening)?;
            logs.preferred.remove(&partition);
            logs.placed.insert(partition, Placed { log, topic_id: Some(topic_id), directory });
        }
        Ok(())
    }
}

fn choose_directory(
    candidates: &mut [Option<Candidate>],
    preferred: Option<usize>,
) -> io::Result<usize> {
    let chosen = placement::choose(candidates, preferred)
        .ok_or_else(|| io::Error::other("all log directories are offline"))?;
    if let Some(candidate) = &mut candidates[chosen] {
        candidate.logs += 1;
    }
    Ok(chosen)
}
