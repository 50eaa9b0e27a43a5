//! One log directory (`log.dirs`): its lock, its identity, its checkpoints, and the names in it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_config::Properties;
use ottla_record::{BrokerId, Offset, PartitionId, Uuid};
use ottla_runtime::World;
use ottla_runtime::disk::{
    DirLock, Disk, LockError, put_replacement, read_file, replace_file, write_replacement,
};
use tracing::warn;

use crate::checkpoint::{self, TopicPartition};
use crate::volume::Volume;

pub(crate) const LOCK: &str = ".lock";
pub(crate) const CLEAN_MARKER: &str = ".kafka_cleanshutdown";
pub(crate) const META: &str = "meta.properties";
pub(crate) const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
pub(crate) const LOG_START_OFFSETS: &str = "log-start-offset-checkpoint";
pub(crate) const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
pub(crate) const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";

const CHECKPOINTS: [&str; 4] =
    [LOG_START_OFFSETS, HIGH_WATERMARKS, RECOVERY_POINTS, CLEANER_OFFSETS];

/// Whose a directory is (`meta.properties`).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    /// 1 if Kafka wrote it under KRaft: it stays, so that Kafka knows its directory again.
    version: i32,
    broker_id: BrokerId,
    /// Unknown until the broker has joined a cluster for the first time.
    cluster_id: Option<String>,
    directory_id: Uuid,
}

impl Identity {
    fn text(&self) -> String {
        let Self { version, broker_id, cluster_id, directory_id } = self;
        let cluster = cluster_id.as_ref().map_or(String::new(), |id| format!("cluster.id={id}\n"));
        let key = if *version == 1 { "node.id" } else { "broker.id" };
        format!(
            "#\n#\nversion={version}\n{key}={broker_id}\n{cluster}directory.id={directory_id}\n"
        )
    }
}

/// Why a directory cannot be used.
#[derive(Debug)]
pub enum DirectoryError {
    /// Another process uses it.
    InUse {
        /// The directory.
        dir: PathBuf,
        /// That process, where the system tells.
        pid: Option<u32>,
    },
    /// It belongs to another cluster or broker.
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// The key of `meta.properties` that differs.
        key: &'static str,
        /// What the file says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// It has a name in it that a log directory does not have.
    UnknownName {
        /// The path.
        path: PathBuf,
    },
    /// The disk refused.
    Io {
        /// The path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { dir, pid: Some(pid) } => {
                write!(f, "{} is in use by process {pid}; stop it first", dir.display())
            }
            Self::InUse { dir, pid: None } => {
                write!(f, "{} is in use by another process; stop it first", dir.display())
            }
            Self::Foreign { dir, key, found, expected } => write!(
                f,
                "{} belongs to {key} {found}, and this is {expected}: \
                 point log.dirs to another directory, or set {key} back",
                dir.join(META).display()
            ),
            Self::UnknownName { path } => write!(
                f,
                "{} is not named <topic>-<partition>: move it out of the log directory",
                path.display()
            ),
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for DirectoryError {}

/// What a sub-directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubDirectory {
    Log(TopicPartition),
    /// A log that was being deleted when the broker stopped.
    Deleted,
    /// A replica that is not expected here: kept for the operator.
    SetAside,
    /// A copy that is to take the place of the log of this partition.
    Future(TopicPartition),
    /// Of no concern.
    Other,
}

impl SubDirectory {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        for (suffix, kind) in [("-delete", Self::Deleted), ("-stray", Self::SetAside)] {
            if name.ends_with(suffix) && name.contains('.') {
                return Some(kind);
            }
        }
        if let Some((live, _)) = name.strip_suffix("-future").and_then(|n| n.rsplit_once('.')) {
            return Self::parse(live).map(|kind| match kind {
                Self::Log(partition) => Self::Future(partition),
                kind => kind,
            });
        }
        if name == "remote-log-index-cache" {
            return Some(Self::Other);
        }
        let (topic, partition) = name.rsplit_once('-')?;
        let partition: i32 = partition.parse().ok().filter(|p| *p >= 0)?;
        match topic {
            "" => None,
            "__cluster_metadata" => Some(Self::Other),
            _ => Some(Self::Log(TopicPartition::new(topic, PartitionId(partition)))),
        }
    }
}

/// A log directory of this broker. It is offline if it could not be opened.
pub struct LogDirectory {
    volume: Arc<Volume>,
    opened: Option<Opened>,
    /// The checkpoints are as this process wrote them last, and on the disk.
    has_durable_checkpoints: AtomicBool,
}

/// What is known of a directory that this process holds the lock of.
struct Opened {
    _lock: Box<dyn DirLock>,
    was_clean: bool,
    /// It had no identity: nobody's log was ever in it.
    is_new: bool,
    identity: Identity,
}

/// The names in a log directory.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) logs: Vec<TopicPartition>,
    /// Logs that were being deleted when the broker stopped, by path.
    pub(crate) deleted: Vec<PathBuf>,
    /// Copies that were to take the place of a log, by path.
    pub(crate) futures: Vec<(TopicPartition, PathBuf)>,
}

impl LogDirectory {
    /// Locks the directory, making it if missing, checks that it is this broker's, and takes note of
    /// whether it was closed cleanly. If the disk refuses, the directory is offline from the start.
    ///
    /// # Errors
    /// The directory is someone else's.
    pub fn open(world: &World, path: &Path, broker_id: BrokerId) -> Result<Self, DirectoryError> {
        let opened = Opened::new(world, path, broker_id).and_then(|opened| {
            let failed = |error| DirectoryError::Io { path: path.to_owned(), error };
            Ok((Volume::open(world, path).map_err(failed)?, opened))
        });
        match opened {
            Ok((volume, opened)) => Ok(Self::new(volume, Some(opened))),
            Err(error @ DirectoryError::Io { .. }) => {
                let volume = Volume::offline(world, path);
                volume.fail(&error);
                Ok(Self::new(volume, None))
            }
            Err(error) => Err(error),
        }
    }

    fn new(volume: Arc<Volume>, opened: Option<Opened>) -> Self {
        Self { volume, opened, has_durable_checkpoints: AtomicBool::new(false) }
    }

    /// The id that the directory keeps for as long as it is not wiped; `None` if it could not be
    /// opened.
    #[must_use]
    pub fn id(&self) -> Option<Uuid> {
        self.opened.as_ref().map(|opened| opened.identity.directory_id)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.volume.path()
    }

    /// Why the directory is offline, if it is.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.volume.failure()
    }

    /// What its logs share.
    pub(crate) fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    pub(crate) fn is_online(&self) -> bool {
        self.failure().is_none()
    }

    pub(crate) fn was_clean(&self) -> bool {
        self.opened.as_ref().is_some_and(|opened| opened.was_clean)
    }

    /// Whether nobody's log was ever in it.
    pub(crate) fn is_new(&self) -> bool {
        self.opened.as_ref().is_some_and(|opened| opened.is_new)
    }

    fn disk(&self) -> &dyn Disk {
        &*self.volume.world.disk
    }

    fn failed(&self, name: &str) -> impl FnOnce(io::Error) -> DirectoryError {
        let path = self.path().join(name);
        move |error| DirectoryError::Io { path, error }
    }

    /// Checks that the directory belongs to this cluster, or makes it so if it belongs to none.
    pub fn join(&mut self, cluster_id: &str) -> Result<(), DirectoryError> {
        let dir = self.path().to_owned();
        let Some(opened) = &mut self.opened else { return Ok(()) };
        match &opened.identity.cluster_id {
            Some(found) if found == cluster_id => return Ok(()),
            Some(found) => {
                let (found, expected) = (found.clone(), cluster_id.to_owned());
                return Err(DirectoryError::Foreign { dir, key: "cluster.id", found, expected });
            }
            None => opened.identity.cluster_id = Some(cluster_id.to_owned()),
        }
        // What is new waits to be claimed: until then nothing says that it was ever used.
        if !opened.is_new {
            self.write_identity();
        }
        Ok(())
    }

    /// Makes a new directory this broker's for good.
    pub fn claim(&mut self) {
        if let Some(opened) = self.opened.as_mut().filter(|opened| opened.is_new) {
            opened.is_new = false;
            self.write_identity();
        }
    }

    fn write_identity(&self) {
        if let Some(opened) = &self.opened
            && let Err(error) = write_identity(&self.volume.world, self.path(), &opened.identity)
        {
            self.volume.fail(&error);
        }
    }

    /// Lists what lies in the directory.
    pub(crate) fn list(&self) -> Result<Listing, DirectoryError> {
        let mut listing = Listing::default();
        for entry in self.disk().read_dir(self.path()).map_err(self.failed(""))? {
            if !entry.is_dir {
                continue;
            }
            let path = self.path().join(&entry.name);
            match SubDirectory::parse(&entry.name) {
                Some(SubDirectory::Log(partition)) => listing.logs.push(partition),
                Some(SubDirectory::Deleted) => listing.deleted.push(path),
                Some(SubDirectory::Future(partition)) => listing.futures.push((partition, path)),
                Some(SubDirectory::SetAside | SubDirectory::Other) => {}
                None => return Err(DirectoryError::UnknownName { path }),
            }
        }
        Ok(listing)
    }

    /// Reads what was written down of the logs in this directory.
    ///
    /// # Errors
    /// The log start offsets cannot be read. Unlike the others, they cannot be found anew: deleted
    /// records would come back.
    pub(crate) fn read_checkpoints(&self) -> Result<Checkpoints, DirectoryError> {
        let read = |name: &str| checkpoint::read_offsets(self.disk(), &self.path().join(name));
        let read_or_none = |name: &str| {
            read(name).unwrap_or_else(|error| {
                let dir = self.path().display();
                warn!(%dir, %error, "a checkpoint could not be read: what it says is found anew");
                Offsets::new()
            })
        };
        Ok(Checkpoints {
            log_start_offsets: read(LOG_START_OFFSETS).map_err(self.failed(LOG_START_OFFSETS))?,
            recovery_points: read_or_none(RECOVERY_POINTS),
            high_watermarks: read_or_none(HIGH_WATERMARKS),
            cleaner_offsets: read_or_none(CLEANER_OFFSETS),
        })
    }

    /// Writes the checkpoints of the logs in this directory, those that changed.
    pub(crate) fn write_checkpoints(&self, offsets: &Checkpoints) -> Result<(), DirectoryError> {
        // What an earlier process wrote need not be on the disk.
        let is_durable = self.has_durable_checkpoints.swap(false, Ordering::Relaxed);
        let mut changed = Vec::new();
        for (name, offsets) in [
            (LOG_START_OFFSETS, &offsets.log_start_offsets),
            (HIGH_WATERMARKS, &offsets.high_watermarks),
            (RECOVERY_POINTS, &offsets.recovery_points),
            (CLEANER_OFFSETS, &offsets.cleaner_offsets),
        ] {
            let path = self.path().join(name);
            // Most directories have no compacted log.
            let is_optional = name == CLEANER_OFFSETS && offsets.is_empty();
            if is_optional && !self.disk().exists(&path) {
                continue;
            }
            let text = checkpoint::text_of_offsets(offsets);
            let holds_it = || read_file(self.disk(), &path).is_ok_and(|old| old == text.as_bytes());
            if !(is_durable && holds_it()) {
                changed.push((name, text));
            }
        }
        let disk = self.disk();
        let synced = if is_durable { Ok(()) } else { disk.sync_dir(self.path()) };
        synced
            .and_then(|()| checkpoint::replace_often(disk, self.path(), &changed))
            .map_err(self.failed(""))?;
        self.has_durable_checkpoints.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Says that all logs were closed and need no scan.
    pub(crate) fn mark_clean(&self) -> Result<(), DirectoryError> {
        for name in CHECKPOINTS {
            checkpoint::remove_old(self.disk(), self.path(), name).map_err(self.failed(name))?;
        }
        let marker = self.path().join(CLEAN_MARKER);
        replace_file(self.disk(), &marker, br#"{"version":0,"brokerEpoch":-1}"#)
            .map_err(self.failed(CLEAN_MARKER))
    }
}

impl Opened {
    fn new(world: &World, path: &Path, broker_id: BrokerId) -> Result<Self, DirectoryError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| DirectoryError::Io { path, error }
        };
        make_dir(&*world.disk, path).map_err(failed(path))?;
        let lock = world.disk.lock(&path.join(LOCK)).map_err(|error| match error {
            LockError::Held { pid } => DirectoryError::InUse { dir: path.to_owned(), pid },
            LockError::Io(error) => failed(&path.join(LOCK))(error),
        })?;
        let is_new = !world.disk.exists(&path.join(META));
        let identity = identify(world, path, broker_id, is_new)?;
        let marker = path.join(CLEAN_MARKER);
        let was_clean = world.disk.exists(&marker);
        if was_clean {
            // From here on a crash is a crash, also one while loading.
            world.disk.remove_file(&marker).map_err(failed(&marker))?;
            world.disk.sync_dir(path).map_err(failed(path))?;
        }
        Ok(Self { _lock: lock, was_clean, is_new, identity })
    }
}

/// Makes a directory, if it is missing, that a power cut leaves.
pub(crate) fn make_dir(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if disk.exists(path) {
        return Ok(());
    }
    disk.create_dir_all(path)?;
    path.parent().map_or(Ok(()), |parent| disk.sync_dir(parent))
}

pub(crate) fn read_meta(world: &World, path: &Path) -> Result<Properties, DirectoryError> {
    if !world.disk.exists(path) {
        return Ok(Properties::default());
    }
    let bytes = read_file(&*world.disk, path)
        .map_err(|error| DirectoryError::Io { path: path.to_owned(), error })?;
    Ok(Properties::parse(&String::from_utf8_lossy(&bytes)))
}

pub(crate) fn value_of(meta: &Properties, key: &str) -> Option<String> {
    meta.entries.iter().rev().find(|e| e.key == key).map(|e| e.value.trim().to_owned())
}

/// Reads whose the directory is, and gives it an id if it has none.
fn identify(
    world: &World,
    dir: &Path,
    broker_id: BrokerId,
    is_new: bool,
) -> Result<Identity, DirectoryError> {
    let found = read_meta(world, &dir.join(META))?;
    for key in ["broker.id", "node.id"] {
        let expected = broker_id.to_string();
        if let Some(found) = value_of(&found, key).filter(|found| *found != expected) {
            let dir = dir.to_owned();
            return Err(DirectoryError::Foreign { dir, key, found, expected });
        }
    }
    let version = value_of(&found, "version").and_then(|version| version.parse().ok()).unwrap_or(0);
    let known_id = value_of(&found, "directory.id").and_then(|id| Uuid::parse(&id));
    let identity = Identity {
        version,
        broker_id,
        cluster_id: value_of(&found, "cluster.id"),
        directory_id: known_id.unwrap_or_else(|| Uuid::from_random(world.random.bytes16())),
    };
    if known_id.is_none() && !is_new {
        write_identity(world, dir, &identity)?;
    }
    Ok(identity)
}

fn write_identity(world: &World, dir: &Path, identity: &Identity) -> Result<(), DirectoryError> {
    let path = dir.join(META);
    replace_file(&*world.disk, &path, identity.text().as_bytes())
        .map_err(|error| DirectoryError::Io { path, error })
}

/// One offset per partition.
pub(crate) type Offsets = BTreeMap<TopicPartition, Offset>;

/// What is written down of the logs of a directory from time to time.
#[derive(Clone, Default)]
pub(crate) struct Checkpoints {
    pub(crate) recovery_points: Offsets,
    pub(crate) log_start_offsets: Offsets,
    pub(crate) high_watermarks: Offsets,
    /// The first dirty offsets of logs that were compacted.
    pub(crate) cleaner_offsets: Offsets,
}

/// What the checkpoints of a directory say of one log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) recovery_point: Option<Offset>,
    pub(crate) log_start_offset: Option<Offset>,
    pub(crate) high_watermark: Option<Offset>,
    /// Below it the log was compacted.
    pub(crate) cleaner_offset: Option<Offset>,
}

impl Noted {
    /// The greatest offset that the log is known to have reached.
    pub(crate) fn reached(&self) -> Offset {
        let offsets = [self.recovery_point, self.log_start_offset, self.high_watermark];
        offsets.into_iter().flatten().max().unwrap_or_default()
    }
}

impl Checkpoints {
    pub(crate) fn of(&self, partition: &TopicPartition) -> Noted {
        Noted {
            recovery_point: self.recovery_points.get(partition).copied(),
            log_start_offset: self.log_start_offsets.get(partition).copied(),
            high_watermark: self.high_watermarks.get(partition).copied(),
            cleaner_offset: self.cleaner_offsets.get(partition).copied(),
        }
    }

    /// All partitions that something is said of.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        let offsets = [&self.recovery_points, &self.log_start_offsets, &self.high_watermarks];
        offsets.into_iter().flat_map(Offsets::keys)
    }

    pub(crate) fn note(&mut self, partition: &TopicPartition, noted: Noted) {
        for (offsets, offset) in [
            (&mut self.recovery_points, noted.recovery_point),
            (&mut self.log_start_offsets, noted.log_start_offset),
            (&mut self.high_watermarks, noted.high_watermark),
            (&mut self.cleaner_offsets, noted.cleaner_offset),
        ] {
            offsets.extend(offset.map(|offset| (partition.clone(), offset)));
        }
    }
}

/// Reads the topic id of the log in `dir` (`partition.metadata`), if it has one.
pub(crate) fn read_topic_id(world: &World, dir: &Path) -> io::Result<Option<Uuid>> {
    let path = dir.join(PARTITION_METADATA);
    if !world.disk.exists(&path) {
        return Ok(None);
    }
    let bytes = read_file(&*world.disk, &path)?;
    let text = String::from_utf8_lossy(&bytes);
    let id = text.lines().find_map(|line| line.strip_prefix("topic_id:")).map(str::trim);
    let id = id.and_then(Uuid::parse).filter(|id| !id.is_zero());
    let malformed = || {
        let message = format!("{}: no topic id", path.display());
        io::Error::new(io::ErrorKind::InvalidData, message)
    };
    id.map(Some).ok_or_else(malformed)
}

/// Writes the topic id of the log in `dir`.
pub(crate) fn write_topic_id(world: &World, dir: &Path, id: Uuid) -> io::Result<()> {
    replace_file(&*world.disk, &dir.join(PARTITION_METADATA), topic_id_text(id).as_bytes())
}

/// Writes the topic id, to be [put in place](put_topic_id) once it is on the disk.
pub(crate) fn prepare_topic_id(disk: &dyn Disk, dir: &Path, id: Uuid) -> io::Result<()> {
    let path = dir.join(PARTITION_METADATA);
    write_replacement(disk, &path, topic_id_text(id).as_bytes()).map(drop)
}

/// Puts the topic id in place. Durable with the next sync of the directory.
pub(crate) fn put_topic_id(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    put_replacement(disk, &dir.join(PARTITION_METADATA))
}

fn topic_id_text(id: Uuid) -> String {
    format!("version: 0\ntopic_id: {id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_kafka_reads_them() {
        let log = |topic: &str, partition: i32| {
            Some(SubDirectory::Log(TopicPartition::new(topic, partition)))
        };
        assert_eq!(SubDirectory::parse("flights-0"), log("flights", 0));
        assert_eq!(SubDirectory::parse("a-b.c-12"), log("a-b.c", 12));
        let uuid = "0123456789abcdef0123456789abcdef";
        let suffixed = |suffix| SubDirectory::parse(&format!("a-b-3.{uuid}-{suffix}"));
        assert_eq!(suffixed("delete"), Some(SubDirectory::Deleted));
        assert_eq!(suffixed("stray"), Some(SubDirectory::SetAside));
        let future = SubDirectory::Future(TopicPartition::new("a-b", 3));
        assert_eq!(suffixed("future"), Some(future));
        assert_eq!(SubDirectory::parse("__cluster_metadata-0"), Some(SubDirectory::Other));
        for bad in ["photos", "-1", "a-", "a--1x", "a-99999999999"] {
            assert_eq!(SubDirectory::parse(bad), None, "{bad}");
        }
    }
}
