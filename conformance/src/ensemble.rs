//! Suite `ensemble`: a broker of Ottla on an ensemble of three servers of Apache ZooKeeper.
//!
//! Owns: the accidents, and what must hold after each. While a client writes numbers, ZooKeeper's
//! leader is killed, the broker is killed, stopped for longer than its session lasts, and loses its
//! session's file. Then a broker of Kafka 3.9 becomes one of Ottla, and again one of Kafka: here, on a
//! server that wants a login by SASL, and on one whose connections are encrypted.

mod encrypted;
mod sasl;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_metadata::tree::Node as Znode;
use ottla_metadata::{Tree, ZooKeeper, ZooKeeperOptions};
use ottla_runtime::{World, task, time};

use crate::Outcome;
use crate::broker::{Broker, End, Node, Target};
use crate::install::{KAFKA, Tools};
use crate::numbers::{self, Writer, succeed};
use crate::tools;
use crate::zookeeper::Ensemble;

const SERVERS: usize = 3;

/// `zookeeper.session.timeout.ms`: short enough to be waited for, long enough to tell a start that
/// waits for it from one that does not.
const SESSION_TIMEOUT: Duration = Duration::from_secs(5);

/// What is waited for comes within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a broker that is up has in the tree.
const BROKER: [&str; 2] = ["/brokers/ids/1", "/controller"];

const KAFKA_HEAP_MIB: u32 = 384;

/// Returns how many checks failed.
pub(crate) fn run(target: &Target, tools: &Tools) -> Outcome<usize> {
    let Target::Ottla(binary) = target else {
        return Err("ensemble: it has to start the broker itself, an ottla".into());
    };
    let binary = fs::canonicalize(binary)?;
    let mut ensemble = Ensemble::start(tools, SERVERS)?;
    let mut failures = accidents(&binary, tools, &mut ensemble)?;
    let place = Place::new(&binary, tools, format!("{}/moved", ensemble.connect_string()))?;
    failures += moves(&place, |_, _| Ok(()))?;
    drop(ensemble);
    failures += sasl::run(&binary, tools)?;
    failures += encrypted::run(&binary, tools)?;
    Ok(failures)
}

fn accidents(binary: &Path, tools: &Tools, ensemble: &mut Ensemble) -> Outcome<usize> {
    let connect = format!("{}/ottla/cluster", ensemble.connect_string());
    let mut broker = Node::of(|address, home| ottla(binary, &connect, address, home))?;
    broker.start()?;
    let bootstrap = broker.bootstrap.clone();
    let look = Look::at(&connect)?;
    let first = look.registered(0)?;

    let running = Broker::start(&Target::Running(bootstrap.clone()), tools)?;
    let mut failures = tools::brief(&running, tools, "brief");
    numbers::create(tools, &bootstrap, 1)?;
    let mut writer = Writer::start(tools, &bootstrap, 0)?;
    writer.await_more()?;

    let leader = ensemble.kill_leader()?;
    writer.await_more()?;
    create_topic(binary, &bootstrap, "without-a-leader")?;
    say(&format!("numbers and topics go on after ZooKeeper's leader, {}, was killed", leader + 1));
    ensemble.restart(leader)?;

    failures += refusal(binary, &connect, &bootstrap)?;

    let (before, began) = (look.registered(first - 1)?, Instant::now());
    broker.stop(End::Killed)?;
    broker.start()?;
    let after = look.registered(before)?;
    let took = began.elapsed();
    if took < SESSION_TIMEOUT - Duration::from_secs(1) {
        say(&format!("a broker that was killed is registered again after {} ms", took.as_millis()));
    } else {
        println!("FAILED ensemble: it was registered again after {} ms only", took.as_millis());
        failures += 1;
    }
    writer.await_more()?;

    broker.signal("-STOP")?;
    look.gone()?;
    broker.signal("-CONT")?;
    let again = look.registered(after)?;
    create_topic(binary, &bootstrap, "after-expiry")?;
    writer.await_more()?;
    say(&format!("stopped beyond its session, it has the broker epoch {again} after {after}"));

    broker.stop(End::Killed)?;
    // Its own session is a stranger's now.
    fs::remove_file(broker.data().join("zookeeper-session"))?;
    broker.start()?;
    look.registered(again)?;
    writer.await_more()?;
    say("without its session's file, it waits until the session has ended");

    let acknowledged = writer.stop()?;
    broker.stop(End::Clean)?;
    look.gone()?;
    broker.start()?;
    failures += compare(tools, &bootstrap, &acknowledged, "after all that")?;
    broker.stop(End::Clean)?;
    Ok(failures)
}

/// Another process with the same id is refused, and told where the first one is.
fn refusal(binary: &Path, connect: &str, bootstrap: &str) -> Outcome<usize> {
    let mut other = Node::of(|address, home| ottla(binary, connect, address, home))?;
    let told = other.start().err().map(|error| error.to_string()).unwrap_or_default();
    if told.contains(&format!("it answers at {bootstrap}")) {
        say("a second process of its id is refused");
        return Ok(0);
    }
    println!("FAILED ensemble: a second process of the broker's id was told: {told}");
    Ok(1)
}

/// Where a cluster lives, and who may work there.
struct Place<'a> {
    binary: &'a Path,
    tools: &'a Tools,
    /// `zookeeper.connect`.
    connect: String,
    /// What else stands in the configuration of both brokers.
    keys: String,
    /// With what Kafka logs in.
    jaas: Option<PathBuf>,
    look: Look,
}

impl<'a> Place<'a> {
    fn new(binary: &'a Path, tools: &'a Tools, connect: String) -> Outcome<Self> {
        let look = Look::at(&connect)?;
        Ok(Self { binary, tools, connect, keys: String::new(), jaas: None, look })
    }

    fn kafka(&self, config: &Path) -> Command {
        let mut command = self.tools.java(KAFKA[0], KAFKA_HEAP_MIB, "kafka.Kafka");
        command.arg(config);
        if let Some(jaas) = &self.jaas {
            let option = format!("-Djava.security.auth.login.config={}", jaas.display());
            command.env("JAVA_TOOL_OPTIONS", option);
        }
        command
    }

    /// Writes one file for both.
    fn properties(&self, address: &str, home: &Path) -> Outcome<PathBuf> {
        properties(&self.connect, &self.keys, address, home)
    }
}

/// A broker of Kafka is replaced by one of Ottla on the same ensemble and directory, and that by one
/// of Kafka. `during` happens in each of the three turns.
fn moves(place: &Place<'_>, mut during: impl FnMut(usize, &str) -> Outcome<()>) -> Outcome<usize> {
    let Place { binary, tools, look, .. } = place;
    let mut failures = 0;
    let mut broker = Node::of(|address, home| Ok(place.kafka(&place.properties(address, home)?)))?;
    let config = broker.home().join("server.properties");
    let bootstrap = broker.bootstrap.clone();
    let mut acknowledged = BTreeSet::new();
    let mut epoch = 0;
    for (turn, who) in ["Kafka", "Ottla", "Kafka"].into_iter().enumerate() {
        if turn > 0 {
            broker.replace(match who {
                "Ottla" => ottla_with(binary, &config),
                _ => place.kafka(&config),
            });
        }
        broker.start()?;
        epoch = look.registered(epoch)?;
        match turn {
            0 => numbers::create(tools, &bootstrap, 1)?,
            _ => {
                failures += compare(tools, &bootstrap, &acknowledged, &format!("{who} took over"))?
            }
        }
        // The topic's name says which turn made it, and all earlier ones must be there.
        create_topic(binary, &bootstrap, &format!("turn-{turn}"))?;
        let listed = topics(binary, &bootstrap)?;
        if (0..=turn).any(|turn| !listed.contains(&format!("turn-{turn}"))) {
            println!("FAILED ensemble: {who} in turn {turn} has the topics {listed}");
            failures += 1;
        }
        let next = acknowledged.last().map_or(0, |last| last + 1);
        let mut writer = Writer::start(tools, &bootstrap, next)?;
        writer.await_more()?;
        during(turn, &bootstrap)?;
        acknowledged.extend(writer.stop()?);
        broker.stop(End::Clean)?;
        look.gone()?;
    }
    Ok(failures)
}

fn compare(
    tools: &Tools,
    bootstrap: &str,
    acknowledged: &BTreeSet<u64>,
    what: &str,
) -> Outcome<usize> {
    let problems = numbers::problems(tools, bootstrap, acknowledged)?;
    for problem in &problems {
        println!("FAILED ensemble: {what}: {problem}");
    }
    if problems.is_empty() {
        say(&format!("{what}: {} acknowledged, each there once", acknowledged.len()));
    }
    Ok(problems.len())
}

fn say(what: &str) {
    println!("ok     ensemble: {what}");
}

fn create_topic(binary: &Path, bootstrap: &str, name: &str) -> Outcome<()> {
    let create = ["topic", "create", name, "--bootstrap", bootstrap];
    succeed(Command::new(binary).args(create)).map(drop)
}

fn topics(binary: &Path, bootstrap: &str) -> Outcome<String> {
    succeed(Command::new(binary).args(["topic", "list", "--bootstrap", bootstrap]))
}

fn ottla(binary: &Path, connect: &str, address: &str, home: &Path) -> Outcome<Command> {
    Ok(ottla_with(binary, &properties(connect, "", address, home)?))
}

fn ottla_with(binary: &Path, config: &Path) -> Command {
    let mut command = Command::new(binary);
    command.args(["start", "--config"]).arg(config);
    command
}

fn properties(connect: &str, keys: &str, address: &str, home: &Path) -> Outcome<PathBuf> {
    let path = home.join("server.properties");
    let text = format!(
        "broker.id=1
zookeeper.connect={connect}
zookeeper.session.timeout.ms={}
zookeeper.connection.timeout.ms=30000
listeners=PLAINTEXT://{address}
log.dirs={}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
{keys}",
        SESSION_TIMEOUT.as_millis(),
        home.join("data").display()
    );
    fs::write(&path, text)?;
    Ok(path)
}

/// A look at the cluster's tree, each with a session of its own.
struct Look(ZooKeeperOptions);

impl Look {
    fn at(connect: &str) -> Outcome<Self> {
        Ok(Self(ZooKeeperOptions::new(connect.parse()?)))
    }

    /// Waits until the broker is registered with a later epoch than `before`, and is the controller,
    /// and gives the epoch.
    fn registered(&self, before: i64) -> Outcome<i64> {
        self.until("the broker to be registered", BROKER, |[registration, controller]| {
            let (registration, controller) = (registration?.stat, controller?.stat);
            let is_later = registration.czxid > before;
            let is_controller = controller.ephemeral_owner == registration.ephemeral_owner;
            (is_later && is_controller).then_some(registration.czxid)
        })
    }

    /// Waits until the broker is registered no more.
    fn gone(&self) -> Outcome<()> {
        self.until("the broker to be gone", BROKER, |[registration, _]| {
            registration.is_none().then_some(())
        })
    }

    /// Waits until a topic has its first partition.
    fn led(&self, topic: &str) -> Outcome<()> {
        let state = format!("/brokers/topics/{topic}/partitions/0/state");
        self.until("a topic's partition", [&state], |[state]| state.map(drop))
    }

    fn until<const N: usize, T>(
        &self,
        what: &str,
        paths: [&str; N],
        look: impl Fn([Option<&Znode>; N]) -> Option<T>,
    ) -> Outcome<T> {
        let options = self.0.clone();
        task::block_on(async {
            let tree: Arc<dyn Tree> =
                Arc::new(ZooKeeper::connect(&World::system(), options).await?);
            let began = Instant::now();
            let found = loop {
                let nodes = tree.get_all(paths.map(str::to_owned).to_vec()).await?;
                let nodes = std::array::from_fn(|at| nodes.get(at).and_then(Option::as_ref));
                if let Some(found) = look(nodes) {
                    break found;
                }
                if began.elapsed() > PATIENCE {
                    return Err(format!("waited {} s for {what}", PATIENCE.as_secs()).into());
                }
                time::sleep(Duration::from_millis(20)).await;
            };
            tree.close().await?;
            Ok(found)
        })?
    }
}
