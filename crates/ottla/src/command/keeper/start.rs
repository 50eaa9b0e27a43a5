//! `ottla keeper start`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use ottla_keeper::shell::{directory_id, tend};
use ottla_keeper::wire::{self, ServeOptions};
use ottla_keeper::{
    DirectoryId, Keeper, Limits, Membership, Options, Peer, QuorumId, Role, Timing, Voter, VoterId,
};
use ottla_log::directory_identity;
use ottla_runtime::net::{ListenOptions, Listener};
use ottla_runtime::task::Worker;
use ottla_runtime::{Spawner, World, process, signal};
use ottla_server::KEEPER_DIR;
use tracing::{info, warn};

use super::open_failure;
use crate::exit::{Exit, Failure, Outcome};

#[derive(Args, Debug)]
pub(crate) struct Start {
    /// Where the keeper's log and snapshot are, or are to be; that of a broker, in its first log
    /// directory, is served too while the broker is stopped
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Where clients connect
    #[arg(long, default_value = "127.0.0.1:2181", value_name = "HOST:PORT")]
    listener: String,
    /// The number of this keeper in its quorum
    #[arg(long, default_value_t = 1, value_name = "ID")]
    id: VoterId,
    /// The keepers of the quorum and where each listens for the others, this one among them; a
    /// keeper without this is alone
    #[arg(long, value_name = "ID@HOST:PORT,…")]
    voters: Option<String>,
    /// Found no quorum on a new directory, also not of this keeper alone: wait to be added to one
    #[arg(long, requires = "voters")]
    join: bool,
    /// The shortest session timeout that a client is granted
    #[arg(long, default_value_t = 4_000, value_name = "MS")]
    min_session_timeout: u32,
    /// The longest session timeout that a client is granted
    #[arg(long, default_value_t = 40_000, value_name = "MS")]
    max_session_timeout: u32,
}

impl Start {
    pub(crate) fn run(self) -> Outcome {
        if self.min_session_timeout > self.max_session_timeout {
            return Err(Failure::usage(
                "--min-session-timeout is longer than --max-session-timeout",
            ));
        }
        let voters = self.voters.as_deref().map(tend::parse_voters).transpose();
        let voters = voters.map_err(|error| Failure::usage(format_args!("--voters: {error}")))?;
        let address = match &voters {
            None => String::new(),
            Some(voters) => {
                let own = voters.iter().find(|(id, _)| *id == self.id);
                let (_, address) = own.ok_or_else(|| {
                    let id = self.id;
                    Failure::usage(format_args!("--voters does not name {id}, which --id says"))
                })?;
                address.clone()
            }
        };
        if let Err(error) = process::raise_file_limit() {
            warn!(%error, "cannot raise the limit of open files");
        }
        super::super::block_on(self.serve(address, voters.map_or(1, |voters| voters.len())))
    }

    async fn serve(self, address: String, voters: usize) -> Outcome {
        let world = World::system();
        let clients = listen(&world, &self.listener)?;
        let others = match &*address {
            "" => None,
            address => Some(listen(&world, address)?),
        };
        let directory = identity(&world, &self.data_dir)?;
        let own = Peer { voter: Voter { id: self.id, directory }, address };
        // With others it takes an act of their owner: none of them can know who else begins one.
        let is_founder = voters == 1 && !self.join;
        let quorum = QuorumId(world.random.bytes16());
        let founding = is_founder.then(|| Membership::of(quorum, [own.clone()]));
        let options = Options {
            dir: self.data_dir.clone(),
            own,
            founding,
            limits: Limits::default(),
            timing: Timing::default(),
        };
        let keeper = Arc::new(Keeper::open(&world, &options).map_err(open_failure)?);
        let worker = Worker::start("ottla-keeper").map_err(Failure::failed)?;
        // The disk is waited for on the worker, clients are served here.
        let driver = worker.spawner().spawn(Arc::clone(&keeper).drive());
        let address = clients.local_addr().map_err(Failure::failed)?;
        let connecting = others.map(|listener| {
            let network = Arc::clone(&world.network);
            keeper.connect(network, &Spawner::current(), worker.spawner(), listener)
        });
        let timeouts = (self.min_session_timeout, self.max_session_timeout);
        let serving = wire::serve(
            Arc::clone(&keeper),
            Arc::clone(&world.clock),
            Arc::clone(&world.random),
            clients,
            &Spawner::current(),
            ServeOptions { session_timeout_ms: timeouts, ..ServeOptions::default() },
        );
        let data = self.data_dir.display();
        if keeper.is_waiting() {
            let advice = if self.join {
                "\"ottla keeper add\" takes it in"
            } else {
                "\"ottla keeper found\" begins one of --voters, \"ottla keeper add\" takes this \
                 keeper into one that is there"
            };
            warn!(%address, %data, advice, "waiting: the directory belongs to no quorum yet");
        } else {
            info!(%address, %data, took = ?world.clock.elapsed(), "ready");
        }
        let signal = until_told(&keeper).await?;
        keeper.hand_over().await;
        info!(signal, "stopped");
        drop((serving, connecting, driver, worker));
        Ok(())
    }
}

/// Waits until the keeper is to stop. One whose disk fails does nothing any more: whoever looks after
/// processes is to see that.
async fn until_told(keeper: &Keeper) -> Result<&'static str, Failure> {
    let mut statuses = keeper.statuses();
    tokio::select! {
        told = signal::termination() => {
            told.map_err(|e| Failure::failed(format_args!("cannot wait for signals: {e}")))
        }
        _ = statuses.wait_for(|status| status.role == Role::Stopped) => {
            let reason = keeper.failure().unwrap_or_default();
            Err(Failure::failed(format_args!("the keeper cannot go on: {reason}")))
        }
    }
}

/// The id of the keeper's directory. A broker's keeper goes by that of the log directory.
fn identity(world: &World, data_dir: &Path) -> Result<DirectoryId, Failure> {
    let log_dir = data_dir.parent().filter(|_| data_dir.ends_with(KEEPER_DIR));
    if let Some(log_dir) = log_dir.filter(|_| world.disk.exists(data_dir))
        && let Some(meta) = directory_identity(world, log_dir).map_err(Failure::failed)?
        && let Some(id) = meta.directory_id
    {
        return Ok(DirectoryId(id.0));
    }
    directory_id(world, data_dir).map_err(open_failure)
}

fn listen(world: &World, address: &str) -> Result<Box<dyn Listener>, Failure> {
    let failure = |error: io::Error| {
        let exit =
            if error.kind() == io::ErrorKind::AddrInUse { Exit::InUse } else { Exit::Failed };
        Failure::new(exit, format_args!("cannot listen on {address}: {error}"))
    };
    let (host, port) = address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)))
        .ok_or_else(|| Failure::usage(format_args!("{address} is not of the form HOST:PORT")))?;
    let address = world.network.resolve(host, port).map_err(failure)?;
    let listening = ListenOptions { backlog: 128, send_buffer: None, receive_buffer: None };
    world.network.listen(address, listening).map_err(failure)
}
