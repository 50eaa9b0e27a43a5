//! A quorum that is founded, grows, loses a disk, and shrinks: keepers as they are shipped, on a
//! clock, a network and disks of a test, looked after by the functions of the tools.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_fake::{Crash, FakeDisk, FakeNetwork, RunningClock};
use ottla_keeper::shell::tool::{self, Ask};
use ottla_keeper::shell::{RecoverError, Survivor, back_up, make_directory, read_backup, tend};
use ottla_keeper::{
    ANY_VERSION, Caller, Command, CreateMode, DirectoryId, Limits, Membership, Op, Peer, QuorumId,
    Request, Standing, Tree, Voter, VoterId,
};
use ottla_runtime::{Disk, Network, time};

use super::process::{Place, Process, address, simulate};
use super::{DIR, NOW_MS, OPEN, open_as, session_of};

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

impl Hosts {
    /// What the voter of a stopped host has left.
    fn survivor(&self, id: u8) -> Survivor {
        let disk: Arc<dyn Disk> = self.disks[&id].1.clone();
        Survivor::open(&disk, Path::new(DIR)).expect("it can be recovered")
    }

    async fn quorum(&self, id: u8) -> QuorumId {
        let it = tool::describe(&*self.outside(), &address(id).to_string()).await.unwrap();
        it.membership.quorum
    }
}

#[test]
fn one_who_is_left_goes_on_alone_and_the_others_neither_harm_it_nor_are_harmed() {
    simulate(async {
        let mut hosts = Hosts::new();
        (1..=3).for_each(|id| hosts.start(id));
        hosts.found(&[1, 2, 3]).await;
        // More than its log keeps: who is added gets a snapshot.
        for n in 0..100 {
            hosts.write(1, Op::create(format!("/{n}"), Some(vec![b'x'; 50]))).await;
        }
        time::sleep(Duration::from_secs(1)).await;
        for id in 1..=3 {
            hosts.stop(id).await;
        }
        let remains = hosts.survivor(3).remains().clone();
        assert_eq!(remains.membership.quorum, QUORUM);
        assert!(remains.committed.index <= remains.last.index, "{remains:?}");
        // Nothing is done yet.
        hosts.survivor(3).leave().unwrap();

        hosts.start(3);
        hosts.write(3, Op::create("/alone", None)).await;
        assert!(hosts.has(3, "/99"));
        assert_eq!(hosts.standings(3).await, all_vote(&[3]));
        let zxid = hosts.processes[&3].keeper.read(|tree| tree.exists("/alone").unwrap().czxid);
        assert!(zxid >= remains.zxid + (1 << 32), "{zxid:#x} {remains:?}");

        // The others come back: they are a majority of the quorum that was, and go on as that.
        hosts.start(1);
        hosts.start(2);
        hosts.write(1, Op::create("/without", None)).await;
        time::sleep(Duration::from_secs(5)).await;
        hosts.write(3, Op::create("/still-alone", None)).await;
        assert_eq!([hosts.has(1, "/alone"), hosts.has(3, "/without")], [false, false]);
        assert_eq!(hosts.standings(3).await, all_vote(&[3]));
        assert_ne!(hosts.quorum(3).await, hosts.quorum(1).await);
        let refused =
            tend::add(&*hosts.outside(), &known(&[3]), (1, &address(1).to_string())).await;
        assert!(refused.unwrap_err().to_string().contains("it needs a new directory"));

        // With new disks they are added.
        for id in [1, 2] {
            hosts.replace_disk(id).await;
            hosts.start(id);
            let at = address(id).to_string();
            tend::add(&*hosts.outside(), &known(&[3]), (id.into(), &at)).await.unwrap();
        }
        assert_eq!(hosts.standings(1).await, all_vote(&[1, 2, 3]));
        assert!(hosts.has(1, "/still-alone") && hosts.has(2, "/99"));
        hosts.stop(3).await;
        hosts.write(2, Op::create("/with-two", None)).await;
    });
}

#[test]
fn what_may_have_been_committed_is_kept() {
    simulate(async {
        let mut hosts = Hosts::new();
        (1..=3).for_each(|id| hosts.start(id));
        hosts.found(&[1, 2, 3]).await;
        hosts.write(1, Op::create("/a", None)).await;
        let leader = tend::leader(&*hosts.outside(), &known(&[1, 2, 3])).await.unwrap();
        let leader = leader.own.voter.id as u8;
        for other in (1..=3).filter(|id| *id != leader) {
            hosts.network.cut(leader, other);
        }
        // It is written down by one who does not know yet that nobody hears it.
        let keeper = hosts.processes[&leader].keeper.clone();
        let session = keeper.read(|tree| tree.sessions().next().unwrap());
        let write = Request::Write(vec![Op::create("/unanswered", None)]);
        let answer = keeper.propose(vec![Command::new(session, write)]).unwrap();
        let answer = time::timeout(Duration::from_secs(5), answer).await.unwrap();
        assert!(answer.is_err(), "{answer:?}");
        drop(keeper);
        hosts.stop(leader).await;
        let survivor = hosts.survivor(leader);
        let remains = survivor.remains().clone();
        assert!(remains.committed.index < remains.last.index, "{remains:?}");
        assert!(remains.committed_zxid < remains.zxid, "{remains:?}");
        survivor.leave().unwrap();
        (1..=3).filter(|id| *id != leader).for_each(|id| drop(hosts.processes.remove(&id)));
        hosts.start(leader);
        hosts.write(leader, Op::create("/on", None)).await;
        assert!(hosts.has(leader, "/unanswered"));
        // A live client is told that its session is over, for something of it may be missing.
        let held = hosts.processes[&leader].keeper.read(|tree| tree.check_session(session));
        assert!(held.is_err());
    });
}

#[test]
fn a_backup_is_of_all_that_is_committed_and_begins_another_quorum() {
    simulate(async {
        let mut hosts = Hosts::new();
        (1..=3).for_each(|id| hosts.start(id));
        hosts.found(&[1, 2, 3]).await;
        // A few parts of it.
        for n in 0..20 {
            hosts.write(1, Op::create(format!("/{n}"), Some(vec![b'x'; 30_000]))).await;
        }
        let disk = FakeDisk::with_dir("/backup");
        let shared: Arc<dyn Disk> = disk.clone();
        let file = Path::new("/backup/monday");
        let saved = back_up(&*hosts.outside(), &shared, &known(&[2]), file).await.unwrap();
        assert!(saved.bytes > 600_000, "{saved:?}");
        let again = back_up(&*hosts.outside(), &shared, &known(&[2]), file).await.unwrap_err();
        assert!(again.to_string().contains("name a new file"), "{again}");
        // It is durable, and whole.
        let disk: Arc<dyn Disk> = disk.after(Crash::Power { seed: 1 });
        let tree = read_backup(&*disk, file).unwrap();
        assert_eq!((tree.len(), tree.last_zxid()), (saved.nodes, saved.zxid));

        let restored = FakeDisk::with_dir("/data");
        let shared: Arc<dyn Disk> = restored.clone();
        make_directory(&shared, Path::new(DIR), tree).unwrap();
        hosts.disks.insert(7, (DirectoryId([7; 16]), restored));
        hosts.start(7);
        hosts.write(7, Op::create("/restored", None)).await;
        assert!(hosts.has(7, "/19"));
        assert_eq!(hosts.standings(7).await, all_vote(&[7]));
        assert_ne!(hosts.quorum(7).await, QUORUM);
        hosts.replace_disk(1).await;
        hosts.start(1);
        tend::add(&*hosts.outside(), &known(&[7]), (1, &address(1).to_string())).await.unwrap();
        assert!(hosts.has(1, "/19") && hosts.has(1, "/restored"));
    });
}

#[test]
fn a_crash_while_a_voter_leaves_its_quorum_lets_it_have_left_or_not() {
    simulate(async {
        let mut hosts = Hosts::new();
        (1..=3).for_each(|id| hosts.start(id));
        hosts.found(&[1, 2, 3]).await;
        for n in 0..20 {
            hosts.write(1, Op::create(format!("/{n}"), Some(vec![b'x'; 50]))).await;
        }
        for id in 1..=3 {
            hosts.stop(id).await;
        }
        let before = hosts.survivor(3).remains().clone();
        let disk = hosts.disks[&3].1.clone();
        disk.record();
        hosts.survivor(3).leave().unwrap();
        let voter = Voter { id: 3, directory: DirectoryId([3; 16]) };
        let expected = open_as(voter, &disk.after(Crash::Process), Limits::default());
        let expected = expected.unwrap().read(Tree::clone);
        let (mut left, mut stayed) = (0, 0);
        for (n, image) in disk.take_recording().iter().enumerate() {
            let powers = (0..4).map(|seed| Crash::Power { seed });
            for crash in [Crash::Process].into_iter().chain(powers) {
                let after = image.after(crash);
                let disk: Arc<dyn Disk> = after.clone();
                match Survivor::open(&disk, Path::new(DIR)) {
                    Ok(survivor) => {
                        assert_eq!(*survivor.remains(), before, "change {n}, {crash:?}");
                        stayed += 1;
                        survivor.leave().unwrap();
                    }
                    Err(RecoverError::NoQuorum { .. }) => left += 1,
                    Err(error) => panic!("change {n}, {crash:?}: {error}"),
                }
                let keeper = open_as(voter, &after, Limits::default()).unwrap();
                assert_eq!(keeper.read(Tree::clone), expected, "change {n}, {crash:?}");
            }
        }
        assert!(left > 0 && stayed > 0, "{left} {stayed}");
    });
}
