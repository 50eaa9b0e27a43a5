//! Reading the picture of the cluster from the tree.

use std::collections::BTreeSet;

use ottla_record::{BrokerId, PartitionId};

use super::AdminError;
use crate::cluster::{Broker, ClusterMetadata, Topic};
use crate::tree::{Node, Tree};
use crate::znodes::{
    BROKER_IDS, BrokerRegistration, CLUSTER_ID, CONTROLLER, CONTROLLER_EPOCH, ConfigEntity,
    ControllerZnode, DELETE_TOPICS, Malformed, PartitionState, TOPICS, TopicAssignment,
    broker_path, decode_cluster_id, decode_config, decode_controller_epoch, delete_topic_path,
    partition_state_path, topic_path,
};

/// How many topics are read at once: a bound on what a provider has to pipeline.
const TOPICS_AT_ONCE: usize = 1000;

/// Reads the whole cluster. Topics that are marked for deletion are not in it.
pub async fn load(tree: &dyn Tree) -> Result<ClusterMetadata, AdminError> {
    let paths = [CLUSTER_ID, CONTROLLER, CONTROLLER_EPOCH].map(str::to_owned);
    let nodes = tree.get_all(paths.to_vec()).await?;
    let [id, controller, epoch] = &nodes[..] else { return Err(missing(CLUSTER_ID)) };
    let id = id.as_ref().ok_or_else(|| missing(CLUSTER_ID))?;
    let id = decode_cluster_id(data(id)).map_err(AdminError::malformed(CLUSTER_ID))?;
    let controller = match controller {
        Some(node) => Some(
            ControllerZnode::decode(data(node)).map_err(AdminError::malformed(CONTROLLER))?.broker,
        ),
        None => None,
    };
    let epoch = match epoch {
        Some(node) => {
            decode_controller_epoch(data(node)).map_err(AdminError::malformed(CONTROLLER_EPOCH))?
        }
        None => 0,
    };
    let mut cluster = ClusterMetadata::new(&id).with_controller(controller, epoch);

    let parents = [BROKER_IDS, TOPICS, DELETE_TOPICS].map(str::to_owned);
    let mut names = tree.children_all(parents.to_vec()).await?.into_iter();
    let mut next = || names.next().flatten().unwrap_or_default();
    let (brokers, topics, deleted) = (next(), next(), next());
    for broker in load_brokers(tree, brokers).await? {
        cluster = cluster.with_broker(broker);
    }
    let deleted: BTreeSet<String> = deleted.into_iter().collect();
    let names: Vec<String> = topics.into_iter().filter(|name| !deleted.contains(name)).collect();
    let mut topics = Vec::with_capacity(names.len());
    for names in names.chunks(TOPICS_AT_ONCE) {
        topics.extend(load_topics(tree, names).await?);
    }
    Ok(cluster.with_all_topics(topics))
}

/// Reads one topic; `None` if it does not exist or is marked for deletion.
pub async fn load_topic(tree: &dyn Tree, name: &str) -> Result<Option<Topic>, AdminError> {
    if tree.exists(&delete_topic_path(name)).await?.is_some() {
        return Ok(None);
    }
    Ok(load_topics(tree, &[name.to_owned()]).await?.pop())
}

async fn load_brokers(tree: &dyn Tree, ids: Vec<String>) -> Result<Vec<Broker>, AdminError> {
    let ids: Vec<BrokerId> = ids.iter().filter_map(|id| id.parse().ok()).map(BrokerId).collect();
    let nodes = tree.get_all(ids.iter().map(|id| broker_path(*id)).collect()).await?;
    let mut brokers = Vec::new();
    for (id, node) in ids.into_iter().zip(nodes) {
        // One that is gone since the listing has died.
        let Some(node) = node else { continue };
        let registration = BrokerRegistration::decode(data(&node))
            .map_err(AdminError::malformed(&broker_path(id)))?;
        brokers.push(Broker { id, epoch: node.stat.czxid, registration });
    }
    Ok(brokers)
}

async fn load_topics(tree: &dyn Tree, names: &[String]) -> Result<Vec<Topic>, AdminError> {
    let assignments = names.iter().map(|name| topic_path(name));
    let configs = names.iter().map(|name| ConfigEntity::Topic(name.clone()).path());
    let mut nodes = tree.get_all(assignments.chain(configs).collect()).await?;
    let configs = nodes.split_off(names.len().min(nodes.len()));

    let mut found = Vec::new();
    let mut state_paths = Vec::new();
    for ((name, node), config) in names.iter().zip(nodes).zip(configs) {
        // One that is gone since the listing was deleted.
        let Some(node) = node else { continue };
        let assignment = TopicAssignment::decode(data(&node))
            .map_err(AdminError::malformed(&topic_path(name)))?;
        let config_path = ConfigEntity::Topic(name.clone()).path();
        let config = decode_config(config.as_ref().and_then(|node| node.data.as_deref()))
            .map_err(AdminError::malformed(&config_path))?;
        let ids = assignment.partitions.keys();
        state_paths.extend(ids.map(|id: &PartitionId| partition_state_path(name, *id)));
        found.push((name, assignment, config));
    }

    let mut states = state_paths.iter().zip(tree.get_all(state_paths.clone()).await?);
    let mut topics = Vec::with_capacity(found.len());
    for (name, assignment, config) in found {
        let states = states.by_ref().take(assignment.partitions.len());
        let states: Vec<_> = states.map(decode_state).collect::<Result<_, _>>()?;
        let topic = Topic::new(name, &assignment, states, config).ok_or_else(|| {
            AdminError::malformed(&topic_path(name))(Malformed {
                what: "a topic's assignment",
                why: "its partitions are not 0, 1, 2…".to_owned(),
            })
        })?;
        topics.push(topic);
    }
    Ok(topics)
}

type State = Option<(PartitionState, i32)>;

fn decode_state((path, node): (&String, Option<Node>)) -> Result<State, AdminError> {
    let Some(node) = node else { return Ok(None) };
    let state = PartitionState::decode(data(&node)).map_err(AdminError::malformed(path))?;
    Ok(Some((state, node.stat.version)))
}

fn data(node: &Node) -> &[u8] {
    node.data.as_deref().unwrap_or_default()
}

fn missing(path: &str) -> AdminError {
    AdminError::malformed(path)(Malformed { what: "there", why: "it is missing".to_owned() })
}
