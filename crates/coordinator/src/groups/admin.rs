//! DescribeGroups, ListGroups, DeleteGroups and OffsetDelete.

use std::sync::atomic::Ordering;

use ottla_group::{Request, Response};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::delete_groups_response::DeletableGroupResult;
use ottla_protocol::messages::describe_groups_response::DescribedGroup;
use ottla_protocol::messages::list_groups_response::ListedGroup;
use ottla_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    ListGroupsRequest, ListGroupsResponse, OffsetDeleteRequest, OffsetDeleteResponse,
};

use super::{Groups, Reply, unavailable_code};
use crate::runner::Answer;

impl Groups {
    /// Answers DescribeGroups, without authorized operations.
    pub fn describe(
        &self,
        api_version: i16,
        body: &DescribeGroupsRequest<'_>,
    ) -> Reply<DescribeGroupsResponse<'static>> {
        let pick = |response| match response {
            Response::Describe(response) => Some(response),
            _ => None,
        };
        let replies = body.groups.iter().map(|group_id| {
            let fail = |error: ErrorCode| DescribedGroup {
                group_id: group_id.to_string().into(),
                error_code: error.0,
                ..Default::default()
            };
            self.call(group_id, Request::Describe { api_version, group_id }, pick, fail)
        });
        let response = |groups| DescribeGroupsResponse { groups, ..Default::default() };
        Reply::all(replies.collect()).map(response)
    }

    /// Answers ListGroups with the groups that this broker coordinates. While some are being
    /// loaded, the others come with COORDINATOR_LOAD_IN_PROGRESS.
    pub fn list(&self, body: &ListGroupsRequest<'_>) -> ListGroupsResponse<'static> {
        if !self.is_active.load(Ordering::Acquire) {
            let error_code = ErrorCode::COORDINATOR_NOT_AVAILABLE.0;
            return ListGroupsResponse { error_code, ..Default::default() };
        }
        let mut response = ListGroupsResponse::default();
        let runners: Vec<_> = self.runners.read().values().cloned().collect();
        for runner in runners {
            match runner.handle(Request::List) {
                Ok(Answer::Ready(Response::List(groups))) => {
                    response.groups.extend(groups.into_iter().filter(|g| is_listed(g, body)));
                }
                Ok(_) => response.error_code = ErrorCode::UNKNOWN_SERVER_ERROR.0,
                Err(unavailable) => {
                    let error = unavailable_code(unavailable);
                    // Another broker lists what this one does not coordinate.
                    if error != ErrorCode::NOT_COORDINATOR {
                        response.error_code = error.0;
                    }
                }
            }
        }
        response
    }

    /// Answers DeleteGroups.
    pub fn delete(&self, body: &DeleteGroupsRequest<'_>) -> Reply<DeleteGroupsResponse<'static>> {
        let pick = |response| match response {
            Response::Delete(error) => Some(error),
            _ => None,
        };
        let replies = body.groups_names.iter().map(|group_id| {
            let name = group_id.to_string();
            self.call(group_id, Request::Delete { group_id }, pick, |error| error)
                .map(|error| DeletableGroupResult { group_id: name.into(), error_code: error.0 })
        });
        let response = |results| DeleteGroupsResponse { results, ..Default::default() };
        Reply::all(replies.collect()).map(response)
    }

    /// Answers OffsetDelete. The caller leaves out what the client may not delete.
    pub fn delete_offsets(
        &self,
        body: &OffsetDeleteRequest<'_>,
    ) -> Reply<OffsetDeleteResponse<'static>> {
        let fail =
            |error: ErrorCode| OffsetDeleteResponse { error_code: error.0, ..Default::default() };
        if body.group_id.is_empty() {
            return Reply::Done(fail(ErrorCode::INVALID_GROUP_ID));
        }
        let pick = |response| match response {
            Response::OffsetDelete(response) => Some(response),
            _ => None,
        };
        self.call(&body.group_id, Request::OffsetDelete(body), pick, fail)
    }

    /// Deletes what groups committed for topics that do not exist any more. A partition that is
    /// not loaded keeps it.
    pub fn handle_topics_deleted(&self, topics: &[&str]) {
        let runners: Vec<_> = self.runners.read().values().cloned().collect();
        for runner in runners {
            // Each round deletes a batch; the last one finds nothing.
            let is_done = || match runner.handle(Request::TopicsDeleted(topics)) {
                Ok(Answer::Ready(Response::TopicsDeleted(count))) => count == 0,
                Ok(_) => false,
                Err(_) => true,
            };
            while !is_done() {}
        }
    }
}

/// Whether the filters of the request, which do not mind upper and lower case, let the group pass.
fn is_listed(group: &ListedGroup<'_>, body: &ListGroupsRequest<'_>) -> bool {
    let has = |filter: &[std::borrow::Cow<'_, str>], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    has(&body.states_filter, &group.group_state) && has(&body.types_filter, &group.group_type)
}
