//! DeleteRecords: deletes what lies below an offset (KIP-107).

use std::borrow::Cow;
use std::sync::Arc;

use ottla_metadata::admin::topic_name;
use ottla_protocol::messages::delete_records_request::DeleteRecordsPartition;
use ottla_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use ottla_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use ottla_protocol::{ErrorCode, IntoOwned};
use ottla_record::{Offset, PartitionId};
use ottla_runtime::task;
use tracing::error;

use crate::authorize::{Operation, Principal, Resource};
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::handler::hosted;
use crate::network::Reply;

/// Stands for the high watermark: everything that consumers could read.
const HIGH_WATERMARK: i64 = -1;

pub(crate) fn handle(mut call: Call<'_>, services: &Arc<Services>) -> Result<Reply, Close> {
    let request: DeleteRecordsRequest<'_> = call.decode()?;
    let (services, principal) = (services.clone(), call.client.principal.clone());
    let topics = request.topics.into_owned();
    // The new log start offset must survive a crash, so answering waits for the disk.
    call.respond_later(async move {
        let delete = move || {
            let answer = |topic: &str, wanted: &DeleteRecordsPartition| {
                let deleted = delete(&services, &principal, topic, wanted);
                DeleteRecordsPartitionResult {
                    partition_index: wanted.partition_index,
                    low_watermark: deleted.as_ref().map_or(-1, |offset| offset.0),
                    error_code: deleted.err().unwrap_or(ErrorCode::NONE).0,
                }
            };
            let mut results: Vec<DeleteRecordsTopicResult<'static>> = topics
                .iter()
                .map(|topic| DeleteRecordsTopicResult {
                    name: Cow::Owned(topic.name.to_string()),
                    partitions: topic.partitions.iter().map(|p| answer(&topic.name, p)).collect(),
                })
                .collect();
            if let Err(error) = services.logs.write_checkpoints() {
                error!(%error, "could not write log start offsets");
                for partition in results.iter_mut().flat_map(|topic| &mut topic.partitions) {
                    partition.error_code = ErrorCode::KAFKA_STORAGE_ERROR.0;
                }
            }
            results
        };
        let topics = task::blocking("delete-records", delete).await.unwrap_or_default();
        DeleteRecordsResponse { topics, ..Default::default() }
    })
}

fn delete(
    services: &Services,
    principal: &Principal,
    topic: &str,
    wanted: &DeleteRecordsPartition,
) -> Result<Offset, ErrorCode> {
    if !services.authorizer.authorize(principal, Operation::Delete, Resource::Topic(topic)) {
        return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    let partitions = &services.partitions;
    let partition = hosted::find(partitions, topic, PartitionId(wanted.partition_index))?;
    if topic_name::is_internal(topic) {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    if !partition.log().config().cleanup_policy.delete {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let high_watermark = partition.high_watermark().offset;
    let offset = match wanted.offset {
        HIGH_WATERMARK => high_watermark,
        offset => Offset(offset),
    };
    if offset < Offset::ZERO || offset > high_watermark {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    Ok(partition.delete_records(offset))
}
