//! Administration: topics, configurations, offsets, groups.
//!
//! Each operation retries what is worth retrying within `default.api.timeout.ms`. Where an
//! operation is about several things, each has a result of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::metadata_response::MetadataResponseTopic;
use ottla_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    DescribeLogDirsRequest, ListGroupsRequest,
};
use ottla_record::{BrokerId, LeaderEpoch, PartitionId, Uuid};

use crate::cluster::{self, Cluster, retrying};
use crate::offsets::{self, ListedOffset, OffsetSpec};
use crate::{Broker, IsolationLevel, Refusal, RequestError, TopicPartition};

/// Administers a cluster.
#[derive(Clone, Debug)]
pub struct Admin {
    cluster: Arc<Cluster>,
}

/// The brokers and who is in charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// `cluster.id`.
    pub cluster_id: Option<String>,
    /// The active controller; `None` while there is none.
    pub controller: Option<BrokerId>,
    /// By their ids.
    pub brokers: Vec<Broker>,
}

/// A topic's name and what kind of topic it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicListing {
    /// The name.
    pub name: String,
    /// All zeros if the broker does not tell.
    pub id: Uuid,
    /// Whether brokers keep it for themselves.
    pub internal: bool,
    /// How many partitions it has.
    pub partitions: usize,
}

/// A topic and where its partitions are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// The name.
    pub name: String,
    /// All zeros if the broker does not tell.
    pub id: Uuid,
    /// Whether brokers keep it for themselves.
    pub internal: bool,
    /// In the order of their numbers.
    pub partitions: Vec<PartitionDescription>,
}

/// Where a partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// The number.
    pub partition: PartitionId,
    /// `None` while it has none.
    pub leader: Option<BrokerId>,
    /// Since when this leader leads.
    pub leader_epoch: LeaderEpoch,
    /// In the order of preference.
    pub replicas: Vec<BrokerId>,
    /// ISR.
    pub in_sync_replicas: Vec<BrokerId>,
}

/// A topic to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// 1–249 characters of `[a-zA-Z0-9._-]`.
    pub name: String,
    /// `None`: the broker's `num.partitions`.
    pub partitions: Option<i32>,
    /// `None`: the broker's `default.replication.factor`.
    pub replication_factor: Option<i16>,
    /// Topic-level configurations, such as `retention.ms`.
    pub configs: Vec<(String, String)>,
}

/// What has a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic, by its name.
    Topic(String),
    /// One broker. It is asked itself.
    Broker(BrokerId),
}

/// One configuration of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub name: String,
    /// `None` if it has none, or is not for our eyes.
    pub value: Option<String>,
    /// Where the value comes from, by Kafka's number: 1 topic, 2 dynamic broker, 3 dynamic default
    /// broker, 4 static broker, 5 default.
    pub source: i8,
    /// Whether it can only be changed by a restart.
    pub read_only: bool,
    /// Whether the value is a secret.
    pub sensitive: bool,
}

impl ConfigEntry {
    const TOPIC: i8 = 1;

    /// Whether the value was set on the topic itself.
    #[must_use]
    pub fn is_topic_override(&self) -> bool {
        self.source == Self::TOPIC
    }
}

/// A group's name and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// `group.id`.
    pub group: String,
    /// `consumer` for consumer groups.
    pub protocol_type: String,
    /// Empty if the broker does not tell.
    pub state: String,
}

/// A classic group and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// `group.id`.
    pub group: String,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead` (also: unknown).
    pub state: String,
    /// `consumer` for consumer groups.
    pub protocol_type: String,
    /// The assignor that the members agreed on.
    pub protocol: String,
    /// Who is in it.
    pub members: Vec<MemberDescription>,
}

/// A member of a classic group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// Given by the coordinator.
    pub member_id: String,
    /// `client.id`.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
}

/// A directory that a broker keeps logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDir {
    /// The path, as the broker sees it.
    pub path: String,
    /// The size of the logs in it, in bytes.
    pub bytes: i64,
}

impl Admin {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// The brokers and the controller.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, RequestError> {
        let reply = retrying!(self.cluster, self.cluster.metadata(Some(&[])))?;
        let response = reply.decode()?;
        let mut brokers: Vec<_> = response.brokers.iter().map(cluster::broker).collect();
        brokers.sort_by_key(|broker| broker.id);
        let controller = BrokerId(response.controller_id);
        Ok(ClusterDescription {
            cluster_id: response.cluster_id.as_deref().map(str::to_owned),
            controller: (controller != BrokerId::NONE).then_some(controller),
            brokers,
        })
    }

    /// All topics, by their names.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>, RequestError> {
        let topics = self.describe(None).await?;
        let listings = topics.into_iter().filter_map(|(name, topic)| {
            let topic = topic.ok()?;
            let TopicDescription { id, internal, partitions, .. } = topic;
            Some(TopicListing { name, id, internal, partitions: partitions.len() })
        });
        Ok(listings.collect())
    }

    /// All topics with their partitions, by their names.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn describe_all_topics(
        &self,
    ) -> Result<Vec<(String, Result<TopicDescription, Refusal>)>, RequestError> {
        self.describe(None).await
    }

    /// Topics with their partitions, by their names.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn describe_topics(
        &self,
        names: &[String],
    ) -> Result<Vec<(String, Result<TopicDescription, Refusal>)>, RequestError> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.describe(Some(&names)).await
    }

    async fn describe(
        &self,
        names: Option<&[&str]>,
    ) -> Result<Vec<(String, Result<TopicDescription, Refusal>)>, RequestError> {
        let reply = retrying!(self.cluster, self.cluster.metadata(names))?;
        let response = reply.decode()?;
        let mut topics: Vec<_> = response
            .topics
            .iter()
            .map(|topic| {
                let name = topic.name.as_deref().unwrap_or_default().to_owned();
                let described =
                    Refusal::check(topic.error_code, None).map(|()| describe_topic(topic));
                (name, described)
            })
            .collect();
        topics.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(topics)
    }

    /// Creates a topic and returns when its partitions have leaders.
    ///
    /// # Errors
    /// See [`RequestError`]; [`ErrorCode::TOPIC_ALREADY_EXISTS`] if it is there already.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(), RequestError> {
        // Both defaults are KIP-464: the broker's own setting.
        const DEFAULT: i8 = -1;
        let configs = topic.configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
        });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: (&topic.name).into(),
                num_partitions: topic.partitions.unwrap_or(DEFAULT.into()),
                replication_factor: topic.replication_factor.unwrap_or(DEFAULT.into()),
                configs: configs.collect(),
                ..Default::default()
            }],
            timeout_ms: self.timeout_ms(),
            ..Default::default()
        };
        retrying!(self.cluster, self.try_create_topic(&request))
    }

    async fn try_create_topic(
        &self,
        request: &CreateTopicsRequest<'_>,
    ) -> Result<(), RequestError> {
        let reply = self.cluster.call_controller(i16::MAX, request).await?;
        for topic in reply.decode()?.topics {
            Refusal::check(topic.error_code, topic.error_message.as_deref())?;
        }
        Ok(())
    }

    /// Deletes topics with all their records.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn delete_topics(
        &self,
        names: &[String],
    ) -> Result<Vec<(String, Result<(), Refusal>)>, RequestError> {
        let request = DeleteTopicsRequest {
            topic_names: names.iter().map(Into::into).collect(),
            timeout_ms: self.timeout_ms(),
            ..Default::default()
        };
        retrying!(self.cluster, self.try_delete_topics(&request))
    }

    async fn try_delete_topics(
        &self,
        request: &DeleteTopicsRequest<'_>,
    ) -> Result<Vec<(String, Result<(), Refusal>)>, RequestError> {
        // From v6 on topics are told otherwise than by a list of names.
        let reply = self.cluster.call_controller(5, request).await?;
        let response = reply.decode()?;
        let moved = |code| ErrorCode(code) == ErrorCode::NOT_CONTROLLER;
        if response.responses.iter().any(|topic| moved(topic.error_code)) {
            return Err(ErrorCode::NOT_CONTROLLER.into());
        }
        let results = response.responses.iter().map(|topic| {
            let name = topic.name.as_deref().unwrap_or_default();
            self.cluster.forget_topic(name);
            (name.to_owned(), Refusal::check(topic.error_code, topic.error_message.as_deref()))
        });
        Ok(results.collect())
    }

    /// The configuration of a topic or a broker, defaults included, by key.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn describe_configs(
        &self,
        resource: &ConfigResource,
    ) -> Result<Vec<ConfigEntry>, RequestError> {
        const TOPIC: i8 = 2;
        const BROKER: i8 = 4;
        let (resource_type, name) = match resource {
            ConfigResource::Topic(name) => (TOPIC, name.clone()),
            ConfigResource::Broker(id) => (BROKER, id.to_string()),
        };
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type,
                resource_name: name.into(),
                configuration_keys: None,
            }],
            ..Default::default()
        };
        retrying!(self.cluster, self.try_describe_configs(resource, &request))
    }

    async fn try_describe_configs(
        &self,
        resource: &ConfigResource,
        request: &DescribeConfigsRequest<'_>,
    ) -> Result<Vec<ConfigEntry>, RequestError> {
        let connection = match resource {
            ConfigResource::Topic(_) => self.cluster.any_connection().await?,
            ConfigResource::Broker(id) => self.cluster.connection(*id).await?,
        };
        let reply = connection.call(request, self.cluster.config.request_timeout).await?;
        let mut entries = Vec::new();
        for result in reply.decode()?.results {
            Refusal::check(result.error_code, result.error_message.as_deref())?;
            entries.extend(result.configs.iter().map(|config| ConfigEntry {
                name: config.name.to_string(),
                value: config.value.as_deref().map(str::to_owned),
                source: config.config_source,
                read_only: config.read_only,
                sensitive: config.is_sensitive,
            }));
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Finds offsets by position or by timestamp.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn list_offsets(
        &self,
        wanted: &[(TopicPartition, OffsetSpec)],
        isolation: IsolationLevel,
    ) -> Result<BTreeMap<TopicPartition, Result<ListedOffset, RequestError>>, RequestError> {
        offsets::list(&self.cluster, wanted, isolation).await
    }

    /// The groups of all brokers, by their names.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, RequestError> {
        let mut groups = Vec::new();
        for broker in self.describe_cluster().await?.brokers {
            let connection = self.cluster.connection(broker.id).await?;
            let request = ListGroupsRequest::default();
            let reply = connection.call(&request, self.cluster.config.request_timeout).await?;
            let response = reply.decode()?;
            Refusal::check(response.error_code, None)?;
            groups.extend(response.groups.iter().map(|group| GroupListing {
                group: group.group_id.to_string(),
                protocol_type: group.protocol_type.to_string(),
                state: group.group_state.to_string(),
            }));
        }
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(groups)
    }

    /// A group, as its coordinator sees it.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, RequestError> {
        retrying!(self.cluster, self.try_describe_group(group))
    }

    async fn try_describe_group(&self, group: &str) -> Result<GroupDescription, RequestError> {
        let coordinator = self.cluster.find_coordinator(group).await?;
        let connection = self.cluster.connection(coordinator.id).await?;
        let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
        let reply = connection.call(&request, self.cluster.config.request_timeout).await?;
        let response = reply.decode()?;
        let described = response.groups.first().ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
        Refusal::check(described.error_code, described.error_message.as_deref())?;
        let members = described.members.iter().map(|member| MemberDescription {
            member_id: member.member_id.to_string(),
            client_id: member.client_id.to_string(),
            client_host: member.client_host.to_string(),
        });
        Ok(GroupDescription {
            group: described.group_id.to_string(),
            state: described.group_state.to_string(),
            protocol_type: described.protocol_type.to_string(),
            protocol: described.protocol_data.to_string(),
            members: members.collect(),
        })
    }

    /// The log directories of a broker.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn describe_log_dirs(&self, broker: BrokerId) -> Result<Vec<LogDir>, RequestError> {
        let connection = self.cluster.connection(broker).await?;
        let request = DescribeLogDirsRequest { topics: None };
        let reply = connection.call(&request, self.cluster.config.request_timeout).await?;
        let response = reply.decode()?;
        Refusal::check(response.error_code, None)?;
        let mut dirs = Vec::new();
        for dir in &response.results {
            Refusal::check(dir.error_code, None)?;
            let partitions = dir.topics.iter().flat_map(|topic| &topic.partitions);
            let bytes = partitions.map(|p| p.partition_size).fold(0, i64::saturating_add);
            dirs.push(LogDir { path: dir.log_dir.to_string(), bytes });
        }
        Ok(dirs)
    }

    /// What brokers are told to wait at most.
    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.cluster.config.request_timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

fn describe_topic(topic: &MetadataResponseTopic<'_>) -> TopicDescription {
    let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    let mut partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|p| PartitionDescription {
            partition: PartitionId(p.partition_index),
            leader: Some(BrokerId(p.leader_id)).filter(|&leader| leader != BrokerId::NONE),
            leader_epoch: LeaderEpoch(p.leader_epoch),
            replicas: brokers(&p.replica_nodes),
            in_sync_replicas: brokers(&p.isr_nodes),
        })
        .collect();
    partitions.sort_by_key(|p| p.partition);
    TopicDescription {
        name: topic.name.as_deref().unwrap_or_default().to_owned(),
        id: topic.topic_id,
        internal: topic.is_internal,
        partitions,
    }
}
