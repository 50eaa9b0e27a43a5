//! SyncGroup: hands out, or gets, the assignment of a generation.

use ottla_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use crate::authorize::Operation;
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::handler::groups::{authorize, respond};
use crate::network::Reply;

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let request: SyncGroupRequest<'_> = call.decode()?;
    if let Err(code) = authorize(&call, services, Operation::Read, &request.group_id) {
        return call.respond(&SyncGroupResponse { error_code: code.0, ..Default::default() });
    }
    let answer = services.groups.groups().sync(&request);
    respond(call, answer)
}
