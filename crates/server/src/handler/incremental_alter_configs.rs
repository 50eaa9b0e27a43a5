//! IncrementalAlterConfigs: changes settings of topics (KIP-339).

use std::borrow::Cow;
use std::sync::Arc;

use ottla_log::{LogConfig, topic_key};
use ottla_metadata::Config;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use ottla_protocol::{ErrorCode, IntoOwned};

use crate::authorize::{Operation, Resource};
use crate::call::{Call, Client, Close};
use crate::dispatch::Services;
use crate::handler::error::ApiError;
use crate::network::Reply;

const TOPIC: i8 = 2;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(crate) fn handle(mut call: Call<'_>, services: &Arc<Services>) -> Result<Reply, Close> {
    let request: IncrementalAlterConfigsRequest<'_> = call.decode()?;
    let (services, client) = (services.clone(), call.client.clone());
    let alteration = Alteration { services, client, validate_only: request.validate_only };
    call.respond_later(alteration.run(request.resources.into_owned()))
}

struct Alteration {
    services: Arc<Services>,
    client: Client,
    validate_only: bool,
}

impl Alteration {
    async fn run(
        self,
        resources: Vec<AlterConfigsResource<'static>>,
    ) -> IncrementalAlterConfigsResponse<'static> {
        let mut responses = Vec::with_capacity(resources.len());
        for (at, resource) in resources.iter().enumerate() {
            let same = |other: &AlterConfigsResource<'_>| {
                other.resource_type == resource.resource_type
                    && other.resource_name == resource.resource_name
            };
            let twice = resources[..at].iter().chain(&resources[at + 1..]).any(same);
            let result = match twice {
                true => Err(ApiError::new(ErrorCode::INVALID_REQUEST, "it is named twice")),
                false => self.alter(resource).await,
            };
            let (code, message) = match result {
                Ok(()) => (ErrorCode::NONE, None),
                Err(ApiError { code, message }) => (code, Some(message)),
            };
            responses.push(AlterConfigsResourceResponse {
                error_code: code.0,
                error_message: message,
                resource_type: resource.resource_type,
                resource_name: Cow::Owned(resource.resource_name.to_string()),
            });
        }
        IncrementalAlterConfigsResponse { responses, ..Default::default() }
    }

    async fn alter(&self, resource: &AlterConfigsResource<'_>) -> Result<(), ApiError> {
        if resource.resource_type != TOPIC {
            return Err(ApiError::new(
                ErrorCode::INVALID_REQUEST,
                "only settings of topics can be altered yet: set others in the broker's \
                 configuration and restart it",
            ));
        }
        let name = &*resource.resource_name;
        let (principal, topic) = (&self.client.principal, Resource::Topic(name));
        if !self.services.authorizer.authorize(principal, Operation::AlterConfigs, topic) {
            let message = format!("{principal} may not alter topic '{name}'");
            return Err(ApiError::new(ErrorCode::TOPIC_AUTHORIZATION_FAILED, message));
        }
        let cluster = &self.services.cluster;
        let present = cluster.metadata().topic(name).map(|topic| topic.config.clone());
        let present = present.ok_or_else(|| {
            let message = format!("there is no topic '{name}'");
            ApiError::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message)
        })?;
        let altered = alter(&present, &resource.configs)?;
        LogConfig::from_overrides(cluster.log_defaults(), &altered)
            .map_err(|error| ApiError::new(ErrorCode::INVALID_CONFIG, error.to_string()))?;
        if self.validate_only {
            return Ok(());
        }
        // What another client changed meanwhile stays: the changes are made anew on what is there.
        let changes = resource.configs.clone();
        let change = move |config: &mut Config| {
            if let Ok(altered) = alter(config, &changes) {
                *config = altered;
            }
        };
        Ok(cluster.alter_topic(name, change).await?)
    }
}

/// The settings with the changes made.
fn alter(present: &Config, changes: &[AlterableConfig<'_>]) -> Result<Config, ApiError> {
    let mut config = present.clone();
    for (at, change) in changes.iter().enumerate() {
        let name = &*change.name;
        if changes[..at].iter().any(|earlier| earlier.name == change.name) {
            let message = format!("{name} is named twice");
            return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
        }
        if change.config_operation == DELETE {
            config.remove(name);
            continue;
        }
        let value = change.value.as_deref().ok_or_else(|| {
            ApiError::new(ErrorCode::INVALID_REQUEST, format!("{name} has no value"))
        })?;
        let value = match change.config_operation {
            SET => value.to_owned(),
            APPEND | SUBTRACT => alter_list(&config, change, value)?,
            other => {
                let message = format!("{other} is no operation on {name}: 0 sets, 1 deletes");
                return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
            }
        };
        config.insert(name.to_owned(), value);
    }
    Ok(config)
}

fn alter_list(
    config: &Config,
    change: &AlterableConfig<'_>,
    items: &str,
) -> Result<String, ApiError> {
    let name = &*change.name;
    let invalid = |message: String| ApiError::new(ErrorCode::INVALID_CONFIG, message);
    let key =
        topic_key(name).ok_or_else(|| invalid(format!("Unknown topic config name: {name}")))?;
    // Kafka starts from the default of the key, not from the broker's value.
    let current = config.get(name).map_or(key.default.unwrap_or_default(), String::as_str);
    let altered = match change.config_operation {
        APPEND => key.append(current, items),
        _ => key.subtract(current, items),
    };
    altered.map_err(|error| invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn altered(present: &[(&str, &str)], changes: &[(&str, i8, Option<&str>)]) -> String {
        let present = present.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let changes: Vec<AlterableConfig<'_>> = changes
            .iter()
            .map(|&(name, config_operation, value)| AlterableConfig {
                name: name.into(),
                config_operation,
                value: value.map(Into::into),
            })
            .collect();
        match alter(&present, &changes) {
            Ok(config) => format!("{config:?}"),
            Err(error) => format!("{:?}: {}", error.code, error.message),
        }
    }

    #[test]
    fn each_operation_does_what_it_says() {
        let present = [("retention.ms", "5"), ("cleanup.policy", "delete")];
        assert_eq!(
            altered(&present, &[("retention.ms", DELETE, None), ("segment.ms", SET, Some("7"))]),
            r#"{"cleanup.policy": "delete", "segment.ms": "7"}"#
        );
        assert_eq!(
            altered(&present[1..], &[("cleanup.policy", APPEND, Some("compact"))]),
            r#"{"cleanup.policy": "delete,compact"}"#
        );
        assert_eq!(
            altered(&[], &[("cleanup.policy", SUBTRACT, Some("delete"))]),
            r#"{"cleanup.policy": ""}"#
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (changes, refusal) in [
            (&[("a", SET, Some("1")), ("a", DELETE, None)][..], "a is named twice"),
            (&[("retention.ms", SET, None)][..], "retention.ms has no value"),
            (&[("retention.ms", 9, Some("1"))][..], "9 is no operation on retention.ms"),
            (&[("colour", APPEND, Some("1"))][..], "Unknown topic config name: colour"),
        ] {
            let answer = altered(&[], changes);
            assert!(answer.contains(refusal), "{answer}");
        }
    }
}
