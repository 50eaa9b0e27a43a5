//! JoinGroup: how members come in and come back.

use std::sync::Arc;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::join_group_response::JoinGroupResponseMember;
use ottla_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use ottla_record::Uuid;

use crate::group::{Group, State};
use crate::machine::{Caller, Cx, Groups, Token};
use crate::members::{Member, Protocol};
use crate::rebalance::NEW_MEMBER_JOIN_TIMEOUT_MS;
use crate::records;
use crate::response::{Response, join_error, sync_error};
use crate::timers::Timer;

/// The first version whose clients can be told to come back with a member id (KIP-394).
const MEMBER_ID_REQUIRED_SINCE: i16 = 4;
/// The first version whose leader can be told not to run the assignor (KIP-814).
const SKIP_ASSIGNMENT_SINCE: i16 = 9;
/// The longest string that records and old request versions can carry, in bytes.
const STRING_MAX: usize = i16::MAX as usize;

/// A JoinGroup request with what is known about its sender.
struct Join<'a> {
    token: Token,
    caller: &'a Caller<'a>,
    body: &'a JoinGroupRequest<'a>,
    instance_id: Option<&'a str>,
    rebalance_timeout_ms: i32,
}

/// `None` if the request is parked.
pub(crate) fn handle_join(
    groups: &mut Groups,
    cx: &mut Cx<'_>,
    token: Token,
    caller: &Caller<'_>,
    fresh: [u8; 16],
    body: &JoinGroupRequest<'_>,
) -> Answer {
    let sessions_ms = cx.config.min_session_timeout_ms..=cx.config.max_session_timeout_ms;
    if !sessions_ms.contains(&body.session_timeout_ms) {
        return Some(join_error(&body.member_id, ErrorCode::INVALID_SESSION_TIMEOUT));
    }
    let is_new = body.member_id.is_empty();
    if !groups.contains_key(&*body.group_id) {
        if !is_new {
            return Some(join_error(&body.member_id, ErrorCode::UNKNOWN_MEMBER_ID));
        }
        if groups.len() >= cx.config.max_groups {
            return Some(join_error("", ErrorCode::COORDINATOR_NOT_AVAILABLE));
        }
        let id: Arc<str> = (&*body.group_id).into();
        groups.insert(Arc::clone(&id), Group::new(id));
    }
    let group = groups.get_mut(&*body.group_id)?;
    let join = Join {
        token,
        caller,
        body,
        instance_id: body.group_instance_id.as_deref(),
        // Version 0 has none.
        rebalance_timeout_ms: if caller.api_version == 0 {
            body.session_timeout_ms
        } else {
            body.rebalance_timeout_ms
        },
    };
    let response =
        if is_new { group.join_new(cx, &join, fresh) } else { group.join_known(cx, &join) };
    if group.is_blank() {
        groups.remove(&*body.group_id);
    }
    response
}

/// What a handler of JoinGroup returns: `None` if the request is parked.
type Answer = Option<JoinGroupResponse<'static>>;

impl Group {
    /// A JoinGroup without a member id.
    fn join_new(&mut self, cx: &mut Cx<'_>, join: &Join<'_>, fresh: [u8; 16]) -> Answer {
        if !self.has_room_for("", cx.config.max_size) {
            return Some(join_error("", ErrorCode::GROUP_MAX_SIZE_REACHED));
        }
        if !self.supports_protocols(join.body) {
            return Some(join_error("", ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
        }
        let prefix = join.instance_id.unwrap_or(join.caller.client_id);
        let id: Arc<str> = format!("{prefix}-{}", uuid_text(fresh)).into();
        if id.len() > STRING_MAX {
            return Some(join_error("", ErrorCode::INVALID_REQUEST));
        }
        if let Some(instance_id) = join.instance_id {
            let current = self.members.static_id(instance_id).map(Arc::clone);
            return match current {
                Some(current) => self.replace_static_member(cx, join, &current, id),
                None => self.add_member(cx, join, id),
            };
        }
        if join.caller.api_version < MEMBER_ID_REQUIRED_SINCE {
            return self.add_member(cx, join, id);
        }
        if self.pending.len() >= cx.config.max_pending_members {
            return Some(join_error("", ErrorCode::GROUP_MAX_SIZE_REACHED));
        }
        self.pending.insert(Arc::clone(&id));
        cx.arm(&self.id, Timer::Pending(Arc::clone(&id)), join.body.session_timeout_ms);
        Some(join_error(&id, ErrorCode::MEMBER_ID_REQUIRED))
    }

    /// A JoinGroup with a member id.
    fn join_known(&mut self, cx: &mut Cx<'_>, join: &Join<'_>) -> Answer {
        let member_id = &*join.body.member_id;
        if !self.has_room_for(member_id, cx.config.max_size) {
            self.remove_pending(cx, member_id);
            self.remove_member(cx, member_id);
            self.complete_join_if_all_joined(cx);
            return Some(join_error("", ErrorCode::GROUP_MAX_SIZE_REACHED));
        }
        if !self.supports_protocols(join.body) {
            return Some(join_error(member_id, ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
        }
        // Ids are handed out to dynamic members only.
        if join.instance_id.is_none() && self.pending.contains(member_id) {
            return self.add_member(cx, join, member_id.into());
        }
        if let Err(error) = self.check_member(member_id, join.instance_id) {
            return Some(join_error(member_id, error));
        }
        let is_unchanged =
            self.members.get(member_id).is_some_and(|m| m.protocols() == protocols(join.body));
        match self.state {
            // Its earlier answer may have been lost.
            State::CompletingRebalance if is_unchanged => Some(self.joined(member_id)),
            State::Stable if is_unchanged && !self.is_leader(member_id) => {
                Some(self.joined(member_id))
            }
            // A leader that comes back may have seen the topics change.
            State::Stable if is_unchanged => {
                let reason = format!("leader {member_id} rejoined");
                self.rejoin(cx, join, member_id, &reason)
            }
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                let reason = format!("member {member_id} rejoined with other metadata");
                self.rejoin(cx, join, member_id, &reason)
            }
            State::Empty => Some(join_error(member_id, ErrorCode::UNKNOWN_MEMBER_ID)),
        }
    }

    /// Whether one more JoinGroup would not exceed `group.max.size`.
    fn has_room_for(&self, member_id: &str, max_size: usize) -> bool {
        match self.state {
            State::Empty => true,
            // Those that are waiting count, so that the last to rejoin are the ones without room,
            // should the limit have been lowered.
            State::PreparingRebalance => {
                self.members.get(member_id).is_some_and(Member::awaits_join)
                    || self.members.awaiting_join() < max_size
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains(member_id) || self.members.len() < max_size
            }
        }
    }

    fn supports_protocols(&self, body: &JoinGroupRequest<'_>) -> bool {
        if self.state == State::Empty {
            return !body.protocol_type.is_empty() && !body.protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(&*body.protocol_type)
            && body.protocols.iter().any(|p| self.members.all_support(&p.name))
    }

    fn add_member(&mut self, cx: &mut Cx<'_>, join: &Join<'_>, id: Arc<str>) -> Answer {
        if let Some(delay) = &mut self.initial_delay {
            delay.member_arrived = true;
        }
        self.remove_pending(cx, &id);
        if self.members.is_empty() {
            self.protocol_type = Some(join.body.protocol_type.clone().into_owned());
        }
        self.leader.get_or_insert_with(|| Arc::clone(&id));

        let instance_id = join.instance_id.map(str::to_owned);
        let mut member = Member::new(Arc::clone(&id), instance_id, protocols(join.body));
        member.client_id = join.caller.client_id.to_owned();
        member.client_host = join.caller.client_host.to_owned();
        member.session_timeout_ms = join.body.session_timeout_ms;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.is_new = true;
        self.members.insert(member);
        self.members.park_join(&id, join.token);
        cx.arm(&self.id, Timer::Session(Arc::clone(&id)), NEW_MEMBER_JOIN_TIMEOUT_MS);

        self.start_rebalance(cx, &format!("member {id} joined"));
        self.complete_join_if_all_joined(cx);
        None
    }

    /// A member that is known joins the next generation.
    fn rejoin(&mut self, cx: &mut Cx<'_>, join: &Join<'_>, id: &str, reason: &str) -> Answer {
        self.update_member(cx, join, id);
        self.start_rebalance(cx, reason);
        self.complete_join_if_all_joined(cx);
        None
    }

    /// Takes over what the request says about the member, and parks the request.
    fn update_member(&mut self, cx: &mut Cx<'_>, join: &Join<'_>, id: &str) {
        self.members.set_protocols(id, protocols(join.body));
        if let Some(earlier) = self.members.park_join(id, join.token) {
            let error = join_error(id, ErrorCode::REBALANCE_IN_PROGRESS);
            cx.answer(earlier, Response::Join(error));
        }
        let Some(member) = self.members.get_mut(id) else { return };
        member.session_timeout_ms = join.body.session_timeout_ms;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        if !member.is_new {
            cx.cancel(&self.id, Timer::Session(Arc::clone(&member.id)));
        }
    }

    /// The static member `current` came back without its member id (KIP-345): it gets a new one,
    /// and in a stable group it keeps its assignment without a rebalance.
    fn replace_static_member(
        &mut self,
        cx: &mut Cx<'_>,
        join: &Join<'_>,
        current: &Arc<str>,
        id: Arc<str>,
    ) -> Answer {
        let leader_before = self.leader.clone();
        self.rename_static_member(cx, current, &id);
        match self.state {
            State::Stable => {
                self.update_member(cx, join, &id);
                let record = records::group_metadata(&self.id, &self.metadata(|m| &m.assignment));
                let fits = record.fits_in(cx.now.batch_bytes_max);
                if self.members.select_protocol() != self.protocol || !fits {
                    let reason = format!("static member {id} came back with other protocols");
                    self.start_rebalance(cx, &reason);
                    return None;
                }
                cx.note(&self.id, format!("static member {current} is now {id}"));
                cx.out.records.push(record);
                self.members.take_join(&id);
                self.arm_session(cx, &id);
                Some(self.joined_unchanged(join, &id, leader_before))
            }
            State::Empty | State::PreparingRebalance | State::CompletingRebalance => {
                self.rejoin(cx, join, &id, &format!("static member {current} is now {id}"))
            }
        }
    }

    /// Fences whoever still uses the old member id.
    fn rename_static_member(&mut self, cx: &mut Cx<'_>, current: &Arc<str>, id: &Arc<str>) {
        let error = ErrorCode::FENCED_INSTANCE_ID;
        if let Some(token) = self.members.take_join(current) {
            cx.answer(token, Response::Join(join_error(current, error)));
        }
        let Some(mut member) = self.members.remove(current) else { return };
        if let Some(token) = member.sync.take() {
            cx.answer(token, Response::Sync(sync_error(error)));
        }
        cx.cancel(&self.id, Timer::Session(Arc::clone(current)));
        member.id = Arc::clone(id);
        member.is_new = false;
        self.members.insert(member);
        if self.is_leader(current) {
            self.leader = Some(Arc::clone(id));
        }
        if self.pending_sync.remove(current) {
            self.pending_sync.insert(Arc::clone(id));
        }
    }

    /// The answer to a static member that came back to a stable group. A leader must not assign
    /// again: a new client is told so, an old one is told that the leader is still its old id.
    fn joined_unchanged(
        &self,
        join: &Join<'_>,
        id: &str,
        leader_before: Option<Arc<str>>,
    ) -> JoinGroupResponse<'static> {
        let joined = self.joined(id);
        if join.caller.api_version >= SKIP_ASSIGNMENT_SINCE {
            return JoinGroupResponse { skip_assignment: self.is_leader(id), ..joined };
        }
        let leader = leader_before.as_deref().unwrap_or("").to_owned().into();
        JoinGroupResponse { leader, members: Vec::new(), ..joined }
    }

    /// What a member of this generation is told: the leader also who the others are.
    pub(crate) fn joined(&self, member_id: &str) -> JoinGroupResponse<'static> {
        let protocol = self.protocol.as_deref().unwrap_or("");
        let member = |m: &Member| JoinGroupResponseMember {
            member_id: m.id.to_string().into(),
            group_instance_id: m.instance_id.clone().map(Into::into),
            metadata: m.metadata(protocol).to_vec().into(),
        };
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone().map(Into::into),
            protocol_name: Some(protocol.to_owned().into()),
            leader: self.leader.as_deref().unwrap_or("").to_owned().into(),
            member_id: member_id.to_owned().into(),
            members: if self.is_leader(member_id) {
                self.members.iter().map(member).collect()
            } else {
                Vec::new()
            },
            ..Default::default()
        }
    }

    fn remove_pending(&mut self, cx: &mut Cx<'_>, member_id: &str) {
        if let Some(id) = self.pending.take(member_id) {
            cx.cancel(&self.id, Timer::Pending(id));
        }
    }
}

fn protocols(body: &JoinGroupRequest<'_>) -> Vec<Protocol> {
    let protocol = |p: &JoinGroupRequestProtocol<'_>| Protocol {
        name: p.name.clone().into_owned(),
        metadata: p.metadata.to_vec(),
    };
    body.protocols.iter().map(protocol).collect()
}

/// A random UUID as Java writes it.
fn uuid_text(random: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(Uuid::from_random(random).0));
    let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    format!("{a}-{b}-{c}-{d}-{e}")
}
