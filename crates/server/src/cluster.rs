//! The cluster as this node sees it, and the changes to it that this node makes.
//!
//! Owns: the picture that handlers answer from, and the order in which a change becomes visible:
//! first the tree of znodes, then the logs, then the hosted partitions, then the picture. In a
//! cluster of one, this node is the controller while it has a session with the tree; without one it
//! serves on and changes nothing. Must not know: requests, how it became the controller.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use ottla_log::{BrokerLogDefaults, DirectoryError, LogConfig, LogManager, TopicPartition};
use ottla_metadata::admin::placement::{Start, TooFewBrokers, place};
use ottla_metadata::admin::topic_name::{self, InvalidName};
use ottla_metadata::admin::{
    AddPartitionsError, AdminError, Controller, CreateTopicError, NewTopic, load, update_config,
};
use ottla_metadata::znodes::ConfigEntity;
use ottla_metadata::{Broker, ClusterMetadata, Config, Topic, Tree, TreeError};
use ottla_record::{BrokerId, PartitionId, Uuid};
use ottla_replication::{HostedTopic, Partition, Partitions};
use ottla_runtime::{World, task};
use tokio::sync::{Mutex, Notify};
use tracing::{error, info, warn};

use crate::groups::GroupCoordinator;
use crate::membership::is_cut_off;
use crate::topics::OFFSETS_TOPIC;

/// The cluster.
pub(crate) struct Cluster {
    world: World,
    broker: BrokerId,
    tree: Arc<dyn Tree>,
    /// `None` while this node is not the controller.
    controller: ArcSwapOption<Controller>,
    picture: ArcSwap<ClusterMetadata>,
    partitions: Arc<Partitions>,
    logs: Arc<LogManager>,
    defaults: BrokerLogDefaults,
    groups: Arc<GroupCoordinator>,
    /// One change at a time, so that pictures follow each other.
    change: Mutex<()>,
    /// Told when it is not known what the tree holds.
    doubt: Notify,
}

/// How the partitions of a new topic are to be placed.
#[derive(Clone, Debug)]
pub(crate) enum Placement {
    /// So many partitions with so many replicas, wherever.
    Automatic { partitions: usize, replication_factor: usize },
    /// Exactly so.
    Manual(BTreeMap<PartitionId, Vec<BrokerId>>),
}

/// Why a change of topics was not made.
#[derive(Debug)]
pub(crate) enum ChangeError {
    InvalidName(InvalidName),
    /// Another topic differs only in `.` and `_`.
    Collides {
        with: String,
    },
    Exists {
        name: String,
    },
    Unknown,
    TooFewBrokers(TooFewBrokers),
    InvalidAssignment(String),
    /// There are as many partitions already, or more.
    NotMore {
        have: usize,
    },
    /// This node is not the controller at the moment.
    NotController,
    Admin(AdminError),
    /// The logs could not be made or removed.
    Io(io::Error),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName(error) => error.fmt(f),
            Self::Collides { with } => write!(
                f,
                "the name collides with the topic '{with}': '.' and '_' are the same in metric names"
            ),
            Self::Exists { name } => write!(f, "Topic '{name}' already exists."),
            Self::Unknown => f.write_str("there is no such topic"),
            Self::TooFewBrokers(TooFewBrokers { replication_factor, brokers }) => write!(
                f,
                "replication factor {replication_factor} is not possible with {brokers} broker(s): \
                 ask for 1 to {brokers}, or -1 for the default"
            ),
            Self::InvalidAssignment(what) => f.write_str(what),
            Self::NotMore { have } => {
                write!(f, "the topic has {have} partition(s) already; their number can only grow")
            }
            Self::NotController => f.write_str("this broker is not the controller at the moment"),
            Self::Admin(error) => write!(f, "the change could not be written: {error}"),
            Self::Io(error) => write!(f, "the partitions' logs could not be made: {error}"),
        }
    }
}

impl From<AdminError> for ChangeError {
    fn from(error: AdminError) -> Self {
        Self::Admin(error)
    }
}

impl From<DirectoryError> for ChangeError {
    fn from(error: DirectoryError) -> Self {
        Self::Io(io::Error::other(error.to_string()))
    }
}

impl From<io::Error> for ChangeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a [`Cluster`] is made of.
pub(crate) struct Parts {
    pub(crate) world: World,
    pub(crate) broker: BrokerId,
    pub(crate) tree: Arc<dyn Tree>,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) logs: Arc<LogManager>,
    pub(crate) defaults: BrokerLogDefaults,
    pub(crate) groups: Arc<GroupCoordinator>,
}

impl Cluster {
    /// A cluster of which this node does not act as the controller yet, and hosts nothing.
    pub(crate) fn new(parts: Parts, picture: ClusterMetadata) -> Self {
        let Parts { world, broker, tree, partitions, logs, defaults, groups } = parts;
        let (picture, controller) = (ArcSwap::from_pointee(picture), ArcSwapOption::empty());
        let (change, doubt) = (Mutex::default(), Notify::new());
        Self {
            world,
            broker,
            tree,
            controller,
            picture,
            partitions,
            logs,
            defaults,
            groups,
            change,
            doubt,
        }
    }

    /// Acts as the controller from here on, at the start: finishes what an earlier stop left half done
    /// and hosts all partitions.
    pub(crate) async fn begin(&self, controller: Controller) -> Result<(), ChangeError> {
        let _change = self.change.lock().await;
        let picture = self.complete(&controller, (*self.metadata()).clone()).await?;
        self.picture.store(Arc::new(picture));
        self.set_strays_aside()?;
        let topics: Vec<Arc<Topic>> = self.metadata().topics().cloned().collect();
        for topic in topics {
            self.host(&topic).await?;
        }
        self.act(controller);
        Ok(())
    }

    /// Acts as the controller from here on. Another one may have been at work meanwhile, or an own
    /// change may have been done of which that was not known: the cluster is read anew.
    pub(crate) async fn take_over(&self, controller: Controller) -> Result<(), ChangeError> {
        let _change = self.change.lock().await;
        let before = self.metadata();
        let picture = load(&*self.tree).await?;
        for topic in before.topics() {
            if picture.topic(&topic.name).is_none_or(|found| found.id != topic.id) {
                info!(topic = &*topic.name, "a topic is gone");
                self.release(&topic.name);
            }
        }
        let picture = self.complete(&controller, picture).await?;
        let is_changed = |topic: &&Arc<Topic>| before.topic(&topic.name) != Some(topic);
        let changed: Vec<Arc<Topic>> = picture.topics().filter(is_changed).cloned().collect();
        self.picture.store(Arc::new(picture));
        for topic in changed {
            self.logs.set_config(&topic.name, &self.log_config(&topic));
            self.host(&topic).await?;
        }
        self.act(controller);
        Ok(())
    }

    /// Finishes what was left half done, and gives the picture with it.
    async fn complete(
        &self,
        controller: &Controller,
        mut picture: ClusterMetadata,
    ) -> Result<ClusterMetadata, ChangeError> {
        controller.set_up_features().await?;
        // What a crash in the middle of a creation left without a leader gets one, and what lost its own.
        let live: Vec<BrokerId> = picture.brokers().map(|broker| broker.id).collect();
        let topics: Vec<Arc<Topic>> = picture.topics().cloned().collect();
        for topic in topics {
            if let Some(topic) = controller.elect_leaders(&topic, &live).await? {
                picture = picture.with_topic(topic);
            }
        }
        for topic in controller.marked_for_deletion().await? {
            self.finish_deletion(controller, &topic).await?;
        }
        Ok(picture)
    }

    fn act(&self, controller: Controller) {
        let (broker, epoch) = (self.broker, controller.epoch());
        self.repaint(|picture| picture.with_controller(Some(broker), epoch));
        self.controller.store(Some(Arc::new(controller)));
    }

    /// Acts as the controller no longer.
    pub(crate) fn resign(&self) {
        self.controller.store(None);
        self.repaint(|picture| picture.with_controller(None, picture.controller_epoch()));
    }

    /// Another broker is the controller.
    pub(crate) fn follow(&self, other: BrokerId) {
        self.repaint(|picture| picture.with_controller(Some(other), picture.controller_epoch()));
    }

    /// This broker has registered.
    pub(crate) fn registered(&self, broker: Broker) {
        self.repaint(|picture| picture.with_broker(broker.clone()));
    }

    /// Waits until a change has failed in such a way that the tree may hold something else than the
    /// picture does. Safe to cancel.
    pub(crate) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// Changes the picture; others may do so at the same moment.
    fn repaint(&self, paint: impl Fn(&ClusterMetadata) -> ClusterMetadata) {
        self.picture.rcu(|picture| paint(picture));
    }

    /// Whoever may write at the moment. Without a connection no change is begun: it would make all
    /// that come after it wait.
    fn writable(&self) -> Result<(), ChangeError> {
        is_cut_off(&*self.tree).map_or(Ok(()), |error| Err(AdminError::Tree(error).into()))
    }

    fn controller(&self) -> Result<Arc<Controller>, ChangeError> {
        self.writable()?;
        self.controller.load_full().ok_or(ChangeError::NotController)
    }

    /// An error of a change that was begun.
    fn failed(&self, error: AdminError) -> ChangeError {
        if matches!(
            &error,
            AdminError::ControllerMoved | AdminError::Tree(TreeError::Unavailable { .. })
        ) {
            self.doubt.notify_one();
        }
        ChangeError::Admin(error)
    }

    /// The picture of the moment.
    pub(crate) fn metadata(&self) -> Arc<ClusterMetadata> {
        self.picture.load_full()
    }

    /// The tree that the metadata lives in.
    pub(crate) fn tree(&self) -> &Arc<dyn Tree> {
        &self.tree
    }

    /// The settings of a topic's logs.
    pub(crate) fn log_config(&self, topic: &Topic) -> Arc<LogConfig> {
        log_config(&self.defaults, &topic.name, &topic.config)
    }

    /// What a topic without overrides gets.
    pub(crate) fn log_defaults(&self) -> &BrokerLogDefaults {
        &self.defaults
    }

    /// Decides how a topic would be created, without creating it.
    pub(crate) fn plan_topic(
        &self,
        name: &str,
        placement: &Placement,
        config: Config,
    ) -> Result<NewTopic, ChangeError> {
        let picture = self.metadata();
        topic_name::validate(name).map_err(ChangeError::InvalidName)?;
        if picture.topic(name).is_some() {
            return Err(ChangeError::Exists { name: name.to_owned() });
        }
        if let Some(with) = topic_name::colliding(name, &picture) {
            return Err(ChangeError::Collides { with: with.to_owned() });
        }
        let brokers = live_brokers(&picture);
        let replicas = match placement {
            Placement::Automatic { partitions, replication_factor } => {
                let draw = || (self.world.random.next_u64() % brokers.len().max(1) as u64) as usize;
                let start = Start { index: draw(), shift: draw() };
                place(&brokers, PartitionId(0), *partitions, *replication_factor, start)
                    .map_err(ChangeError::TooFewBrokers)?
            }
            Placement::Manual(replicas) => {
                check_assignment(replicas, 0, &brokers)?;
                replicas.clone()
            }
        };
        let id = Uuid::from_random(self.world.random.bytes16());
        Ok(NewTopic { name: name.to_owned(), id, replicas, config })
    }

    /// Creates a topic. When it returns, the topic can be written to.
    pub(crate) async fn create_topic(
        &self,
        name: &str,
        placement: &Placement,
        config: Config,
    ) -> Result<Arc<Topic>, ChangeError> {
        let _change = self.change.lock().await;
        let new = self.plan_topic(name, placement, config)?;
        let live = live_brokers(&self.metadata());
        let topic =
            self.controller()?.create_topic(&new, &live).await.map_err(|error| match error {
                CreateTopicError::InvalidName(error) => ChangeError::InvalidName(error),
                CreateTopicError::Exists => ChangeError::Exists { name: name.to_owned() },
                CreateTopicError::InvalidReplicas => {
                    ChangeError::InvalidAssignment("partitions must be numbered from 0".into())
                }
                CreateTopicError::Admin(error) => self.failed(error),
            })?;
        let partitions = topic.partitions.len();
        info!(topic = name, id = %topic.id, partitions, "created topic");
        self.publish(topic).await
    }

    /// Decides how many partitions would be added, without adding them.
    pub(crate) fn plan_partitions(
        &self,
        name: &str,
        count: usize,
        assignments: Option<&[Vec<BrokerId>]>,
    ) -> Result<BTreeMap<PartitionId, Vec<BrokerId>>, ChangeError> {
        let picture = self.metadata();
        let topic = picture.topic(name).ok_or(ChangeError::Unknown)?;
        let have = topic.partitions.len();
        if count <= have {
            return Err(ChangeError::NotMore { have });
        }
        let brokers = live_brokers(&picture);
        let first = &topic.partitions[0].replicas;
        let Some(assignments) = assignments else {
            let start = Start::after(&brokers, first);
            return place(&brokers, PartitionId(have as i32), count - have, first.len(), start)
                .map_err(ChangeError::TooFewBrokers);
        };
        if assignments.len() != count - have {
            let (want, got) = (count - have, assignments.len());
            let what = format!("{want} partition(s) are added and {got} assignment(s) were given");
            return Err(ChangeError::InvalidAssignment(what));
        }
        let ids = (have as i32..).map(PartitionId);
        let added: BTreeMap<_, _> = ids.zip(assignments.iter().cloned()).collect();
        check_assignment(&added, have, &brokers)?;
        Ok(added)
    }

    /// Gives a topic more partitions. When it returns, they can be written to.
    pub(crate) async fn create_partitions(
        &self,
        name: &str,
        count: usize,
        assignments: Option<&[Vec<BrokerId>]>,
    ) -> Result<Arc<Topic>, ChangeError> {
        let _change = self.change.lock().await;
        let added = self.plan_partitions(name, count, assignments)?;
        let live = live_brokers(&self.metadata());
        let topic =
            self.controller()?.add_partitions(name, &added, &live).await.map_err(|e| match e {
                AddPartitionsError::UnknownTopic => ChangeError::Unknown,
                AddPartitionsError::InvalidReplicas => {
                    ChangeError::InvalidAssignment("partitions must follow on the last one".into())
                }
                AddPartitionsError::Admin(error) => self.failed(error),
            })?;
        info!(topic = name, partitions = topic.partitions.len(), "added partitions");
        self.publish(topic).await
    }

    /// Changes what is set for a topic, and puts it in force.
    pub(crate) async fn alter_topic(
        &self,
        name: &str,
        change: impl FnMut(&mut Config),
    ) -> Result<(), ChangeError> {
        let _change = self.change.lock().await;
        let picture = self.metadata();
        let topic = picture.topic(name).ok_or(ChangeError::Unknown)?;
        self.writable()?;
        let entity = ConfigEntity::Topic(name.to_owned());
        let config = update_config(&*self.tree, &entity, change).await;
        let config = config.map_err(|error| self.failed(error))?;
        info!(topic = name, ?config, "altered topic");
        let topic = Topic { config: Arc::new(config), ..(**topic).clone() };
        self.logs.set_config(name, &self.log_config(&topic));
        self.repaint(|picture| picture.with_topic(topic.clone()));
        Ok(())
    }

    /// Deletes a topic and its logs.
    pub(crate) async fn delete_topic(&self, name: &str) -> Result<(), ChangeError> {
        let _change = self.change.lock().await;
        let controller = self.controller()?;
        let marked = controller.mark_for_deletion(name).await;
        if !marked.map_err(|error| self.failed(error))? {
            return Err(ChangeError::Unknown);
        }
        // From here on it is deleted, whatever happens to this process.
        self.repaint(|picture| picture.without_topic(name));
        self.release(name);
        self.finish_deletion(&controller, name).await?;
        info!(topic = name, "deleted topic");
        Ok(())
    }

    /// Serves a topic no longer.
    fn release(&self, name: &str) {
        self.partitions.release(name);
        if name == OFFSETS_TOPIC {
            self.groups.resign();
        }
        self.groups.groups().handle_topics_deleted(&[name]);
    }

    async fn finish_deletion(
        &self,
        controller: &Controller,
        name: &str,
    ) -> Result<(), ChangeError> {
        let (logs, topic) = (self.logs.clone(), name.to_owned());
        task::blocking("delete-logs", move || logs.delete(&logs.of_topic(&topic))).await??;
        let completed = controller.complete_deletion(name).await;
        completed.map_err(|error| self.failed(error))
    }

    async fn publish(&self, topic: Topic) -> Result<Arc<Topic>, ChangeError> {
        let topic = Arc::new(topic);
        let offline = self.host(&topic).await?;
        self.repaint(|picture| picture.with_topic((*topic).clone()));
        match offline.into_iter().next() {
            None => Ok(topic),
            Some((id, reason)) => {
                let message = format!("{}-{id}: {reason}", topic.name);
                Err(ChangeError::Io(io::Error::other(message)))
            }
        }
    }

    /// Takes the logs of the partitions that are ours into service. Returns the partitions that
    /// have none, with the reason: they are offline, and keep no other from being served.
    async fn host(
        &self,
        topic: &Arc<Topic>,
    ) -> Result<BTreeMap<PartitionId, Arc<str>>, ChangeError> {
        let config = self.log_config(topic);
        let (logs, hosted) = (self.logs.clone(), self.partitions.topic(&topic.name));
        let (topic, broker) = (topic.clone(), self.broker);
        let hosted = task::blocking("open-logs", move || {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            let (mut offline, mut begun) = (BTreeMap::new(), Vec::new());
            for (id, metadata) in (0..).map(PartitionId).zip(&topic.partitions) {
                let present = hosted.as_ref().and_then(|topic| topic.partition(id)).cloned();
                if present.is_none() && metadata.leader() == broker {
                    begun.push(TopicPartition::new(&*topic.name, id));
                }
                partitions.push(present);
            }
            let made = logs.get_or_create_all(&begun, topic.id, &config);
            for (name, log) in begun.into_iter().zip(made) {
                let (id, at) = (name.partition, name.partition.0 as usize);
                let epoch = topic.partitions[at].leader_epoch();
                let log = log.and_then(|log| {
                    log.set_config(config.clone());
                    log.begin_epoch(epoch)?;
                    Ok(log)
                });
                match log {
                    Ok(log) => partitions[at] = Some(Partition::new(name, topic.id, epoch, log)),
                    Err(reason) => {
                        error!(partition = %name, %reason, "a partition is offline");
                        offline.insert(id, reason.to_string().into());
                    }
                }
            }
            HostedTopic { name: topic.name.clone(), id: topic.id, partitions, offline }
        })
        .await?;
        let offline = hosted.offline.clone();
        if *hosted.name == *OFFSETS_TOPIC {
            self.groups.lead(&hosted).await;
        }
        self.partitions.host(hosted);
        Ok(offline)
    }

    /// Logs that belong to no topic, or to an earlier topic of the same name, are kept for the
    /// operator, out of the way.
    fn set_strays_aside(&self) -> Result<(), ChangeError> {
        let picture = self.metadata();
        let is_stray = |(partition, id): &(TopicPartition, Option<Uuid>)| {
            let expected = picture.topic(&partition.topic).filter(|topic| {
                let known = topic.partition(partition.partition).is_some();
                known && id.is_none_or(|id| id == topic.id)
            });
            expected.is_none()
        };
        let strays: Vec<_> =
            self.logs.partitions().into_iter().filter(is_stray).map(|(p, _)| p).collect();
        if strays.is_empty() {
            return Ok(());
        }
        Ok(self.logs.set_aside(&strays)?)
    }
}

/// The settings of a topic's logs; what is stored and bad is left out with a warning.
pub(crate) fn log_config(
    defaults: &BrokerLogDefaults,
    topic: &str,
    overrides: &Config,
) -> Arc<LogConfig> {
    let (config, errors) = LogConfig::from_stored(defaults, overrides);
    for error in errors {
        warn!(topic, %error, "ignored a stored setting of the topic");
    }
    Arc::new(config)
}

fn live_brokers(picture: &ClusterMetadata) -> Vec<BrokerId> {
    picture.brokers().map(|broker| broker.id).collect()
}

/// Kafka's rules for a manual assignment: partitions `first`, `first + 1`…, the same number of
/// replicas for each, no broker twice, none that does not live.
fn check_assignment(
    replicas: &BTreeMap<PartitionId, Vec<BrokerId>>,
    first: usize,
    brokers: &[BrokerId],
) -> Result<(), ChangeError> {
    let invalid = |what: String| Err(ChangeError::InvalidAssignment(what));
    let factor = replicas.values().next().map_or(0, Vec::len);
    for ((id, replicas), expected) in replicas.iter().zip(first as i32..) {
        if id.0 != expected {
            return invalid(format!("partition {expected} has no assignment"));
        }
        if replicas.is_empty() || replicas.len() != factor {
            return invalid(format!(
                "partition {id} has {} replicas, not {factor}",
                replicas.len()
            ));
        }
        for (at, broker) in replicas.iter().enumerate() {
            if replicas[..at].contains(broker) {
                return invalid(format!("partition {id} names broker {broker} twice"));
            }
            if !brokers.contains(broker) {
                return invalid(format!(
                    "partition {id} names broker {broker}, which is not alive"
                ));
            }
        }
    }
    if factor == 0 { invalid("no partition was assigned".to_owned()) } else { Ok(()) }
}
