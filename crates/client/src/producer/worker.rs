//! One partition's batches, one after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::ProduceRequest;
use ottla_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla_record::{
    BatchBuilder, BatchOptions, HEADER_BYTES, Header, Offset, ProducerEpoch, ProducerId, Sequence,
};
use ottla_runtime::time;
use tokio::sync::{mpsc, oneshot};

use super::{Acks, Command, Identity, Pending, RecordMetadata, Shared};
use crate::{Refusal, RequestError, SendError, TopicPartition};

/// From v13 on topics are told by their ids.
const PRODUCE_NEWEST: i16 = 12;

pub(super) struct Worker {
    shared: Arc<Shared>,
    partition: TopicPartition,
    commands: mpsc::UnboundedReceiver<Command>,
    /// A record that did not fit into the batch before.
    carried: Option<Pending>,
    numbering: Numbering,
}

/// The sequence numbers of an idempotent producer in this partition.
enum Numbering {
    /// Nothing was sent yet.
    Fresh,
    Counting {
        identity: Identity,
        next: Sequence,
    },
    /// A batch failed, so its numbers may or may not be taken: only another id can go on.
    Broken,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        partition: TopicPartition,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Self { shared, partition, commands, carried: None, numbering: Numbering::Fresh }
    }

    pub(super) async fn run(mut self) {
        while let Some((records, flush)) = self.collect().await {
            if !records.is_empty() {
                self.deliver(records).await;
            }
            drop(flush);
        }
    }

    /// Waits for records until they fill a batch, the first one has lingered, or somebody flushes.
    /// `None` when the producer is gone.
    async fn collect(&mut self) -> Option<(Vec<Pending>, Option<oneshot::Sender<()>>)> {
        let first = match self.carried.take() {
            Some(record) => record,
            None => match self.commands.recv().await? {
                Command::Send(record) => record,
                Command::Flush(flush) => return Some((Vec::new(), Some(flush))),
            },
        };
        let config = &self.shared.config;
        let mut bytes = HEADER_BYTES + first.bytes_max;
        let mut records = vec![first];
        let until = time::now() + config.linger;
        while bytes < config.batch_size {
            let command = match self.commands.try_recv() {
                Ok(command) => Some(command),
                Err(_) if config.linger.is_zero() => break,
                Err(_) => tokio::select! {
                    biased;
                    command = self.commands.recv() => command,
                    () = time::sleep_until(until) => break,
                },
            };
            match command {
                Some(Command::Send(record)) if bytes + record.bytes_max > config.batch_size => {
                    self.carried = Some(record);
                    break;
                }
                Some(Command::Send(record)) => {
                    bytes += record.bytes_max;
                    records.push(record);
                }
                Some(Command::Flush(flush)) => return Some((records, Some(flush))),
                None => break,
            }
        }
        Some((records, None))
    }

    /// Tells each record what became of it. A batch that the broker finds too large goes in halves.
    async fn deliver(&mut self, records: Vec<Pending>) {
        let mut left = VecDeque::from([records]);
        while let Some(mut records) = left.pop_front() {
            match self.send_until_decided(&records).await {
                Ok(base) => {
                    let partition = self.partition.partition;
                    for (i, record) in (0..).zip(records) {
                        let offset = base.map(|base| base + i);
                        // Nobody has to wait for it.
                        let _ = record.done.send(Ok(RecordMetadata { partition, offset }));
                    }
                }
                Err(error) if is_too_large(&error) && records.len() > 1 => {
                    let second = records.split_off(records.len() / 2);
                    left.push_front(second);
                    left.push_front(records);
                }
                Err(error) => {
                    self.numbering = Numbering::Broken;
                    for record in records {
                        let _ = record.done.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Sends a batch until it is written, refused for good, or out of time. Returns the offset of
    /// its first record, if the broker told.
    async fn send_until_decided(
        &mut self,
        records: &[Pending],
    ) -> Result<Option<Offset>, SendError> {
        let shared = Arc::clone(&self.shared);
        let mut retry = shared.cluster.retry_until(records[0].deadline);
        let mut batch = None;
        loop {
            let error = match self.attempt(records, &mut batch).await {
                Ok(offset) => {
                    self.advance(records.len());
                    return Ok(offset);
                }
                Err(error) => error,
            };
            if error.is_retriable() {
                // Whatever it was, the leader may have changed.
                shared.cluster.forget_topic(&self.partition.topic);
            }
            retry.after(error).await.map_err(|last| {
                if last.is_retriable() {
                    SendError::DeliveryTimeout { after: shared.config.delivery_timeout, last }
                } else {
                    SendError::Request(last)
                }
            })?;
        }
    }

    async fn attempt(
        &mut self,
        records: &[Pending],
        batch: &mut Option<Vec<u8>>,
    ) -> Result<Option<Offset>, RequestError> {
        let batch = match batch {
            // The same bytes again: the broker knows them by their sequence numbers.
            Some(batch) => batch,
            None => batch.insert(self.build(records).await?),
        };
        let shared = &self.shared;
        let cluster = &shared.cluster;
        let leader = cluster.leader(&self.partition.topic, self.partition.partition).await?;
        let connection = cluster.connection(leader.broker).await?;
        let timeout = cluster.config.request_timeout;
        let request = ProduceRequest {
            transactional_id: None,
            acks: match shared.config.acks {
                Acks::None => 0,
                Acks::Leader => 1,
                Acks::All => -1,
            },
            timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data: vec![TopicProduceData {
                name: (&*self.partition.topic).into(),
                partition_data: vec![PartitionProduceData {
                    index: self.partition.partition.0,
                    records: Some(batch.as_slice().into()),
                }],
                ..Default::default()
            }],
        };
        if shared.config.acks == Acks::None {
            connection.send_up_to(PRODUCE_NEWEST, &request, timeout).await?;
            return Ok(None);
        }
        let reply = connection.call_up_to(PRODUCE_NEWEST, &request, timeout).await?;
        let response = reply.decode()?;
        let topic = response.responses.first();
        let answer = topic.and_then(|topic| topic.partition_responses.first());
        let answer = answer.ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)?;
        if ErrorCode(answer.error_code) == ErrorCode::DUPLICATE_SEQUENCE_NUMBER {
            // An earlier attempt wrote it, so long ago that the offset is not known any more.
            return Ok(None);
        }
        Refusal::check(answer.error_code, answer.error_message.as_deref())?;
        Ok(Some(Offset(answer.base_offset)).filter(|offset| *offset >= Offset::ZERO))
    }

    async fn build(&mut self, records: &[Pending]) -> Result<Vec<u8>, RequestError> {
        let (producer_id, producer_epoch, base_sequence) = self.numbers().await?;
        let mut builder = BatchBuilder::new(BatchOptions {
            codec: self.shared.config.compression,
            producer_id,
            producer_epoch,
            base_sequence,
            ..BatchOptions::default()
        });
        for Pending { record, timestamp, .. } in records {
            let headers: Vec<_> = record
                .headers
                .iter()
                .map(|(name, value)| Header::new(name, value.as_deref()))
                .collect();
            builder.append(*timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
        }
        Ok(builder.build())
    }

    /// What the next batch is numbered with.
    async fn numbers(&mut self) -> Result<(ProducerId, ProducerEpoch, Sequence), RequestError> {
        if !self.shared.is_idempotent() {
            return Ok((ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE));
        }
        let (identity, next) = match self.numbering {
            Numbering::Counting { identity, next } => (identity, next),
            Numbering::Fresh => (self.shared.first_identity().await?, Sequence(0)),
            Numbering::Broken => (self.shared.new_identity().await?, Sequence(0)),
        };
        self.numbering = Numbering::Counting { identity, next };
        Ok((identity.id, identity.epoch, next))
    }

    fn advance(&mut self, records: usize) {
        if let Numbering::Counting { next, .. } = &mut self.numbering {
            // A batch counts its records in an i32.
            *next = next.advance(records as i32);
        }
    }
}

fn is_too_large(error: &SendError) -> bool {
    matches!(
        error,
        SendError::Request(RequestError::Refused(refusal))
            if refusal.code == ErrorCode::MESSAGE_TOO_LARGE
    )
}
