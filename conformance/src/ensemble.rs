//! Suite `ensemble`: a broker of Ottla on an ensemble of three servers of Apache ZooKeeper.
//!
//! Owns: the accidents, and what must hold after each. While a client writes numbers, ZooKeeper's
//! leader is killed, the broker is killed, stopped for longer than its session lasts, and loses its
//! session's file. Then a broker of Kafka 3.9 becomes one of Ottla, and again one of Kafka.

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

const KAFKA_HEAP_MIB: u32 = 384;

/// Returns how many checks failed.
pub(crate) fn run(target: &Target, tools: &Tools) -> Outcome<usize> {
    let Target::Ottla(binary) = target else {
        return Err("ensemble: it has to start the broker itself, an ottla".into());
    };
    let binary = fs::canonicalize(binary)?;
    let mut ensemble = Ensemble::start(tools, SERVERS)?;
    let mut failures = accidents(&binary, tools, &mut ensemble)?;
    failures += moves(&binary, tools, &ensemble)?;
    Ok(failures)
}

fn accidents(binary: &Path, tools: &Tools, ensemble: &mut Ensemble) -> Outcome<usize> {
    let connect = format!("{}/ottla/cluster", ensemble.connect_string());
    let mut broker = Node::of(|address, home| ottla(binary, &connect, address, home))?;
    broker.start()?;
    let bootstrap = broker.bootstrap.clone();
    let look = Look(connect.clone());
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

/// A broker of Kafka is replaced by one of Ottla on the same ensemble and directory, and that by one
/// of Kafka.
fn moves(binary: &Path, tools: &Tools, ensemble: &Ensemble) -> Outcome<usize> {
    let connect = format!("{}/moved", ensemble.connect_string());
    let mut failures = 0;
    let mut broker = Node::of(|address, home| {
        let config = properties(&connect, address, home)?;
        Ok(kafka(tools, &config))
    })?;
    let config = broker.home().join("server.properties");
    let bootstrap = broker.bootstrap.clone();
    let mut acknowledged = BTreeSet::new();
    let look = Look(connect.clone());
    let mut epoch = 0;
    for (turn, who) in ["Kafka", "Ottla", "Kafka"].into_iter().enumerate() {
        if turn > 0 {
            broker.replace(match who {
                "Ottla" => ottla_with(binary, &config),
                _ => kafka(tools, &config),
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
    Ok(ottla_with(binary, &properties(connect, address, home)?))
}

fn ottla_with(binary: &Path, config: &Path) -> Command {
    let mut command = Command::new(binary);
    command.args(["start", "--config"]).arg(config);
    command
}

fn kafka(tools: &Tools, config: &Path) -> Command {
    let mut command = tools.java(KAFKA[0], KAFKA_HEAP_MIB, "kafka.Kafka");
    command.arg(config);
    command
}

/// One file for both.
fn properties(connect: &str, address: &str, home: &Path) -> Outcome<PathBuf> {
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
",
        SESSION_TIMEOUT.as_millis(),
        home.join("data").display()
    );
    fs::write(&path, text)?;
    Ok(path)
}

/// A look at the cluster's tree, each with a session of its own.
struct Look(String);

impl Look {
    /// Waits until the broker is registered with a later epoch than `before`, and is the controller,
    /// and gives the epoch.
    fn registered(&self, before: i64) -> Outcome<i64> {
        self.until("the broker to be registered", |registration, controller| {
            let (registration, controller) = (registration?.stat, controller?.stat);
            let is_later = registration.czxid > before;
            let is_controller = controller.ephemeral_owner == registration.ephemeral_owner;
            (is_later && is_controller).then_some(registration.czxid)
        })
    }

    /// Waits until the broker is registered no more.
    fn gone(&self) -> Outcome<()> {
        self.until("the broker to be gone", |registration, _| registration.is_none().then_some(()))
    }

    fn until<T>(
        &self,
        what: &str,
        look: impl Fn(Option<&Znode>, Option<&Znode>) -> Option<T>,
    ) -> Outcome<T> {
        let options = ZooKeeperOptions::new(self.0.parse()?);
        task::block_on(async {
            let tree: Arc<dyn Tree> =
                Arc::new(ZooKeeper::connect(&World::system(), options).await?);
            let began = Instant::now();
            let found = loop {
                let nodes = tree
                    .get_all(vec!["/brokers/ids/1".to_owned(), "/controller".to_owned()])
                    .await?;
                if let [registration, controller] = &nodes[..]
                    && let Some(found) = look(registration.as_ref(), controller.as_ref())
                {
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
