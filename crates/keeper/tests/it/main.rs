//! The keeper from outside: ZooKeeper's rules, its encoding, and what a crash leaves.

mod codec;
mod crash;
mod files;
mod model;
mod rules;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_fake::FakeDisk;
use ottla_keeper::{
    Command, DirectoryId, Keeper, Limits, OpenError, Outcome, Reply, Request, SessionId, Tree,
    Voter,
};
use ottla_runtime::Clock;

const DIR: &str = "/data/keeper";
const VOTER: Voter = Voter { id: 1, directory: DirectoryId([7; 16]) };
const NOW_MS: i64 = 1_700_000_000_000;

struct FixedClock;

impl Clock for FixedClock {
    fn wall_ms(&self) -> i64 {
        NOW_MS
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

fn open(disk: &Arc<FakeDisk>, limits: Limits) -> Result<Keeper, OpenError> {
    Keeper::open(disk.clone(), Path::new(DIR), VOTER, Arc::new(FixedClock), limits)
}

fn open_session(keeper: &Keeper) -> SessionId {
    let outcome = keeper.propose(SessionId::NONE, Request::OpenSession).unwrap();
    session_of(&outcome)
}

fn session_of(outcome: &Outcome) -> SessionId {
    match outcome.result {
        Ok(Reply::SessionOpened(session)) => session,
        ref other => panic!("no session: {other:?}"),
    }
}

fn apply(tree: &mut Tree, session: SessionId, request: Request) -> Outcome {
    tree.apply(&Command { time_ms: NOW_MS, session, request })
}

/// The tree as the next open leaves it: without the sessions of this one.
fn without_sessions(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    for session in tree.clone().sessions() {
        apply(&mut tree, session, Request::CloseSession).result.unwrap();
    }
    tree
}
