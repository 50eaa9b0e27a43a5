//! The picture of the cluster that brokers answer from.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_record::{BrokerId, LeaderEpoch, PartitionId, Uuid};

use crate::shared_map::{Keyed, SharedMap};
use crate::znodes::{BrokerRegistration, PartitionState, TopicAssignment};

/// Configs that were set, by key.
pub type Config = BTreeMap<String, String>;

/// The cluster as it was at one moment: who lives, which topics there are, who leads what.
///
/// It never changes; a change gives a new picture that shares what stayed, so one of a single topic
/// costs the same in a cluster of a hundred thousand. Readers hold the picture that they began
/// with.
#[derive(Clone, Debug, Default)]
pub struct ClusterMetadata {
    cluster_id: Arc<str>,
    controller: Option<BrokerId>,
    controller_epoch: i32,
    brokers: Arc<BTreeMap<BrokerId, Arc<Broker>>>,
    topics: SharedMap<ByName>,
    topics_by_id: SharedMap<ById>,
}

/// A living broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// Its broker epoch: the czxid of its registration.
    pub epoch: i64,
    /// What it tells about itself.
    pub registration: BrokerRegistration,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; [`Uuid::ZERO`] where it has none.
    pub id: Uuid,
    /// Its partitions; the index is the partition's id.
    pub partitions: Vec<Arc<Partition>>,
    /// The configs that were set for it.
    pub config: Arc<Config>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// All replicas (AR); the first one is the preferred leader.
    pub replicas: Vec<BrokerId>,
    /// Those of them that a reassignment adds.
    pub adding_replicas: Vec<BrokerId>,
    /// Those of them that a reassignment will remove.
    pub removing_replicas: Vec<BrokerId>,
    /// Who leads it. `None` while the controller has not elected its first leader.
    pub state: Option<PartitionState>,
    /// The version of the state's znode, which every change of it must name; 0 without a state.
    pub partition_epoch: i32,
}

impl Topic {
    /// Puts together a topic from its znodes: `states` in the order of partition ids.
    ///
    /// `None` where the partitions' ids are not 0, 1, 2… or `states` are not as many.
    #[must_use]
    pub fn new(
        name: &str,
        assignment: &TopicAssignment,
        states: Vec<Option<(PartitionState, i32)>>,
        config: Config,
    ) -> Option<Self> {
        let ids = assignment.partitions.keys().map(|id| id.0);
        if states.len() != assignment.partitions.len() || !ids.eq(0..states.len() as i32) {
            return None;
        }
        let of = |lists: &BTreeMap<PartitionId, Vec<BrokerId>>, id: &PartitionId| {
            lists.get(id).cloned().unwrap_or_default()
        };
        let partition = |((id, replicas), state): ((&PartitionId, &Vec<BrokerId>), _)| {
            let (state, partition_epoch) = match state {
                Some((state, epoch)) => (Some(state), epoch),
                None => (None, 0),
            };
            Arc::new(Partition {
                replicas: replicas.clone(),
                adding_replicas: of(&assignment.adding_replicas, id),
                removing_replicas: of(&assignment.removing_replicas, id),
                state,
                partition_epoch,
            })
        };
        Some(Self {
            name: name.into(),
            id: assignment.topic_id.unwrap_or(Uuid::ZERO),
            partitions: assignment.partitions.iter().zip(states).map(partition).collect(),
            config: Arc::new(config),
        })
    }

    /// A partition, if there is one of that id.
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(id.0).ok()?)
    }

    /// This topic with another partition in the place of one that it has; `None` if it has none.
    #[must_use]
    pub fn with_partition(&self, id: PartitionId, partition: Partition) -> Option<Self> {
        let mut topic = self.clone();
        *topic.partitions.get_mut(usize::try_from(id.0).ok()?)? = Arc::new(partition);
        Some(topic)
    }
}

impl Partition {
    /// The leader; [`BrokerId::NONE`] where there is none.
    #[must_use]
    pub fn leader(&self) -> BrokerId {
        self.state.as_ref().map_or(BrokerId::NONE, |state| state.leader)
    }

    /// The leader's term; [`LeaderEpoch::NONE`] before the first leader.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.state.as_ref().map_or(LeaderEpoch::NONE, |state| state.leader_epoch)
    }

    /// The in-sync replicas; none before the first leader.
    #[must_use]
    pub fn isr(&self) -> &[BrokerId] {
        self.state.as_ref().map_or(&[], |state| &state.isr)
    }
}

impl ClusterMetadata {
    /// A cluster of that id with nobody and nothing in it.
    #[must_use]
    pub fn new(cluster_id: &str) -> Self {
        Self { cluster_id: cluster_id.into(), ..Self::default() }
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The active controller, if there is one.
    #[must_use]
    pub fn controller(&self) -> Option<BrokerId> {
        self.controller
    }

    /// How many elections of a controller there were.
    #[must_use]
    pub fn controller_epoch(&self) -> i32 {
        self.controller_epoch
    }

    /// A living broker.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// The living brokers, in the order of their ids.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// The topic of a name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name).map(|topic| &topic.0)
    }

    /// The topic of an id.
    #[must_use]
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topics_by_id.get(&id).map(|topic| &topic.0)
    }

    /// A partition of a topic.
    #[must_use]
    pub fn partition(&self, topic: &str, id: PartitionId) -> Option<&Arc<Partition>> {
        self.topic(topic)?.partition(id)
    }

    /// All topics, in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.iter().map(|topic| &topic.0)
    }

    /// The topics whose names are not below `name`, in the order of their names.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.iter_from(name).map(|topic| &topic.0)
    }

    /// How many topics there are.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// This cluster with another controller.
    #[must_use]
    pub fn with_controller(&self, controller: Option<BrokerId>, epoch: i32) -> Self {
        Self { controller, controller_epoch: epoch, ..self.clone() }
    }

    /// This cluster with a broker in the place of any other of its id.
    #[must_use]
    pub fn with_broker(&self, broker: Broker) -> Self {
        let mut brokers = (*self.brokers).clone();
        brokers.insert(broker.id, Arc::new(broker));
        Self { brokers: Arc::new(brokers), ..self.clone() }
    }

    /// This cluster without a broker.
    #[must_use]
    pub fn without_broker(&self, id: BrokerId) -> Self {
        let mut brokers = (*self.brokers).clone();
        brokers.remove(&id);
        Self { brokers: Arc::new(brokers), ..self.clone() }
    }

    /// This cluster with a topic in the place of any other of its name.
    #[must_use]
    pub fn with_topic(&self, topic: Topic) -> Self {
        let topic = Arc::new(topic);
        let mut topics_by_id = match self.topic(&topic.name) {
            Some(former) if former.id != topic.id => self.topics_by_id.without(&former.id),
            _ => self.topics_by_id.clone(),
        };
        if !topic.id.is_zero() {
            topics_by_id = topics_by_id.with(ById(Arc::clone(&topic)));
        }
        Self { topics: self.topics.with(ByName(topic)), topics_by_id, ..self.clone() }
    }

    /// This cluster with many topics, as [`ClusterMetadata::with_topic`] would add each in turn,
    /// and without the topics that it had.
    #[must_use]
    pub fn with_all_topics(&self, topics: Vec<Topic>) -> Self {
        let topics: Vec<ByName> = topics.into_iter().map(|t| ByName(Arc::new(t))).collect();
        let topics = SharedMap::from_values(topics);
        let with_id = topics.iter().filter(|topic| !topic.0.id.is_zero());
        let topics_by_id = with_id.map(|topic| ById(Arc::clone(&topic.0))).collect();
        Self { topics_by_id: SharedMap::from_values(topics_by_id), topics, ..self.clone() }
    }

    /// This cluster without a topic.
    #[must_use]
    pub fn without_topic(&self, name: &str) -> Self {
        let Some(topic) = self.topic(name) else { return self.clone() };
        Self {
            topics_by_id: self.topics_by_id.without(&topic.id),
            topics: self.topics.without(name),
            ..self.clone()
        }
    }
}

#[derive(Clone, Debug)]
struct ByName(Arc<Topic>);

impl Keyed for ByName {
    type Key = str;
    fn key(&self) -> &str {
        &self.0.name
    }
}

#[derive(Clone, Debug)]
struct ById(Arc<Topic>);

impl Keyed for ById {
    type Key = Uuid;
    fn key(&self) -> &Uuid {
        &self.0.id
    }
}
