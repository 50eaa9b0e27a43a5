//! DescribeCluster.

use std::borrow::Cow;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use ottla_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use ottla_record::BrokerId;

use crate::advertise::advertised_address;
use crate::authorize::Resource;
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::network::Reply;

/// The endpoint type that asks for brokers (KIP-919).
const BROKERS: i8 = 1;

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let request: DescribeClusterRequest = call.decode()?;
    if request.endpoint_type != BROKERS {
        return call.respond(&DescribeClusterResponse {
            error_code: ErrorCode::MISMATCHED_ENDPOINT_TYPE.0,
            error_message: Some(Cow::Borrowed("this is a broker, not a controller's listener")),
            endpoint_type: BROKERS,
            ..Default::default()
        });
    }
    let picture = services.cluster.metadata();
    let brokers = picture.brokers().filter_map(|broker| {
        let (host, port) = advertised_address(&services.config, broker, call.client)?;
        Some(DescribeClusterBroker {
            broker_id: broker.id.0,
            host: Cow::Owned(host),
            port,
            rack: broker.registration.rack.as_deref().map(Cow::Borrowed),
            is_fenced: false,
        })
    });
    let mut response = DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: Cow::Borrowed(picture.cluster_id()),
        controller_id: picture.controller().unwrap_or(BrokerId::NONE).0,
        brokers: brokers.collect(),
        ..Default::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations =
            services.authorizer.operations(&call.client.principal, Resource::Cluster);
    }
    call.respond(&response)
}
