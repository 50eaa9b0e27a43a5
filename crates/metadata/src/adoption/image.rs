//! What KRaft's metadata log says of its cluster once all its records are replayed.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::messages::*;
use ottla_record::{BrokerId, LeaderEpoch, PartitionId, ProducerId, Uuid};

use super::record::{MetadataRecord, RecordError};
use crate::cluster::Config;
use crate::znodes::ScramCredential;

/// A cluster as its metadata log has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    /// Topics by name.
    pub topics: BTreeMap<String, ImageTopic>,
    names: BTreeMap<Uuid, String>,
    /// What was set, by Kafka's number of the kind of resource and its name.
    pub configs: BTreeMap<(i8, String), Config>,
    /// Quotas, by the entity's parts: kind and name, no name being the default.
    pub quotas: BTreeMap<BTreeMap<String, Option<String>>, BTreeMap<String, f64>>,
    /// Access rules, by their ids.
    pub acls: BTreeMap<Uuid, ImageAcl>,
    /// SCRAM credentials by user and Kafka's number of the mechanism.
    pub scram: BTreeMap<(String, i8), ScramCredential>,
    /// The ids of delegation tokens.
    pub tokens: BTreeSet<String>,
    /// The finalized levels of features.
    pub features: BTreeMap<String, i16>,
    /// The first producer id that was not handed out; `None` where none was.
    pub next_producer_id: Option<ProducerId>,
    /// The brokers that were registered, with the ids of their log directories.
    pub brokers: BTreeMap<BrokerId, Vec<Uuid>>,
    /// The controllers that were registered.
    pub controllers: BTreeSet<i32>,
    /// How far a migration from ZooKeeper is, as Kafka numbers it; 0 for none.
    pub zk_migration_state: i8,
}

/// A topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageTopic {
    /// Its id; [`Uuid::ZERO`] where it is not known.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: BTreeMap<PartitionId, ImagePartition>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePartition {
    /// All replicas.
    pub replicas: Vec<BrokerId>,
    /// The log directory of each replica, where the brokers tell.
    pub directories: Vec<Uuid>,
    /// The in-sync replicas.
    pub isr: Vec<BrokerId>,
    /// The leader; [`BrokerId::NONE`] for none.
    pub leader: BrokerId,
    /// Its term.
    pub leader_epoch: LeaderEpoch,
    /// How often its state changed.
    pub partition_epoch: i32,
}

/// An access rule, in Kafka's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageAcl {
    /// The kind of the resource.
    pub resource_type: i8,
    /// The resource.
    pub resource_name: String,
    /// Whether that is its whole name or the begin of it.
    pub pattern_type: i8,
    /// Whom it is for.
    pub principal: String,
    /// From where; `*` for everywhere.
    pub host: String,
    /// What for.
    pub operation: i8,
    /// Whether it allows or denies.
    pub permission_type: i8,
}

impl Image {
    /// How the picture changes with one more record. Transactions are the replay's.
    fn apply(&mut self, record: MetadataRecord<'_>) -> Result<(), RecordError> {
        use MetadataRecord as R;
        match record {
            R::Topic(record) => self.add_topic(&record),
            R::Partition(record) => return self.add_partition(&record),
            R::PartitionChange(record) => return self.change_partition(record),
            R::RemoveTopic(record) => return self.remove_topic(&record),
            R::Config(record) => self.set_config(&record),
            R::ClientQuota(record) => self.set_quota(&record),
            R::AccessControlEntry(record) => self.add_acl(record),
            R::RemoveAccessControlEntry(record) => drop(self.acls.remove(&record.id)),
            R::UserScramCredential(record) => self.add_scram(record),
            R::RemoveUserScramCredential(record) => {
                self.scram.remove(&(record.name.into_owned(), record.mechanism));
            }
            R::DelegationToken(record) => drop(self.tokens.insert(record.token_id.into_owned())),
            R::RemoveDelegationToken(record) => drop(self.tokens.remove(&*record.token_id)),
            R::FeatureLevel(record) => {
                self.features.insert(record.name.into_owned(), record.feature_level);
            }
            R::ProducerIds(record) => {
                self.next_producer_id = Some(ProducerId(record.next_producer_id));
            }
            R::RegisterBroker(record) => {
                self.brokers.insert(BrokerId(record.broker_id), record.log_dirs);
            }
            R::BrokerRegistrationChange(record) if !record.log_dirs.is_empty() => {
                self.brokers.insert(BrokerId(record.broker_id), record.log_dirs);
            }
            R::UnregisterBroker(record) => drop(self.brokers.remove(&BrokerId(record.broker_id))),
            R::RegisterController(record) => drop(self.controllers.insert(record.controller_id)),
            R::ZkMigrationState(record) => self.zk_migration_state = record.zk_migration_state,
            // Who lives, and who was in sync with whom, is found anew; a partition that is adopted
            // has one replica.
            R::BrokerRegistrationChange(_)
            | R::FenceBroker(_)
            | R::UnfenceBroker(_)
            | R::ClearElr(_)
            | R::NoOp(_)
            | R::BeginTransaction(_)
            | R::EndTransaction(_)
            | R::AbortTransaction(_) => {}
        }
        Ok(())
    }

    fn add_topic(&mut self, record: &TopicRecord<'_>) {
        let topic = ImageTopic { id: record.topic_id, partitions: BTreeMap::new() };
        self.names.insert(record.topic_id, record.name.to_string());
        self.topics.insert(record.name.to_string(), topic);
    }

    fn topic_of(&mut self, id: Uuid) -> Result<&mut ImageTopic, RecordError> {
        let topic = self.names.get(&id).and_then(|name| self.topics.get_mut(name));
        topic.ok_or_else(|| RecordError::Contradiction(format!("there is no topic of id {id}")))
    }

    fn add_partition(&mut self, record: &PartitionRecord) -> Result<(), RecordError> {
        let partition = ImagePartition {
            replicas: brokers(&record.replicas),
            directories: record.directories.clone(),
            isr: brokers(&record.isr),
            leader: BrokerId(record.leader),
            leader_epoch: LeaderEpoch(record.leader_epoch),
            partition_epoch: record.partition_epoch,
        };
        let topic = self.topic_of(record.topic_id)?;
        topic.partitions.insert(PartitionId(record.partition_id), partition);
        Ok(())
    }

    fn change_partition(&mut self, record: PartitionChangeRecord) -> Result<(), RecordError> {
        /// In a change it stands for: as before.
        const NO_LEADER_CHANGE: i32 = -2;
        let (id, number) = (record.topic_id, record.partition_id);
        let topic = self.topic_of(id)?;
        let partition = topic.partitions.get_mut(&PartitionId(number)).ok_or_else(|| {
            RecordError::Contradiction(format!("topic {id} has no partition {number}"))
        })?;
        if let Some(replicas) = record.replicas {
            partition.replicas = brokers(&replicas);
        }
        if let Some(isr) = record.isr {
            partition.isr = brokers(&isr);
        }
        if let Some(directories) = record.directories {
            partition.directories = directories;
        }
        if record.leader != NO_LEADER_CHANGE {
            partition.leader = BrokerId(record.leader);
            partition.leader_epoch.0 = partition.leader_epoch.0.saturating_add(1);
        }
        partition.partition_epoch = partition.partition_epoch.saturating_add(1);
        Ok(())
    }

    fn remove_topic(&mut self, record: &RemoveTopicRecord) -> Result<(), RecordError> {
        /// Kafka's number of topics among the kinds of resources.
        const TOPIC: i8 = 2;
        self.topic_of(record.topic_id)?;
        if let Some(name) = self.names.remove(&record.topic_id) {
            self.topics.remove(&name);
            self.configs.remove(&(TOPIC, name));
        }
        Ok(())
    }

    fn set_config(&mut self, record: &ConfigRecord<'_>) {
        let resource = (record.resource_type, record.resource_name.to_string());
        match &record.value {
            Some(value) => {
                let config = self.configs.entry(resource).or_default();
                config.insert(record.name.to_string(), value.to_string());
            }
            None => remove_from(&mut self.configs, &resource, &record.name),
        }
    }

    fn set_quota(&mut self, record: &ClientQuotaRecord<'_>) {
        let part = |part: &client_quota_record::EntityData<'_>| {
            (part.entity_type.to_string(), part.entity_name.as_ref().map(ToString::to_string))
        };
        let entity: BTreeMap<_, _> = record.entity.iter().map(part).collect();
        if record.remove {
            remove_from(&mut self.quotas, &entity, &record.key);
        } else {
            self.quotas.entry(entity).or_default().insert(record.key.to_string(), record.value);
        }
    }

    fn add_acl(&mut self, record: AccessControlEntryRecord<'_>) {
        let acl = ImageAcl {
            resource_type: record.resource_type,
            resource_name: record.resource_name.into_owned(),
            pattern_type: record.pattern_type,
            principal: record.principal.into_owned(),
            host: record.host.into_owned(),
            operation: record.operation,
            permission_type: record.permission_type,
        };
        self.acls.insert(record.id, acl);
    }

    fn add_scram(&mut self, record: UserScramCredentialRecord<'_>) {
        let credential = ScramCredential {
            salt: record.salt.into_owned(),
            stored_key: record.stored_key.into_owned(),
            server_key: record.server_key.into_owned(),
            iterations: record.iterations,
        };
        self.scram.insert((record.name.into_owned(), record.mechanism), credential);
    }
}

fn brokers(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

/// Removes a key from the map at `outer`, and that map with its last key.
fn remove_from<K: Ord, V>(maps: &mut BTreeMap<K, BTreeMap<String, V>>, outer: &K, key: &str) {
    if let Some(map) = maps.get_mut(outer) {
        map.remove(key);
        if map.is_empty() {
            maps.remove(outer);
        }
    }
}

/// The replay of a metadata log. Records between the begin and the end of a transaction (KIP-868)
/// count together or, without an end, not at all.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    image: Image,
    /// The picture before the transaction that is open.
    before: Option<Image>,
    records: u64,
}

impl Replay {
    /// Replays the value of one more record.
    ///
    /// # Errors
    /// The record cannot be understood, or cannot follow on those before it. What was replayed
    /// until then is of no use.
    pub fn apply(&mut self, value: &[u8]) -> Result<(), RecordError> {
        let record = MetadataRecord::decode(value)?;
        self.records += 1;
        match record {
            MetadataRecord::BeginTransaction(_) => self.before = Some(self.image.clone()),
            MetadataRecord::EndTransaction(_) => self.before = None,
            MetadataRecord::AbortTransaction(_) => self.take_back(),
            _ => self.image.apply(record)?,
        }
        Ok(())
    }

    /// How many records were replayed.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The cluster at the end of the log.
    #[must_use]
    pub fn finish(mut self) -> Image {
        self.take_back();
        self.image
    }

    fn take_back(&mut self) {
        if let Some(before) = self.before.take() {
            self.image = before;
        }
    }
}
