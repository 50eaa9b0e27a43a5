//! One Fetch request, and the records in its response.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ottla_connection::Reply;
use ottla_protocol::messages::FetchRequest;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla_protocol::messages::fetch_response::{AbortedTransaction, PartitionData};
use ottla_record::{
    BatchError, BrokerId, ControlRecord, EndTransactionMarker, LeaderEpoch, Offset, PartitionId,
    ProducerId, Record, RecordBatch, batches,
};

use super::{ConsumerConfig, ConsumerRecord};
use crate::cluster::Cluster;
use crate::{IsolationLevel, RequestError, TopicPartition};

/// From v13 on topics are told by their ids.
const FETCH_NEWEST: i16 = 12;

/// A batch that unpacks to more is refused, in bytes.
const UNPACKED_BYTES_MAX: usize = 512 * 1024 * 1024;

/// What is asked of one leader.
pub(super) struct Ask {
    pub(super) broker: BrokerId,
    pub(super) partitions: BTreeMap<TopicPartition, (Offset, LeaderEpoch)>,
    pub(super) config: ConsumerConfig,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) broker: BrokerId,
    pub(super) asked: BTreeMap<TopicPartition, (Offset, LeaderEpoch)>,
    pub(super) reply: Result<Reply<FetchRequest<'static>>, RequestError>,
}

impl Ask {
    pub(super) async fn fetch(self, cluster: &Cluster) -> Fetched {
        let reply = self.call(cluster).await;
        Fetched { broker: self.broker, asked: self.partitions, reply }
    }

    async fn call(&self, cluster: &Cluster) -> Result<Reply<FetchRequest<'static>>, RequestError> {
        let connection = cluster.connection(self.broker).await?;
        let timeout = cluster.config.request_timeout + self.config.fetch_max_wait;
        Ok(connection.call_up_to(FETCH_NEWEST, &self.request(), timeout).await?)
    }

    /// A full fetch, outside of any session: what is read may change with each.
    fn request(&self) -> FetchRequest<'static> {
        const NO_SESSION: i32 = 0;
        const FINAL_EPOCH: i32 = -1;
        let mut topics: BTreeMap<&str, Vec<FetchPartition>> = BTreeMap::new();
        for (partition, (offset, leader_epoch)) in &self.partitions {
            topics.entry(&partition.topic).or_default().push(FetchPartition {
                partition: partition.partition.0,
                current_leader_epoch: leader_epoch.0,
                fetch_offset: offset.0,
                last_fetched_epoch: LeaderEpoch::NONE.0,
                log_start_offset: Offset::NONE.0,
                partition_max_bytes: self.config.max_partition_fetch_bytes,
                ..Default::default()
            });
        }
        let topics = topics.into_iter().map(|(topic, partitions)| FetchTopic {
            topic: topic.to_owned().into(),
            partitions,
            ..Default::default()
        });
        FetchRequest {
            replica_id: BrokerId::NONE.0,
            max_wait_ms: i32::try_from(self.config.fetch_max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.config.fetch_min_bytes,
            max_bytes: self.config.fetch_max_bytes,
            isolation_level: self.config.isolation.id(),
            session_id: NO_SESSION,
            session_epoch: FINAL_EPOCH,
            topics: topics.collect(),
            ..Default::default()
        }
    }
}

/// Appends the records of `data` from `position` on, and returns the position behind them. A fault
/// behind whole batches is left for the next fetch, which will begin with it.
pub(super) fn read(
    topic: &Arc<str>,
    data: &PartitionData<'_>,
    position: Offset,
    isolation: IsolationLevel,
    records: &mut Vec<ConsumerRecord>,
) -> Result<Offset, String> {
    let bytes = data.records.as_ref().and_then(|records| records.as_bytes()).unwrap_or_default();
    let aborted = match isolation {
        IsolationLevel::ReadCommitted => data.aborted_transactions.as_deref().unwrap_or_default(),
        IsolationLevel::ReadUncommitted => &[],
    };
    let mut aborted = Aborted::new(aborted);
    let mut next = position;
    for batch in batches(bytes) {
        let read = match batch {
            // The response was cut where its size limit was.
            Err(BatchError::Truncated { .. }) if next > position => break,
            Err(error) => Err(error.to_string()),
            Ok(batch) => {
                let partition = PartitionId(data.partition_index);
                let place = Place { topic, partition, from: next };
                read_batch(&place, &batch, &mut aborted, records).map(|()| batch.next_offset())
            }
        };
        match read {
            Ok(behind) => next = next.max(behind),
            Err(_) if next > position => break,
            Err(reason) => return Err(reason),
        }
    }
    Ok(next)
}

/// Where a batch comes from, and what of it is wanted.
struct Place<'a> {
    topic: &'a Arc<str>,
    partition: PartitionId,
    from: Offset,
}

fn read_batch(
    place: &Place<'_>,
    batch: &RecordBatch<'_>,
    aborted: &mut Aborted,
    records: &mut Vec<ConsumerRecord>,
) -> Result<(), String> {
    batch.verify_crc().map_err(|error| error.to_string())?;
    if aborted.hides(batch)? || batch.attributes().is_control() {
        return Ok(());
    }
    let before = records.len();
    let mut unpacked = Vec::new();
    let read = batch.records(&mut unpacked, UNPACKED_BYTES_MAX).map_err(|e| e.to_string())?;
    for record in read {
        match record {
            Ok(record) if record.offset < place.from => {}
            Ok(record) => records.push(owned(place, &record)),
            Err(error) => {
                // All of a batch or nothing.
                records.truncate(before);
                return Err(error.to_string());
            }
        }
    }
    Ok(())
}

fn owned(place: &Place<'_>, record: &Record<'_>) -> ConsumerRecord {
    let headers = record.headers.map(|h| (h.key_text().into_owned(), h.value.map(<[u8]>::to_vec)));
    ConsumerRecord {
        topic: Arc::clone(place.topic),
        partition: place.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: headers.collect(),
    }
}

/// Which transactions of the batches at hand were aborted: a producer's records from the first
/// offset that the response names to its next marker.
struct Aborted {
    to_come: VecDeque<AbortedTransaction>,
    open: BTreeSet<ProducerId>,
}

impl Aborted {
    fn new(transactions: &[AbortedTransaction]) -> Self {
        let mut to_come: Vec<_> = transactions.to_vec();
        to_come.sort_by_key(|transaction| transaction.first_offset);
        Self { to_come: to_come.into(), open: BTreeSet::new() }
    }

    /// Must be asked of every batch, in order.
    fn hides(&mut self, batch: &RecordBatch<'_>) -> Result<bool, String> {
        while let Some(transaction) =
            self.to_come.pop_front_if(|t| t.first_offset <= batch.last_offset().0)
        {
            self.open.insert(ProducerId(transaction.producer_id));
        }
        if batch.attributes().is_control() {
            if ends_by_abort(batch)? {
                self.open.remove(&batch.producer_id());
            }
            return Ok(true);
        }
        Ok(batch.attributes().is_transactional() && self.open.contains(&batch.producer_id()))
    }
}

fn ends_by_abort(batch: &RecordBatch<'_>) -> Result<bool, String> {
    let mut unpacked = Vec::new();
    let mut records =
        batch.records(&mut unpacked, UNPACKED_BYTES_MAX).map_err(|e| e.to_string())?;
    // A control batch that compaction emptied says nothing any more.
    let Some(record) = records.next() else { return Ok(false) };
    let marker = ControlRecord::parse(&record.map_err(|e| e.to_string())?);
    Ok(matches!(
        marker.map_err(|e| e.to_string())?,
        ControlRecord::EndTransaction(EndTransactionMarker { committed: false, .. })
    ))
}
