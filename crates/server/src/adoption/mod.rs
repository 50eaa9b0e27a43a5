//! The first start over directories that Kafka wrote: what is in them becomes the cluster of a tree
//! that nobody has used.
//!
//! Owns: whether there is something to adopt, what has to be asked of the operator first, and what
//! he is told. Must not know: what the records of the metadata log mean, how znodes look. All is
//! looked at before anything is written, so that a start that is refused leaves the directories to
//! Kafka as they were.

mod metadata_log;
mod refusal;
mod remains;

use std::collections::BTreeSet;
use std::path::PathBuf;

use ottla_log::{DirectoryError, DirectoryIdentity, FoundLog, directory_identity, survey};
use ottla_metadata::Tree;
use ottla_metadata::adoption::{Adoption, Image, LogEpochs};
use ottla_record::Uuid;
use ottla_runtime::World;
use ottla_runtime::disk::{DirLock, LockError};
use tracing::{info, warn};

use crate::config::{BrokerConfig, CoordinationConfig};
use crate::node::StartError;
use metadata_log::{BOOTSTRAP, METADATA_LOG};
pub use refusal::AdoptionError;

/// What the directories hold for a tree without a cluster.
pub(crate) enum Prospect {
    /// They were looked at.
    Seen(Option<Adoption>),
    /// A keeper was here already, and most likely its tree has a cluster.
    Unseen,
    /// The metadata is in an ensemble: nothing of it is taken from directories.
    Elsewhere,
}

/// Looks at the directories before they are opened, if no keeper was there yet.
pub(crate) fn look_first(
    world: &World,
    config: &BrokerConfig,
    keeper: &str,
) -> Result<Prospect, StartError> {
    if let CoordinationConfig::ZooKeeper(_) = config.coordination {
        return Ok(Prospect::Elsewhere);
    }
    if world.disk.exists(&config.log_dirs[0].join(keeper)) {
        return Ok(Prospect::Unseen);
    }
    // A Kafka that runs would write on.
    let _locks = lock(world, config)?;
    Ok(Prospect::Seen(look(world, config)?))
}

/// Writes what the directories hold into a tree that has no cluster yet. A tree that has one is left
/// alone. An adoption that was interrupted has left no cluster, and begins anew.
pub(crate) async fn adopt(
    world: &World,
    config: &BrokerConfig,
    prospect: Prospect,
    tree: &dyn Tree,
) -> Result<(), StartError> {
    let adoption = match prospect {
        Prospect::Elsewhere => return Ok(()),
        _ if !Adoption::is_due(tree).await? => return Ok(()),
        Prospect::Seen(adoption) => adoption,
        Prospect::Unseen => look(world, config)?,
    };
    let Some(adoption) = adoption else { return Ok(()) };
    adoption.write(tree).await?;
    info!(cluster = adoption.cluster_id(), "adopted what Kafka left in the log directories");
    Ok(())
}

/// Locks the directories as a broker does. Where there is no file to lock, nobody has locked it.
fn lock(world: &World, config: &BrokerConfig) -> Result<Vec<Box<dyn DirLock>>, DirectoryError> {
    let lock = |dir: &PathBuf| {
        let path = dir.join(".lock");
        let error_of = |error| match error {
            LockError::Held { pid } => DirectoryError::InUse { dir: dir.clone(), pid },
            LockError::Io(error) => DirectoryError::Io { path: path.clone(), error },
        };
        world.disk.exists(&path).then(|| world.disk.lock(&path).map_err(error_of))
    };
    config.log_dirs.iter().filter_map(lock).collect()
}

/// The log directories as they were found.
struct Found {
    /// Those that say whose they are.
    identities: Vec<(PathBuf, DirectoryIdentity)>,
    logs: Vec<FoundLog>,
    /// KRaft's metadata log, or what `kafka-storage format` left for one.
    metadata_log: Option<PathBuf>,
}

/// Decides what is to be adopted; `None` where nobody has used the directories.
fn look(world: &World, config: &BrokerConfig) -> Result<Option<Adoption>, AdoptionError> {
    let found = Found::look(world, config)?;
    let is_kraft = found.identities.iter().any(|(_, identity)| identity.version == 1);
    let has_cluster = found.identities.iter().any(|(_, identity)| identity.cluster_id.is_some());
    if !has_cluster && found.logs.is_empty() && found.metadata_log.is_none() {
        return Ok(None);
    }
    let cluster_id = found.cluster_id(config)?;
    let image = if is_kraft {
        found.image_of_kraft(world)?
    } else if found.metadata_log.is_some() && !has_cluster {
        return Err(AdoptionError::NoIdentity { dir: config.log_dirs[0].clone() });
    } else if config.adopt {
        let mut image = remains::image(config, &found.logs)?;
        remains::give_ids(&mut image, || Uuid::from_random(world.random.bytes16()));
        image
    } else {
        return Err(AdoptionError::NoMetadata {
            dir: config.log_dirs[0].clone(),
            logs: found.logs.len(),
        });
    };
    if is_kraft {
        found.compare(config, &image)?;
    }
    let cluster_id =
        cluster_id.unwrap_or_else(|| Uuid::from_random(world.random.bytes16()).to_string());
    let adoption = Adoption::plan(&cluster_id, config.id, &image, &found.epochs())?;
    tell(config, &found, &image, &adoption, is_kraft);
    Ok(Some(adoption))
}

impl Found {
    fn look(world: &World, config: &BrokerConfig) -> Result<Self, AdoptionError> {
        let (mut identities, mut logs) = (Vec::new(), Vec::new());
        for dir in &config.log_dirs {
            let identity = directory_identity(world, dir)?;
            identities.extend(identity.map(|identity| (dir.clone(), identity)));
            logs.extend(survey(world, dir)?);
        }
        let mut seen = BTreeSet::new();
        if let Some(twin) = logs.iter().find(|log| !seen.insert(&log.partition)) {
            let (partition, path) = (twin.partition.to_string(), twin.path.clone());
            return Err(AdoptionError::Twice { partition, path });
        }
        let own = config.storage.metadata_log_dir.as_ref().map(PathBuf::from);
        let candidates: Vec<&PathBuf> = own.iter().chain(&config.log_dirs).collect();
        let paths = candidates.iter().map(|dir| dir.join(METADATA_LOG));
        let mut metadata_logs: BTreeSet<_> = paths.filter(|p| world.disk.exists(p)).collect();
        if metadata_logs.len() > 1 {
            return Err(AdoptionError::SeveralMetadataLogs { paths: metadata_logs });
        }
        // Every directory that was formatted has one; where there are logs, a metadata log was too.
        let bootstrap = candidates[0].join(BOOTSTRAP);
        let bootstrap = (logs.is_empty() && world.disk.exists(&bootstrap)).then_some(bootstrap);
        let metadata_log = metadata_logs.pop_first().or(bootstrap);
        Ok(Self { identities, logs, metadata_log })
    }

    /// The one cluster that all directories name, if they name one.
    fn cluster_id(&self, config: &BrokerConfig) -> Result<Option<String>, AdoptionError> {
        let mut cluster: Option<&String> = None;
        for (dir, identity) in &self.identities {
            let foreign = |key, found: &str, expected: &str| DirectoryError::Foreign {
                dir: dir.clone(),
                key,
                found: found.to_owned(),
                expected: expected.to_owned(),
            };
            let own = config.id.to_string();
            if let Some(id) = identity.node_id.as_ref().filter(|id| **id != own) {
                let key = if identity.version == 1 { "node.id" } else { "broker.id" };
                return Err(foreign(key, id, &own).into());
            }
            match (cluster, &identity.cluster_id) {
                (Some(other), Some(id)) if id != other => {
                    return Err(foreign("cluster.id", id, other).into());
                }
                (_, id) => cluster = cluster.or(id.as_ref()),
            }
        }
        Ok(cluster.cloned())
    }

    fn image_of_kraft(&self, world: &World) -> Result<Image, AdoptionError> {
        match &self.metadata_log {
            Some(path) if path.ends_with(BOOTSTRAP) => {
                Ok(metadata_log::replay_bootstrap(world, path)?)
            }
            Some(path) => Ok(metadata_log::replay(world, path)?),
            None => {
                let dir = self.identities.first().map(|(dir, _)| dir.clone()).unwrap_or_default();
                Err(AdoptionError::NoMetadataLog { dir })
            }
        }
    }

    /// Compares the partitions of the metadata log with the logs. Where they differ, an operator
    /// has to say that it may be so.
    fn compare(&self, config: &BrokerConfig, image: &Image) -> Result<(), AdoptionError> {
        let is_known = |log: &&FoundLog| {
            let topic = image.topics.get(&log.partition.topic);
            topic.is_some_and(|topic| {
                topic.partitions.contains_key(&log.partition.partition)
                    && log.topic_id.is_none_or(|id| id == topic.id)
            })
        };
        let (known, strays): (Vec<_>, Vec<_>) = self.logs.iter().partition(is_known);
        let known: BTreeSet<_> = known.into_iter().map(|log| &log.partition).collect();
        let missing = image.topics.iter().flat_map(|(name, topic)| {
            let ids = topic.partitions.keys().copied();
            ids.map(move |id| ottla_log::TopicPartition::new(name.clone(), id))
        });
        let missing = missing.filter(|partition| !known.contains(partition));
        let missing: Vec<String> = missing.map(|partition| partition.to_string()).collect();
        let strays: Vec<PathBuf> = strays.into_iter().map(|log| log.path.clone()).collect();
        if strays.is_empty() && missing.is_empty() {
            return Ok(());
        }
        let mismatch = AdoptionError::Mismatch { strays, missing };
        if !config.adopt {
            return Err(mismatch);
        }
        warn!("as told by --adopt: {mismatch}");
        Ok(())
    }

    fn epochs(&self) -> LogEpochs {
        let epochs = self.logs.iter().filter_map(|log| {
            let key = (log.partition.topic.clone(), log.partition.partition);
            Some((key, log.leader_epoch?))
        });
        epochs.collect()
    }
}

/// Says what was found, and what of it has no effect or no place.
fn tell(config: &BrokerConfig, found: &Found, image: &Image, adoption: &Adoption, is_kraft: bool) {
    let partitions: usize = image.topics.values().map(|topic| topic.partitions.len()).sum();
    let source = if is_kraft { "KRaft's metadata log" } else { "the log directories alone" };
    info!(source, topics = image.topics.len(), partitions, "adopting");
    if !is_kraft {
        remains::tell(config);
    }
    for (kind, names) in adoption.left_out() {
        warn!(names, "left out, for there is no place for it: {kind}");
    }
    for (what, prefixes) in [
        ("access rules", &["/kafka-acl"][..]),
        ("credentials and quotas of users", &["/config/users/"]),
        ("quotas of clients and addresses", &["/config/clients/", "/config/ips/"]),
        ("dynamic configs of brokers", &["/config/brokers/"]),
    ] {
        let nodes = adoption.count(prefixes);
        if nodes > 0 {
            warn!(nodes, "kept in the tree, without effect so far: {what}");
        }
    }
    let others = image.controllers.iter().filter(|id| **id != config.id.0);
    let others: Vec<String> = others.map(ToString::to_string).collect();
    if !others.is_empty() {
        warn!(
            controllers = others.join(","),
            "the metadata came from these controllers: what they decided after this directory's node \
             had stopped is not in it"
        );
    }
    let open = found.logs.iter().filter(|log| log.has_open_transaction);
    let open: Vec<String> = open.map(|log| log.partition.to_string()).collect();
    if !open.is_empty() {
        warn!(
            partitions = open.join(","),
            "transactions are open here, and nobody ends them so far: readers of committed records \
             wait where they begin"
        );
    }
}
