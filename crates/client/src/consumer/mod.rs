//! Reading records, alone or as a member of a group.

mod assignor;
mod fetch;
mod group;
mod position;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::fetch_response::PartitionData;
use ottla_record::{BrokerId, LeaderEpoch, Offset, PartitionId, Timestamp};
use ottla_runtime::{Spawner, Task, time};
use tokio::sync::mpsc;

use crate::cluster::{Cluster, TopicMetadata};
use crate::{ConsumeError, IsolationLevel, Refusal, RequestError, TopicPartition};
use fetch::{Ask, Fetched};
use group::Group;

pub use group::GroupConfig;
pub use position::Position;

/// How records are read. The names and the defaults are Kafka's.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// The group that shares the topics, or at least keeps the offsets.
    pub group: Option<GroupConfig>,
    /// `auto.offset.reset`: where to begin if the group has committed nothing, and where to go on
    /// if the position is not in the log any more. Other positions than [`Position::Beginning`]
    /// and [`Position::End`] make the latter an error.
    pub start: Position,
    /// `isolation.level`.
    pub isolation: IsolationLevel,
    /// `fetch.min.bytes`.
    pub fetch_min_bytes: i32,
    /// `fetch.max.wait.ms`.
    pub fetch_max_wait: Duration,
    /// `fetch.max.bytes`: of one response, and so of what one [`Consumer::poll`] returns, before
    /// it is decompressed. A single batch may exceed it.
    pub fetch_max_bytes: i32,
    /// `max.partition.fetch.bytes`.
    pub max_partition_fetch_bytes: i32,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group: None,
            start: Position::End,
            isolation: IsolationLevel::default(),
            fetch_min_bytes: 1,
            fetch_max_wait: Duration::from_millis(500),
            fetch_max_bytes: 50 * 1024 * 1024,
            max_partition_fetch_bytes: 1024 * 1024,
        }
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
    /// Its place in the partition.
    pub offset: Offset,
    /// The producer's, or the leader's if the topic says so.
    pub timestamp: Timestamp,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// In the producer's order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl ConsumerRecord {
    /// The partition.
    #[must_use]
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(&*self.topic, self.partition)
    }
}

/// Reads records. Leaving a group properly takes [`Consumer::close`]; a consumer that is dropped
/// leaves when its session times out.
#[derive(Debug)]
pub struct Consumer {
    cluster: Arc<Cluster>,
    config: ConsumerConfig,
    group: Option<Group>,
    partitions: BTreeMap<TopicPartition, At>,
    fetches: Fetches,
    /// What one partition failed with while others had records.
    failure: Option<ConsumeError>,
}

/// Where a partition is read.
#[derive(Clone, Copy, Debug)]
enum At {
    /// Where the group left it; not asked yet.
    Committed,
    /// Not known yet as an offset.
    Unresolved(Position),
    /// The next record.
    Offset(Offset),
}

/// The fetches under way: one for each broker at most.
#[derive(Debug)]
struct Fetches {
    spawner: Spawner,
    running: BTreeMap<BrokerId, Task<()>>,
    done: mpsc::UnboundedSender<Fetched>,
    results: mpsc::UnboundedReceiver<Fetched>,
}

/// What ends a wait within `poll`.
enum Event {
    Fetched(Fetched),
    /// The group rebalances, or lost us.
    Lost,
    Elapsed,
}

impl Consumer {
    pub(crate) fn new(cluster: Arc<Cluster>, config: ConsumerConfig) -> Self {
        let (done, results) = mpsc::unbounded_channel();
        let spawner = Spawner::current();
        let group = config.group.clone().map(|group| Group::new(Arc::clone(&cluster), group));
        let fetches = Fetches { spawner, running: BTreeMap::new(), done, results };
        Self { cluster, config, group, partitions: BTreeMap::new(), fetches, failure: None }
    }

    /// Reads these partitions from these positions from now on, and no others.
    pub fn assign(&mut self, partitions: impl IntoIterator<Item = (TopicPartition, Position)>) {
        if let Some(group) = &mut self.group {
            group.assign_by_hand();
        }
        let partitions = partitions.into_iter();
        self.partitions = partitions.map(|(p, position)| (p, At::Unresolved(position))).collect();
    }

    /// Joins the group of [`ConsumerConfig::group`] at the next [`Consumer::poll`] and reads what
    /// it assigns. Without a group it does nothing.
    pub fn subscribe(&mut self, topics: Vec<String>) {
        self.partitions.clear();
        if let Some(group) = &mut self.group {
            group.subscribe(topics);
        }
    }

    /// Goes on elsewhere in an assigned partition.
    pub fn seek(&mut self, partition: &TopicPartition, position: Position) {
        if let Some(at) = self.partitions.get_mut(partition) {
            *at = At::Unresolved(position);
        }
    }

    /// The partitions that are read at present.
    pub fn assignment(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.keys()
    }

    /// The offset that comes next; `None` if the partition is not assigned, or the offset is not
    /// known yet.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        match self.partitions.get(partition)? {
            At::Offset(offset) => Some(*offset),
            At::Unresolved(Position::Offset(offset)) => Some(*offset),
            At::Committed | At::Unresolved(_) => None,
        }
    }

    /// The next records, in order within each partition; none if none came within `max_wait`. It
    /// takes longer while the group rebalances. Calling it says that the records of the call before
    /// are dealt with: their offsets are committed if the group is configured so.
    ///
    /// Dropping the future loses no records.
    ///
    /// # Errors
    /// See [`ConsumeError`]. A partition that cannot be fetched at present is tried again and again,
    /// as its leader may come back; whatever else is retriable, within `default.api.timeout.ms`.
    pub async fn poll(&mut self, max_wait: Duration) -> Result<Vec<ConsumerRecord>, ConsumeError> {
        let _polling = self.group.as_ref().map(Group::polling);
        let deadline = time::now() + max_wait;
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.keep_membership().await?;
        self.resolve_positions().await?;
        loop {
            let complete = self.start_fetches().await?;
            let again = time::now() + self.cluster.config.retry_backoff;
            let until = if complete { deadline } else { deadline.min(again) };
            match self.next_event(until).await {
                Event::Elapsed if until < deadline => {}
                Event::Elapsed => return Ok(Vec::new()),
                Event::Lost => self.keep_membership().await?,
                Event::Fetched(fetched) => {
                    self.fetches.running.remove(&fetched.broker);
                    let (records, retriable) = self.take(&fetched)?;
                    if !records.is_empty() {
                        return Ok(records);
                    }
                    if retriable {
                        time::sleep(self.cluster.config.retry_backoff).await;
                    }
                }
            }
            self.resolve_positions().await?;
        }
    }

    /// Commits the offsets of all records that [`Consumer::poll`] has returned.
    ///
    /// # Errors
    /// See [`ConsumeError`]. Without a group: [`ErrorCode::INVALID_GROUP_ID`].
    pub async fn commit(&mut self) -> Result<(), ConsumeError> {
        let offsets = self.offsets();
        let Some(group) = &mut self.group else {
            return Err(RequestError::from(ErrorCode::INVALID_GROUP_ID).into());
        };
        group.commit(&offsets).await
    }

    /// Commits if the group is configured so, and leaves the group.
    ///
    /// # Errors
    /// See [`Consumer::commit`]. The group is left even so.
    pub async fn close(mut self) -> Result<(), ConsumeError> {
        let offsets = self.offsets();
        let Some(group) = &mut self.group else { return Ok(()) };
        let committed =
            if group.commits_by_itself() { group.commit(&offsets).await } else { Ok(()) };
        group.leave().await;
        committed
    }

    fn offsets(&self) -> BTreeMap<TopicPartition, Offset> {
        let known = self.partitions.keys().filter_map(|p| Some((p.clone(), self.position(p)?)));
        known.collect()
    }

    /// Commits when it is time to, and joins if that is needed.
    async fn keep_membership(&mut self) -> Result<(), ConsumeError> {
        let offsets = self.offsets();
        let Some(group) = &mut self.group else { return Ok(()) };
        group.commit_if_due(&offsets).await?;
        if let Some(assigned) = group.join_if_needed().await? {
            // At once: whoever drops the poll now must not find the old partitions.
            self.partitions = assigned.into_iter().map(|p| (p, At::Committed)).collect();
        }
        Ok(())
    }

    /// Asks the group where it left the partitions that it has assigned.
    async fn resolve_committed(&mut self) -> Result<(), ConsumeError> {
        let Some(group) = &mut self.group else { return Ok(()) };
        let assigned = self.partitions.iter().filter(|(_, at)| matches!(at, At::Committed));
        let assigned: Vec<_> = assigned.map(|(partition, _)| partition.clone()).collect();
        let committed = group.committed(&assigned).await?;
        for partition in assigned {
            let offset = committed.get(&partition).copied();
            let at = offset.map_or(At::Unresolved(self.config.start), At::Offset);
            self.partitions.insert(partition, at);
        }
        Ok(())
    }

    async fn resolve_positions(&mut self) -> Result<(), ConsumeError> {
        self.resolve_committed().await?;
        let unresolved = self.partitions.iter().filter_map(|(partition, at)| match at {
            At::Unresolved(position) => Some((partition.clone(), *position)),
            At::Committed | At::Offset(_) => None,
        });
        let unresolved: Vec<_> = unresolved.collect();
        if unresolved.is_empty() {
            return Ok(());
        }
        let isolation = self.config.isolation;
        let resolved = position::resolve(&self.cluster, &unresolved, isolation).await?;
        for (partition, offset) in resolved {
            self.partitions.insert(partition, At::Offset(offset));
        }
        Ok(())
    }

    /// Fetches from each leader that is not being asked already. Returns whether every partition has
    /// a leader: those that have none do not hold up the others.
    async fn start_fetches(&mut self) -> Result<bool, ConsumeError> {
        let mut asks: BTreeMap<BrokerId, BTreeMap<TopicPartition, (Offset, LeaderEpoch)>> =
            BTreeMap::new();
        let mut topics: BTreeMap<&str, Option<Arc<TopicMetadata>>> = BTreeMap::new();
        let mut stale = BTreeSet::new();
        for (partition, at) in &self.partitions {
            let At::Offset(offset) = at else { continue };
            if !topics.contains_key(&*partition.topic) {
                let metadata = match self.cluster.topic(&partition.topic).await {
                    Ok(metadata) => Some(metadata),
                    Err(error) if error.is_retriable() => None,
                    Err(error) => return Err(error.into()),
                };
                topics.insert(&partition.topic, metadata);
            }
            let metadata = topics[&*partition.topic].as_ref();
            let Some(leader) = metadata.and_then(|topic| topic.leader(partition.partition)) else {
                stale.insert(&*partition.topic);
                continue;
            };
            if !self.fetches.running.contains_key(&leader.broker) {
                let asked = asks.entry(leader.broker).or_default();
                asked.insert(partition.clone(), (*offset, leader.epoch));
            }
        }
        for topic in &stale {
            self.cluster.forget_topic(topic);
        }
        let complete = stale.is_empty();
        for (broker, partitions) in asks {
            let ask = Ask { broker, partitions, config: self.config.clone() };
            let (cluster, done) = (Arc::clone(&self.cluster), self.fetches.done.clone());
            let task = self.fetches.spawner.spawn(async move {
                // The receiver lives as long as the consumer, and this task no longer.
                let _ = done.send(ask.fetch(&cluster).await);
            });
            self.fetches.running.insert(broker, task);
        }
        Ok(complete)
    }

    async fn next_event(&mut self, deadline: time::Instant) -> Event {
        let lost = async {
            match &mut self.group {
                Some(group) => group.lost().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = lost => Event::Lost,
            // This consumer holds a sender itself.
            Some(fetched) = self.fetches.results.recv() => Event::Fetched(fetched),
            () = time::sleep_until(deadline) => Event::Elapsed,
        }
    }

    /// Takes over what was fetched, as far as it is still asked for. Also returns whether something
    /// failed that may be better soon.
    fn take(&mut self, fetched: &Fetched) -> Result<(Vec<ConsumerRecord>, bool), ConsumeError> {
        let response = match &fetched.reply {
            Ok(reply) => reply.decode().map_err(RequestError::from)?,
            Err(error) if error.is_retriable() => {
                for partition in fetched.asked.keys() {
                    self.cluster.forget_topic(&partition.topic);
                }
                return Ok((Vec::new(), true));
            }
            Err(error) => return Err(error.clone().into()),
        };
        Refusal::check(response.error_code, None).map_err(RequestError::from)?;
        let mut records = Vec::new();
        let mut retriable = false;
        for topic in &response.responses {
            let name: Arc<str> = (&*topic.topic).into();
            for data in &topic.partitions {
                let partition = TopicPartition::new(&*name, PartitionId(data.partition_index));
                let Some(&(offset, _)) = fetched.asked.get(&partition) else { continue };
                match self.partitions.get(&partition) {
                    Some(At::Offset(position)) if *position == offset => {}
                    // Revoked, or read elsewhere since.
                    _ => continue,
                }
                match self.take_partition(&name, data, offset, &mut records) {
                    Ok(Some(at)) => {
                        self.partitions.insert(partition, at);
                    }
                    Ok(None) => {
                        self.cluster.forget_topic(&name);
                        retriable = true;
                    }
                    Err(error) if records.is_empty() => return Err(error),
                    // First what the others have.
                    Err(error) => self.failure = Some(error),
                }
            }
        }
        Ok((records, retriable))
    }

    /// Appends a partition's records and returns where to go on; `None` if the leader may have
    /// moved.
    fn take_partition(
        &self,
        topic: &Arc<str>,
        data: &PartitionData<'_>,
        offset: Offset,
        records: &mut Vec<ConsumerRecord>,
    ) -> Result<Option<At>, ConsumeError> {
        let partition = || TopicPartition::new(&**topic, PartitionId(data.partition_index));
        match ErrorCode(data.error_code) {
            ErrorCode::NONE => fetch::read(topic, data, offset, self.config.isolation, records)
                .map(|next| Some(At::Offset(next)))
                .map_err(|reason| ConsumeError::Corrupt { partition: partition(), offset, reason }),
            ErrorCode::OFFSET_OUT_OF_RANGE => match self.config.start {
                start @ (Position::Beginning | Position::End) => Ok(Some(At::Unresolved(start))),
                _ => Err(ConsumeError::OffsetOutOfRange { partition: partition(), offset }),
            },
            code if code.is_retriable() => Ok(None),
            code => Err(RequestError::from(code).into()),
        }
    }
}
