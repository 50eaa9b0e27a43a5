//! A coordinator that leads the one partition of `__consumer_offsets`.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use ottla_coordinator::{Caller, GroupConfig, Groups, GroupsConfig, Later, Reply, RunnerConfig};
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetCommitResponse, OffsetDeleteRequest, OffsetFetchRequest, OffsetFetchResponse,
    SyncGroupRequest,
};
use ottla_protocol::{ErrorCode, Message, Request, encode_response};
use ottla_record::Codec;

use crate::memory::{CountingRandom, ManualClock, MemoryLog};
use crate::poll_once;

pub(crate) struct Node {
    pub(crate) groups: Groups,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) log: Arc<MemoryLog>,
}

impl Node {
    /// It leads the partition but has not loaded it.
    pub(crate) fn over(log: Arc<MemoryLog>) -> Self {
        let clock = Arc::new(ManualClock::default());
        let config = GroupsConfig {
            group: GroupConfig::default(),
            runner: RunnerConfig {
                commit_timeout_ms: 5_000,
                codec: Codec::None,
                load_bytes: 1_000,
                unpacked_bytes_max: 1_000_000,
            },
            partitions: 1,
        };
        let groups = Groups::new(config, clock.clone(), Arc::new(CountingRandom::default()));
        groups.elect(0, log.clone());
        Self { groups, clock, log }
    }

    pub(crate) fn loaded() -> Self {
        let node = Self::over(MemoryLog::new());
        node.load();
        node
    }

    pub(crate) fn load(&self) {
        self.groups.load(0).expect("the log can be loaded");
    }

    /// Whether the driver was woken since this was last asked.
    pub(crate) fn was_woken(&self) -> bool {
        let woken = pin!(self.groups.wake().woken());
        woken.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    pub(crate) fn done<R>(&self, reply: Reply<R>) -> R {
        match reply {
            Reply::Done(answer) => answer,
            Reply::Later(_) => panic!("it had to wait"),
        }
    }

    pub(crate) fn later<R>(&self, reply: Reply<R>) -> Later<R> {
        match reply {
            Reply::Done(_) => panic!("it did not have to wait"),
            Reply::Later(later) => later,
        }
    }

    pub(crate) fn is_ready<R>(&self, later: &mut Later<R>) -> bool {
        poll_once(later).is_ready()
    }

    /// The answer, which must have come by now.
    pub(crate) fn wait<R>(&self, mut later: Later<R>) -> R {
        match poll_once(&mut later) {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("it still waits"),
        }
    }

    pub(crate) fn join(&self, group: &str, api_version: i16) -> Reply<JoinGroupResponse<'static>> {
        let body = JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: b"m"[..].into(),
            }],
            ..Default::default()
        };
        let caller = Caller { client_id: "c", client_host: "/127.0.0.1", api_version };
        self.groups.join(caller, &body)
    }

    pub(crate) fn heartbeat(&self, group: &str, member: &str) -> Reply<HeartbeatResponse> {
        let (group_id, member_id) = (group.into(), member.into());
        let body = HeartbeatRequest { group_id, member_id, ..Default::default() };
        self.groups.heartbeat(&body)
    }

    pub(crate) fn commit(&self, group: &str, offset: i64) -> Reply<OffsetCommitResponse<'static>> {
        self.groups.commit_offsets(8, &commit_request(group, offset))
    }

    pub(crate) fn fetch(&self, group: &str) -> Reply<OffsetFetchResponse<'static>> {
        self.groups.fetch_offsets(8, &fetch_request(group))
    }

    /// The committed offset, which must not have to be waited for.
    pub(crate) fn fetched(&self, group: &str) -> i64 {
        fetched_offset(&self.done(self.fetch(group)))
    }
}

fn commit_request(group: &str, offset: i64) -> OffsetCommitRequest<'_> {
    let partition = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
    let partitions = vec![partition];
    let topic = OffsetCommitRequestTopic { name: "t".into(), partitions, ..Default::default() };
    OffsetCommitRequest { group_id: group.into(), topics: vec![topic], ..Default::default() }
}

/// Asks for the same in the form of old and of new versions.
fn fetch_request(group: &str) -> OffsetFetchRequest<'_> {
    let topics = vec![OffsetFetchRequestTopics {
        name: "t".into(),
        partition_indexes: vec![0],
        ..Default::default()
    }];
    OffsetFetchRequest {
        group_id: group.into(),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: "t".into(),
            partition_indexes: vec![0],
        }]),
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(topics),
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(crate) fn commit_code(response: &OffsetCommitResponse<'_>) -> ErrorCode {
    ErrorCode(response.topics[0].partitions[0].error_code)
}

pub(crate) fn fetched_offset(response: &OffsetFetchResponse<'_>) -> i64 {
    assert_eq!(response.groups[0].error_code, 0);
    response.groups[0].topics[0].partitions[0].committed_offset
}

/// What each api answers about a group that needs no member to be there.
pub(crate) fn coordinator_errors(node: &Node, group: &str) -> Vec<String> {
    let groups = &node.groups;
    let group_id = || group.to_owned().into();
    let sync = SyncGroupRequest { group_id: group_id(), ..Default::default() };
    let leave = LeaveGroupRequest { group_id: group_id(), ..Default::default() };
    let describe = DescribeGroupsRequest { groups: vec![group_id()], ..Default::default() };
    let delete = DeleteGroupsRequest { groups_names: vec![group_id()] };
    let offsets = OffsetDeleteRequest { group_id: group_id(), ..Default::default() };
    let fetched = node.done(node.fetch(group));
    let codes = [
        ("join", node.done(node.join(group, 9)).error_code),
        ("sync", node.done(groups.sync(&sync)).error_code),
        ("heartbeat", node.done(node.heartbeat(group, "m")).error_code),
        ("leave", node.done(groups.leave(5, &leave)).error_code),
        ("commit", commit_code(&node.done(node.commit(group, 1))).0),
        ("fetch", fetched.groups[0].error_code),
        ("describe", node.done(groups.describe(5, &describe)).groups[0].error_code),
        ("delete", node.done(groups.delete(&delete)).results[0].error_code),
        ("delete offsets", node.done(groups.delete_offsets(&offsets)).error_code),
        ("list", groups.list(&ListGroupsRequest::default()).error_code),
    ];
    let text = codes.iter().map(|(api, code)| format!("{api} {},", ErrorCode(*code)));
    let mut text: Vec<String> = text.collect();
    if let Some(last) = text.last_mut() {
        last.pop();
    }
    text
}

/// Has each api answer in each of its versions, with success and with an error, and writes the
/// response. Returns how many were written.
pub(crate) fn every_response(node: &Node) -> usize {
    let mut count = 0;
    for group in ["g", "another"] {
        let missing = group == "another";
        if missing {
            node.groups.resign(0);
        }
        let groups = &node.groups;
        let id = || group.to_owned().into();
        for v in versions::<JoinGroupRequest<'_>>() {
            if v >= 4 || missing {
                write::<JoinGroupRequest<'_>>(v, &node.done(node.join(group, v)), &mut count);
            }
        }
        for v in versions::<SyncGroupRequest<'_>>() {
            let body = SyncGroupRequest { group_id: id(), ..Default::default() };
            write::<SyncGroupRequest<'_>>(v, &node.done(groups.sync(&body)), &mut count);
        }
        for v in versions::<LeaveGroupRequest<'_>>() {
            let members = vec![MemberIdentity::default()];
            let body = LeaveGroupRequest { group_id: id(), members, ..Default::default() };
            write::<LeaveGroupRequest<'_>>(v, &node.done(groups.leave(v, &body)), &mut count);
        }
        for v in versions::<OffsetCommitRequest<'_>>() {
            let response = node.done(groups.commit_offsets(v, &commit_request(group, 5)));
            write::<OffsetCommitRequest<'_>>(v, &response, &mut count);
        }
        for v in versions::<OffsetFetchRequest<'_>>() {
            let response = node.done(groups.fetch_offsets(v, &fetch_request(group)));
            write::<OffsetFetchRequest<'_>>(v, &response, &mut count);
            if v < 8 {
                let code = response.topics.first().map(|topic| topic.partitions[0].error_code);
                let expected = match (missing, v < 2) {
                    (true, true) => Some(ErrorCode::NOT_COORDINATOR.0),
                    (true, false) => None,
                    (false, _) => Some(0),
                };
                assert_eq!(code, expected, "OffsetFetch v{v}");
            }
        }
        for v in versions::<DescribeGroupsRequest<'_>>() {
            let body =
                DescribeGroupsRequest { groups: vec![id(), "x".into()], ..Default::default() };
            let response = node.done(groups.describe(v, &body));
            write::<DescribeGroupsRequest<'_>>(v, &response, &mut count);
        }
        for v in versions::<ListGroupsRequest<'_>>() {
            write::<ListGroupsRequest<'_>>(v, &groups.list(&Default::default()), &mut count);
        }
        for v in versions::<OffsetDeleteRequest<'_>>() {
            let body = OffsetDeleteRequest { group_id: id(), ..Default::default() };
            let response = node.done(groups.delete_offsets(&body));
            write::<OffsetDeleteRequest<'_>>(v, &response, &mut count);
        }
        for v in versions::<DeleteGroupsRequest<'_>>() {
            let body = DeleteGroupsRequest { groups_names: vec![id()] };
            write::<DeleteGroupsRequest<'_>>(v, &node.done(groups.delete(&body)), &mut count);
        }
    }
    count
}

fn versions<'a, R: Request<'a>>() -> impl Iterator<Item = i16> {
    R::VERSIONS.min..=R::VERSIONS.max
}

fn write<'a, R: Request<'a>>(version: i16, response: &impl Message, count: &mut usize) {
    if let Err(error) = encode_response(1, R::API_KEY, version, response, Vec::new()) {
        panic!("{:?} v{version}: {error}", R::API_KEY);
    }
    *count += 1;
}
