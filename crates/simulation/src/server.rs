//! The processes: what `ottla start` and `ottla keeper start` run, on the simulation's doors.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_config::Sources;
use ottla_fake::HostId;
use ottla_keeper::shell::directory_id;
use ottla_keeper::wire::{self, ServeOptions};
use ottla_keeper::{Keeper, Limits, Options, Peer, Timing, Voter, VoterId};
use ottla_runtime::net::{ListenOptions, Listener};
use ottla_runtime::task::Worker;
use ottla_runtime::{Spawner, World};
use ottla_server::config::BrokerConfig;
use ottla_server::{KEEPER_DIR, Node};
use tokio::sync::oneshot;

/// Where Kafka's protocol is spoken.
pub(crate) const BROKER_PORT: u16 = 9092;
/// Where ZooKeeper's is.
pub(crate) const CLIENT_PORT: u16 = 2181;
/// Where voters and tools speak.
pub(crate) const VOTER_PORT: u16 = 2888;

/// The only log directory.
const LOG_DIR: &str = "/data";

/// Settings that make much happen in little time.
const SETTINGS: &[&str] = &[
    "num.network.threads=2",
    "offsets.topic.num.partitions=2",
    "offsets.topic.replication.factor=1",
    "offsets.topic.segment.bytes=20000",
    "log.segment.bytes=20000",
    "log.index.size.max.bytes=2000",
    "log.index.interval.bytes=1000",
    "log.retention.ms=-1",
    "log.retention.check.interval.ms=3000",
    "log.flush.offset.checkpoint.interval.ms=1000",
    "log.flush.start.offset.checkpoint.interval.ms=1000",
    "log.cleaner.backoff.ms=1000",
    "log.segment.delete.delay.ms=1000",
    "log.cleaner.dedupe.buffer.size=1000000",
    "log.cleaner.threads=1",
    "socket.request.max.bytes=60000",
    "queued.max.request.bytes=60000",
    "group.initial.rebalance.delay.ms=100",
    "transactional.id.expiration.ms=604800000",
];

/// The address of a server's port, as it is written.
pub(crate) fn address(host: HostId, port: u16) -> String {
    socket_address(host, port).to_string()
}

fn socket_address(host: HostId, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)), port)
}

/// The voters of a quorum of the first `nodes` hosts.
pub(crate) fn voters(nodes: HostId) -> Vec<(VoterId, String)> {
    (1..=nodes).map(|id| (VoterId::from(id), address(id, VOTER_PORT))).collect()
}

/// Runs until it is told to stop, or cannot go on: then it says why.
pub(crate) async fn run(
    world: World,
    host: HostId,
    nodes: HostId,
    stop: oneshot::Receiver<()>,
) -> Result<(), String> {
    match host {
        1 => broker(world, nodes, stop).await,
        _ => keeper(world, host, stop).await,
    }
}

async fn broker(world: World, nodes: HostId, stop: oneshot::Receiver<()>) -> Result<(), String> {
    let voters: Vec<String> =
        voters(nodes).iter().map(|(id, address)| format!("{id}@{address}")).collect();
    let mut settings = vec![
        "broker.id=1".to_owned(),
        format!("log.dirs={LOG_DIR}"),
        format!("listeners=PLAINTEXT://{}", address(1, BROKER_PORT)),
        format!("keeper.listener={}", address(1, CLIENT_PORT)),
    ];
    if nodes > 1 {
        settings.push(format!("keeper.quorum.voters={}", voters.join(",")));
    }
    let all = settings.iter().map(String::as_str).chain(SETTINGS.iter().copied());
    let loaded = BrokerConfig::load(Sources::new().command_line(all));
    let (config, _warnings) = loaded.map_err(|errors| format!("{errors:?}"))?;
    let node = Node::start(world, config).await.map_err(|error| error.to_string())?;
    tokio::select! {
        biased;
        reason = node.failed() => return Err(reason),
        // Told or not: nobody is left who could tell it.
        _ = stop => {}
    }
    node.stop().await.map_err(|error| error.to_string())
}

async fn keeper(world: World, id: HostId, stop: oneshot::Receiver<()>) -> Result<(), String> {
    let dir = PathBuf::from(LOG_DIR).join(KEEPER_DIR);
    let directory = directory_id(&world, &dir).map_err(|error| error.to_string())?;
    let voter = Voter { id: VoterId::from(id), directory };
    let own = Peer { voter, address: address(id, VOTER_PORT) };
    let (limits, timing) = (limits(), Timing::default());
    let options = Options { dir, own, founding: None, limits, timing };
    let others = listen(&world, id, VOTER_PORT)?;
    let clients = listen(&world, id, CLIENT_PORT)?;
    let keeper = Keeper::open(&world, &options).map_err(|error| error.to_string())?;
    let keeper = Arc::new(keeper);
    let worker = Worker::start("ottla-keeper").map_err(|error| error.to_string())?;
    let driver = worker.spawner().spawn(Arc::clone(&keeper).drive());
    let spawner = Spawner::current();
    let connecting = keeper.connect(world.network.clone(), &spawner, worker.spawner(), others);
    let (clock, random) = (world.clock.clone(), world.random.clone());
    let options = ServeOptions::default();
    let serving = wire::serve(Arc::clone(&keeper), clock, random, clients, &spawner, options);
    let mut statuses = keeper.statuses();
    let failed = statuses.wait_for(|status| status.role == ottla_keeper::Role::Stopped);
    tokio::select! {
        biased;
        _ = failed => return Err(keeper.failure().unwrap_or_default().to_string()),
        _ = stop => {}
    }
    keeper.hand_over().await;
    drop((serving, connecting, driver, worker));
    Ok(())
}

/// Logs so short that snapshots are written and sent.
fn limits() -> Limits {
    Limits { log_bytes: 20_000, ..Limits::default() }
}

fn listen(world: &World, host: HostId, port: u16) -> Result<Box<dyn Listener>, String> {
    let options = ListenOptions { backlog: 128, send_buffer: None, receive_buffer: None };
    let bound = world.network.listen(socket_address(host, port), options);
    bound.map_err(|error| error.to_string())
}

/// The directory that a server's disk begins with.
pub(crate) fn root() -> &'static Path {
    Path::new(LOG_DIR)
}
