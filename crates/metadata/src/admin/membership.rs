//! What every broker does at its start: the paths, the cluster's id, its own id and registration.

use std::collections::BTreeSet;
use std::fmt;

use ottla_record::{BrokerId, Uuid};

use super::AdminError;
use crate::tree::{ANY_VERSION, CreateMode, Error, Failure, Op, Tree, TreeError, Written};
use crate::znodes::{
    BROKER_SEQUENCE, BrokerRegistration, CLUSTER_ID, PRODUCER_ID_BLOCK, ProducerIdBlock, TOP_LEVEL,
    broker_path, decode_cluster_id, encode_cluster_id,
};

/// Makes the paths that Kafka makes at every start, where they are missing.
pub async fn create_top_level_paths(tree: &dyn Tree) -> Result<(), AdminError> {
    // In the order of paths a parent comes before its children.
    let mut paths: BTreeSet<String> = BTreeSet::new();
    for path in TOP_LEVEL {
        paths.extend(path.match_indices('/').skip(1).map(|(at, _)| path[..at].to_owned()));
        paths.insert(path.to_owned());
    }
    let paths: Vec<String> = paths.into_iter().collect();
    let nodes = tree.get_all(paths.clone()).await?;
    let missing = paths.into_iter().zip(nodes).filter(|(_, node)| node.is_none());
    let creates: Vec<_> = missing.map(|(path, _)| vec![Op::create(path, None)]).collect();
    if creates.is_empty() {
        return Ok(());
    }
    for result in tree.multi_all(creates).await? {
        match result {
            Ok(_) | Err(Failure { error: Error::NodeExists, .. }) => {}
            Err(failure) => return Err(TreeError::Refused(failure).into()),
        }
    }
    Ok(())
}

/// The cluster's id; where it has none yet, `new` becomes it.
pub async fn get_or_create_cluster_id(tree: &dyn Tree, new: Uuid) -> Result<String, AdminError> {
    let id = new.to_string();
    let parent = CLUSTER_ID.rsplit_once('/').map_or("", |(parent, _)| parent);
    let creates = vec![
        vec![Op::create(parent, None)],
        vec![Op::create(CLUSTER_ID, Some(encode_cluster_id(&id)))],
    ];
    if let Some(node) = tree.get(CLUSTER_ID).await? {
        let data = node.data.unwrap_or_default();
        return decode_cluster_id(&data).map_err(AdminError::malformed(CLUSTER_ID));
    }
    match tree.multi_all(creates).await?.pop() {
        Some(Ok(_)) => Ok(id),
        // Another broker was faster: its id counts.
        Some(Err(Failure { error: Error::NodeExists, .. })) => {
            let data = tree.get(CLUSTER_ID).await?.and_then(|node| node.data).unwrap_or_default();
            decode_cluster_id(&data).map_err(AdminError::malformed(CLUSTER_ID))
        }
        Some(Err(failure)) => Err(TreeError::Refused(failure).into()),
        None => Err(TreeError::Unavailable { reason: "no answer to a multi".into() }.into()),
    }
}

/// An id for a broker that has none: the next one above `reserved.broker.max.id`.
pub async fn next_broker_id(tree: &dyn Tree, reserved_max: i32) -> Result<BrokerId, AdminError> {
    let stat = tree.set(BROKER_SEQUENCE, Vec::new(), ANY_VERSION).await?;
    Ok(BrokerId(reserved_max.saturating_add(stat.version)))
}

/// Why a broker could not register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// Another living broker has this id.
    IdInUse(BrokerId),
    /// The tree failed.
    Tree(TreeError),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdInUse(id) => write!(f, "another broker with the id {id} is registered"),
            Self::Tree(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RegisterError {}

/// Registers a living broker for as long as its session lasts and tells its broker epoch: the czxid
/// of the registration. Registering again in the same session gives the same epoch.
pub async fn register_broker(
    tree: &dyn Tree,
    id: BrokerId,
    registration: &BrokerRegistration,
) -> Result<i64, RegisterError> {
    let path = broker_path(id);
    // The epoch is in the stat of a set, which a create of ZooKeeper does not give.
    let ops = vec![
        Op::create_as(&path, None, CreateMode::Ephemeral),
        Op::set(&path, registration.encode(), 0),
    ];
    let written = match tree.multi(ops).await {
        Err(error) if error.is(Error::NodeExists) => {
            match tree.get(&path).await.map_err(RegisterError::Tree)? {
                Some(node) if node.stat.ephemeral_owner == tree.session() => {
                    return Ok(node.stat.czxid);
                }
                _ => return Err(RegisterError::IdInUse(id)),
            }
        }
        written => written.map_err(RegisterError::Tree)?,
    };
    match written.last() {
        Some(Written::Set { stat }) => Ok(stat.czxid),
        _ => Err(RegisterError::Tree(TreeError::Unavailable {
            reason: "no stat in the answer to a set".into(),
        })),
    }
}

/// Takes the next block of producer ids for a broker. No id is ever in two blocks.
pub async fn allocate_producer_ids(
    tree: &dyn Tree,
    broker: BrokerId,
) -> Result<ProducerIdBlock, AdminError> {
    loop {
        let node = tree.get(PRODUCER_ID_BLOCK).await?;
        // The node is made without data; that and none at all mean "no block yet".
        let data = node.as_ref().and_then(|node| node.data.as_deref()).filter(|d| !d.is_empty());
        let latest = data
            .map(ProducerIdBlock::decode)
            .transpose()
            .map_err(AdminError::malformed(PRODUCER_ID_BLOCK))?;
        let block =
            ProducerIdBlock::next(latest, broker).ok_or(AdminError::ProducerIdsExhausted)?;
        let write = match node {
            Some(node) => Op::set(PRODUCER_ID_BLOCK, block.encode(), node.stat.version),
            None => Op::create(PRODUCER_ID_BLOCK, Some(block.encode())),
        };
        match tree.multi(vec![write]).await {
            Ok(_) => return Ok(block),
            // Another broker took a block in between.
            Err(error) if error.is(Error::BadVersion) || error.is(Error::NodeExists) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
