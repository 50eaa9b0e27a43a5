//! Produce: appends record batches.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use ottla_log::{AppendError, CompressionType, LogConfig, SequenceError};
use ottla_protocol::messages::produce_request::TopicProduceData;
use ottla_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use ottla_protocol::messages::{ProduceRequest, ProduceResponse};
use ottla_protocol::{ErrorCode, IntoOwned, Records};
use ottla_record::{
    BatchError, Codec, Depth, InvalidBatch, PartitionId, RecordBatch, RejectionReason, Timestamp,
    TimestampPolicy, TimestampType, Uuid, ValidationOptions, validate,
};
use ottla_replication::{HostedTopic, Partition};
use tracing::error;

use crate::acknowledge::{self, Unflushed};
use crate::authorize::{Operation, Resource};
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::network::Reply;

/// The first version that may carry zstd (KIP-110).
const ZSTD_FROM: i16 = 7;

/// From this version on topics are named by their id (KIP-516).
const TOPIC_IDS_FROM: i16 = 13;

/// The most that the records of a batch may take when they are unpacked for a look inside, unless
/// four times `max.message.bytes` is more. It bounds the memory that a few bytes of a client cost.
const UNPACKED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The level that stands for gzip's own.
const GZIP_OWN_LEVEL: i32 = -1;

/// Only this client may write to internal topics (`kafka-console-*` and the admin tools).
const ADMIN_CLIENT: &str = "__admin_client";

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let request: ProduceRequest<'_> = call.decode()?;
    let acks = request.acks;
    let now = Timestamp(services.world.clock.wall_ms());
    let mut producing =
        Producing { call: &call, services, acks, now, unflushed: Vec::new(), partitions: 0 };
    let responses = request.topic_data.iter().map(|topic| producing.topic(topic)).collect();
    let unflushed = producing.unflushed;
    let response = ProduceResponse { responses, ..Default::default() };
    if acks != 0 && unflushed.is_empty() {
        return call.respond(&response);
    }
    if acks != 0 {
        let timeout = Duration::from_millis(request.timeout_ms.max(0).unsigned_abs().into());
        let mut response = response.into_owned();
        return call.respond_later(async move {
            let failed = acknowledge::flushed(unflushed, timeout).await;
            let mut partitions: Vec<_> =
                response.responses.iter_mut().flat_map(|t| &mut t.partition_responses).collect();
            for (unflushed, error) in failed {
                let failed = &mut *partitions[unflushed.index];
                (failed.error_code, failed.base_offset) = (error.code.0, -1);
                failed.error_message = Some(error.message);
            }
            response
        });
    }
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    match partitions.into_iter().find(|partition| partition.error_code != 0) {
        None => Ok(Reply::Nothing),
        Some(failed) => {
            let name = ErrorCode(failed.error_code);
            let detail = failed.error_message.as_deref().unwrap_or_default();
            Err(Close::UnacknowledgedProduce { reason: format!("{name}: {detail}") })
        }
    }
}

/// Why a partition's records were refused.
struct Refusal {
    code: ErrorCode,
    message: Cow<'static, str>,
    records: Vec<BatchIndexAndErrorMessage<'static>>,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), records: Vec::new() }
    }
}

/// What is the same for all partitions of a request.
struct Producing<'a> {
    call: &'a Call<'a>,
    services: &'a Services,
    acks: i16,
    now: Timestamp,
    /// What waits for the disk. Each is named by its place among all partitions of the request.
    unflushed: Vec<Unflushed>,
    partitions: usize,
}

impl Producing<'_> {
    fn topic<'r>(&mut self, request: &'r TopicProduceData<'_>) -> TopicProduceResponse<'r> {
        let by_id = self.call.version() >= TOPIC_IDS_FROM;
        let partitions = &self.services.partitions;
        let hosted = match by_id {
            true => partitions.topic_by_id(request.topic_id),
            false => partitions.topic(&request.name),
        };
        let mut partition_responses = Vec::with_capacity(request.partition_data.len());
        for data in &request.partition_data {
            let id = PartitionId(data.index);
            let records = data.records.as_ref();
            let answer = self.partition(hosted.as_ref(), &request.name, id, records);
            partition_responses.push(answer.unwrap_or_else(|refusal| PartitionProduceResponse {
                error_code: refusal.code.0,
                base_offset: -1,
                error_message: Some(refusal.message),
                record_errors: refusal.records,
                index: data.index,
                ..Default::default()
            }));
            self.partitions += 1;
        }
        TopicProduceResponse {
            name: if by_id { Cow::Borrowed("") } else { Cow::Borrowed(&*request.name) },
            topic_id: if by_id { request.topic_id } else { Uuid::ZERO },
            partition_responses,
        }
    }

    fn partition(
        &mut self,
        topic: Option<&Arc<HostedTopic>>,
        name: &str,
        id: PartitionId,
        records: Option<&Records<'_>>,
    ) -> Result<PartitionProduceResponse<'static>, Refusal> {
        let name = topic.map_or(name, |topic| &*topic.name);
        let principal = &self.call.client.principal;
        if !self.services.authorizer.authorize(principal, Operation::Write, Resource::Topic(name)) {
            let message = format!("{principal} may not write to topic '{name}'");
            return Err(Refusal::new(ErrorCode::TOPIC_AUTHORIZATION_FAILED, message));
        }
        let partition = self.find(topic, name, id)?;
        let bytes = records.and_then(Records::as_bytes).unwrap_or_default();
        self.append(partition, bytes)
    }

    /// The partition, if it is there and may be written to.
    fn find<'t>(
        &self,
        topic: Option<&'t Arc<HostedTopic>>,
        name: &str,
        id: PartitionId,
    ) -> Result<&'t Arc<Partition>, Refusal> {
        if let Some(reason) = topic.and_then(|topic| topic.failure(id)) {
            let message = format!("{name}-{id} is offline: {reason}");
            return Err(Refusal::new(ErrorCode::KAFKA_STORAGE_ERROR, message));
        }
        let Some(partition) = topic.and_then(|topic| topic.partition(id)) else {
            let by_id = self.call.version() >= TOPIC_IDS_FROM && topic.is_none();
            return Err(match by_id {
                true => Refusal::new(ErrorCode::UNKNOWN_TOPIC_ID, "no topic has this id"),
                false => Refusal::new(
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    format!("there is no partition {name}-{id}"),
                ),
            });
        };
        if !matches!(self.acks, -1..=1) {
            let message = format!("acks={} is not one of -1, 0, 1", self.acks);
            return Err(Refusal::new(ErrorCode::INVALID_REQUIRED_ACKS, message));
        }
        if ottla_metadata::admin::topic_name::is_internal(name)
            && self.call.header.client_id.as_deref() != Some(ADMIN_CLIENT)
        {
            let message = format!("'{name}' is written by brokers only");
            return Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message));
        }
        if self.acks == -1 && partition.log().config().min_insync_replicas > 1 {
            let min = partition.log().config().min_insync_replicas;
            let message = format!("1 replica is in sync and min.insync.replicas is {min}");
            return Err(Refusal::new(ErrorCode::NOT_ENOUGH_REPLICAS, message));
        }
        if partition.log().is_full() && !ottla_metadata::admin::topic_name::is_internal(name) {
            let message = "the broker's disk is nearly full (log.dir.min.free.bytes): \
                           delete records or topics, or give it more room; it goes on by itself";
            return Err(Refusal::new(ErrorCode::KAFKA_STORAGE_ERROR, message));
        }
        Ok(partition)
    }

    fn append(
        &mut self,
        partition: &Arc<Partition>,
        records: &[u8],
    ) -> Result<PartitionProduceResponse<'static>, Refusal> {
        let config = partition.log().config();
        let batch = RecordBatch::parse(records).ok().map(|(batch, _)| batch);
        if let Some(batch) = &batch {
            self.check_version(batch)?;
        }
        let options = validation(&config, batch.as_ref(), self.now);
        let mut valid = validate(records, &options).map_err(invalid_batch)?;
        let rebuilt;
        if let Some((codec, level)) = wanted_codec(&config)
            && valid.batch().attributes().codec() != Some(codec)
        {
            rebuilt = valid
                .batch()
                .recompress(codec, level, UNPACKED_BYTES_MAX)
                .map_err(|error| invalid_batch(InvalidBatch::Records(error)))?;
            valid = validate(&rebuilt, &options).map_err(invalid_batch)?;
        }
        let appended = partition.append(&valid).map_err(|error| append_error(partition, error))?;
        if appended.awaits_flush {
            self.unflushed.push(Unflushed::new(partition, appended.end.offset, self.partitions));
        }
        Ok(PartitionProduceResponse {
            index: partition.name().partition.0,
            base_offset: appended.base_offset.0,
            log_append_time_ms: appended.log_append_time.0,
            log_start_offset: partition.log().log_start_offset().0,
            ..Default::default()
        })
    }

    /// What a batch may not have in this version of the request, or not yet in this broker.
    fn check_version(&self, batch: &RecordBatch<'_>) -> Result<(), Refusal> {
        let attributes = batch.attributes();
        if attributes.codec() == Some(Codec::Zstd) && self.call.version() < ZSTD_FROM {
            return Err(Refusal::new(
                ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
                "zstd needs Produce version 7 or above: use a newer client or another codec",
            ));
        }
        if attributes.is_transactional() && !attributes.is_control() {
            return Err(Refusal::new(
                ErrorCode::INVALID_TXN_STATE,
                "transactions are not served yet: produce without transactional.id",
            ));
        }
        Ok(())
    }
}

fn validation(
    config: &LogConfig,
    batch: Option<&RecordBatch<'_>>,
    now: Timestamp,
) -> ValidationOptions {
    // What is not compressed is read record by record, which costs little. A compressed batch whose
    // checksum is right is believed, unless a rule of the topic asks for a look inside.
    let plain = batch.is_some_and(|batch| batch.attributes().codec() == Some(Codec::None));
    ValidationOptions {
        max_message_bytes: config.max_message_bytes as usize,
        timestamps: TimestampPolicy {
            timestamp_type: match config.message_timestamp_type {
                ottla_log::TimestampType::CreateTime => TimestampType::CreateTime,
                ottla_log::TimestampType::LogAppendTime => TimestampType::LogAppendTime,
            },
            before_max_ms: config.message_timestamp_before_max_ms,
            after_max_ms: config.message_timestamp_after_max_ms,
        },
        now,
        key_required: config.cleanup_policy.compact,
        depth: if plain { Depth::Records } else { Depth::Header },
        max_decompressed_bytes: UNPACKED_BYTES_MAX.max(4 * config.max_message_bytes as usize),
    }
}

/// The codec and level that the topic stores in, unless it is whatever the producer chose.
fn wanted_codec(config: &LogConfig) -> Option<(Codec, Option<i32>)> {
    match config.compression_type {
        CompressionType::Producer => None,
        CompressionType::Uncompressed => Some((Codec::None, None)),
        CompressionType::Gzip => {
            let level = config.compression_gzip_level;
            Some((Codec::Gzip, (level != GZIP_OWN_LEVEL).then_some(level)))
        }
        CompressionType::Snappy => Some((Codec::Snappy, None)),
        CompressionType::Lz4 => Some((Codec::Lz4, Some(config.compression_lz4_level))),
        CompressionType::Zstd => Some((Codec::Zstd, Some(config.compression_zstd_level))),
    }
}

fn invalid_batch(error: InvalidBatch) -> Refusal {
    let code = match &error {
        InvalidBatch::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        InvalidBatch::Crc(_) => ErrorCode::CORRUPT_MESSAGE,
        // A batch that ends early counts as none, and an older format is one that Kafka knows.
        InvalidBatch::Framing(BatchError::Truncated { .. } | BatchError::Magic { got: 0 | 1 }) => {
            ErrorCode::INVALID_RECORD
        }
        InvalidBatch::Framing(_) => ErrorCode::CORRUPT_MESSAGE,
        InvalidBatch::LogAppendTime => ErrorCode::INVALID_TIMESTAMP,
        InvalidBatch::Codec { .. } => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        InvalidBatch::Rejected(rejections) => {
            let untimely =
                |r: &ottla_record::Rejection| matches!(r.reason, RejectionReason::Timestamp { .. });
            match rejections.iter().any(untimely) {
                true => ErrorCode::INVALID_TIMESTAMP,
                false => ErrorCode::INVALID_RECORD,
            }
        }
        _ => ErrorCode::INVALID_RECORD,
    };
    let mut refusal = Refusal::new(code, error.to_string());
    if let InvalidBatch::Rejected(rejections) = error {
        let record = |rejection: &ottla_record::Rejection| BatchIndexAndErrorMessage {
            batch_index: rejection.index,
            batch_index_error_message: Some(rejection.reason.to_string().into()),
        };
        refusal.records = rejections.iter().map(record).collect();
    }
    refusal
}

fn append_error(partition: &Partition, error: AppendError) -> Refusal {
    match error {
        AppendError::Sequence(error) => {
            let code = match error {
                SequenceError::StaleEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
                SequenceError::OutOfOrder { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            };
            Refusal::new(code, error.to_string())
        }
        AppendError::LargerThanSegment { size, segment_bytes } => Refusal::new(
            ErrorCode::RECORD_LIST_TOO_LARGE,
            format!("batch of {size} bytes is larger than segment.bytes ({segment_bytes})"),
        ),
        AppendError::Io(error) => {
            error!(partition = %partition.name(), %error, "could not append");
            Refusal::new(ErrorCode::KAFKA_STORAGE_ERROR, format!("the broker's disk: {error}"))
        }
    }
}
