//! What the apis of groups have in common.

use ottla_coordinator::Reply as Answer;
use ottla_protocol::{Encode, ErrorCode};

use crate::authorize::{Operation, Resource};
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::network::Reply;

/// Answers with what the coordinator says, now or when it does.
pub(crate) fn respond<R: Encode + Send + 'static>(
    call: Call<'_>,
    answer: Answer<R>,
) -> Result<Reply, Close> {
    match answer {
        Answer::Done(response) => call.respond(&response),
        Answer::Later(response) => call.respond_later(response),
    }
}

/// Asks whether the client may do `operation` to the group.
pub(crate) fn authorize(
    call: &Call<'_>,
    services: &Services,
    operation: Operation,
    group: &str,
) -> Result<(), ErrorCode> {
    let principal = &call.client.principal;
    match services.authorizer.authorize(principal, operation, Resource::Group(group)) {
        true => Ok(()),
        false => Err(ErrorCode::GROUP_AUTHORIZATION_FAILED),
    }
}
