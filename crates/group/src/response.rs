//! What a machine of groups answers.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_groups_response::DescribedGroup;
use ottla_protocol::messages::list_groups_response::ListedGroup;
use ottla_protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use ottla_protocol::messages::{
    HeartbeatResponse, JoinGroupResponse, LeaveGroupResponse, OffsetCommitResponse,
    OffsetDeleteResponse, SyncGroupResponse,
};

/// The answer to a [`Request`](crate::Request) of the same name.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each holds the response of the api that it is named after")]
pub enum Response {
    Join(JoinGroupResponse<'static>),
    Sync(SyncGroupResponse<'static>),
    Heartbeat(HeartbeatResponse),
    Leave(LeaveGroupResponse<'static>),
    Commit(OffsetCommitResponse<'static>),
    Fetch(OffsetFetchResponseGroup<'static>),
    Describe(DescribedGroup<'static>),
    List(Vec<ListedGroup<'static>>),
    Delete(ErrorCode),
    OffsetDelete(OffsetDeleteResponse<'static>),
    /// How many offsets were deleted.
    TopicsDeleted(usize),
}

/// Why an answer that waited for its records cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// `offsets.commit.timeout.ms` passed before the records were committed. They still may be.
    TimedOut,
    /// The records were not accepted, or this broker is no longer the coordinator.
    NotCoordinator,
}

impl Response {
    /// Turns the answer into the error that the failure is for its api.
    pub fn fail(&mut self, failure: Failure) {
        let offsets_error = match failure {
            Failure::TimedOut => ErrorCode::COORDINATOR_NOT_AVAILABLE,
            Failure::NotCoordinator => ErrorCode::NOT_COORDINATOR,
        };
        let group_error = match failure {
            Failure::TimedOut => ErrorCode::REBALANCE_IN_PROGRESS,
            Failure::NotCoordinator => ErrorCode::NOT_COORDINATOR,
        };
        match self {
            Self::Join(r) => *r = join_error(&r.member_id, group_error),
            Self::Sync(r) => *r = sync_error(group_error),
            Self::Heartbeat(r) => r.error_code = group_error.0,
            Self::Leave(r) => {
                r.error_code = group_error.0;
                r.members.clear();
            }
            Self::Commit(r) => {
                let codes = r.topics.iter_mut().flat_map(|t| &mut t.partitions);
                codes.for_each(|p| replace_success(&mut p.error_code, offsets_error));
            }
            Self::Fetch(r) => {
                r.error_code = offsets_error.0;
                r.topics.clear();
            }
            Self::Describe(r) => {
                let group_id = std::mem::take(&mut r.group_id);
                *r = DescribedGroup { group_id, error_code: offsets_error.0, ..Default::default() };
            }
            Self::List(groups) => groups.clear(),
            Self::Delete(error) => replace_success(&mut error.0, offsets_error),
            Self::OffsetDelete(r) => {
                replace_success(&mut r.error_code, offsets_error);
                r.topics.clear();
            }
            Self::TopicsDeleted(_) => {}
        }
    }
}

fn replace_success(code: &mut i16, error: ErrorCode) {
    if ErrorCode(*code).is_ok() {
        *code = error.0;
    }
}

/// A JoinGroup that failed. `member_id` is the id that the client is to go on with, "" if none.
#[must_use]
pub fn join_error(member_id: &str, error: ErrorCode) -> JoinGroupResponse<'static> {
    JoinGroupResponse {
        error_code: error.0,
        generation_id: -1,
        // Not nullable before version 7, and "" is what Kafka then says.
        protocol_name: Some("".into()),
        member_id: member_id.to_owned().into(),
        ..Default::default()
    }
}

/// A SyncGroup that failed.
#[must_use]
pub fn sync_error(error: ErrorCode) -> SyncGroupResponse<'static> {
    SyncGroupResponse { error_code: error.0, ..Default::default() }
}
