//! Where a broker finds the tree of znodes, and its own session with it: the keeper of this process,
//! or an external ZooKeeper.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_keeper::wire::{self, ServeOptions};
use ottla_keeper::{
    DirectoryId, Keeper, Limits, Membership, Options, Password, Peer, QuorumId, Role, Timing,
    Voter, VoterId,
};
use ottla_log::LogDirectory;
use ottla_metadata::{BuiltIn, SessionFile, Tree, TreeError, ZooKeeper, ZooKeeperOptions};
use ottla_record::{BrokerId, Uuid};
use ottla_runtime::net::{ListenOptions, Listener};
use ottla_runtime::task::Worker;
use ottla_runtime::{Spawner, Task, World, process, time};
use tracing::{info, warn};

use crate::config::{Address, BrokerConfig, CoordinationConfig, KeeperConfig, ZooKeeperConfig};
use crate::node::StartError;
use crate::tls::zookeeper_client;

/// The keeper's directory in the first log directory. Kafka passes over directories of this topic,
/// and its own KRaft log would have the number 0.
pub const KEEPER_DIR: &str = "__cluster_metadata-1";

/// The file of the broker's session with its keeper, in that directory.
const SESSION_FILE: &str = "session";

/// The file of the broker's session with an external ensemble, in the first log directory. Kafka
/// passes over files.
const ZOOKEEPER_SESSION_FILE: &str = "zookeeper-session";

/// How long a broker waits for a leader that does not answer, before it asks again.
const RETRY: Duration = Duration::from_millis(100);

/// The tree, and what keeps it in this process.
pub(crate) struct Coordination {
    /// The broker's session.
    pub(crate) tree: Arc<dyn Tree>,
    keeper: Option<OwnKeeper>,
    /// Where the keeper waits for the disk. It outlives the keeper.
    pub(crate) worker: Option<Worker>,
}

/// A keeper at work.
struct OwnKeeper {
    keeper: Arc<Keeper>,
    driver: Task<()>,
    serving: Task<()>,
    connecting: Vec<Task<()>>,
}

impl Coordination {
    /// Begins the broker's session, with what is kept in `directory`, the first one.
    pub(crate) async fn start(
        world: &World,
        config: &BrokerConfig,
        directory: &LogDirectory,
    ) -> Result<Self, StartError> {
        match &config.coordination {
            CoordinationConfig::Keeper(keys) => {
                let worker = Worker::start("ottla-keeper").map_err(StartError::Thread)?;
                let (tree, keeper) =
                    OwnKeeper::start(world, config.id, keys, directory, &worker).await?;
                Ok(Self { tree, keeper: Some(keeper), worker: Some(worker) })
            }
            CoordinationConfig::ZooKeeper(keys) => {
                let tree = connect_zookeeper(world, keys, directory).await?;
                Ok(Self { tree, keeper: None, worker: None })
            }
        }
    }

    /// Waits until this broker's own keeper cannot go on; for ever if there is none.
    pub(crate) async fn failed(&self) -> String {
        let Some(OwnKeeper { keeper, .. }) = &self.keeper else {
            return std::future::pending().await;
        };
        let mut statuses = keeper.statuses();
        // The keeper is here: they do not end.
        let _ = statuses.wait_for(|status| status.role == Role::Stopped).await;
        format!("the keeper cannot go on: {}", keeper.failure().unwrap_or_default())
    }

    /// Ends the broker's session.
    pub(crate) async fn stop(self) {
        let Self { tree, keeper, .. } = self;
        // Other clients of the keeper go first.
        let keeper = keeper.map(|OwnKeeper { keeper, driver, serving, connecting }| {
            drop(serving);
            (keeper, driver, connecting)
        });
        if let Err(error) = tree.close().await {
            warn!(%error, "could not end the session with the coordination service");
        }
        if let Some((keeper, driver, connecting)) = keeper {
            // Another voter leads from here on, if there is one.
            keeper.hand_over().await;
            drop((tree, connecting, driver));
        }
    }
}

async fn connect_zookeeper(
    world: &World,
    keys: &ZooKeeperConfig,
    directory: &LogDirectory,
) -> Result<Arc<dyn Tree>, StartError> {
    let tls = keys.tls.as_ref().map(|tls| zookeeper_client(tls, world)).transpose()?;
    let login = keys.digest_login.iter().map(|login| ("digest".to_owned(), login.clone()));
    let options = ZooKeeperOptions {
        session_timeout: keys.session_timeout,
        connection_timeout: keys.connection_timeout,
        in_flight_max: keys.in_flight_max,
        set_acl: keys.set_acl,
        auths: login.collect(),
        sasl: keys.sasl_login.clone(),
        tls,
        session_file: Some(directory.path().join(ZOOKEEPER_SESSION_FILE)),
        ..ZooKeeperOptions::new(keys.connect.clone())
    };
    let tree = ZooKeeper::connect(world, options).await?;
    let session = format!("{:#x}", tree.session().0);
    info!(connect = %keys.connect, session, "metadata is kept by ZooKeeper");
    Ok(Arc::new(tree))
}

impl OwnKeeper {
    /// Opens the keeper of a broker and waits until its quorum has a leader. The disk is waited for on
    /// `worker`.
    async fn start(
        world: &World,
        id: BrokerId,
        keys: &KeeperConfig,
        directory: &LogDirectory,
        worker: &Worker,
    ) -> Result<(Arc<dyn Tree>, Self), StartError> {
        let options = options(world, id, keys, directory);
        let clients = listen(world, "keeper.listener", &keys.listener)?;
        let others = keys.own_address(id);
        let others = others.map(|own| listen(world, "keeper.quorum.voters", own)).transpose()?;
        let keeper = Keeper::open(world, &options).map(Arc::new).map_err(StartError::Keeper)?;
        let driver = worker.spawner().spawn(Arc::clone(&keeper).drive());
        let spawner = Spawner::current();
        let connecting = others.map_or_else(Vec::new, |listener| {
            keeper.connect(Arc::clone(&world.network), &spawner, worker.spawner(), listener)
        });
        if keeper.is_waiting() {
            warn!(
                dir = %options.dir.display(),
                "waiting: this keeper's directory belongs to no quorum yet; \"ottla keeper found\" \
                 begins one, \"ottla keeper add\" takes it into one that is there"
            );
        }
        let file = SessionFile::new(Arc::clone(&world.disk), options.dir.join(SESSION_FILE));
        let password = Password(world.random.bytes16());
        let tree = connect(&keeper, password, file).await?;
        let address = clients.local_addr().map_err(|error| StartError::Bind {
            listener: "keeper.listener".to_owned(),
            holder: None,
            error,
        })?;
        let (clock, random) = (Arc::clone(&world.clock), Arc::clone(&world.random));
        let options = ServeOptions::default();
        let serving = wire::serve(Arc::clone(&keeper), clock, random, clients, &spawner, options);
        info!(%address, "the keeper serves ZooKeeper's protocol");
        Ok((Arc::new(tree), Self { keeper, driver, serving, connecting }))
    }
}

fn options(
    world: &World,
    broker: BrokerId,
    keys: &KeeperConfig,
    directory: &LogDirectory,
) -> Options {
    // Broker ids are not negative.
    let id = VoterId::from(broker.0.unsigned_abs());
    // The caller saw that it is not offline.
    let voter = Voter { id, directory: DirectoryId(directory.id().unwrap_or(Uuid::ZERO).0) };
    let address = keys.own_address(broker).map_or(String::new(), ToString::to_string);
    let own = Peer { voter, address };
    // With others it takes an act of their owner: none of them can know who else begins one.
    let is_founder = keys.voters.len() <= 1 && !keys.join;
    let quorum = QuorumId(world.random.bytes16());
    let founding = is_founder.then(|| Membership::of(quorum, [own.clone()]));
    let (dir, limits) = (directory.path().join(KEEPER_DIR), Limits::default());
    Options { dir, own, founding, limits, timing: Timing::default() }
}

async fn connect(
    keeper: &Arc<Keeper>,
    password: Password,
    file: SessionFile,
) -> Result<BuiltIn, TreeError> {
    let mut statuses = keeper.statuses();
    loop {
        // The keeper is here: they do not end.
        let _ = statuses.wait_for(|it| it.leader.is_some() || it.role == Role::Stopped).await;
        if let Some(reason) = keeper.failure() {
            return Err(TreeError::Unavailable { reason });
        }
        match BuiltIn::connect(Arc::clone(keeper), password, Some(file.clone())).await {
            Err(TreeError::Unavailable { .. }) if keeper.failure().is_none() => {
                // The leader was lost meanwhile, or is not reached yet.
                let _ = time::timeout(RETRY, statuses.changed()).await;
            }
            connected => return connected,
        }
    }
}

fn listen(world: &World, key: &str, at: &Address) -> Result<Box<dyn Listener>, StartError> {
    let listening = ListenOptions { backlog: 128, send_buffer: None, receive_buffer: None };
    let bound = world.network.resolve(&at.host, at.port);
    let bound = bound.and_then(|address| world.network.listen(address, listening));
    bound.map_err(|error| StartError::Bind {
        listener: format!("{key} {at}"),
        holder: match error.kind() {
            io::ErrorKind::AddrInUse => process::listener_of_port(at.port),
            _ => None,
        },
        error,
    })
}
