//! Heartbeat: a member says that it is alive.

use ottla_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::authorize::Operation;
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::handler::groups::{authorize, respond};
use crate::network::Reply;

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let request: HeartbeatRequest<'_> = call.decode()?;
    if let Err(code) = authorize(&call, services, Operation::Read, &request.group_id) {
        return call.respond(&HeartbeatResponse { error_code: code.0, ..Default::default() });
    }
    let answer = services.groups.groups().heartbeat(&request);
    respond(call, answer)
}
