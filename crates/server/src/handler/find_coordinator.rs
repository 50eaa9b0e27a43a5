//! FindCoordinator: which broker coordinates a group.

use std::borrow::Cow;
use std::sync::Arc;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::find_coordinator_response::Coordinator;
use ottla_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use crate::advertise::advertised_address;
use crate::authorize::{Operation, Resource};
use crate::call::{Call, Client, Close};
use crate::cluster::ChangeError;
use crate::dispatch::Services;
use crate::handler::error::ApiError;
use crate::network::Reply;
use crate::topics::{OFFSETS_TOPIC, create_automatically};

/// From this version on one request asks for several keys (KIP-699).
const BATCHES_FROM: i16 = 4;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(crate) fn handle(mut call: Call<'_>, services: &Arc<Services>) -> Result<Reply, Close> {
    let request: FindCoordinatorRequest<'_> = call.decode()?;
    let keys: Vec<String> = match call.version() >= BATCHES_FROM {
        true => request.coordinator_keys.iter().map(ToString::to_string).collect(),
        false => vec![request.key.to_string()],
    };
    let finding = Finding {
        services: services.clone(),
        client: call.client.clone(),
        key_type: request.key_type,
        batched: call.version() >= BATCHES_FROM,
    };
    let exists = services.cluster.metadata().topic(OFFSETS_TOPIC).is_some();
    if exists || request.key_type != GROUP {
        return call.respond(&finding.response(&keys, None));
    }
    call.respond_later(async move {
        let failure = match create_automatically(&finding.services, OFFSETS_TOPIC).await {
            Ok(_) | Err(ChangeError::Exists { .. }) => None,
            Err(error) => {
                tracing::error!(topic = OFFSETS_TOPIC, %error, "could not create the topic");
                let message = format!("{OFFSETS_TOPIC} could not be created: {error}");
                Some(ApiError::new(ErrorCode::COORDINATOR_NOT_AVAILABLE, message))
            }
        };
        finding.response(&keys, failure)
    })
}

struct Finding {
    services: Arc<Services>,
    client: Client,
    key_type: i8,
    batched: bool,
}

impl Finding {
    fn response(
        &self,
        keys: &[String],
        failure: Option<ApiError>,
    ) -> FindCoordinatorResponse<'static> {
        let answer = |key: &String| {
            let found = match &failure {
                Some(error) => Err(error.clone()),
                None => self.find(key),
            };
            coordinator(key, found)
        };
        let mut coordinators: Vec<Coordinator<'static>> = keys.iter().map(answer).collect();
        if self.batched {
            return FindCoordinatorResponse { coordinators, ..Default::default() };
        }
        let only = coordinators.pop().unwrap_or_default();
        FindCoordinatorResponse {
            error_code: only.error_code,
            error_message: only.error_message,
            node_id: only.node_id,
            host: only.host,
            port: only.port,
            ..Default::default()
        }
    }

    fn find(&self, key: &str) -> Result<(i32, String, i32), ApiError> {
        match self.key_type {
            GROUP => {}
            TRANSACTION => {
                return Err(ApiError::new(
                    ErrorCode::INVALID_REQUEST,
                    "transactions are not served yet: produce without transactional.id",
                ));
            }
            other => {
                let message = format!("coordinators of type {other} are not served");
                return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
            }
        }
        let (principal, resource) = (&self.client.principal, Resource::Group(key));
        if !self.services.authorizer.authorize(principal, Operation::Describe, resource) {
            let message = format!("{principal} may not describe group '{key}'");
            return Err(ApiError::new(ErrorCode::GROUP_AUTHORIZATION_FAILED, message));
        }
        let picture = self.services.cluster.metadata();
        let broker = picture.broker(self.services.config.id);
        let address =
            broker.and_then(|b| advertised_address(&self.services.config, b, &self.client));
        let (host, port) = address.ok_or_else(|| {
            let message = format!("the broker does not have listener {}", self.client.listener);
            ApiError::new(ErrorCode::COORDINATOR_NOT_AVAILABLE, message)
        })?;
        Ok((self.services.config.id.0, host, port))
    }
}

fn coordinator(key: &str, found: Result<(i32, String, i32), ApiError>) -> Coordinator<'static> {
    let key = Cow::Owned(key.to_owned());
    match found {
        Ok((node_id, host, port)) => {
            Coordinator { key, node_id, host: Cow::Owned(host), port, ..Default::default() }
        }
        Err(ApiError { code, message }) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: code.0,
            error_message: Some(message),
            ..Default::default()
        },
    }
}
