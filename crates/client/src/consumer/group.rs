//! Membership of a classic consumer group: join, sync, heartbeat, commit, leave.
//!
//! Owns: the member's id and generation. Must not know: what is fetched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_connection::{Connection, Reply};
use ottla_protocol::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest, OffsetFetchRequest,
    SyncGroupRequest,
};
use ottla_protocol::{
    ApiKey, DecodeError, EncodeError, ErrorCode, Request, decode_versioned, encode_versioned,
};
use ottla_record::{Offset, PartitionId};
use ottla_runtime::{Spawner, Task, time};
use parking_lot::Mutex;

use super::assignor::{Assignment, RANGE, assign_range};
use crate::cluster::Cluster;
use crate::{CallError, ConsumeError, Refusal, RequestError, TopicPartition};

/// How a consumer takes part in a group. The names and the defaults are Kafka's.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// `group.id`.
    pub group: String,
    /// `session.timeout.ms`: after so long without a heartbeat the coordinator counts us out.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms`: who does not poll for so long leaves the group.
    pub max_poll_interval: Duration,
    /// `auto.commit.interval.ms`; `None`: only when asked to (`enable.auto.commit=false`).
    pub auto_commit_interval: Option<Duration>,
}

impl GroupConfig {
    /// Kafka's defaults.
    #[must_use]
    pub fn new(group: &str) -> Self {
        Self {
            group: group.to_owned(),
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            auto_commit_interval: Some(Duration::from_secs(5)),
        }
    }
}

/// The type of groups whose members are consumers.
const CONSUMER: &str = "consumer";

/// The version in which subscription and assignment are written; any is understood.
const CONSUMER_PROTOCOL: i16 = 1;

/// Of who is in no generation and only keeps offsets.
const NO_GENERATION: i32 = -1;

/// How much longer a JoinGroup may take than the rebalance that it waits for.
const JOIN_GRACE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Group {
    cluster: Arc<Cluster>,
    config: GroupConfig,
    /// `None`: partitions are assigned by hand.
    topics: Option<Vec<String>>,
    connection: Option<Arc<Connection>>,
    member: Member,
    /// Lives while we are in a generation.
    heartbeat: Option<Task<()>>,
    /// When the last poll ended; `None` within one.
    polled: Arc<Mutex<Option<time::Instant>>>,
    /// What the leader of the group assigned from: how many partitions each topic had.
    assigned_from: BTreeMap<String, u32>,
    last_commit: BTreeMap<TopicPartition, Offset>,
    last_commit_at: time::Instant,
}

/// As whom we speak to the coordinator.
#[derive(Clone, Debug)]
struct Member {
    group: String,
    /// Empty until the coordinator gives one.
    id: String,
    generation: i32,
}

/// While it exists, the consumer is polling.
pub(super) struct Polling(Arc<Mutex<Option<time::Instant>>>);

impl Drop for Polling {
    fn drop(&mut self) {
        *self.0.lock() = Some(time::now());
    }
}

impl Group {
    pub(super) fn new(cluster: Arc<Cluster>, config: GroupConfig) -> Self {
        let group = config.group.clone();
        Self {
            cluster,
            config,
            topics: None,
            connection: None,
            member: Member { group, id: String::new(), generation: NO_GENERATION },
            heartbeat: None,
            polled: Arc::default(),
            assigned_from: BTreeMap::new(),
            last_commit: BTreeMap::new(),
            last_commit_at: time::now(),
        }
    }

    pub(super) fn subscribe(&mut self, topics: Vec<String>) {
        self.topics = Some(topics);
        self.heartbeat = None;
    }

    pub(super) fn assign_by_hand(&mut self) {
        self.topics = None;
        self.heartbeat = None;
        self.member.id.clear();
        self.member.generation = NO_GENERATION;
    }

    pub(super) fn polling(&self) -> Polling {
        *self.polled.lock() = None;
        Polling(Arc::clone(&self.polled))
    }

    pub(super) fn commits_by_itself(&self) -> bool {
        self.config.auto_commit_interval.is_some()
    }

    /// Returns when this generation is over for us.
    pub(super) async fn lost(&mut self) {
        match &mut self.heartbeat {
            Some(heartbeat) => heartbeat.await,
            None => std::future::pending().await,
        }
        self.heartbeat = None;
    }

    fn is_to_join(&self) -> bool {
        self.topics.is_some() && self.heartbeat.is_none()
    }

    /// Joins if we are in no generation, and returns what we are assigned then.
    pub(super) async fn join_if_needed(
        &mut self,
    ) -> Result<Option<Vec<TopicPartition>>, ConsumeError> {
        if self.heartbeat.is_some() && self.partitions_changed().await {
            self.heartbeat = None;
        }
        if !self.is_to_join() {
            return Ok(None);
        }
        self.find_topics().await?;
        let cluster = Arc::clone(&self.cluster);
        let patience = cluster.config.api_timeout + self.config.max_poll_interval;
        let mut retry = cluster.retry_until(time::now() + patience);
        loop {
            let error = match self.try_join().await {
                Ok(assigned) => return Ok(Some(assigned)),
                Err(error) => error,
            };
            match refused_with(&error) {
                Some(ErrorCode::MEMBER_ID_REQUIRED) => continue,
                Some(ErrorCode::UNKNOWN_MEMBER_ID) => self.member.id.clear(),
                Some(ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::ILLEGAL_GENERATION) => {}
                _ => {
                    self.doubt_coordinator(&error);
                    retry.after(error).await?;
                    continue;
                }
            }
            if !retry.pause().await {
                return Err(error.into());
            }
        }
    }

    /// Makes sure that the topics exist: a topic that is misspelt would look like a quiet one.
    async fn find_topics(&self) -> Result<(), RequestError> {
        let mut retry = self.cluster.retry();
        for topic in self.topics.iter().flatten() {
            while let Err(error) = self.cluster.topic(topic).await {
                retry.after(error).await?;
            }
        }
        Ok(())
    }

    /// Whether a topic has other partitions than those that we, as the leader, assigned.
    async fn partitions_changed(&self) -> bool {
        for (topic, count) in &self.assigned_from {
            if let Ok(metadata) = self.cluster.topic(topic).await
                && metadata.partitions.len() != *count as usize
            {
                return true;
            }
        }
        false
    }

    async fn try_join(&mut self) -> Result<Vec<TopicPartition>, RequestError> {
        let topics = self.topics.clone().unwrap_or_default();
        let subscription = ConsumerProtocolSubscription {
            topics: topics.iter().map(Into::into).collect(),
            ..Default::default()
        };
        let metadata = encode_versioned(&subscription, CONSUMER_PROTOCOL);
        let request = JoinGroupRequest {
            group_id: self.member.group.clone().into(),
            session_timeout_ms: millis(self.config.session_timeout),
            rebalance_timeout_ms: millis(self.config.max_poll_interval),
            member_id: self.member.id.clone().into(),
            protocol_type: CONSUMER.into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: RANGE.into(),
                metadata: metadata.map_err(unwritable)?.into(),
            }],
            ..Default::default()
        };
        let timeout = self.config.max_poll_interval + JOIN_GRACE;
        let reply = self.call(i16::MAX, &request, timeout).await?;
        let response = reply.decode()?;
        if ErrorCode(response.error_code) == ErrorCode::MEMBER_ID_REQUIRED {
            self.member.id = response.member_id.to_string();
        }
        Refusal::check(response.error_code, None)?;
        self.member.id = response.member_id.to_string();
        let leads = response.leader == response.member_id && !response.skip_assignment;
        self.assigned_from.clear();
        let assignments = if leads { self.assign(&response).await? } else { BTreeMap::new() };
        let generation = response.generation_id;
        let assigned = self.sync(generation, assignments).await?;
        let connection = self.connection().await?;
        // Only now, and without a pause in between: whoever drops this future before is still in
        // the generation before, and commits as a member of that.
        self.member.generation = generation;
        self.last_commit.clear();
        self.start_heartbeat(connection);
        Ok(assigned)
    }

    /// As the leader: decides who reads what.
    async fn assign(
        &mut self,
        response: &JoinGroupResponse<'_>,
    ) -> Result<BTreeMap<String, Assignment>, RequestError> {
        let mut members = BTreeMap::new();
        for member in &response.members {
            let subscription: Result<(i16, ConsumerProtocolSubscription<'_>), _> =
                decode_versioned(&member.metadata);
            let (_, subscription) = subscription.map_err(|e| malformed(ApiKey::JoinGroup, e))?;
            let topics: Vec<String> = subscription.topics.iter().map(ToString::to_string).collect();
            for topic in &topics {
                if let Ok(metadata) = self.cluster.topic(topic).await {
                    self.assigned_from.insert(topic.clone(), metadata.partitions.len() as u32);
                }
            }
            members.insert(member.member_id.to_string(), topics);
        }
        Ok(assign_range(&members, &self.assigned_from))
    }

    async fn sync(
        &mut self,
        generation_id: i32,
        assignments: BTreeMap<String, Assignment>,
    ) -> Result<Vec<TopicPartition>, RequestError> {
        let mut encoded = Vec::new();
        for (member, topics) in assignments {
            let assigned = topics.into_iter().map(|(topic, partitions)| AssignedTopic {
                topic: topic.into(),
                partitions: partitions.into_iter().map(i32::from).collect(),
            });
            let assignment = ConsumerProtocolAssignment {
                assigned_partitions: assigned.collect(),
                ..Default::default()
            };
            let assignment =
                encode_versioned(&assignment, CONSUMER_PROTOCOL).map_err(unwritable)?.into();
            encoded.push(SyncGroupRequestAssignment { member_id: member.into(), assignment });
        }
        let member = self.member.clone();
        let request = SyncGroupRequest {
            group_id: member.group.into(),
            generation_id,
            member_id: member.id.into(),
            protocol_type: Some(CONSUMER.into()),
            protocol_name: Some(RANGE.into()),
            assignments: encoded,
            ..Default::default()
        };
        // Answered when the leader has sent its assignment.
        let timeout = self.config.max_poll_interval + JOIN_GRACE;
        let reply = self.call(i16::MAX, &request, timeout).await?;
        let response = reply.decode()?;
        Refusal::check(response.error_code, None)?;
        if response.assignment.is_empty() {
            return Ok(Vec::new());
        }
        let (_, assignment): (i16, ConsumerProtocolAssignment<'_>) =
            decode_versioned(&response.assignment).map_err(|e| malformed(ApiKey::SyncGroup, e))?;
        let partitions = assignment.assigned_partitions.iter().flat_map(|topic| {
            let one = |&index| TopicPartition::new(&*topic.topic, PartitionId(index));
            topic.partitions.iter().map(one)
        });
        Ok(partitions.collect())
    }

    fn start_heartbeat(&mut self, connection: Arc<Connection>) {
        let (member, config) = (self.member.clone(), self.config.clone());
        let polled = Arc::clone(&self.polled);
        let beating = async move { heartbeat(&connection, &member, &config, &polled).await };
        self.heartbeat = Some(Spawner::current().spawn(beating));
    }

    /// Commits if the interval is over, or if we are about to rejoin.
    pub(super) async fn commit_if_due(
        &mut self,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), ConsumeError> {
        let Some(interval) = self.config.auto_commit_interval else { return Ok(()) };
        if !self.is_to_join() && self.last_commit_at.elapsed() < interval {
            return Ok(());
        }
        match self.commit(offsets).await {
            // Another member reads these records again; to say so would not help anybody.
            Err(ConsumeError::CommitOutdated) => Ok(()),
            result => result,
        }
    }

    /// Commits those of the offsets that are not committed yet.
    pub(super) async fn commit(
        &mut self,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), ConsumeError> {
        self.last_commit_at = time::now();
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition<'_>>> = BTreeMap::new();
        let changed = offsets.iter().filter(|(p, offset)| self.last_commit.get(p) != Some(offset));
        for (partition, offset) in changed {
            topics.entry(&partition.topic).or_default().push(OffsetCommitRequestPartition {
                partition_index: partition.partition.0,
                committed_offset: offset.0,
                committed_metadata: Some("".into()),
                ..Default::default()
            });
        }
        if topics.is_empty() {
            return Ok(());
        }
        let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
            name: name.into(),
            partitions,
            ..Default::default()
        });
        let member = self.member.clone();
        let request = OffsetCommitRequest {
            group_id: member.group.into(),
            generation_id_or_member_epoch: member.generation,
            member_id: member.id.into(),
            topics: topics.collect(),
            ..Default::default()
        };
        let cluster = Arc::clone(&self.cluster);
        let mut retry = cluster.retry();
        loop {
            let error = match self.try_commit(&request).await {
                Ok(()) => break,
                Err(error) => error,
            };
            if is_outdated(&error) {
                return Err(ConsumeError::CommitOutdated);
            }
            self.doubt_coordinator(&error);
            retry.after(error).await?;
        }
        self.last_commit.clone_from(offsets);
        Ok(())
    }

    async fn try_commit(&mut self, request: &OffsetCommitRequest<'_>) -> Result<(), RequestError> {
        // From v10 on topics are told by their ids.
        let reply = self.call(9, request, self.cluster.config.request_timeout).await?;
        for topic in reply.decode()?.topics {
            for partition in topic.partitions {
                Refusal::check(partition.error_code, None)?;
            }
        }
        Ok(())
    }

    /// What the group has committed in these partitions.
    pub(super) async fn committed(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>, ConsumeError> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let cluster = Arc::clone(&self.cluster);
        let mut retry = cluster.retry();
        loop {
            match self.try_committed(partitions).await {
                Ok(committed) => return Ok(committed),
                Err(error) => {
                    self.doubt_coordinator(&error);
                    retry.after(error).await?;
                }
            }
        }
    }

    async fn try_committed(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>, RequestError> {
        // From v8 on the question is a list of groups. In v7 a broker can be told to wait for
        // transactions that commit offsets of this group.
        const NEWEST: i16 = 7;
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            topics.entry(&partition.topic).or_default().push(partition.partition.0);
        }
        let topics = topics.into_iter().map(|(name, partition_indexes)| OffsetFetchRequestTopic {
            name: name.into(),
            partition_indexes,
        });
        let versions = self.connection().await?.versions_of(ApiKey::OffsetFetch);
        let request = OffsetFetchRequest {
            group_id: self.member.group.clone().into(),
            topics: Some(topics.collect()),
            require_stable: versions.is_some_and(|range| range.max >= NEWEST),
            ..Default::default()
        };
        let reply = self.call(NEWEST, &request, self.cluster.config.request_timeout).await?;
        let response = reply.decode()?;
        Refusal::check(response.error_code, None)?;
        let mut committed = BTreeMap::new();
        for topic in &response.topics {
            for p in &topic.partitions {
                Refusal::check(p.error_code, None)?;
                let partition = TopicPartition::new(&*topic.name, PartitionId(p.partition_index));
                if p.committed_offset >= 0 {
                    committed.insert(partition, Offset(p.committed_offset));
                }
            }
        }
        Ok(committed)
    }

    /// Says good-bye, so that the others need not wait for the session to time out.
    pub(super) async fn leave(&mut self) {
        if self.heartbeat.take().is_some()
            && let Ok(connection) = self.connection().await
        {
            leave(&connection, &self.member, self.cluster.config.request_timeout).await;
        }
    }

    async fn connection(&mut self) -> Result<Arc<Connection>, RequestError> {
        if let Some(connection) = self.connection.as_ref().filter(|c| c.closed().is_none()) {
            return Ok(Arc::clone(connection));
        }
        let connection = self.cluster.coordinator(&self.config.group).await?;
        self.connection = Some(Arc::clone(&connection));
        Ok(connection)
    }

    async fn call<'a, R: Request<'a>>(
        &mut self,
        newest: i16,
        request: &R,
        timeout: Duration,
    ) -> Result<Reply<R>, RequestError> {
        Ok(self.connection().await?.call_up_to(newest, request, timeout).await?)
    }

    /// Looks the coordinator up again if it is not the one any more.
    fn doubt_coordinator(&mut self, error: &RequestError) {
        if let Some(ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE) =
            refused_with(error)
        {
            self.connection = None;
        }
    }
}

/// Returns when the coordinator says that this generation is over, cannot be asked, or the
/// consumer does not poll any more.
async fn heartbeat(
    connection: &Connection,
    member: &Member,
    config: &GroupConfig,
    polled: &Mutex<Option<time::Instant>>,
) {
    let request = HeartbeatRequest {
        group_id: (&*member.group).into(),
        generation_id: member.generation,
        member_id: (&*member.id).into(),
        ..Default::default()
    };
    loop {
        time::sleep(config.heartbeat_interval).await;
        let idle = polled.lock().map_or(Duration::ZERO, |polled| polled.elapsed());
        if idle > config.max_poll_interval {
            return leave(connection, member, config.session_timeout).await;
        }
        let code = match connection.call(&request, config.session_timeout).await {
            Ok(reply) => reply.decode().map(|response| ErrorCode(response.error_code)),
            Err(error) => Err(error),
        };
        if !matches!(code, Ok(ErrorCode::NONE | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)) {
            return;
        }
    }
}

async fn leave(connection: &Connection, member: &Member, timeout: Duration) {
    let request = LeaveGroupRequest {
        group_id: (&*member.group).into(),
        member_id: (&*member.id).into(),
        ..Default::default()
    };
    // From v3 on the question is a list of members. If it fails, the session times out instead.
    let _ = connection.call_up_to(2, &request, timeout).await;
}

fn refused_with(error: &RequestError) -> Option<ErrorCode> {
    match error {
        RequestError::Refused(refusal) => Some(refusal.code),
        _ => None,
    }
}

fn is_outdated(error: &RequestError) -> bool {
    matches!(
        refused_with(error),
        Some(
            ErrorCode::REBALANCE_IN_PROGRESS
                | ErrorCode::ILLEGAL_GENERATION
                | ErrorCode::UNKNOWN_MEMBER_ID
                | ErrorCode::FENCED_INSTANCE_ID
        )
    )
}

fn malformed(api: ApiKey, reason: DecodeError) -> RequestError {
    CallError::Malformed { api, version: CONSUMER_PROTOCOL, reason }.into()
}

fn unwritable(reason: EncodeError) -> RequestError {
    CallError::Encode { api: ApiKey::JoinGroup, version: CONSUMER_PROTOCOL, reason }.into()
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
