//! CreatePartitions.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use ottla_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use ottla_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use ottla_protocol::{ErrorCode, IntoOwned};
use ottla_record::BrokerId;

use crate::authorize::{Operation, Resource};
use crate::call::{Call, Client, Close};
use crate::dispatch::Services;
use crate::handler::error::ApiError;
use crate::network::Reply;

/// The most partitions that a topic may be given: what one CreateTopics could make.
const PARTITIONS_MAX: i32 = 10_000;

pub(crate) fn handle(mut call: Call<'_>, services: &Arc<Services>) -> Result<Reply, Close> {
    let request: CreatePartitionsRequest<'_> = call.decode()?;
    let (services, client) = (services.clone(), call.client.clone());
    let growth = Growth { services, client, validate_only: request.validate_only };
    call.respond_later(growth.run(request.topics.into_owned()))
}

struct Growth {
    services: Arc<Services>,
    client: Client,
    validate_only: bool,
}

impl Growth {
    async fn run(
        self,
        topics: Vec<CreatePartitionsTopic<'static>>,
    ) -> CreatePartitionsResponse<'static> {
        let mut results: Vec<CreatePartitionsTopicResult<'static>> =
            Vec::with_capacity(topics.len());
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
            let result = match twice.contains(&topic.name) {
                false => self.grow(topic).await,
                true => Err(ApiError::new(ErrorCode::INVALID_REQUEST, "the topic is named twice")),
            };
            let (code, message) = match result {
                Ok(()) => (ErrorCode::NONE, None),
                Err(ApiError { code, message }) => (code, Some(message)),
            };
            results.push(CreatePartitionsTopicResult {
                name: Cow::Owned(topic.name.to_string()),
                error_code: code.0,
                error_message: message,
            });
        }
        CreatePartitionsResponse { results, ..Default::default() }
    }

    async fn grow(&self, topic: &CreatePartitionsTopic<'_>) -> Result<(), ApiError> {
        let (principal, resource) = (&self.client.principal, Resource::Topic(&topic.name));
        if !self.services.authorizer.authorize(principal, Operation::Alter, resource) {
            let message = format!("{principal} may not alter topic '{}'", topic.name);
            return Err(ApiError::new(ErrorCode::TOPIC_AUTHORIZATION_FAILED, message));
        }
        if topic.count > PARTITIONS_MAX {
            let message = format!("a topic has at most {PARTITIONS_MAX} partitions");
            return Err(ApiError::new(ErrorCode::INVALID_PARTITIONS, message));
        }
        let count = usize::try_from(topic.count).unwrap_or(0);
        let assignments: Option<Vec<Vec<BrokerId>>> = topic.assignments.as_ref().map(|all| {
            let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
            all.iter().map(|assignment| brokers(&assignment.broker_ids)).collect()
        });
        let cluster = &self.services.cluster;
        if self.validate_only {
            cluster.plan_partitions(&topic.name, count, assignments.as_deref())?;
        } else {
            cluster.create_partitions(&topic.name, count, assignments.as_deref()).await?;
        }
        Ok(())
    }
}
