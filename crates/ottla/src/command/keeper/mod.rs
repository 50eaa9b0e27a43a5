//! `ottla keeper`: the coordination service without a broker, and its quorum.

mod recover;
mod restore;
mod start;
mod tend;
mod transfer;

use clap::{Args, Subcommand};
use ottla_keeper::OpenError;

use crate::exit::{Exit, Failure, Outcome};

#[derive(Args, Debug)]
pub(crate) struct KeeperArgs {
    #[command(subcommand)]
    command: KeeperCommand,
}

#[derive(Subcommand, Debug)]
enum KeeperCommand {
    /// Run a keeper, which ZooKeeper's clients can use, until it is told to stop
    Start(start::Start),
    /// Found a quorum of keepers that were started with new directories
    Found(tend::Found),
    /// Show who belongs to a quorum, and how each one is
    Status(tend::Status),
    /// Take a keeper into a quorum, also in the place of one whose disk was replaced
    Add(tend::Add),
    /// Let a keeper go from a quorum
    Remove(tend::Remove),
    /// Have keepers write snapshots of the tree now, or save one as a backup
    Snapshot(tend::Snapshot),
    /// Make the directory of a new keeper of a backup
    Restore(restore::Restore),
    /// Make the only voter of a new quorum of one that is left of a lost one
    Recover(recover::Recover),
    /// Make the directory of a new keeper of the tree of an ensemble of ZooKeeper
    Import(transfer::Import),
    /// Put the tree of a keeper into an ensemble of ZooKeeper
    Export(transfer::Export),
}

/// Why a keeper's directory cannot be opened.
fn open_failure(error: OpenError) -> Failure {
    let in_use = matches!(error, OpenError::Locked { .. });
    Failure::new(if in_use { Exit::InUse } else { Exit::Failed }, error)
}

impl KeeperArgs {
    pub(crate) fn run(self) -> Outcome {
        match self.command {
            KeeperCommand::Start(start) => start.run(),
            KeeperCommand::Found(found) => super::block_on(found.run()),
            KeeperCommand::Status(status) => super::block_on(status.run()),
            KeeperCommand::Add(add) => super::block_on(add.run()),
            KeeperCommand::Remove(remove) => super::block_on(remove.run()),
            KeeperCommand::Snapshot(snapshot) => super::block_on(snapshot.run()),
            KeeperCommand::Restore(restore) => restore.run(),
            KeeperCommand::Recover(recover) => recover.run(),
            KeeperCommand::Import(import) => super::block_on(import.run()),
            KeeperCommand::Export(export) => super::block_on(export.run()),
        }
    }
}
