//! The znodes that say what an [`Image`] says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ottla_keeper::is_valid_path;
use ottla_record::{BrokerId, LeaderEpoch, PartitionId, ProducerId, Uuid};

use super::image::{Image, ImageAcl, ImagePartition};
use crate::cluster::Config;
use crate::znodes::{
    AclEntry, AclResource, Acls, ConfigEntity, PRODUCER_ID_BLOCK, PartitionState, ProducerIdBlock,
    TopicAssignment, encode_acls, encode_config, encode_quota, partition_state_path, topic_path,
};

/// How many names a message gives before it only counts: of what keeps from an adoption, and of what
/// is lost by one.
const REFUSED_NAMED_MAX: usize = 5;
const LEFT_OUT_NAMED_MAX: usize = 100;

/// The leader epochs that logs have reached, by topic and partition.
pub type LogEpochs = BTreeMap<(String, PartitionId), LeaderEpoch>;

/// The znodes of a cluster that is adopted, by path: parents come before their children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    pub(super) cluster_id: String,
    pub(super) nodes: BTreeMap<String, Option<Vec<u8>>>,
    left_out: BTreeMap<&'static str, BTreeSet<String>>,
}

/// Why a cluster cannot be adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A migration from ZooKeeper has begun and not ended.
    Migrating,
    /// Partitions have replicas on other brokers.
    OtherReplicas {
        /// The partitions, with their replicas.
        partitions: Vec<String>,
    },
    /// The partitions of a topic are not 0, 1, 2…
    Gap {
        /// The topic.
        topic: String,
        /// The first partition that there is none of.
        partition: PartitionId,
    },
}

impl Adoption {
    /// Decides which znodes a cluster of this one broker gets. Each partition gets a new leader
    /// epoch, behind that of the image and that of its log, for its leader starts anew.
    pub fn plan(
        cluster_id: &str,
        broker: BrokerId,
        image: &Image,
        log_epochs: &LogEpochs,
    ) -> Result<Self, Refusal> {
        refuse(broker, image)?;
        let (nodes, left_out) = (BTreeMap::new(), BTreeMap::new());
        let mut plan = Self { cluster_id: cluster_id.to_owned(), nodes, left_out };
        for (name, topic) in &image.topics {
            plan.topic(broker, name, topic.id, &topic.partitions, log_epochs);
        }
        let mut configs = plan.resources(image);
        // Every topic has a config, if an empty one.
        for topic in image.topics.keys() {
            configs.entry(ConfigEntity::Topic(topic.clone())).or_default();
        }
        plan.quotas(image, &mut configs);
        plan.credentials(image, &mut configs);
        for (entity, config) in configs {
            plan.add(entity.path(), Some(encode_config(&config)));
        }
        for (resource, entries) in plan.acls(image) {
            plan.add(resource.path(), Some(encode_acls(&entries)));
        }
        if let Some(next) = image.next_producer_id {
            plan.producer_ids(broker, next);
        }
        image.tokens.iter().for_each(|token| plan.leave_out("delegation tokens", token.clone()));
        let features = image.features.iter().map(|(name, level)| format!("{name}={level}"));
        features.for_each(|feature| plan.leave_out("feature levels of KRaft", feature));
        Ok(plan)
    }

    /// What has no place among the znodes of Kafka 3.9, by kind.
    pub fn left_out(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.left_out
            .iter()
            .map(|(kind, names)| (*kind, list(names.iter().cloned(), LEFT_OUT_NAMED_MAX)))
    }

    /// The id of the cluster.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// How many nodes begin with one of `prefixes` and hold something.
    #[must_use]
    pub fn count(&self, prefixes: &[&str]) -> usize {
        let is_of = |path: &str| prefixes.iter().any(|prefix| path.starts_with(prefix));
        self.nodes.iter().filter(|(path, data)| data.is_some() && is_of(path)).count()
    }

    fn add(&mut self, path: String, data: Option<Vec<u8>>) {
        for (at, _) in path.match_indices('/').skip(1) {
            self.nodes.entry(path[..at].to_owned()).or_default();
        }
        self.nodes.insert(path, data);
    }

    fn leave_out(&mut self, kind: &'static str, name: String) {
        self.left_out.entry(kind).or_default().insert(name);
    }

    fn topic(
        &mut self,
        broker: BrokerId,
        name: &str,
        id: Uuid,
        partitions: &BTreeMap<PartitionId, ImagePartition>,
        log_epochs: &LogEpochs,
    ) {
        let replicas = partitions.iter().map(|(id, partition)| (*id, partition.replicas.clone()));
        let assignment = TopicAssignment {
            topic_id: (!id.is_zero()).then_some(id),
            partitions: replicas.collect(),
            ..TopicAssignment::default()
        };
        self.add(topic_path(name), Some(assignment.encode()));
        for (id, partition) in partitions {
            let in_log = log_epochs.get(&(name.to_owned(), *id)).copied();
            let epoch = partition.leader_epoch.max(in_log.unwrap_or(LeaderEpoch::NONE));
            let state = PartitionState {
                leader: broker,
                leader_epoch: LeaderEpoch(epoch.0.saturating_add(1)),
                controller_epoch: 0,
                isr: vec![broker],
                recovering: false,
            };
            self.add(partition_state_path(name, *id), Some(state.encode()));
        }
    }

    /// What was set for topics and brokers.
    fn resources(&mut self, image: &Image) -> BTreeMap<ConfigEntity, Config> {
        let mut configs = BTreeMap::new();
        for ((kind, name), config) in &image.configs {
            let mut config = config.clone();
            let entity = match kind {
                2 => ConfigEntity::Topic(name.clone()),
                4 if name.is_empty() => ConfigEntity::Broker(None),
                4 if name.parse::<i32>().is_ok() => {
                    ConfigEntity::Broker(name.parse().ok().map(BrokerId))
                }
                16 => {
                    self.leave_out("subscriptions of client metrics", name.clone());
                    continue;
                }
                32 => {
                    self.leave_out("configs of groups", name.clone());
                    continue;
                }
                kind => {
                    self.leave_out("configs of an unknown kind", format!("{kind} {name}"));
                    continue;
                }
            };
            if *kind == 4 {
                // ZooKeeper's readers are not KRaft's: there Kafka encrypts what it keeps in the
                // clear in its metadata log.
                let (secret, rest) = config.into_iter().partition(|(key, _)| is_secret(key));
                config = rest;
                let secret: Config = secret;
                secret.into_keys().for_each(|key| self.leave_out("secrets of brokers", key));
            }
            configs.insert(entity, config);
        }
        configs
    }

    fn quotas(&mut self, image: &Image, configs: &mut BTreeMap<ConfigEntity, Config>) {
        for (entity, quotas) in &image.quotas {
            let part = |kind: &str| entity.get(kind).cloned();
            let is_of = |kinds: &[&str]| entity.keys().eq(kinds.iter());
            let of = match (part("user"), part("client-id"), part("ip")) {
                (Some(user), Some(client), _) if is_of(&["client-id", "user"]) => {
                    Some(ConfigEntity::UserClient { user, client })
                }
                (Some(user), ..) if is_of(&["user"]) => Some(ConfigEntity::User(user)),
                (_, Some(client), _) if is_of(&["client-id"]) => Some(ConfigEntity::Client(client)),
                (.., Some(ip)) if is_of(&["ip"]) => Some(ConfigEntity::Ip(ip)),
                _ => None,
            };
            match of.filter(|of| is_valid_path(&of.path())) {
                Some(of) => configs.entry(of).or_default().extend(
                    quotas.iter().map(|(key, value)| (key.clone(), encode_quota(key, *value))),
                ),
                None => self.leave_out("quotas", format!("{entity:?}")),
            }
        }
    }

    fn credentials(&mut self, image: &Image, configs: &mut BTreeMap<ConfigEntity, Config>) {
        for ((user, mechanism), credential) in &image.scram {
            let entity = ConfigEntity::User(Some(user.clone()));
            let mechanism = match mechanism {
                1 => "SCRAM-SHA-256",
                2 => "SCRAM-SHA-512",
                _ => "",
            };
            if mechanism.is_empty() || !is_valid_path(&entity.path()) {
                self.leave_out("SCRAM credentials", user.clone());
                continue;
            }
            let config = configs.entry(entity).or_default();
            config.insert(mechanism.to_owned(), credential.encode());
        }
    }

    fn acls(&mut self, image: &Image) -> Acls {
        let mut acls = Acls::new();
        for acl in image.acls.values() {
            match rule(acl) {
                Some((resource, entry)) => drop(acls.entry(resource).or_default().insert(entry)),
                None => self.leave_out("access rules", format!("{acl:?}")),
            }
        }
        acls
    }

    /// The block that the last ids came from, so that the next one follows on them.
    fn producer_ids(&mut self, broker: BrokerId, next: ProducerId) {
        if next.0 > 0 {
            let first = ProducerId((next.0 - ProducerIdBlock::SIZE).max(0));
            let block = ProducerIdBlock { broker, first, last: ProducerId(next.0 - 1) };
            self.add(PRODUCER_ID_BLOCK.to_owned(), Some(block.encode()));
        }
    }
}

fn refuse(broker: BrokerId, image: &Image) -> Result<(), Refusal> {
    // Before a migration has ended, ZooKeeper may know more than the log.
    if matches!(image.zk_migration_state, 1 | 2) {
        return Err(Refusal::Migrating);
    }
    let mut partitions = Vec::new();
    for (name, topic) in &image.topics {
        for ((id, partition), expected) in topic.partitions.iter().zip(0..) {
            if id.0 != expected {
                let (topic, partition) = (name.clone(), PartitionId(expected));
                return Err(Refusal::Gap { topic, partition });
            }
            if partition.replicas != [broker] {
                let ids = partition.replicas.iter().map(ToString::to_string);
                partitions
                    .push(format!("{name}-{id} on {}", ids.collect::<Vec<_>>().join(" and ")));
            }
        }
    }
    if partitions.is_empty() { Ok(()) } else { Err(Refusal::OtherReplicas { partitions }) }
}

/// Whether a name can be that of a node.
fn is_name(name: &str) -> bool {
    !name.contains('/') && is_valid_path(&format!("/{name}")) && !name.is_empty()
}

/// Whether Kafka takes the value of a broker's key for a secret.
fn is_secret(key: &str) -> bool {
    const SECRETS: [&str; 7] = [
        "sasl.jaas.config",
        "ssl.key.password",
        "ssl.keystore.certificate.chain",
        "ssl.keystore.key",
        "ssl.keystore.password",
        "ssl.truststore.certificates",
        "ssl.truststore.password",
    ];
    SECRETS.iter().any(|secret| key.ends_with(secret))
}

/// A rule in Kafka's words; `None` where Kafka 3.9 has none for it, or no path for its resource.
fn rule(acl: &ImageAcl) -> Option<(AclResource, AclEntry)> {
    let resource_type = match acl.resource_type {
        2 => "Topic",
        3 => "Group",
        4 => "Cluster",
        5 => "TransactionalId",
        6 => "DelegationToken",
        7 => "User",
        _ => return None,
    };
    let operation = match acl.operation {
        2 => "All",
        3 => "Read",
        4 => "Write",
        5 => "Create",
        6 => "Delete",
        7 => "Alter",
        8 => "Describe",
        9 => "ClusterAction",
        10 => "DescribeConfigs",
        11 => "AlterConfigs",
        12 => "IdempotentWrite",
        13 => "CreateTokens",
        14 => "DescribeTokens",
        _ => return None,
    };
    let permission_type = match acl.permission_type {
        2 => "Deny",
        3 => "Allow",
        _ => return None,
    };
    let is_prefix = match acl.pattern_type {
        3 => false,
        4 => true,
        _ => return None,
    };
    let name = Some(&acl.resource_name).filter(|name| is_name(name))?.clone();
    let entry = AclEntry {
        principal: acl.principal.clone(),
        permission_type: permission_type.to_owned(),
        operation: operation.to_owned(),
        host: acl.host.clone(),
    };
    Some((AclResource { resource_type, name, is_prefix }, entry))
}

/// The first few names, and how many more there are.
fn list(names: impl ExactSizeIterator<Item = String>, named_max: usize) -> String {
    let more = names.len().saturating_sub(named_max);
    let named: Vec<String> = names.take(named_max).collect();
    let named = named.join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Migrating => f.write_str(
                "the cluster is on its way from ZooKeeper to KRaft: bring the migration to its end \
                 with Kafka, or take it back, first",
            ),
            Self::OtherReplicas { partitions } => write!(
                f,
                "an Ottla broker is a cluster of its own so far, and these partitions have replicas \
                 on other brokers: {}. Let Kafka move all partitions to this broker, with itself as \
                 the only replica (kafka-reassign-partitions), or go on with Kafka",
                list(partitions.iter().cloned(), REFUSED_NAMED_MAX)
            ),
            Self::Gap { topic, partition } => write!(
                f,
                "topic {topic} has no partition {partition}, but later ones: it lies on another \
                 broker or in a log directory that log.dirs does not name"
            ),
        }
    }
}

impl std::error::Error for Refusal {}
