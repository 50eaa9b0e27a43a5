//! Apache Kafka in ZooKeeper mode on three keepers.
//!
//! Three brokers of Kafka 3.9, the last line that knows ZooKeeper, find their metadata in a quorum of
//! keepers. While a client writes numbers, the keeper that leads is killed, then a broker, then the
//! broker that is the controller, each started again. What was acknowledged must be there, once and in
//! order.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::Outcome;
use crate::broker::{End, Node, Target, poll};
use crate::install::{KAFKA, Tools};
use crate::quorum::Quorum;

const BROKERS: usize = 3;
const HEAP_MIB: u32 = 384;
const TOPIC: &str = "numbers";

/// Between two accidents so many numbers are acknowledged.
const NUMBERS: usize = 300;

/// Returns how many checks failed.
pub(crate) fn run(target: &Target, tools: &Tools) -> Outcome<usize> {
    let Target::Ottla(binary) = target else {
        return Err("keeper-kafka: it has to start the keepers itself, with an ottla".into());
    };
    let mut quorum = Quorum::start(binary, 3)?;
    let mut brokers = Brokers::start(tools, &quorum.connect())?;
    let bootstrap = brokers.bootstrap();
    succeed(tools.python("zookeeper/numbers.py").args(["topic", &bootstrap, TOPIC]))?;

    let mut writer = Writer::start(tools, &bootstrap)?;
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
    let read = succeed(tools.python("zookeeper/numbers.py").args(["read", &bootstrap, TOPIC]))?;
    let problems = problems(&acknowledged, &read)?;
    for problem in &problems {
        println!("FAILED keeper-kafka: {problem}");
    }
    if problems.is_empty() {
        println!("ok     keeper-kafka: {} acknowledged, each there once", acknowledged.len());
    }
    Ok(problems.len())
}

/// What of the acknowledged is not there, there twice, or out of order.
fn problems(acknowledged: &BTreeSet<u64>, read: &str) -> Outcome<Vec<String>> {
    let (mut seen, mut last) = (BTreeSet::new(), BTreeMap::new());
    let mut problems = Vec::new();
    for line in read.lines() {
        let mut fields = line.split(' ').map(str::parse::<u64>);
        let mut field =
            || fields.next().ok_or("a line of numbers.py is short")?.map_err(|e| e.to_string());
        let (partition, _, number) = (field()?, field()?, field()?);
        if !seen.insert(number) {
            problems.push(format!("{number} is there twice"));
        }
        if last.insert(partition, number).is_some_and(|last| last >= number) {
            problems.push(format!("{number} is out of order in partition {partition}"));
        }
    }
    problems.extend(acknowledged.difference(&seen).map(|lost| format!("{lost} is lost")));
    Ok(problems)
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

/// The client that writes.
struct Writer {
    child: Child,
    stdin: ChildStdin,
    acknowledged: Arc<Mutex<BTreeSet<u64>>>,
    reader: thread::JoinHandle<()>,
}

impl Writer {
    fn start(tools: &Tools, bootstrap: &str) -> Outcome<Self> {
        let mut client = tools.python("zookeeper/numbers.py");
        client.args(["write", bootstrap, TOPIC]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = client.spawn()?;
        let stdin = child.stdin.take().ok_or("no standard input")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let acknowledged = Arc::<Mutex<BTreeSet<u64>>>::default();
        let numbers = Arc::clone(&acknowledged);
        let reader = thread::spawn(move || {
            for number in stdout.lines().map_while(Result::ok).filter_map(|l| l.parse().ok()) {
                numbers.lock().expect("nobody panics with it").insert(number);
            }
        });
        Ok(Self { child, stdin, acknowledged, reader })
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().expect("nobody panics with it").len()
    }

    /// Waits until more numbers are acknowledged.
    fn await_more(&mut self) -> Outcome<()> {
        let before = self.count();
        poll("more numbers to be acknowledged", || {
            Ok((self.count() >= before + NUMBERS).then_some(()))
        })
    }

    fn stop(mut self) -> Outcome<BTreeSet<u64>> {
        drop(self.stdin);
        let status = self.child.wait()?;
        self.reader.join().map_err(|_| "the reader of the client's output panicked")?;
        if !status.success() {
            return Err(format!("numbers.py write: {status}").into());
        }
        Ok(std::mem::take(&mut *self.acknowledged.lock().expect("nobody panics with it")))
    }
}

/// Runs a program to its end, and gives what it printed.
fn succeed(command: &mut Command) -> Outcome<String> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_told() {
        let acknowledged = BTreeSet::from([0, 1, 2, 3]);
        assert!(problems(&acknowledged, "0 0 0\n0 1 3\n1 0 1\n2 0 2\n2 1 5\n").unwrap().is_empty());
        let told = problems(&acknowledged, "0 0 3\n0 1 0\n1 0 1\n1 1 1\n").unwrap();
        assert_eq!(
            told,
            [
                "0 is out of order in partition 0",
                "1 is there twice",
                "1 is out of order in partition 1",
                "2 is lost"
            ]
        );
    }
}
