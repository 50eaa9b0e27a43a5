//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup and OffsetCommit.

use ottla_group::{Caller, Request, Response, join_error, sync_error};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, OffsetCommitRequest, OffsetCommitResponse, SyncGroupRequest,
    SyncGroupResponse,
};

use super::{Groups, Reply};

impl Groups {
    /// Answers JoinGroup. The answer may take as long as the group's rebalance.
    pub fn join(
        &self,
        caller: Caller<'_>,
        body: &JoinGroupRequest<'_>,
    ) -> Reply<JoinGroupResponse<'static>> {
        let fail = |error| join_error(&body.member_id, error);
        if body.group_id.is_empty() {
            return Reply::Done(fail(ErrorCode::INVALID_GROUP_ID));
        }
        let request = Request::Join { caller, fresh: self.random.bytes16(), body };
        let pick = |response| match response {
            Response::Join(response) => Some(response),
            _ => None,
        };
        self.call(&body.group_id, request, pick, fail)
    }

    /// Answers SyncGroup. The answer may wait for the leader of the group.
    pub fn sync(&self, body: &SyncGroupRequest<'_>) -> Reply<SyncGroupResponse<'static>> {
        let fail = |error| match error {
            // What the member was to be assigned is lost, and it has to join again.
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => sync_error(ErrorCode::REBALANCE_IN_PROGRESS),
            error => sync_error(error),
        };
        if body.group_id.is_empty() {
            return Reply::Done(fail(ErrorCode::INVALID_GROUP_ID));
        }
        let pick = |response| match response {
            Response::Sync(response) => Some(response),
            _ => None,
        };
        self.call(&body.group_id, Request::Sync(body), pick, fail)
    }

    /// Answers Heartbeat.
    pub fn heartbeat(&self, body: &HeartbeatRequest<'_>) -> Reply<HeartbeatResponse> {
        let fail = |error: ErrorCode| HeartbeatResponse {
            error_code: match error {
                // Sessions begin anew when the group is loaded.
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => ErrorCode::NONE.0,
                error => error.0,
            },
            ..Default::default()
        };
        if body.group_id.is_empty() {
            return Reply::Done(fail(ErrorCode::INVALID_GROUP_ID));
        }
        let pick = |response| match response {
            Response::Heartbeat(response) => Some(response),
            _ => None,
        };
        self.call(&body.group_id, Request::Heartbeat(body), pick, fail)
    }

    /// Answers LeaveGroup.
    pub fn leave(
        &self,
        api_version: i16,
        body: &LeaveGroupRequest<'_>,
    ) -> Reply<LeaveGroupResponse<'static>> {
        let fail =
            |error: ErrorCode| LeaveGroupResponse { error_code: error.0, ..Default::default() };
        if body.group_id.is_empty() {
            return Reply::Done(fail(ErrorCode::INVALID_GROUP_ID));
        }
        let pick = |response| match response {
            Response::Leave(response) => Some(response),
            _ => None,
        };
        self.call(&body.group_id, Request::Leave { api_version, body }, pick, fail)
    }

    /// Answers OffsetCommit. Topics go by name: where the request has ids instead, the caller
    /// fills in the names. The caller also leaves out what the client may not commit.
    pub fn commit_offsets(
        &self,
        api_version: i16,
        body: &OffsetCommitRequest<'_>,
    ) -> Reply<OffsetCommitResponse<'static>> {
        let pick = |response| match response {
            Response::Commit(response) => Some(response),
            _ => None,
        };
        let request = Request::Commit { api_version, body };
        self.call(&body.group_id, request, pick, |error| commit_error(body, error))
    }
}

/// The same error for every partition.
fn commit_error(body: &OffsetCommitRequest<'_>, error: ErrorCode) -> OffsetCommitResponse<'static> {
    let topics = body.topics.iter().map(|topic| OffsetCommitResponseTopic {
        name: topic.name.to_string().into(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: error.0,
            })
            .collect(),
    });
    OffsetCommitResponse { topics: topics.collect(), ..Default::default() }
}
