//! What clients of several keepers see can have happened one after the other.
//!
//! Three or five keepers as they are shipped; clients at any of them create, set, compare and set, delete,
//! append, lock, end sessions and read; processes are killed, power is cut, disks fill up, connections
//! break one way, clocks jump. A judge from a library looks at what was answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ottla_fake::{Answered, Asked, Dice, Judge, Seen};
use ottla_keeper::{
    ANY_VERSION, Caller, Command, CreateMode, Error, Keeper, Op, Outcome, ProposeError, Reply,
    Request, Written,
};
use ottla_runtime::{Spawner, time};
use parking_lot::Mutex;

use super::process::{say_again, seeds, simulate};
use super::three::Cluster;
use super::{OPEN, session_of};

const SEEDS: u64 = 60;
const CLIENTS: u64 = 5;
/// Faults and requests go on for so long.
const STORM: Duration = Duration::from_secs(8);
/// So many calls clients make of one znode before they go on to the next, or so many that nobody knows
/// the answer of: the judge's search grows with them.
const CALLS: usize = 50;
const UNKNOWN: usize = 8;
/// So long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the clients share.
#[derive(Default)]
struct Board {
    keepers: BTreeMap<u8, Weak<Keeper>>,
    /// One for each znode.
    judges: Vec<Judge>,
    numbers: u32,
}

type Shared = Arc<Mutex<Board>>;

/// One client: its session, which it has until it does not know any more how that is.
struct Client {
    dice: Dice,
    board: Shared,
    session: Option<Caller>,
}

impl Client {
    async fn run(mut self) {
        let start = time::now();
        while time::now() < start + STORM {
            let pause = self.dice.roll(60_000);
            time::sleep(Duration::from_micros(pause)).await;
            let Some(keeper) = self.pick() else { continue };
            match self.session {
                Some(caller) => self.ask(keeper, caller).await,
                None => self.connect(keeper).await,
            }
        }
    }

    /// Some keeper that is at work.
    fn pick(&mut self) -> Option<Weak<Keeper>> {
        let board = self.board.lock();
        let keepers: Vec<_> = board.keepers.values().filter(|k| k.strong_count() > 0).collect();
        let at = self.dice.roll(keepers.len().max(1) as u64) as usize;
        keepers.get(at).map(|keeper| Weak::clone(keeper))
    }

    async fn connect(&mut self, keeper: Weak<Keeper>) {
        if let Ok(outcome) = propose(&keeper, Command::new(Caller::default(), OPEN)).await {
            self.session = Some(session_of(&outcome));
        }
    }

    /// The znode that all ask at present.
    fn znode(&self) -> usize {
        let judges = &mut self.board.lock().judges;
        let is_over = |judge: &Judge| judge.calls() >= CALLS || judge.unknown() >= UNKNOWN;
        if judges.last().is_none_or(is_over) {
            judges.push(Judge::default());
        }
        judges.len() - 1
    }

    async fn ask(&mut self, keeper: Weak<Keeper>, caller: Caller) {
        let at = self.znode();
        if let Some(keeper) = keeper.upgrade() {
            keeper.hear(vec![caller.session]);
        }
        let asked = self.draw(caller);
        let path = format!("/{at}");
        let calls = self.call(at, &asked);
        let answered = match &asked {
            Asked::Read => read(&keeper, caller, &path).await,
            asked => {
                let command = Command::new(caller, request(asked, &path));
                propose(&keeper, command).await.map(|outcome| answer(asked, &outcome))
            }
        };
        let (answered, is_over) = match answered {
            // The keeper has ended the session, at some time that nobody was told.
            Ok(None) => (Answered::Nothing, true),
            // Who does not know what became of a request does not go on with its session: what is
            // under way of it must not come between what follows.
            Ok(Some(Answered::Unknown)) | Err(Answered::Unknown) => (Answered::Unknown, true),
            Ok(Some(answered)) | Err(answered) => (answered, false),
        };
        for (at, call) in calls {
            self.board.lock().judges[at].answer(call, answered.clone());
        }
        let is_ended = matches!(asked, Asked::End(_)) && answered == Answered::Done;
        if is_over {
            self.call(at, &Asked::End(caller.session.0));
        }
        if is_over || is_ended {
            self.session = None;
        }
    }

    /// Notes a call with the judge of a znode. The end of a session is one of each znode that the
    /// session may have locked.
    fn call(&self, at: usize, asked: &Asked) -> Vec<(usize, usize)> {
        let mut board = self.board.lock();
        let concerns = |(other, judge): &(usize, &mut Judge)| match asked {
            &Asked::End(session) => judge.was_asked(&Asked::Lock(session)),
            _ => *other == at,
        };
        let judges = board.judges.iter_mut().enumerate().filter(concerns);
        judges.map(|(at, judge)| (at, judge.call(asked.clone()))).collect()
    }

    fn draw(&mut self, caller: Caller) -> Asked {
        let number = {
            let mut board = self.board.lock();
            board.numbers += 1;
            board.numbers
        };
        match self.dice.roll(20) {
            0..4 => Asked::Create(number),
            4..7 => Asked::Set(number, None),
            7..11 => Asked::Set(number, Some(self.dice.roll(4) as i32)),
            11 => Asked::Delete,
            12..14 => Asked::Append,
            14 | 15 => Asked::Lock(caller.session.0),
            16 => Asked::End(caller.session.0),
            _ => Asked::Read,
        }
    }
}

fn request(asked: &Asked, path: &str) -> Request {
    let data = |number: u32| number.to_be_bytes().to_vec();
    let op = match *asked {
        Asked::Create(number) => Op::create(path, Some(data(number))),
        Asked::Set(number, version) => Op::set(path, data(number), version.unwrap_or(ANY_VERSION)),
        Asked::Delete => Op::delete(path, ANY_VERSION),
        Asked::Append => {
            Op::create_as(format!("{path}/s_"), None, CreateMode::PersistentSequential)
        }
        Asked::Lock(_) => Op::create_as(format!("{path}/lock"), None, CreateMode::Ephemeral),
        Asked::End(_) => return Request::CloseSession,
        Asked::Read => return Request::Sync,
    };
    Request::Write(vec![op])
}

/// What an outcome is to the judge; `None` if the session is over.
fn answer(asked: &Asked, outcome: &Outcome) -> Option<Answered> {
    Some(match &outcome.result {
        Ok(Reply::SessionClosed) => Answered::Done,
        Ok(Reply::Written(written)) => match (&written[0], asked) {
            (Written::Created { path, .. }, Asked::Append) => {
                Answered::Number(path[path.len() - 10..].parse().expect("a number"))
            }
            (Written::Set { stat }, _) => Answered::Version(stat.version),
            _ => Answered::Done,
        },
        Ok(reply) => panic!("{asked:?}: {reply:?}"),
        Err(failure) => match failure.error {
            Error::NoNode => Answered::NoNode,
            Error::NodeExists => Answered::NodeExists,
            Error::BadVersion => Answered::BadVersion,
            Error::NotEmpty => Answered::NotEmpty,
            Error::SessionExpired => return None,
            error => panic!("{asked:?}: {error}"),
        },
    })
}

async fn propose(keeper: &Weak<Keeper>, command: Command) -> Result<Outcome, Answered> {
    // Whoever waits must not keep a keeper that was killed.
    let proposed = keeper.upgrade().map(|keeper| keeper.propose(vec![command]));
    let proposed = proposed.ok_or(Answered::Nothing)?.map_err(|_| Answered::Nothing)?;
    match time::timeout(PATIENCE, proposed).await {
        Ok(Ok(mut outcomes)) => Ok(outcomes.remove(0)),
        Ok(Err(ProposeError::NoLeader)) => Err(Answered::Nothing),
        Ok(Err(_)) | Err(_) => Err(Answered::Unknown),
    }
}

async fn read(
    keeper: &Weak<Keeper>,
    caller: Caller,
    path: &str,
) -> Result<Option<Answered>, Answered> {
    let synced = propose(keeper, Command::new(caller, Request::Sync)).await;
    let synced = synced.map_err(|_| Answered::Nothing)?;
    if synced.result.is_err() {
        return Ok(None);
    }
    let keeper = keeper.upgrade().ok_or(Answered::Nothing)?;
    let node = keeper.read(|tree| tree.get(path));
    Ok(Some(Answered::Found(node.map(|node| {
        let data = node.data.expect("it has a number");
        let number = u32::from_be_bytes(data[..].try_into().expect("four bytes"));
        Seen { number, version: node.stat.version, children: node.stat.num_children as u32 }
    }))))
}

fn publish(cluster: &Cluster, board: &Shared) {
    let keepers = cluster.processes.iter();
    board.lock().keepers =
        keepers.map(|(&id, process)| (id, Arc::downgrade(&process.keeper))).collect();
}

async fn storm(cluster: &mut Cluster, board: &Shared) {
    let end = time::now() + STORM;
    while time::now() < end {
        let pause = cluster.dice.roll(100_000);
        time::sleep(Duration::from_micros(pause)).await;
        let id = 1 + cluster.dice.roll(cluster.voters.into()) as u8;
        match cluster.dice.roll(50) {
            0..2 => cluster.crash(id).await,
            2 => cluster.network.cut(id, 1 + cluster.dice.roll(cluster.voters.into()) as u8),
            // From here on it hears nobody, or nobody hears it.
            3 => (1..=cluster.voters).for_each(|other| match id % 2 {
                0 => cluster.network.cut(id, other),
                _ => cluster.network.cut(other, id),
            }),
            4..6 => cluster.network.heal(),
            6 => cluster.clock.jump(cluster.dice.roll(20_000) as i64 - 10_000),
            7 => cluster.disks[&id].fail_after(cluster.dice.roll(5)),
            8 => cluster.disks[&id].set_capacity(0),
            9..20 if !cluster.processes.contains_key(&id) => {
                cluster.disks[&id].heal();
                cluster.disks[&id].set_capacity(u64::MAX);
                cluster.start(id);
            }
            _ => {}
        }
        publish(cluster, board);
    }
}

/// Returns how many calls were judged.
fn run(seed: u64) -> usize {
    simulate(async {
        let voters = if seed % 3 == 2 { 5 } else { 3 };
        let mut cluster = Cluster::new(seed, voters);
        let board = Shared::default();
        publish(&cluster, &board);
        let clients = (0..CLIENTS).map(|_| {
            let dice = Dice::new(cluster.dice.roll(u64::MAX));
            let client = Client { dice, board: Arc::clone(&board), session: None };
            Spawner::current().spawn(client.run())
        });
        let clients: Vec<_> = clients.collect();
        storm(&mut cluster, &board).await;
        time::sleep(PATIENCE + Duration::from_secs(1)).await;
        drop(clients);
        let board = board.lock();
        for (at, judge) in board.judges.iter().enumerate() {
            assert!(judge.is_linearizable(), "seed {seed}, znode /{at}: {judge:#?}");
        }
        board.judges.iter().map(Judge::calls).sum()
    })
}

#[test]
fn what_clients_see_can_have_happened_one_after_the_other() {
    let seeds = seeds(SEEDS);
    let mut calls = 0;
    for seed in seeds.clone() {
        say_again(seed, "linear::");
        calls += run(seed);
    }
    eprintln!("{calls} calls");
    assert!(calls as u64 > 100 * (seeds.end - seeds.start), "only {calls} calls");
}
