//! Three keepers in one thread, on a clock, a network and disks from one seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_fake::{Crash, Dice, FakeDisk, FakeNetwork, RunningClock, Sent};
use ottla_keeper::{
    Caller, Command, CreateMode, DirectoryId, Membership, Op, Outcome, Peer, ProposeError,
    QuorumId, Reply, Request, Tree, Voter, Written,
};
use ottla_runtime::{Spawner, time};
use parking_lot::Mutex;

use super::process::{Place, Process, address, say_again, seeds, simulate};
use super::{NOW_MS, OPEN, session_of};

const VOTERS: u8 = 3;
const SEEDS: u64 = 30;

/// Faults happen for so long.
const STORM: Duration = Duration::from_secs(15);
/// Within so long after them a leader is there, and all have what is committed.
const CALM: Duration = Duration::from_secs(4);

fn peer(id: u8) -> Peer {
    let voter = Voter { id: id.into(), directory: DirectoryId([id; 16]) };
    Peer { voter, address: address(id).to_string() }
}

/// What became of a proposal, with the number of its node.
type Known = (u64, Result<Vec<Outcome>, ProposeError>);

pub(super) struct Cluster {
    pub(super) voters: u8,
    pub(super) dice: Dice,
    pub(super) network: FakeNetwork,
    pub(super) clock: Arc<RunningClock>,
    pub(super) disks: BTreeMap<u8, Arc<FakeDisk>>,
    pub(super) processes: BTreeMap<u8, Process>,
    /// The session of the cluster's clients.
    session: Caller,
    proposed: u64,
    known: Arc<Mutex<Vec<Known>>>,
}

impl Cluster {
    pub(super) fn new(seed: u64, voters: u8) -> Self {
        let mut dice = Dice::new(seed);
        let network = FakeNetwork::new(dice.roll(u64::MAX), Duration::from_millis(5));
        let mut cluster = Self {
            voters,
            dice,
            network,
            clock: Arc::new(RunningClock::at(NOW_MS)),
            disks: (1..=voters).map(|id| (id, FakeDisk::with_dir("/data"))).collect(),
            processes: BTreeMap::new(),
            session: Caller::default(),
            proposed: 0,
            known: Arc::default(),
        };
        (1..=voters).for_each(|id| cluster.start(id));
        cluster
    }

    pub(super) fn start(&mut self, id: u8) {
        let seed = self.dice.roll(u64::MAX);
        let (network, clock, disk) = (&self.network, &self.clock, &self.disks[&id]);
        let founding = Membership::of(QuorumId([9; 16]), (1..=self.voters).map(peer));
        let place = Place { network, clock, disk, seed };
        self.processes.insert(id, Process::start(id, &place, peer(id), Some(founding)));
    }

    pub(super) async fn crash(&mut self, id: u8) {
        if self.processes.remove(&id).is_some() {
            let crash = match self.dice.roll(2) {
                0 => Crash::Process,
                _ => Crash::Power { seed: self.dice.roll(u64::MAX) },
            };
            let disk = self.disks[&id].after(crash);
            self.disks.insert(id, disk);
            // Its tasks end, and with them its sockets.
            time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Proposes to anyone, and notes what comes of it.
    fn propose(&mut self) {
        let id = 1 + self.dice.roll(self.voters.into()) as u8;
        let Some(process) = self.processes.get(&id) else { return };
        process.keeper.hear(vec![self.session.session]);
        let number = self.proposed;
        self.proposed += 1;
        let path = format!("/{number}");
        let ops = vec![
            Op::create(path, Some(vec![b'd'; 20])),
            Op::create_as("/s_", None, CreateMode::PersistentSequential),
        ];
        let command = Command::new(self.session, Request::Write(ops));
        let proposed = process.keeper.propose(vec![command]);
        let known = self.known.clone();
        Spawner::current().detach(async move {
            let answer = match proposed {
                Ok(proposed) => proposed.await,
                Err(error) => Err(error),
            };
            known.lock().push((number, answer));
        });
    }

    /// Opens the session as soon as there is a leader.
    async fn connect(&mut self) {
        loop {
            let open = Command::new(Caller::default(), OPEN);
            let proposed = self.processes[&1].keeper.propose(vec![open]).unwrap();
            if let Ok(outcomes) = proposed.await {
                self.session = session_of(&outcomes[0]);
                return;
            }
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn exists(&self, path: &str) -> Vec<bool> {
        let found = |process: &Process| process.keeper.read(|tree| tree.exists(path)).is_some();
        self.processes.values().map(found).collect()
    }

    async fn storm(&mut self) {
        let end = time::now() + STORM;
        while time::now() < end {
            let pause = self.dice.roll(20_000);
            time::sleep(Duration::from_micros(pause)).await;
            let id = 1 + self.dice.roll(self.voters.into()) as u8;
            match self.dice.roll(200) {
                0 => self.crash(id).await,
                1 => self.network.cut(id, 1 + self.dice.roll(self.voters.into()) as u8),
                2 => self.network.heal(),
                3 => self.clock.jump(self.dice.roll(20_000) as i64 - 10_000),
                4..8 if !self.processes.contains_key(&id) => self.start(id),
                _ => self.propose(),
            }
        }
        self.network.heal();
        for id in 1..=self.voters {
            if !self.processes.contains_key(&id) {
                self.start(id);
            }
        }
    }

    async fn calm(&mut self) {
        let end = time::now() + CALM;
        while time::now() < end {
            time::sleep(Duration::from_millis(20)).await;
            self.propose();
        }
        // What is under way arrives.
        time::sleep(Duration::from_secs(1)).await;
    }

    fn check(&self) {
        let trees: Vec<Tree> =
            self.processes.values().map(|process| process.keeper.read(Tree::clone)).collect();
        assert!(trees.iter().all(|tree| *tree == trees[0]), "the trees differ");
        let known = self.known.lock();
        assert_eq!(known.len() as u64, self.proposed, "every proposal is answered");
        for (number, answer) in known.iter() {
            let stat = trees[0].exists(&format!("/{number}"));
            match answer {
                Ok(outcomes) => {
                    let Ok(Reply::Written(written)) = &outcomes[0].result else {
                        panic!("{number}: {outcomes:?}");
                    };
                    let Written::Created { stat: created, .. } = &written[0] else {
                        panic!("{number}: {written:?}");
                    };
                    assert_eq!(stat.as_ref(), Some(created), "{number}");
                }
                Err(ProposeError::NoLeader) => assert_eq!(stat, None, "{number} was refused"),
                Err(ProposeError::LeaderLost) => {}
                Err(error) => panic!("{number}: {error}"),
            }
        }
        let done = known.iter().filter(|(_, answer)| answer.is_ok()).count();
        assert!(done > 200, "only {done} of {} were done", self.proposed);
    }
}

fn run(seed: u64) -> (Tree, Vec<Sent>) {
    simulate(async {
        let mut cluster = Cluster::new(seed, VOTERS);
        cluster.network.record();
        cluster.connect().await;
        cluster.storm().await;
        cluster.calm().await;
        cluster.check();
        let tree = cluster.processes[&1].keeper.read(Tree::clone);
        (tree, cluster.network.take_recording())
    })
}

#[test]
fn what_is_acknowledged_stays_and_all_have_the_same() {
    for seed in seeds(SEEDS) {
        say_again(seed, "three::what");
        run(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..3 {
        let [one, two] = [run(seed), run(seed)];
        assert!(one.1.len() > 1_000, "{}", one.1.len());
        // Times are those of another runtime.
        let trace = |sent: &[Sent]| -> Vec<_> {
            let from = sent[0].at;
            sent.iter().map(|s| (s.at - from, s.from, s.to, s.bytes, s.hash)).collect()
        };
        assert_eq!(one.0, two.0, "seed {seed}");
        assert_eq!(trace(&one.1), trace(&two.1), "seed {seed}");
    }
}

#[test]
fn a_silent_session_ends_and_a_live_one_survives_its_leader() {
    simulate(async {
        let mut cluster = Cluster::new(1, VOTERS);
        cluster.connect().await;
        let live = cluster.session;
        cluster.connect().await;
        for (session, path) in [(live, "/live"), (cluster.session, "/silent")] {
            let op = Op::create_as(path, None, CreateMode::Ephemeral);
            let command = Command::new(session, Request::Write(vec![op]));
            cluster.processes[&1].keeper.propose(vec![command]).unwrap().await.unwrap();
        }
        time::sleep(Duration::from_secs(1)).await;
        assert_eq!([cluster.exists("/live"), cluster.exists("/silent")], [[true; 3], [true; 3]]);
        for second in 0..20 {
            // One of them leads.
            if second == 3 || second == 9 {
                let id = 1 + second as u8 / 9;
                cluster.crash(id).await;
                cluster.start(id);
            }
            cluster.processes[&3].keeper.hear(vec![live.session]);
            time::sleep(Duration::from_secs(1)).await;
            // A new leader grants every session its time again, but no more than that.
            if second < 4 {
                assert_eq!(cluster.exists("/silent"), [true; 3], "after {second} s");
            }
        }
        assert_eq!([cluster.exists("/live"), cluster.exists("/silent")], [[true; 3], [false; 3]]);
    });
}
