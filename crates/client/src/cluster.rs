//! The cluster as this client knows it: connections, and a cache of metadata.
//!
//! Owns: which broker is asked, when metadata is asked for again, the pause between attempts. Must
//! not know: records, groups.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ottla_connection::{Connection, ConnectionOptions, Reply};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponseTopic};
use ottla_protocol::messages::{FindCoordinatorRequest, MetadataRequest, MetadataResponse};
use ottla_protocol::{ErrorCode, Request};
use ottla_record::{BrokerId, LeaderEpoch, PartitionId};
use ottla_runtime::time::{self, Instant};
use ottla_runtime::{Clock, Network, Random, World};
use parking_lot::Mutex;

use crate::{ClientConfig, ConnectError, Refusal, RequestError};

/// Evaluates an attempt again and again until it succeeds, fails for good, or
/// `default.api.timeout.ms` have passed. (A function that takes an async closure would do, were its
/// future `Send`.)
macro_rules! retrying {
    ($cluster:expr, $attempt:expr) => {{
        let mut retry = $cluster.retry();
        loop {
            match $attempt.await {
                Ok(value) => break Ok(value),
                Err(error) => match retry.after(error).await {
                    Ok(()) => {}
                    Err(error) => break Err(error),
                },
            }
        }
    }};
}
pub(crate) use retrying;

/// What all parts of a client share.
pub(crate) struct Cluster {
    pub(crate) config: ClientConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    network: Arc<dyn Network>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    brokers: BTreeMap<BrokerId, Broker>,
    connections: BTreeMap<BrokerId, Arc<Connection>>,
    /// To one of the bootstrap addresses, whose broker id nobody told.
    bootstrap: Option<Arc<Connection>>,
    topics: BTreeMap<String, Arc<TopicMetadata>>,
}

/// A broker, as the cluster advertises it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// `broker.id`.
    pub id: BrokerId,
    /// Of the listener that was asked.
    pub host: String,
    /// Of the listener that was asked.
    pub port: i32,
    /// `broker.rack`.
    pub rack: Option<String>,
}

impl Broker {
    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A topic's partitions, as of one moment.
#[derive(Debug)]
pub(crate) struct TopicMetadata {
    /// In the order of their numbers, without gaps.
    pub(crate) partitions: Vec<PartitionMetadata>,
    fetched: Instant,
}

impl TopicMetadata {
    /// The leader of a partition, if the partition exists and has one.
    pub(crate) fn leader(&self, partition: PartitionId) -> Option<PartitionLeader> {
        let metadata = self.partitions.iter().find(|p| p.partition == partition)?;
        Some(PartitionLeader { broker: metadata.leader?, epoch: metadata.leader_epoch })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct PartitionMetadata {
    pub(crate) partition: PartitionId,
    pub(crate) leader: Option<BrokerId>,
    pub(crate) leader_epoch: LeaderEpoch,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("bootstrap", &self.config.bootstrap).finish_non_exhaustive()
    }
}

impl Cluster {
    pub(crate) fn new(world: &World, config: ClientConfig) -> Self {
        Self {
            config,
            clock: Arc::clone(&world.clock),
            random: Arc::clone(&world.random),
            network: Arc::clone(&world.network),
            state: Mutex::default(),
        }
    }

    /// The same cluster, seen over connections of its own.
    pub(crate) fn apart(&self) -> Self {
        Self {
            config: self.config.clone(),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            network: Arc::clone(&self.network),
            state: Mutex::default(),
        }
    }

    /// A connection to a broker: the one there is, or a new one.
    pub(crate) async fn connection(
        &self,
        broker: BrokerId,
    ) -> Result<Arc<Connection>, RequestError> {
        if !self.state.lock().brokers.contains_key(&broker) {
            self.metadata(Some(&[])).await?;
        }
        let address = {
            let state = self.state.lock();
            if let Some(connection) = living(state.connections.get(&broker)) {
                return Ok(connection);
            }
            let known = state.brokers.get(&broker);
            known.ok_or(ErrorCode::BROKER_NOT_AVAILABLE)?.address()
        };
        let connection = self.connect(&address).await?;
        // Two callers may have connected at once: the later one wins, the other's calls go on.
        self.state.lock().connections.insert(broker, Arc::clone(&connection));
        Ok(connection)
    }

    /// A connection to whichever broker answers: one that is connected, else one that is known,
    /// else one of the bootstrap addresses.
    pub(crate) async fn any_connection(&self) -> Result<Arc<Connection>, RequestError> {
        let addresses = {
            let state = self.state.lock();
            let connected = state.connections.values().chain(&state.bootstrap);
            if let Some(connection) = connected.into_iter().find_map(|c| living(Some(c))) {
                return Ok(connection);
            }
            let mut addresses: Vec<_> = state.brokers.values().map(Broker::address).collect();
            addresses.extend(self.config.bootstrap.iter().cloned());
            addresses
        };
        let mut failure = None;
        for address in &addresses {
            match self.connect(address).await {
                Ok(connection) => {
                    self.state.lock().bootstrap = Some(Arc::clone(&connection));
                    return Ok(connection);
                }
                // The first address is the one that the user thinks of.
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let is_first = self.state.lock().brokers.is_empty();
        Err(match failure {
            Some(error) if is_first => RequestError::Bootstrap(error),
            Some(error) => RequestError::Connect(error),
            None => ErrorCode::BROKER_NOT_AVAILABLE.into(),
        })
    }

    async fn connect(&self, address: &str) -> Result<Arc<Connection>, ConnectError> {
        let options = ConnectionOptions {
            client_id: self.config.client_id.clone(),
            setup_timeout: self.config.connection_setup_timeout,
            ..ConnectionOptions::default()
        };
        Connection::connect(&*self.network, address, &options).await.map(Arc::new)
    }

    /// Asks any broker.
    pub(crate) async fn call_any<'a, R: Request<'a>>(
        &self,
        request: &R,
    ) -> Result<Reply<R>, RequestError> {
        let connection = self.any_connection().await?;
        Ok(connection.call(request, self.config.request_timeout).await?)
    }

    /// Asks the active controller, with a version not above `newest`.
    pub(crate) async fn call_controller<'a, R: Request<'a>>(
        &self,
        newest: i16,
        request: &R,
    ) -> Result<Reply<R>, RequestError> {
        let reply = self.metadata(Some(&[])).await?;
        let controller = BrokerId(reply.decode()?.controller_id);
        if controller == BrokerId::NONE {
            // The next one is waited for, as after an answer of one that is it no more.
            return Err(ErrorCode::NOT_CONTROLLER.into());
        }
        let connection = self.connection(controller).await?;
        Ok(connection.call_up_to(newest, request, self.config.request_timeout).await?)
    }

    /// Asks for metadata of `topics` (`None`: all of them; `Some(&[])`: the brokers alone) and
    /// keeps what comes. Topics are never created by asking.
    pub(crate) async fn metadata(
        &self,
        topics: Option<&[&str]>,
    ) -> Result<Reply<MetadataRequest<'static>>, RequestError> {
        let topics = topics.map(|names| {
            names
                .iter()
                .map(|name| MetadataRequestTopic {
                    name: Some((*name).to_owned().into()),
                    ..Default::default()
                })
                .collect()
        });
        let request =
            MetadataRequest { topics, allow_auto_topic_creation: false, ..Default::default() };
        let reply = self.call_any(&request).await?;
        let response = reply.decode()?;
        Refusal::check(response.error_code, None)?;
        self.keep(&response);
        Ok(reply)
    }

    fn keep(&self, response: &MetadataResponse<'_>) {
        let mut state = self.state.lock();
        state.brokers = response.brokers.iter().map(broker).map(|b| (b.id, b)).collect();
        for topic in &response.topics {
            let Some(name) = &topic.name else { continue };
            // Any other error makes the topic unusable until it is asked for again.
            if topic.error_code == ErrorCode::NONE.0 {
                state.topics.insert(name.to_string(), Arc::new(topic_metadata(topic)));
            } else {
                state.topics.remove(&**name);
            }
        }
    }

    /// A topic's partitions, from the cache if it is there and not older than `metadata.max.age.ms`.
    pub(crate) async fn topic(&self, name: &str) -> Result<Arc<TopicMetadata>, RequestError> {
        let cached = self.state.lock().topics.get(name).map(Arc::clone);
        if let Some(topic) = cached
            && topic.fetched.elapsed() < self.config.metadata_max_age
        {
            return Ok(topic);
        }
        let reply = self.metadata(Some(&[name])).await?;
        let response = reply.decode()?;
        let topic = response.topics.iter().find(|topic| topic.name.as_deref() == Some(name));
        let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        Refusal::check(topic.error_code, None)?;
        Ok(Arc::new(topic_metadata(topic)))
    }

    /// Makes the next [`Cluster::topic`] ask, after an error that says that the cache is wrong.
    pub(crate) fn forget_topic(&self, name: &str) {
        self.state.lock().topics.remove(name);
    }

    /// The leader of a partition.
    pub(crate) async fn leader(
        &self,
        topic: &str,
        partition: PartitionId,
    ) -> Result<PartitionLeader, RequestError> {
        let metadata = self.topic(topic).await?;
        if !metadata.partitions.iter().any(|p| p.partition == partition) {
            return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into());
        }
        metadata.leader(partition).ok_or_else(|| {
            self.forget_topic(topic);
            ErrorCode::LEADER_NOT_AVAILABLE.into()
        })
    }

    /// The broker that coordinates a consumer group.
    pub(crate) async fn find_coordinator(&self, group: &str) -> Result<Broker, RequestError> {
        const GROUP: i8 = 0;
        let request =
            FindCoordinatorRequest { key: group.into(), key_type: GROUP, ..Default::default() };
        let connection = self.any_connection().await?;
        // From v4 on the question is a list of keys.
        let reply = connection.call_up_to(3, &request, self.config.request_timeout).await?;
        let response = reply.decode()?;
        Refusal::check(response.error_code, response.error_message.as_deref())?;
        Ok(Broker {
            id: BrokerId(response.node_id),
            host: response.host.to_string(),
            port: response.port,
            rack: None,
        })
    }

    /// A connection of its own to a group's coordinator: JoinGroup keeps it busy until all members
    /// have joined.
    pub(crate) async fn coordinator(&self, group: &str) -> Result<Arc<Connection>, RequestError> {
        let broker = self.find_coordinator(group).await?;
        Ok(self.connect(&broker.address()).await?)
    }

    /// A sequence of attempts that gives up after `default.api.timeout.ms`.
    pub(crate) fn retry(&self) -> Retry<'_> {
        self.retry_until(time::now() + self.config.api_timeout)
    }

    /// A sequence of attempts that gives up at `deadline`.
    pub(crate) fn retry_until(&self, deadline: Instant) -> Retry<'_> {
        Retry { cluster: self, deadline, pause: self.config.retry_backoff }
    }
}

/// Who leads a partition, and since which epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartitionLeader {
    pub(crate) broker: BrokerId,
    pub(crate) epoch: LeaderEpoch,
}

/// Pauses between attempts: `retry.backoff.ms`, doubled each time up to `retry.backoff.max.ms`,
/// ±20 % so that clients do not come back in step.
pub(crate) struct Retry<'a> {
    cluster: &'a Cluster,
    deadline: Instant,
    pause: Duration,
}

impl Retry<'_> {
    /// Returns after the pause if `error` is worth another attempt and there is time for one.
    pub(crate) async fn after(&mut self, error: RequestError) -> Result<(), RequestError> {
        if error.is_retriable() && self.pause().await { Ok(()) } else { Err(error) }
    }

    /// Pauses; `false`, at once, if there is no time for another attempt.
    pub(crate) async fn pause(&mut self) -> bool {
        let percent = 80 + (self.cluster.random.next_u64() % 41) as u32;
        let pause = self.pause * percent / 100;
        if time::now() + pause >= self.deadline {
            return false;
        }
        time::sleep(pause).await;
        self.pause = (self.pause * 2).min(self.cluster.config.retry_backoff_max);
        true
    }
}

fn living(connection: Option<&Arc<Connection>>) -> Option<Arc<Connection>> {
    connection.filter(|connection| connection.closed().is_none()).cloned()
}

pub(crate) fn broker(broker: &MetadataResponseBroker<'_>) -> Broker {
    Broker {
        id: BrokerId(broker.node_id),
        host: broker.host.to_string(),
        port: broker.port,
        rack: broker.rack.as_deref().map(str::to_owned),
    }
}

fn topic_metadata(topic: &MetadataResponseTopic<'_>) -> TopicMetadata {
    let mut partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|p| PartitionMetadata {
            partition: PartitionId(p.partition_index),
            leader: Some(BrokerId(p.leader_id)).filter(|&leader| leader != BrokerId::NONE),
            leader_epoch: LeaderEpoch(p.leader_epoch),
        })
        .collect();
    partitions.sort_by_key(|p| p.partition);
    TopicMetadata { partitions, fetched: time::now() }
}
