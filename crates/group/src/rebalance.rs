//! The phases of a rebalance: it starts, members rejoin, a generation begins, members sync.

use std::sync::Arc;

use ottla_protocol::ErrorCode;

use crate::group::{Group, InitialDelay, State};
use crate::machine::Cx;
use crate::members::Member;
use crate::records::{self, GroupMetadata};
use crate::response::{self, Response};
use crate::timers::Timer;

/// How long a member that never had a JoinGroup answered is waited for, in milliseconds: no
/// heartbeats can be expected of it, and a client that is still there will have retried by then.
pub(crate) const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 5 * 60 * 1000;

impl Group {
    /// Starts a rebalance, unless one is already collecting members.
    pub(crate) fn start_rebalance(&mut self, cx: &mut Cx<'_>, reason: &str) {
        if self.state == State::PreparingRebalance {
            return;
        }
        if self.state == State::CompletingRebalance {
            self.fail_syncs(cx, ErrorCode::REBALANCE_IN_PROGRESS);
        }
        cx.cancel(&self.id, Timer::Sync);
        self.pending_sync.clear();

        let timeout_ms = self.members.max_rebalance_timeout_ms();
        let delay_ms = if self.state == State::Empty {
            let delay_ms = cx.config.initial_rebalance_delay_ms;
            let remaining_ms = u64::try_from(timeout_ms.saturating_sub(delay_ms)).unwrap_or(0);
            self.initial_delay = Some(InitialDelay { remaining_ms, member_arrived: false });
            delay_ms
        } else {
            timeout_ms
        };
        cx.note(
            &self.id,
            format!(
                "preparing to rebalance generation {} in state {}: {reason}",
                self.generation, self.state
            ),
        );
        self.set_state(cx, State::PreparingRebalance);
        cx.arm(&self.id, Timer::Join, delay_ms);
        self.complete_join_if_all_joined(cx);
    }

    /// Ends the join phase once every member has rejoined and no member id is pending. The first
    /// join phase of an empty group lasts for its whole delay.
    pub(crate) fn complete_join_if_all_joined(&mut self, cx: &mut Cx<'_>) {
        if self.state == State::PreparingRebalance
            && self.initial_delay.is_none()
            && self.members.awaiting_join() == self.members.len()
            && self.pending.is_empty()
        {
            self.complete_join(cx);
        }
    }

    /// The time of the join phase is up.
    pub(crate) fn handle_join_timer(&mut self, cx: &mut Cx<'_>) {
        if let Some(delay) = &mut self.initial_delay
            && delay.member_arrived
            && delay.remaining_ms > 0
        {
            let configured_ms = u64::try_from(cx.config.initial_rebalance_delay_ms).unwrap_or(0);
            let delay_ms = configured_ms.min(delay.remaining_ms);
            delay.member_arrived = false;
            delay.remaining_ms -= delay_ms;
            cx.arm_ms(&self.id, Timer::Join, delay_ms);
            return;
        }
        self.complete_join(cx);
    }

    fn complete_join(&mut self, cx: &mut Cx<'_>) {
        self.initial_delay = None;
        cx.cancel(&self.id, Timer::Join);
        for id in self.members.ids() {
            let is_late = |m: &Member| !m.awaits_join() && m.instance_id.is_none();
            if self.members.get(&id).is_some_and(is_late) {
                cx.note(&self.id, format!("member {id} did not rejoin in time"));
                self.remove_member(cx, &id);
            }
        }
        if self.members.is_empty() {
            self.become_empty(cx);
        } else if self.elect_joined_leader() {
            self.begin_generation(cx);
        } else {
            // Only static members are left. Their sessions will run out if they stay away.
            cx.note(&self.id, "no member rejoined, waiting again".to_owned());
            cx.arm(&self.id, Timer::Join, self.members.max_rebalance_timeout_ms());
        }
    }

    /// The last leader stays if it rejoined, else any that did takes its place. `false` if nobody
    /// rejoined.
    fn elect_joined_leader(&mut self) -> bool {
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        if leader.is_some_and(Member::awaits_join) {
            return true;
        }
        let Some(joined) = self.members.iter().find(|m| m.awaits_join()) else { return false };
        self.leader = Some(Arc::clone(&joined.id));
        true
    }

    /// The next generation has no members. Its record, once replayed, makes the group so.
    fn become_empty(&self, cx: &mut Cx<'_>) {
        let empty = GroupMetadata {
            generation: self.next_generation(),
            protocol: None,
            leader: None,
            current_state_timestamp: cx.now.wall_ms,
            ..self.metadata(|_| &[])
        };
        cx.note(&self.id, format!("generation {} is empty", empty.generation));
        cx.out.records.push(records::group_metadata(&self.id, &empty));
    }

    fn next_generation(&self) -> i32 {
        self.generation.checked_add(1).unwrap_or(0)
    }

    fn begin_generation(&mut self, cx: &mut Cx<'_>) {
        self.generation = self.next_generation();
        self.protocol = self.members.select_protocol();
        self.set_state(cx, State::CompletingRebalance);
        cx.note(
            &self.id,
            format!("generation {} begins with {} members", self.generation, self.members.len()),
        );
        self.pending_sync = self.members.ids().into_iter().collect();
        for id in self.members.ids() {
            if let Some(token) = self.members.take_join(&id) {
                let joined = self.joined(&id);
                cx.answer(token, Response::Join(joined));
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
            }
            self.arm_session(cx, &id);
        }
        cx.arm(&self.id, Timer::Sync, self.members.max_rebalance_timeout_ms());
    }

    /// The members did not sync in time: those that did not are removed.
    pub(crate) fn handle_sync_timer(&mut self, cx: &mut Cx<'_>) {
        let late = std::mem::take(&mut self.pending_sync);
        if late.is_empty() {
            return;
        }
        for id in &late {
            cx.note(&self.id, format!("member {id} did not sync in time"));
            self.remove_member(cx, id);
        }
        self.start_rebalance(cx, "members did not sync in time");
    }

    /// The session of the member ran out.
    pub(crate) fn handle_session_timer(&mut self, cx: &mut Cx<'_>, member_id: &str) {
        cx.note(&self.id, format!("the session of member {member_id} expired"));
        self.remove_member(cx, member_id);
        self.rebalance_after_removal(cx, "a session expired");
    }

    /// Nobody joined with the pending id.
    pub(crate) fn handle_pending_timer(&mut self, cx: &mut Cx<'_>, member_id: &str) {
        self.pending.remove(member_id);
        cx.note(&self.id, format!("nobody joined as {member_id}"));
        self.complete_join_if_all_joined(cx);
    }

    /// Takes the member out and answers what it has parked, so that it joins anew.
    pub(crate) fn remove_member(&mut self, cx: &mut Cx<'_>, member_id: &str) {
        if let Some(token) = self.members.take_join(member_id) {
            let error = response::join_error("", ErrorCode::UNKNOWN_MEMBER_ID);
            cx.answer(token, Response::Join(error));
        }
        let Some(member) = self.members.remove(member_id) else { return };
        if let Some(token) = member.sync {
            let error = response::sync_error(ErrorCode::UNKNOWN_MEMBER_ID);
            cx.answer(token, Response::Sync(error));
        }
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            cx.cancel(&self.id, Timer::Sync);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.iter().next().map(|first| Arc::clone(&first.id));
        }
        cx.cancel(&self.id, Timer::Session(member.id));
    }

    /// Goes on without members that were removed.
    pub(crate) fn rebalance_after_removal(&mut self, cx: &mut Cx<'_>, reason: &str) {
        match self.state {
            State::Empty => {}
            State::PreparingRebalance => self.complete_join_if_all_joined(cx),
            State::CompletingRebalance | State::Stable => self.start_rebalance(cx, reason),
        }
    }

    /// Answers all parked SyncGroups with an error; nobody has an assignment.
    pub(crate) fn fail_syncs(&mut self, cx: &mut Cx<'_>, error: ErrorCode) {
        for id in self.members.ids() {
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.assignment.clear();
            if let Some(token) = member.sync.take() {
                cx.answer(token, Response::Sync(response::sync_error(error)));
                self.arm_session(cx, &id);
            }
        }
    }
}
