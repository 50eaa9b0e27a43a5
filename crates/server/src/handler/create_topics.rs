//! CreateTopics.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_log::LogConfig;
use ottla_metadata::{Config, Topic};
use ottla_protocol::messages::create_topics_request::CreatableTopic;
use ottla_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use ottla_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use ottla_protocol::{ErrorCode, IntoOwned};
use ottla_record::{BrokerId, PartitionId, Uuid};

use crate::authorize::{Operation, Resource};
use crate::call::{Call, Client, Close};
use crate::cluster::Placement;
use crate::dispatch::Services;
use crate::handler::error::ApiError;
use crate::network::Reply;

/// From this version on −1 stands for the broker's default (KIP-464).
const DEFAULTS_FROM: i16 = 4;

/// The most partitions that one request may create, as in Kafka 4.
const PARTITIONS_MAX: usize = 10_000;

/// The KRaft metadata topic of Kafka, which no client may create.
const RESERVED: &str = "__cluster_metadata";

pub(crate) fn handle(mut call: Call<'_>, services: &Arc<Services>) -> Result<Reply, Close> {
    let request: CreateTopicsRequest<'_> = call.decode()?;
    let creation = Creation {
        services: services.clone(),
        client: call.client.clone(),
        version: call.version(),
        validate_only: request.validate_only,
    };
    call.respond_later(creation.run(request.topics.into_owned()))
}

struct Creation {
    services: Arc<Services>,
    client: Client,
    version: i16,
    validate_only: bool,
}

/// A topic that can be created, as far as the request tells.
struct Checked {
    placement: Placement,
    config: Config,
}

impl Creation {
    async fn run(self, topics: Vec<CreatableTopic<'static>>) -> CreateTopicsResponse<'static> {
        let too_many = self.partitions(&topics) > PARTITIONS_MAX;
        let mut results = Vec::with_capacity(topics.len());
        let (mut named, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for topic in &topics {
            if !named.insert(&topic.name) {
                twice.insert(&topic.name);
            }
        }
        for topic in &topics {
            // Duplicates are answered once.
            if !named.remove(&topic.name) {
                continue;
            }
            let result = if too_many {
                let message = format!("one request creates at most {PARTITIONS_MAX} partitions");
                Err(ApiError::new(ErrorCode::POLICY_VIOLATION, message))
            } else if twice.contains(&topic.name) {
                Err(ApiError::new(ErrorCode::INVALID_REQUEST, "the topic is named twice"))
            } else {
                self.topic(topic).await
            };
            results.push(result.unwrap_or_else(|error| CreatableTopicResult {
                name: topic.name.clone(),
                error_code: error.code.0,
                error_message: Some(error.message),
                num_partitions: -1,
                replication_factor: -1,
                ..Default::default()
            }));
        }
        CreateTopicsResponse { topics: results, ..Default::default() }
    }

    fn partitions(&self, topics: &[CreatableTopic<'_>]) -> usize {
        let of = |topic: &CreatableTopic<'_>| match topic.num_partitions {
            n if n > 0 => n as usize,
            _ => topic.assignments.len().max(1),
        };
        topics.iter().map(of).fold(0, usize::saturating_add)
    }

    async fn topic(
        &self,
        request: &CreatableTopic<'_>,
    ) -> Result<CreatableTopicResult<'static>, ApiError> {
        let Checked { placement, config } = self.check(request)?;
        let cluster = &self.services.cluster;
        if self.validate_only {
            let planned = cluster.plan_topic(&request.name, &placement, config.clone())?;
            let factor = planned.replicas.values().next().map_or(0, Vec::len);
            let count = planned.replicas.len();
            return Ok(self.created(&request.name, Uuid::ZERO, count, factor, &config));
        }
        let topic = cluster.create_topic(&request.name, &placement, config).await?;
        let factor = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
        let Topic { name, id, partitions, config } = &*topic;
        Ok(self.created(name, *id, partitions.len(), factor, config))
    }

    fn check(&self, request: &CreatableTopic<'_>) -> Result<Checked, ApiError> {
        let name = &*request.name;
        if name == RESERVED {
            let message = format!("'{name}' is reserved");
            return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
        }
        let principal = &self.client.principal;
        let may =
            |resource| self.services.authorizer.authorize(principal, Operation::Create, resource);
        if !may(Resource::Cluster) && !may(Resource::Topic(name)) {
            let message = format!("{principal} may not create topic '{name}'");
            return Err(ApiError::new(ErrorCode::TOPIC_AUTHORIZATION_FAILED, message));
        }
        let config = self.config(request)?;
        Ok(Checked { placement: self.placement(request)?, config })
    }

    fn config(&self, request: &CreatableTopic<'_>) -> Result<Config, ApiError> {
        let mut config = Config::new();
        for entry in &request.configs {
            let Some(value) = &entry.value else {
                let message = format!("Null value not supported for topic configs: {}", entry.name);
                return Err(ApiError::new(ErrorCode::INVALID_CONFIG, message));
            };
            config.insert(entry.name.to_string(), value.to_string());
        }
        LogConfig::from_overrides(self.services.cluster.log_defaults(), &config)
            .map_err(|error| ApiError::new(ErrorCode::INVALID_CONFIG, error.to_string()))?;
        Ok(config)
    }

    fn placement(&self, request: &CreatableTopic<'_>) -> Result<Placement, ApiError> {
        let (partitions, factor) = (request.num_partitions, request.replication_factor);
        if !request.assignments.is_empty() {
            if partitions != -1 || factor != -1 {
                return Err(ApiError::new(
                    ErrorCode::INVALID_REQUEST,
                    "with an assignment, the numbers of partitions and of replicas must be -1",
                ));
            }
            let mut replicas = BTreeMap::new();
            for assignment in &request.assignments {
                let brokers = assignment.broker_ids.iter().copied().map(BrokerId).collect();
                let id = PartitionId(assignment.partition_index);
                if replicas.insert(id, brokers).is_some() {
                    let message = format!("partition {id} is assigned twice");
                    return Err(ApiError::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
                }
            }
            return Ok(Placement::Manual(replicas));
        }
        let defaults = &self.services.config.topics;
        let may_default = self.version >= DEFAULTS_FROM;
        let partitions = match partitions {
            -1 if may_default => defaults.num_partitions,
            n if n > 0 => n,
            n => {
                let message = format!("{n} partitions are not possible: ask for 1 or more");
                return Err(ApiError::new(ErrorCode::INVALID_PARTITIONS, message));
            }
        };
        let factor = match i32::from(factor) {
            -1 if may_default => defaults.default_replication_factor,
            n if n > 0 => n,
            n => {
                let message = format!("replication factor {n} is not possible: ask for 1 or more");
                return Err(ApiError::new(ErrorCode::INVALID_REPLICATION_FACTOR, message));
            }
        };
        Ok(Placement::Automatic {
            partitions: partitions as usize,
            replication_factor: factor as usize,
        })
    }

    fn created(
        &self,
        name: &str,
        topic_id: Uuid,
        partitions: usize,
        replication_factor: usize,
        overrides: &Config,
    ) -> CreatableTopicResult<'static> {
        let defaults = self.services.cluster.log_defaults();
        let entries = LogConfig::describe(defaults, overrides).into_iter();
        let configs = entries.map(|entry| CreatableTopicConfigs {
            name: Cow::Owned(entry.name.to_string()),
            value: entry.value.map(Cow::Owned),
            read_only: entry.read_only,
            config_source: entry.source.code(),
            is_sensitive: entry.sensitive,
        });
        CreatableTopicResult {
            name: Cow::Owned(name.to_owned()),
            topic_id,
            num_partitions: partitions as i32,
            replication_factor: replication_factor as i16,
            configs: Some(configs.collect()),
            ..Default::default()
        }
    }
}
