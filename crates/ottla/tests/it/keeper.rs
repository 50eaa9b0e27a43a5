//! A broker whose keeper is one of three, and the tools of its quorum; a broker on an ensemble of its own.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use ottla_runtime::World;
use ottla_runtime::net::ListenOptions;
use ottla_runtime::task::block_on;

use crate::broker::{Broker, Scratch};

fn ottla(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    command.env_clear().stdin(Stdio::null()).args(args);
    command
}

/// Runs a tool until it succeeds: those whom it asks may not listen yet.
fn succeed(args: &[&str]) -> String {
    until(args, "")
}

/// Runs a tool until it succeeds and says something: what it asks about may not be known yet.
fn until(args: &[&str], said: &str) -> String {
    for _ in 0..1_000 {
        let Output { status, stdout, .. } = ottla(args).output().expect("the binary runs");
        let stdout = String::from_utf8(stdout).expect("text");
        if status.success() && stdout.contains(said) {
            return stdout;
        }
        thread::yield_now();
    }
    panic!("{said:?} was not said: {:?}", ottla(args).output())
}

/// A keeper without a broker; dropping it kills it.
struct Keeper(Child);

impl Keeper {
    fn start(id: usize, voters: &str, dir: &Scratch) -> Self {
        Self::start_in(id, voters, &path(dir, &id.to_string()))
    }

    fn start_in(id: usize, voters: &str, dir: &str) -> Self {
        let id = id.to_string();
        let listener = ["--listener", "127.0.0.1:0", "--data-dir", dir];
        let mut command = ottla(&["keeper", "start", "--id", &id, "--voters", voters]);
        let child = command.args(listener).stderr(Stdio::null()).spawn();
        Self(child.expect("the binary runs"))
    }
}

/// A keeper that is alone and serves ZooKeeper's clients at `address`.
fn alone(address: &str, dir: &Scratch) -> Keeper {
    let dir = dir.path().join("keeper");
    let mut command = ottla(&["keeper", "start", "--listener", address, "--data-dir"]);
    Keeper(command.arg(dir).stderr(Stdio::null()).spawn().expect("the binary runs"))
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn path(dir: &Scratch, name: &str) -> String {
    dir.path().join(name).to_str().expect("a name").to_owned()
}

/// What a command says that is refused with this exit code.
fn refused(code: i32, args: &[&str]) -> String {
    let Output { status, stderr, .. } = ottla(args).output().expect("the binary runs");
    let told = String::from_utf8(stderr).expect("text");
    assert_eq!(status.code(), Some(code), "{args:?}: {told}");
    told
}

/// A port of the loopback that nobody listens on.
fn free_port() -> u16 {
    let network = World::system().network;
    let options = ListenOptions { backlog: 1, send_buffer: None, receive_buffer: None };
    let bound = block_on(async {
        let address = network.resolve("127.0.0.1", 0).expect("an address");
        network.listen(address, options).expect("a port").local_addr().expect("bound").port()
    });
    bound.expect("a runtime")
}

fn topic(broker: &Broker, args: &[&str]) -> String {
    let address = broker.address.to_string();
    succeed(&[&["topic"], args, &["--bootstrap", &address]].concat())
}

#[test]
fn a_broker_whose_keeper_is_one_of_three_outlives_its_own_crash_and_theirs() {
    let scratch = Scratch::new("keeper");
    let addresses: Vec<_> = (0..3).map(|_| format!("127.0.0.1:{}", free_port())).collect();
    let voters: Vec<_> = (1..).zip(&addresses).map(|(id, at)| format!("{id}@{at}")).collect();
    let voters = voters.join(",");
    let second = Keeper::start(2, &voters, &scratch);
    let _third = Keeper::start(3, &voters, &scratch);
    let dir = scratch.path().join("1");
    let keys = [format!("keeper.quorum.voters={voters}")];
    let start = || Broker::start_with(&dir, &keys);

    // It waits for its quorum, which is founded by an act.
    let mut broker = thread::scope(|scope| {
        let starting = scope.spawn(start);
        let founded = succeed(&["keeper", "found", &voters]);
        assert!(founded.contains("voter      3 at"), "{founded}");
        starting.join().expect("it starts")
    });
    topic(&broker, &["create", "kept"]);

    // It comes again at once: its own session, which the quorum still knows, stands in nobody's way.
    broker.kill();
    drop(broker);
    let broker = start();
    assert!(topic(&broker, &["list"]).contains("kept"));

    // Of three keepers two are enough, and the tools tell which.
    drop(second);
    drop(broker);
    let broker = start();
    assert!(topic(&broker, &["list"]).contains("kept"));
    let gone = format!("voter      2 at {}: not heard of", addresses[1]);
    until(&["keeper", "status", "--keeper", &addresses[0]], &gone);
}

#[test]
fn the_keeper_of_a_stopped_broker_is_served_without_it() {
    let scratch = Scratch::new("left");
    let dir = scratch.path().join("__cluster_metadata-1");
    let dir = dir.to_str().expect("a name");
    let serve = || ottla(&["keeper", "start", "--listener", "127.0.0.1:0", "--data-dir", dir]);

    let broker = Broker::start(scratch.path());
    topic(&broker, &["create", "kept"]);
    let refused = serve().output().expect("the binary runs");
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(4) && message.contains("is locked by"), "{message}");

    broker.stop();
    let mut keeper = Keeper(serve().stderr(Stdio::piped()).spawn().expect("the binary runs"));
    let log = BufReader::new(keeper.0.stderr.take().expect("piped"));
    let mut log = log.lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("ready")), "it did not start");
    drop(keeper);

    let broker = Broker::start(scratch.path());
    assert!(topic(&broker, &["list"]).contains("kept"));
}

#[test]
fn one_keeper_that_is_left_of_three_goes_on_alone_and_a_backup_begins_another() {
    let scratch = Scratch::new("keeper-upkeep");
    let addresses: Vec<_> = (0..3).map(|_| format!("127.0.0.1:{}", free_port())).collect();
    let voters: Vec<_> = (1..).zip(&addresses).map(|(id, at)| format!("{id}@{at}")).collect();
    let voters = voters.join(",");
    let mut keepers: Vec<_> = (1..=3).map(|id| Keeper::start(id, &voters, &scratch)).collect();
    let founded = succeed(&["keeper", "found", &voters]);
    let quorum = founded.lines().next().expect("a line").to_owned();
    let backup = path(&scratch, "backup");
    let saved = succeed(&["keeper", "snapshot", "--keeper", &addresses[0], "--to", &backup]);
    assert!(saved.contains("4 nodes as of zxid"), "{saved}");

    // The third alone is left.
    let dir = path(&scratch, "3");
    let told = refused(4, &["keeper", "recover", "--data-dir", &dir, "--yes"]);
    assert!(told.contains("is locked by process"), "{told}");
    keepers.clear();
    let told = succeed(&["keeper", "recover", "--data-dir", &dir, "--dry-run"]);
    assert!(told.starts_with(&quorum) && told.contains(&addresses[1]), "{told}");
    assert!(
        told.lines().any(|line| line.starts_with("member     3 ") && line.ends_with("this one"))
    );
    let told = refused(2, &["keeper", "recover", "--data-dir", &dir]);
    assert!(told.contains("nobody can be asked here"), "{told}");
    succeed(&["keeper", "recover", "--data-dir", &dir, "--yes"]);
    let told = refused(2, &["keeper", "recover", "--data-dir", &dir, "--yes"]);
    assert!(told.contains("belongs to no quorum"), "{told}");
    keepers.push(Keeper::start(3, &voters, &scratch));
    let status = succeed(&["keeper", "status", "--keeper", &addresses[2]]);
    assert!(status.contains("leader     3") && !status.contains(&quorum), "{status}");
    assert!(status.contains("zxid       0x2"), "{status}");

    // A backup goes into a new directory only.
    let told = refused(2, &["keeper", "restore", &backup, "--data-dir", &path(&scratch, "2")]);
    assert!(told.contains("is not empty"), "{told}");
    let dir = path(&scratch, "new");
    succeed(&["keeper", "restore", &backup, "--data-dir", &dir]);
    let at = format!("127.0.0.1:{}", free_port());
    keepers.push(Keeper::start_in(7, &format!("7@{at}"), &dir));
    let status = succeed(&["keeper", "status", "--keeper", &at]);
    assert!(status.contains("leader     7") && !status.contains(&quorum), "{status}");
}

#[test]
fn a_broker_that_was_killed_does_not_wait_for_its_own_session() {
    const SESSION_TIMEOUT: Duration = Duration::from_secs(40);
    let scratch = Scratch::new("ensemble");
    let address = format!("127.0.0.1:{}", free_port());
    let _keeper = alone(&address, &scratch);
    let dir = scratch.path().join("1");
    let keys = [
        format!("zookeeper.connect={address}/kafka"),
        format!("zookeeper.session.timeout.ms={}", SESSION_TIMEOUT.as_millis()),
    ];
    let mut broker = Broker::start_with(&dir, &keys);
    topic(&broker, &["create", "kept"]);
    let clock = World::system().clock;
    let killed = clock.elapsed();
    broker.kill();
    drop(broker);
    let broker = Broker::start_with(&dir, &keys);
    assert!(clock.elapsed() - killed < SESSION_TIMEOUT / 2, "it has waited");
    assert!(topic(&broker, &["list"]).contains("kept"));
    let (status, log) = broker.stop();
    assert!(status.success(), "{status}\n{log}");
    assert!(!dir.join("zookeeper-session").exists(), "its session was not ended");
}
