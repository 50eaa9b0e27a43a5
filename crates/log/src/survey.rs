//! A look at a log directory that changes nothing in it: whose it says it is, and what each of its
//! logs tells of itself.

use std::io;
use std::path::{Path, PathBuf};

use ottla_config::Properties;
use ottla_record::{LeaderEpoch, Offset, ProducerId, Uuid};
use ottla_runtime::World;
use ottla_runtime::disk::DirEntry;
use tracing::warn;

use crate::checkpoint::TopicPartition;
use crate::directory::{DirectoryError, META, SubDirectory, read_meta, read_topic_id, value_of};
use crate::inspect::{base_offset_of, producers_of_snapshot};
use crate::leader_epochs::latest_in;

/// What `meta.properties` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryIdentity {
    /// 1 under KRaft, 0 with ZooKeeper.
    pub version: i32,
    /// `broker.id` or `node.id`.
    pub node_id: Option<String>,
    /// `cluster.id`.
    pub cluster_id: Option<String>,
    /// `directory.id`.
    pub directory_id: Option<Uuid>,
}

/// What a log tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLog {
    /// Its partition.
    pub partition: TopicPartition,
    /// Its directory.
    pub path: PathBuf,
    /// The id of its topic, if `partition.metadata` has one.
    pub topic_id: Option<Uuid>,
    /// The last leader epoch that it had, where that is written down.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The greatest producer id in its newest snapshot.
    pub last_producer_id: Option<ProducerId>,
    /// A transaction was open in its newest snapshot.
    pub has_open_transaction: bool,
}

/// Reads whose `dir` is; `None` where nothing says so.
///
/// # Errors
/// The disk's.
pub fn directory_identity(
    world: &World,
    dir: &Path,
) -> Result<Option<DirectoryIdentity>, DirectoryError> {
    let path = dir.join(META);
    if !world.disk.exists(&path) {
        return Ok(None);
    }
    read_meta(world, &path).map(|meta| Some(DirectoryIdentity::of(&meta)))
}

impl DirectoryIdentity {
    fn of(meta: &Properties) -> Self {
        Self {
            version: value_of(meta, "version").and_then(|text| text.parse().ok()).unwrap_or(0),
            node_id: value_of(meta, "node.id").or_else(|| value_of(meta, "broker.id")),
            cluster_id: value_of(meta, "cluster.id"),
            directory_id: value_of(meta, "directory.id").and_then(|id| Uuid::parse(&id)),
        }
    }
}

/// Looks at the logs in `dir`; none if it does not exist. Logs that are being deleted, copied or were
/// set aside are not among them.
///
/// # Errors
/// The disk's, and a name that no log directory has in it.
pub fn survey(world: &World, dir: &Path) -> Result<Vec<FoundLog>, DirectoryError> {
    if !world.disk.exists(dir) {
        return Ok(Vec::new());
    }
    let failed = |path: &Path, error| DirectoryError::Io { path: path.to_owned(), error };
    let mut logs = Vec::new();
    let entries = world.disk.read_dir(dir).map_err(|error| failed(dir, error))?;
    for DirEntry { name, .. } in entries.into_iter().filter(|entry| entry.is_dir) {
        let path = dir.join(&name);
        match SubDirectory::parse(&name) {
            Some(SubDirectory::Log(partition)) => {
                let log = FoundLog::read(world, partition, &path);
                logs.push(log.map_err(|error| failed(&path, error))?);
            }
            Some(_) => {}
            None => return Err(DirectoryError::UnknownName { path }),
        }
    }
    Ok(logs)
}

impl FoundLog {
    fn read(world: &World, partition: TopicPartition, path: &Path) -> io::Result<Self> {
        let (mut last_producer_id, mut has_open_transaction) = (None, false);
        if let Some(snapshot) = newest_snapshot(world, path)? {
            let read = producers_of_snapshot(&*world.disk, &snapshot, |producer| {
                last_producer_id = last_producer_id.max(Some(producer.producer_id));
                has_open_transaction |= producer.current_txn_first_offset != Offset::NONE;
            });
            if let Err(error) = read {
                // The log makes it anew from its batches.
                warn!(path = %snapshot.display(), %error, "a producer snapshot cannot be read");
            }
        }
        Ok(Self {
            topic_id: read_topic_id(world, path)?,
            leader_epoch: latest_in(&*world.disk, path)?,
            path: path.to_owned(),
            partition,
            last_producer_id,
            has_open_transaction,
        })
    }
}

fn newest_snapshot(world: &World, dir: &Path) -> io::Result<Option<PathBuf>> {
    let entries = world.disk.read_dir(dir)?;
    let snapshots = entries.iter().filter(|entry| entry.name.ends_with(".snapshot"));
    let paths = snapshots.map(|entry| dir.join(&entry.name));
    Ok(paths.max_by_key(|path| base_offset_of(path)))
}
