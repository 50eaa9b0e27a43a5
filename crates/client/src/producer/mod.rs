//! Writing records.
//!
//! Each partition has a worker, which sends one batch at a time: so the order of a partition's
//! records holds through any retry, with and without idempotence, while other partitions do not
//! wait. Records that come meanwhile make up the next batch, which thus grows with the load.

mod worker;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ottla_protocol::messages::InitProducerIdRequest;
use ottla_record::{Codec, Offset, PartitionId, ProducerEpoch, ProducerId, Timestamp};
use ottla_runtime::{Spawner, Task, time};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::cluster::{Cluster, TopicMetadata};
use crate::partitioner::{Sticky, partition_for_key};
use crate::{Refusal, RequestError, SendError, TopicPartition};
use worker::Worker;

/// How many copies a record waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// `0`: none; what goes wrong is not noticed.
    None,
    /// `1`: the leader's.
    Leader,
    /// `all`: those of all in-sync replicas.
    All,
}

/// How records are written. The names and, where nothing is said, the defaults are Kafka's.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// `acks`.
    pub acks: Acks,
    /// `enable.idempotence`: retries do not duplicate. It takes effect with [`Acks::All`] alone.
    pub idempotence: bool,
    /// `compression.type`.
    pub compression: Codec,
    /// `batch.size`, in bytes before compression.
    pub batch_size: usize,
    /// `linger.ms`: how long a batch waits to be filled. Default: 5 ms.
    pub linger: Duration,
    /// `buffer.memory`, in bytes: [`Producer::send`] waits while more is undelivered.
    pub buffer_memory: u32,
    /// `max.request.size`, in bytes: the largest record.
    pub max_request_size: usize,
    /// `max.block.ms`: how long [`Producer::send`] may wait for metadata and for memory.
    pub max_block: Duration,
    /// `delivery.timeout.ms`: how long a record may be undelivered before it fails.
    pub delivery_timeout: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotence: true,
            compression: Codec::None,
            batch_size: 16 * 1024,
            linger: Duration::from_millis(5),
            buffer_memory: 32 * 1024 * 1024,
            max_request_size: 1024 * 1024,
            max_block: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// A record to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerRecord {
    /// Where to.
    pub topic: String,
    /// `None`: by the key's hash, or batch by batch if there is no key.
    pub partition: Option<PartitionId>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// In order; names may repeat.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; `None`: the present time.
    pub timestamp_ms: Option<i64>,
}

impl ProducerRecord {
    /// The most bytes that the record can take in a batch: its parts, and the longest form of the
    /// numbers between them.
    fn bytes_max(&self) -> usize {
        const RECORD: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
        const HEADER: usize = 5 + 5;
        let bytes = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        let headers = self.headers.iter().map(|(name, value)| HEADER + name.len() + bytes(value));
        RECORD + bytes(&self.key) + bytes(&self.value) + headers.sum::<usize>()
    }
}

/// Where a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The partition that was chosen.
    pub partition: PartitionId,
    /// `None` if the broker did not tell, as with [`Acks::None`].
    pub offset: Option<Offset>,
}

/// A record's way to the log. It may be dropped: the record goes its way all the same.
#[derive(Debug)]
pub struct Delivery(oneshot::Receiver<Result<RecordMetadata, SendError>>);

impl Future for Delivery {
    type Output = Result<RecordMetadata, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| result.unwrap_or(Err(SendError::Closed)))
    }
}

/// Writes records. Dropping it gives up what is not delivered yet: call [`Producer::flush`] first.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    memory: Arc<Semaphore>,
    sticky: Mutex<BTreeMap<String, Sticky>>,
    workers: Mutex<BTreeMap<TopicPartition, Running>>,
    spawner: Spawner,
}

#[derive(Debug)]
struct Running {
    queue: mpsc::UnboundedSender<Command>,
    _task: Task<()>,
}

/// What a worker is told.
#[derive(Debug)]
enum Command {
    Send(Pending),
    /// Send what came before without lingering, then drop this.
    Flush(oneshot::Sender<()>),
}

/// A record that is not delivered yet.
#[derive(Debug)]
struct Pending {
    record: ProducerRecord,
    timestamp: Timestamp,
    bytes_max: usize,
    /// `delivery.timeout.ms` after it was handed over.
    deadline: time::Instant,
    done: oneshot::Sender<Result<RecordMetadata, SendError>>,
    /// Its share of `buffer.memory`.
    _memory: OwnedSemaphorePermit,
}

/// What the workers share.
#[derive(Debug)]
struct Shared {
    cluster: Arc<Cluster>,
    config: ProducerConfig,
    first_id: OnceCell<Identity>,
}

/// Under which name an idempotent producer counts its records.
#[derive(Clone, Copy, Debug)]
struct Identity {
    id: ProducerId,
    epoch: ProducerEpoch,
}

impl Producer {
    pub(crate) fn new(cluster: Arc<Cluster>, config: ProducerConfig) -> Self {
        Self {
            memory: Arc::new(Semaphore::new(config.buffer_memory as usize)),
            shared: Arc::new(Shared { cluster, config, first_id: OnceCell::new() }),
            sticky: Mutex::default(),
            workers: Mutex::default(),
            spawner: Spawner::current(),
        }
    }

    /// Hands a record over and returns as soon as there is room for it. Records that are handed over
    /// one after the other keep their order within a partition.
    ///
    /// # Errors
    /// See [`SendError`]; what goes wrong later is told by the [`Delivery`].
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, SendError> {
        let config = &self.shared.config;
        let bytes_max = record.bytes_max();
        if bytes_max > config.max_request_size {
            let max = config.max_request_size;
            return Err(SendError::RecordTooLarge { bytes: bytes_max, max });
        }
        let now = time::now();
        let blocked = now + config.max_block;
        let topic = self.topic(&record.topic, blocked).await?;
        let partition = self.choose_partition(&record, &topic, bytes_max)?;
        // One record may take all of the memory, but not wait for more than there is.
        let share = u32::try_from(bytes_max).unwrap_or(u32::MAX).min(config.buffer_memory);
        let room = Arc::clone(&self.memory).acquire_many_owned(share);
        let room = time::timeout(blocked.saturating_duration_since(time::now()), room).await;
        let memory = room
            .map_err(|_| SendError::BufferFull { after: config.max_block })?
            .map_err(|_| SendError::Closed)?;
        let timestamp = record.timestamp_ms.unwrap_or_else(|| self.shared.cluster.clock.wall_ms());
        let (done, delivery) = oneshot::channel();
        let partition = TopicPartition::new(record.topic.clone(), partition);
        let pending = Pending {
            record,
            timestamp: Timestamp(timestamp),
            bytes_max,
            deadline: now + config.delivery_timeout,
            done,
            _memory: memory,
        };
        self.tell(partition, Command::Send(pending));
        Ok(Delivery(delivery))
    }

    /// Sends what was handed over before without lingering, and returns when each record is
    /// delivered or has failed.
    pub async fn flush(&self) {
        let flushed: Vec<_> = {
            let workers = self.workers.lock();
            let tell = |worker: &Running| {
                let (done, flushed) = oneshot::channel();
                // A worker lives as long as its producer.
                let _ = worker.queue.send(Command::Flush(done));
                flushed
            };
            workers.values().map(tell).collect()
        };
        for flushed in flushed {
            // The worker answers by dropping the sender.
            let _ = flushed.await;
        }
    }

    async fn topic(
        &self,
        name: &str,
        deadline: time::Instant,
    ) -> Result<Arc<TopicMetadata>, SendError> {
        let cluster = &self.shared.cluster;
        let mut retry = cluster.retry_until(deadline);
        loop {
            match cluster.topic(name).await {
                Ok(topic) => return Ok(topic),
                Err(error) => retry.after(error).await?,
            }
        }
    }

    fn choose_partition(
        &self,
        record: &ProducerRecord,
        topic: &TopicMetadata,
        bytes: usize,
    ) -> Result<PartitionId, SendError> {
        let count = topic.partitions.len();
        if let Some(partition) = record.partition {
            let exists = usize::try_from(partition.0).is_ok_and(|index| index < count);
            let error = SendError::NoSuchPartition { partition: partition.0, count };
            return exists.then_some(partition).ok_or(error);
        }
        let unknown = SendError::NoSuchPartition { partition: 0, count };
        if let Some(key) = &record.key {
            let count = u32::try_from(count).ok().filter(|&count| count > 0).ok_or(unknown)?;
            return Ok(partition_for_key(key, count));
        }
        let all = topic.partitions.iter();
        let mut available: Vec<_> =
            all.clone().filter(|p| p.leader.is_some()).map(|p| p.partition).collect();
        if available.is_empty() {
            available = all.map(|p| p.partition).collect();
        }
        let mut sticky = self.sticky.lock();
        let sticky = match sticky.get_mut(&record.topic) {
            Some(sticky) => sticky,
            None => sticky.entry(record.topic.clone()).or_default(),
        };
        let random = || self.shared.cluster.random.next_u64();
        sticky.choose(&available, bytes, self.shared.config.batch_size, random).ok_or(unknown)
    }

    fn tell(&self, partition: TopicPartition, command: Command) {
        let mut workers = self.workers.lock();
        let running = match workers.entry(partition) {
            Entry::Occupied(running) => running.into_mut(),
            Entry::Vacant(place) => {
                let (queue, commands) = mpsc::unbounded_channel();
                let worker = Worker::new(Arc::clone(&self.shared), place.key().clone(), commands);
                let task = self.spawner.spawn(worker.run());
                place.insert(Running { queue, _task: task })
            }
        };
        // A worker lives as long as its producer.
        let _ = running.queue.send(command);
    }
}

impl Shared {
    fn is_idempotent(&self) -> bool {
        self.config.idempotence && self.config.acks == Acks::All
    }

    /// The id that the partitions begin with.
    async fn first_identity(&self) -> Result<Identity, RequestError> {
        self.first_id.get_or_try_init(|| self.new_identity()).await.copied()
    }

    /// An id that nobody has used yet.
    async fn new_identity(&self) -> Result<Identity, RequestError> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            // It means nothing without a transactional id, but must be positive.
            transaction_timeout_ms: i32::MAX,
            producer_id: ProducerId::NONE.0,
            producer_epoch: ProducerEpoch::NONE.0,
        };
        let reply = self.cluster.call_any(&request).await?;
        let response = reply.decode()?;
        Refusal::check(response.error_code, None)?;
        Ok(Identity {
            id: ProducerId(response.producer_id),
            epoch: ProducerEpoch(response.producer_epoch),
        })
    }
}
