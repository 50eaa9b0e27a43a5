//! The keeper from outside: ZooKeeper's rules, its encoding, and what a crash leaves.

mod codec;
mod crash;
mod files;
mod frozen;
mod linear;
mod member;
mod members;
mod model;
mod process;
mod quorum;
mod restore;
mod rules;
mod three;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use ottla_fake::{FakeDisk, FakeNetwork, FakeRandom};
use ottla_keeper::{
    Caller, Command, DirectoryId, Keeper, Limits, Membership, OpenError, Options, Outcome,
    Password, Peer, ProposeError, QuorumId, Reply, Request, Timing, Tree, Voter,
};
use ottla_runtime::{Clock, World};

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

const OPEN: Request = Request::OpenSession { timeout_ms: 6_000, password: Password([9; 16]) };

fn open(disk: &Arc<FakeDisk>, limits: Limits) -> Result<Keeper, OpenError> {
    open_as(VOTER, disk, limits)
}

fn open_as(voter: Voter, disk: &Arc<FakeDisk>, limits: Limits) -> Result<Keeper, OpenError> {
    let world = World {
        clock: Arc::new(FixedClock),
        disk: disk.clone(),
        network: FakeNetwork::new(0, Duration::ZERO).host(1),
        random: Arc::new(FakeRandom::new(0)),
    };
    let (dir, timing) = (DIR.into(), Timing::default());
    let own = Peer { voter, address: String::new() };
    let founding = Some(Membership::of(QuorumId([3; 16]), [own.clone()]));
    Keeper::open(&world, &Options { dir, own, founding, limits, timing })
}

/// Proposes requests of a caller to a keeper that is alone.
fn propose_all(
    keeper: &Keeper,
    caller: Caller,
    requests: Vec<Request>,
) -> Result<Vec<Outcome>, ProposeError> {
    let command = |request| Command::new(caller, request);
    let mut proposed = keeper.propose(requests.into_iter().map(command).collect())?;
    while keeper.step().is_zero() {}
    proposed.now().expect("a keeper that is alone answers at once")
}

fn propose(keeper: &Keeper, caller: Caller, request: Request) -> Result<Outcome, ProposeError> {
    Ok(propose_all(keeper, caller, vec![request])?.remove(0))
}

fn open_session(keeper: &Keeper) -> Caller {
    session_of(&propose(keeper, Caller::default(), OPEN).unwrap())
}

fn session_of(outcome: &Outcome) -> Caller {
    match outcome.result {
        Ok(Reply::SessionOpened(caller)) => caller,
        ref other => panic!("no session: {other:?}"),
    }
}

fn apply(tree: &mut Tree, caller: Caller, request: Request) -> Outcome {
    tree.apply(NOW_MS, &Command::new(caller, request), &mut Vec::new())
}
