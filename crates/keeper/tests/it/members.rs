//! A quorum that is founded, grows, loses a disk, and shrinks: keepers as they are shipped, on a
//! clock, a network and disks of a test, looked after by the functions of the tools.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_fake::{FakeDisk, FakeNetwork, RunningClock};
use ottla_keeper::shell::tend;
use ottla_keeper::shell::tool::{self, Ask};
use ottla_keeper::{
    ANY_VERSION, Caller, Command, CreateMode, DirectoryId, Membership, Op, Peer, QuorumId, Request,
    Standing, Voter, VoterId,
};
use ottla_runtime::{Network, time};

use super::process::{Place, Process, address, simulate};
use super::{NOW_MS, OPEN, session_of};

const QUORUM: QuorumId = QuorumId([5; 16]);

struct Hosts {
    network: FakeNetwork,
    clock: Arc<RunningClock>,
    disks: BTreeMap<u8, (DirectoryId, Arc<FakeDisk>)>,
    processes: BTreeMap<u8, Process>,
    starts: u64,
}

impl Hosts {
    fn new() -> Self {
        Self {
            network: FakeNetwork::new(1, Duration::from_millis(2)),
            clock: Arc::new(RunningClock::at(NOW_MS)),
            disks: BTreeMap::new(),
            processes: BTreeMap::new(),
            starts: 0,
        }
    }

    /// A host where nobody listens.
    fn outside(&self) -> Arc<dyn Network> {
        self.network.host(200)
    }

    fn start(&mut self, id: u8) {
        self.start_as(id, &address(id).to_string());
    }

    /// Starts a keeper that founds nothing by itself, and says to listen at `called`.
    fn start_as(&mut self, id: u8, called: &str) {
        self.starts += 1;
        let (directory, disk) = self
            .disks
            .entry(id)
            .or_insert_with(|| (voter(id).directory, FakeDisk::with_dir("/data")));
        let own = Peer {
            voter: Voter { directory: *directory, ..voter(id) },
            address: called.to_owned(),
        };
        let (network, clock, seed) = (&self.network, &self.clock, self.starts);
        let place = Place { network, clock, disk, seed };
        self.processes.insert(id, Process::start(id, &place, own, None));
    }

    async fn stop(&mut self, id: u8) {
        self.processes.remove(&id);
        // Its tasks end, and with them its sockets.
        time::sleep(Duration::from_millis(1)).await;
    }

    /// Stops a keeper and puts an empty disk in the place of its own.
    async fn replace_disk(&mut self, id: u8) {
        self.stop(id).await;
        self.disks.insert(id, (DirectoryId([id + 100; 16]), FakeDisk::with_dir("/data")));
    }

    async fn found(&self, ids: &[u8]) {
        tend::found(&*self.outside(), QUORUM, &voters(ids)).await.expect("it is founded");
    }

    /// Writes through a keeper until that succeeds.
    async fn write(&self, through: u8, op: Op) {
        let keeper = &self.processes[&through].keeper;
        loop {
            let open = Command::new(Caller::default(), OPEN);
            if let Ok(outcomes) = keeper.propose(vec![open]).unwrap().await {
                let caller = session_of(&outcomes[0]);
                let write = Command::new(caller, Request::Write(vec![op.clone()]));
                if let Ok(outcomes) = keeper.propose(vec![write]).unwrap().await {
                    assert!(outcomes[0].result.is_ok(), "{outcomes:?}");
                    return;
                }
            }
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn has(&self, id: u8, path: &str) -> bool {
        self.processes[&id].keeper.read(|tree| tree.exists(path)).is_some()
    }

    async fn standings(&self, at: u8) -> Vec<(VoterId, Standing)> {
        let it = tool::describe(&*self.outside(), &address(at).to_string()).await.unwrap();
        it.membership.peers.iter().map(|(peer, standing)| (peer.voter.id, *standing)).collect()
    }
}

/// A voter with its first disk.
fn voter(id: u8) -> Voter {
    Voter { id: id.into(), directory: DirectoryId([id; 16]) }
}

fn voters(ids: &[u8]) -> Vec<(VoterId, String)> {
    ids.iter().map(|&id| (id.into(), address(id).to_string())).collect()
}

fn known(ids: &[u8]) -> Vec<String> {
    ids.iter().map(|&id| address(id).to_string()).collect()
}

fn all_vote(ids: &[u8]) -> Vec<(VoterId, Standing)> {
    ids.iter().map(|&id| (id.into(), Standing::Voter)).collect()
}

#[test]
fn a_quorum_is_founded_once_and_by_an_act() {
    simulate(async {
        let mut hosts = Hosts::new();
        (1..=3).for_each(|id| hosts.start(id));
        time::sleep(Duration::from_secs(5)).await;
        assert!(hosts.processes.values().all(|process| process.keeper.is_waiting()));
        hosts.found(&[1, 2, 3]).await;
        hosts.write(2, Op::create("/a", None)).await;
        assert_eq!(hosts.standings(3).await, all_vote(&[1, 2, 3]));
        let again = tend::found(&*hosts.outside(), QuorumId([6; 16]), &voters(&[1, 2, 3])).await;
        let again = again.unwrap_err().to_string();
        assert!(again.contains("belongs to quorum 0505"), "{again}");
        let other = tend::found(&*hosts.outside(), QUORUM, &[(7, address(1).to_string())]).await;
        assert!(other.is_err());
    });
}

#[test]
fn a_keeper_that_has_another_number_is_not_founded_upon() {
    simulate(async {
        let mut hosts = Hosts::new();
        hosts.start(1);
        let founded = tend::found(&*hosts.outside(), QUORUM, &[(4, address(1).to_string())]).await;
        assert_eq!(
            founded.unwrap_err().to_string(),
            "the keeper at 10.0.0.1:2888 is voter 1, not 4"
        );
        assert!(hosts.processes[&1].keeper.is_waiting());
    });
}

#[test]
fn a_quorum_grows_and_shrinks_while_it_works() {
    simulate(async {
        let mut hosts = Hosts::new();
        (1..=5).for_each(|id| hosts.start(id));
        hosts.found(&[1]).await;
        // More than its log keeps: who joins gets a snapshot.
        for n in 0..200 {
            hosts.write(1, Op::create(format!("/{n}"), Some(vec![b'x'; 50]))).await;
        }
        for id in 2..=5 {
            let at = address(id).to_string();
            tend::add(&*hosts.outside(), &known(&[1]), (id.into(), &at)).await.unwrap();
        }
        assert_eq!(hosts.standings(5).await, all_vote(&[1, 2, 3, 4, 5]));
        assert!((1..=5).all(|id| hosts.has(id, "/199")));
        // The majority is that of five: two may be gone.
        hosts.stop(1).await;
        hosts.stop(2).await;
        hosts.write(4, Op::create("/with-three", None)).await;
        // A change that would leave too few is refused: two of four are gone.
        let refused = tend::remove(&*hosts.outside(), &known(&[3, 4, 5]), 3).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("[1, 2] are not heard of"), "{refused}");
        for id in [1, 2, 3] {
            tend::remove(&*hosts.outside(), &known(&[4, 5]), id).await.unwrap();
        }
        assert_eq!(hosts.standings(5).await, all_vote(&[4, 5]));
        hosts.write(5, Op::create("/with-two", None)).await;
        // Who was let go serves nobody.
        let gone = hosts.processes[&3].keeper.propose(vec![Command::new(Caller::default(), OPEN)]);
        assert!(gone.unwrap().await.is_err());
    });
}

#[test]
fn a_disk_that_was_replaced_does_not_vote_and_is_taken_in_anew() {
    simulate(async {
        let mut hosts = Hosts::new();
        (1..=3).for_each(|id| hosts.start(id));
        hosts.found(&[1, 2, 3]).await;
        hosts.write(1, Op::create("/a", None)).await;
        hosts.replace_disk(3).await;
        hosts.start(3);
        hosts.write(1, Op::set("/a", vec![1], ANY_VERSION)).await;
        time::sleep(Duration::from_secs(2)).await;
        let leader = tend::leader(&*hosts.outside(), &known(&[1, 2])).await.unwrap();
        let contact = leader.contacts.iter().find(|contact| contact.id == 3).unwrap();
        assert!(!contact.is_heard);
        assert!(contact.refusal.is_some(), "{contact:?}");
        assert!(hosts.processes[&3].keeper.is_waiting());
        // With another one gone there is no majority: the new disk makes none.
        hosts.stop(2).await;
        time::sleep(Duration::from_secs(2)).await;
        let alone = hosts.processes[&1].keeper.propose(vec![Command::new(Caller::default(), OPEN)]);
        assert!(alone.unwrap().await.is_err());
        hosts.start(2);
        time::sleep(Duration::from_secs(2)).await;
        let at = address(3).to_string();
        tend::add(&*hosts.outside(), &known(&[1, 2]), (3, &at)).await.unwrap();
        assert_eq!(hosts.standings(3).await, all_vote(&[1, 2, 3]));
        assert!(hosts.has(3, "/a"));
        hosts.stop(2).await;
        hosts.write(1, Op::create("/with-the-new-one", None)).await;
    });
}

#[test]
fn a_keeper_that_moved_is_found_again() {
    simulate(async {
        let mut hosts = Hosts::new();
        (1..=3).for_each(|id| hosts.start(id));
        hosts.found(&[1, 2, 3]).await;
        // It goes by a name that is not in the log.
        hosts.stop(3).await;
        let moved = format!("10.0.0.3.:{}", address(3).port());
        hosts.start_as(3, &moved);
        let end = time::now() + Duration::from_secs(20);
        loop {
            let it = tend::leader(&*hosts.outside(), &known(&[1, 2])).await;
            let now_at = it.ok().and_then(|it| Some(it.membership.peer(3)?.0.address.clone()));
            if now_at.as_deref() == Some(&*moved) {
                break;
            }
            assert!(time::now() < end, "{now_at:?}");
            time::sleep(Duration::from_millis(100)).await;
        }
    });
}

#[test]
fn a_quorum_does_not_begin_without_an_id_or_with_others_than_voters() {
    simulate(async {
        let mut hosts = Hosts::new();
        hosts.start(1);
        let own = Peer { voter: voter(1), address: address(1).to_string() };
        let nameless = Membership::of(QuorumId::default(), [own.clone()]);
        let idle = Membership { quorum: QUORUM, peers: vec![(own, Standing::Learner)] };
        let empty = Membership::of(QUORUM, []);
        for founding in [nameless, idle, empty] {
            let ask = Ask::Found(founding.clone());
            let told = tool::ask(&*hosts.outside(), &address(1).to_string(), &ask).await.unwrap();
            assert_eq!(
                told.unwrap_err(),
                "a quorum begins with an id and with voters alone",
                "{founding:?}"
            );
        }
        assert!(hosts.processes[&1].keeper.is_waiting());
    });
}

#[test]
fn a_keeper_of_another_quorum_is_not_listened_to() {
    simulate(async {
        let mut hosts = Hosts::new();
        hosts.start(1);
        hosts.start(2);
        hosts.found(&[1]).await;
        tend::found(&*hosts.outside(), QuorumId([6; 16]), &voters(&[2])).await.unwrap();
        let at = address(2).to_string();
        let refused = tend::add(&*hosts.outside(), &known(&[1]), (2, &at)).await.unwrap_err();
        assert!(refused.to_string().contains("it needs a new directory"), "{refused}");
        let founding = Ask::Found(Membership::of(QUORUM, []));
        let refused = tool::ask(&*hosts.outside(), &at, &founding).await.unwrap();
        assert!(refused.unwrap_err().contains("belongs to a quorum already"));
    });
}

#[test]
fn strangers_do_not_take_the_place_of_voters() {
    simulate(async {
        let mut hosts = Hosts::new();
        (1..=3).for_each(|id| hosts.start(id));
        hosts.found(&[1, 2, 3]).await;
        let mut strangers = Vec::new();
        for _ in 0..100 {
            for id in 1..=3 {
                let host = address(id).ip().to_string();
                strangers.push(hosts.outside().connect(&host, address(id).port()).await.unwrap());
            }
            let before = time::now();
            hosts.write(2, Op::create_as("/s_", None, CreateMode::PersistentSequential)).await;
            // Who loses a voter dials again after 100 ms.
            assert!(time::now() - before < Duration::from_millis(50), "{:?}", time::now() - before);
        }
    });
}

#[test]
fn a_leader_that_is_killed_is_replaced_before_its_silence_would_tell() {
    simulate(async {
        let mut hosts = Hosts::new();
        (1..=3).for_each(|id| hosts.start(id));
        hosts.found(&[1, 2, 3]).await;
        let mut times = Vec::new();
        for _ in 0..10 {
            let leader = tend::leader(&*hosts.outside(), &known(&[1, 2, 3])).await.unwrap();
            let leader = leader.own.voter.id as u8;
            let before = time::now();
            hosts.stop(leader).await;
            hosts.write(1 + leader % 3, Op::create("/s_", None)).await;
            hosts.write(1 + leader % 3, Op::delete("/s_", ANY_VERSION)).await;
            times.push(time::now() - before);
            hosts.start(leader);
            time::sleep(Duration::from_secs(2)).await;
        }
        times.sort_unstable();
        // Silence tells after 250 ms at least.
        assert!(times[9] < Duration::from_millis(200), "{times:?}");
    });
}

#[test]
fn a_leader_that_stops_hands_over() {
    simulate(async {
        let mut hosts = Hosts::new();
        (1..=3).for_each(|id| hosts.start(id));
        hosts.found(&[1, 2, 3]).await;
        let leader =
            tend::leader(&*hosts.outside(), &known(&[1, 2, 3])).await.unwrap().own.voter.id;
        let before = time::now();
        hosts.processes[&(leader as u8)].keeper.hand_over().await;
        // A few round trips, where finding out would take 250 ms at least.
        assert!(time::now() - before < Duration::from_millis(100), "{:?}", time::now() - before);
        let next = tend::leader(&*hosts.outside(), &known(&[1, 2, 3])).await.unwrap().own.voter.id;
        assert_ne!(next, leader);
    });
}
