//! The keeper inside a broker: its voter, its clients, and the broker's own session with it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_keeper::wire::{self, ServeOptions};
use ottla_keeper::{
    DirectoryId, Keeper, Limits, Membership, Options, Password, Peer, QuorumId, Role, Timing,
    Voter, VoterId,
};
use ottla_log::LogDirectory;
use ottla_metadata::{BuiltIn, SessionFile, Tree, TreeError};
use ottla_record::Uuid;
use ottla_runtime::net::{ListenOptions, Listener};
use ottla_runtime::task::Worker;
use ottla_runtime::{Spawner, Task, World, process, time};
use tracing::{info, warn};

use crate::config::{Address, BrokerConfig};
use crate::node::StartError;

/// The keeper's directory in the first log directory. Kafka passes over directories of this topic,
/// and its own KRaft log would have the number 0.
pub const KEEPER_DIR: &str = "__cluster_metadata-1";

/// The file of the broker's session, in that directory.
const SESSION_FILE: &str = "session";

/// How long a broker waits for a leader that does not answer, before it asks again.
const RETRY: Duration = Duration::from_millis(100);

/// A keeper at work.
pub(crate) struct Coordination {
    keeper: Arc<Keeper>,
    /// The broker's session.
    pub(crate) tree: Arc<BuiltIn>,
    driver: Task<()>,
    serving: Task<()>,
    connecting: Vec<Task<()>>,
}

impl Coordination {
    /// Opens the keeper of a broker and waits until its quorum has a leader. The disk is waited for on
    /// `worker`.
    pub(crate) async fn start(
        world: &World,
        config: &BrokerConfig,
        directory: &LogDirectory,
        worker: &Worker,
    ) -> Result<Self, StartError> {
        let options = options(world, config, directory);
        let clients = listen(world, "keeper.listener", &config.keeper.listener)?;
        let others = config.keeper.own_address(config.id);
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
        Ok(Self { keeper, tree: Arc::new(tree), driver, serving, connecting })
    }

    /// Ends the broker's session; another voter leads from here on, if there is one.
    pub(crate) async fn stop(self) {
        let Self { keeper, tree, driver, serving, connecting, .. } = self;
        drop(serving);
        if let Err(error) = tree.close().await {
            warn!(%error, "could not end the session with the keeper");
        }
        keeper.hand_over().await;
        drop((tree, connecting, driver));
    }
}

fn options(world: &World, config: &BrokerConfig, directory: &LogDirectory) -> Options {
    // Broker ids are not negative.
    let id = VoterId::from(config.id.0.unsigned_abs());
    // The caller saw that it is not offline.
    let voter = Voter { id, directory: DirectoryId(directory.id().unwrap_or(Uuid::ZERO).0) };
    let address = config.keeper.own_address(config.id).map_or(String::new(), ToString::to_string);
    let own = Peer { voter, address };
    // With others it takes an act of their owner: none of them can know who else begins one.
    let is_founder = config.keeper.voters.len() <= 1 && !config.keeper.join;
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
