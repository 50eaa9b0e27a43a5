//! A cluster that is a few vectors: what clients need of it, and the faults that a test plans.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ottla_client::{Client, ClientConfig};
use ottla_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, PartitionData,
};
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use ottla_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use ottla_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest, FetchRequest, FetchResponse,
    FindCoordinatorRequest, HeartbeatRequest, InitProducerIdRequest, InitProducerIdResponse,
    JoinGroupRequest, LeaveGroupRequest, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    MetadataResponse, OffsetCommitRequest, OffsetFetchRequest, ProduceRequest, ProduceResponse,
    SyncGroupRequest,
};
use ottla_protocol::{ApiKey, ErrorCode, Request, VersionRange};
use ottla_record::{RecordBatch, batches};
use ottla_runtime::{Random, World};
use parking_lot::Mutex;

use crate::loopback::{Answer, Asked, Loopback};

/// The topic that exists.
pub(crate) const TOPIC: &str = "orders";

/// What happens to the next request of an api instead of, or after, its being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is refused with this code and changes nothing.
    Refuse(ErrorCode),
    /// It is served, and the connection breaks before the answer.
    ServeAndHangUp,
    /// It is neither served nor answered.
    Ignore,
}

pub(crate) type Other = Box<dyn FnMut(&Asked) -> Answer + Send>;

/// Brokers 1 to `brokers` at `broker-N:9092`. All of them answer from one state.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) brokers: i32,
    /// The leader of each partition of [`TOPIC`].
    pub(crate) leaders: Vec<i32>,
    /// The batches of each partition, as stored.
    pub(crate) logs: Vec<Vec<Vec<u8>>>,
    pub(crate) log_start: i64,
    pub(crate) aborted: Vec<AbortedTransaction>,
    pub(crate) max_message_bytes: usize,
    pub(crate) faults: BTreeMap<i16, VecDeque<Fault>>,
    /// The apis that were asked, in order, with the broker; ApiVersions is left out.
    pub(crate) asked: Vec<(ApiKey, i32)>,
    next_producer_id: i64,
    /// So many answers to Metadata tell of no controller.
    pub(crate) without_controller: usize,
    /// Anything that is not served here.
    pub(crate) other: Option<Other>,
}

pub(crate) struct FakeCluster {
    pub(crate) network: Arc<Loopback>,
    pub(crate) state: Arc<Mutex<State>>,
}

struct NoRandom;

impl Random for NoRandom {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

impl FakeCluster {
    /// One broker that leads `partitions` partitions.
    pub(crate) fn new(partitions: usize) -> Self {
        Self::with_leaders(1, vec![1; partitions])
    }

    pub(crate) fn with_leaders(brokers: i32, leaders: Vec<i32>) -> Self {
        let network = Arc::new(Loopback::default());
        let logs = vec![Vec::new(); leaders.len()];
        let max_message_bytes = 1024 * 1024;
        let state = State { brokers, leaders, logs, max_message_bytes, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        for broker in 1..=brokers {
            let state = Arc::clone(&state);
            network.listen(&format!("broker-{broker}:9092"), move |asked| {
                state.lock().handle(broker, asked)
            });
        }
        Self { network, state }
    }

    pub(crate) fn client(&self) -> Client {
        let config = ClientConfig {
            request_timeout: Duration::from_secs(2),
            api_timeout: Duration::from_secs(10),
            ..ClientConfig::new(vec!["broker-1:9092".to_owned()])
        };
        let network: Arc<dyn ottla_runtime::Network> = self.network.clone();
        Client::new(&World { network, random: Arc::new(NoRandom), ..World::system() }, config)
    }

    pub(crate) fn plan(&self, api: ApiKey, faults: &[Fault]) {
        self.state.lock().faults.entry(api.into()).or_default().extend(faults);
    }

    /// How often an api was asked.
    pub(crate) fn count(&self, api: ApiKey) -> usize {
        self.state.lock().asked.iter().filter(|(asked, _)| *asked == api).count()
    }

    /// Appends a batch as a leader would.
    pub(crate) fn append(&self, partition: usize, batch: &[u8]) {
        self.state.lock().append(partition, batch);
    }

    /// The values of a partition, batch by batch.
    pub(crate) fn values(&self, partition: usize) -> Vec<Vec<String>> {
        let state = self.state.lock();
        state.logs[partition].iter().map(|batch| values(batch)).collect()
    }

    /// Producer id, base sequence and count of each batch of a partition.
    pub(crate) fn sequences(&self, partition: usize) -> Vec<(i64, i32, i32)> {
        let state = self.state.lock();
        let of = |bytes: &Vec<u8>| {
            let (batch, _) = RecordBatch::parse(bytes).unwrap();
            (batch.producer_id().0, batch.base_sequence().0, batch.count())
        };
        state.logs[partition].iter().map(of).collect()
    }
}

/// Every version of every api that a client of this crate calls.
fn offered() -> Vec<(ApiKey, VersionRange)> {
    fn api<'a, R: Request<'a>>() -> (ApiKey, VersionRange) {
        (R::API_KEY, R::VERSIONS)
    }
    vec![
        api::<MetadataRequest<'_>>(),
        api::<ProduceRequest<'_>>(),
        api::<FetchRequest<'_>>(),
        api::<ListOffsetsRequest<'_>>(),
        api::<InitProducerIdRequest<'_>>(),
        api::<CreateTopicsRequest<'_>>(),
        api::<DeleteTopicsRequest<'_>>(),
        api::<DescribeConfigsRequest<'_>>(),
        api::<FindCoordinatorRequest<'_>>(),
        api::<JoinGroupRequest<'_>>(),
        api::<SyncGroupRequest<'_>>(),
        api::<HeartbeatRequest<'_>>(),
        api::<LeaveGroupRequest<'_>>(),
        api::<OffsetCommitRequest<'_>>(),
        api::<OffsetFetchRequest<'_>>(),
    ]
}

fn values(batch: &[u8]) -> Vec<String> {
    let (batch, _) = RecordBatch::parse(batch).unwrap();
    let mut unpacked = Vec::new();
    let records = batch.records(&mut unpacked, 1 << 20).unwrap();
    records.map(|r| String::from_utf8(r.unwrap().value.unwrap().to_vec()).unwrap()).collect()
}

impl State {
    fn handle(&mut self, broker: i32, asked: &Asked) -> Answer {
        if let Some(versions) = asked.versions(&offered()) {
            return versions;
        }
        self.asked.push((asked.api(), broker));
        let planned = self.faults.get_mut(&asked.header.api_key);
        let fault = planned.and_then(VecDeque::pop_front);
        if fault == Some(Fault::Ignore) {
            return Answer::Silence;
        }
        let code = match fault {
            Some(Fault::Refuse(code)) => code,
            _ => ErrorCode::NONE,
        };
        let answer = self.serve(broker, code, asked);
        if fault == Some(Fault::ServeAndHangUp) { Answer::Last(Vec::new()) } else { answer }
    }

    fn serve(&mut self, broker: i32, code: ErrorCode, asked: &Asked) -> Answer {
        match asked.api() {
            ApiKey::Metadata => asked.answer(&self.metadata(&asked.request())),
            ApiKey::Produce => self.produce(broker, code, asked),
            ApiKey::Fetch => {
                let request: FetchRequest<'_> = asked.request();
                let response = self.fetch(code, &request);
                let mut partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
                let is_due = partitions.any(|p| {
                    p.error_code != 0 || p.records.as_ref().is_some_and(|r| !r.is_empty())
                });
                let wait = if is_due { 0 } else { request.max_wait_ms.unsigned_abs() };
                Answer::Later(Duration::from_millis(wait.into()), asked.frame(&response))
            }
            ApiKey::ListOffsets => asked.answer(&self.list_offsets(code, &asked.request())),
            ApiKey::InitProducerId => {
                self.next_producer_id += 1;
                asked.answer(&InitProducerIdResponse {
                    error_code: code.0,
                    producer_id: self.next_producer_id,
                    ..Default::default()
                })
            }
            api => match &mut self.other {
                Some(other) => other(asked),
                None => panic!("{api:?} is not served"),
            },
        }
    }

    fn metadata(&mut self, request: &MetadataRequest<'_>) -> MetadataResponse<'static> {
        let controller_id = if self.without_controller > 0 { -1 } else { 1 };
        self.without_controller = self.without_controller.saturating_sub(1);
        assert!(!request.allow_auto_topic_creation);
        let brokers = (1..=self.brokers).map(|node_id| MetadataResponseBroker {
            node_id,
            host: format!("broker-{node_id}").into(),
            port: 9092,
            ..Default::default()
        });
        let names: Vec<String> = match &request.topics {
            None => vec![TOPIC.to_owned()],
            Some(topics) => topics.iter().map(|t| t.name.clone().unwrap().into_owned()).collect(),
        };
        let topics = names.into_iter().map(|name| {
            if name != TOPIC {
                let error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
                let name = Some(name.into());
                return MetadataResponseTopic { error_code, name, ..Default::default() };
            }
            let partitions = (0..).zip(&self.leaders).map(|(partition_index, &leader_id)| {
                let (replica_nodes, isr_nodes) = (vec![leader_id], vec![leader_id]);
                MetadataResponsePartition {
                    partition_index,
                    leader_id,
                    replica_nodes,
                    isr_nodes,
                    ..Default::default()
                }
            });
            MetadataResponseTopic {
                name: Some(name.into()),
                partitions: partitions.collect(),
                ..Default::default()
            }
        });
        MetadataResponse {
            brokers: brokers.collect(),
            cluster_id: Some("fake".into()),
            controller_id,
            topics: topics.collect(),
            ..Default::default()
        }
    }

    fn produce(&mut self, broker: i32, code: ErrorCode, asked: &Asked) -> Answer {
        let request: ProduceRequest<'_> = asked.request();
        let topic = &request.topic_data[0];
        let data = &topic.partition_data[0];
        let partition = data.index as usize;
        let batch = data.records.as_ref().unwrap().as_bytes().unwrap();
        let (error_code, base_offset) = if code != ErrorCode::NONE {
            (code, -1)
        } else if self.leaders[partition] != broker {
            (ErrorCode::NOT_LEADER_OR_FOLLOWER, -1)
        } else if batch.len() > self.max_message_bytes {
            (ErrorCode::MESSAGE_TOO_LARGE, -1)
        } else {
            self.append_idempotently(partition, batch)
        };
        if request.acks == 0 {
            return Answer::Silence;
        }
        asked.answer(&ProduceResponse {
            responses: vec![TopicProduceResponse {
                name: topic.name.clone(),
                partition_responses: vec![PartitionProduceResponse {
                    index: data.index,
                    error_code: error_code.0,
                    base_offset,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        })
    }

    /// The rules of sequence numbers, for producers that have one batch in flight.
    fn append_idempotently(&mut self, partition: usize, batch: &[u8]) -> (ErrorCode, i64) {
        let (new, _) = RecordBatch::parse(batch).unwrap();
        let of_producer = |bytes: &&Vec<u8>| {
            let (batch, _) = RecordBatch::parse(bytes).unwrap();
            batch.has_producer_id() && batch.producer_id() == new.producer_id()
        };
        let last = self.logs[partition].iter().rev().find(of_producer);
        let expected = match last.map(|bytes| RecordBatch::parse(bytes).unwrap().0) {
            Some(last) if last.base_sequence() == new.base_sequence() => {
                return (ErrorCode::NONE, last.base_offset().0);
            }
            Some(last) => last.last_sequence().advance(1).0,
            None => 0,
        };
        if new.has_producer_id() && new.base_sequence().0 != expected {
            return (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
        }
        (ErrorCode::NONE, self.append(partition, batch))
    }

    fn end(&self, partition: usize) -> i64 {
        let last = self.logs[partition].last();
        last.map_or(0, |bytes| RecordBatch::parse(bytes).unwrap().0.next_offset().0)
    }

    fn append(&mut self, partition: usize, batch: &[u8]) -> i64 {
        let base = self.end(partition);
        let mut batch = batch.to_vec();
        // The base offset is not part of the checksum.
        batch[..8].copy_from_slice(&base.to_be_bytes());
        self.logs[partition].push(batch);
        base
    }

    fn fetch(&self, code: ErrorCode, request: &FetchRequest<'_>) -> FetchResponse<'static> {
        let responses = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let index = asked.partition as usize;
                let end = self.end(index);
                let in_log = (self.log_start..=end).contains(&asked.fetch_offset);
                let error_code = match code {
                    ErrorCode::NONE if !in_log => ErrorCode::OFFSET_OUT_OF_RANGE,
                    code => code,
                };
                let log = self.logs[index].concat();
                let wanted = batches(&log).map(Result::unwrap);
                let wanted = wanted.filter(|b| b.last_offset().0 >= asked.fetch_offset);
                let records: Vec<u8> = wanted.flat_map(|b| b.as_bytes().to_vec()).collect();
                PartitionData {
                    partition_index: asked.partition,
                    error_code: error_code.0,
                    high_watermark: end,
                    aborted_transactions: Some(self.aborted.clone()),
                    records: error_code.is_ok().then(|| records.into()),
                    ..Default::default()
                }
            });
            FetchableTopicResponse {
                topic: topic.topic.to_string().into(),
                partitions: partitions.collect(),
                ..Default::default()
            }
        });
        FetchResponse { responses: responses.collect(), ..Default::default() }
    }

    fn list_offsets(
        &self,
        code: ErrorCode,
        request: &ListOffsetsRequest<'_>,
    ) -> ListOffsetsResponse<'static> {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let offset = match asked.timestamp {
                    -1 => self.end(asked.partition_index as usize),
                    -2 => self.log_start,
                    // No record is that new.
                    _ => -1,
                };
                ListOffsetsPartitionResponse {
                    partition_index: asked.partition_index,
                    error_code: code.0,
                    offset,
                    ..Default::default()
                }
            });
            ListOffsetsTopicResponse {
                name: topic.name.to_string().into(),
                partitions: partitions.collect(),
            }
        });
        ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
    }
}
