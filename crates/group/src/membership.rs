//! SyncGroup, Heartbeat and LeaveGroup: what members do between two joins.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::leave_group_response::MemberResponse;
use ottla_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest,
    SyncGroupResponse,
};

use crate::group::{Group, State};
use crate::machine::{Cx, Groups, Token};
use crate::members::Member;
use crate::records;
use crate::response::{Response, sync_error};
use crate::timers::Timer;

/// The first version that lets several members leave at once.
const LEAVE_MANY_SINCE: i16 = 3;

/// `None` if the request is parked, or was answered together with the others.
pub(crate) fn handle_sync(
    groups: &mut Groups,
    cx: &mut Cx<'_>,
    token: Token,
    body: &SyncGroupRequest<'_>,
) -> Option<SyncGroupResponse<'static>> {
    let Some(group) = groups.get_mut(&*body.group_id) else {
        return Some(sync_error(ErrorCode::UNKNOWN_MEMBER_ID));
    };
    if let Err(error) = group.check_sync(body) {
        return Some(sync_error(error));
    }
    match group.state {
        State::Empty => Some(sync_error(ErrorCode::UNKNOWN_MEMBER_ID)),
        State::PreparingRebalance => Some(sync_error(ErrorCode::REBALANCE_IN_PROGRESS)),
        State::CompletingRebalance => {
            group.park_sync(cx, token, &body.member_id);
            if group.is_leader(&body.member_id) {
                group.distribute(cx, body);
            }
            None
        }
        State::Stable => {
            group.set_synced(cx, &body.member_id);
            group.arm_session(cx, &body.member_id);
            let assignment = group.members.get(&body.member_id).map_or(&[][..], |m| &m.assignment);
            Some(group.synced(assignment))
        }
    }
}

impl Group {
    fn check_sync(&self, body: &SyncGroupRequest<'_>) -> Result<(), ErrorCode> {
        let instance_id = body.group_instance_id.as_deref();
        self.check_generation(&body.member_id, instance_id, body.generation_id)?;
        let differs = |asked: &Option<_>, own: &Option<String>| {
            asked.as_deref().is_some_and(|asked| own.as_deref() != Some(asked))
        };
        if differs(&body.protocol_type, &self.protocol_type)
            || differs(&body.protocol_name, &self.protocol)
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        Ok(())
    }

    fn park_sync(&mut self, cx: &mut Cx<'_>, token: Token, member_id: &str) {
        self.set_synced(cx, member_id);
        let Some(member) = self.members.get_mut(member_id) else { return };
        cx.cancel(&self.id, Timer::Session(Arc::clone(&member.id)));
        if let Some(earlier) = member.sync.replace(token) {
            cx.answer(earlier, Response::Sync(sync_error(ErrorCode::REBALANCE_IN_PROGRESS)));
        }
    }

    fn set_synced(&mut self, cx: &mut Cx<'_>, member_id: &str) {
        if self.pending_sync.remove(member_id) && self.pending_sync.is_empty() {
            cx.cancel(&self.id, Timer::Sync);
        }
    }

    /// The leader has assigned. The record of it, once replayed, makes the group stable; members
    /// that the leader forgot are assigned nothing.
    fn distribute(&mut self, cx: &mut Cx<'_>, body: &SyncGroupRequest<'_>) {
        let assigned: BTreeMap<&str, &[u8]> =
            body.assignments.iter().map(|a| (&*a.member_id, &*a.assignment)).collect();
        let of = |member: &Member| assigned.get(&*member.id).copied().unwrap_or(&[]);

        let record = records::group_metadata(&self.id, &self.metadata(of));
        if !record.fits_in(cx.now.batch_bytes_max) {
            self.fail_syncs(cx, ErrorCode::UNKNOWN_SERVER_ERROR);
            self.start_rebalance(cx, "the assignment does not fit in max.message.bytes");
            return;
        }
        cx.out.records.push(record);
        for id in self.members.ids() {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let Some(token) = member.sync.take() else { continue };
            let assignment = assigned.get(&*id).copied().unwrap_or(&[]);
            cx.answer(token, Response::Sync(self.synced(assignment)));
            self.arm_session(cx, &id);
        }
    }

    fn synced(&self, assignment: &[u8]) -> SyncGroupResponse<'static> {
        SyncGroupResponse {
            protocol_type: self.protocol_type.clone().map(Into::into),
            protocol_name: self.protocol.clone().map(Into::into),
            assignment: assignment.to_vec().into(),
            ..Default::default()
        }
    }

    /// Takes a leaving member out; the group goes on later. Says whether it took part: a member id
    /// that is merely pending did not.
    fn leave(&mut self, cx: &mut Cx<'_>, leaving: &MemberIdentity<'_>) -> Result<bool, ErrorCode> {
        let instance_id = leaving.group_instance_id.as_deref();
        let member_id: Arc<str> = if leaving.member_id.is_empty() {
            // An operator removes a static member by its instance id (KIP-345).
            let current = instance_id.and_then(|id| self.members.static_id(id));
            Arc::clone(current.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?)
        } else if let Some(pending) = self.pending.take(&*leaving.member_id) {
            cx.cancel(&self.id, Timer::Pending(pending));
            return Ok(false);
        } else {
            self.check_member(&leaving.member_id, instance_id)?;
            (&*leaving.member_id).into()
        };
        let reason = leaving.reason.as_deref().unwrap_or("not given");
        cx.note(&self.id, format!("member {member_id} left, reason: {reason}"));
        self.remove_member(cx, &member_id);
        Ok(true)
    }
}

pub(crate) fn handle_heartbeat(
    groups: &mut Groups,
    cx: &mut Cx<'_>,
    body: &HeartbeatRequest<'_>,
) -> HeartbeatResponse {
    let error = match groups.get(&*body.group_id) {
        None => ErrorCode::UNKNOWN_MEMBER_ID,
        Some(group) => heartbeat(group, cx, body).err().unwrap_or(ErrorCode::NONE),
    };
    HeartbeatResponse { error_code: error.0, ..Default::default() }
}

fn heartbeat(group: &Group, cx: &mut Cx<'_>, body: &HeartbeatRequest<'_>) -> Result<(), ErrorCode> {
    let instance_id = body.group_instance_id.as_deref();
    group.check_generation(&body.member_id, instance_id, body.generation_id)?;
    group.arm_session(cx, &body.member_id);
    match group.state {
        State::Empty => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        State::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
        State::CompletingRebalance | State::Stable => Ok(()),
    }
}

pub(crate) fn handle_leave(
    groups: &mut Groups,
    cx: &mut Cx<'_>,
    api_version: i16,
    body: &LeaveGroupRequest<'_>,
) -> LeaveGroupResponse<'static> {
    let single;
    let leaving = if api_version < LEAVE_MANY_SINCE {
        single = [MemberIdentity { member_id: body.member_id.clone(), ..Default::default() }];
        &single[..]
    } else {
        &body.members[..]
    };
    let mut group = groups.get_mut(&*body.group_id);
    let mut members = Vec::with_capacity(leaving.len());
    let mut some_left = false;
    for member in leaving {
        let result = match &mut group {
            Some(group) => group.leave(cx, member),
            None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        };
        some_left |= result == Ok(true);
        members.push(MemberResponse {
            member_id: member.member_id.to_string().into(),
            group_instance_id: member.group_instance_id.as_deref().map(|i| i.to_owned().into()),
            error_code: result.err().unwrap_or(ErrorCode::NONE).0,
        });
    }
    if let Some(group) = group {
        if some_left {
            group.rebalance_after_removal(cx, "members left");
        } else {
            group.complete_join_if_all_joined(cx);
        }
        if group.is_blank() {
            groups.remove(&*body.group_id);
        }
    }
    if api_version < LEAVE_MANY_SINCE {
        let error_code = members.first().map_or(0, |member| member.error_code);
        return LeaveGroupResponse { error_code, ..Default::default() };
    }
    LeaveGroupResponse { members, ..Default::default() }
}
