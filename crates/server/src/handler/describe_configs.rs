//! DescribeConfigs: the settings of topics and of this broker.

use std::borrow::Cow;

use ottla_config::Entry;
use ottla_log::LogConfig;
use ottla_metadata::admin::topic_name;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use ottla_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use crate::authorize::{Operation, Resource};
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::handler::error::ApiError;
use crate::network::Reply;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let request: DescribeConfigsRequest<'_> = call.decode()?;
    let describe = |resource: &DescribeConfigsResource<'_>| {
        let (code, message, entries) = match entries(&call, services, resource) {
            Ok(entries) => (ErrorCode::NONE, None, entries),
            Err(ApiError { code, message }) => (code, Some(message), Vec::new()),
        };
        let wanted = |entry: &Entry| {
            let keys = resource.configuration_keys.as_ref();
            keys.is_none_or(|keys| keys.iter().any(|key| key == entry.name))
        };
        let configs = entries.into_iter().filter(wanted).map(|entry| {
            // Settings of brokers cannot be altered yet, so each is as good as read-only.
            config(entry, &request, call.version(), resource.resource_type != TOPIC)
        });
        DescribeConfigsResult {
            error_code: code.0,
            error_message: message,
            resource_type: resource.resource_type,
            resource_name: Cow::Owned(resource.resource_name.to_string()),
            configs: configs.collect(),
        }
    };
    let results = request.resources.iter().map(describe).collect();
    call.respond(&DescribeConfigsResponse { results, ..Default::default() })
}

fn entries(
    call: &Call<'_>,
    services: &Services,
    resource: &DescribeConfigsResource<'_>,
) -> Result<Vec<Entry>, ApiError> {
    let name = &*resource.resource_name;
    let principal = &call.client.principal;
    let may =
        |resource| services.authorizer.authorize(principal, Operation::DescribeConfigs, resource);
    match resource.resource_type {
        TOPIC => {
            if !may(Resource::Topic(name)) {
                let message = format!("{principal} may not describe topic '{name}'");
                return Err(ApiError::new(ErrorCode::TOPIC_AUTHORIZATION_FAILED, message));
            }
            topic_name::validate(name).map_err(|error| {
                ApiError::new(ErrorCode::INVALID_TOPIC_EXCEPTION, error.to_string())
            })?;
            let picture = services.cluster.metadata();
            let topic = picture.topic(name).ok_or_else(|| {
                let message = format!("there is no topic '{name}'");
                ApiError::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message)
            })?;
            Ok(LogConfig::describe(services.cluster.log_defaults(), &topic.config))
        }
        BROKER => {
            if !may(Resource::Cluster) {
                let message = format!("{principal} may not describe brokers");
                return Err(ApiError::new(ErrorCode::CLUSTER_AUTHORIZATION_FAILED, message));
            }
            let id = services.config.id;
            match name {
                // What was set for all brokers at once: nothing, since nothing can be.
                "" => Ok(Vec::new()),
                name if name.parse() == Ok(id.0) => Ok(services.config.describe()),
                name => {
                    let message = format!("'{name}' is not this broker, which is {id}");
                    Err(ApiError::new(ErrorCode::INVALID_REQUEST, message))
                }
            }
        }
        other => {
            let message = format!("resource type {other} is not served: ask for topics or brokers");
            Err(ApiError::new(ErrorCode::INVALID_REQUEST, message))
        }
    }
}

fn config(
    entry: Entry,
    request: &DescribeConfigsRequest<'_>,
    version: i16,
    read_only: bool,
) -> DescribeConfigsResourceResult<'static> {
    let synonym = |synonym: ottla_config::Synonym| DescribeConfigsSynonym {
        name: Cow::Borrowed(synonym.name),
        value: synonym.value.map(Cow::Owned),
        source: synonym.source.code(),
    };
    DescribeConfigsResourceResult {
        name: Cow::Borrowed(entry.name),
        value: entry.value.map(Cow::Owned),
        read_only: entry.read_only || read_only,
        // Only version 0 says so; later ones name the source.
        is_default: version == 0 && entry.source == ottla_config::Source::Default,
        config_source: entry.source.code(),
        is_sensitive: entry.sensitive,
        synonyms: match request.include_synonyms {
            true => entry.synonyms.into_iter().map(synonym).collect(),
            false => Vec::new(),
        },
        config_type: entry.type_code,
        documentation: request.include_documentation.then_some(Cow::Borrowed(entry.documentation)),
    }
}
