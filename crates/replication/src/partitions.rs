//! The partitions that this broker hosts, by topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_record::{PartitionId, Uuid};
use parking_lot::RwLock;

use crate::partition::Partition;

/// The hosted partitions of one topic.
pub struct HostedTopic {
    /// The name.
    pub name: Arc<str>,
    /// The id.
    pub id: Uuid,
    /// By partition index; `None` where another broker hosts it, or its log is offline.
    pub partitions: Vec<Option<Arc<Partition>>>,
    /// The partitions of this broker whose log is damaged or missing, with the reason.
    pub offline: BTreeMap<PartitionId, Arc<str>>,
}

impl HostedTopic {
    /// The partition with this index.
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(id.0).ok()?)?.as_ref()
    }

    /// Why the partition with this index is not served though it is this broker's, if that is so:
    /// its log is damaged or missing, or the directory of the log is offline.
    #[must_use]
    pub fn failure(&self, id: PartitionId) -> Option<Arc<str>> {
        match self.partition(id) {
            Some(partition) => partition.failure().map(Arc::from),
            None => self.offline.get(&id).cloned(),
        }
    }
}

/// The map of hosted partitions. A look-up holds no lock once it has returned.
#[derive(Default)]
pub struct Partitions {
    topics: RwLock<Topics>,
}

#[derive(Default)]
struct Topics {
    by_name: BTreeMap<Arc<str>, Arc<HostedTopic>>,
    by_id: BTreeMap<Uuid, Arc<HostedTopic>>,
}

impl Partitions {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The topic with this name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<Arc<HostedTopic>> {
        self.topics.read().by_name.get(name).cloned()
    }

    /// The topic with this id.
    #[must_use]
    pub fn topic_by_id(&self, id: Uuid) -> Option<Arc<HostedTopic>> {
        self.topics.read().by_id.get(&id).cloned()
    }

    /// One partition of the topic with this name.
    #[must_use]
    pub fn get(&self, topic: &str, id: PartitionId) -> Option<Arc<Partition>> {
        self.topics.read().by_name.get(topic)?.partition(id).cloned()
    }

    /// Why a partition of this broker is not served, if that is so. See [`HostedTopic::failure`].
    #[must_use]
    pub fn failure(&self, topic: &str, id: PartitionId) -> Option<Arc<str>> {
        self.topic(topic)?.failure(id)
    }

    /// Hosts a topic, or more partitions of one that is hosted already.
    pub fn host(&self, topic: HostedTopic) {
        let topic = Arc::new(topic);
        let mut topics = self.topics.write();
        topics.by_id.insert(topic.id, topic.clone());
        topics.by_name.insert(topic.name.clone(), topic);
    }

    /// Lets a topic go and returns what was hosted of it. Its partitions are marked as gone.
    pub fn release(&self, name: &str) -> Option<Arc<HostedTopic>> {
        let topic = {
            let mut topics = self.topics.write();
            let topic = topics.by_name.remove(name)?;
            topics.by_id.remove(&topic.id);
            topic
        };
        topic.partitions.iter().flatten().for_each(|partition| partition.mark_gone());
        Some(topic)
    }
}
