//! `/brokers/topics/T` and the states of its partitions.

use std::collections::BTreeMap;

use ottla_record::{BrokerId, LeaderEpoch, PartitionId, Uuid};
use serde::{Deserialize, Serialize};

use super::{Malformed, from_json, malformed, to_json};

/// Which brokers hold each partition of a topic. Version 3 is written; 1 to 3 are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicAssignment {
    /// The topic's id; `None` where a broker older than 2.8 made it.
    pub topic_id: Option<Uuid>,
    /// All replicas of each partition; the first one is the preferred leader.
    pub partitions: BTreeMap<PartitionId, Vec<BrokerId>>,
    /// Those of them that a reassignment adds, for partitions where there are any.
    pub adding_replicas: BTreeMap<PartitionId, Vec<BrokerId>>,
    /// Those of them that a reassignment will remove, for partitions where there are any.
    pub removing_replicas: BTreeMap<PartitionId, Vec<BrokerId>>,
}

type ReplicasJson = BTreeMap<i32, Vec<i32>>;

#[derive(Serialize)]
struct TopicJson {
    version: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic_id: Option<String>,
    partitions: ReplicasJson,
    adding_replicas: ReplicasJson,
    removing_replicas: ReplicasJson,
}

#[derive(Deserialize)]
struct TopicRead {
    topic_id: Option<String>,
    partitions: ReplicasJson,
    #[serde(default)]
    adding_replicas: ReplicasJson,
    #[serde(default)]
    removing_replicas: ReplicasJson,
}

impl TopicAssignment {
    /// Kafka's text.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(&TopicJson {
            version: 3,
            topic_id: self.topic_id.map(|id| id.to_string()),
            partitions: numbers(&self.partitions),
            adding_replicas: numbers(&self.adding_replicas),
            removing_replicas: numbers(&self.removing_replicas),
        })
    }

    /// Reads any version.
    pub fn decode(data: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "a topic's assignment";
        let json: TopicRead = from_json(WHAT, data)?;
        let topic_id = match json.topic_id {
            None => None,
            Some(text) => Some(Uuid::parse(&text).ok_or_else(|| malformed(WHAT)(&text))?),
        };
        Ok(Self {
            topic_id,
            partitions: replicas(json.partitions),
            adding_replicas: replicas(json.adding_replicas),
            removing_replicas: replicas(json.removing_replicas),
        })
    }
}

fn numbers(replicas: &BTreeMap<PartitionId, Vec<BrokerId>>) -> ReplicasJson {
    replicas.iter().map(|(p, brokers)| (p.0, brokers.iter().map(|b| b.0).collect())).collect()
}

fn replicas(json: ReplicasJson) -> BTreeMap<PartitionId, Vec<BrokerId>> {
    let brokers = |brokers: Vec<i32>| brokers.into_iter().map(BrokerId).collect();
    json.into_iter().map(|(p, list)| (PartitionId(p), brokers(list))).collect()
}

/// Who leads a partition. The version of its znode is the partition epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// The leader; [`BrokerId::NONE`] for none.
    pub leader: BrokerId,
    /// The term of that leader, from 0.
    pub leader_epoch: LeaderEpoch,
    /// The epoch of the controller that decided it.
    pub controller_epoch: i32,
    /// The in-sync replicas.
    pub isr: Vec<BrokerId>,
    /// Whether the leader was elected uncleanly and has not recovered yet (KIP-704).
    pub recovering: bool,
}

#[derive(Serialize, Deserialize)]
struct StateJson {
    #[serde(default)]
    version: i32,
    leader: i32,
    leader_epoch: i32,
    controller_epoch: i32,
    isr: Vec<i32>,
    #[serde(default, skip_serializing_if = "is_zero")]
    leader_recovery_state: i8,
}

fn is_zero(number: &i8) -> bool {
    *number == 0
}

impl PartitionState {
    /// Kafka's text.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(&StateJson {
            version: 1,
            leader: self.leader.0,
            leader_epoch: self.leader_epoch.0,
            controller_epoch: self.controller_epoch,
            isr: self.isr.iter().map(|broker| broker.0).collect(),
            leader_recovery_state: i8::from(self.recovering),
        })
    }

    /// Reads the state.
    pub fn decode(data: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "a partition's state";
        let json: StateJson = from_json(WHAT, data)?;
        let recovering = match json.leader_recovery_state {
            0 => false,
            1 => true,
            _ => return Err(malformed(WHAT)("unknown leader_recovery_state")),
        };
        Ok(Self {
            leader: BrokerId(json.leader),
            leader_epoch: LeaderEpoch(json.leader_epoch),
            controller_epoch: json.controller_epoch,
            isr: json.isr.into_iter().map(BrokerId).collect(),
            recovering,
        })
    }
}
