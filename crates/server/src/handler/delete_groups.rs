//! DeleteGroups.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::delete_groups_response::DeletableGroupResult;
use ottla_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use crate::authorize::Operation;
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::handler::groups::{authorize, respond};
use crate::network::Reply;

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let mut request: DeleteGroupsRequest<'_> = call.decode()?;
    let mut refused = Vec::new();
    request.groups_names.retain(|group| {
        let allowed = authorize(&call, services, Operation::Delete, group);
        refused.extend(allowed.err().map(|_| group.to_string()));
        allowed.is_ok()
    });
    let deleted = services.groups.groups().delete(&request);
    let complete = move |mut response: DeleteGroupsResponse<'static>| {
        response.results.extend(refused.into_iter().map(|group| DeletableGroupResult {
            group_id: group.into(),
            error_code: ErrorCode::GROUP_AUTHORIZATION_FAILED.0,
        }));
        response
    };
    respond(call, deleted.map(complete))
}
