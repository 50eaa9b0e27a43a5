//! JoinGroup: becomes a member of a group, or takes part in its rebalance.

use ottla_coordinator::Caller;
use ottla_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use crate::authorize::Operation;
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::handler::groups::{authorize, respond};
use crate::network::Reply;

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let request: JoinGroupRequest<'_> = call.decode()?;
    if let Err(code) = authorize(&call, services, Operation::Read, &request.group_id) {
        return call.respond(&JoinGroupResponse {
            error_code: code.0,
            generation_id: -1,
            member_id: request.member_id,
            ..Default::default()
        });
    }
    let client_id = call.client_id();
    let client_host = format!("/{}", call.client.peer.ip());
    let caller =
        Caller { client_id: &client_id, client_host: &client_host, api_version: call.version() };
    let answer = services.groups.groups().join(caller, &request);
    respond(call, answer)
}
