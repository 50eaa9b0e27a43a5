//! DescribeGroups.

use std::collections::BTreeMap;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_groups_response::DescribedGroup;
use ottla_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

use crate::authorize::{OPERATIONS_NOT_ASKED, Operation, Resource};
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::handler::groups::{authorize, respond};
use crate::network::Reply;

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let mut request: DescribeGroupsRequest<'_> = call.decode()?;
    let mut refused = Vec::new();
    request.groups.retain(|group| {
        let allowed = authorize(&call, services, Operation::Describe, group);
        refused.extend(allowed.err().map(|_| group.to_string()));
        allowed.is_ok()
    });
    let operations = |group: &str| match request.include_authorized_operations {
        true => services.authorizer.operations(&call.client.principal, Resource::Group(group)),
        false => OPERATIONS_NOT_ASKED,
    };
    let operations: BTreeMap<String, i32> =
        request.groups.iter().map(|group| (group.to_string(), operations(group))).collect();
    let described = services.groups.groups().describe(call.version(), &request);
    let complete = move |mut response: DescribeGroupsResponse<'static>| {
        for group in &mut response.groups {
            group.authorized_operations =
                operations.get(&*group.group_id).copied().unwrap_or(OPERATIONS_NOT_ASKED);
        }
        response.groups.extend(refused.into_iter().map(|group| DescribedGroup {
            error_code: ErrorCode::GROUP_AUTHORIZATION_FAILED.0,
            group_id: group.into(),
            ..Default::default()
        }));
        response
    };
    respond(call, described.map(complete))
}
