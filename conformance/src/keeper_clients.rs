//! The keeper beside ZooKeeper, as foreign client libraries see both: the same script, step by step.
//!
//! Each client of `clients/zookeeper` runs its script against each server, which begins empty. A step
//! is a line, `SECTION NUMBER WHAT => ANSWER`. Where the keeper answers otherwise than ZooKeeper,
//! `differences` has to say why; and what it says has to be so still.

mod differences;

use std::collections::BTreeSet;
use std::env;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::broker::{Node, Target};
use crate::install::{Tools, ZOOKEEPER};
use crate::keeper;

/// Set, it makes the run long: Debian's ZooKeeper as well, and nodes that end by themselves.
const LONG: &str = "OTTLA_KEEPER_CLIENTS_LONG";
/// Debian's version, as of bookworm.
const DEBIAN: &str = "3.8.0";
/// Sessions of a second, so that they are seen to expire.
const KEYS: &str = "tickTime=200\nminSessionTimeout=1000\nmaxSessionTimeout=40000\n";
/// Most of what scripts do is wait.
const AT_ONCE: usize = 4;
const SERVES_WITHIN: Duration = Duration::from_secs(60);
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
const PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// A client library, or a program of its own makers, with its script.
struct Client {
    name: &'static str,
    command: fn(&Tools) -> Command,
}

/// Who takes longest comes first.
const CLIENTS: [Client; 7] = [
    Client { name: "java-sessions", command: |tools| class(tools, "Sessions") },
    Client { name: "curator", command: |tools| class(tools, "Recipes") },
    Client { name: "java", command: |tools| class(tools, "Native") },
    Client { name: "kazoo", command: |tools| tools.python("zookeeper/recipes.py") },
    Client { name: "zkcli", command: |tools| class(tools, "Cli") },
    Client { name: "go-zookeeper", command: Tools::zookeeper_go },
    Client { name: "zookeeper-client", command: Tools::zookeeper_rust },
];

fn class(tools: &Tools, name: &str) -> Command {
    let mut command = tools.zookeeper();
    command.arg(name);
    command
}

/// What a script is run against.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Keeper,
    ZooKeeper,
    Debian,
}

impl Server {
    fn node(self, binary: &Path, tools: &Tools) -> Outcome<Node> {
        Node::of(|address, home| match self {
            Self::Keeper => {
                let mut command = keeper::keeper(binary, address, home)?;
                command.args(["--min-session-timeout", "1000"]);
                Ok(command)
            }
            Self::ZooKeeper => keeper::zookeeper(tools.zookeeper(), KEYS, address, home),
            Self::Debian => keeper::zookeeper(Tools::debian_zookeeper()?, KEYS, address, home),
        })
    }

    fn version(self) -> &'static str {
        match self {
            Self::Keeper => "the keeper",
            Self::ZooKeeper => ZOOKEEPER,
            Self::Debian => DEBIAN,
        }
    }
}

/// Returns how many steps were answered differently, or no longer are although they are said to be.
pub(crate) fn run(target: &Target, tools: &Tools, only: Option<&[String]>) -> Outcome<usize> {
    let Target::Ottla(binary) = target else {
        return Err("keeper-clients: it has to start the keeper itself, with an ottla".into());
    };
    let long = env::var_os(LONG).is_some();
    let servers: &[Server] = if long {
        &[Server::Keeper, Server::ZooKeeper, Server::Debian]
    } else {
        &[Server::Keeper, Server::ZooKeeper]
    };
    let chosen = |client: &&Client| only.is_none_or(|names| names.iter().any(|n| n == client.name));
    let clients: Vec<&Client> = CLIENTS.iter().filter(chosen).collect();
    if only.is_some_and(|names| names.len() != clients.len()) {
        return Err(format!("keeper-clients: not all of {only:?} are clients").into());
    }
    let jobs: Vec<(&Client, Server)> =
        clients.iter().flat_map(|client| servers.iter().map(|server| (*client, *server))).collect();
    let transcripts = all(&jobs, |client, server| transcript(client, server, binary, tools, long))?;
    let mut failures = 0;
    for (client, of_client) in clients.iter().zip(transcripts.chunks(servers.len())) {
        let Some((keeper, references)) = of_client.split_first() else { continue };
        for (server, reference) in servers[1..].iter().zip(references) {
            failures += compare(client.name, server.version(), keeper, reference);
        }
    }
    Ok(failures)
}

/// The results of all jobs, in their order.
fn all(
    jobs: &[(&Client, Server)],
    run: impl Fn(&Client, Server) -> Outcome<String> + Sync,
) -> Outcome<Vec<String>> {
    let left = Mutex::new(jobs.iter().enumerate());
    let done = Mutex::new(vec![Err("not run".to_owned()); jobs.len()]);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((at, (client, server))) = next else { break };
                    let result = run(client, *server).map_err(|error| {
                        format!("{} on {}: {error}", client.name, server.version())
                    });
                    done.lock().unwrap_or_else(PoisonError::into_inner)[at] = result;
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(done.into_iter().collect::<Result<_, _>>()?)
}

/// What a client says of a server.
fn transcript(
    client: &Client,
    server: Server,
    binary: &Path,
    tools: &Tools,
    long: bool,
) -> Outcome<String> {
    let mut node = server.node(binary, tools)?;
    node.start()?;
    await_service(&node.bootstrap)?;
    let mut command = (client.command)(tools);
    command.arg(&node.bootstrap);
    if long && client.name == "java-sessions" {
        command.arg("fleeting");
    }
    let output = command.output()?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}\n{errors}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Waits until the server serves: ZooKeeper listens before that.
fn await_service(address: &str) -> Outcome<()> {
    let deadline = Instant::now() + SERVES_WITHIN;
    while !asked(address).is_ok_and(|answer| answer.contains("Mode: standalone")) {
        if Instant::now() > deadline {
            return Err(format!("{address} does not serve").into());
        }
        thread::sleep(PROBE_INTERVAL);
    }
    Ok(())
}

fn asked(address: &str) -> Outcome<String> {
    let mut stream = TcpStream::connect(address)?;
    // What came while it began may never be answered.
    stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
    stream.write_all(b"srvr")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Prints how the keeper differs from a version of ZooKeeper; returns how often that is unexpected.
fn compare(client: &str, version: &str, keeper: &str, zookeeper: &str) -> usize {
    let expected = differences::expected(client, version);
    let (ours, theirs) = (steps(keeper), steps(zookeeper));
    let mut failures = Vec::new();
    let mut differ = BTreeSet::new();
    for (&(step, answer), &(their_step, their_answer)) in ours.iter().zip(&theirs) {
        if step != their_step {
            failures.push(format!("{step}\n  ottla:     this step\n  ZooKeeper: {their_step}"));
            break;
        }
        if answer != their_answer {
            differ.insert(step);
            if !expected.contains(step) {
                let answers = format!("  ottla:     {answer}\n  ZooKeeper: {their_answer}");
                failures.push(format!("{step}\n{answers}"));
            }
        }
    }
    if ours.len() != theirs.len() {
        failures.push(format!("{} steps, and {} by ZooKeeper", ours.len(), theirs.len()));
    }
    for step in expected.difference(&differ) {
        failures.push(format!("{step}\n  is said to differ, and does not"));
    }
    let name = format!("keeper-clients, {client}, ZooKeeper {version}");
    for failure in &failures {
        println!("FAILED {name}: {failure}");
    }
    if failures.is_empty() {
        println!("ok     {name}: {} steps, {} differ as expected", ours.len(), differ.len());
    }
    failures.len()
}

/// The steps of a transcript, with their answers.
fn steps(transcript: &str) -> Vec<(&str, &str)> {
    transcript.lines().map(|line| line.split_once(" => ").unwrap_or((line, ""))).collect()
}
