//! `ottla keeper`: the coordination service without a broker.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use ottla_keeper::shell::directory_id;
use ottla_keeper::wire::{self, ServeOptions};
use ottla_keeper::{Keeper, Limits, OpenError, Options, Timing, Voter};
use ottla_runtime::net::ListenOptions;
use ottla_runtime::task::Worker;
use ottla_runtime::{Spawner, World, process, signal};
use tracing::{info, warn};

use crate::exit::{Exit, Failure, Outcome};

#[derive(Args, Debug)]
pub(crate) struct KeeperArgs {
    #[command(subcommand)]
    command: KeeperCommand,
}

#[derive(Subcommand, Debug)]
enum KeeperCommand {
    /// Run a keeper alone, which ZooKeeper's clients can use, until it is told to stop
    Start(Start),
}

#[derive(Args, Debug)]
struct Start {
    /// Where the keeper's log and snapshot are, or are to be
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Where clients connect: HOST:PORT
    #[arg(long, default_value = "127.0.0.1:2181", value_name = "HOST:PORT")]
    listener: String,
    /// The shortest session timeout that a client is granted
    #[arg(long, default_value_t = 4_000, value_name = "MS")]
    min_session_timeout: u32,
    /// The longest session timeout that a client is granted
    #[arg(long, default_value_t = 40_000, value_name = "MS")]
    max_session_timeout: u32,
}

impl KeeperArgs {
    pub(crate) fn run(self) -> Outcome {
        let KeeperCommand::Start(start) = self.command;
        if start.min_session_timeout > start.max_session_timeout {
            return Err(Failure::new(
                Exit::Usage,
                "--min-session-timeout is longer than --max-session-timeout",
            ));
        }
        if let Err(error) = process::raise_file_limit() {
            warn!(%error, "cannot raise the limit of open files");
        }
        super::block_on(serve(start))
    }
}

async fn serve(start: Start) -> Outcome {
    let world = World::system();
    let listen = |error: io::Error| {
        let exit =
            if error.kind() == io::ErrorKind::AddrInUse { Exit::InUse } else { Exit::Failed };
        Failure::new(exit, format_args!("cannot listen on {}: {error}", start.listener))
    };
    let (host, port) = start
        .listener
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)))
        .ok_or_else(|| Failure::new(Exit::Usage, "--listener is not of the form HOST:PORT"))?;
    let id = directory_id(&world, &start.data_dir).map_err(open_failure)?;
    let voter = Voter { id: 1, directory: id };
    let options = Options {
        dir: start.data_dir.clone(),
        voter,
        founders: vec![voter],
        limits: Limits::default(),
        timing: Timing::default(),
    };
    let keeper = Arc::new(Keeper::open(&world, &options).map_err(open_failure)?);
    let worker = Worker::start("ottla-keeper").map_err(Failure::failed)?;
    // The disk is waited for on the worker, clients are served here.
    let driver = worker.spawner().spawn(Arc::clone(&keeper).drive());
    let address = world.network.resolve(host, port).map_err(listen)?;
    let listening = ListenOptions { backlog: 128, send_buffer: None, receive_buffer: None };
    let listener = world.network.listen(address, listening).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let timeouts = (start.min_session_timeout, start.max_session_timeout);
    let serving = wire::serve(
        keeper,
        Arc::clone(&world.clock),
        Arc::clone(&world.random),
        listener,
        &Spawner::current(),
        ServeOptions { session_timeout_ms: timeouts, ..ServeOptions::default() },
    );
    let data = start.data_dir.display();
    info!(%address, %data, took = ?world.clock.elapsed(), "ready");
    let told = signal::termination().await;
    let signal = told.map_err(|e| Failure::failed(format_args!("cannot wait for signals: {e}")))?;
    info!(signal, "stopped");
    drop((serving, driver, worker));
    Ok(())
}

fn open_failure(error: OpenError) -> Failure {
    let in_use = matches!(error, OpenError::Locked { .. });
    Failure::new(if in_use { Exit::InUse } else { Exit::Failed }, error)
}
