//! Topics: their creation, more partitions, their deletion.

use std::collections::BTreeMap;
use std::fmt;

use ottla_record::{BrokerId, PartitionId, Uuid};

use super::controller::Controller;
use super::leaders::{first_state, state_op};
use super::load::load_topic;
use super::topic_name::{self, InvalidName};
use super::{AdminError, Election};
use crate::cluster::{Config, Topic};
use crate::tree::{ANY_VERSION, Error, Failure, Multi, Op, TreeError};
use crate::znodes::{
    ConfigEntity, DELETE_TOPICS, PartitionState, TopicAssignment, delete_topic_path, encode_config,
    partition_path, partitions_path, topic_path,
};

/// How many operations go into one multi at most: ZooKeeper takes no packet beyond 1 MiB
/// (`jute.maxbuffer`), and an operation here is far below 1 KiB.
const OPS_MAX: usize = 1000;

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its id, random.
    pub id: Uuid,
    /// The replicas of each partition, from partition 0 on without a gap.
    pub replicas: BTreeMap<PartitionId, Vec<BrokerId>>,
    /// The configs to be set for it.
    pub config: Config,
}

/// Why a topic was not created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateTopicError {
    /// No topic can have this name.
    InvalidName(InvalidName),
    /// The partitions are not 0, 1, 2…, or one has no replica.
    InvalidReplicas,
    /// There is a topic of this name, perhaps one that is being deleted.
    Exists,
    /// The write failed.
    Admin(AdminError),
}

/// Why a topic was not given more partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddPartitionsError {
    /// There is no such topic.
    UnknownTopic,
    /// The partitions are not those that follow on the topic's last one, or one has no replica.
    InvalidReplicas,
    /// The write failed.
    Admin(AdminError),
}

impl Controller {
    /// Creates a topic, each partition led by the first of its replicas that is in `live`.
    ///
    /// The config is written first, then the topic, then the states, all in one multi where they
    /// fit. A crash after the first of several leaves partitions without a state: the next
    /// controller gives them one ([`Controller::elect_leaders`]).
    pub async fn create_topic(
        &self,
        new: &NewTopic,
        live: &[BrokerId],
    ) -> Result<Topic, CreateTopicError> {
        topic_name::validate(&new.name).map_err(CreateTopicError::InvalidName)?;
        if new.replicas.is_empty() || !are_from(&new.replicas, 0) {
            return Err(CreateTopicError::InvalidReplicas);
        }
        let assignment = TopicAssignment {
            topic_id: Some(new.id),
            partitions: new.replicas.clone(),
            ..TopicAssignment::default()
        };
        let states = first_states(&new.replicas, self.epoch(), live);
        let config_path = ConfigEntity::Topic(new.name.clone()).path();
        loop {
            let config = encode_config(&new.config);
            // A config may be left over from an earlier topic; what it holds is not this one's.
            let former = self.tree.exists(&config_path).await.map_err(AdminError::from)?;
            let mut ops = vec![
                match former {
                    Some(stat) => Op::set(&config_path, config, stat.version),
                    None => Op::create(&config_path, Some(config)),
                },
                Op::create(topic_path(&new.name), Some(assignment.encode())),
                Op::create(partitions_path(&new.name), None),
            ];
            ops.extend(state_ops(&new.name, &states));
            match self.in_chunks(ops).await {
                Ok(()) => break,
                // The config came or changed since it was looked at.
                Err(AdminError::Tree(TreeError::Refused(Failure {
                    op: 0,
                    error: Error::NodeExists | Error::BadVersion,
                }))) => {}
                Err(AdminError::Tree(error)) if error.is(Error::NodeExists) => {
                    return Err(CreateTopicError::Exists);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let states = new.replicas.keys().map(|id| states.get(id).map(|s| (s.clone(), 0)));
        Topic::new(&new.name, &assignment, states.collect(), new.config.clone())
            .ok_or(CreateTopicError::InvalidReplicas)
    }

    /// Gives a topic more partitions: those in `added`, which follow on its last one.
    pub async fn add_partitions(
        &self,
        topic: &str,
        added: &BTreeMap<PartitionId, Vec<BrokerId>>,
        live: &[BrokerId],
    ) -> Result<Topic, AddPartitionsError> {
        let path = topic_path(topic);
        let states = first_states(added, self.epoch(), live);
        loop {
            let Some(node) = self.tree.get(&path).await.map_err(AdminError::from)? else {
                return Err(AddPartitionsError::UnknownTopic);
            };
            let mut assignment = TopicAssignment::decode(node.data.as_deref().unwrap_or_default())
                .map_err(AdminError::malformed(&path))?;
            if added.is_empty() || !are_from(added, assignment.partitions.len()) {
                return Err(AddPartitionsError::InvalidReplicas);
            }
            assignment.partitions.extend(added.iter().map(|(id, r)| (*id, r.clone())));
            let mut ops = vec![Op::set(&path, assignment.encode(), node.stat.version)];
            ops.extend(state_ops(topic, &states));
            match self.in_chunks(ops).await {
                Ok(()) => break,
                Err(AdminError::Tree(error)) if error.is(Error::BadVersion) => {}
                Err(error) => return Err(error.into()),
            }
        }
        load_topic(&*self.tree, topic).await?.ok_or(AddPartitionsError::UnknownTopic)
    }

    /// Marks a topic for deletion; `false` if there is no such topic. From here on it counts as
    /// deleted: what remains is done by [`Controller::complete_deletion`], after a crash too.
    pub async fn mark_for_deletion(&self, topic: &str) -> Result<bool, AdminError> {
        let ops = vec![
            Op::check(topic_path(topic), ANY_VERSION),
            Op::create(delete_topic_path(topic), None),
        ];
        match self.multi(ops).await {
            Ok(_) => Ok(true),
            Err(AdminError::Tree(error)) if error.is(Error::NodeExists) => Ok(true),
            Err(AdminError::Tree(TreeError::Refused(Failure { op: 0, error: Error::NoNode }))) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The topics that are marked for deletion.
    pub async fn marked_for_deletion(&self) -> Result<Vec<String>, AdminError> {
        Ok(self.tree.children(DELETE_TOPICS).await?.unwrap_or_default())
    }

    /// Deletes the znodes of a topic whose logs are gone, its mark last.
    pub async fn complete_deletion(&self, topic: &str) -> Result<(), AdminError> {
        let partitions = partitions_path(topic);
        let ids = self.tree.children(&partitions).await?.unwrap_or_default();
        let mut paths = Vec::new();
        for id in ids {
            paths.push(format!("{partitions}/{id}/state"));
            paths.push(format!("{partitions}/{id}"));
        }
        paths.extend([partitions, topic_path(topic)]);
        paths.extend([ConfigEntity::Topic(topic.to_owned()).path(), delete_topic_path(topic)]);
        let nodes = self.tree.get_all(paths.clone()).await?;
        let existing = paths.into_iter().zip(nodes).filter(|(_, node)| node.is_some());
        let deletes: Multi = existing.map(|(path, _)| Op::delete(path, ANY_VERSION)).collect();
        self.in_chunks(deletes).await
    }

    /// Does the operations in multis of at most [`OPS_MAX`]. Nothing of the later ones is done
    /// where the first one fails.
    pub(super) async fn in_chunks(&self, ops: Multi) -> Result<(), AdminError> {
        let mut chunks = ops.chunks(OPS_MAX).map(<[Op]>::to_vec);
        let Some(first) = chunks.next() else { return Ok(()) };
        self.multi(first).await?;
        self.multi_all(chunks.collect()).await
    }
}

impl Election {
    /// The controller, if this broker won.
    #[must_use]
    pub fn won(self) -> Option<Controller> {
        match self {
            Self::Won(controller) => Some(controller),
            Self::Lost(_) => None,
        }
    }
}

/// Whether the partitions are `first`, `first + 1`…, each with a replica.
fn are_from(replicas: &BTreeMap<PartitionId, Vec<BrokerId>>, first: usize) -> bool {
    let ids = replicas.keys().map(|id| usize::try_from(id.0).ok());
    ids.eq((first..first + replicas.len()).map(Some)) && replicas.values().all(|r| !r.is_empty())
}

/// The state of each new partition that has a living replica.
fn first_states(
    replicas: &BTreeMap<PartitionId, Vec<BrokerId>>,
    controller_epoch: i32,
    live: &[BrokerId],
) -> BTreeMap<PartitionId, PartitionState> {
    let first = |(id, replicas): (&PartitionId, &Vec<BrokerId>)| {
        Some((*id, first_state(replicas, controller_epoch, live)?))
    };
    replicas.iter().filter_map(first).collect()
}

fn state_ops(topic: &str, states: &BTreeMap<PartitionId, PartitionState>) -> Multi {
    let ops = |(id, state): (&PartitionId, &PartitionState)| {
        [Op::create(partition_path(topic, *id), None), state_op(topic, *id, state)]
    };
    states.iter().flat_map(ops).collect()
}

impl From<AdminError> for CreateTopicError {
    fn from(error: AdminError) -> Self {
        Self::Admin(error)
    }
}

impl From<AdminError> for AddPartitionsError {
    fn from(error: AdminError) -> Self {
        Self::Admin(error)
    }
}

impl fmt::Display for CreateTopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName(error) => error.fmt(f),
            Self::InvalidReplicas => f.write_str("the partitions are not 0, 1, 2… with replicas"),
            Self::Exists => f.write_str("the topic exists"),
            Self::Admin(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for AddPartitionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTopic => f.write_str("there is no such topic"),
            Self::InvalidReplicas => f.write_str("the partitions do not follow on the last one"),
            Self::Admin(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CreateTopicError {}

impl std::error::Error for AddPartitionsError {}
