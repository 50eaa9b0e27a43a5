//! Starting and stopping a node.
//!
//! Order of starting: log directories are locked; the session with the tree begins; what Kafka left is
//! adopted, at the first start; the broker's id is found to be free; logs are opened; listeners are bound;
//! the broker registers; only then is the first request read. Order of stopping: no more requests; the
//! session ends; logs are closed; the directories are marked as clean.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use ottla_keeper::OpenError;
use ottla_log::{DirectoryError, LogDirectory, LogManager, OpenOptions, TopicPartition};
use ottla_metadata::admin::{
    self, AdminError, RegisterError, create_top_level_paths, get_or_create_cluster_id,
};
use ottla_metadata::znodes::{BrokerRegistration, Endpoint, SecurityProtocol};
use ottla_metadata::{ClusterMetadata, Tree, TreeError};
use ottla_record::{BrokerId, Uuid};
use ottla_replication::Partitions;
use ottla_runtime::net::{ListenOptions, Listener as Socket};
use ottla_runtime::task::Worker;
use ottla_runtime::{BufferPool, Spawner, Task, World, process, task, time};

use crate::adoption::{self, AdoptionError};
use crate::authorize::Authorizer;
use crate::cleaning;
use crate::cluster::{ChangeError, Cluster, Parts, log_config};
use crate::config::{self, BrokerConfig, CoordinationConfig};
use crate::coordination::{Coordination, KEEPER_DIR};
use crate::dispatch::Services;
use crate::fetch::SessionCache;
use crate::flushing;
use crate::groups::GroupCoordinator;
use crate::housekeeping;
use crate::membership::{ClaimError, Member, Unclaimed, claim};
use crate::moving;
use crate::network::{Acceptor, Admission, ConnectionSettings, FrameBudget};
use crate::producer_ids::ProducerIds;
use crate::tls::TlsError;
use crate::topics::OFFSETS_TOPIC;

/// How often it is looked whether a log directory is left.
const DIRECTORIES_CHECK: Duration = Duration::from_secs(1);

/// A node that serves.
pub struct Node {
    services: Arc<Services>,
    logs: Arc<LogManager>,
    coordination: Coordination,
    listening: Vec<Listening>,
    acceptors: Vec<Task<()>>,
    housekeeping: Vec<Task<()>>,
    /// Dropped last: connections end with their worker.
    workers: Vec<Worker>,
}

/// Where a node listens.
#[derive(Clone, Debug)]
pub struct Listening {
    /// The listener's name.
    pub listener: String,
    /// The bound address.
    pub address: SocketAddr,
}

/// Why a node did not start.
#[derive(Debug)]
pub enum StartError {
    /// A log directory cannot be used.
    Directory(DirectoryError),
    /// The first log directory is offline, where the metadata is.
    FirstDirectory {
        /// The directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// What Kafka left in the log directories cannot be adopted.
    Adoption(AdoptionError),
    /// The keeper's directory cannot be used.
    Keeper(OpenError),
    /// A key store or trust store cannot be used.
    Tls(TlsError),
    /// The tree of znodes did not answer.
    Tree(TreeError),
    /// Another process has the broker's id.
    Claim(ClaimError),
    /// The broker could not register.
    Register(RegisterError),
    /// Another broker is a member of the cluster.
    Member {
        /// Its id.
        other: BrokerId,
    },
    /// The cluster's metadata could not be read or completed.
    Metadata(String),
    /// A listener could not be bound.
    Bind {
        /// The listener, as configured.
        listener: String,
        /// What the system said.
        error: io::Error,
        /// Who listens there already, where the system tells.
        holder: Option<String>,
    },
    /// A thread could not be started.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(error) => error.fmt(f),
            Self::FirstDirectory { dir, reason } => write!(
                f,
                "{} is offline ({reason}), and the broker cannot run without the first one of \
                 log.dirs: its metadata is there",
                dir.display()
            ),
            Self::Adoption(error) => error.fmt(f),
            Self::Keeper(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Tree(error) => write!(f, "metadata: {error}"),
            Self::Claim(error) => error.fmt(f),
            Self::Register(error) => error.fmt(f),
            Self::Member { other } => write!(
                f,
                "broker {other} is a member of this cluster, and an Ottla broker is the only one of its \
                 cluster so far: stop broker {other}, or keep this one out of its cluster"
            ),
            Self::Metadata(error) => write!(f, "metadata: {error}"),
            Self::Bind { listener, error, holder: Some(holder) } => {
                write!(f, "cannot listen on {listener}: {error}; {holder} listens there")
            }
            Self::Bind { listener, error, holder: None } => {
                write!(f, "cannot listen on {listener}: {error}")
            }
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<DirectoryError> for StartError {
    fn from(error: DirectoryError) -> Self {
        Self::Directory(error)
    }
}

impl From<AdoptionError> for StartError {
    fn from(error: AdoptionError) -> Self {
        match error {
            AdoptionError::Directory(error) => Self::Directory(error),
            error => Self::Adoption(error),
        }
    }
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl From<TreeError> for StartError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

impl From<AdminError> for StartError {
    fn from(error: AdminError) -> Self {
        Self::Metadata(error.to_string())
    }
}

impl From<Unclaimed> for StartError {
    fn from(error: Unclaimed) -> Self {
        match error {
            Unclaimed::Taken(error) => Self::Claim(error),
            Unclaimed::Failed(error) => error.into(),
        }
    }
}

impl From<ChangeError> for StartError {
    fn from(error: ChangeError) -> Self {
        Self::Metadata(error.to_string())
    }
}

impl Node {
    /// Starts a node on the runtime that this is called on, which becomes its control runtime.
    pub async fn start(world: World, config: BrokerConfig) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let prospect = adoption::look_first(&world, &config, KEEPER_DIR)?;
        let directories = config.log_dirs.iter();
        let mut directories = directories
            .map(|dir| LogDirectory::open(&world, dir, config.id))
            .collect::<Result<Vec<_>, _>>()?;
        directories[0].claim();
        let failure = directories[0].failure().map(str::to_owned);
        check_first(&config, failure)?;
        let mut coordination = Coordination::start(&world, &config, &directories[0]).await?;
        let tree: Arc<dyn Tree> = coordination.tree.clone();

        adoption::adopt(&world, &config, prospect, &*tree).await?;
        create_top_level_paths(&*tree).await?;
        let new_id = Uuid::from_random(world.random.bytes16());
        let cluster_id = get_or_create_cluster_id(&*tree, new_id).await?;
        directories.iter_mut().try_for_each(|directory| directory.join(&cluster_id))?;
        let picture = load_alone(&world, &config, &*tree, &cluster_id).await?;
        let logs = Arc::new(open_logs(&world, &config, directories, picture.clone()).await?);

        let offsets_partitions = picture.topic(OFFSETS_TOPIC).map(|topic| topic.partitions.len());
        let offsets_partitions = offsets_partitions
            .map_or(config.group.offsets_topic_num_partitions, |partitions| partitions as i32);
        let groups = Arc::new(GroupCoordinator::new(&config, offsets_partitions, &world));

        let sockets = bind(&world, &config)?;
        let partitions = Arc::new(Partitions::new());
        let parts = Parts {
            world: world.clone(),
            broker: config.id,
            tree: tree.clone(),
            partitions: partitions.clone(),
            logs: logs.clone(),
            defaults: config.log_defaults.clone(),
            groups: groups.clone(),
        };
        let cluster = Arc::new(Cluster::new(parts, picture));
        let registration = registration(&world, &config, &sockets, logs.directory_ids());
        let member =
            Member::join(world.clone(), tree.clone(), config.id, registration, cluster.clone());
        let member = member.await?;
        let slots = config.network.max_incremental_fetch_session_cache_slots;
        let services = Arc::new(Services {
            config: config.clone(),
            world,
            authorizer: Authorizer,
            cluster,
            partitions,
            logs: logs.clone(),
            groups: groups.clone(),
            producer_ids: ProducerIds::new(tree, config.id, logs.clone()),
            fetch_sessions: SessionCache::new(usize::try_from(slots).unwrap_or(0)),
        });
        let mut workers: Vec<Worker> = coordination.worker.take().into_iter().collect();
        let (flushers, checkpoints) =
            flushing::start(&logs, &services.world.clock, config.storage.log_dir_min_free_bytes)
                .map_err(StartError::Thread)?;
        workers.extend(flushers);
        let network = start_workers(&config, &mut workers)?;
        let (listening, acceptors) = accept(&services, network, sockets)?;
        let mut housekeeping = housekeeping::start(&services);
        housekeeping.extend(moving::start(&services));
        housekeeping.push(Spawner::current().spawn(member.run()));
        housekeeping.push(Spawner::current().spawn(checkpoints));
        housekeeping.push(Spawner::current().spawn(groups.drive()));
        housekeeping.extend(cleaning::start(&services));
        Ok(Self { services, logs, coordination, listening, acceptors, housekeeping, workers })
    }

    /// Where the node listens.
    #[must_use]
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// The id of the cluster.
    #[must_use]
    pub fn cluster_id(&self) -> String {
        self.services.cluster.metadata().cluster_id().to_owned()
    }

    /// How many topics there are.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.services.cluster.metadata().topic_count()
    }

    /// Waits until the node cannot go on, and tells why: its keeper has failed, or its last log
    /// directory. Whoever looks after processes is to see that, so the process should end; what it
    /// acknowledged is on the disk.
    pub async fn failed(&self) -> String {
        let all_offline = async {
            while self.logs.failures().len() < self.services.config.log_dirs.len() {
                time::sleep(DIRECTORIES_CHECK).await;
            }
            let failures = self.logs.failures().into_iter();
            let failures = failures.map(|(dir, reason)| format!("{}: {reason}", dir.display()));
            format!("no log directory is left: {}", failures.collect::<Vec<_>>().join("; "))
        };
        tokio::select! {
            biased;
            reason = self.coordination.failed() => reason,
            reason = all_offline => reason,
        }
    }

    /// Stops: ends connections, closes logs, marks the directories as clean.
    pub async fn stop(self) -> Result<(), DirectoryError> {
        let Self { services, logs, coordination, acceptors, housekeeping, workers, .. } = self;
        drop((acceptors, housekeeping));
        services.groups.groups().shut_down();
        coordination.stop().await;
        let closed = task::blocking("ottla-stop", move || {
            // Threads end, and with them connections: nothing is appended from here on.
            drop(workers);
            drop(services);
            logs.close()
        });
        closed.await.map_err(|error| {
            let path = Path::new("ottla-stop").to_owned();
            DirectoryError::Io { path, error }
        })?
    }
}

/// Fails if there is a `failure` of the first log directory.
fn check_first(config: &BrokerConfig, failure: Option<String>) -> Result<(), StartError> {
    let dir = config.log_dirs[0].clone();
    failure.map_or(Ok(()), |reason| Err(StartError::FirstDirectory { dir, reason }))
}

async fn open_logs(
    world: &World,
    config: &Arc<BrokerConfig>,
    directories: Vec<LogDirectory>,
    picture: ClusterMetadata,
) -> Result<LogManager, StartError> {
    let (world, keys) = (world.clone(), config.clone());
    let opened = task::blocking("open-logs", move || {
        let threads = keys.storage.num_recovery_threads_per_data_dir.unsigned_abs() as usize;
        let expected = own_partitions(&keys, &picture);
        let options = OpenOptions { threads, expected: &expected };
        LogManager::open(&world, directories, options, |topic| {
            let overrides = picture.topic(topic).map(|topic| topic.config.clone());
            log_config(&keys.log_defaults, topic, &overrides.unwrap_or_default())
        })
    });
    let logs: LogManager = opened.await.map_err(StartError::Thread)??;
    let first = logs.failures().into_iter().find(|(dir, _)| *dir == config.log_dirs[0]);
    check_first(config, first.map(|(_, reason)| reason))?;
    Ok(logs)
}

/// The partitions that have a replica on this broker.
fn own_partitions(config: &BrokerConfig, picture: &ClusterMetadata) -> BTreeSet<TopicPartition> {
    let own = picture.topics().flat_map(|topic| {
        let numbered = (0..).zip(&topic.partitions);
        let own = numbered.filter(|(_, partition)| partition.replicas.contains(&config.id));
        own.map(|(id, _): (i32, _)| TopicPartition::new(&*topic.name, id))
    });
    own.collect()
}

/// A bound listener with its configuration.
type Bound = (config::Listener, Box<dyn Socket>);

fn bind(world: &World, config: &BrokerConfig) -> Result<Vec<Bound>, StartError> {
    let network = &config.network;
    let options = ListenOptions {
        backlog: network.socket_listen_backlog_size.unsigned_abs(),
        send_buffer: u32::try_from(network.socket_send_buffer_bytes).ok(),
        receive_buffer: u32::try_from(network.socket_receive_buffer_bytes).ok(),
    };
    let bind_one = |listener: &config::Listener| {
        let (host, port) = (&listener.bind.host, listener.bind.port);
        let bound = world
            .network
            .resolve(host, port)
            .and_then(|address| world.network.listen(address, options));
        let socket = bound.map_err(|error| StartError::Bind {
            listener: format!("{}://{}", listener.name, listener.bind),
            holder: match error.kind() {
                io::ErrorKind::AddrInUse => process::listener_of_port(port),
                _ => None,
            },
            error,
        })?;
        Ok((listener.clone(), socket))
    };
    config.listeners.all.iter().map(bind_one).collect()
}

/// Reads the cluster, as soon as this broker is the only one that has its id.
async fn load_alone(
    world: &World,
    config: &BrokerConfig,
    tree: &dyn Tree,
    cluster_id: &str,
) -> Result<ClusterMetadata, StartError> {
    claim(world, tree, config.id, cluster_id, patience(config)).await?;
    let picture = admin::load(tree).await?;
    if let Some(other) = picture.brokers().find(|broker| broker.id != config.id) {
        return Err(StartError::Member { other: other.id });
    }
    Ok(picture)
}

/// How long the end of another session that is registered with this broker's id is waited for. Its
/// timeout is not known: it is taken for that of this broker's own, which begins anew when the ensemble
/// finds another leader.
fn patience(config: &BrokerConfig) -> Duration {
    match &config.coordination {
        CoordinationConfig::Keeper(_) => Duration::from_secs(36),
        CoordinationConfig::ZooKeeper(zookeeper) => 2 * zookeeper.session_timeout,
    }
}

fn registration(
    world: &World,
    config: &BrokerConfig,
    sockets: &[Bound],
    log_dirs: Vec<Uuid>,
) -> BrokerRegistration {
    let endpoints = sockets.iter().map(|(listener, socket)| {
        let port = socket.local_addr().map_or(listener.bind.port, |address| address.port());
        let (host, port) = match &listener.advertised {
            Some(address) => (address.host.clone(), address.port),
            // What a client elsewhere would dial is not known: it is told when it has dialled.
            None if listener.bind.host.is_empty() => ("localhost".to_owned(), port),
            None => (listener.bind.host.clone(), port),
        };
        let security_protocol = SecurityProtocol::parse(listener.protocol.word());
        Endpoint {
            listener: listener.name.clone(),
            security_protocol: security_protocol.unwrap_or(SecurityProtocol::Plaintext),
            host,
            port,
        }
    });
    BrokerRegistration {
        endpoints: endpoints.collect(),
        rack: config.rack.clone(),
        jmx_port: -1,
        timestamp_ms: world.clock.wall_ms(),
        features: Default::default(),
        log_dirs,
    }
}

/// Where connections may live.
type Network = Vec<(Spawner, BufferPool)>;

fn start_workers(config: &BrokerConfig, workers: &mut Vec<Worker>) -> Result<Network, StartError> {
    let threads = match config.network.num_network_threads {
        Some(threads) => threads.unsigned_abs() as usize,
        None => task::available_parallelism(),
    };
    let mut network = Vec::with_capacity(threads);
    for index in 0..threads {
        let worker = Worker::start(&format!("ottla-net-{index}")).map_err(StartError::Thread)?;
        network.push((worker.spawner().clone(), BufferPool::new()));
        workers.push(worker);
    }
    Ok(network)
}

fn accept(
    services: &Arc<Services>,
    workers: Network,
    sockets: Vec<Bound>,
) -> Result<(Vec<Listening>, Vec<Task<()>>), StartError> {
    let network = &services.config.network;
    let admission = Arc::new(Admission::new(
        network.max_connections,
        network.max_connections_per_ip,
        services.config.connections_per_ip.clone(),
    ));
    let settings = Arc::new(ConnectionSettings {
        frame_bytes_max: network.socket_request_max_bytes.unsigned_abs() as usize,
        idle: Duration::from_millis(network.connections_max_idle_ms.unsigned_abs()),
        budget: FrameBudget::new(network.queued_max_request_bytes),
    });
    let (workers, next_worker) = (Arc::new(workers), Arc::new(AtomicUsize::new(0)));
    let (mut listening, mut acceptors) = (Vec::new(), Vec::new());
    for (listener, socket) in sockets {
        let address = socket.local_addr().map_err(|error| StartError::Bind {
            listener: listener.name.clone(),
            error,
            holder: None,
        })?;
        let acceptor = Acceptor {
            name: Arc::from(&*listener.name),
            listener: socket,
            admission: admission.clone(),
            workers: workers.clone(),
            next_worker: next_worker.clone(),
            services: services.clone(),
            settings: settings.clone(),
        };
        listening.push(Listening { listener: listener.name, address });
        acceptors.push(Spawner::current().spawn(acceptor.run()));
    }
    Ok((listening, acceptors))
}
