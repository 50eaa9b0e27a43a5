//! OffsetDelete: forgets offsets of a group (KIP-496).

use ottla_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use crate::authorize::Operation;
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::handler::groups::{authorize, respond};
use crate::network::Reply;

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let request: OffsetDeleteRequest<'_> = call.decode()?;
    if let Err(code) = authorize(&call, services, Operation::Delete, &request.group_id) {
        return call.respond(&OffsetDeleteResponse { error_code: code.0, ..Default::default() });
    }
    let answer = services.groups.groups().delete_offsets(&request);
    respond(call, answer)
}
