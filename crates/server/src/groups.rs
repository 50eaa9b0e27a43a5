//! The coordinator of groups over the partitions of `__consumer_offsets` that this node leads.
//!
//! Owns: how the coordinator's seams meet the logs, the clock and the threads of this node. Must
//! not know: the rules of groups.

use std::sync::Arc;
use std::time::Duration;

use ottla_coordinator::{
    AppendError, GroupConfig, Groups, GroupsConfig, ReadError, RunnerConfig, StateLog,
};
use ottla_log::TopicPartition;
use ottla_record::{Codec, Offset, RecordBatch, ValidBatch, batches};
use ottla_replication::{HostedTopic, Partition, Watch};
use ottla_runtime::{Clock, World, task, time};
use parking_lot::Mutex;
use tracing::error;

use crate::config::BrokerConfig;

/// How long a partition that could not be loaded is left alone.
const LOAD_RETRY: Duration = Duration::from_secs(1);

/// The most that one stored batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The groups of a node, and what drives them.
pub(crate) struct GroupCoordinator {
    groups: Arc<Groups>,
    clock: Arc<dyn Clock>,
    led: Mutex<Vec<i32>>,
    /// Is told of partitions in which something was committed that an answer waits for.
    committed: Arc<Watch>,
}

impl GroupCoordinator {
    /// A coordinator of `partitions` partitions, none of which is led yet.
    pub(crate) fn new(config: &BrokerConfig, partitions: i32, world: &World) -> Self {
        let group = &config.group;
        let config = GroupsConfig {
            group: GroupConfig {
                min_session_timeout_ms: group.group_min_session_timeout_ms,
                max_session_timeout_ms: group.group_max_session_timeout_ms,
                initial_rebalance_delay_ms: group.group_initial_rebalance_delay_ms,
                max_size: group.group_max_size.unsigned_abs() as usize,
                offset_metadata_max_bytes: group.offset_metadata_max_bytes.unsigned_abs() as usize,
                ..GroupConfig::default()
            },
            runner: RunnerConfig {
                commit_timeout_ms: group.offsets_commit_timeout_ms.unsigned_abs().into(),
                codec: u8::try_from(group.offsets_topic_compression_codec)
                    .ok()
                    .and_then(Codec::from_id)
                    .unwrap_or(Codec::None),
                load_bytes: group.offsets_load_buffer_size.unsigned_abs() as usize,
                unpacked_bytes_max: UNPACKED_BYTES_MAX,
            },
            partitions: partitions.max(1),
        };
        let groups = Arc::new(Groups::new(config, world.clock.clone(), world.random.clone()));
        let clock = world.clock.clone();
        Self { groups, clock, led: Mutex::default(), committed: Watch::new() }
    }

    /// What handlers call.
    pub(crate) fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// Takes over the partitions of `topic` that this node hosts and does not coordinate yet, and
    /// loads them.
    pub(crate) async fn lead(&self, topic: &HostedTopic) {
        for partition in topic.partitions.iter().flatten() {
            let id = partition.name().partition.0;
            let mut led = self.led.lock();
            if !led.contains(&id) {
                led.push(id);
                let (partition, committed) = (partition.clone(), self.committed.clone());
                let log = OffsetsLog { partition, committed };
                self.groups.elect(id, Arc::new(log));
            }
        }
        self.load().await;
    }

    /// Gives all partitions up: the topic is being deleted.
    pub(crate) fn resign(&self) {
        for partition in std::mem::take(&mut *self.led.lock()) {
            self.groups.resign(partition);
        }
    }

    /// Loads what waits for it; `false` if something could not be loaded.
    async fn load(&self) -> bool {
        let unloaded = self.groups.unloaded();
        if unloaded.is_empty() {
            return true;
        }
        let groups = self.groups.clone();
        let loaded = task::blocking("load-groups", move || {
            let mut all = true;
            for partition in unloaded {
                let partition_name = TopicPartition::new(crate::topics::OFFSETS_TOPIC, partition);
                if let Err(error) = groups.load(partition) {
                    error!(partition = %partition_name, %error, "could not load groups");
                    all = false;
                }
            }
            all
        });
        loaded.await.unwrap_or(false)
    }

    /// Does what is due in the groups, for ever.
    pub(crate) async fn drive(self: Arc<Self>) {
        loop {
            for partition in self.committed.take_moved() {
                self.groups.advance(partition.cast_signed());
            }
            let loaded = self.load().await;
            let due = self.groups.drive();
            let wait = async {
                match due {
                    Some(due_ms) => self.until(due_ms).await,
                    None if loaded => std::future::pending().await,
                    None => time::sleep(LOAD_RETRY).await,
                }
            };
            tokio::select! {
                biased;
                () = wait => {}
                () = self.groups.wake().woken() => {}
                () = self.committed.moved() => {}
            }
        }
    }

    async fn until(&self, due_ms: u64) {
        let now_ms = self.clock.elapsed_ms();
        time::sleep(Duration::from_millis(due_ms.saturating_sub(now_ms))).await;
    }
}

/// A partition of `__consumer_offsets` as its coordinator needs it.
struct OffsetsLog {
    partition: Arc<Partition>,
    committed: Arc<Watch>,
}

impl StateLog for OffsetsLog {
    fn append(&self, batch: Vec<u8>) -> Result<Offset, AppendError> {
        if self.partition.is_gone() {
            return Err(AppendError::NotLeader);
        }
        let refused = |error: String| AppendError::Refused(error.into());
        let (batch, _) = RecordBatch::parse(&batch).map_err(|error| refused(error.to_string()))?;
        match self.partition.append(&ValidBatch::own(batch)) {
            Ok(appended) => Ok(appended.end.offset),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    fn batch_bytes_max(&self) -> usize {
        self.partition.log().config().max_message_bytes.unsigned_abs() as usize
    }

    fn committed(&self) -> Offset {
        self.partition.high_watermark().offset
    }

    fn watch_committed(&self, end: Offset) {
        let index = self.partition.name().partition.0.cast_unsigned();
        // The high watermark has passed the last offset below the end.
        self.partition.watch(Offset(end.0 - 1), &self.committed, index);
    }

    fn start_offset(&self) -> Offset {
        self.partition.log().log_start_offset()
    }

    fn end_offset(&self) -> Offset {
        self.partition.log().end().offset
    }

    fn read(&self, from: Offset, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
        let log = self.partition.log();
        let failed = |error: String| ReadError(error.into());
        let slice =
            log.read(from, bytes_max, log.end(), true).map_err(|e| failed(e.to_string()))?;
        let mut bytes = vec![0; slice.len];
        let read = slice
            .file
            .read_at(&mut bytes, slice.position)
            .map_err(|error| failed(error.to_string()))?;
        bytes.truncate(read);
        // The size that was asked for may have cut the last batch.
        let mut whole = batches(&bytes);
        while let Some(Ok(_)) = whole.next() {}
        let end = whole.position();
        bytes.truncate(end);
        Ok(bytes)
    }
}
