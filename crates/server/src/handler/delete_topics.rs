//! DeleteTopics.

use std::borrow::Cow;
use std::sync::Arc;

use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::delete_topics_response::DeletableTopicResult;
use ottla_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use ottla_protocol::{ErrorCode, IntoOwned};
use ottla_record::Uuid;

use crate::authorize::{Operation, Resource};
use crate::call::{Call, Client, Close};
use crate::dispatch::Services;
use crate::handler::error::ApiError;
use crate::network::Reply;

/// From this version on topics may be named by their id (KIP-516).
const TOPIC_IDS_FROM: i16 = 6;
/// From this version on "deletion is off" has an error of its own.
const DELETION_DISABLED_FROM: i16 = 3;

pub(crate) fn handle(mut call: Call<'_>, services: &Arc<Services>) -> Result<Reply, Close> {
    let request: DeleteTopicsRequest<'_> = call.decode()?;
    let by_name = |name: Cow<'_, str>| DeleteTopicState {
        name: Some(Cow::Owned(name.into_owned())),
        topic_id: Uuid::ZERO,
    };
    let topics = match call.version() < TOPIC_IDS_FROM {
        true => request.topic_names.into_iter().map(by_name).collect(),
        false => request.topics.into_owned(),
    };
    let (services, client) = (services.clone(), call.client.clone());
    let deletion = Deletion { services, client, version: call.version() };
    call.respond_later(deletion.run(topics))
}

struct Deletion {
    services: Arc<Services>,
    client: Client,
    version: i16,
}

impl Deletion {
    async fn run(self, topics: Vec<DeleteTopicState<'static>>) -> DeleteTopicsResponse<'static> {
        let both = |topic: &DeleteTopicState<'_>| topic.name.is_some() && !topic.topic_id.is_zero();
        let ambiguous = topics.iter().any(both);
        let mut responses: Vec<DeletableTopicResult<'static>> = Vec::with_capacity(topics.len());
        for topic in topics {
            let result = match ambiguous {
                true => Err(ApiError::new(
                    ErrorCode::INVALID_REQUEST,
                    "a topic is named by its name or by its id, not by both",
                )),
                false => self.delete(&topic).await,
            };
            let (code, message, name, topic_id) = match result {
                Ok((name, id)) => (ErrorCode::NONE, None, Some(name), id),
                Err(ApiError { code, message }) => {
                    (code, Some(message), topic.name.map(Cow::into_owned), topic.topic_id)
                }
            };
            responses.push(DeletableTopicResult {
                name: name.map(Cow::Owned),
                topic_id,
                error_code: code.0,
                error_message: message,
            });
        }
        DeleteTopicsResponse { responses, ..Default::default() }
    }

    async fn delete(&self, wanted: &DeleteTopicState<'_>) -> Result<(String, Uuid), ApiError> {
        if !self.services.config.topics.delete_topic_enable {
            let code = match self.version < DELETION_DISABLED_FROM {
                true => ErrorCode::INVALID_REQUEST,
                false => ErrorCode::TOPIC_DELETION_DISABLED,
            };
            return Err(ApiError::new(code, "delete.topic.enable is false"));
        }
        let picture = self.services.cluster.metadata();
        let topic = match &wanted.name {
            Some(name) => picture.topic(name).ok_or_else(|| {
                let message = format!("there is no topic '{name}'");
                ApiError::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message)
            }),
            None => picture
                .topic_by_id(wanted.topic_id)
                .ok_or_else(|| ApiError::new(ErrorCode::UNKNOWN_TOPIC_ID, "no topic has this id")),
        }?;
        let (principal, resource) = (&self.client.principal, Resource::Topic(&topic.name));
        if !self.services.authorizer.authorize(principal, Operation::Delete, resource) {
            let message = format!("{principal} may not delete the topic");
            return Err(ApiError::new(ErrorCode::TOPIC_AUTHORIZATION_FAILED, message));
        }
        self.services.cluster.delete_topic(&topic.name).await?;
        Ok((topic.name.to_string(), topic.id))
    }
}
