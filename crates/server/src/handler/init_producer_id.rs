//! InitProducerId: an id for an idempotent producer (KIP-98, KIP-360).

use std::sync::Arc;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use ottla_record::{ProducerEpoch, ProducerId};

use crate::authorize::{Operation, Resource};
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::network::Reply;

pub(crate) fn handle(mut call: Call<'_>, services: &Arc<Services>) -> Result<Reply, Close> {
    let request: InitProducerIdRequest<'_> = call.decode()?;
    if request.transactional_id.is_some() {
        // Transactions are not served, and a producer that was told otherwise would rely on them.
        return call.respond(&refusal(ErrorCode::INVALID_REQUEST));
    }
    let principal = &call.client.principal;
    let idempotent = Operation::IdempotentWrite;
    if !services.authorizer.authorize(principal, idempotent, Resource::Cluster) {
        return call.respond(&refusal(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
    }
    if let Some(id) = services.producer_ids.take() {
        return call.respond(&granted(id));
    }
    let services = services.clone();
    call.respond_later(async move {
        match services.producer_ids.refill_and_take().await {
            Ok(id) => granted(id),
            Err(error) => {
                tracing::error!(%error, "could not get a block of producer ids");
                refusal(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
            }
        }
    })
}

fn granted(id: ProducerId) -> InitProducerIdResponse {
    InitProducerIdResponse { producer_id: id.0, producer_epoch: 0, ..Default::default() }
}

fn refusal(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: code.0,
        producer_id: ProducerId::NONE.0,
        producer_epoch: ProducerEpoch::NONE.0,
        ..Default::default()
    }
}
