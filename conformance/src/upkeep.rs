//! A Kafka in ZooKeeper mode whose tree moves from ZooKeeper to a keeper, and back.
//!
//! Apache Kafka 3.9 writes to a topic with its tree in ZooKeeper. The tree is imported into a keeper, node
//! by node the same; the broker goes on there with its data directory, and its epochs go on. Then the
//! tree is exported to another ZooKeeper, where the broker goes on again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::Outcome;
use crate::broker::{End, Node, Target, free_port};
use crate::install::{KAFKA, Tools, ZOOKEEPER};
use crate::keeper::zookeeper;

const HEAP_MIB: u32 = 384;
const CHROOT: &str = "/kafka";
/// What `upkeep.py` shows to servers.
const AUTH: [&str; 2] = ["--auth", "digest:keeper:secret"];
/// What it writes at a time.
const NUMBERS: u64 = 100;

/// Returns how many checks failed.
pub(crate) fn run(target: &Target, tools: &Tools, work: &Path) -> Outcome<usize> {
    let Target::Ottla(binary) = target else {
        return Err("keeper-upkeep: it has to start the keeper itself, with an ottla".into());
    };
    let binary = binary.canonicalize().map_err(|error| format!("{}: {error}", binary.display()))?;
    let mut upkeep = Upkeep { binary, tools, failures: 0 };
    upkeep.there_and_back(&work.join("keeper"))?;
    Ok(upkeep.failures)
}

struct Upkeep<'a> {
    binary: PathBuf,
    tools: &'a Tools,
    failures: usize,
}

/// A line of `upkeep.py epochs`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Epochs {
    controller: i64,
    controller_version: i64,
    broker: i64,
    partition: i64,
}

impl Upkeep<'_> {
    fn there_and_back(&mut self, dir: &Path) -> Outcome<()> {
        let mut first = self.zookeeper()?;
        let mut kafka = Node::of(|address, home| self.kafka(address, home, &first.bootstrap))?;
        kafka.start()?;
        self.script(&["write", &kafka.bootstrap, "0"])?;
        self.script(&["beside", &first.bootstrap])?;
        let before = self.epochs(&first.bootstrap)?;
        let import = ["keeper", "import", "--from", &first.bootstrap, "--data-dir"];
        let dir = dir.to_str().ok_or("a name that is no text")?;
        let import = [&import[..], &[dir]].concat();
        let refused = self.refused(&[&import[..], &AUTH].concat())?;
        self.check(
            "a Kafka at work is refused",
            refused.contains("/kafka/brokers/ids/1"),
            &refused,
        );

        kafka.stop(End::Clean)?;
        let refused = self.refused(&import)?;
        let told = refused.contains("/beside/null may not be read");
        self.check("what may not be read is told by name", told, &refused);
        let told = self.ottla(&[&import[..], &AUTH].concat())?;
        print!("       {told}");
        let there = self.script(&["dump", &first.bootstrap])?;
        first.stop(End::Clean)?;

        let mut keeper = self.keeper(dir)?;
        let here = self.script(&["dump", &keeper.bootstrap])?;
        self.same(&format!("{} nodes, to the stat", there.lines().count()), &there, &here);
        let next = self.script(&["next", &keeper.bootstrap])?;
        self.check("numbers go on", next.trim() == "/beside/number_0000000007", &next);
        self.go_on(&mut kafka, &keeper.bootstrap, NUMBERS)?;
        let on_keeper = self.epochs(&keeper.bootstrap)?;
        self.check(
            "epochs go on",
            goes_on(&before, &on_keeper),
            &format!("{before:?}, {on_keeper:?}"),
        );
        kafka.stop(End::Clean)?;

        let there = self.script(&["dump", &keeper.bootstrap])?;
        keeper.stop(End::Clean)?;
        let last = self.zookeeper()?;
        let export = ["keeper", "export", "--data-dir", dir, "--to", &last.bootstrap];
        let told = self.ottla(&[&export[..], &AUTH].concat())?;
        print!("       {told}");
        let refused = self.refused(&[&export[..], &AUTH].concat())?;
        self.check("a tree is not exported over another", refused.contains("/kafka"), &refused);
        let here = self.script(&["dump", &last.bootstrap])?;
        self.same("what is exported", &exported(&there)?, &exported(&here)?);
        self.go_on(&mut kafka, &last.bootstrap, 2 * NUMBERS)?;
        let back = self.epochs(&last.bootstrap)?;
        let is_next = back.controller == on_keeper.controller + 1
            && back.controller_version == on_keeper.controller_version + 1
            && back.partition >= on_keeper.partition;
        self.check("epochs in versions go on", is_next, &format!("{on_keeper:?}, {back:?}"));
        Ok(())
    }

    /// Starts the broker with its tree elsewhere: what was written is there, and more can be.
    fn go_on(&mut self, kafka: &mut Node, tree: &str, written: u64) -> Outcome<()> {
        let home = kafka.data().parent().ok_or("no home")?.to_owned();
        properties(&kafka.bootstrap, &home, tree)?;
        kafka.start()?;
        self.read_back(&kafka.bootstrap, written)?;
        self.script(&["write", &kafka.bootstrap, &written.to_string()])?;
        self.read_back(&kafka.bootstrap, written + NUMBERS)
    }

    fn read_back(&mut self, bootstrap: &str, written: u64) -> Outcome<()> {
        let read = self.script(&["read", bootstrap])?;
        let wanted: Vec<_> = (0..written).map(|number| number.to_string()).collect();
        self.same(&format!("{written} records"), &wanted.join("\n"), read.trim());
        Ok(())
    }

    fn zookeeper(&self) -> Outcome<Node> {
        let server =
            |address: &str, home: &Path| zookeeper(self.tools.zookeeper(), "", address, home);
        let mut node = Node::of(server)?;
        node.start()?;
        Ok(node)
    }

    fn keeper(&self, dir: &str) -> Outcome<Node> {
        let mut node = Node::of(|address, _| {
            let mut command = Command::new(&self.binary);
            // With an address of its own for tools.
            let voters = format!("1@127.0.0.1:{}", free_port()?);
            command.args(["keeper", "start", "--voters", &voters, "--listener", address]);
            command.args(["--data-dir", dir]);
            Ok(command)
        })?;
        node.start()?;
        Ok(node)
    }

    fn kafka(&self, address: &str, home: &Path, tree: &str) -> Outcome<Command> {
        let properties = properties(address, home, tree)?;
        let mut command = self.tools.java(KAFKA[0], HEAP_MIB, "kafka.Kafka");
        command.arg(properties);
        Ok(command)
    }

    fn epochs(&self, address: &str) -> Outcome<Epochs> {
        let line = self.script(&["epochs", address])?;
        let numbers: Vec<i64> =
            line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        match numbers[..] {
            [controller, controller_version, broker, partition] => {
                Ok(Epochs { controller, controller_version, broker, partition })
            }
            _ => Err(format!("not four numbers: {line}").into()),
        }
    }

    fn script(&self, args: &[&str]) -> Outcome<String> {
        succeed(self.tools.python("zookeeper/upkeep.py").args(args))
    }

    fn ottla(&self, args: &[&str]) -> Outcome<String> {
        succeed(Command::new(&self.binary).args(args))
    }

    /// What a command says that is to be refused.
    fn refused(&self, args: &[&str]) -> Outcome<String> {
        let Output { status, stderr, .. } = Command::new(&self.binary).args(args).output()?;
        if status.success() {
            return Err(format!("{args:?} was not refused").into());
        }
        Ok(String::from_utf8(stderr)?)
    }

    fn check(&mut self, what: &str, is_so: bool, told: &str) {
        if is_so {
            println!("ok     keeper-upkeep, ZooKeeper {ZOOKEEPER}: {what}");
        } else {
            println!("FAILED keeper-upkeep: {what}: {told}");
            self.failures += 1;
        }
    }

    fn same(&mut self, what: &str, wanted: &str, found: &str) {
        let lines = wanted.lines().zip(found.lines());
        let different = lines.into_iter().find(|(wanted, found)| wanted != found);
        let counts = [wanted.lines().count(), found.lines().count()];
        self.check(
            what,
            different.is_none() && counts[0] == counts[1],
            &format!("{counts:?} lines, {different:?}"),
        );
    }
}

/// The controller is the next one, of the next version; the broker registered later, and a partition
/// that it led on has an epoch that is no earlier.
fn goes_on(before: &Epochs, after: &Epochs) -> bool {
    after.controller == before.controller + 1
        && after.controller_version == before.controller_version + 1
        && after.broker > before.broker
        && after.partition >= before.partition
}

/// What of a dump outlives an export: no zxids, times and versions of access lists; and the root's
/// own versions are those of its server.
fn exported(dump: &str) -> Outcome<String> {
    let mut lines = Vec::new();
    for line in dump.lines() {
        let mut node: BTreeMap<String, serde_json::Value> = serde_json::from_str(line)?;
        node.retain(|key, _| !["zxids", "times"].contains(&&**key));
        let versions = node.get_mut("versions").and_then(|versions| versions.as_array_mut());
        versions.ok_or("no versions")?.truncate(2);
        if node.get("path").is_some_and(|path| path == "/") {
            node.remove("versions");
        }
        lines.push(serde_json::to_string(&node)?);
    }
    Ok(lines.join("\n"))
}

fn properties(address: &str, home: &Path, tree: &str) -> Outcome<PathBuf> {
    let path = home.join("server.properties");
    let text = format!(
        "broker.id=1
zookeeper.connect={tree}{CHROOT}
zookeeper.session.timeout.ms=6000
listeners=PLAINTEXT://{address}
log.dirs={}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
",
        home.join("data").display()
    );
    fs::write(&path, text)?;
    Ok(path)
}

/// Runs a program to its end, and gives what it printed.
fn succeed(command: &mut Command) -> Outcome<String> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
