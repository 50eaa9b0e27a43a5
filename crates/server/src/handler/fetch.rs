//! Fetch: reads record batches, waiting for them if there are too few.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use ottla_log::Slice;
use ottla_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
};
use ottla_protocol::messages::{FetchRequest, FetchResponse};
use ottla_protocol::{ErrorCode, Records};
use ottla_record::{LeaderEpoch, Offset, PartitionId, Uuid};
use ottla_replication::{Isolation, Partitions};
use ottla_runtime::time;
use parking_lot::Mutex;

use crate::authorize::{Operation, Resource};
use crate::call::{Call, Close, Responder};
use crate::dispatch::Services;
use crate::fetch::{Key, Outcome, Plan, Session, SessionError, Wanted};
use crate::handler::hosted;
use crate::network::{Reply, Response};

/// From this version on topics are named by their id (KIP-516).
const TOPIC_IDS_FROM: i16 = 13;
/// From this version on there are sessions (KIP-227).
const SESSIONS_FROM: i16 = 7;
/// The session epoch of a request outside of sessions.
const FINAL_EPOCH: i32 = -1;
/// The session epoch of a request that asks for a new session.
const INITIAL_EPOCH: i32 = 0;

const READ_COMMITTED: i8 = 1;

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let request: FetchRequest<'_> = call.decode()?;
    if is_follower(&request) {
        // Nobody replicates from this broker: it has no followers to tell apart from impostors.
        return refuse(call, ErrorCode::INVALID_REQUEST);
    }
    let (session, session_id, incremental) = match open(&call, &request, services) {
        Ok(opened) => opened,
        Err(code) => return refuse(call, code),
    };
    let bytes_max = request.max_bytes.min(services.config.network.fetch_max_bytes);
    let fetch = Fetching {
        session,
        session_id,
        incremental,
        by_id: call.version() >= TOPIC_IDS_FROM,
        isolation: match request.isolation_level {
            READ_COMMITTED => Isolation::ReadCommitted,
            _ => Isolation::ReadUncommitted,
        },
        bytes_max: usize::try_from(bytes_max).unwrap_or(0),
        bytes_min: usize::try_from(request.min_bytes.min(bytes_max)).unwrap_or(0),
    };
    let outcomes = fetch.read();
    if request.max_wait_ms <= 0 || fetch.suffices(&outcomes) {
        let (response, slices) = fetch.response(outcomes);
        return call.respond_with(&response, slices);
    }
    fetch.session.lock().plan.await_more(&outcomes);
    drop(outcomes);
    let wait = Duration::from_millis(request.max_wait_ms.unsigned_abs().into());
    Ok(Reply::Later(Box::pin(fetch.wait(wait, call.responder()))))
}

fn is_follower(request: &FetchRequest<'_>) -> bool {
    request.replica_id >= 0 || request.replica_state.replica_id >= 0
}

fn refuse(call: Call<'_>, code: ErrorCode) -> Result<Reply, Close> {
    call.respond(&FetchResponse { error_code: code.0, ..Default::default() })
}

/// What a request reads from: its session or a plan for this once, the id to answer with, and
/// whether the answer may leave out what has not changed.
type Opened = (Arc<Mutex<Session>>, i32, bool);

fn open(
    call: &Call<'_>,
    request: &FetchRequest<'_>,
    services: &Services,
) -> Result<Opened, ErrorCode> {
    let sessions = &services.fetch_sessions;
    let (id, epoch) = (request.session_id, request.session_epoch);
    if call.version() >= SESSIONS_FROM && epoch != FINAL_EPOCH && epoch != INITIAL_EPOCH {
        let session = sessions.resume(id, epoch).map_err(|error| match error {
            SessionError::NotFound => ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
            SessionError::InvalidEpoch => ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        })?;
        {
            let mut session = session.lock();
            forget(call, request, services, &mut session.plan);
            want(call, request, services, &mut session.plan);
        }
        return Ok((session, id, true));
    }
    if id != 0 {
        sessions.close(id);
    }
    let mut plan = Plan::new();
    want(call, request, services, &mut plan);
    if call.version() >= SESSIONS_FROM && epoch == INITIAL_EPOCH && plan.len() > 0 {
        let (id, session) = sessions.open(plan, services.world.random.next_u64());
        return Ok((session, id, false));
    }
    Ok((Session::unnamed(plan), 0, false))
}

/// Adds the request's partitions to the plan.
fn want(call: &Call<'_>, request: &FetchRequest<'_>, services: &Services, plan: &mut Plan) {
    let by_id = call.version() >= TOPIC_IDS_FROM;
    for topic in &request.topics {
        let hosted = match by_id {
            true => services.partitions.topic_by_id(topic.topic_id),
            false => services.partitions.topic(&topic.topic),
        };
        let name = hosted.as_ref().map_or_else(|| Arc::from(&*topic.topic), |t| t.name.clone());
        let principal = &call.client.principal;
        let resource = Resource::Topic(&name);
        let allowed = services.authorizer.authorize(principal, Operation::Read, resource);
        for partition in &topic.partitions {
            let id = PartitionId(partition.partition);
            let source = if !allowed {
                Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED)
            } else {
                match &hosted {
                    Some(hosted) => hosted::find_in(hosted, id),
                    None if by_id => Err(ErrorCode::UNKNOWN_TOPIC_ID),
                    None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                }
            };
            let wanted = Wanted {
                fetch_offset: Offset(partition.fetch_offset),
                bytes_max: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
                current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
                last_fetched_epoch: LeaderEpoch(partition.last_fetched_epoch),
            };
            let key = Key { topic: name.clone(), topic_id: topic.topic_id, partition: id };
            plan.want(key, wanted, source);
        }
    }
}

/// Takes the partitions that the client no longer wants out of the plan.
fn forget(call: &Call<'_>, request: &FetchRequest<'_>, services: &Services, plan: &mut Plan) {
    for topic in &request.forgotten_topics_data {
        let name = name_of(&services.partitions, &topic.topic, topic.topic_id, call.version());
        for &partition in &topic.partitions {
            let partition = PartitionId(partition);
            plan.forget(&Key { topic: name.clone(), topic_id: topic.topic_id, partition });
        }
    }
}

fn name_of(partitions: &Partitions, name: &str, id: Uuid, version: i16) -> Arc<str> {
    let hosted = (version >= TOPIC_IDS_FROM).then(|| partitions.topic_by_id(id)).flatten();
    hosted.map_or_else(|| Arc::from(name), |topic| topic.name.clone())
}

/// A fetch under way.
struct Fetching {
    session: Arc<Mutex<Session>>,
    session_id: i32,
    incremental: bool,
    by_id: bool,
    isolation: Isolation,
    bytes_max: usize,
    bytes_min: usize,
}

impl Fetching {
    fn read(&self) -> Vec<Outcome> {
        let mut session = self.session.lock();
        session.plan.absorb_moved();
        session.plan.read(self.bytes_max, self.isolation, !self.incremental)
    }

    /// Whether these outcomes are worth an answer now.
    fn suffices(&self, outcomes: &[Outcome]) -> bool {
        let bytes: usize = outcomes.iter().flat_map(|o| &o.slice).map(|slice| slice.len).sum();
        bytes >= self.bytes_min
            || outcomes.iter().any(|o| o.error != ErrorCode::NONE || o.diverging.is_some())
    }

    /// Reads again whenever a partition moves, until there is enough or the time is up.
    async fn wait(self, longest: Duration, responder: Responder) -> Result<Response, Close> {
        let deadline = time::now() + longest;
        let watch = self.session.lock().plan.watch().clone();
        loop {
            let left = deadline.saturating_duration_since(time::now());
            let in_time = time::timeout(left, watch.moved()).await.is_ok();
            if !self.incremental {
                // The answer has every partition, also those where nothing moved.
                self.session.lock().plan.enqueue_all();
            }
            let outcomes = self.read();
            if !in_time || self.suffices(&outcomes) {
                let (response, slices) = self.response(outcomes);
                return responder.respond_with(&response, slices);
            }
            self.session.lock().plan.await_more(&outcomes);
        }
    }

    fn response(&self, outcomes: Vec<Outcome>) -> (FetchResponse<'static>, Vec<Slice>) {
        self.session.lock().plan.tell(&outcomes);
        let mut responses: Vec<FetchableTopicResponse<'static>> = Vec::new();
        let mut slices = Vec::new();
        for outcome in outcomes {
            let same = responses.last().is_some_and(|last| match self.by_id {
                true => last.topic_id == outcome.topic_id,
                false => *last.topic == *outcome.topic,
            });
            if !same {
                responses.push(FetchableTopicResponse {
                    topic: match self.by_id {
                        true => Cow::Borrowed(""),
                        false => Cow::Owned(outcome.topic.as_ref().to_owned()),
                    },
                    topic_id: if self.by_id { outcome.topic_id } else { Uuid::ZERO },
                    partitions: Vec::new(),
                });
            }
            let partition = self.partition(outcome, &mut slices);
            if let Some(topic) = responses.last_mut() {
                topic.partitions.push(partition);
            }
        }
        let session_id = self.session_id;
        (FetchResponse { session_id, responses, ..Default::default() }, slices)
    }

    fn partition(&self, outcome: Outcome, slices: &mut Vec<Slice>) -> PartitionData<'static> {
        let records = match outcome.slice {
            None => Records::from(&[][..]),
            Some(slice) => {
                let len = slice.len;
                slices.push(slice);
                Records::Spliced(len)
            }
        };
        let diverging = outcome.diverging.map_or_else(EpochEndOffset::default, |(epoch, end)| {
            EpochEndOffset { epoch: epoch.0, end_offset: end.0 }
        });
        let aborted = outcome.aborted.iter().map(|aborted| AbortedTransaction {
            producer_id: aborted.producer_id.0,
            first_offset: aborted.first_offset.0,
        });
        let aborted = aborted.collect();
        PartitionData {
            partition_index: outcome.partition.0,
            error_code: outcome.error.0,
            high_watermark: outcome.high_watermark.0,
            last_stable_offset: outcome.last_stable_offset.0,
            log_start_offset: outcome.log_start_offset.0,
            diverging_epoch: diverging,
            aborted_transactions: (self.isolation == Isolation::ReadCommitted).then_some(aborted),
            records: Some(records),
            ..Default::default()
        }
    }
}
