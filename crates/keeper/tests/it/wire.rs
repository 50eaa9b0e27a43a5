//! ZooKeeper's protocol, byte by byte, on a network in memory.

use std::sync::Arc;
use std::time::Duration;

use ottla_fake::{FakeDisk, FakeNetwork, FakeRandom, RunningClock};
use ottla_keeper::wire::{ServeOptions, serve};
use ottla_keeper::{
    Command, Keeper, Limits, Membership, Op, Options, Peer, QuorumId, Request, Timing,
};
use ottla_runtime::net::{ListenOptions, Stream, read_exact, write_all};
use ottla_runtime::{Network, Spawner, Task, World, time};

use super::process::simulate;
use super::{DIR, NOW_MS, VOTER};

const PORT: u16 = 2181;
const NO_SESSION: (i64, [u8; 16]) = (0, [0; 16]);

/// Types of operations.
const CREATE: i32 = 1;
const DELETE: i32 = 2;
const EXISTS: i32 = 3;
const GET: i32 = 4;
const SET: i32 = 5;
const CHILDREN: i32 = 8;
const PING: i32 = 11;
const MULTI: i32 = 14;
const CLOSE: i32 = -11;

/// A keeper alone that serves clients, and the network that they come over.
struct Server {
    network: FakeNetwork,
    keeper: Arc<Keeper>,
    disk: Arc<FakeDisk>,
    _tasks: [Task<()>; 2],
}

/// A connection to it.
struct Client {
    stream: Box<dyn Stream>,
}

/// A packet that is being put together.
#[derive(Default)]
struct Packet(Vec<u8>);

impl Packet {
    fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i64(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn bytes(mut self, value: &[u8]) -> Self {
        self = self.i32(value.len() as i32);
        self.0.extend(value);
        self
    }

    fn text(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }

    fn texts(self, values: &[&str]) -> Self {
        values.iter().fold(self.i32(values.len() as i32), |packet, value| packet.text(value))
    }

    /// A path, data, the open list of ZooKeeper's clients, and flags.
    fn create(self, path: &str, data: &[u8], flags: i32) -> Self {
        let acl = self.text(path).bytes(data).i32(1).i32(31).text("world").text("anyone");
        acl.i32(flags)
    }
}

fn request(xid: i32, kind: i32) -> Packet {
    Packet::default().i32(xid).i32(kind)
}

fn watching(xid: i32, kind: i32, path: &str) -> Packet {
    request(xid, kind).text(path).byte(1)
}

fn reading(xid: i32, kind: i32, path: &str) -> Packet {
    request(xid, kind).text(path).byte(0)
}

/// An answer: its xid, its zxid, its error and its body.
type Answer = (i32, i64, i32, Vec<u8>);

impl Server {
    fn start() -> Self {
        Self::start_on(FakeNetwork::new(1, Duration::from_millis(1)))
    }

    fn start_on(network: FakeNetwork) -> Self {
        let disk = FakeDisk::with_dir("/data");
        let world = World {
            clock: Arc::new(RunningClock::at(NOW_MS)),
            disk: disk.clone(),
            network: network.host(1),
            random: Arc::new(FakeRandom::new(1)),
        };
        let (limits, timing) = (Limits::default(), Timing::default());
        let own = Peer { voter: VOTER, address: String::new() };
        let founding = Some(Membership::of(QuorumId([3; 16]), [own.clone()]));
        let options = Options { dir: DIR.into(), own, founding, limits, timing };
        let keeper = Arc::new(Keeper::open(&world, &options).unwrap());
        let address = world.network.resolve("10.0.0.1", PORT).unwrap();
        let listening = ListenOptions { backlog: 8, send_buffer: None, receive_buffer: None };
        let listener = world.network.listen(address, listening).unwrap();
        let spawner = Spawner::current();
        let driver = spawner.spawn(keeper.clone().drive());
        let World { clock, random, .. } = world;
        let options = ServeOptions { packet_bytes_max: 1 << 20, ..ServeOptions::default() };
        let serving = serve(keeper.clone(), clock, random, listener, &spawner, options);
        Self { network, keeper, disk, _tasks: [driver, serving] }
    }

    async fn connect(&self) -> Client {
        let network: Arc<dyn Network> = self.network.host(2);
        Client { stream: network.connect("10.0.0.1", PORT).await.unwrap() }
    }

    /// A client with a session.
    async fn client(&self) -> Client {
        let mut client = self.connect().await;
        let begun = client.begin(NO_SESSION, 0, 10_000).await.unwrap();
        assert_ne!(begun.1, 0);
        client
    }
}

impl Client {
    async fn send(&mut self, packet: Packet) {
        let framed = Packet::default().bytes(&packet.0);
        write_all(&*self.stream, &framed.0).await.unwrap();
    }

    /// The next packet; `None` at the end.
    async fn receive(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        read_exact(&*self.stream, &mut length).await.ok()?;
        let mut packet = vec![0; u32::from_be_bytes(length) as usize];
        read_exact(&*self.stream, &mut packet).await.ok()?;
        Some(packet)
    }

    async fn answer(&mut self) -> Option<Answer> {
        let packet = self.receive().await?;
        let (head, body) = packet.split_at(16);
        let xid = i32::from_be_bytes(head[..4].try_into().unwrap());
        let zxid = i64::from_be_bytes(head[4..12].try_into().unwrap());
        let error = i32::from_be_bytes(head[12..].try_into().unwrap());
        Some((xid, zxid, error, body.to_vec()))
    }

    /// Asks for a session. Returns its timeout, its id and its password.
    async fn begin(
        &mut self,
        (id, password): (i64, [u8; 16]),
        known: i64,
        timeout_ms: i32,
    ) -> Option<(i32, i64, [u8; 16])> {
        let connect = Packet::default().i32(0).i64(known).i32(timeout_ms).i64(id);
        self.send(connect.bytes(&password).byte(0)).await;
        let packet = self.receive().await?;
        assert_eq!((packet.len(), packet[36]), (37, 0));
        let timeout_ms = i32::from_be_bytes(packet[4..8].try_into().unwrap());
        let id = i64::from_be_bytes(packet[8..16].try_into().unwrap());
        Some((timeout_ms, id, packet[20..36].try_into().unwrap()))
    }

    async fn ask(&mut self, packet: Packet) -> Answer {
        self.send(packet).await;
        self.answer().await.expect("an answer")
    }

    /// What is told of the next change: its type and its path.
    async fn event(&mut self) -> (i32, String) {
        let (xid, zxid, error, body) = self.answer().await.expect("an event");
        assert_eq!((xid, error), (-1, 0));
        assert!(zxid == -1 || zxid > 0, "{zxid}");
        event_of(&body)
    }
}

fn event_of(body: &[u8]) -> (i32, String) {
    let number = |at: usize| i32::from_be_bytes(body[at..at + 4].try_into().unwrap());
    assert_eq!(number(4), 3, "connected");
    (number(0), String::from_utf8(body[12..].to_vec()).unwrap())
}

#[test]
fn a_session_goes_on_upon_another_connection_and_ends_in_silence() {
    simulate(async {
        let server = Server::start();
        let mut client = server.connect().await;
        // What is asked for is brought within bounds.
        let (timeout_ms, id, password) = client.begin(NO_SESSION, 0, 1).await.unwrap();
        assert_eq!((timeout_ms, id), (4_000, 1));
        assert_eq!(client.ask(request(1, CREATE).create("/e", b"", 1)).await.2, 0);

        let mut moved = server.connect().await;
        assert_eq!(moved.begin((id, password), 2, 1).await, Some((4_000, id, password)));
        // The former connection ends.
        assert_eq!(client.answer().await, None);
        assert_eq!(moved.ask(reading(1, EXISTS, "/e")).await.2, 0);
        let mut wrong = server.connect().await;
        assert_eq!(wrong.begin((id, [0; 16]), 2, 1).await, Some((0, 0, [0; 16])));
        let mut ahead = server.connect().await;
        assert_eq!(ahead.begin(NO_SESSION, 99, 1).await, None, "closed without an answer");

        // Pings keep it, silence does not.
        for _ in 0..10 {
            time::sleep(Duration::from_millis(1_000)).await;
            assert_eq!(moved.ask(request(-2, PING)).await, (-2, 2, 0, vec![]));
        }
        assert_eq!(moved.answer().await, None, "the session has ended");
        assert!(server.keeper.read(|tree| tree.exists("/e")).is_none());
        let mut late = server.connect().await;
        assert_eq!(late.begin((id, password), 0, 1).await, Some((0, 0, [0; 16])));
    });
}

#[test]
fn answers_come_in_order_and_reads_see_the_writes_before_them() {
    simulate(async {
        let server = Server::start();
        let mut client = server.client().await;
        client.send(request(1, CREATE).create("/a", b"1", 0)).await;
        client.send(reading(2, GET, "/a")).await;
        client.send(request(3, SET).text("/a").bytes(b"2").i32(0)).await;
        client.send(reading(4, GET, "/a")).await;
        client.send(request(5, SET).text("/a").bytes(b"3").i32(0)).await;
        client.send(reading(6, CHILDREN, "/a")).await;
        client.send(request(7, DELETE).text("/a").i32(-1)).await;
        client.send(reading(8, EXISTS, "/a")).await;
        client.send(request(9, CLOSE)).await;
        let created = client.answer().await.unwrap();
        assert_eq!(created, (1, 2, 0, Packet::default().text("/a").0));
        for (xid, data) in [(2, b"1"), (4, b"2")] {
            let read = client.answer().await.unwrap();
            assert_eq!((read.0, read.2, &read.3[4..5]), (xid, 0, &data[..]));
            assert_eq!(read.3.len(), 5 + 68);
            let written = client.answer().await.unwrap();
            let (error, length) = if xid == 2 { (0, 68) } else { (-103, 0) };
            assert_eq!((written.0, written.2, written.3.len()), (xid + 1, error, length));
        }
        assert_eq!(client.answer().await.unwrap().3, [0; 4], "no children");
        assert_eq!(client.answer().await.unwrap(), (7, 5, 0, vec![]));
        assert_eq!(client.answer().await.unwrap(), (8, 5, -101, vec![]));
        assert_eq!(client.answer().await.unwrap(), (9, 6, 0, vec![]));
        assert_eq!(client.answer().await, None);
    });
}

#[test]
fn what_is_watched_is_told_before_it_can_be_read() {
    simulate(async {
        let server = Server::start();
        let (mut watcher, mut writer) = (server.client().await, server.client().await);
        assert_eq!(watcher.ask(watching(1, EXISTS, "/a")).await.2, -101);
        for round in 0..50 {
            // The watcher reads all the time.
            writer.send(request(1, CREATE).create("/a", b"", 0)).await;
            let mut xid = 2;
            loop {
                let answer = watcher.ask(watching(xid, EXISTS, "/a")).await;
                if answer.0 == -1 {
                    assert_eq!(event_of(&answer.3), (1, "/a".to_owned()), "round {round}");
                    let read = watcher.answer().await.unwrap();
                    assert_eq!(read.2, 0, "after the event it is there");
                    assert_eq!(read.3[..8], answer.1.to_be_bytes(), "the event tells its czxid");
                    break;
                }
                assert_eq!((answer.0, answer.2), (xid, -101), "round {round}");
                xid += 1;
            }
            writer.send(request(2, DELETE).text("/a").i32(-1)).await;
            assert_eq!(watcher.event().await, (2, "/a".to_owned()));
            assert_eq!(watcher.ask(watching(1, EXISTS, "/a")).await.2, -101);
            assert_eq!(
                [writer.answer().await.unwrap().2, writer.answer().await.unwrap().2],
                [0, 0]
            );
        }
        // Its own change is told before it is answered.
        assert_eq!(watcher.ask(watching(1, CHILDREN, "/")).await.2, 0);
        watcher.send(request(2, CREATE).create("/b", b"", 0)).await;
        assert_eq!(watcher.event().await, (4, "/".to_owned()));
        assert_eq!(watcher.answer().await.unwrap().0, 2);
    });
}

#[test]
fn a_multi_is_answered_as_zookeeper_does() {
    simulate(async {
        let server = Server::start();
        let mut client = server.client().await;
        let op = |packet: Packet, kind| packet.i32(kind).byte(0).i32(-1);
        let end = |packet: Packet| packet.i32(-1).byte(1).i32(-1);
        let multi = |version| {
            let multi = op(request(1, MULTI), CREATE).create("/a", b"", 0);
            let multi = op(multi, 13).text("/a").i32(version);
            end(op(multi, DELETE).text("/a").i32(-1))
        };
        let failed = |packet: Packet, code| packet.i32(-1).byte(0).i32(code).i32(code);
        let refused = failed(failed(failed(Packet::default(), 0), -103), -2);
        assert_eq!(client.ask(multi(1)).await, (1, 2, 0, end(refused).0));
        let done = |packet: Packet, kind| packet.i32(kind).byte(0).i32(0);
        let all = done(done(done(Packet::default(), CREATE).text("/a"), 13), DELETE);
        assert_eq!(client.ask(multi(0)).await, (1, 3, 0, end(all).0));
    });
}

#[test]
fn watches_that_are_set_again_fire_for_what_was_missed() {
    simulate(async {
        let server = Server::start();
        let mut client = server.client().await;
        for (xid, path) in [(1, "/a"), (2, "/b"), (3, "/c")] {
            assert_eq!(client.ask(request(xid, CREATE).create(path, b"", 0)).await.2, 0);
        }
        let known = client.ask(request(4, SET).text("/a").bytes(b"").i32(-1)).await.1;
        assert_eq!(client.ask(request(5, SET).text("/b").bytes(b"").i32(-1)).await.2, 0);
        let set = request(-8, 101).i64(known).texts(&["/a", "/b", "/gone"]);
        client.send(set.texts(&["/c", "/none"]).texts(&["/", "/a"])).await;
        let mut events = Vec::new();
        for _ in 0..3 {
            events.push(client.event().await);
        }
        let expected = [(3, "/b"), (2, "/gone"), (1, "/c")];
        assert_eq!(events, expected.map(|(kind, path)| (kind, path.to_owned())));
        assert_eq!(client.answer().await.unwrap(), (-8, known + 1, 0, vec![]));
        // The others are set.
        client.send(request(6, SET).text("/a").bytes(b"").i32(-1)).await;
        assert_eq!(client.event().await, (3, "/a".to_owned()));
        assert_eq!(client.answer().await.unwrap().0, 6);
        client.send(request(7, CREATE).create("/none", b"", 0)).await;
        assert_eq!(client.event().await, (1, "/none".to_owned()));
        assert_eq!(client.event().await, (4, "/".to_owned()));
    });
}

#[test]
fn what_is_no_request_is_refused() {
    simulate(async {
        let server = Server::start();
        let mut client = server.client().await;
        // A body that is cut short, flags and lists that there are not: the connection stays.
        assert_eq!(client.ask(request(1, GET).i32(9)).await.2, -5);
        assert_eq!(client.ask(request(2, CREATE).create("/a", b"", 9)).await.2, -8);
        let no_list = request(3, CREATE).text("/a").bytes(b"").i32(0).i32(0);
        assert_eq!(client.ask(no_list).await.2, -114);
        assert_eq!(client.ask(request(4, 13).text("/").i32(0)).await.2, -6);
        assert_eq!(client.ask(request(5, CREATE).create("a", b"", 0)).await.2, -8);
        // An operation, or a way to show who one is, that there is not.
        assert_eq!(client.ask(request(6, 99)).await.2, -6);
        assert_eq!(client.answer().await, None);
        let mut client = server.client().await;
        let auth = request(-4, 100).i32(0).text("nonsense").bytes(b"");
        // What comes behind it in the same packet is not done.
        let auth = Packet::default().bytes(&auth.0);
        let both = auth.bytes(&request(1, CREATE).create("/never", b"", 0).0);
        write_all(&*client.stream, &both.0).await.unwrap();
        assert_eq!(client.answer().await.unwrap().2, -115);
        assert_eq!(client.answer().await, None);
        assert_eq!(server.keeper.read(|tree| tree.exists("/never")), None);
        // A name and a password are any bytes.
        let mut client = server.client().await;
        for any in [&b"no colon"[..], b"", b"eve:\xff"] {
            let auth = request(-4, 100).i32(0).text("digest").bytes(any);
            assert_eq!(client.ask(auth).await.2, 0);
        }
        let who = client.ask(request(1, 107)).await.3;
        let names: Vec<_> = ["ip", "digest", "no colon", "eve"].into_iter().collect();
        assert!(names.iter().all(|name| String::from_utf8_lossy(&who).contains(name)), "{who:?}");
        // More than a packet may hold.
        let mut client = server.client().await;
        write_all(&*client.stream, &(2_i32 << 20).to_be_bytes()).await.unwrap();
        assert_eq!(client.answer().await, None);
        let stranger = server.connect().await;
        write_all(&*stranger.stream, b"ruok").await.unwrap();
        let mut answer = [0; 4];
        read_exact(&*stranger.stream, &mut answer).await.unwrap();
        assert_eq!(&answer, b"imok");
    });
}

#[test]
fn a_client_that_takes_nothing_is_dropped() {
    simulate(async {
        let server = Server::start();
        let mut watcher = server.client().await;
        let watch = request(1, 106).text("/").i32(1);
        assert_eq!(watcher.ask(watch).await, (1, 1, 0, vec![0; 4]));
        assert_eq!(server.keeper.count_clients(), (1, 1));
        let set = |_| Op::set("/", Vec::new(), -1);
        let caller = server.keeper.read(|tree| tree.sessions().next()).unwrap();
        // Each tells it some 30 bytes.
        for _ in 0..300 {
            let write = Command::new(caller, Request::Write((0..1_000).map(set).collect()));
            let outcomes = server.keeper.propose(vec![write]).unwrap().await.unwrap();
            assert!(outcomes[0].result.is_ok());
            server.keeper.hear(vec![caller.session]);
            time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(server.keeper.count_clients(), (0, 0));
    });
}

#[test]
fn a_keeper_that_was_stopped_itself_ends_no_sessions() {
    simulate(async {
        let server = Server::start();
        let mut client = server.client().await;
        time::sleep(Duration::from_secs(5)).await;
        // Nobody runs meanwhile.
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(client.ask(request(-2, PING)).await, (-2, 1, 0, vec![]));
        time::sleep(Duration::from_secs(9)).await;
        assert_eq!(client.ask(request(-2, PING)).await, (-2, 1, 0, vec![]));
        time::sleep(Duration::from_secs(11)).await;
        assert_eq!(client.answer().await, None, "its own silence ends it");
    });
}

#[test]
fn a_keeper_whose_disk_fails_drops_its_clients() {
    simulate(async {
        let server = Server::start();
        let (mut writer, mut reader) = (server.client().await, server.client().await);
        server.disk.fail_after(0);
        writer.send(request(1, CREATE).create("/a", b"", 0)).await;
        assert_eq!(writer.answer().await, None, "nobody knows what became of it");
        assert_eq!(reader.answer().await, None, "what it would read stays behind");
        let mut late = server.connect().await;
        assert_eq!(late.begin(NO_SESSION, 0, 10_000).await, None);
        let operator = server.connect().await;
        write_all(&*operator.stream, b"ruok").await.unwrap();
        let mut answer = [0; 22];
        read_exact(&*operator.stream, &mut answer).await.unwrap();
        assert_eq!(&answer, b"This ZooKeeper instanc");
    });
}

#[test]
fn who_may_not_read_a_node_is_not_told_of_it() {
    simulate(async {
        let server = Server::start();
        let (mut stranger, mut owner) = (server.client().await, server.client().await);
        let auth = || request(-4, 100).i32(0).text("digest").bytes(b"bob:secret");
        assert_eq!(owner.ask(auth()).await.2, 0);
        for client in [&mut stranger, &mut owner] {
            assert_eq!(client.ask(watching(1, EXISTS, "/a")).await.2, -101);
        }
        let own = request(2, CREATE).text("/a").bytes(b"").i32(1).i32(31).text("auth").text("");
        owner.send(own.i32(0)).await;
        assert_eq!(owner.event().await, (1, "/a".to_owned()));
        assert_eq!(owner.answer().await.unwrap().2, 0);
        assert_eq!(stranger.ask(request(-2, PING)).await.0, -2, "no event comes before the answer");
        assert_eq!(stranger.ask(reading(3, EXISTS, "/a")).await.2, -102);
    });
}

#[test]
fn of_two_connections_that_go_on_with_a_session_at_once_one_has_lost_it() {
    simulate(async {
        // All that is sent at one time arrives at one time.
        let server = Server::start_on(FakeNetwork::new(1, Duration::ZERO));
        let mut first = server.connect().await;
        let (_, session, password) = first.begin(NO_SESSION, 0, 10_000).await.unwrap();
        let mut both = [server.connect().await, server.connect().await];
        let again = Packet::default().i32(0).i64(0).i32(10_000).i64(session);
        let again = again.bytes(&password).byte(0);
        for client in &mut both {
            client.send(Packet(again.0.clone())).await;
        }
        let (mut done, mut ended) = (0, 0);
        for client in &mut both {
            assert!(client.receive().await.is_some(), "the session goes on");
            let set = request(1, SET).text("/").bytes(b"x").i32(-1);
            let framed = Packet::default().bytes(&set.0);
            // Whoever has lost the session may be gone already.
            let _ = write_all(&*client.stream, &framed.0).await;
            match client.answer().await {
                Some((1, _, 0, _)) => done += 1,
                None => ended += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((done, ended), (1, 1));
    });
}
