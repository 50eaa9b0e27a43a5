//! Metadata: brokers, topics, and who leads their partitions.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_metadata::admin::topic_name;
use ottla_metadata::{ClusterMetadata, Partition, Topic};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::messages::{MetadataRequest, MetadataResponse};
use ottla_record::{BrokerId, PartitionId};

use crate::advertise::advertised_address;
use crate::authorize::{OPERATIONS_NOT_ASKED, Operation, Resource};
use crate::call::{Call, Client, Close};
use crate::cluster::ChangeError;
use crate::dispatch::Services;
use crate::network::Reply;
use crate::topics;

/// From this version on the client says whether a missing topic may be created (KIP-204).
const ASKS_FOR_CREATION_FROM: i16 = 4;
/// From this version on a topic may be asked for by its id (KIP-516).
const TOPIC_IDS_FROM: i16 = 12;
/// From this version on an empty list is no topic, and null is all of them.
const NULL_IS_ALL_FROM: i16 = 1;

pub(crate) fn handle(mut call: Call<'_>, services: &Arc<Services>) -> Result<Reply, Close> {
    let request: MetadataRequest<'_> = call.decode()?;
    let version = call.version();
    let answer = Answer {
        picture: services.cluster.metadata(),
        client: call.client.clone(),
        services: services.clone(),
        topic_operations: request.include_topic_authorized_operations,
        cluster_operations: request.include_cluster_authorized_operations,
    };
    let wanted = match &request.topics {
        Some(topics) if version >= NULL_IS_ALL_FROM || !topics.is_empty() => distinct(topics),
        _ => return call.respond(&answer.response(answer.all_topics(), version)),
    };
    if version < TOPIC_IDS_FROM && wanted.iter().any(|t| t.name.is_none() || !t.topic_id.is_zero())
    {
        let refused = wanted.into_iter().map(refused).collect();
        return call.respond(&answer.response(refused, version));
    }
    let creates = (version < ASKS_FOR_CREATION_FROM || request.allow_auto_topic_creation)
        && services.config.topics.auto_create_topics_enable;
    let missing: Vec<String> = match creates {
        true => answer.missing(&wanted),
        false => Vec::new(),
    };
    if missing.is_empty() {
        let topics = wanted.iter().map(|topic| answer.topic(topic)).collect();
        return call.respond(&answer.response(topics, version));
    }
    let wanted: Vec<MetadataRequestTopic<'static>> =
        wanted.into_iter().cloned().map(ottla_protocol::IntoOwned::into_owned).collect();
    call.respond_later(answer.create_and_answer(missing, wanted, version))
}

/// The topics, each once: a client that repeats one gets no longer answer for it.
fn distinct<'r, 'a>(topics: &'r [MetadataRequestTopic<'a>]) -> Vec<&'r MetadataRequestTopic<'a>> {
    let mut named = BTreeSet::new();
    topics.iter().filter(|topic| named.insert((topic.topic_id, topic.name.as_deref()))).collect()
}

/// The answer for a topic of a request that mixes versions up.
fn refused(topic: &MetadataRequestTopic<'_>) -> MetadataResponseTopic<'static> {
    MetadataResponseTopic {
        error_code: ErrorCode::INVALID_REQUEST.0,
        name: Some(Cow::Owned(topic.name.clone().unwrap_or_default().into_owned())),
        topic_id: topic.topic_id,
        ..Default::default()
    }
}

/// What an answer is made from.
struct Answer {
    picture: Arc<ClusterMetadata>,
    client: Client,
    services: Arc<Services>,
    /// Whether the client asked what it may do to each topic (KIP-430).
    topic_operations: bool,
    /// Whether the client asked what it may do to the cluster.
    cluster_operations: bool,
}

impl Answer {
    /// The names that no topic has and that a topic may get.
    fn missing(&self, wanted: &[&MetadataRequestTopic<'_>]) -> Vec<String> {
        let names = wanted.iter().filter_map(|topic| topic.name.as_deref());
        let missing = names.filter(|name| {
            self.picture.topic(name).is_none() && topic_name::validate(name).is_ok()
        });
        missing.map(str::to_owned).collect()
    }

    async fn create_and_answer(
        mut self,
        missing: Vec<String>,
        wanted: Vec<MetadataRequestTopic<'static>>,
        version: i16,
    ) -> MetadataResponse<'static> {
        let mut failed = Vec::new();
        for name in missing {
            match topics::create_automatically(&self.services, &name).await {
                Ok(_) | Err(ChangeError::Exists { .. }) => {}
                Err(error) => failed.push((name, creation_error(&error))),
            }
        }
        self.picture = self.services.cluster.metadata();
        let topics = wanted.iter().map(|topic| {
            let mut answer = self.topic(topic);
            let failure = failed.iter().find(|(name, _)| Some(&**name) == topic.name.as_deref());
            if let Some((_, code)) = failure {
                answer.error_code = code.0;
            }
            answer
        });
        self.response(topics.collect(), version)
    }

    fn response(
        &self,
        topics: Vec<MetadataResponseTopic<'static>>,
        version: i16,
    ) -> MetadataResponse<'static> {
        let brokers = self.picture.brokers().filter_map(|broker| {
            let (host, port) = advertised_address(&self.services.config, broker, &self.client)?;
            let rack = broker.registration.rack.clone().map(Cow::Owned);
            Some(MetadataResponseBroker { node_id: broker.id.0, host: host.into(), port, rack })
        });
        let principal = &self.client.principal;
        let controller = self.picture.controller().unwrap_or(BrokerId::NONE);
        MetadataResponse {
            brokers: brokers.collect(),
            cluster_id: (version >= 2).then(|| Cow::Owned(self.picture.cluster_id().to_owned())),
            controller_id: controller.0,
            topics,
            cluster_authorized_operations: match self.cluster_operations {
                true => self.services.authorizer.operations(principal, Resource::Cluster),
                false => OPERATIONS_NOT_ASKED,
            },
            ..Default::default()
        }
    }

    fn all_topics(&self) -> Vec<MetadataResponseTopic<'static>> {
        self.picture
            .topics()
            .filter(|t| self.may_describe(&t.name))
            .map(|t| self.describe(t))
            .collect()
    }

    fn topic(&self, wanted: &MetadataRequestTopic<'_>) -> MetadataResponseTopic<'static> {
        let name = wanted.name.as_deref();
        let unknown = |code: ErrorCode| MetadataResponseTopic {
            error_code: code.0,
            name: name.map(|name| Cow::Owned(name.to_owned())),
            topic_id: wanted.topic_id,
            ..Default::default()
        };
        let found = match name {
            Some(name) => self.picture.topic(name),
            None => self.picture.topic_by_id(wanted.topic_id),
        };
        match (found, name) {
            (Some(topic), _) if self.may_describe(&topic.name) => self.describe(topic),
            (Some(_), _) => unknown(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            (None, None) => unknown(ErrorCode::UNKNOWN_TOPIC_ID),
            (None, Some(name)) if topic_name::validate(name).is_err() => {
                unknown(ErrorCode::INVALID_TOPIC_EXCEPTION)
            }
            (None, Some(_)) => unknown(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        }
    }

    fn describe(&self, topic: &Topic) -> MetadataResponseTopic<'static> {
        let hosted = self.services.partitions.topic(&topic.name);
        let partition = |(id, metadata): (i32, &Arc<Partition>)| {
            let failure = hosted.as_ref().and_then(|hosted| hosted.failure(PartitionId(id)));
            partition(id, metadata, failure.is_some())
        };
        let (principal, resource) = (&self.client.principal, Resource::Topic(&topic.name));
        MetadataResponseTopic {
            error_code: ErrorCode::NONE.0,
            name: Some(Cow::Owned(topic.name.as_ref().to_owned())),
            topic_id: topic.id,
            is_internal: topic_name::is_internal(&topic.name),
            partitions: (0..).zip(&topic.partitions).map(partition).collect(),
            topic_authorized_operations: match self.topic_operations {
                true => self.services.authorizer.operations(principal, resource),
                false => OPERATIONS_NOT_ASKED,
            },
        }
    }

    fn may_describe(&self, topic: &str) -> bool {
        let (principal, resource) = (&self.client.principal, Resource::Topic(topic));
        self.services.authorizer.authorize(principal, Operation::Describe, resource)
    }
}

fn creation_error(error: &ChangeError) -> ErrorCode {
    match error {
        ChangeError::InvalidName(_) | ChangeError::Collides { .. } => {
            ErrorCode::INVALID_TOPIC_EXCEPTION
        }
        ChangeError::TooFewBrokers(_) => ErrorCode::INVALID_REPLICATION_FACTOR,
        _ => ErrorCode::LEADER_NOT_AVAILABLE,
    }
}

/// A partition whose log this broker cannot serve has no leader, and its replica is offline.
fn partition(index: i32, partition: &Partition, is_offline: bool) -> MetadataResponsePartition {
    let leader = if is_offline { BrokerId::NONE } else { partition.leader() };
    let error = match leader {
        BrokerId::NONE => ErrorCode::LEADER_NOT_AVAILABLE,
        _ => ErrorCode::NONE,
    };
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect();
    MetadataResponsePartition {
        error_code: error.0,
        partition_index: index,
        leader_id: leader.0,
        leader_epoch: partition.leader_epoch().0,
        replica_nodes: ids(&partition.replicas),
        isr_nodes: ids(partition.isr()),
        offline_replicas: if is_offline { vec![partition.leader().0] } else { Vec::new() },
    }
}
