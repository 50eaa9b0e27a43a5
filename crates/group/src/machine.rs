//! The groups of one partition of `__consumer_offsets`, as a replicated machine.
//!
//! A handler returns records and answers. The caller appends the records as one batch, replays
//! them at once, and gives the answers when they are committed. If the append fails, the machine
//! and its log no longer agree: it is dropped, and another is made from the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest,
    OffsetDeleteRequest, SyncGroupRequest,
};
use ottla_protocol::{DecodeError, ErrorCode};
use ottla_record::Uuid;

use crate::config::GroupConfig;
use crate::group::Group;
use crate::records::{self, Key, Record};
use crate::response::{self, Response};
use crate::timers::{Timer, Timers};
use crate::{admin, join, membership, offsets};

/// The moment of an event, as the machine is told it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Milliseconds of a clock that never goes back; all deadlines are in it.
    pub elapsed_ms: u64,
    /// Milliseconds since 1970-01-01 UTC; what records are stamped with.
    pub wall_ms: i64,
    /// The largest batch that the log takes at present (`max.message.bytes` of its topic).
    pub batch_bytes_max: usize,
}

/// Names a request that is owed an answer. The caller chooses it and never chooses one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// `client.id` of the request header, "" if it has none.
    pub client_id: &'a str,
    /// The address as Kafka writes it, such as `/10.0.0.7`.
    pub client_host: &'a str,
    /// The version of the request.
    pub api_version: i16,
}

/// A request that concerns one group, or all groups of the partition.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each is the request of the api that it is named after")]
pub enum Request<'a> {
    Join {
        caller: Caller<'a>,
        /// Sixteen random bytes for the member id, should one be needed.
        fresh: [u8; 16],
        body: &'a JoinGroupRequest<'a>,
    },
    Sync(&'a SyncGroupRequest<'a>),
    Heartbeat(&'a HeartbeatRequest<'a>),
    Leave {
        api_version: i16,
        body: &'a LeaveGroupRequest<'a>,
    },
    /// Topics go by name; where the request has ids instead, the caller fills in the names.
    Commit {
        api_version: i16,
        body: &'a OffsetCommitRequest<'a>,
    },
    /// OffsetFetch of one group; `None` asks for all its partitions.
    Fetch {
        group_id: &'a str,
        topics: Option<&'a [FetchTopic<'a>]>,
    },
    Describe {
        api_version: i16,
        group_id: &'a str,
    },
    List,
    Delete {
        group_id: &'a str,
    },
    OffsetDelete(&'a OffsetDeleteRequest<'a>),
    /// These topics were deleted, and with them what was committed for them. One request deletes
    /// what fits in a batch; it is to be repeated until nothing was left.
    TopicsDeleted(&'a [&'a str]),
}

/// The partitions of a topic whose committed offsets are asked for.
#[derive(Clone, Copy, Debug)]
pub struct FetchTopic<'a> {
    /// The topic's name.
    pub name: &'a str,
    /// The topic's id if the request has one, to be repeated in the response.
    pub topic_id: Uuid,
    /// Which of its partitions.
    pub partitions: &'a [i32],
}

/// What an event leads to.
#[derive(Debug, Default)]
pub struct Output {
    /// To be appended as one batch and replayed, before the machine handles anything else.
    pub records: Vec<Record>,
    /// To be given once `records` are committed.
    pub answers: Vec<(Token, Response)>,
    /// The answers tell of records appended earlier, and must wait for those to be committed.
    pub reads: bool,
    /// What happened to which group, for the log.
    pub notes: Vec<(Arc<str>, String)>,
}

/// One event being handled: the world as it sees it, and what comes of it.
pub(crate) struct Cx<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a GroupConfig,
    pub(crate) out: &'a mut Output,
    timers: &'a mut Timers,
}

impl Cx<'_> {
    pub(crate) fn answer(&mut self, token: Token, response: Response) {
        self.out.answers.push((token, response));
    }

    pub(crate) fn note(&mut self, group: &Arc<str>, text: String) {
        self.out.notes.push((Arc::clone(group), text));
    }

    /// Arms a timer after `delay_ms`; a negative delay is none.
    pub(crate) fn arm(&mut self, group: &Arc<str>, timer: Timer, delay_ms: i32) {
        self.arm_ms(group, timer, u64::try_from(delay_ms).unwrap_or(0));
    }

    pub(crate) fn arm_ms(&mut self, group: &Arc<str>, timer: Timer, delay_ms: u64) {
        self.timers.arm(group, timer, self.now.elapsed_ms.saturating_add(delay_ms));
    }

    pub(crate) fn cancel(&mut self, group: &Arc<str>, timer: Timer) {
        self.timers.cancel(group, timer);
    }
}

pub(crate) type Groups = BTreeMap<Arc<str>, Group>;

/// The groups of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct GroupMachine {
    config: Arc<GroupConfig>,
    groups: Groups,
    timers: Timers,
}

impl GroupMachine {
    /// A machine without groups. The log is replayed into it, then [`GroupMachine::handle_loaded`].
    #[must_use]
    pub fn new(config: Arc<GroupConfig>) -> Self {
        Self { config, groups: Groups::new(), timers: Timers::default() }
    }

    /// The number of groups.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// Handles a request. If the output has no answer for `token`, the request is parked, and a
    /// later output will have it.
    pub fn handle(&mut self, now: Now, token: Token, request: Request<'_>) -> Output {
        let mut out = Output::default();
        let (groups, mut cx) = self.parts(now, &mut out);
        let response = match request {
            Request::Join { caller, fresh, body } => {
                join::handle_join(groups, &mut cx, token, &caller, fresh, body).map(Response::Join)
            }
            Request::Sync(body) => {
                membership::handle_sync(groups, &mut cx, token, body).map(Response::Sync)
            }
            Request::Heartbeat(body) => {
                Some(Response::Heartbeat(membership::handle_heartbeat(groups, &mut cx, body)))
            }
            Request::Leave { api_version, body } => {
                Some(Response::Leave(membership::handle_leave(groups, &mut cx, api_version, body)))
            }
            Request::Commit { api_version, body } => {
                Some(Response::Commit(offsets::handle_commit(groups, &mut cx, api_version, body)))
            }
            Request::Fetch { group_id, topics } => {
                cx.out.reads = true;
                Some(Response::Fetch(offsets::fetch(groups, group_id, topics)))
            }
            Request::Describe { api_version, group_id } => {
                cx.out.reads = true;
                Some(Response::Describe(admin::describe(groups, api_version, group_id)))
            }
            Request::List => Some(Response::List(admin::list(groups))),
            Request::Delete { group_id } => {
                Some(Response::Delete(admin::handle_delete(groups, &mut cx, group_id)))
            }
            Request::OffsetDelete(body) => {
                Some(Response::OffsetDelete(admin::handle_offset_delete(groups, &mut cx, body)))
            }
            Request::TopicsDeleted(topics) => {
                Some(Response::TopicsDeleted(admin::handle_topics_deleted(groups, &mut cx, topics)))
            }
        };
        if let Some(response) = response {
            cx.answer(token, response);
        }
        out
    }

    /// The elapsed time in milliseconds at which [`GroupMachine::handle_timer`] has work.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.timers.next_deadline_ms()
    }

    /// Handles one timer that is due; `None` if none is. To be called until then, with the records
    /// of each output appended and replayed before the next.
    pub fn handle_timer(&mut self, now: Now) -> Option<Output> {
        let (id, timer) = self.timers.take_due(now.elapsed_ms)?;
        let mut out = Output::default();
        let (groups, mut cx) = self.parts(now, &mut out);
        if let Some(group) = groups.get_mut(&id) {
            match timer {
                Timer::Join => group.handle_join_timer(&mut cx),
                Timer::Sync => group.handle_sync_timer(&mut cx),
                Timer::Session(member_id) => group.handle_session_timer(&mut cx, &member_id),
                Timer::Pending(member_id) => group.handle_pending_timer(&mut cx, &member_id),
            }
            if group.is_blank() {
                groups.remove(&id);
            }
        }
        Some(out)
    }

    /// Applies a record of the log. It is the only way in which persistent state changes, on
    /// loading as well as when a record was just appended. Record types of other protocols are
    /// skipped.
    ///
    /// # Errors
    /// Key or value is not what its type says; nothing changed.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), DecodeError> {
        let id = match records::decode_key(key)? {
            Key::Offset(key) => {
                match value {
                    Some(value) => {
                        let value = records::decode_value(value)?;
                        self.group(&key.group).offsets.insert(&key.topic, key.partition, value);
                    }
                    None => {
                        if let Some(group) = self.groups.get_mut(&*key.group) {
                            group.offsets.remove(&key.topic, key.partition);
                        }
                    }
                }
                key.group
            }
            Key::Group(key) => {
                match value {
                    Some(value) => {
                        let value = records::decode_value(value)?;
                        self.group(&key.group).replay_metadata(&value);
                    }
                    None => {
                        if let Some(group) = self.groups.get_mut(&*key.group) {
                            group.replay_tombstone();
                        }
                    }
                }
                key.group
            }
            Key::Other => return Ok(()),
        };
        if value.is_none() && self.groups.get(&*id).is_some_and(Group::is_blank) {
            self.groups.remove(&*id);
        }
        Ok(())
    }

    /// The log was replayed: members that were loaded get their session timeout to be heard of.
    pub fn handle_loaded(&mut self, now: Now) -> Output {
        let mut out = Output::default();
        let (groups, mut cx) = self.parts(now, &mut out);
        for group in groups.values_mut() {
            for id in group.members.ids() {
                group.arm_session(&mut cx, &id);
            }
            if group.members.len() > cx.config.max_size {
                group.start_rebalance(&mut cx, "the group is larger than group.max.size");
            }
        }
        out
    }

    /// Ends the machine: what is parked in it is answered NOT_COORDINATOR.
    #[must_use]
    pub fn unload(self) -> Vec<(Token, Response)> {
        let error = ErrorCode::NOT_COORDINATOR;
        let mut answers = Vec::new();
        for mut group in self.groups.into_values() {
            for id in group.members.ids() {
                if let Some(token) = group.members.take_join(&id) {
                    answers.push((token, Response::Join(response::join_error(&id, error))));
                }
                if let Some(token) = group.members.get_mut(&id).and_then(|m| m.sync.take()) {
                    answers.push((token, Response::Sync(response::sync_error(error))));
                }
            }
        }
        answers
    }

    fn parts<'a>(&'a mut self, now: Now, out: &'a mut Output) -> (&'a mut Groups, Cx<'a>) {
        let Self { config, groups, timers } = self;
        (groups, Cx { now, config, out, timers })
    }

    fn group(&mut self, id: &str) -> &mut Group {
        if !self.groups.contains_key(id) {
            let id: Arc<str> = id.into();
            self.groups.insert(Arc::clone(&id), Group::new(id));
        }
        self.groups.get_mut(id).expect("it was inserted if it was not there")
    }
}
