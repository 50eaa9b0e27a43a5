//! One group of the classic protocol: its state, and what a replayed record makes of it.
//!
//! Two kinds of state live side by side. *Persistent*: the committed offsets and the last written
//! group metadata (generation, protocol, leader, members and their assignments); only a
//! replayed record changes it. *Soft*: a rebalance in progress, parked requests, timers
//! and pending member ids; handlers change it, and a new coordinator starts without it, as the
//! protocol allows: its members are told to rejoin.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use ottla_protocol::ErrorCode;

use crate::machine::Cx;
use crate::members::{Member, Members, Protocol};
use crate::offsets::Offsets;
use crate::records::{GroupMetadata, MemberMetadata};
use crate::timers::Timer;

/// The state of a group. A deleted group is not kept: `Dead` is what it is called on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No members; it may hold offsets.
    Empty,
    /// Collecting JoinGroup requests.
    PreparingRebalance,
    /// Waiting for the leader's SyncGroup.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The first join phase of an empty group, which is prolonged while members arrive.
#[derive(Debug)]
pub(crate) struct InitialDelay {
    /// How much longer it may be prolonged.
    pub(crate) remaining_ms: u64,
    pub(crate) member_arrived: bool,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: Arc<str>,
    pub(crate) state: State,
    /// When the state was entered, in milliseconds of wall time; −1 if not known.
    pub(crate) state_since_ms: i64,
    /// 0 at birth, one more with each completed join phase.
    pub(crate) generation: i32,
    /// `consumer`, `connect`…; `None` in a group that never had a member.
    pub(crate) protocol_type: Option<String>,
    /// The protocol that the members of this generation voted for.
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<Arc<str>>,
    pub(crate) members: Members,
    /// Member ids handed out with MEMBER_ID_REQUIRED that nobody has joined with yet.
    pub(crate) pending: BTreeSet<Arc<str>>,
    /// Members of this generation that have not sent SyncGroup yet.
    pub(crate) pending_sync: BTreeSet<Arc<str>>,
    pub(crate) initial_delay: Option<InitialDelay>,
    /// Whether the log holds a group metadata record of it.
    pub(crate) is_stored: bool,
    pub(crate) offsets: Offsets,
}

impl Group {
    pub(crate) fn new(id: Arc<str>) -> Self {
        Self {
            id,
            state: State::Empty,
            state_since_ms: -1,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: Members::default(),
            pending: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            initial_delay: None,
            is_stored: false,
            offsets: Offsets::default(),
        }
    }

    /// Whether nothing would be lost if the group were forgotten.
    pub(crate) fn is_blank(&self) -> bool {
        self.state == State::Empty
            && self.pending.is_empty()
            && !self.is_stored
            && self.offsets.is_empty()
    }

    pub(crate) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Checks that the member is in the group and that its instance id, if it gave one, is its.
    pub(crate) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.members.static_id(instance_id) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(current) if &**current != member_id => {
                    return Err(ErrorCode::FENCED_INSTANCE_ID);
                }
                Some(_) => {}
            }
        }
        if self.members.contains(member_id) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }

    /// [`Group::check_member`], and that the member speaks of this generation.
    pub(crate) fn check_generation(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        self.check_member(member_id, instance_id)?;
        if generation == self.generation { Ok(()) } else { Err(ErrorCode::ILLEGAL_GENERATION) }
    }

    pub(crate) fn set_state(&mut self, cx: &Cx<'_>, state: State) {
        self.state = state;
        self.state_since_ms = cx.now.wall_ms;
    }

    /// Lets the member's session run anew, unless it stands still because a request of the member
    /// is parked.
    pub(crate) fn arm_session(&self, cx: &mut Cx<'_>, member_id: &str) {
        if let Some(member) = self.members.get(member_id)
            && !member.is_parked()
        {
            cx.arm(&self.id, Timer::Session(Arc::clone(&member.id)), member.session_timeout_ms);
        }
    }

    /// The metadata record of the group as it stands, with other assignments where `assignment`
    /// has any.
    pub(crate) fn metadata<'a>(
        &'a self,
        assignment: impl Fn(&'a Member) -> &'a [u8],
    ) -> GroupMetadata<'a> {
        let protocol = self.protocol.as_deref();
        GroupMetadata {
            protocol_type: self.protocol_type.as_deref().unwrap_or("").into(),
            generation: self.generation,
            protocol: protocol.map(Into::into),
            leader: self.leader.as_deref().map(Into::into),
            current_state_timestamp: self.state_since_ms,
            members: self
                .members
                .iter()
                .map(|member| MemberMetadata {
                    member_id: (&*member.id).into(),
                    group_instance_id: member.instance_id.as_deref().map(Into::into),
                    client_id: member.client_id.as_str().into(),
                    client_host: member.client_host.as_str().into(),
                    rebalance_timeout: member.rebalance_timeout_ms,
                    session_timeout: member.session_timeout_ms,
                    subscription: member.metadata(protocol.unwrap_or("")).into(),
                    assignment: assignment(member).into(),
                })
                .collect(),
        }
    }

    /// Makes the group what the record says. Members that live here too keep their soft state.
    pub(crate) fn replay_metadata(&mut self, value: &GroupMetadata<'_>) {
        self.is_stored = true;
        self.protocol_type =
            Some(value.protocol_type.clone().into_owned()).filter(|t| !t.is_empty());
        self.generation = value.generation;
        self.protocol = value.protocol.as_deref().map(str::to_owned);
        self.state_since_ms = value.current_state_timestamp;
        self.state = if value.members.is_empty() { State::Empty } else { State::Stable };
        self.initial_delay = None;

        let mut earlier = std::mem::take(&mut self.members);
        for stored in &value.members {
            let member = earlier.remove(&stored.member_id);
            self.members.insert(replay_member(member, stored, self.protocol.as_deref()));
        }
        self.leader = value
            .leader
            .as_deref()
            .and_then(|leader| self.members.get(leader))
            .map(|leader| Arc::clone(&leader.id));
        let Self { pending_sync, members, .. } = self;
        pending_sync.retain(|id| members.contains(id));
    }

    /// Forgets what group metadata records said: the group was deleted.
    pub(crate) fn replay_tombstone(&mut self) {
        let id = Arc::clone(&self.id);
        let offsets = std::mem::take(&mut self.offsets);
        *self = Self { offsets, ..Self::new(id) };
    }
}

fn replay_member(
    earlier: Option<Member>,
    stored: &MemberMetadata<'_>,
    protocol: Option<&str>,
) -> Member {
    let name = protocol.unwrap_or("");
    let mut member = match earlier {
        // The record holds one protocol of the several that a live member knows.
        Some(member) if member.metadata(name) == &*stored.subscription => member,
        _ => {
            let protocols =
                vec![Protocol { name: name.to_owned(), metadata: stored.subscription.to_vec() }];
            Member::new((&*stored.member_id).into(), None, protocols)
        }
    };
    member.instance_id = stored.group_instance_id.as_deref().map(str::to_owned);
    member.client_id = stored.client_id.clone().into_owned();
    member.client_host = stored.client_host.clone().into_owned();
    member.session_timeout_ms = stored.session_timeout;
    // Version 0 of the record has no rebalance timeout.
    member.rebalance_timeout_ms = if stored.rebalance_timeout < 0 {
        stored.session_timeout
    } else {
        stored.rebalance_timeout
    };
    member.assignment = stored.assignment.to_vec();
    member
}
