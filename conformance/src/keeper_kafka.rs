//! Apache Kafka in ZooKeeper mode on three keepers.
//!
//! Three brokers of Kafka 3.9, the last line that knows ZooKeeper, find their metadata in a quorum of
//! keepers. While a client writes numbers, the keeper that leads is killed, then a broker, then the
//! broker that is the controller, each started again. What was acknowledged must be there, once and in
//! order.

use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::broker::{End, Node, Target, poll};
use crate::install::{KAFKA, Tools};
use crate::numbers::{self, Writer};
use crate::quorum::Quorum;

const BROKERS: usize = 3;
const HEAP_MIB: u32 = 384;

/// Returns how many checks failed.
pub(crate) fn run(target: &Target, tools: &Tools) -> Outcome<usize> {
    let Target::Ottla(binary) = target else {
        return Err("keeper-kafka: it has to start the keepers itself, with an ottla".into());
    };
    let mut quorum = Quorum::start(binary, 3)?;
    let mut brokers = Brokers::start(tools, &quorum.connect())?;
    let bootstrap = brokers.bootstrap();
    numbers::create(tools, &bootstrap, BROKERS)?;

    let mut writer = Writer::start(tools, &bootstrap, 0)?;
    writer.await_more()?;
    let leader = quorum.stop_leader(End::Killed)?;
    writer.await_more()?;
    println!("ok     keeper-kafka: numbers go on after keeper {} was killed", leader + 1);
    quorum.restart(leader)?;

    let controller = brokers.controller(None)?;
    let other = (controller + 1) % BROKERS;
    brokers.nodes[other].stop(End::Killed)?;
    writer.await_more()?;
    println!("ok     keeper-kafka: numbers go on after broker {} was killed", other + 1);
    brokers.nodes[other].start()?;

    let controller = brokers.controller(None)?;
    brokers.nodes[controller].stop(End::Killed)?;
    let next = brokers.controller(Some(controller))?;
    writer.await_more()?;
    println!(
        "ok     keeper-kafka: broker {} is controller after {controller} was killed",
        next + 1
    );
    brokers.nodes[controller].start()?;
    let leader = quorum.stop_leader(End::Clean)?;
    writer.await_more()?;
    println!("ok     keeper-kafka: numbers go on after keeper {} was stopped", leader + 1);

    let acknowledged = writer.stop()?;
    let problems = numbers::problems(tools, &bootstrap, &acknowledged)?;
    for problem in &problems {
        println!("FAILED keeper-kafka: {problem}");
    }
    if problems.is_empty() {
        println!("ok     keeper-kafka: {} acknowledged, each there once", acknowledged.len());
    }
    Ok(problems.len())
}

struct Brokers {
    nodes: Vec<Node>,
}

impl Brokers {
    fn start(tools: &Tools, zookeeper: &str) -> Outcome<Self> {
        let node = |id| Node::of(|address, home| broker(tools, id, zookeeper, address, home));
        let mut nodes = (1..=BROKERS).map(node).collect::<Outcome<Vec<_>>>()?;
        for node in &mut nodes {
            node.start()?;
        }
        Ok(Self { nodes })
    }

    fn bootstrap(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(|node| &*node.bootstrap).collect();
        addresses.join(",")
    }

    /// The broker that the others say is the controller, as soon as it is another one than `not`.
    fn controller(&self, not: Option<usize>) -> Outcome<usize> {
        poll("a controller", || {
            let output = Command::new("kcat").args(["-L", "-b", &self.bootstrap()]).output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text.lines().find(|line| line.ends_with("(controller)"));
            let id = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
            Ok(id.and_then(|id| id.checked_sub(1)).filter(|id| Some(*id) != not))
        })
    }
}

fn broker(
    tools: &Tools,
    id: usize,
    zookeeper: &str,
    address: &str,
    home: &Path,
) -> Outcome<Command> {
    let properties = home.join("server.properties");
    let text = format!(
        "broker.id={id}
zookeeper.connect={zookeeper}
zookeeper.session.timeout.ms=6000
listeners=PLAINTEXT://{address}
log.dirs={}
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions=3
",
        home.join("data").display()
    );
    std::fs::write(&properties, text)?;
    let mut command = tools.java(KAFKA[0], HEAP_MIB, "kafka.Kafka");
    command.arg(properties);
    Ok(command)
}
