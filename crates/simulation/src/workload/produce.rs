//! One Produce request and its answer.

use std::sync::Arc;

use ottla_connection::Connection;
use ottla_protocol::messages::ProduceRequest;
use ottla_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla_protocol::{ErrorCode, Records};

use crate::event::{Place, topic_name};
use crate::stage::PATIENCE;

/// The newest version that names topics.
const NEWEST: i16 = 12;

fn request(place: Place, acks: i16, batch: Vec<u8>) -> ProduceRequest<'static> {
    let data = PartitionProduceData { index: place.partition, records: Some(Records::from(batch)) };
    let topic_data = vec![TopicProduceData {
        name: topic_name(place.topic).into(),
        partition_data: vec![data],
        ..Default::default()
    }];
    ProduceRequest { acks, timeout_ms: 2_000, topic_data, ..Default::default() }
}

/// Sends a batch; gives its first offset, or the code of a refusal, or nothing if nobody knows.
pub(crate) async fn produce(
    connection: Arc<Connection>,
    place: Place,
    acks: i16,
    batch: Vec<u8>,
) -> Option<Result<i64, ErrorCode>> {
    let request = request(place, acks, batch);
    let reply = connection.call_up_to(NEWEST, &request, PATIENCE).await.ok()?;
    let response = reply.decode().ok()?;
    let answer = response.responses.first()?.partition_responses.first()?;
    Some(match ErrorCode(answer.error_code) {
        ErrorCode::NONE => Ok(answer.base_offset),
        code => Err(code),
    })
}

/// Sends a batch that nobody answers.
pub(crate) async fn send(connection: &Connection, place: Place, batch: Vec<u8>) {
    // Who is not answered does not know either whether it was sent.
    let _ = connection.send_up_to(NEWEST, &request(place, 0, batch), PATIENCE).await;
}

/// Whether a refusal says that the broker cannot at the moment.
pub(crate) fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::REQUEST_TIMED_OUT
            | ErrorCode::NOT_ENOUGH_REPLICAS
            | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::NOT_COORDINATOR
    )
}
