//! Suite `adopt`: Ottla starts over the directories of a real Kafka, and clients go on.
//!
//! Kafka 4 under KRaft is stopped in order, and killed; Kafka 3.9 with ZooKeeper is adopted without
//! its ZooKeeper. The znodes are compared with those that Kafka 3.9 itself wrote for the same cluster.
//! Owns: the rounds and the comparison. Must not know: what the clients do (`clients/adopt.py`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::broker::{End, Node, Target, free_port};
use crate::install::{KAFKA, Tools};
use crate::keeper::keeper;

const HEAP_MIB: u32 = 384;
/// Both Kafkas are set alike. Whoever connects may do all.
const KEYS: [(&str, &str); 4] = [
    ("offsets.topic.num.partitions", "5"),
    ("super.users", "User:ANONYMOUS"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("log.cleaner.dedupe.buffer.size", "16777216"),
];
const KRAFT_AUTHORIZER: (&str, &str) =
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
/// What is compared with Kafka 3.9. Brokers' configs are not: Kafka 4 sets some by itself.
const ZNODES: [&str; 8] = [
    "/brokers/topics",
    "/config/topics",
    "/config/users",
    "/config/clients",
    "/config/ips",
    "/kafka-acl",
    "/kafka-acl-extended",
    "/latest_producer_id_block",
];
/// Differences that are printed of one comparison.
const SHOWN: usize = 10;

/// Returns how many checks failed.
pub(crate) fn run(target: &Target, tools: &Tools) -> Outcome<usize> {
    let Target::Ottla(binary) = target else {
        return Err("adopt: it has to start an ottla over directories of Kafka's".into());
    };
    let mut suite = Suite { binary, tools, failures: 0 };
    let expected = suite.zookeeper_mode()?;
    suite.kraft(&expected)?;
    Ok(suite.failures)
}

struct Suite<'a> {
    binary: &'a Path,
    tools: &'a Tools,
    failures: usize,
}

/// A directory of Kafka's, and what clients saw of it last.
struct Left<'a> {
    what: &'a str,
    data: &'a Path,
    digest: &'a BTreeSet<String>,
}

impl Suite<'_> {
    /// Kafka 3.9, whose ZooKeeper is gone afterwards. Gives the znodes that it had.
    fn zookeeper_mode(&mut self) -> Outcome<BTreeMap<String, String>> {
        let mut ensemble = Node::of(|address, home| keeper(self.binary, address, home))?;
        ensemble.start()?;
        let connect = ensemble.bootstrap.clone();
        let mut kafka = Node::of(|address, home| kafka_39(self.tools, &connect, address, home))?;
        kafka.start()?;
        self.client("fill", &[&kafka.bootstrap])?;
        let digest = self.digest(&kafka.bootstrap)?;
        let znodes = self.znodes(&connect)?;
        kafka.stop(End::Clean)?;
        ensemble.stop(End::Clean)?;
        let data = kafka.data();
        self.refuses_without_metadata(&data)?;
        let left = Left { what: "Kafka 3.9 without its ZooKeeper", data: &data, digest: &digest };
        self.adopted(&left, &["--adopt"], None)?;
        Ok(znodes)
    }

    /// Kafka 4 under KRaft, killed and then stopped in order.
    fn kraft(&mut self, expected: &BTreeMap<String, String>) -> Outcome<()> {
        let keys: Vec<_> = KEYS.into_iter().chain([KRAFT_AUTHORIZER]).collect();
        let mut kafka = Node::new(&Target::Kafka(KAFKA[1]), self.tools, &keys)?;
        kafka.start()?;
        self.client("fill", &[&kafka.bootstrap])?;
        let digest = self.digest(&kafka.bootstrap)?;
        kafka.stop(End::Killed)?;
        let (stopped, killed) = (kafka.data(), kafka.data().with_file_name("killed"));
        copy(&stopped, &killed)?;
        kafka.start()?;
        self.digest(&kafka.bootstrap)?;
        kafka.stop(End::Clean)?;
        let metadata_log = Snapshot::of(&stopped.join("__cluster_metadata-0"))?;
        for (what, data) in [("Kafka 4, stopped", &stopped), ("Kafka 4, killed", &killed)] {
            self.adopted(&Left { what, data, digest: &digest }, &[], Some(expected))?;
        }
        let same = Snapshot::of(&stopped.join("__cluster_metadata-0"))? == metadata_log;
        self.check("the metadata log of Kafka 4 is untouched", same);
        Ok(())
    }

    /// Without its metadata a directory is not taken, and stays as it was.
    fn refuses_without_metadata(&mut self, data: &Path) -> Outcome<()> {
        let before = Snapshot::of(data)?;
        let port = free_port()?;
        let output = self.ottla(data, &format!("127.0.0.1:{port}"), free_port()?)?.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let wanted = ["zookeeper.connect", "ottla keeper import", "--adopt"];
        let says = !output.status.success() && wanted.iter().all(|what| said.contains(what));
        self.check("a directory without its ZooKeeper is refused, with the ways out", says);
        self.check("the refused directory is as it was", Snapshot::of(data)? == before);
        Ok(())
    }

    /// Starts Ottla over a directory. Clients see what was there, go on, and see it after a restart.
    fn adopted(
        &mut self,
        left: &Left<'_>,
        options: &[&str],
        expected: Option<&BTreeMap<String, String>>,
    ) -> Outcome<()> {
        let Left { what, data, digest } = left;
        let keeper = free_port()?;
        let mut ottla = Node::of(|address, _| {
            let mut command = self.ottla(data, address, keeper)?;
            command.args(options);
            Ok(command)
        })?;
        ottla.start()?;
        let found = self.digest(&ottla.bootstrap)?;
        // Configs are what directories do not tell.
        let is_told = |line: &&String| expected.is_some() || !line.starts_with("config ");
        let told = |digest: &BTreeSet<String>| digest.iter().filter(is_told).cloned().collect();
        self.compare(&format!("{what}: clients see the same"), &told(digest), &told(&found));
        if let Some(expected) = expected {
            let found = self.znodes(&format!("127.0.0.1:{keeper}"))?;
            let lines = |nodes: &BTreeMap<String, String>| {
                nodes.iter().map(|(path, text)| format!("{path} {text}")).collect()
            };
            self.compare(
                &format!("{what}: znodes as of Kafka 3.9"),
                &lines(expected),
                &lines(&found),
            );
        }
        self.client("go-on", &[&ottla.bootstrap])?;
        println!("ok     adopt, {what}: the group and producers go on");
        let grown = self.digest(&ottla.bootstrap)?;
        ottla.stop(End::Killed)?;
        ottla.start()?;
        let again = self.digest(&ottla.bootstrap)?;
        self.compare(&format!("{what}: the same after a restart"), &grown, &again);
        ottla.stop(End::Clean)
    }

    fn ottla(&self, data: &Path, address: &str, keeper: u16) -> Outcome<Command> {
        let mut command = Command::new(fs::canonicalize(self.binary)?);
        command.arg("start").env("OTTLA_LISTENERS", format!("PLAINTEXT://{address}"));
        command.env("OTTLA_LOG_DIRS", data);
        command.env("OTTLA_KEEPER_LISTENER", format!("127.0.0.1:{keeper}"));
        command.env("OTTLA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0");
        Ok(command)
    }

    fn client(&self, command: &str, arguments: &[&str]) -> Outcome<String> {
        let output = self.tools.python("adopt.py").arg(command).args(arguments).output()?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        Err(format!("adopt.py {command}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }

    fn digest(&self, bootstrap: &str) -> Outcome<BTreeSet<String>> {
        Ok(self.client("digest", &[bootstrap])?.lines().map(str::to_owned).collect())
    }

    /// The znodes that hold something, without what another cluster has otherwise: ids and epochs.
    fn znodes(&self, address: &str) -> Outcome<BTreeMap<String, String>> {
        let arguments: Vec<&str> = [address].into_iter().chain(ZNODES).collect();
        let text = self.client("znodes", &arguments)?;
        let nodes = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(nodes.map(|(path, text)| (path.to_owned(), text.to_owned())).collect())
    }

    fn check(&mut self, what: &str, holds: bool) {
        println!("{} adopt: {what}", if holds { "ok    " } else { "FAILED" });
        self.failures += usize::from(!holds);
    }

    fn compare(&mut self, what: &str, expected: &BTreeSet<String>, found: &BTreeSet<String>) {
        self.check(what, expected == found);
        let missing = expected.difference(found).map(|line| format!("missing  {line}"));
        let surplus = found.difference(expected).map(|line| format!("surplus  {line}"));
        missing.chain(surplus).take(SHOWN).for_each(|line| println!("         {line}"));
    }
}

/// A broker of Kafka 3.9 with ZooKeeper.
fn kafka_39(tools: &Tools, zookeeper: &str, address: &str, home: &Path) -> Outcome<Command> {
    let properties = home.join("server.properties");
    let mut text = format!(
        "broker.id=1
zookeeper.connect={zookeeper}
listeners=PLAINTEXT://{address}
log.dirs={}
offsets.topic.replication.factor=1
authorizer.class.name=kafka.security.authorizer.AclAuthorizer
",
        home.join("data").display()
    );
    for (key, value) in KEYS {
        text += &format!("{key}={value}\n");
    }
    fs::write(&properties, text)?;
    let mut command = tools.java(KAFKA[0], HEAP_MIB, "kafka.Kafka");
    command.arg(properties);
    Ok(command)
}

fn copy(from: &Path, to: &Path) -> Outcome<()> {
    let status = Command::new("cp").arg("-r").args([from, to]).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cp -r {}: {status}", from.display()).into())
    }
}

/// The files of a directory, with their bytes.
#[derive(PartialEq)]
struct Snapshot(BTreeMap<String, Vec<u8>>);

impl Snapshot {
    fn of(directory: &Path) -> Outcome<Self> {
        let mut files = BTreeMap::new();
        let mut left = vec![directory.to_owned()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(&directory)? {
                let path = entry?.path();
                if path.is_dir() {
                    left.push(path);
                } else {
                    files.insert(path.display().to_string(), fs::read(&path)?);
                }
            }
        }
        Ok(Self(files))
    }
}
