//! ListGroups.

use ottla_protocol::messages::ListGroupsRequest;

use crate::authorize::{Operation, Resource};
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::handler::groups::authorize;
use crate::network::Reply;

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let request: ListGroupsRequest<'_> = call.decode()?;
    let mut response = services.groups.groups().list(&request);
    let principal = &call.client.principal;
    // Who may describe the cluster sees all groups, others those that they may describe.
    if !services.authorizer.authorize(principal, Operation::Describe, Resource::Cluster) {
        response.groups.retain(|group| {
            authorize(&call, services, Operation::Describe, &group.group_id).is_ok()
        });
    }
    call.respond(&response)
}
