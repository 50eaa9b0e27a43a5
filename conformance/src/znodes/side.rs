//! One of the two brokers: Kafka on ZooKeeper, or Ottla with the keeper that is in it.
//!
//! Owns: the processes. Must not know: what is done to them, and why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use super::look::{Look, Names};
use crate::Outcome;
use crate::broker::{End, Node, free_port};
use crate::client::limited;
use crate::install::{KAFKA, Tools};
use crate::keeper;

const HEAP_MIB: u32 = 384;
/// Short, so that a killed broker's session is soon over.
const SESSION_TIMEOUT_MS: u32 = 6000;

/// The keeper's directory in Ottla's first log directory.
const KEEPER_DIR: &str = "__cluster_metadata-1";

/// What of a broker's configuration is not the same at all starts.
pub(super) struct Keys {
    pub(super) second_listener: bool,
    pub(super) rack: Option<&'static str>,
}

/// Who is asked.
enum Who {
    Kafka {
        zookeeper: Box<Node>,
    },
    Ottla {
        binary: PathBuf,
        /// Where the keeper in the broker listens.
        keeper: String,
        /// Who is there while the broker is stopped.
        guests: Option<Box<Guests>>,
    },
}

impl Who {
    fn guests(&mut self) -> Option<&mut Guests> {
        match self {
            Self::Kafka { .. } => None,
            Self::Ottla { guests, .. } => guests.as_deref_mut(),
        }
    }
}

/// Who uses what Ottla left.
struct Guests {
    /// `ottla keeper start` on the keeper's directory.
    keeper: Node,
    /// Kafka, on that and on the log directory.
    kafka: Option<Node>,
}

pub(super) struct Side<'a> {
    tools: &'a Tools,
    who: Who,
    broker: Node,
    /// The broker's server.properties.
    properties: PathBuf,
    second_port: u16,
    names: Names,
    looks: Vec<Look>,
}

impl<'a> Side<'a> {
    pub(super) fn kafka(tools: &'a Tools) -> Outcome<Self> {
        let mut zookeeper =
            Node::of(|address, home| keeper::zookeeper(tools.zookeeper(), "", address, home))?;
        zookeeper.start()?;
        let who = Who::Kafka { zookeeper: Box::new(zookeeper) };
        Self::new(tools, who, |properties| kafka(tools, properties))
    }

    pub(super) fn ottla(binary: &Path, tools: &'a Tools) -> Outcome<Self> {
        let binary =
            fs::canonicalize(binary).map_err(|error| format!("{}: {error}", binary.display()))?;
        let keeper = format!("127.0.0.1:{}", free_port()?);
        let start = Command::new(&binary);
        Self::new(tools, Who::Ottla { binary, keeper, guests: None }, |properties| {
            let mut start = start;
            start.args(["start", "--config"]).arg(properties);
            start
        })
    }

    fn new(tools: &'a Tools, who: Who, start: impl FnOnce(&Path) -> Command) -> Outcome<Self> {
        let mut properties = PathBuf::new();
        let broker = Node::of(|_, home| {
            properties = home.join("server.properties");
            Ok(start(&properties))
        })?;
        let (second_port, mut names) = (free_port()?, Names::default());
        names.port(port(&broker.bootstrap)?, "one");
        names.port(second_port, "two");
        Ok(Self { tools, who, broker, properties, second_port, names, looks: Vec::new() })
    }

    /// What follows belongs to `step`.
    pub(super) fn begin(&mut self, step: &'static str) -> Outcome<()> {
        let now_ms = i64::try_from(SystemTime::UNIX_EPOCH.elapsed()?.as_millis())?;
        self.names.begin(step, now_ms);
        Ok(())
    }

    /// Starts the broker on what it left behind, and waits until each partition is led.
    pub(super) fn start(&mut self, keys: &Keys) -> Outcome<()> {
        let tree = match &mut self.who {
            Who::Kafka { zookeeper } => format!("zookeeper.connect={}", zookeeper.bootstrap),
            Who::Ottla { keeper, guests, .. } => {
                if let Some(mut guests) = guests.take() {
                    guests.keeper.stop(End::Clean)?;
                }
                format!("keeper.listener={keeper}")
            }
        };
        if let Who::Kafka { .. } = self.who {
            // It would give up where its former session is not over.
            self.tree("look", &["-/brokers/ids/1", "-/controller"])?;
        }
        fs::write(&self.properties, self.text(keys, &self.broker.bootstrap, &tree))?;
        self.broker.start()?;
        self.act("led", &[])
    }

    /// Starts Kafka over the tree and the log directory that the broker left behind, whoever it is.
    pub(super) fn start_kafka(&mut self, keys: &Keys) -> Outcome<()> {
        if let Who::Kafka { .. } = self.who {
            return self.start(keys);
        }
        let tree = format!("zookeeper.connect={}", self.tree_address()?);
        let (tools, mut properties) = (self.tools, PathBuf::new());
        let mut node = Node::of(|_, home| {
            properties = home.join("server.properties");
            Ok(kafka(tools, &properties))
        })?;
        fs::write(&properties, self.text(keys, &node.bootstrap, &tree))?;
        self.names.port(port(&node.bootstrap)?, "one");
        node.start()?;
        if let Some(guests) = self.who.guests() {
            guests.kafka = Some(node);
        }
        self.act("led", &[])
    }

    /// Ends the broker that runs.
    pub(super) fn stop(&mut self, end: End) -> Outcome<()> {
        self.running().stop(end)
    }

    /// The broker that runs: the own one, or a guest.
    fn running(&mut self) -> &mut Node {
        let guest = self.who.guests().and_then(|guests| guests.kafka.as_mut());
        guest.unwrap_or(&mut self.broker)
    }

    /// Has the broker do something, by a client.
    pub(super) fn act(&mut self, step: &str, arguments: &[&str]) -> Outcome<()> {
        self.client(step, arguments).map(drop)
    }

    /// Fails unless the values of a topic's first partition are these.
    pub(super) fn expect_records(&mut self, topic: &str, values: &[&str]) -> Outcome<()> {
        let read = self.client("read", &[topic, &values.len().to_string()])?;
        let read: Vec<&str> = read.lines().collect();
        if read == values { Ok(()) } else { Err(format!("{topic} holds {read:?}").into()) }
    }

    /// Looks at the tree, once the nodes of `until` are there, or gone.
    pub(super) fn look(&mut self, until: &[&str]) -> Outcome<()> {
        let lines = self.tree("look", until)?;
        self.looks.push(self.names.read(&lines)?);
        Ok(())
    }

    /// Leaves a partition without its leader.
    pub(super) fn lose(&mut self, topic: &str, partition: &str) -> Outcome<()> {
        self.tree("lose", &[topic, partition]).map(drop)
    }

    /// What the broker tells of itself.
    pub(super) fn registration(&mut self) -> Outcome<String> {
        self.tree("data", &["/brokers/ids/1"])
    }

    /// Fails unless the broker, as the controller, takes in another one that registers so.
    pub(super) fn expect_to_read(&mut self, registration: &str) -> Outcome<()> {
        let bootstrap = self.running().bootstrap.clone();
        self.tree("join", &[&bootstrap, registration]).map(drop)
    }

    pub(super) fn looks(self) -> Vec<Look> {
        self.looks
    }

    fn client(&mut self, step: &str, arguments: &[&str]) -> Outcome<String> {
        let mut client = self.tools.python("znodes.py");
        output(client.args([step, &self.running().bootstrap]).args(arguments))
    }

    fn tree(&mut self, command: &str, arguments: &[&str]) -> Outcome<String> {
        let address = self.tree_address()?;
        let mut client = self.tools.python("zookeeper/tree.py");
        output(client.args([command, &address]).args(arguments))
    }

    /// Where the tree is served, while the broker is stopped too.
    fn tree_address(&mut self) -> Outcome<String> {
        let (binary, guests) = match &mut self.who {
            Who::Kafka { zookeeper } => return Ok(zookeeper.bootstrap.clone()),
            Who::Ottla { keeper, .. } if self.broker.is_running() => return Ok(keeper.clone()),
            Who::Ottla { binary, guests, .. } => (binary, guests),
        };
        if let Some(guests) = guests {
            return Ok(guests.keeper.bootstrap.clone());
        }
        let data = self.broker.data().join(KEEPER_DIR);
        let mut keeper = Node::of(|address, _| {
            let mut command = Command::new(binary);
            command.args(["keeper", "start", "--listener", address, "--data-dir"]).arg(data);
            Ok(command)
        })?;
        keeper.start()?;
        let address = keeper.bootstrap.clone();
        *guests = Some(Box::new(Guests { keeper, kafka: None }));
        Ok(address)
    }

    fn text(&self, keys: &Keys, address: &str, tree: &str) -> String {
        let mut listeners = format!("PLAINTEXT://{address}");
        if keys.second_listener {
            listeners += &format!(",SECOND://127.0.0.1:{}", self.second_port);
        }
        let rack = keys.rack.map_or(String::new(), |rack| format!("broker.rack={rack}\n"));
        format!(
            "broker.id=1
{tree}
zookeeper.session.timeout.ms={SESSION_TIMEOUT_MS}
listeners={listeners}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SECOND:PLAINTEXT
{rack}log.dirs={}
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
",
            self.broker.data().display()
        )
    }
}

fn kafka(tools: &Tools, properties: &Path) -> Command {
    let mut command = tools.java(KAFKA[0], HEAP_MIB, "kafka.Kafka");
    command.arg(properties);
    command
}

fn port(address: &str) -> Outcome<u16> {
    Ok(address.rsplit(':').next().unwrap_or_default().parse()?)
}

/// What a client prints, which has to end well.
fn output(client: &Command) -> Outcome<String> {
    let output = limited(client).output()?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{client:?}: {}\n{errors}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
